//! All metrics of a binary model, under the keys of docs/statistics.md.

use super::calibration_error;
use super::confusion::Confusion;
use super::mean;
use super::precision_recall::{average_precision, trapezoidal_area};
use super::probability::{brier_score, log_loss};
use super::roc::{gini, roc_auc, score_distance};
use super::score_groups::score_groups;
use crate::stats::rows::numeric::{Metrics, put};

/// Rows with nothing missing, in file order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BinaryRows {
    pub positive: Vec<bool>,
    /// Empty where the model gives scores only.
    pub predicted: Vec<bool>,
    /// Empty where the model gives classes only. Finite.
    pub scores: Vec<f64>,
}

/// Every metric that the columns allow. Without rows only `n` is given.
pub fn binary_performance(rows: &BinaryRows) -> Metrics {
    let mut metrics: Metrics = vec![("n", Some(rows.positive.len() as f64))];
    if rows.positive.is_empty() {
        return metrics;
    }
    if !rows.predicted.is_empty() {
        of_classes(rows, &mut metrics);
    }
    if !rows.scores.is_empty() {
        of_scores(rows, &mut metrics);
    }
    metrics
}

fn of_classes(rows: &BinaryRows, metrics: &mut Metrics) {
    let mut table = Confusion::default();
    for (positive, predicted) in rows.positive.iter().zip(&rows.predicted) {
        table.add(*predicted, f64::from(u8::from(*positive)));
    }
    metrics.extend([
        ("tp", Some(table.true_positives)),
        ("fp", Some(table.false_positives)),
        ("fn", Some(table.false_negatives)),
        ("tn", Some(table.true_negatives)),
        ("accuracy", table.accuracy()),
        ("precision", table.precision()),
        ("recall", table.recall()),
        ("specificity", table.specificity()),
        ("f1", table.f1()),
        ("balanced_accuracy", table.balanced_accuracy()),
        ("mcc", Some(table.matthews_correlation())),
        ("prevalence", table.prevalence()),
        ("positive_rate", table.positive_rate()),
    ]);
}

fn of_scores(rows: &BinaryRows, metrics: &mut Metrics) {
    let (positive, scores) = (&rows.positive, &rows.scores);
    let weights: Vec<f64> = positive.iter().map(|positive| f64::from(u8::from(*positive))).collect();
    let groups = score_groups(scores, &weights);
    let area = roc_auc(&groups);
    put(metrics, "mean_score", mean(scores.iter().copied()));
    metrics.extend([
        ("roc_auc", area),
        ("pr_auc", average_precision(&groups)),
        ("pr_auc_trapz", trapezoidal_area(&groups)),
    ]);
    put(metrics, "log_loss", log_loss(positive, scores));
    put(metrics, "brier", brier_score(positive, scores));
    put(metrics, "ece_w10", calibration_error::by_width(positive, scores));
    metrics.push(("ece_c10", calibration_error::by_count(positive, scores)));
    if let (Some(area), Some(distance)) = (area, score_distance(&groups)) {
        put(metrics, "ks_score", distance);
        put(metrics, "gini", gini(area));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(metrics: &Metrics, key: &str) -> Option<f64> {
        metrics.iter().find(|(name, _)| *name == key).unwrap_or_else(|| panic!("no {key}")).1
    }

    #[test]
    fn one_class_leaves_ranking_undefined() {
        let rows =
            BinaryRows { positive: vec![true; 3], predicted: vec![true, false, true], scores: vec![0.9, 0.4, 0.7] };
        let metrics = binary_performance(&rows);
        for (key, expected) in [("specificity", None), ("roc_auc", None), ("pr_auc", Some(1.0)), ("pr_auc_trapz", None)]
        {
            assert_eq!(value(&metrics, key), expected, "{key}");
        }
        assert!(metrics.iter().all(|(key, _)| *key != "ks_score"));
    }

    #[test]
    fn without_rows_there_is_only_their_number() {
        assert_eq!(binary_performance(&BinaryRows::default()), [("n", Some(0.0))]);
    }

    #[test]
    fn scores_alone_have_no_table() {
        let rows = BinaryRows { positive: vec![true, false], predicted: Vec::new(), scores: vec![0.9, 0.2] };
        let metrics = binary_performance(&rows);
        assert_eq!(value(&metrics, "roc_auc"), Some(1.0));
        assert!(metrics.iter().all(|(key, _)| *key != "accuracy"));
    }
}
