//! The metrics of a binary model from its rows by score: values, what coarse scores hide, 95% intervals.

use super::binary::{cell, confusion};
use super::value_counts::Group;
use crate::stats::metric::MetricValue;
use crate::stats::performance::calibration_error::WidthBins;
use crate::stats::performance::confusion::Confusion;
use crate::stats::performance::intervals::{
    difference_interval, of_f1, of_matthews_correlation, of_mean, share_with_variance, wilson, within,
};
use crate::stats::performance::precision_recall::{average_precision, average_precision_variance};
use crate::stats::performance::probability::row_loss;
use crate::stats::performance::roc::{gini, roc_auc, roc_auc_variance, score_distance};
use crate::stats::performance::score_groups::{ScoreGroup, totals};

pub(super) type Named = Vec<(&'static str, MetricValue)>;

fn value(value: Option<f64>) -> MetricValue {
    value.map_or(MetricValue::undefined(), MetricValue::exact)
}

/// Of the table of counts.
pub(super) fn of_table(table: &Confusion) -> Named {
    let Confusion { true_positives: tp, false_positives: fp, false_negatives: r#fn, true_negatives: tn } = *table;
    let rows = table.rows();
    let share = |part: f64, whole: f64, defined: Option<f64>| value(defined).with_interval(wilson(part, whole));
    let balanced = table.balanced_accuracy();
    let balanced_interval = balanced.zip(table.recall().zip(table.specificity())).and_then(|(mean, (hit, miss))| {
        let (positives, negatives) = (tp + r#fn, tn + fp);
        let variance = (hit * (1.0 - hit) / positives + miss * (1.0 - miss) / negatives) / 4.0;
        share_with_variance(mean, variance, positives.min(negatives))
    });
    let correlation = MetricValue::exact(table.matthews_correlation());
    vec![
        ("tp", MetricValue::exact(tp)),
        ("fp", MetricValue::exact(fp)),
        ("fn", MetricValue::exact(r#fn)),
        ("tn", MetricValue::exact(tn)),
        ("accuracy", share(tp + tn, rows, table.accuracy())),
        ("precision", share(tp, tp + fp, table.precision())),
        ("recall", share(tp, tp + r#fn, table.recall())),
        ("specificity", share(tn, tn + fp, table.specificity())),
        ("f1", value(table.f1()).with_interval(of_f1(table))),
        ("balanced_accuracy", value(balanced).with_interval(balanced_interval)),
        ("mcc", correlation.with_interval(of_matthews_correlation(table))),
        ("prevalence", share(tp + r#fn, rows, table.prevalence())),
        ("positive_rate", share(tp + fp, rows, table.positive_rate())),
    ]
}

/// Were scores positive from `threshold` up.
pub(super) fn at_threshold(groups: &[Group<4>], threshold: f64) -> Named {
    let mut sure = [0; 4];
    let mut parted = [0, 0];
    let mut middle = sure;
    for group in groups {
        let of_label = |label| group.counts[cell(label, 0)] + group.counts[cell(label, 1)];
        for label in [0, 1] {
            middle[cell(label, u32::from(group.value() >= threshold))] += of_label(label);
            if group.least < threshold && group.most >= threshold {
                parted[label as usize] += of_label(label);
            } else {
                sure[cell(label, u32::from(group.least >= threshold))] += of_label(label);
            }
        }
    }
    let metrics = of_table(&confusion(middle));
    if parted == [0, 0] {
        return metrics;
    }
    // The rows of the group around the threshold may lie on either side of it, each class by itself: the metrics are
    // most extreme where all of a class do.
    let corners: Vec<Named> = [(0, 0), (0, 1), (1, 0), (1, 1)]
        .iter()
        .map(|(negative, positive)| {
            let mut cells = sure;
            cells[cell(0, *negative)] += parted[0];
            cells[cell(1, *positive)] += parted[1];
            of_table(&confusion(cells))
        })
        .collect();
    let bounded = metrics.into_iter().enumerate().map(|(at, (name, metric))| {
        let values: Option<Vec<f64>> = corners.iter().map(|corner| corner[at].1.value).collect();
        let interval = metric.interval;
        let metric = match metric.value.zip(values) {
            Some((value, values)) => {
                let least = values.iter().copied().fold(value, f64::min);
                MetricValue::within(value, least, values.into_iter().fold(value, f64::max))
            }
            None => MetricValue::undefined(),
        };
        (name, metric.with_interval(interval))
    });
    bounded.collect()
}

/// Of the scores.
pub(super) fn of_scores(groups: &[Group<4>]) -> Named {
    let by_label: Vec<ScoredRows> = groups.iter().map(ScoredRows::of).collect();
    let descending: Vec<ScoreGroup> =
        by_label.iter().rev().map(|rows| ScoreGroup { positive: rows.positive, negative: rows.negative }).collect();
    let mut metrics = ranking(&by_label, &descending);
    metrics.extend([
        ("mean_score", mean_over_rows(&by_label, |score, _| score)),
        ("log_loss", mean_over_rows(&by_label, |score, positive| row_loss(positive, score))),
        ("brier", mean_over_rows(&by_label, |score, positive| (score - f64::from(u8::from(positive))).powi(2))),
        ("ece", calibration_error(&by_label)),
    ]);
    metrics
}

/// Rows whose score lies in [least, most].
struct ScoredRows {
    least: f64,
    most: f64,
    score: f64,
    positive: f64,
    negative: f64,
}

impl ScoredRows {
    fn of(group: &Group<4>) -> Self {
        Self {
            least: group.least,
            most: group.most,
            score: group.value(),
            positive: (group.counts[cell(1, 0)] + group.counts[cell(1, 1)]) as f64,
            negative: (group.counts[cell(0, 0)] + group.counts[cell(0, 1)]) as f64,
        }
    }

    fn is_coarse(&self) -> bool {
        self.least < self.most
    }
}

fn ranking(rows: &[ScoredRows], descending: &[ScoreGroup]) -> Named {
    let (positives, negatives) = totals(descending);
    // Pairs in one coarse group may be in either order.
    let pairs: f64 = rows.iter().filter(|rows| rows.is_coarse()).map(|rows| rows.positive * rows.negative).sum();
    let area = roc_auc(descending);
    let unknown = if pairs > 0.0 { pairs / 2.0 / (positives * negatives) } else { 0.0 };
    let area_interval = area
        .zip(roc_auc_variance(descending))
        .and_then(|(area, variance)| share_with_variance(area, variance, positives.min(negatives)));
    let precision = average_precision(descending);
    let precision_interval = precision
        .zip(average_precision_variance(descending))
        .and_then(|(area, variance)| share_with_variance(area, variance, positives));
    let bounded = |value: Option<f64>, unknown: f64| {
        value.map_or(MetricValue::undefined(), |value| MetricValue::within(value, value - unknown, value + unknown))
    };
    let precision = match (precision, extreme_average_precision(rows, positives)) {
        (Some(value), [least, most]) => MetricValue::within(value, least, most),
        (None, _) => MetricValue::undefined(),
    };
    vec![
        ("roc_auc", bounded(area, unknown).with_interval(area_interval)),
        ("gini", bounded(area.map(gini), 2.0 * unknown).with_interval(area_interval.map(|ends| ends.map(gini)))),
        ("pr_auc", precision.with_interval(precision_interval)),
        ("ks_score", score_distance_metric(rows, descending)),
    ]
}

/// Least and largest average precision of all orders of the rows in each coarse group: all negatives first, each
/// positive then counted with the precision of the first; all positives first.
fn extreme_average_precision(rows: &[ScoredRows], positives: f64) -> [f64; 2] {
    let (mut positive, mut total) = (0.0, 0.0);
    let [mut least, mut most] = [0.0, 0.0];
    for group in rows.iter().rev().filter(|group| group.positive + group.negative > 0.0) {
        let gained = group.positive / positives;
        let tied = (positive + group.positive) / (total + group.positive + group.negative);
        if group.is_coarse() && group.positive > 0.0 {
            least += gained * ((positive + 1.0) / (total + group.negative + 1.0)).min(tied);
            most += gained * (positive + group.positive) / (total + group.positive);
        } else {
            least += gained * tied;
            most += gained * tied;
        }
        positive += group.positive;
        total += group.positive + group.negative;
    }
    [least, most]
}

fn score_distance_metric(rows: &[ScoredRows], descending: &[ScoreGroup]) -> MetricValue {
    let Some(distance) = score_distance(descending) else { return MetricValue::undefined() };
    let (positives, negatives) = totals(descending);
    let (mut positive, mut negative) = (0.0, 0.0);
    // Where the distance is largest, and how large it may be inside coarse groups.
    let (mut at, mut most) = ((0.0, 0.0), distance);
    for group in rows.iter().rev() {
        if group.is_coarse() {
            let before: f64 = positive / positives - negative / negatives;
            most = most.max(before + group.positive / positives).max(group.negative / negatives - before);
        }
        positive += group.positive;
        negative += group.negative;
        let further: f64 = positive / positives - negative / negatives;
        if further.abs() >= distance {
            at = (positive, negative);
        }
    }
    let shares = [(at.0, positives), (at.1, negatives)].map(|(part, whole)| (part / whole, wilson(part, whole)));
    let interval = match shares {
        [(hits, Some(hit_ends)), (alarms, Some(alarm_ends))] => {
            let (high, low) = ((hits, hit_ends), (alarms, alarm_ends));
            let ends = if hits >= alarms { difference_interval(high, low) } else { difference_interval(low, high) };
            within(Some(ends), 0.0, 1.0)
        }
        _ => None,
    };
    MetricValue::within(distance, distance, most).with_interval(interval)
}

/// Mean of a function of score and label, its bound over the scores of coarse groups, and the interval of a mean. The
/// function is monotone or convex in the score with its least value at 0 or 1.
fn mean_over_rows(rows: &[ScoredRows], loss: impl Fn(f64, bool) -> f64) -> MetricValue {
    let [mut sum, mut squares, mut least, mut most, mut count] = [0.0; 5];
    for group in rows {
        for (positive, weight) in [(true, group.positive), (false, group.negative)] {
            if weight == 0.0 {
                continue;
            }
            let at_value = loss(group.score, positive);
            let ends = [loss(group.least, positive), loss(group.most, positive)];
            let label = f64::from(u8::from(positive));
            let lowest = if group.least < label && label < group.most { loss(label, positive) } else { f64::INFINITY };
            sum += weight * at_value;
            squares += weight * at_value * at_value;
            least += weight * ends[0].min(ends[1]).min(lowest).min(at_value);
            most += weight * ends[0].max(ends[1]).max(at_value);
            count += weight;
        }
    }
    let mean = sum / count;
    let variance = (squares - count * mean * mean) / (count - 1.0);
    MetricValue::within(mean, least / count, most / count).with_interval(of_mean(mean, variance, count))
}

fn calibration_error(rows: &[ScoredRows]) -> MetricValue {
    let mut bins = WidthBins::default();
    let (mut unknown, mut count) = (0.0, 0.0);
    for group in rows {
        bins.add(group.score, group.positive, group.negative);
        let weight = group.positive + group.negative;
        count += weight;
        if WidthBins::bin_of(group.least) == WidthBins::bin_of(group.most) {
            unknown += weight * (group.most - group.score).max(group.score - group.least);
        } else {
            // A row in another bin takes at most |label - score| from one and gives it to the other.
            let furthest = group.least.abs().max(group.most.abs()).max((1.0 - group.least).abs());
            unknown += weight * 2.0 * furthest;
        }
    }
    let error = bins.error();
    let unknown = unknown / count;
    MetricValue::within(error, (error - unknown).max(0.0), error + unknown).with_interval(bins.error_interval())
}
