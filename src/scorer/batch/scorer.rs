//! Rows to scores, by the session and the transform that serve.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType as ArrowType, Field};

use super::{BatchError, NewColumn, Work, field};
use crate::config::transform::RawKind;
use crate::scorer::engine::{EngineError, LoadedModel, Session, Signature, TensorSpec};
use crate::scorer::events::json::half_to_f32;
use crate::scorer::events::{EventLayout, LayoutOptions};
use crate::scorer::tensor::{DataType, Tensor, TensorData, TensorLimits};
use crate::scorer::transform::{FeatureTransform, RawColumn, RawInput, backend};

/// Whole numbers up to here are exact in an f64.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// One version of a model, and a session of it.
pub struct RowScorer {
    session: Box<dyn Session>,
    signature: Signature,
    transform: Option<Arc<FeatureTransform>>,
    inputs: Vec<RawInput>,
    layout: Arc<EventLayout>,
    prefix: String,
    with_version: bool,
}

impl RowScorer {
    /// `options`: which output is the score, and what the columns of the model's inputs are called, as in events. `prefix`
    /// stands before the names of new columns.
    ///
    /// # Errors
    /// The model has no session, or its inputs cannot be read from columns.
    pub fn new(
        loaded: &dyn LoadedModel,
        transform: Option<Arc<FeatureTransform>>,
        (model, version): (&str, &str),
        options: LayoutOptions,
        prefix: &str,
    ) -> Result<Self, BatchError> {
        let failed = |error: EngineError| BatchError::Failed(error.to_string());
        let signature = loaded.signature().clone();
        let inputs = match &transform {
            Some(transform) => {
                backend::fits(transform, &signature).map_err(BatchError::Failed)?;
                transform.inputs().to_vec()
            }
            None => direct_inputs(model, &signature, &options.feature_names)?,
        };
        // Inputs are named by the columns here; outputs are what the layout is asked for.
        let options = LayoutOptions { feature_names: Vec::new(), ..options };
        let layout = EventLayout::new(model, version, Some(&signature), options)
            .map_err(|error| BatchError::Failed(error.to_string()))?;
        let session = loaded.session().map_err(failed)?;
        Ok(Self { session, signature, transform, inputs, layout, prefix: prefix.into(), with_version: true })
    }

    /// Without the column that names the version.
    #[must_use]
    pub fn without_version(self) -> Self {
        Self { with_version: false, ..self }
    }

    pub fn model(&self) -> &str {
        self.layout.model()
    }

    pub fn version(&self) -> &str {
        self.layout.version()
    }

    /// Score and prediction: name, output, column.
    fn wanted(&self) -> Vec<(&'static str, &TensorSpec, Option<usize>)> {
        let find = |name: &str| self.signature.outputs.iter().find(|spec| spec.name == name);
        let columns = [("score", self.layout.score_output()), ("prediction", self.layout.prediction_output())];
        let known = |(name, output): (&'static str, Option<(&str, Option<usize>)>)| {
            let (output, column) = output?;
            Some((name, find(output)?, column))
        };
        columns.into_iter().filter_map(known).collect()
    }

    fn tensors(&self, raw: &[RawColumn], rows: usize) -> Result<Vec<Tensor>, BatchError> {
        let refused = |error: crate::scorer::tensor::TensorError| BatchError::Rows(error.to_string());
        let limits = TensorLimits::default();
        if let Some(transform) = &self.transform {
            let shape = vec![rows, transform.columns().len()];
            let data = transform.apply(raw, rows)?;
            return Ok(vec![Tensor::new(transform.output(), shape, data, &limits).map_err(refused)?]);
        }
        let mut columns = self.inputs.iter().zip(raw);
        let mut tensors = Vec::with_capacity(self.signature.inputs.len());
        for spec in &self.signature.inputs {
            let width = width_of(spec).unwrap_or_else(|| self.inputs.len() + 1 - self.signature.inputs.len());
            let own: Vec<_> = columns.by_ref().take(width).collect();
            let data = direct_data(spec, &own, rows)?;
            let shape = if spec.shape.len() == 1 { vec![rows] } else { vec![rows, width] };
            tensors.push(Tensor::new(spec.name.as_str(), shape, data, &limits).map_err(refused)?);
        }
        Ok(tensors)
    }
}

impl Work for RowScorer {
    fn inputs(&self) -> &[RawInput] {
        &self.inputs
    }

    fn fields(&self) -> Vec<Field> {
        let kind = |spec: &TensorSpec| match spec.datatype {
            DataType::Fp16 | DataType::Fp32 => ArrowType::Float32,
            DataType::Fp64 => ArrowType::Float64,
            DataType::Bytes => ArrowType::Utf8,
            DataType::Bool => ArrowType::Boolean,
            _ => ArrowType::Int64,
        };
        let prefix = &self.prefix;
        let outputs = self.wanted().into_iter().map(|(name, spec, _)| field(&format!("{prefix}{name}"), kind(spec)));
        let version = self.with_version.then(|| field(&format!("{prefix}model_version"), ArrowType::Utf8));
        outputs.chain(version).collect()
    }

    fn run(&mut self, raw: &[RawColumn], rows: usize) -> Result<Vec<NewColumn>, BatchError> {
        let inputs = self.tensors(raw, rows)?;
        let outputs = self.session.score(&inputs).map_err(|error| match error {
            EngineError::Input(reason) => BatchError::Rows(reason),
            error => BatchError::Failed(error.to_string()),
        })?;
        let mut columns = Vec::with_capacity(3);
        for (name, spec, column) in self.wanted() {
            let missing = || BatchError::Failed(format!("the model gave no output `{}` for `{name}`", spec.name));
            let tensor = outputs.iter().find(|tensor| tensor.name() == spec.name).ok_or_else(missing)?;
            columns.push(output_column(tensor, column, rows).ok_or_else(missing)?);
        }
        if self.with_version {
            columns.push(NewColumn::Texts(vec![self.layout.version().to_string(); rows]));
        }
        Ok(columns)
    }
}

/// Columns of an input of one or two dimensions; `None`: any number.
fn width_of(spec: &TensorSpec) -> Option<usize> {
    match spec.shape.as_slice() {
        [_, width] => *width,
        _ => Some(1),
    }
}

/// Without a transform, columns are the model's inputs themselves.
fn direct_inputs(model: &str, signature: &Signature, names: &[String]) -> Result<Vec<RawInput>, BatchError> {
    let mut inputs = Vec::new();
    let mut rest = names;
    let known: usize = signature.inputs.iter().filter_map(width_of).sum();
    for spec in &signature.inputs {
        if !(1..=2).contains(&spec.shape.len()) {
            let rank = spec.shape.len();
            let reason = format!("input `{}` of {model} has {rank} dimensions: rows of columns have two", spec.name);
            return Err(BatchError::Failed(reason));
        }
        let kind = match spec.datatype {
            DataType::Bytes => RawKind::Text,
            DataType::Bool => RawKind::Boolean,
            _ => RawKind::Number,
        };
        let width = width_of(spec).unwrap_or(names.len().saturating_sub(known));
        if width == 1 && names.is_empty() {
            inputs.push(RawInput::new(&spec.name, kind));
            continue;
        }
        let Some((own, others)) = rest.split_at_checked(width).filter(|_| width > 0) else {
            let reason = format!(
                "input `{}` of {model} has {width} columns: name them with --features, or as `events.features` of the model",
                spec.name
            );
            return Err(BatchError::Failed(reason));
        };
        rest = others;
        inputs.extend(own.iter().map(|name| RawInput::new(name, kind)));
    }
    if !rest.is_empty() {
        let count = names.len();
        return Err(BatchError::Failed(format!(
            "{count} features are named, the inputs of {model} have fewer columns"
        )));
    }
    Ok(inputs)
}

/// Columns side by side, in the type of the input.
fn direct_data(spec: &TensorSpec, columns: &[(&RawInput, &RawColumn)], rows: usize) -> Result<TensorData, BatchError> {
    let cells = || (0..rows).flat_map(|row| columns.iter().map(move |(input, column)| (row, *input, *column)));
    let number = |(row, _, column): (usize, &RawInput, &RawColumn)| match column {
        RawColumn::Number(values) => values.get(row).copied().unwrap_or(f64::NAN),
        _ => f64::NAN,
    };
    macro_rules! whole {
        ($variant:ident, $kind:ty) => {{
            let mut values = Vec::with_capacity(rows * columns.len());
            for cell in cells() {
                let value = number(cell);
                let (least, most) = (<$kind>::MIN as f64, (<$kind>::MAX as f64).min(EXACT));
                if value.fract() != 0.0 || !(least.max(-EXACT)..=most).contains(&value) {
                    let (row, input) = (cell.0, &cell.1.name);
                    let name = spec.datatype.name();
                    return Err(BatchError::Rows(format!("feature `{input}` of row {row}: {value} is no {name}")));
                }
                values.push(value as $kind);
            }
            TensorData::$variant(values)
        }};
    }
    Ok(match spec.datatype {
        DataType::Fp32 => TensorData::Fp32(cells().map(|cell| number(cell) as f32).collect()),
        DataType::Fp64 => TensorData::Fp64(cells().map(number).collect()),
        DataType::Bool => TensorData::Bool(cells().map(|cell| number(cell) == 1.0).collect()),
        DataType::Uint8 => whole!(Uint8, u8),
        DataType::Uint16 => whole!(Uint16, u16),
        DataType::Uint32 => whole!(Uint32, u32),
        DataType::Uint64 => whole!(Uint64, u64),
        DataType::Int8 => whole!(Int8, i8),
        DataType::Int16 => whole!(Int16, i16),
        DataType::Int32 => whole!(Int32, i32),
        DataType::Int64 => whole!(Int64, i64),
        DataType::Bytes => {
            let text = |(row, _, column): (usize, &RawInput, &RawColumn)| match column {
                RawColumn::Text(values) => values.get(row).cloned().flatten().unwrap_or_default().into_bytes(),
                _ => Vec::new(),
            };
            TensorData::Bytes(cells().map(text).collect())
        }
        DataType::Fp16 => {
            return Err(BatchError::Failed(format!("input `{}` is FP16, which columns are not read as", spec.name)));
        }
    })
}

/// One column of an output; `None` where it has not that many columns or rows.
fn output_column(tensor: &Tensor, column: Option<usize>, rows: usize) -> Option<NewColumn> {
    let width = tensor.data().len() / rows.max(1);
    let column = column.or_else(|| width.checked_sub(1)).filter(|column| *column < width)?;
    let at = |row: usize| row * width + column;
    macro_rules! picked {
        ($values:expr, $make:expr) => {
            (0..rows).map(|row| $values.get(at(row)).map($make)).collect::<Option<Vec<_>>>()?
        };
    }
    Some(match tensor.data() {
        TensorData::Fp16(values) => NewColumn::Floats(picked!(values, |bits| half_to_f32(*bits))),
        TensorData::Fp32(values) => NewColumn::Floats(picked!(values, |value| *value)),
        TensorData::Fp64(values) => NewColumn::Doubles(picked!(values, |value| *value)),
        TensorData::Bool(values) => NewColumn::Booleans(picked!(values, |value| *value)),
        TensorData::Uint8(values) => NewColumn::Integers(picked!(values, |value| i64::from(*value))),
        TensorData::Uint16(values) => NewColumn::Integers(picked!(values, |value| i64::from(*value))),
        TensorData::Uint32(values) => NewColumn::Integers(picked!(values, |value| i64::from(*value))),
        TensorData::Uint64(values) => NewColumn::Integers(picked!(values, |value| value.cast_signed())),
        TensorData::Int8(values) => NewColumn::Integers(picked!(values, |value| i64::from(*value))),
        TensorData::Int16(values) => NewColumn::Integers(picked!(values, |value| i64::from(*value))),
        TensorData::Int32(values) => NewColumn::Integers(picked!(values, |value| i64::from(*value))),
        TensorData::Int64(values) => NewColumn::Integers(picked!(values, |value| *value)),
        TensorData::Bytes(values) => {
            NewColumn::Texts(picked!(values, |value| String::from_utf8_lossy(value).into_owned()))
        }
    })
}
