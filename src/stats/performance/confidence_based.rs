//! Confidence-based performance estimation (CBPE): what a binary model's metrics should be, before labels come.
//!
//! The score is calibrated on the reference, where labels are known; a calibrated score is the chance that a row is a
//! positive, so that every count is known in expectation (Guo and others, On calibration of modern neural networks,
//! 2017, for the calibration; NannyML for the estimate). It holds while the scores keep their meaning: it sees that the
//! inputs have moved to where the model is unsure, and cannot see that the same inputs have got other labels.
//!
//! The score is always calibrated; NannyML does so only where ten random splits find that it helps.

use super::confusion::Confusion;
use super::isotonic::Isotonic;
use super::precision_recall::average_precision;
use super::roc::roc_auc;
use super::score_groups::score_groups;
use crate::stats::rows::numeric::Metrics;

/// Estimates from scores and predictions, row by row; labels are not asked for. Without rows nothing is given. As in
/// the definition, what has no denominator is 0 here.
pub fn estimate_performance(calibration: &Isotonic, scores: &[f64], predicted: &[bool]) -> Metrics {
    if scores.is_empty() {
        return Vec::new();
    }
    let chances: Vec<f64> = scores.iter().map(|score| calibration.at(*score)).collect();
    let mut table = Confusion::default();
    for (predicted, chance) in predicted.iter().zip(&chances) {
        table.add(*predicted, *chance);
    }
    // In the order of the raw score: calibration makes ties of what the model tells apart.
    let groups = score_groups(scores, &chances);
    let or_zero = |value: Option<f64>| Some(value.unwrap_or(0.0));
    vec![
        ("est_accuracy", table.accuracy()),
        ("est_precision", or_zero(table.precision())),
        ("est_recall", or_zero(table.recall())),
        ("est_f1", or_zero(table.f1())),
        ("est_specificity", or_zero(table.specificity())),
        ("est_roc_auc", roc_auc(&groups)),
        ("est_pr_auc", average_precision(&groups)),
        ("exp_tp", Some(table.true_positives)),
        ("exp_fp", Some(table.false_positives)),
        ("exp_fn", Some(table.false_negatives)),
        ("exp_tn", Some(table.true_negatives)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expected_counts_are_sums_of_chances() {
        let calibration = Isotonic::fit(&[0.0, 1.0], &[false, true]).unwrap();
        let estimate = estimate_performance(&calibration, &[0.25, 0.75], &[false, true]);
        let value = |key: &str| estimate.iter().find(|(name, _)| *name == key).unwrap().1.unwrap();
        for (key, expected) in [
            ("exp_tp", 0.75),
            ("exp_fp", 0.25),
            ("exp_fn", 0.25),
            ("exp_tn", 0.75),
            ("est_accuracy", 0.75),
            // both orders of the two rows: right 0.75 * 0.75, wrong 0.25 * 0.25, a row against itself half
            ("est_roc_auc", 0.75 * 0.75 + 0.25 * 0.75 / 2.0 * 2.0),
        ] {
            assert!((value(key) - expected).abs() < 1e-15, "{key}: {} instead of {expected}", value(key));
        }
    }
}
