//! Whether scores still mean what they meant in the reference: drift of P(label | score), which no statistic of the
//! inputs sees, and which makes every estimate without labels wrong.
//!
//! Rows are grouped by score, at most ten groups of about equal size, without a look at labels. What is expected of a
//! group is the share of positives among the reference's rows there, and what the calibration curve says of the
//! different scores that the window's rows have within the group. The value is the mean over the rows of the distance
//! between the share of positives in their group and the expected one: the calibration error of the calibrated score.
//!
//! The test is that of Hosmer and Lemeshow (Goodness of fit tests for the multiple logistic regression model, 1980)
//! against other rows than those of the fit: the groups' differences of observed and expected positives, each squared
//! and divided by its variance, summed, are chi-square with one degree of freedom a group. The variance is that of the
//! window's labels, sum c (1 - c), and that of the reference's on which the expectation rests: on each level stretch of
//! the curve c (1 - c) / N for N rows of the reference, times the square of the window's rows there.

use super::isotonic::{Isotonic, Place};
use crate::stats::chi_square;
use crate::stats::metric::MetricValue;

const GROUPS: f64 = 10.0;
/// Fewest positives and negatives expected in a group: below, the sum of squares is no chi-square.
const FEWEST_EXPECTED: f64 = 5.0;

/// Labelled rows of a score, or of a short stretch of scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LabelledCell {
    pub low: f64,
    /// `low` where the score is known.
    pub high: f64,
    pub negatives: u64,
    pub positives: u64,
}

#[derive(Debug, Clone)]
struct Group {
    window: Side,
    reference: Side,
}

/// Rows of one side in a group.
#[derive(Debug, Clone)]
struct Side {
    rows: f64,
    positives: f64,
    /// Sum of the curve's chances.
    chances: f64,
    /// Variance of the positives at these chances.
    variance: f64,
    /// By block of the curve, the rows that stand on it.
    on_block: Vec<f64>,
}

/// The calibration error in [0, 1], with the chance of a test statistic as large while scores mean what they meant.
/// `reference` are the rows that the curve was fitted on. Undefined where either side has no rows.
pub fn calibration_shift(calibration: &Isotonic, reference: &[LabelledCell], window: &[LabelledCell]) -> MetricValue {
    let rows = |cells: &[LabelledCell]| cells.iter().map(|cell| cell.negatives + cell.positives).sum::<u64>();
    let total = rows(window) as f64;
    if rows(window) == 0 || rows(reference) == 0 {
        return MetricValue::undefined();
    }
    let groups = group(calibration, reference, window, total);
    let error = groups.iter().map(|group| group.difference().abs()).sum::<f64>() / total;
    // Coarse counts leave the chances of their rows open by as much as the curve rises in their cell.
    let slack = (window.iter().filter(|cell| cell.low < cell.high))
        .map(|cell| {
            let rises = calibration.at(cell.high) - calibration.at(cell.low);
            (cell.negatives + cell.positives) as f64 * rises / total
        })
        .sum::<f64>();
    let value = MetricValue::within(error, (error - slack).max(0.0), (error + slack).min(1.0));
    value.with_p(p_value(calibration, &groups)).tidy()
}

/// Lowest scores first.
fn group(calibration: &Isotonic, reference: &[LabelledCell], window: &[LabelledCell], total: f64) -> Vec<Group> {
    let in_order = |cells: &[LabelledCell], is_window: bool| {
        let cells = cells.iter().filter(|cell| cell.negatives + cell.positives > 0);
        cells.map(|cell| (cell.score(), is_window, *cell)).collect::<Vec<_>>()
    };
    let mut cells = in_order(reference, false);
    cells.extend(in_order(window, true));
    cells.sort_by(|a, b| a.0.total_cmp(&b.0));
    let side =
        || Side { rows: 0.0, positives: 0.0, chances: 0.0, variance: 0.0, on_block: vec![0.0; calibration.blocks()] };
    let empty = || Group { window: side(), reference: side() };
    let mut groups: Vec<Group> = Vec::new();
    let mut open = empty();
    for (index, (score, is_window, cell)) in cells.iter().enumerate() {
        let side = if *is_window { &mut open.window } else { &mut open.reference };
        side.add(calibration, *score, cell);
        let ends_here = cells.get(index + 1).is_none_or(|next| next.0 > *score);
        let share = open.window.rows * GROUPS;
        if ends_here && share >= total && open.window.can_be_judged() && open.reference.can_be_judged() {
            groups.push(std::mem::replace(&mut open, empty()));
        }
    }
    match groups.last_mut() {
        // What is left at the end belongs to the last group.
        Some(last) => {
            last.window.take(open.window);
            last.reference.take(open.reference);
        }
        None => groups.push(open),
    }
    groups
}

impl LabelledCell {
    /// The score, or the middle of where it may be.
    pub fn score(&self) -> f64 {
        if self.low < self.high { self.low + (self.high - self.low) / 2.0 } else { self.low }
    }
}

impl Side {
    fn add(&mut self, calibration: &Isotonic, score: f64, cell: &LabelledCell) {
        let (chance, rows) = (calibration.at(score), (cell.negatives + cell.positives) as f64);
        self.rows += rows;
        self.positives += cell.positives as f64;
        self.chances += rows * chance;
        self.variance += rows * chance * (1.0 - chance);
        let Place { blocks: [first, second], weight_of_first } = calibration.place(score);
        self.on_block[first] += rows * weight_of_first;
        self.on_block[second] += rows * (1.0 - weight_of_first);
    }

    fn take(&mut self, other: Side) {
        self.rows += other.rows;
        self.positives += other.positives;
        self.chances += other.chances;
        self.variance += other.variance;
        for (mine, more) in self.on_block.iter_mut().zip(other.on_block) {
            *mine += more;
        }
    }

    /// By the chances, not by the labels, so that the groups do not depend on what is tested.
    fn can_be_judged(&self) -> bool {
        self.chances.min(self.rows - self.chances) >= FEWEST_EXPECTED
    }
}

impl Group {
    /// Positives in the window less those expected.
    fn difference(&self) -> f64 {
        let of_reference = match self.reference.rows > 0.0 {
            true => (self.reference.positives - self.reference.chances) / self.reference.rows,
            false => 0.0,
        };
        self.window.positives - self.window.chances - self.window.rows * of_reference
    }

    fn variance(&self, calibration: &Isotonic) -> f64 {
        let blocks = self.window.on_block.iter().zip(&self.reference.on_block).enumerate();
        let of_expectation: f64 = (blocks.filter(|(_, (window, _))| **window > 0.0))
            .map(|(block, (window, reference))| {
                // Where the reference has less than a row of this block in the group, the block as a whole must do.
                let rows = if *reference >= 1.0 { *reference } else { calibration.block_rows(block) as f64 };
                let of_row = calibration.variance(block) * calibration.block_rows(block) as f64;
                window * window * of_row / rows
            })
            .sum();
        self.window.variance + of_expectation
    }
}

/// `None` where nothing could have come out otherwise.
fn p_value(calibration: &Isotonic, groups: &[Group]) -> Option<f64> {
    let mut statistic = 0.0;
    for group in groups {
        let variance = group.variance(calibration);
        if variance <= 0.0 {
            return None;
        }
        // A lone group of few expected positives or negatives: counts are whole, the law is not.
        let slack = if group.window.can_be_judged() { 0.0 } else { 0.5 };
        statistic += (group.difference().abs() - slack).max(0.0).powi(2) / variance;
    }
    Some(chi_square::survival(statistic, groups.len() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::performance::isotonic::ScoredRows;

    fn cell(score: f64, negatives: u64, positives: u64) -> LabelledCell {
        LabelledCell { low: score, high: score, negatives, positives }
    }

    fn fitted(cells: &[LabelledCell]) -> Isotonic {
        let rows = cells.iter().map(|cell| ScoredRows {
            score: cell.low,
            rows: cell.negatives + cell.positives,
            positives: cell.positives,
        });
        Isotonic::fit_counts(rows).unwrap()
    }

    #[test]
    fn the_value_is_the_weighted_gap_and_the_test_has_the_variance_of_both_sides() {
        let reference = [cell(0.2, 800, 200), cell(0.7, 300, 700)];
        let window = [cell(0.2, 70, 30), cell(0.7, 30, 70)];
        let found = calibration_shift(&fitted(&reference), &reference, &window);
        assert!((found.value.unwrap() - 10.0 / 200.0).abs() < 1e-12, "{found:?}");
        // 0.3 against 0.2 among 100 and 1000 rows; the variance of the reference's share has half a row of each kind
        let smoothed = 200.5 / 1001.0;
        let statistic = 100.0 / (16.0 + 100.0 * 100.0 * smoothed * (1.0 - smoothed) / 1000.0);
        assert!((found.p_value.unwrap() - chi_square::survival(statistic, 2.0)).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn other_inputs_with_the_same_meaning_are_no_shift() {
        let reference: Vec<LabelledCell> = (1..100u64).map(|i| cell(i as f64 / 100.0, 1000 - 10 * i, 10 * i)).collect();
        let window: Vec<LabelledCell> = (1..100u64).map(|i| cell(i as f64 / 100.0, (100 - i) * i, i * i)).collect();
        let found = calibration_shift(&fitted(&reference), &reference, &window);
        assert!(found.value.unwrap() < 1e-9 && found.p_value.unwrap() > 0.999, "{found:?}");
        assert_eq!(calibration_shift(&fitted(&reference), &reference, &[]), MetricValue::undefined());
    }

    #[test]
    fn coarse_counts_have_a_bound() {
        let reference: Vec<LabelledCell> = (1..100u64).map(|i| cell(i as f64 / 100.0, 1000 - 10 * i, 10 * i)).collect();
        let window = [LabelledCell { low: 0.4, high: 0.5, negatives: 50, positives: 50 }];
        let found = calibration_shift(&fitted(&reference), &reference, &window);
        assert!((found.bound.unwrap() - 0.1).abs() < 0.051, "{found:?}");
    }
}
