//! Confidence-based performance estimation (CBPE): what a classifier's metrics should be, before labels come.
//!
//! The score is calibrated on the reference, where labels are known; a calibrated score is the chance that a row is a
//! positive, so that every count is known in expectation (Guo and others, On calibration of modern neural networks,
//! 2017, for the calibration; NannyML for the estimate). It holds while the scores keep their meaning: it sees that the
//! inputs have moved to where the model is unsure, and cannot see that the same inputs have got other labels.
//!
//! The score is always calibrated; NannyML does so only where ten random splits find that it helps.
//!
//! `binary` estimates from counts of scores and says how far off the estimate may be, `multiclass` from sums of the
//! rows' chances, `band` holds what the two share; [`estimate_performance`] is the estimate row by row. To estimate
//! another metric of a binary model: a line in `binary::estimates` with its value, its derivatives and, for counts of
//! coarse scores, its ends.

pub mod band;
pub mod binary;
pub mod multiclass;

use super::isotonic::Isotonic;
use crate::stats::rows::numeric::Metrics;
use binary::ScoreCell;

/// Estimates from scores and predictions, row by row; labels are not asked for. Without rows nothing is given. As in
/// the definition, what has no denominator is 0 here.
pub fn estimate_performance(calibration: &Isotonic, scores: &[f64], predicted: &[bool]) -> Metrics {
    let rows = scores.iter().zip(predicted);
    let cells = rows.map(|(score, predicted)| ScoreCell {
        low: *score,
        high: *score,
        predicted_negative: u64::from(!predicted),
        predicted_positive: u64::from(*predicted),
    });
    let estimates = binary::estimates(calibration, cells.collect());
    estimates.into_iter().map(|(name, estimate)| (name, estimate.value)).collect()
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
