//! The metrics of a model with several classes, from its table of counts and from the scores of each class.
//!
//! Intervals of averages over classes are those of a share with the variance that the delta method gives: the sum over
//! rows of the square of what one more row like it would change.

use std::collections::BTreeMap;

use super::binary_metrics::Named;
use super::value_counts::Group;
use crate::stats::metric::MetricValue;
use crate::stats::performance::intervals::{share_with_variance, wilson};
use crate::stats::performance::roc::{roc_auc, roc_auc_variance};
use crate::stats::performance::score_groups::{ScoreGroup, totals};

/// Rows by label and predicted class; positions from `classes` on are unknown classes.
type Table = BTreeMap<(u32, u32), u64>;

#[derive(Debug, Clone, Copy, Default)]
struct Class {
    right: f64,
    predicted: f64,
    labelled: f64,
}

/// 0 where there is nothing to divide by.
fn share(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}

impl Class {
    /// Precision, recall and f1, each with what it is divided by.
    fn scores(self) -> [(f64, f64); 3] {
        let both = self.predicted + self.labelled;
        [
            (share(self.right, self.predicted), self.predicted),
            (share(self.right, self.labelled), self.labelled),
            (share(2.0 * self.right, both), both),
        ]
    }
}

const MACRO: [&str; 3] = ["precision_macro", "recall_macro", "f1_macro"];
const WEIGHTED: [&str; 3] = ["precision_weighted", "recall_weighted", "f1_weighted"];
const MICRO: [&str; 3] = ["precision_micro", "recall_micro", "f1_micro"];

/// Accuracy and the averages of precision, recall and f1 over `known` classes.
pub(super) fn of_table(table: &Table, known: usize) -> Named {
    let mut classes = vec![Class::default(); known];
    let (mut rows, mut right) = (0.0, 0.0);
    for ((label, predicted), count) in table {
        let count = *count as f64;
        rows += count;
        right += if label == predicted { count } else { 0.0 };
        if let Some(class) = classes.get_mut(*label as usize) {
            class.labelled += count;
            class.right += if label == predicted { count } else { 0.0 };
        }
        if let Some(class) = classes.get_mut(*predicted as usize) {
            class.predicted += count;
        }
    }
    let mut metrics = vec![("accuracy", MetricValue::exact(right / rows).with_interval(wilson(right, rows)))];
    let labelled: f64 = classes.iter().map(|class| class.labelled).sum();
    let alike = vec![1.0 / known as f64; known];
    let by_rows: Vec<f64> = classes.iter().map(|class| share(class.labelled, labelled)).collect();
    for (names, weights, total) in [(MACRO, alike, None), (WEIGHTED, by_rows, Some(labelled))] {
        let averages = averages(table, &classes, &weights, total);
        metrics.extend(names.into_iter().zip(averages).map(|(name, (value, variance))| {
            (name, MetricValue::exact(value).with_interval(share_with_variance(value, variance, rows)))
        }));
    }
    let all = classes.iter().fold(Class::default(), |all, class| Class {
        right: all.right + class.right,
        predicted: all.predicted + class.predicted,
        labelled: all.labelled + class.labelled,
    });
    let among = [all.predicted, all.labelled, (all.predicted + all.labelled) / 2.0];
    metrics.extend(
        MICRO.into_iter().zip(all.scores()).zip(among).map(|((name, (value, _)), among)| {
            (name, MetricValue::exact(value).with_interval(wilson(all.right, among)))
        }),
    );
    metrics
}

/// Precision, recall and f1 averaged with these weights, and the sampling variance of each. `total` is the number of
/// rows that the weights are shares of, where they come from the rows.
fn averages(table: &Table, classes: &[Class], weights: &[f64], total: Option<f64>) -> [(f64, f64); 3] {
    let scores: Vec<[(f64, f64); 3]> = classes.iter().map(|class| class.scores()).collect();
    let mut averages = [(0.0, 0.0); 3];
    for (kind, (average, _)) in averages.iter_mut().enumerate() {
        *average = scores.iter().zip(weights).map(|(scores, weight)| weight * scores[kind].0).sum();
    }
    for ((label, predicted), count) in table {
        let right = f64::from(u8::from(label == predicted));
        // What one more such row changes through the scores of a class, and through its weight.
        let through = |class: u32, kind: usize, gain: f64| {
            let (Some(scores), Some(weight)) = (scores.get(class as usize), weights.get(class as usize)) else {
                return 0.0;
            };
            let (score, whole) = scores[kind];
            share(weight * (gain - score), whole)
        };
        let mut changes = [
            through(*predicted, 0, right),
            through(*label, 1, right),
            // A right row is in both denominators of its class, and counts twice above.
            through(*predicted, 2, right) + through(*label, 2, right),
        ];
        if let (Some(total), Some(scores)) = (total, scores.get(*label as usize)) {
            for (kind, change) in changes.iter_mut().enumerate() {
                *change += share(scores[kind].0 - averages[kind].0, total);
            }
        }
        for (kind, (_, variance)) in averages.iter_mut().enumerate() {
            *variance += *count as f64 * changes[kind] * changes[kind];
        }
    }
    averages
}

/// Mean over the classes of the area under the curve of each against the rest, from rows by score of each class; `None`
/// unless every class is among the labels. Its interval takes the areas of all classes to err together, so it is wide
/// rather than narrow.
pub(super) fn mean_area(classes: &[Vec<Group<2>>]) -> Option<MetricValue> {
    let [mut sum, mut unknown, mut deviation] = [0.0; 3];
    let mut most_rows = f64::INFINITY;
    for groups in classes {
        let descending: Vec<ScoreGroup> = (groups.iter().rev())
            .map(|group| ScoreGroup { positive: group.counts[1] as f64, negative: group.counts[0] as f64 })
            .collect();
        let (positives, negatives) = totals(&descending);
        sum += roc_auc(&descending)?;
        let coarse = groups.iter().filter(|group| group.least < group.most);
        let pairs: f64 = coarse.map(|group| group.counts[0] as f64 * group.counts[1] as f64).sum();
        unknown += pairs / 2.0 / (positives * negatives);
        deviation += roc_auc_variance(&descending).map_or(f64::NAN, f64::sqrt);
        most_rows = most_rows.min(positives).min(negatives);
    }
    let count = classes.len() as f64;
    let (area, unknown, deviation) = (sum / count, unknown / count, deviation / count);
    let interval = if deviation.is_nan() { None } else { share_with_variance(area, deviation * deviation, most_rows) };
    Some(MetricValue::within(area, area - unknown, area + unknown).with_interval(interval))
}
