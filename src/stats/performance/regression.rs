//! All metrics of a model that predicts a number, under the keys of docs/statistics.md.

use super::mean;
use crate::stats::rows::numeric::{Metrics, put};

/// Labels smaller than this are taken for it when errors are divided by them (scikit-learn's bound).
const LEAST_LABEL: f64 = f64::EPSILON;

/// Every metric. `labels` and `predictions` are finite and row by row; without rows only `n` is given.
pub fn regression_performance(labels: &[f64], predictions: &[f64]) -> Metrics {
    let mut metrics: Metrics = vec![("n", Some(labels.len() as f64))];
    if labels.is_empty() {
        return metrics;
    }
    let errors: Vec<f64> = predictions.iter().zip(labels).map(|(prediction, label)| prediction - label).collect();
    let squared = mean(errors.iter().map(|error| error * error));
    put(&mut metrics, "mae", mean(errors.iter().map(|error| error.abs())));
    put(&mut metrics, "mse", squared);
    put(&mut metrics, "rmse", squared.sqrt());
    let shares = errors.iter().zip(labels).map(|(error, label)| error.abs() / label.abs().max(LEAST_LABEL));
    put(&mut metrics, "mape", mean(shares));
    metrics.push(("r2", determination(labels, &errors)));
    put(&mut metrics, "bias", mean(errors.iter().copied()));
    put(&mut metrics, "medae", median_absolute(&errors));
    put(&mut metrics, "max_error", errors.iter().map(|error| error.abs()).fold(0.0, f64::max));
    if let Some(logarithmic) = mean_squared_logarithmic(labels, predictions) {
        put(&mut metrics, "msle", logarithmic);
        put(&mut metrics, "rmsle", logarithmic.sqrt());
    }
    metrics
}

/// Share of the labels' variance that the predictions explain, at most 1. Labels that are all equal have none: 1 where
/// every prediction is right, else 0. `None` for a single row.
fn determination(labels: &[f64], errors: &[f64]) -> Option<f64> {
    if labels.len() < 2 {
        return None;
    }
    let centre = mean(labels.iter().copied());
    let unexplained: f64 = errors.iter().map(|error| error * error).sum();
    let total: f64 = labels.iter().map(|label| (label - centre).powi(2)).sum();
    Some(match (total == 0.0, unexplained == 0.0) {
        (false, _) => 1.0 - unexplained / total,
        (true, true) => 1.0,
        (true, false) => 0.0,
    })
}

fn median_absolute(errors: &[f64]) -> f64 {
    let mut sizes: Vec<f64> = errors.iter().map(|error| error.abs()).collect();
    sizes.sort_by(f64::total_cmp);
    let middle = sizes.len() / 2;
    if sizes.len().is_multiple_of(2) { (sizes[middle - 1] + sizes[middle]) / 2.0 } else { sizes[middle] }
}

/// Mean squared difference of ln(1 + value); `None` unless all labels and predictions are above -1.
fn mean_squared_logarithmic(labels: &[f64], predictions: &[f64]) -> Option<f64> {
    if labels.iter().chain(predictions).any(|value| *value <= -1.0) {
        return None;
    }
    Some(mean(labels.iter().zip(predictions).map(|(label, prediction)| (prediction.ln_1p() - label.ln_1p()).powi(2))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(metrics: &Metrics, key: &str) -> Option<f64> {
        metrics.iter().find(|(name, _)| *name == key).unwrap_or_else(|| panic!("no {key}")).1
    }

    #[test]
    fn equals_scikit_learn() {
        let metrics = regression_performance(&[3.0, -0.5, 2.0, 7.0], &[2.5, 0.0, 2.0, 8.0]);
        for (key, expected) in [
            ("mae", 0.5),
            ("rmse", 0.6123724356957945),
            ("mape", 0.3273809523809524),
            ("r2", 0.9486081370449679),
            ("bias", 0.25),
            ("medae", 0.5),
            ("max_error", 1.0),
            ("rmsle", 0.3578255476565636),
        ] {
            let ours = value(&metrics, key).unwrap();
            assert!((ours - expected).abs() < 1e-12, "{key}: {ours} instead of {expected}");
        }
    }

    #[test]
    fn equal_labels_are_explained_wholly_or_not_at_all() {
        assert_eq!(value(&regression_performance(&[2.0; 3], &[2.0, 2.1, 1.9]), "r2"), Some(0.0));
        assert_eq!(value(&regression_performance(&[2.0; 3], &[2.0; 3]), "r2"), Some(1.0));
        assert_eq!(value(&regression_performance(&[5.0], &[4.0]), "r2"), None);
    }

    #[test]
    fn logarithms_need_values_above_minus_one() {
        let metrics = regression_performance(&[-1.0, 2.0], &[1.0, 1.0]);
        assert!(metrics.iter().all(|(key, _)| *key != "msle"));
    }
}
