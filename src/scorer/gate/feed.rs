//! How the rows become a version's inputs: features as they are, or raw features through the version's transform.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;

use crate::config::model::{Kind, Model};
use crate::config::transform::RawKind;
use crate::reference::build::column_of;
use crate::reference::window::Values;
use crate::scorer::engine::{Signature, TensorSpec};
use crate::scorer::tensor::{DataType, Tensor, TensorData, TensorLimits};
use crate::scorer::transform::backend::{fits, model_input};
use crate::scorer::transform::{FeatureTransform, RawColumn, RawInput, arrow, tensors::of_raw};

use super::rows::Rows;
use super::scoring::ScoringError;
use super::version::Version;

/// A named column of features.
pub type Column<'a> = (&'a str, &'a Values);

/// How a version's inputs are made of features.
#[derive(Debug)]
pub enum Feed {
    /// One input with a column for each of these.
    Matrix(Vec<String>),
    /// An input of its own for each feature, of the same name.
    Named(Vec<String>),
    /// One input that the version's transform makes of raw features.
    Transformed(Transformed),
}

/// A transform, and the raw values of all rows.
#[derive(Debug)]
pub struct Transformed {
    transform: Arc<FeatureTransform>,
    raw: Vec<RawColumn>,
    names: Vec<String>,
}

impl Feed {
    /// How a version is fed with the rows of a model file.
    ///
    /// # Errors
    /// Every way in which inputs and features do not fit.
    pub fn of(version: &Version, model: &Model, rows: &Rows) -> Result<Self, Vec<String>> {
        let signature = version.loaded.signature();
        match &version.transform {
            Some(transform) => {
                fits(transform, signature).map_err(|reason| vec![reason])?;
                let raw = raw_columns(transform, model, rows)?;
                let names = transform.inputs().iter().map(|input| input.name.clone()).collect();
                Ok(Self::Transformed(Transformed { transform: Arc::clone(transform), raw, names }))
            }
            None => direct(signature, version.feature_names.as_deref(), &rows.columns()),
        }
    }

    /// Features that are taken, in the order of the inputs.
    pub fn features(&self) -> &[String] {
        match self {
            Self::Matrix(names) | Self::Named(names) => names,
            Self::Transformed(transformed) => &transformed.names,
        }
    }

    /// The model's inputs of rows [from, to), as a file of training data has them.
    ///
    /// # Errors
    /// A row has a value that the transform refuses, or that the input's type cannot hold.
    pub fn inputs(
        &self,
        signature: &Signature,
        rows: &Rows,
        (from, to): (usize, usize),
    ) -> Result<Vec<Tensor>, ScoringError> {
        match self {
            Self::Transformed(transformed) => transformed.of_file(from, to).map(|tensor| vec![tensor]),
            _ => tensors(signature, self, &rows.columns(), (from, to)),
        }
    }

    /// The model's inputs of one row, as they come of a request.
    ///
    /// # Errors
    /// As `inputs`.
    pub fn of_request(&self, signature: &Signature, rows: &Rows, row: usize) -> Result<Vec<Tensor>, ScoringError> {
        match self {
            Self::Transformed(transformed) => transformed.of_request(row).map(|tensor| vec![tensor]),
            _ => self.inputs(signature, rows, (row, row + 1)),
        }
    }

    /// Whether features are computed, so that a request and a file could differ.
    pub const fn is_computed(&self) -> bool {
        matches!(self, Self::Transformed(_))
    }
}

impl Transformed {
    fn of_file(&self, from: usize, to: usize) -> Result<Tensor, ScoringError> {
        let raw: Vec<RawColumn> = self.raw.iter().map(|column| column.slice(from, to)).collect();
        let rows = to - from;
        let failed = |error: &dyn std::fmt::Display| ScoringError(format!("rows {} to {to}: {error}", from + 1));
        let data = self.transform.apply(&raw, rows).map_err(|error| failed(&error))?;
        let shape = vec![rows, self.transform.columns().len()];
        Tensor::new(self.transform.output(), shape, data, &TensorLimits::default()).map_err(|error| failed(&error))
    }

    fn of_request(&self, row: usize) -> Result<Tensor, ScoringError> {
        let raw: Vec<RawColumn> = self.raw.iter().map(|column| column.slice(row, row + 1)).collect();
        let failed = |error: &dyn std::fmt::Display| ScoringError(format!("row {}: {error}", row + 1));
        match of_raw(self.transform.inputs(), &raw).map_err(|error| failed(&error))? {
            Some(request) => model_input(&self.transform, &request).map_err(|error| failed(&error)),
            None => self.of_file(row, row + 1),
        }
    }
}

/// The raw values of a transform's inputs: features of the model file, and times, which no model file can have.
fn raw_columns(transform: &FeatureTransform, model: &Model, rows: &Rows) -> Result<Vec<RawColumn>, Vec<String>> {
    let mut mismatches: Vec<String> = transform.inputs().iter().filter_map(|input| unfit(input, model)).collect();
    let mut columns = Vec::new();
    let watched = model.signals();
    for input in transform.inputs() {
        let of_model = watched.iter().find(|signal| signal.name == input.name);
        let column = of_model.and_then(|signal| column_of(signal, &rows.named, std::slice::from_ref(&rows.batch)).ok());
        let column = column.as_deref().unwrap_or(&input.name);
        match rows.batch.column_by_name(column) {
            Some(array) => columns.push((input.name.clone(), Arc::clone(array))),
            None => mismatches.push(format!("its transform takes `{column}`, which the rows have no column of")),
        }
    }
    if !mismatches.is_empty() {
        return Err(mismatches);
    }
    let failed = |reason: String| vec![reason];
    let batch = RecordBatch::try_from_iter(columns).map_err(|error| failed(error.to_string()))?;
    arrow::raw_columns(transform.inputs(), &batch).map_err(|error| failed(error.to_string()))
}

/// Why a raw feature is none of the model file.
fn unfit(input: &RawInput, model: &Model) -> Option<String> {
    let name = &input.name;
    let Some(feature) = model.features.get(name) else {
        let told = format!("its transform takes `{name}`, which is no feature of the model file");
        return (input.kind != RawKind::Time).then_some(told);
    };
    let taken = match (input.kind, feature.kind()) {
        (RawKind::Number, Kind::Numeric)
        | (RawKind::Text, Kind::Categorical)
        | (RawKind::Boolean | RawKind::Time, _) => {
            return None;
        }
        (RawKind::Number, _) => "a number",
        (RawKind::Text, _) => "text",
    };
    Some(format!("`{name}` is {} in the model file, its transform takes {taken}", feature.kind().predicate()))
}

/// How the inputs are fed; `names` are the features of one matrix in their order, where the version says them. Otherwise
/// it is fed with the numbers among `features`, the model file's in the order of their names.
///
/// # Errors
/// Every way in which inputs and features do not fit.
fn direct(signature: &Signature, names: Option<&[String]>, features: &[Column]) -> Result<Feed, Vec<String>> {
    let has = |name: &str| features.iter().find(|(feature, _)| *feature == name);
    let mut mismatches = Vec::new();
    let feed = match signature.inputs.as_slice() {
        [input] if input.shape.len() == 2 && has(&input.name).is_none() => {
            let numeric = features.iter().filter(|(_, values)| matches!(values, Values::Numbers(_)));
            let all = || numeric.map(|(name, _)| name.to_string()).collect();
            let names: Vec<String> = names.map_or_else(all, <[String]>::to_vec);
            if let Some(width) = input.shape[1].filter(|width| *width != names.len()) {
                mismatches.push(format!(
                    "input `{}` has {width} columns, the features are {}",
                    input.name,
                    names.len()
                ));
            }
            Feed::Matrix(names)
        }
        inputs => Feed::Named(inputs.iter().map(|input| input.name.clone()).collect()),
    };
    for name in feed.features() {
        match (has(name), &feed) {
            (None, _) => mismatches.push(format!("it takes `{name}`, which is no feature of the model file")),
            (Some((_, Values::Numbers(_))), Feed::Matrix(_)) => {}
            (Some(_), Feed::Matrix(_)) => {
                mismatches.push(format!("`{name}` is no number, as a column of a matrix must be"))
            }
            (Some((_, values)), _) => {
                let input = signature.inputs.iter().find(|input| input.name == *name);
                mismatches.extend(input.and_then(|input| untyped(input, values)));
            }
        }
    }
    if mismatches.is_empty() { Ok(feed) } else { Err(mismatches) }
}

fn untyped(input: &TensorSpec, values: &Values) -> Option<String> {
    let name = &input.name;
    let is_text = input.datatype == DataType::Bytes;
    match values {
        Values::Texts(_) if !is_text => {
            Some(format!("`{name}` is categorical, its input takes {}", input.datatype.name()))
        }
        Values::Numbers(_) | Values::Vectors { .. } if is_text => {
            Some(format!("`{name}` is numeric, its input takes text"))
        }
        _ => None,
    }
}

/// The tensors of rows [from, to).
fn tensors(
    signature: &Signature,
    feed: &Feed,
    features: &[Column],
    (from, to): (usize, usize),
) -> Result<Vec<Tensor>, ScoringError> {
    let values_of = |name: &str| features.iter().find(|(feature, _)| *feature == name).map(|(_, values)| *values);
    let rows = to - from;
    let failed = |error: &dyn std::fmt::Display| ScoringError(error.to_string());
    match (feed, signature.inputs.as_slice()) {
        (Feed::Matrix(names), [input]) => {
            let columns: Vec<&[f64]> = names
                .iter()
                .filter_map(|name| match values_of(name) {
                    Some(Values::Numbers(values)) => values.get(from..to),
                    _ => None,
                })
                .collect();
            let row_major = (0..rows).flat_map(|row| columns.iter().map(move |column| column[row]));
            let data = numbers_as(input.datatype, row_major.collect()).map_err(|error| failed(&error))?;
            let shape = vec![rows, columns.len()];
            Ok(vec![
                Tensor::new(input.name.clone(), shape, data, &TensorLimits::default())
                    .map_err(|error| failed(&error))?,
            ])
        }
        (_, inputs) => inputs
            .iter()
            .map(|input| {
                let missing = || ScoringError(format!("nothing to feed input `{}` with", input.name));
                let (data, width) = match values_of(&input.name).ok_or_else(missing)? {
                    Values::Numbers(values) => (numbers_as(input.datatype, values[from..to].to_vec())?, 1),
                    Values::Texts(values) => {
                        let texts = values[from..to].iter().map(|text| text.clone().unwrap_or_default().into_bytes());
                        (TensorData::Bytes(texts.collect()), 1)
                    }
                    Values::Vectors { dimension, entries } => {
                        let entries = entries[from * dimension..to * dimension].to_vec();
                        (numbers_as(input.datatype, entries)?, *dimension)
                    }
                };
                let shape = if input.shape.len() == 1 { vec![rows] } else { vec![rows, width] };
                Tensor::new(input.name.clone(), shape, data, &TensorLimits::default()).map_err(|error| failed(&error))
            })
            .collect(),
    }
}

fn numbers_as(datatype: DataType, numbers: Vec<f64>) -> Result<TensorData, ScoringError> {
    Ok(match datatype {
        DataType::Fp32 => TensorData::Fp32(numbers.into_iter().map(|number| number as f32).collect()),
        DataType::Fp64 => TensorData::Fp64(numbers),
        DataType::Int64 => TensorData::Int64(numbers.into_iter().map(|number| number as i64).collect()),
        DataType::Int32 => TensorData::Int32(numbers.into_iter().map(|number| number as i32).collect()),
        other => return Err(ScoringError(format!("inputs of type {} cannot be fed with numbers", other.name()))),
    })
}
