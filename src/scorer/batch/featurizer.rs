//! A model's input as training data, by the transform that will serve.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field};

use super::{BatchError, NewColumn, Work, field};
use crate::scorer::tensor::TensorData;
use crate::scorer::transform::{FeatureTransform, RawColumn, RawInput};

/// Writes a transform's columns.
pub struct Featurizer {
    transform: Arc<FeatureTransform>,
}

impl Featurizer {
    pub const fn new(transform: Arc<FeatureTransform>) -> Self {
        Self { transform }
    }
}

impl Work for Featurizer {
    fn inputs(&self) -> &[RawInput] {
        self.transform.inputs()
    }

    fn fields(&self) -> Vec<Field> {
        let kind = match self.transform.datatype() {
            crate::scorer::tensor::DataType::Fp64 => DataType::Float64,
            _ => DataType::Float32,
        };
        self.transform.columns().iter().map(|name| field(name, kind.clone())).collect()
    }

    fn run(&mut self, raw: &[RawColumn], rows: usize) -> Result<Vec<NewColumn>, BatchError> {
        let width = self.transform.columns().len();
        let data = self.transform.apply(raw, rows)?;
        let column = |column: usize| match &data {
            TensorData::Fp64(values) => {
                NewColumn::Doubles(values.iter().skip(column).step_by(width.max(1)).copied().collect())
            }
            TensorData::Fp32(values) => {
                NewColumn::Floats(values.iter().skip(column).step_by(width.max(1)).copied().collect())
            }
            _ => NewColumn::Floats(Vec::new()),
        };
        Ok((0..width).map(column).collect())
    }
}
