//! What a prediction carries besides its own fields, so that its window can be estimated without labels: the chance of
//! each class, or the loss to expect.

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Float64Type};

use super::{Expectation, JudgedBy};
use crate::config::model::Model;
use crate::reference::Reference;
use crate::stats::performance::confidence_based::multiclass::chances;
use crate::stats::performance::direct_loss::{DirectLoss, Values};
use crate::stats::performance::isotonic::Isotonic;
use crate::stats::performance::profile::Prediction;

/// Of one model and reference.
#[derive(Debug, Clone)]
pub struct Completion(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Chances(Vec<Isotonic>),
    Losses(Box<DirectLoss>),
}

impl Completion {
    /// `None` where predictions need nothing: the reference has no labels, or the model judges rows otherwise than when it
    /// was built, or the estimate needs no more than the score.
    pub fn of(reference: &Reference, model: &Model) -> Option<Self> {
        let performance = reference.performance.as_ref()?;
        if JudgedBy::of(model).as_ref() != Some(&performance.judged_by) {
            return None;
        }
        match &performance.expectation {
            Expectation::Multiclass(curves) => Some(Self(Kind::Chances(curves.clone()))),
            Expectation::Regression(losses) => Some(Self(Kind::Losses(losses.clone()))),
            Expectation::None | Expectation::Binary(_) => None,
        }
    }

    /// Completes the predictions of a decoded batch, row by row; `batch` has the columns of `event::schema`.
    pub fn complete(&self, batch: &RecordBatch, predictions: &mut [Prediction]) {
        match &self.0 {
            Kind::Chances(curves) => {
                for prediction in predictions {
                    prediction.chances = chances(curves, &prediction.class_scores).unwrap_or_default();
                }
            }
            Kind::Losses(losses) => {
                let columns: Option<Vec<Column>> = losses.inputs().map(|name| Column::of(batch, name)).collect();
                let Some(columns) = columns else { return };
                let values: Vec<Values> = columns.iter().map(Column::values).collect();
                for (prediction, expected) in predictions.iter_mut().zip(losses.expected(&values)) {
                    prediction.expected_loss = prediction.value.is_finite().then_some(expected);
                }
            }
        }
    }
}

/// One column of a batch as the learner takes it.
enum Column<'a> {
    Numeric(Vec<f64>),
    Categorical(Vec<Option<&'a str>>),
}

impl<'a> Column<'a> {
    /// `None` where the batch has no such column, or one of another type.
    fn of(batch: &'a RecordBatch, name: &str) -> Option<Self> {
        let array = batch.column_by_name(name)?;
        match array.data_type() {
            DataType::Float64 => {
                let numbers = array.as_primitive::<Float64Type>();
                if numbers.null_count() == 0 {
                    return Some(Self::Numeric(numbers.values().to_vec()));
                }
                Some(Self::Numeric(numbers.iter().map(|value| value.unwrap_or(f64::NAN)).collect()))
            }
            DataType::Utf8 => Some(Self::Categorical(array.as_string::<i32>().iter().collect())),
            _ => None,
        }
    }

    fn values(&self) -> Values<'_> {
        match self {
            Self::Numeric(values) => Values::Numeric(values),
            Self::Categorical(values) => Values::Categorical(values),
        }
    }
}
