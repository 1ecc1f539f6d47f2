//! A classifier that tries to tell the window's rows from the reference's (Lopez-Paz and Oquab 2017), on the bounded
//! samples of both: its area under the ROC curve on rows it was not trained on.
//!
//! Linear discriminants on the entries, their squares and their products in pairs, with a ridge: sees means, spreads
//! and correlations, also where a few of many entries moved. Does not see what is neither (a third moment, three-way
//! dependence), and nothing that 500 rows a side cannot show.

use statrs::distribution::{ContinuousCDF, Normal};

use super::measure::{SAMPLE_STEPS, SAMPLE_WIDTH};
use super::sample::SampledRow;

/// Parts into which the samples are cut.
const FOLDS: usize = 10;
/// The first part that is tested: the classifier has been trained on two fifths of the rows by then.
const FIRST_TESTED: usize = 4;
/// Fewest rows a side: five in each part.
const FEWEST_ROWS: usize = 50;
/// The ridge, as a share of the rows: standardised inputs count for so much less each. Chosen by simulation for power
/// with 25 entries (350 inputs) without loss with two.
const RIDGE: f64 = 0.25;

/// How well the sides can be told apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassifierAuc {
    /// Mean over the tested parts; 0.5: not at all, 1: every row.
    pub auc: f64,
    /// Probability of an area at least this large under no drift.
    pub p_value: f64,
}

/// Trains and tests; `width` entries of a row are in use. Deterministic: rows are dealt out in the order of their
/// hashes. `None` where a side has fewer than 50 rows.
///
/// Each tested part is scored by a classifier trained on the parts before it alone. Under no drift the labels of its
/// rows are exchangeable, whatever was learned before, so that its area has mean 1/2 and the variance of the
/// Mann-Whitney statistic, (a + b + 1) / (12 a b), given all earlier ones: the sum is that of a martingale, and normal.
/// Cross-validation, which also trains on later parts, counts every pair of parts twice: its variance is double.
pub fn classifier_auc(reference: &[SampledRow], window: &[SampledRow], width: usize) -> Option<ClassifierAuc> {
    if reference.len().min(window.len()) < FEWEST_ROWS {
        return None;
    }
    let mut inputs = Inputs::new(reference, window, width.min(SAMPLE_WIDTH));
    inputs.standardise();
    let mut training = Equations::empty(inputs.count);
    let (mut areas, mut variance) = (0.0, 0.0);
    for fold in 0..FOLDS {
        if fold >= FIRST_TESTED {
            let (a, b, area) = inputs.area(fold, &training.solve()?);
            areas += area;
            variance += (a + b + 1.0) / (12.0 * a * b);
        }
        training.add(&inputs, fold);
    }
    let tested = (FOLDS - FIRST_TESTED) as f64;
    let normal = Normal::new(0.0, 1.0).ok()?;
    let p_value = normal.sf((areas - 0.5 * tested) / variance.sqrt());
    Some(ClassifierAuc { auc: areas / tested, p_value })
}

/// Rows as inputs of the classifier: entries, then products of entries.
struct Inputs {
    count: usize,
    values: Vec<f64>,
    /// 1 for the window, -1 for the reference.
    labels: Vec<f64>,
    folds: Vec<usize>,
}

impl Inputs {
    fn new(reference: &[SampledRow], window: &[SampledRow], width: usize) -> Self {
        let count = width + width * (width + 1) / 2;
        let rows = reference.len() + window.len();
        let mut inputs = Self {
            count,
            values: Vec::with_capacity(rows * count),
            labels: Vec::with_capacity(rows),
            folds: Vec::with_capacity(rows),
        };
        for (rows, label) in [(reference, -1.0), (window, 1.0)] {
            for (place, row) in rows.iter().enumerate() {
                // Clipped at 4 standard deviations: a single far row would otherwise own every product.
                let entry = |at: usize| (f64::from(row.row[at]) / SAMPLE_STEPS).clamp(-4.0, 4.0);
                inputs.values.extend((0..width).map(entry));
                for first in 0..width {
                    inputs.values.extend((first..width).map(|second| entry(first) * entry(second)));
                }
                inputs.labels.push(label);
                inputs.folds.push(place % FOLDS);
            }
        }
        inputs
    }

    fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.count..(row + 1) * self.count]
    }

    /// Every input to mean 0 and variance 1 over both sides; constant ones to 0.
    fn standardise(&mut self) {
        let rows = self.labels.len() as f64;
        for input in 0..self.count {
            let column = |values: &[f64]| values.iter().skip(input).step_by(self.count).copied().collect::<Vec<f64>>();
            let values = column(&self.values);
            let mean = values.iter().sum::<f64>() / rows;
            let variance = values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / rows;
            let factor = if variance > 1e-12 { 1.0 / variance.sqrt() } else { 0.0 };
            self.values.iter_mut().skip(input).step_by(self.count).for_each(|value| *value = (*value - mean) * factor);
        }
    }

    /// Rows of the reference and of the window in this part, and the area under their scores' curve.
    fn area(&self, fold: usize, weights: &[f64]) -> (f64, f64, f64) {
        let mut scores: Vec<(f64, f64)> = (0..self.labels.len())
            .filter(|row| self.folds[*row] == fold)
            .map(|row| (self.row(row).iter().zip(weights).map(|(x, w)| x * w).sum(), self.labels[row]))
            .collect();
        scores.sort_by(|left, right| left.0.total_cmp(&right.0));
        let (mut below, mut pairs) = (0.0, 0.0);
        let mut at = 0;
        while at < scores.len() {
            let ties = scores[at..].iter().take_while(|(score, _)| *score == scores[at].0).count();
            let tied = &scores[at..at + ties];
            let of_window = tied.iter().filter(|(_, label)| *label > 0.0).count() as f64;
            let of_reference = ties as f64 - of_window;
            pairs += of_window * (below + 0.5 * of_reference);
            below += of_reference;
            at += ties;
        }
        let of_window = scores.len() as f64 - below;
        (below, of_window, pairs / (below * of_window))
    }
}

/// The normal equations of a least-squares fit of the labels: sums over rows, so that a part is added to those before.
struct Equations {
    size: usize,
    rows: f64,
    /// Upper triangle, row by row, of the full square.
    products: Vec<f64>,
    targets: Vec<f64>,
}

impl Equations {
    fn empty(size: usize) -> Self {
        Self { size, rows: 0.0, products: vec![0.0; size * size], targets: vec![0.0; size] }
    }

    /// Adds the rows of one part.
    fn add(&mut self, inputs: &Inputs, fold: usize) {
        let of_side = |side: f64| (0..inputs.labels.len()).filter(|row| inputs.labels[*row] == side).count() as f64;
        // Both sides weigh the same, whatever their sizes.
        let (reference, window) = (of_side(-1.0), of_side(1.0));
        let total = reference + window;
        for row in (0..inputs.labels.len()).filter(|row| inputs.folds[*row] == fold) {
            let label = inputs.labels[row];
            let weight = total / (2.0 * if label > 0.0 { window } else { reference });
            let values = inputs.row(row);
            self.rows += 1.0;
            for (at, value) in values.iter().enumerate() {
                let weighted = value * weight;
                self.targets[at] += weighted * label;
                let upper = &mut self.products[at * self.size + at..(at + 1) * self.size];
                upper.iter_mut().zip(&values[at..]).for_each(|(sum, other)| *sum += weighted * other);
            }
        }
    }

    /// Weights of the ridge fit, by Cholesky's factorisation. The ridge makes the matrix positive definite; `None`
    /// only where a number left the doubles.
    fn solve(&self) -> Option<Vec<f64>> {
        let size = self.size;
        let mut products = self.products.clone();
        for at in 0..size {
            products[at * size + at] += RIDGE * self.rows;
        }
        // Right-looking, on the upper triangle: products becomes U with U'U = products.
        for pivot in 0..size {
            let (before, rest) = products.split_at_mut((pivot + 1) * size);
            let row = &mut before[pivot * size..];
            let root = row[pivot].sqrt();
            if !(root > 0.0 && root.is_finite()) {
                return None;
            }
            row[pivot..].iter_mut().for_each(|value| *value /= root);
            for (below, target) in rest.chunks_exact_mut(size).enumerate() {
                let column = pivot + 1 + below;
                let factor = row[column];
                target[column..].iter_mut().zip(&row[column..]).for_each(|(value, other)| *value -= factor * other);
            }
        }
        let mut weights = self.targets.clone();
        for at in 0..size {
            let value = weights[at] / products[at * size + at];
            weights[at] = value;
            let row = &products[at * size..(at + 1) * size];
            weights[at + 1..].iter_mut().zip(&row[at + 1..]).for_each(|(weight, factor)| *weight -= value * factor);
        }
        for at in (0..size).rev() {
            let row = &products[at * size..(at + 1) * size];
            let known: f64 = row[at + 1..].iter().zip(&weights[at + 1..]).map(|(factor, weight)| factor * weight).sum();
            weights[at] = (weights[at] - known) / row[at];
        }
        Some(weights)
    }
}

#[cfg(test)]
mod tests {
    use super::super::arithmetic::Random;
    use super::*;

    fn rows(n: usize, seed: u64, row: impl Fn(&mut Random) -> Vec<f64>) -> Vec<SampledRow> {
        let mut random = Random::new(seed);
        let mut rows: Vec<SampledRow> = (0..n)
            .map(|_| {
                let mut steps = [0i8; SAMPLE_WIDTH];
                for (into, value) in steps.iter_mut().zip(row(&mut random)) {
                    *into = (value * SAMPLE_STEPS).clamp(-127.0, 127.0) as i8;
                }
                SampledRow { hash: random.next_u64(), row: steps }
            })
            .collect();
        rows.sort_unstable();
        rows
    }

    #[test]
    fn the_fit_solves_its_equations() {
        let mut equations = Equations::empty(2);
        equations.rows = 4.0;
        // Ridge 1 on the diagonal: (5 2; 2 6) w = (1; 4).
        equations.products = vec![4.0, 2.0, 0.0, 5.0];
        equations.targets = vec![1.0, 4.0];
        let weights = equations.solve().unwrap();
        let expected = [-2.0 / 26.0, 18.0 / 26.0];
        assert!(weights.iter().zip(expected).all(|(w, e)| (w - e).abs() < 1e-15), "{weights:?} for {expected:?}");
    }

    #[test]
    fn a_turned_correlation_is_told_apart() {
        let pair = |sign: f64| {
            move |random: &mut Random| {
                let first = random.normal();
                vec![first, sign * 0.8 * first + 0.6 * random.normal()]
            }
        };
        let found = classifier_auc(&rows(500, 41, pair(1.0)), &rows(500, 42, pair(-1.0)), 2).unwrap();
        assert!(found.auc > 0.8 && found.p_value < 1e-20, "{found:?}");
        let quiet = classifier_auc(&rows(500, 43, pair(1.0)), &rows(500, 44, pair(1.0)), 2).unwrap();
        assert!((0.44..0.56).contains(&quiet.auc) && quiet.p_value > 1e-3, "{quiet:?}");
    }

    #[test]
    fn rows_that_are_all_alike_cannot_be_told_apart() {
        let same = |_: &mut Random| vec![1.0, 2.0];
        let found = classifier_auc(&rows(80, 45, same), &rows(80, 46, same), 2).unwrap();
        assert_eq!((found.auc, found.p_value), (0.5, 0.5));
        assert_eq!(classifier_auc(&rows(49, 45, same), &rows(80, 46, same), 2), None);
    }
}
