//! The values that the expected loss is learned from: features and prediction, row by row of the reference.

use std::collections::BTreeMap;

use datafusion::arrow::array::RecordBatch;

use crate::config::model::{Kind, Model, PREDICTION_SIGNAL};
use crate::reference::build::{ReferenceError, column_of, read_column};
use crate::reference::column;
use crate::stats::performance::direct_loss::{DirectLoss, Values};

enum Signal {
    /// NaN: missing.
    Numeric(Vec<f64>),
    Categorical(Vec<Option<String>>),
}

/// Learns from the features that are no vectors and the prediction; `errors` as [`DirectLoss::learn`] takes them.
pub(super) fn learn(
    model: &Model,
    columns: &BTreeMap<String, String>,
    batches: &[RecordBatch],
    errors: &[f64],
) -> Result<Option<DirectLoss>, ReferenceError> {
    let mut signals: Vec<(String, Signal)> = Vec::new();
    for signal in model.signals() {
        let is_input = model.features.contains_key(&signal.name) || signal.name == PREDICTION_SIGNAL;
        if !is_input || signal.kind == Kind::Vector {
            continue;
        }
        let column = column_of(&signal, columns, batches)?;
        let values = match signal.kind {
            Kind::Numeric => {
                let values = read_column(&signal, &column, batches, column::numbers)?;
                Signal::Numeric(values.into_iter().map(|value| value.unwrap_or(f64::NAN)).collect())
            }
            _ => Signal::Categorical(read_column(&signal, &column, batches, column::categories)?),
        };
        signals.push((signal.name, values));
    }
    let texts: Vec<Vec<Option<&str>>> = (signals.iter())
        .map(|(_, signal)| match signal {
            Signal::Categorical(values) => values.iter().map(Option::as_deref).collect(),
            Signal::Numeric(_) => Vec::new(),
        })
        .collect();
    let values: Vec<(&str, Values)> = (signals.iter().zip(&texts))
        .map(|((name, signal), texts)| match signal {
            Signal::Numeric(values) => (name.as_str(), Values::Numeric(values)),
            Signal::Categorical(_) => (name.as_str(), Values::Categorical(texts)),
        })
        .collect();
    Ok(DirectLoss::learn(&values, errors))
}
