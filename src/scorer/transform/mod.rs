//! The feature transform: raw features to a model's input, by one piece of code wherever the rows come from.
//!
//! `compile` checks a `transform.yaml` and makes of it a `FeatureTransform`, whose steps are in `step`: a value of a row goes
//! through them one by one, whether it was sent to the server, read from a file or from a topic. What differs is only how
//! raw values are read: `tensors` of requests, `arrow` batches of Parquet, `rows` of JSON. `backend` puts a version's
//! transform before what computes; `featurize` writes training data.
//!
//! To add a step: a variant of `config::transform::Step`, its check in `compile`, its value in `step`, a row of the table in
//! docs/scorer-events.md.

pub mod arrow;
pub mod backend;
mod compile;
pub mod rows;
mod step;
pub mod tensors;

use crate::config::Diagnostics;
use crate::config::load::parse;
use crate::config::transform::{OutputType, RawKind, TransformFile};
use crate::scorer::engine::TensorSpec;
use crate::scorer::tensor::{DataType, TensorData};

use step::{Step, Value};

/// The transform's file in a version.
pub const TRANSFORM_FILE: &str = "transform.yaml";

/// A raw feature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawInput {
    pub name: String,
    pub kind: RawKind,
    /// Texts that mean that the value is missing.
    missing: Vec<String>,
}

impl RawInput {
    /// Of which only the empty text is missing.
    pub fn new(name: &str, kind: RawKind) -> Self {
        Self { name: name.into(), kind, missing: Vec::new() }
    }
}

/// Values of one raw feature, row by row.
#[derive(Debug, Clone, PartialEq)]
pub enum RawColumn {
    /// NaN: missing.
    Number(Vec<f64>),
    Text(Vec<Option<String>>),
    /// Epoch ms.
    Time(Vec<Option<i64>>),
}

impl RawColumn {
    fn with_capacity(kind: RawKind, rows: usize) -> Self {
        match kind {
            RawKind::Number | RawKind::Boolean => Self::Number(Vec::with_capacity(rows)),
            RawKind::Text => Self::Text(Vec::with_capacity(rows)),
            RawKind::Time => Self::Time(Vec::with_capacity(rows)),
        }
    }

    /// Rows [from, to), as far as there are any.
    #[must_use]
    pub fn slice(&self, from: usize, to: usize) -> Self {
        match self {
            Self::Number(values) => Self::Number(values.get(from..to).unwrap_or_default().to_vec()),
            Self::Text(values) => Self::Text(values.get(from..to).unwrap_or_default().to_vec()),
            Self::Time(values) => Self::Time(values.get(from..to).unwrap_or_default().to_vec()),
        }
    }

    fn value(&self, row: usize) -> Value<'_> {
        match self {
            Self::Number(values) => Value::Number(values.get(row).copied().unwrap_or(f64::NAN)),
            Self::Text(values) => Value::Text(values.get(row).and_then(Option::as_deref).map(Into::into)),
            Self::Time(values) => Value::Time(values.get(row).copied().flatten()),
        }
    }
}

/// Rows that cannot be transformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransformError {
    /// `row` from 0.
    #[error("feature `{feature}` of row {row}: {reason}")]
    Row { row: usize, feature: String, reason: String },
    #[error("raw feature `{feature}`: {reason}")]
    Column { feature: String, reason: String },
}

/// A compiled feature transform.
#[derive(Debug)]
pub struct FeatureTransform {
    id: String,
    output: String,
    datatype: OutputType,
    inputs: Vec<RawInput>,
    features: Vec<Feature>,
    columns: Vec<String>,
}

/// One raw feature through its steps.
#[derive(Debug)]
struct Feature {
    from: usize,
    name: String,
    steps: Vec<Step>,
}

impl FeatureTransform {
    /// Reads, checks and compiles a transform's file; `name` is what errors call it.
    ///
    /// # Errors
    /// Everything that is wrong with it, with its place.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, Diagnostics> {
        let not_text = |_| Diagnostics::file(name, "not-utf8", "the file is not UTF-8".to_string());
        let text = std::str::from_utf8(bytes).map_err(not_text)?;
        let loaded = parse::<TransformFile>(name, text, |_| Vec::new(), compile::problems).into_result()?;
        compile::transform(&loaded.value, crate::scorer::registry::sha256_hex(bytes))
            .map_err(|problem| Diagnostics::file(name, "invalid", problem.message))
    }

    /// SHA-256 of the file's bytes, in hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Raw features, by name.
    pub fn inputs(&self) -> &[RawInput] {
        &self.inputs
    }

    /// Name of the model's input tensor.
    pub fn output(&self) -> &str {
        &self.output
    }

    /// Names of its columns.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    pub const fn datatype(&self) -> DataType {
        match self.datatype {
            OutputType::Fp32 => DataType::Fp32,
            OutputType::Fp64 => DataType::Fp64,
        }
    }

    /// The inputs of a request: one tensor a raw feature, one value a row.
    pub fn raw_specs(&self) -> Vec<TensorSpec> {
        let datatype = |kind| match kind {
            RawKind::Number => DataType::Fp64,
            RawKind::Boolean => DataType::Bool,
            RawKind::Text | RawKind::Time => DataType::Bytes,
        };
        let spec = |input: &RawInput| TensorSpec {
            name: input.name.clone(),
            datatype: datatype(input.kind),
            shape: vec![None],
        };
        self.inputs.iter().map(spec).collect()
    }

    /// The columns of `rows` rows, row by row; `raw` in the order of `inputs`. This is the one place where values are
    /// computed.
    ///
    /// # Errors
    /// A row has a value that the transform refuses.
    pub fn apply(&self, raw: &[RawColumn], rows: usize) -> Result<TensorData, TransformError> {
        let mut values = Vec::with_capacity(rows * self.columns.len());
        for row in 0..rows {
            for feature in &self.features {
                let refused = |reason| TransformError::Row { row, feature: feature.name.clone(), reason };
                let mut value = raw.get(feature.from).map_or(Value::Number(f64::NAN), |column| column.value(row));
                for step in &feature.steps {
                    value = step.apply(value, raw, row, &mut values).map_err(refused)?;
                }
                if let Value::Number(number) = value {
                    values.push(number);
                }
            }
        }
        Ok(match self.datatype {
            OutputType::Fp32 => TensorData::Fp32(values.into_iter().map(to_f32).collect()),
            OutputType::Fp64 => TensorData::Fp64(values.into_iter().map(one_nan).collect()),
        })
    }
}

/// There are many NaNs; features have one.
fn one_nan(value: f64) -> f64 {
    if value.is_nan() { f64::NAN } else { value }
}

fn to_f32(value: f64) -> f32 {
    if value.is_nan() { f32::NAN } else { value as f32 }
}
