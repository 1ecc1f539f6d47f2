//! What one outcome is worth to the business: a number by label and prediction, or an SQL expression over the row.

use std::collections::HashMap;

use super::layout::PerformanceLayout;
use super::prediction::{Label, Prediction};
use super::value_sql::ValueExpression;
use crate::config::performance::{Task, Value};

#[derive(Debug, Clone)]
pub(super) enum Worth {
    /// By label and predicted class; what is not given is 0.
    Matrix(HashMap<(u32, u32), f64>),
    Sql(ValueExpression),
}

impl Worth {
    /// By the cells that the model file gives, names of classes looked up by `class_of`.
    pub fn matrix(value: &Value, task: Task, class_of: impl Fn(&str) -> u32) -> Option<Self> {
        let mut cells = HashMap::new();
        if task == Task::Binary {
            let given = [
                ((1, 1), value.true_positive),
                ((0, 1), value.false_positive),
                ((1, 0), value.false_negative),
                ((0, 0), value.true_negative),
            ];
            cells.extend(given.into_iter().filter_map(|(cell, worth)| Some((cell, worth?))));
        }
        for (label, by_prediction) in &value.matrix {
            let cell = |prediction: &str| (class_of(label), class_of(prediction));
            cells.extend(by_prediction.iter().map(|(prediction, worth)| (cell(prediction), *worth)));
        }
        (!cells.is_empty()).then_some(Self::Matrix(cells))
    }
}

impl PerformanceLayout {
    /// Worth of each row, in the unit of the model file; NaN: it has none, because the model file gives no `value`, the
    /// row lacks something, or the expression gives no number.
    pub fn values(&self, rows: &[(&Prediction, &Label)]) -> Vec<f64> {
        match self.worth() {
            None => vec![f64::NAN; rows.len()],
            Some(Worth::Sql(expression)) => {
                let known: Vec<bool> = rows.iter().map(|(prediction, label)| self.counts(prediction, label)).collect();
                let values = expression.evaluate(self, rows);
                values.into_iter().zip(known).map(|(value, known)| if known { value } else { f64::NAN }).collect()
            }
            Some(Worth::Matrix(cells)) => {
                let cell = |prediction: &Prediction, label: &Label| match label {
                    Label::Class(label) if self.is_complete(prediction) => {
                        Some((*label, self.predicted_class(prediction)?))
                    }
                    _ => None,
                };
                let worth = |cell| cells.get(&cell).copied().unwrap_or(0.0);
                rows.iter().map(|(prediction, label)| cell(prediction, label).map_or(f64::NAN, worth)).collect()
            }
        }
    }

    /// Whether the row is in the metrics.
    pub fn counts(&self, prediction: &Prediction, label: &Label) -> bool {
        self.is_complete(prediction) && self.fits(label)
    }
}
