//! How well a model does, from rows whose labels are known, and how well it should do where they are not yet.
//!
//! `binary`, `regression` and `multiclass` gather the metrics of one kind of model under the keys of
//! docs/statistics.md; the other files hold one metric or family each, as functions of counts, scores or errors.
//! `confidence_based` estimates the metrics of a classifier without labels, by `isotonic` calibration, and `direct_loss`
//! those of a model that predicts a number; `calibration_shift` tests, once labels are there, whether scores still mean
//! what they meant. `profile` is what the service keeps of a window, and the metrics computed from it. To add a metric: a
//! file (or a function beside its family), its source and a small known case, a line where its kind of model is
//! gathered, and a row in docs/statistics.md.

pub mod binary;
pub mod calibration_error;
pub mod calibration_shift;
pub mod confidence_based;
pub mod confusion;
pub mod difference;
pub mod direct_loss;
pub mod error;
pub mod intervals;
pub mod isotonic;
pub mod multiclass;
pub mod precision_recall;
pub mod probability;
pub mod profile;
pub mod ranking;
pub mod regression;
pub mod roc;
pub mod score_groups;

/// Under this name performance stands among the features of aggregates, results and reports.
pub const PERFORMANCE_FEATURE: &str = "_performance";

/// `numerator / denominator`; `None` where there is nothing to divide by.
fn ratio(numerator: f64, denominator: f64) -> Option<f64> {
    (denominator != 0.0).then(|| numerator / denominator)
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}
