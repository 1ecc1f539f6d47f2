//! The rows to judge by, and what a version says of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};

use super::feed::Column;
use super::outputs::Scores;
use crate::config::model::{Kind, Model, PREDICTION_SIGNAL, SCORE_SIGNAL, Signal};
use crate::config::performance::Task;
use crate::reference::build::ReferenceError;
use crate::reference::window::{Values, values};

/// Rows of a file, with the columns of the model file.
#[derive(Debug, Clone)]
pub struct Rows {
    /// All of them, as one.
    pub batch: RecordBatch,
    /// Feature or outcome to column, where names differ.
    pub named: BTreeMap<String, String>,
    /// By name, in the order of the model file's features.
    pub features: Vec<(String, Values)>,
}

/// A model file as far as it is about features: without outputs, which the versions give.
pub fn features_only(model: &Model) -> Model {
    Model { prediction: None, score: None, performance: None, ..model.clone() }
}

impl Rows {
    /// Reads every feature of the model file.
    ///
    /// # Errors
    /// A column is missing or holds another type.
    pub fn read(model: &Model, batch: RecordBatch, columns: BTreeMap<String, String>) -> Result<Self, ReferenceError> {
        let bare = features_only(model);
        let of_feature = |signal: Signal| {
            let values = values(&bare, &signal, &columns, std::slice::from_ref(&batch))?;
            Ok((signal.name, values))
        };
        let features = bare.signals().into_iter().map(of_feature).collect::<Result<_, ReferenceError>>()?;
        Ok(Self { batch, named: columns, features })
    }

    pub fn len(&self) -> usize {
        self.batch.num_rows()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The features' values by name.
    pub fn columns(&self) -> Vec<Column<'_>> {
        self.features.iter().map(|(name, values)| (name.as_str(), values)).collect()
    }

    /// The rows with a version's outputs in place of those that the file has, and the columns to read them by.
    ///
    /// # Errors
    /// The version gives no output of the kind that the model file has, in words.
    pub fn with_scores(
        &self,
        model: &Model,
        scores: &Scores,
    ) -> Result<(RecordBatch, BTreeMap<String, String>), String> {
        let mut columns = self.named.clone();
        let mut named: Vec<(String, ArrayRef)> = (self.batch.schema().fields().iter().zip(self.batch.columns()))
            .map(|(field, array)| (field.name().clone(), array.clone()))
            .collect();
        let numbers = || -> ArrayRef { Arc::new(Float64Array::from(scores.numbers.clone())) };
        let mut outputs: Vec<(&str, ArrayRef)> = Vec::new();
        if model.score.is_some() {
            outputs.push((SCORE_SIGNAL, numbers()));
        }
        if let Some(prediction) = &model.prediction {
            let array = match (prediction.kind, &scores.classes, threshold(model)) {
                (Kind::Numeric, _, _) => numbers(),
                (_, Some(classes), _) => Arc::new(StringArray::from(classes.clone())),
                (_, None, Some((threshold, positive))) => {
                    let class =
                        |score: &f64| if *score >= threshold { positive.clone() } else { format!("not {positive}") };
                    Arc::new(StringArray::from_iter_values(scores.numbers.iter().map(class)))
                }
                (_, None, None) => {
                    return Err(
                        "the model file has a class as `prediction`, and the version has no output of text or \
                                integers"
                            .to_string(),
                    );
                }
            };
            outputs.push((PREDICTION_SIGNAL, array));
        }
        for (name, array) in outputs {
            columns.remove(name);
            named.retain(|(column, _)| column != name);
            named.push((name.to_string(), array));
        }
        let batch = RecordBatch::try_from_iter(named).map_err(|error| error.to_string())?;
        Ok((batch, columns))
    }
}

/// Where a binary score becomes the positive class.
fn threshold(model: &Model) -> Option<(f64, String)> {
    let performance = model.performance.as_ref().filter(|performance| performance.task == Task::Binary)?;
    Some((performance.threshold.unwrap_or(0.5), performance.positive.clone().unwrap_or_else(|| "1".into())))
}
