//! What is the same in every event of one version: its names, which output is the score, where events go.

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};

use crate::scorer::engine::{Signature, TensorSpec};
use crate::scorer::score::Arm;
use crate::scorer::tensor::{DataType, Tensor};

use super::ScoredEvent;

/// What the settings and the manifest say of a version's events.
#[derive(Debug, Clone, PartialEq)]
pub struct LayoutOptions {
    pub topic: String,
    /// Where the shadow's events go. `None`: to `topic`, under ids of their own.
    pub shadow_topic: Option<String>,
    /// Names of the columns of the model's inputs: one for each column, input by input. Empty: unnamed.
    pub feature_names: Vec<String>,
    /// `OUTPUT` or `OUTPUT:COLUMN`; `None`: the default (see `EventLayout::new`).
    pub score: Option<String>,
    pub prediction: Option<String>,
    /// Id of the feature transform, where there is one.
    pub transform_id: Option<String>,
    /// Share of the requests of which events are written, 0 to 1.
    pub sample: f64,
}

impl Default for LayoutOptions {
    fn default() -> Self {
        Self {
            topic: "predictions".into(),
            shadow_topic: None,
            feature_names: Vec::new(),
            score: None,
            prediction: None,
            transform_id: None,
            sample: 1.0,
        }
    }
}

/// Settings that do not fit the model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    #[error("`events.{key}` names output `{output}`, which {model} does not have: it has {has}")]
    NoOutput { key: &'static str, output: String, model: String, has: String },
    #[error("`events.{key}` asks for column {column} of output `{output}`, which has {columns}")]
    NoColumn { key: &'static str, column: usize, output: String, columns: usize },
    #[error("`events.features` of {model} names {named} features, the inputs have {columns} columns")]
    Names { model: String, named: usize, columns: usize },
}

/// How an input's columns are called in events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Columns {
    /// One feature a column; each is a JSON key with its colon.
    Named(Vec<Vec<u8>>),
    /// All columns are one feature, a vector; a JSON key with its colon.
    Vector(Vec<u8>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InputLayout {
    pub name: String,
    pub columns: Columns,
}

/// One column of one output. `column: None`: the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OutputColumn {
    pub output: String,
    pub column: Option<usize>,
}

/// What follows from the model's inputs and outputs.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub inputs: Vec<InputLayout>,
    pub score: Option<OutputColumn>,
    pub prediction: Option<OutputColumn>,
    /// `,"schema_id":"..."`
    pub schema: Vec<u8>,
    /// A raw feature that is an empty text is missing, as the transform has it.
    pub empty_is_null: bool,
    schema_id: String,
}

/// What is the same in every event of one version.
#[derive(Debug)]
pub struct EventLayout {
    model: Arc<str>,
    version: Arc<str>,
    topic: Arc<str>,
    shadow_topic: Option<Arc<str>>,
    options: LayoutOptions,
    /// `"model":"fraud","version":"3",`
    pub(super) names: Vec<u8>,
    parts: OnceLock<Parts>,
}

impl EventLayout {
    /// `signature`: of what requests bring, that is of the raw features where the version has a transform, with the
    /// model's outputs. `None` where it is not known (a proxied model): it is taken from the first event then.
    ///
    /// Features are called as `feature_names` has it; without names, an input of one column gives its own name to a
    /// number, one of several columns to a vector. The score is, unless said otherwise, the last column of the output
    /// called `probabilities`, `probability`, `output_probability`, `scores` or `score`, else of the only output of
    /// floating-point numbers. The prediction is the output called `label`, `output_label`, `class` or `prediction`, else
    /// the only one that is not of floating-point numbers; a model without such an output has no prediction in its events.
    ///
    /// # Errors
    /// An output or column that the model does not have, or another number of names than columns.
    pub fn new(
        model: &str,
        version: &str,
        signature: Option<&Signature>,
        options: LayoutOptions,
    ) -> Result<Arc<Self>, LayoutError> {
        let mut names = b"\"model\":".to_vec();
        write_text(model, &mut names);
        names.extend_from_slice(b",\"version\":");
        write_text(version, &mut names);
        names.push(b',');
        let parts = OnceLock::new();
        if let Some(signature) = signature {
            let known = Parts::new(model, signature, &options)?;
            parts.get_or_init(|| known);
        }
        Ok(Arc::new(Self {
            model: model.into(),
            version: version.into(),
            topic: options.topic.as_str().into(),
            shadow_topic: options.shadow_topic.as_deref().map(Arc::from),
            names,
            parts,
            options,
        }))
    }

    /// Output that is the score, and its column (`None`: the last); none before the signature is known.
    pub fn score_output(&self) -> Option<(&str, Option<usize>)> {
        self.parts.get()?.score.as_ref().map(|wanted| (wanted.output.as_str(), wanted.column))
    }

    /// As `score_output`, of the prediction.
    pub fn prediction_output(&self) -> Option<(&str, Option<usize>)> {
        self.parts.get()?.prediction.as_ref().map(|wanted| (wanted.output.as_str(), wanted.column))
    }

    pub(super) fn parts(&self, event: &ScoredEvent) -> &Parts {
        self.parts.get_or_init(|| {
            let signature = signature_of(event);
            Parts::new(&self.model, &signature, &self.options).unwrap_or_else(|error| {
                tracing::warn!(model = &*self.model, version = &*self.version, %error, "prediction events are written by default names");
                let options = LayoutOptions { feature_names: Vec::new(), score: None, prediction: None, ..self.options.clone() };
                Parts::new(&self.model, &signature, &options).unwrap_or_default()
            })
        })
    }

    /// The same answer for the same id, in every process.
    pub(super) fn is_sampled(&self, request_id: &str) -> bool {
        if self.options.sample >= 1.0 {
            return true;
        }
        let digest = Sha256::digest(request_id);
        let upper = digest.iter().take(8).fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        // 53 bits: as many as an f64 has.
        let share = (upper >> 11) as f64 / (1_u64 << 53) as f64;
        share < self.options.sample
    }

    pub const fn model(&self) -> &Arc<str> {
        &self.model
    }

    pub const fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// 16 hexadecimal digits of a hash of the features' names and types and of the transform: the same for versions
    /// whose events can be compared feature by feature. `None` before it is known.
    pub fn schema_id(&self) -> Option<&str> {
        self.parts.get().map(|parts| parts.schema_id.as_str())
    }

    pub(super) fn topic(&self, arm: Arm) -> &Arc<str> {
        match (&self.shadow_topic, arm) {
            (Some(topic), Arm::Shadow) => topic,
            _ => &self.topic,
        }
    }

    /// The event's prediction id: the request's, with `-ROW` where it has several rows. What the shadow says of the same
    /// row has an id of its own where it goes to the same topic: a label belongs to the answer that was given.
    pub(super) fn write_id(&self, event: &ScoredEvent, row: usize, rows: usize, out: &mut String) {
        out.clear();
        out.push_str(&event.request_id);
        if rows > 1 {
            let _ = write!(out, "-{row}");
        }
        if event.arm == Arm::Shadow && self.shadow_topic.is_none() {
            let _ = write!(out, ".shadow-{}", self.version);
        }
    }
}

impl Parts {
    fn new(model: &str, signature: &Signature, options: &LayoutOptions) -> Result<Self, LayoutError> {
        let inputs = input_layouts(model, signature, &options.feature_names)?;
        let is_float = |spec: &&TensorSpec| matches!(spec.datatype, DataType::Fp16 | DataType::Fp32 | DataType::Fp64);
        let score = match &options.score {
            Some(wanted) => Some(output_column("score", wanted, model, signature)?),
            None => {
                let names = ["probabilities", "probability", "output_probability", "scores", "score"];
                default_output(signature, &names, is_float)
            }
        };
        let prediction = match &options.prediction {
            Some(wanted) => Some(output_column("prediction", wanted, model, signature)?),
            None => {
                let names = ["label", "output_label", "class", "prediction"];
                default_output(signature, &names, |spec| !is_float(spec))
            }
        };
        let schema_id = schema_id(&inputs, signature, options.transform_id.as_deref());
        let schema = format!(",\"schema_id\":\"{schema_id}\"").into_bytes();
        Ok(Self { inputs, score, prediction, schema, empty_is_null: options.transform_id.is_some(), schema_id })
    }
}

/// As far as one event shows it.
fn signature_of(event: &ScoredEvent) -> Signature {
    let spec = |tensor: &Tensor| TensorSpec {
        name: tensor.name().into(),
        datatype: tensor.datatype(),
        shape: tensor.shape().iter().enumerate().map(|(axis, size)| (axis > 0).then_some(*size)).collect(),
    };
    Signature {
        inputs: event.inputs.iter().map(spec).collect(),
        outputs: event.outputs.iter().map(spec).collect(),
        batches: true,
    }
}

/// Columns of an input: the product of all dimensions but the first; `None` where one may have any size.
fn columns_of(spec: &TensorSpec) -> Option<usize> {
    spec.shape.iter().skip(1).try_fold(1_usize, |product, size| product.checked_mul((*size)?))
}

fn input_layouts(model: &str, signature: &Signature, names: &[String]) -> Result<Vec<InputLayout>, LayoutError> {
    let key = |name: &str| {
        let mut key = Vec::with_capacity(name.len() + 3);
        write_text(name, &mut key);
        key.push(b':');
        key
    };
    if names.is_empty() {
        let layout = |spec: &TensorSpec| InputLayout {
            name: spec.name.clone(),
            columns: match columns_of(spec) {
                Some(1) => Columns::Named(vec![key(&spec.name)]),
                _ => Columns::Vector(key(&spec.name)),
            },
        };
        return Ok(signature.inputs.iter().map(layout).collect());
    }
    // The width of one input may be open: it has the names that the others leave.
    let known: usize = signature.inputs.iter().filter_map(columns_of).sum();
    let open = signature.inputs.iter().filter(|spec| columns_of(spec).is_none()).count();
    let fits = if open == 1 { known <= names.len() } else { open == 0 && known == names.len() };
    if !fits {
        return Err(LayoutError::Names { model: model.into(), named: names.len(), columns: known });
    }
    let mut rest = names;
    let mut layouts = Vec::with_capacity(signature.inputs.len());
    for spec in &signature.inputs {
        let (own, others) = rest.split_at(columns_of(spec).unwrap_or(names.len() - known));
        rest = others;
        let columns = Columns::Named(own.iter().map(|name| key(name)).collect());
        layouts.push(InputLayout { name: spec.name.clone(), columns });
    }
    Ok(layouts)
}

fn default_output(signature: &Signature, names: &[&str], fits: impl Fn(&&TensorSpec) -> bool) -> Option<OutputColumn> {
    let mut fitting = signature.outputs.iter().filter(|spec| fits(spec));
    let named = names.iter().find_map(|name| fitting.clone().find(|spec| spec.name == *name));
    let only = match (fitting.next(), fitting.next()) {
        (Some(spec), None) => Some(spec),
        _ => None,
    };
    named.or(only).map(|spec| OutputColumn { output: spec.name.clone(), column: None })
}

fn output_column(
    key: &'static str,
    wanted: &str,
    model: &str,
    signature: &Signature,
) -> Result<OutputColumn, LayoutError> {
    let find = |name: &str| signature.outputs.iter().find(|spec| spec.name == name);
    // A name may itself hold a colon and a number (`output:0`): the whole is looked for first.
    let split = wanted.rsplit_once(':').and_then(|(name, column)| Some((name, column.parse::<usize>().ok()?)));
    let whole = find(wanted).map(|spec| (spec, None));
    let in_parts = || split.and_then(|(name, column)| Some((find(name)?, Some(column))));
    let Some((spec, column)) = whole.or_else(in_parts) else {
        let has: Vec<_> = signature.outputs.iter().map(|spec| format!("`{}`", spec.name)).collect();
        let output = split.map_or(wanted, |(name, _)| name).to_string();
        return Err(LayoutError::NoOutput { key, output, model: model.into(), has: has.join(", ") });
    };
    match (column, columns_of(spec)) {
        (Some(column), Some(columns)) if column >= columns => {
            Err(LayoutError::NoColumn { key, column, output: spec.name.clone(), columns })
        }
        _ => Ok(OutputColumn { output: spec.name.clone(), column }),
    }
}

fn schema_id(inputs: &[InputLayout], signature: &Signature, transform_id: Option<&str>) -> String {
    let mut hash = Sha256::new();
    for (layout, spec) in inputs.iter().zip(&signature.inputs) {
        hash.update(spec.datatype.name());
        match &layout.columns {
            Columns::Named(keys) => keys.iter().for_each(|key| hash.update(key)),
            Columns::Vector(key) => {
                hash.update(b"[]");
                hash.update(key);
            }
        }
    }
    hash.update(transform_id.unwrap_or_default());
    hash.finalize().iter().take(8).fold(String::with_capacity(16), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A JSON text.
pub(super) fn write_text(text: &str, out: &mut Vec<u8>) {
    // Writing to memory does not fail.
    let _ = serde_json::to_writer(out, text);
}
