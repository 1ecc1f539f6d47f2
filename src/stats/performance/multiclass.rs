//! All metrics of a model with several classes, under the keys of docs/statistics.md.

use super::mean;
use super::probability::log_probability;
use super::roc::roc_auc;
use super::score_groups::score_groups;
use crate::stats::rows::numeric::{Metrics, put};

/// Rows with nothing missing, in file order. Classes are positions in a sorted list of `classes` names; a label or
/// prediction that is none of them has a position beyond.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MulticlassRows {
    pub classes: usize,
    pub labels: Vec<usize>,
    pub predictions: Vec<usize>,
    /// By class, a score for each row; empty where the model gives classes only.
    pub scores: Vec<Vec<f64>>,
}

/// Rows of one class.
#[derive(Debug, Clone, Copy, Default)]
struct ClassCounts {
    right: u64,
    predicted: u64,
    labelled: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Scores {
    precision: f64,
    recall: f64,
    f1: f64,
}

impl ClassCounts {
    /// 0 where there is nothing to divide by.
    fn scores(self) -> Scores {
        let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        Scores {
            precision: share(self.right, self.predicted),
            recall: share(self.right, self.labelled),
            f1: share(2 * self.right, self.predicted + self.labelled),
        }
    }
}

/// Every metric that the columns allow. Without rows only `n` is given.
pub fn multiclass_performance(rows: &MulticlassRows) -> Metrics {
    let mut metrics: Metrics = vec![("n", Some(rows.labels.len() as f64))];
    if rows.labels.is_empty() {
        return metrics;
    }
    if !rows.predictions.is_empty() {
        of_classes(rows, &mut metrics);
    }
    if !rows.scores.is_empty() {
        put(&mut metrics, "log_loss", log_loss(rows));
        if let Some(area) = mean_area(rows) {
            put(&mut metrics, "roc_auc_ovr_macro", area);
        }
    }
    metrics
}

fn of_classes(rows: &MulticlassRows, metrics: &mut Metrics) {
    let mut counts = vec![ClassCounts::default(); rows.classes];
    let mut right = 0_u64;
    for (label, prediction) in rows.labels.iter().zip(&rows.predictions) {
        right += u64::from(label == prediction);
        if let Some(class) = counts.get_mut(*label) {
            class.labelled += 1;
            class.right += u64::from(label == prediction);
        }
        if let Some(class) = counts.get_mut(*prediction) {
            class.predicted += 1;
        }
    }
    put(metrics, "accuracy", right as f64 / rows.labels.len() as f64);
    let all = counts.iter().fold(ClassCounts::default(), |all, class| ClassCounts {
        right: all.right + class.right,
        predicted: all.predicted + class.predicted,
        labelled: all.labelled + class.labelled,
    });
    let weighted = |weight: fn(ClassCounts) -> f64| {
        let total: f64 = counts.iter().map(|class| weight(*class)).sum();
        let sum = |part: fn(Scores) -> f64| {
            let parts = counts.iter().map(|class| weight(*class) * part(class.scores()));
            if total == 0.0 { 0.0 } else { parts.sum::<f64>() / total }
        };
        Scores { precision: sum(|s| s.precision), recall: sum(|s| s.recall), f1: sum(|s| s.f1) }
    };
    let macro_average = weighted(|_| 1.0);
    let by_support = weighted(|class| class.labelled as f64);
    let micro_average = all.scores();
    for (keys, average) in [
        (["precision_macro", "recall_macro", "f1_macro"], macro_average),
        (["precision_weighted", "recall_weighted", "f1_weighted"], by_support),
        (["precision_micro", "recall_micro", "f1_micro"], micro_average),
    ] {
        let [precision, recall, f1] = keys;
        put(metrics, precision, average.precision);
        put(metrics, recall, average.recall);
        put(metrics, f1, average.f1);
    }
}

/// Mean of -ln of the score given to the label; a row whose label has no score costs nothing known and is left out.
fn log_loss(rows: &MulticlassRows) -> f64 {
    let losses: Vec<f64> = (rows.labels.iter().enumerate())
        .filter_map(|(row, label)| Some(-log_probability(*rows.scores.get(*label)?.get(row)?)))
        .collect();
    mean(losses.into_iter())
}

/// Mean over the classes of the area under the curve of each against the rest; `None` unless every class is among the
/// labels.
fn mean_area(rows: &MulticlassRows) -> Option<f64> {
    let areas: Option<Vec<f64>> = (rows.scores.iter().enumerate())
        .map(|(class, scores)| {
            let weights: Vec<f64> = rows.labels.iter().map(|label| f64::from(u8::from(*label == class))).collect();
            roc_auc(&score_groups(scores, &weights))
        })
        .collect();
    areas.map(|areas| mean(areas.into_iter()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(metrics: &Metrics, key: &str) -> Option<f64> {
        metrics.iter().find(|(name, _)| *name == key).unwrap_or_else(|| panic!("no {key}")).1
    }

    #[test]
    fn averages_weigh_classes_alike_or_by_their_rows() {
        // class 0: two rows, one found; class 1: one row, found, and predicted twice; class 2: never
        let rows = MulticlassRows { classes: 3, labels: vec![0, 0, 1], predictions: vec![0, 1, 1], scores: Vec::new() };
        let metrics = multiclass_performance(&rows);
        for (key, expected) in [
            ("accuracy", 2.0 / 3.0),
            ("precision_macro", 0.5),
            ("recall_macro", 0.5),
            ("precision_weighted", 5.0 / 6.0),
            ("recall_weighted", 2.0 / 3.0),
            ("f1_micro", 2.0 / 3.0),
        ] {
            let ours = value(&metrics, key).unwrap();
            assert!((ours - expected).abs() < 1e-15, "{key}: {ours} instead of {expected}");
        }
    }

    #[test]
    fn a_class_without_rows_has_no_area() {
        let scores = vec![vec![0.8, 0.2], vec![0.1, 0.7], vec![0.1, 0.1]];
        let rows = MulticlassRows { classes: 3, labels: vec![0, 1], predictions: Vec::new(), scores };
        let metrics = multiclass_performance(&rows);
        assert!(metrics.iter().all(|(key, _)| *key != "roc_auc_ovr_macro"));
        let expected = -(0.8_f64.ln() + 0.7_f64.ln()) / 2.0;
        assert!((value(&metrics, "log_loss").unwrap() - expected).abs() < 1e-15);
    }
}
