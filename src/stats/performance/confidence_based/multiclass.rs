//! Estimates of a model with several classes.
//!
//! One curve a class, fitted on that class against the rest; the chances of a row are their values at its scores,
//! divided by their sum, as in NannyML. Summed over the rows of each predicted class they are the expected confusion
//! matrix, of which precision, recall and F1 are read; summed over the rows of each score of a class they give the area
//! under its curve.
//!
//! The band takes the rows of one predicted class to have the chances of their mean. A row's own chances are surer
//! than that, so the band is wider than it need be.

use super::band::{self, Variance};
use super::binary::{ExpectedCell, expected_area};
use crate::stats::metric::MetricValue;
use crate::stats::performance::isotonic::Isotonic;
use crate::stats::performance::ratio;

/// The chance of each class, from a row's scores in the order of the curves; they sum to 1. Where the curves leave no
/// class any chance all have the same; `None` where a score is missing.
pub fn chances(calibrations: &[Isotonic], scores: &[f64]) -> Option<Vec<f64>> {
    if calibrations.is_empty() || scores.len() != calibrations.len() || scores.iter().any(|score| score.is_nan()) {
        return None;
    }
    let alone: Vec<f64> = calibrations.iter().zip(scores).map(|(curve, score)| curve.at(*score)).collect();
    let sum: f64 = alone.iter().sum();
    let even = 1.0 / alone.len() as f64;
    Some(alone.into_iter().map(|chance| if sum > 0.0 { chance / sum } else { even }).collect())
}

/// What is summed over rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExpectedConfusion {
    /// Rows by predicted class; beyond the known classes the last one holds predictions of unknown classes.
    pub predicted: Vec<u64>,
    /// By predicted class the sums of the chances of each class.
    pub expected: Vec<Vec<f64>>,
}

/// Metrics without labels by name, each with its 95% band. `reference_predicted` are the reference's labelled rows by
/// predicted class, `class_scores` the counts of each class's score, empty where there are none. Without rows nothing is given; what has no
/// denominator is 0.
pub fn estimates(
    sums: &ExpectedConfusion,
    reference_predicted: &[u64],
    calibrations: &[Isotonic],
    class_scores: Vec<Vec<ExpectedCell>>,
) -> Vec<(&'static str, MetricValue)> {
    let rows: u64 = sums.predicted.iter().sum();
    let classes = calibrations.len();
    if rows == 0 || classes == 0 || sums.expected.len() > sums.predicted.len() {
        return Vec::new();
    }
    let table = Table { sums, reference_predicted, classes };
    let labelled: Vec<f64> =
        (0..classes).map(|class| (0..sums.expected.len()).map(|row| table.at(row, class)).sum()).collect();
    let predicted = |class: usize| sums.predicted.get(class).map_or(0.0, |rows| *rows as f64);
    let part = |numerator: f64, denominator: f64| ratio(numerator, denominator).unwrap_or(0.0);
    let (rows, every) = (rows as f64, classes as f64);
    let hit = |row: usize, class: usize| if row == class { 1.0 } else { 0.0 };
    let mean = |of_class: &dyn Fn(usize) -> f64| (0..classes).map(of_class).sum::<f64>() / every;
    let both = |class: usize| predicted(class) + labelled[class];
    let mut estimates = vec![
        (
            "est_accuracy",
            table.share((0..classes).map(|class| table.at(class, class)).sum::<f64>() / rows, &|row, class| {
                hit(row, class) / rows
            }),
        ),
        (
            "est_precision_macro",
            table.share(mean(&|class| part(table.at(class, class), predicted(class))), &|row, class| {
                part(hit(row, class), predicted(class)) / every
            }),
        ),
        (
            "est_recall_macro",
            table.share(mean(&|class| part(table.at(class, class), labelled[class])), &|row, class| {
                let falls = part(table.at(class, class), labelled[class] * labelled[class]);
                (part(hit(row, class), labelled[class]) - falls) / every
            }),
        ),
        (
            "est_f1_macro",
            table.share(mean(&|class| part(2.0 * table.at(class, class), both(class))), &|row, class| {
                let falls = part(2.0 * table.at(class, class), both(class) * both(class));
                (part(2.0 * hit(row, class), both(class)) - falls) / every
            }),
        ),
    ];
    if class_scores.len() == classes {
        let areas = calibrations.iter().zip(class_scores).map(|(curve, cells)| expected_area(curve, cells));
        let area = areas.collect::<Option<Vec<_>>>().map(|areas| {
            let mean = |of: &dyn Fn(usize) -> f64| (0..areas.len()).map(of).sum::<f64>() / every;
            let ends = [0, 1].map(|end| mean(&|class| areas[class].ends[end]));
            // The classes' areas move together at most.
            let root = |of: fn(Variance) -> f64| mean(&|class| of(areas[class].variance).sqrt()).powi(2);
            let variance = Variance { sampling: root(|v| v.sampling), calibration: root(|v| v.calibration) };
            band::share(mean(&|class| areas[class].value), ends, variance)
        });
        estimates.push(("est_roc_auc_ovr_macro", area.unwrap_or_else(MetricValue::undefined)));
    }
    estimates
}

struct Table<'a> {
    sums: &'a ExpectedConfusion,
    reference_predicted: &'a [u64],
    classes: usize,
}

impl Table<'_> {
    fn at(&self, predicted: usize, class: usize) -> f64 {
        self.sums.expected.get(predicted).and_then(|row| row.get(class)).copied().unwrap_or(0.0)
    }

    /// A metric that moves by `slope(predicted class, class)` with each row expected there.
    fn share(&self, value: f64, slope: &dyn Fn(usize, usize) -> f64) -> MetricValue {
        let mut variance = Variance::default();
        for predicted in 0..self.sums.expected.len() {
            let rows = self.sums.predicted[predicted] as f64;
            if rows == 0.0 {
                continue;
            }
            let (mut mean, mut square) = (0.0, 0.0);
            for class in 0..self.classes {
                let (chance, slope) = (self.at(predicted, class) / rows, slope(predicted, class));
                mean += chance * slope;
                square += chance * slope * slope;
            }
            let of_row = (square - mean * mean).max(0.0);
            // Of a class that the reference never predicted nothing is known: as if one row had been seen.
            let of_reference = self.reference_predicted.get(predicted).map_or(1.0, |rows| (*rows as f64).max(1.0));
            variance.sampling += rows * of_row;
            variance.calibration += rows * rows * of_row / of_reference;
        }
        band::share(value, [value, value], variance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curves() -> Vec<Isotonic> {
        let part = |low: u64, high: u64| vec![(0.0, 0.0, 100, low), (1.0, 1.0, 100, high)];
        vec![part(0, 80), part(10, 60), part(0, 100)].into_iter().map(|p| Isotonic::from_parts(p).unwrap()).collect()
    }

    #[test]
    fn chances_sum_to_one_and_a_missing_score_leaves_none() {
        let found = chances(&curves(), &[1.0, 0.0, 0.0]).unwrap();
        assert_eq!(found, [0.8 / 0.9, 0.1 / 0.9, 0.0]);
        assert_eq!(chances(&curves(), &[1.0, f64::NAN, 0.0]), None);
        assert_eq!(chances(&curves(), &[1.0]), None);
        let never = Isotonic::from_parts(vec![(0.0, 1.0, 5, 0)]).unwrap();
        assert_eq!(chances(&[never.clone(), never], &[0.3, 0.4]), Some(vec![0.5, 0.5]));
    }

    #[test]
    fn metrics_are_read_from_the_expected_matrix() {
        let sums = ExpectedConfusion {
            predicted: vec![40, 60, 0],
            expected: vec![vec![30.0, 10.0, 0.0], vec![6.0, 54.0, 0.0], vec![0.0; 3]],
        };
        let estimates = estimates(&sums, &[4000, 6000, 0], &curves(), Vec::new());
        let value = |key: &str| estimates.iter().find(|(name, _)| *name == key).unwrap().1;
        for (key, expected) in [
            ("est_accuracy", 0.84),
            ("est_precision_macro", (0.75 + 0.9) / 3.0),
            ("est_recall_macro", (30.0 / 36.0 + 54.0 / 64.0) / 3.0),
            ("est_f1_macro", (60.0 / 76.0 + 108.0 / 124.0) / 3.0),
        ] {
            assert!((value(key).value.unwrap() - expected).abs() < 1e-12, "{key}: {:?} for {expected}", value(key));
        }
        let sd = ((40.0 * 0.75 * 0.25 + 60.0 * 0.09) * 1.01 / 1e4_f64).sqrt();
        let [low, high] = value("est_accuracy").interval.unwrap();
        assert!(((high - low) / 2.0 - band::NORMAL_95 * sd).abs() < 1e-12, "{low} {high}");
    }
}
