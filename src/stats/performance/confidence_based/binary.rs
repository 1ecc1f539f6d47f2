//! Estimates of a binary model from counts of its scores.
//!
//! Each metric is a function of how many positives are among the rows of each score. Its estimate puts in their
//! expectation. Its band is the delta method on the same function: a row of chance c is a positive or not with variance
//! c (1 - c), independently of the others, and moves the metric by its derivative; a level stretch of the calibration
//! moves all rows that it covers together, with the variance of a share among the reference's rows there.
//!
//! Counts may be coarse: a cell then holds scores from `low` to `high`. The curve rises, so that the chances of a
//! cell's rows lie between those of its ends, and the metric between the values that these give.

use super::band::{self, Variance};
use crate::stats::metric::MetricValue;
use crate::stats::performance::isotonic::{Isotonic, Place};
use crate::stats::performance::ratio;

/// Rows of a score, or of a short stretch of scores, by what the model made of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoreCell {
    pub low: f64,
    /// `low` where the score is known.
    pub high: f64,
    pub predicted_negative: u64,
    pub predicted_positive: u64,
}

/// A cell and its chances.
struct Group {
    chance: f64,
    least: f64,
    most: f64,
    /// Predicted negative, predicted positive.
    rows: [f64; 2],
    place: Place,
    coarse: bool,
    /// Share of the pairs inside a cell that are in order, least and most: half of those of one score; in a cell whose
    /// chances rise with the score at least half; in one where that is not known, any.
    inside: [f64; 2],
}

impl Group {
    fn all_rows(&self) -> f64 {
        self.rows[0] + self.rows[1]
    }
}

/// Expected positives among the rows predicted positive and among those predicted negative.
#[derive(Debug, Clone, Copy, Default)]
struct Expected {
    true_positives: f64,
    false_negatives: f64,
}

/// By how much a metric moves with each expected positive among the rows predicted positive, and negative.
type Slopes = [f64; 2];

/// Metrics without labels by name: `est_*`, each with its 95% band, and the expected counts `exp_*`. Cells in any
/// order; a score may have several. Without rows nothing is given; what has no denominator is 0.
pub fn estimates(calibration: &Isotonic, mut cells: Vec<ScoreCell>) -> Vec<(&'static str, MetricValue)> {
    cells.retain(|cell| cell.predicted_negative + cell.predicted_positive > 0);
    let groups = groups(calibration, cells);
    if groups.is_empty() {
        return Vec::new();
    }
    let mut estimates = of_table(calibration, &groups);
    estimates.extend(of_order(calibration, &groups));
    estimates
}

/// Highest scores first, equal ones together.
fn groups(calibration: &Isotonic, mut cells: Vec<ScoreCell>) -> Vec<Group> {
    cells.sort_by(|a, b| b.low.total_cmp(&a.low));
    cells.dedup_by(|next, kept| {
        let same = next.low == kept.low && next.high == kept.high;
        if same {
            kept.predicted_negative += next.predicted_negative;
            kept.predicted_positive += next.predicted_positive;
        }
        same
    });
    let group = |cell: ScoreCell| {
        let coarse = cell.low < cell.high;
        let score = if coarse { cell.low + (cell.high - cell.low) / 2.0 } else { cell.low };
        Group {
            chance: calibration.at(score),
            least: calibration.at(cell.low),
            most: calibration.at(cell.high),
            rows: [cell.predicted_negative as f64, cell.predicted_positive as f64],
            place: calibration.place(score),
            coarse,
            inside: if coarse { [0.5, 1.0] } else { [0.5, 0.5] },
        }
    };
    cells.into_iter().map(group).collect()
}

/// Rows of a score, or of a short stretch of scores, and how many of them are expected to be positives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExpectedCell {
    pub low: f64,
    /// `low` where the score is known.
    pub high: f64,
    pub rows: u64,
    pub expected: f64,
}

/// Highest scores first; every score has one cell.
fn groups_of_expected(calibration: &Isotonic, mut cells: Vec<ExpectedCell>) -> Vec<Group> {
    cells.retain(|cell| cell.rows > 0);
    cells.sort_by(|a, b| b.low.total_cmp(&a.low));
    let group = |cell: ExpectedCell| {
        let coarse = cell.low < cell.high;
        let chance = (cell.expected / cell.rows as f64).clamp(0.0, 1.0);
        Group {
            chance,
            least: chance,
            most: chance,
            rows: [0.0, cell.rows as f64],
            place: calibration.place(if coarse { cell.low + (cell.high - cell.low) / 2.0 } else { cell.low }),
            coarse,
            inside: if coarse { [0.0, 1.0] } else { [0.5, 0.5] },
        }
    };
    cells.into_iter().map(group).collect()
}

/// Variance of a metric that moves by `slope(group, predicted positive)` with each expected positive.
fn variance(calibration: &Isotonic, groups: &[Group], slope: impl Fn(usize, usize) -> f64) -> Variance {
    let mut sampling = 0.0;
    let mut by_block = vec![0.0; calibration.blocks()];
    for (index, group) in groups.iter().enumerate() {
        let mut pull = 0.0;
        for (predicted, rows) in group.rows.iter().enumerate() {
            let slope = slope(index, predicted);
            sampling += rows * slope * slope * group.chance * (1.0 - group.chance);
            pull += rows * slope;
        }
        let Place { blocks: [first, second], weight_of_first } = group.place;
        by_block[first] += pull * weight_of_first;
        by_block[second] += pull * (1.0 - weight_of_first);
    }
    let of_block = |(block, pull): (usize, &f64)| pull * pull * calibration.variance(block);
    Variance { sampling, calibration: by_block.iter().enumerate().map(of_block).sum() }
}

fn of_table(calibration: &Isotonic, groups: &[Group]) -> Vec<(&'static str, MetricValue)> {
    let expected = |chance: fn(&Group) -> f64| {
        groups.iter().fold(Expected::default(), |sum, group| Expected {
            true_positives: sum.true_positives + group.rows[1] * chance(group),
            false_negatives: sum.false_negatives + group.rows[0] * chance(group),
        })
    };
    let (likely, least, most) = (expected(|g| g.chance), expected(|g| g.least), expected(|g| g.most));
    let [negative, positive] = [0, 1].map(|predicted| groups.iter().map(|group| group.rows[predicted]).sum::<f64>());
    // Every metric rises or falls with either count throughout, so that its ends are at the ends of the counts.
    let with = |true_positives: Expected, false_negatives: Expected| Expected {
        true_positives: true_positives.true_positives,
        false_negatives: false_negatives.false_negatives,
    };
    let corners = [(least, least), (least, most), (most, least), (most, most)].map(|(tp, fp)| with(tp, fp));
    let estimate = |metric: &dyn Fn(Expected) -> f64, slopes: Slopes| {
        let at_corners = corners.map(metric);
        let ends = [
            at_corners.iter().copied().fold(f64::INFINITY, f64::min),
            at_corners.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        ];
        let [if_positive, if_negative] = slopes;
        let slope = |_: usize, predicted: usize| if predicted == 1 { if_positive } else { if_negative };
        (metric(likely), ends, variance(calibration, groups, slope))
    };
    let share = |metric: &dyn Fn(Expected) -> f64, slopes: Slopes| {
        let (value, ends, variance) = estimate(metric, slopes);
        band::share(value, ends, variance)
    };
    let amount = |metric: &dyn Fn(Expected) -> f64, slopes: Slopes| {
        let (value, ends, variance) = estimate(metric, slopes);
        band::amount(value, ends, variance)
    };
    let or_zero = |value: Option<f64>| value.unwrap_or(0.0);
    let rows = negative + positive;
    let (tp, fal) = (likely.true_positives, likely.false_negatives);
    let (positives, negatives) = (tp + fal, rows - tp - fal);
    let part = |numerator: f64, denominator: f64| or_zero(ratio(numerator, denominator));
    let f1_of = positive + positives;
    vec![
        (
            "est_accuracy",
            share(&|e| (e.true_positives + negative - e.false_negatives) / rows, [1.0 / rows, -1.0 / rows]),
        ),
        ("est_precision", share(&|e| part(e.true_positives, positive), [part(1.0, positive), 0.0])),
        (
            "est_recall",
            share(
                &|e| part(e.true_positives, e.true_positives + e.false_negatives),
                [part(fal, positives * positives), -part(tp, positives * positives)],
            ),
        ),
        (
            "est_f1",
            share(
                &|e| part(2.0 * e.true_positives, positive + e.true_positives + e.false_negatives),
                [part(2.0, f1_of) - part(2.0 * tp, f1_of * f1_of), -part(2.0 * tp, f1_of * f1_of)],
            ),
        ),
        (
            "est_specificity",
            share(
                &|e| part(negative - e.false_negatives, rows - e.true_positives - e.false_negatives),
                [part(negative - fal, negatives * negatives), -part(positive - tp, negatives * negatives)],
            ),
        ),
        ("exp_tp", amount(&|e| e.true_positives, [1.0, 0.0])),
        ("exp_fp", amount(&|e| positive - e.true_positives, [-1.0, 0.0])),
        ("exp_fn", amount(&|e| e.false_negatives, [0.0, 1.0])),
        ("exp_tn", amount(&|e| negative - e.false_negatives, [0.0, -1.0])),
    ]
}

/// What depends on the order of the raw scores: calibration makes ties of what the model tells apart.
fn of_order(calibration: &Isotonic, groups: &[Group]) -> [(&'static str, MetricValue); 2] {
    let positives: f64 = groups.iter().map(|group| group.all_rows() * group.chance).sum();
    let rows: f64 = groups.iter().map(Group::all_rows).sum();
    let area = area(calibration, groups, positives, rows - positives);
    let area = area.map_or(MetricValue::undefined(), |area| band::share(area.value, area.ends, area.variance));
    let precision = average_precision(calibration, groups, positives);
    [("est_roc_auc", area), ("est_pr_auc", precision)]
}

/// An estimated area under the curve, the ends that coarse counts leave it, and its variance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Area {
    pub value: f64,
    pub ends: [f64; 2],
    pub variance: Variance,
}

/// Area under the curve of these scores, each with its expected positives; `calibration` says how sure these are.
/// `None` where only one class is expected.
pub fn expected_area(calibration: &Isotonic, cells: Vec<ExpectedCell>) -> Option<Area> {
    let groups = groups_of_expected(calibration, cells);
    let positives: f64 = groups.iter().map(|group| group.all_rows() * group.chance).sum();
    let rows: f64 = groups.iter().map(Group::all_rows).sum();
    area(calibration, &groups, positives, rows - positives)
}

fn area(calibration: &Isotonic, groups: &[Group], positives: f64, negatives: f64) -> Option<Area> {
    if positives * negatives == 0.0 {
        return None;
    }
    let (mut pairs, mut above, mut below) = (0.0, 0.0, negatives);
    let mut slopes = Vec::with_capacity(groups.len());
    for group in groups {
        let (positive, negative) = (group.all_rows() * group.chance, group.all_rows() * (1.0 - group.chance));
        pairs += negative * (above + positive / 2.0);
        below -= negative;
        slopes.push((below + negative / 2.0) - (above + positive / 2.0));
        above += positive;
    }
    let value = pairs / (positives * negatives);
    let (of_positive, of_negative) = (value / positives, value / negatives);
    let slope = |group: usize, _: usize| slopes[group] / (positives * negatives) - of_positive + of_negative;
    Some(Area { value, ends: area_ends(groups, value), variance: variance(calibration, groups, slope) })
}

/// Pairs in order are at least those of the least positives above the least negatives, and at most those of the most;
/// the pairs that there are lie between likewise.
fn area_ends(groups: &[Group], area: f64) -> [f64; 2] {
    if !groups.iter().any(|group| group.coarse) {
        return [area, area];
    }
    let (mut least_pairs, mut most_pairs) = (0.0, 0.0);
    let (mut least_above, mut most_above) = (0.0, 0.0);
    for group in groups {
        let rows = group.all_rows();
        let [least, most] = [group.least, group.most].map(|chance| rows * chance);
        let [fewest, all] = group.inside;
        least_pairs += (rows - most) * (least_above + least * fewest);
        most_pairs += (rows - least) * (most_above + most * all);
        least_above += least;
        most_above += most;
    }
    let rows: f64 = groups.iter().map(Group::all_rows).sum();
    let product = |positives: f64| positives * (rows - positives);
    let middle = (rows / 2.0).clamp(least_above, most_above);
    let most_product = product(middle);
    let least_product = product(least_above).min(product(most_above));
    [
        (least_pairs / most_product).min(area),
        if least_product > 0.0 { (most_pairs / least_product).clamp(area, 1.0) } else { 1.0 },
    ]
}

fn average_precision(calibration: &Isotonic, groups: &[Group], positives: f64) -> MetricValue {
    if positives == 0.0 {
        return MetricValue::undefined();
    }
    let (mut above, mut rows, mut sum) = (0.0, 0.0, 0.0);
    let (mut least_above, mut most_above, mut least_sum, mut most_sum) = (0.0, 0.0, 0.0, 0.0);
    let mut precisions = Vec::with_capacity(groups.len());
    for group in groups {
        let more = group.all_rows();
        // Within a cell the precision moves, one way, from what it was above to what it is with the whole cell.
        let (least_before, most_before) =
            (part_of(least_above, rows, group.least), part_of(most_above, rows, group.most));
        above += more * group.chance;
        least_above += more * group.least;
        most_above += more * group.most;
        rows += more;
        sum += more * group.chance * above / rows;
        let [mut least, mut most] = [least_above / rows, most_above / rows];
        if group.coarse {
            (least, most) = (least.min(least_before), most.max(most_before));
        }
        least_sum += more * group.least * least;
        most_sum += more * group.most * most;
        precisions.push((above / rows, more * group.chance / rows));
    }
    let value = sum / positives;
    // From the lowest score up: how much the precision at each score below gains by one more positive here.
    let mut gain = 0.0;
    let mut slopes = vec![0.0; groups.len()];
    for (index, (precision, weight)) in precisions.iter().enumerate().rev() {
        gain += weight;
        slopes[index] = (precision + gain - value) / positives;
    }
    let ends = if groups.iter().any(|group| group.coarse) {
        let least_positives = least_above;
        let most = if least_positives > 0.0 { most_sum / least_positives } else { 1.0 };
        [(least_sum / most_above).min(value), most.clamp(value, 1.0)]
    } else {
        [value, value]
    };
    band::share(value, ends, variance(calibration, groups, |group, _| slopes[group]))
}

fn part_of(positives: f64, rows: f64, without_rows: f64) -> f64 {
    if rows > 0.0 { positives / rows } else { without_rows }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(low: f64, high: f64, predicted_negative: u64, predicted_positive: u64) -> ScoreCell {
        ScoreCell { low, high, predicted_negative, predicted_positive }
    }

    fn value(estimates: &[(&'static str, MetricValue)], key: &str) -> MetricValue {
        estimates.iter().find(|(name, _)| *name == key).unwrap_or_else(|| panic!("no {key}")).1
    }

    /// Chances rise from 0.02 to 0.98 over a thousand rows.
    fn calibration() -> Isotonic {
        let rows: Vec<(f64, bool)> =
            (0..1000u32).map(|row| (f64::from(row) / 1000.0, row * 389 % 1000 < row)).collect();
        let (scores, positive): (Vec<f64>, Vec<bool>) = rows.into_iter().unzip();
        Isotonic::fit(&scores, &positive).unwrap()
    }

    /// The metric when one more row of this score and prediction is a positive, by the derivative and by trying.
    #[test]
    fn the_band_is_that_of_the_derivatives() {
        let flat =
            Isotonic::from_parts(vec![(0.0, 0.4, 1_000_000_000, 300_000_000), (0.5, 1.0, 1_000_000_000, 800_000_000)])
                .unwrap();
        let estimates =
            estimates(&flat, vec![cell(0.3, 0.3, 400, 0), cell(0.45, 0.45, 50, 50), cell(0.9, 0.9, 0, 500)]);
        // accuracy of n independent rows: sum c(1-c) / n^2; the middle one has chance 0.55
        let sd = ((400.0 * 0.21 + 100.0 * 0.2475 + 500.0 * 0.16) / 1e6_f64).sqrt();
        let [low, high] = value(&estimates, "est_accuracy").interval.unwrap();
        assert!(((high - low) / 2.0 - band::NORMAL_95 * sd).abs() < 1e-6, "{low} {high} {sd}");
        // recall = tp / (tp + fn): delta method with both counts independent
        let (tp, fal) = (427.5, 147.5);
        let (var_tp, var_fal) = (50.0 * 0.2475 + 500.0 * 0.16, 400.0 * 0.21 + 50.0 * 0.2475);
        let sd = f64::sqrt(fal * fal * var_tp + tp * tp * var_fal) / f64::powi(tp + fal, 2);
        let [low, high] = value(&estimates, "est_recall").interval.unwrap();
        assert!(((high - low) / 2.0 - band::NORMAL_95 * sd).abs() < 1e-6, "{low} {high} {sd}");
    }

    #[test]
    fn coarse_counts_hold_the_exact_estimate_within_their_bound() {
        let calibration = calibration();
        let rows: Vec<(f64, bool)> =
            (0..3000u32).map(|row| (f64::from(row * 1789 % 3000) / 3000.0, row * 1789 % 3000 > 1400)).collect();
        let exact =
            estimates(&calibration, rows.iter().map(|(s, p)| cell(*s, *s, u64::from(!p), u64::from(*p))).collect());
        for cells in [10.0, 50.0, 400.0] {
            let coarse = |(score, predicted): &(f64, bool)| {
                let low = (score * cells).floor() / cells;
                cell(low, low + 1.0 / cells, u64::from(!predicted), u64::from(*predicted))
            };
            let coarse = estimates(&calibration, rows.iter().map(coarse).collect());
            for (name, exact) in &exact {
                let coarse = value(&coarse, name);
                let (ours, bound, expected) = (coarse.value.unwrap(), coarse.bound.unwrap(), exact.value.unwrap());
                assert_eq!(exact.bound, None, "{name}");
                assert!((ours - expected).abs() <= bound + 1e-12, "{name}: {ours} +- {bound}, exact {expected}");
                let scale = if name.starts_with("exp") { 3000.0 } else { 1.0 };
                assert!(bound < 12.0 * scale / cells, "{name}: a bound of {bound} at {cells} cells");
            }
        }
    }

    #[test]
    fn cells_in_any_order_and_in_pieces_give_the_same() {
        let calibration = calibration();
        let whole = vec![cell(0.1, 0.1, 7, 0), cell(0.5, 0.5, 4, 6), cell(0.8, 0.8, 0, 9)];
        let pieces = vec![
            cell(0.8, 0.8, 0, 4),
            cell(0.5, 0.5, 4, 0),
            cell(0.1, 0.1, 7, 0),
            cell(0.8, 0.8, 0, 5),
            cell(0.5, 0.5, 0, 6),
        ];
        assert_eq!(estimates(&calibration, whole), estimates(&calibration, pieces));
        assert_eq!(estimates(&calibration, Vec::new()), []);
    }
}
