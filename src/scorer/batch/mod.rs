//! Scores of many rows at once: files (`file`) and topics (`topic`), by the session and the transform that serve.
//!
//! `Work` is what is done with rows of raw columns: `scorer` scores them, `featurizer` writes a model's input as training
//! data. To add a kind of file: a reader and a writer in `file`.

pub mod featurizer;
pub mod file;
pub mod scorer;
pub mod topic;

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, Float32Array, Float64Array, Int64Array, StringArray};
use datafusion::arrow::datatypes::{DataType, Field};

use super::transform::{RawColumn, RawInput, TransformError};

pub use featurizer::Featurizer;
pub use file::{FileOptions, run_file};
pub use scorer::RowScorer;

/// Rows worked on at once.
pub const CHUNK_ROWS: usize = 4_096;

/// Why it was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// These rows cannot be worked on; others can.
    #[error("{0}")]
    Rows(String),
    /// Nothing goes on.
    #[error("{0}")]
    Failed(String),
}

impl From<TransformError> for BatchError {
    fn from(error: TransformError) -> Self {
        Self::Rows(error.to_string())
    }
}

/// New values of rows, in a type of their own.
#[derive(Debug, Clone, PartialEq)]
pub enum NewColumn {
    Floats(Vec<f32>),
    Doubles(Vec<f64>),
    Integers(Vec<i64>),
    Booleans(Vec<bool>),
    Texts(Vec<String>),
}

impl NewColumn {
    pub fn array(&self) -> ArrayRef {
        match self {
            Self::Floats(values) => Arc::new(Float32Array::from(values.clone())),
            Self::Doubles(values) => Arc::new(Float64Array::from(values.clone())),
            Self::Integers(values) => Arc::new(Int64Array::from(values.clone())),
            Self::Booleans(values) => Arc::new(BooleanArray::from(values.clone())),
            Self::Texts(values) => Arc::new(StringArray::from(values.clone())),
        }
    }

    /// One value as JSON: what is no number is null, an infinity its name.
    pub fn write_json(&self, row: usize, out: &mut Vec<u8>) {
        // Writing to memory does not fail.
        let _ = match self {
            Self::Floats(values) => match values.get(row) {
                Some(value) if value.is_finite() => serde_json::to_writer(out, value),
                value => write_unreal(value.map(|value| f64::from(*value)), out),
            },
            Self::Doubles(values) => match values.get(row) {
                Some(value) if value.is_finite() => serde_json::to_writer(out, value),
                value => write_unreal(value.copied(), out),
            },
            Self::Integers(values) => serde_json::to_writer(out, &values.get(row)),
            Self::Booleans(values) => serde_json::to_writer(out, &values.get(row)),
            Self::Texts(values) => serde_json::to_writer(out, &values.get(row)),
        };
    }
}

fn write_unreal(value: Option<f64>, out: &mut Vec<u8>) -> serde_json::Result<()> {
    out.extend_from_slice(match value {
        Some(f64::INFINITY) => b"\"Infinity\"",
        Some(f64::NEG_INFINITY) => b"\"-Infinity\"",
        _ => b"null",
    });
    Ok(())
}

/// What is done with rows.
pub trait Work {
    /// The raw features that it reads.
    fn inputs(&self) -> &[RawInput];

    /// The columns that it adds.
    fn fields(&self) -> Vec<Field>;

    /// Their values, in the order of `fields`.
    ///
    /// # Errors
    /// `Rows`: a row cannot be worked on.
    fn run(&mut self, raw: &[RawColumn], rows: usize) -> Result<Vec<NewColumn>, BatchError>;
}

/// A field that may be null only where it is no number.
fn field(name: &str, kind: DataType) -> Field {
    Field::new(name, kind, true)
}
