//! Learns on stretches of the rows and measures on the others, then learns on all.
//!
//! The rows are cut into twenty stretches, so that a row is not judged by its neighbours in time, which are like it. Of
//! every two stretches one is learned from and the other held out, then the other way round. The number of trees is
//! the one that leaves least unexplained on the rows held out.

use serde::{Deserialize, Serialize};

use super::boosting::{Boosting, Grower, MOST_TREES};

const STRETCHES: usize = 20;

/// How good expectations are on rows that they were not learned from. Pairs: absolute error, squared error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOut {
    pub rows: u64,
    /// Of the absolute error and its expectation, in [-1, 1]; 0 where one of them is constant.
    pub correlation: f64,
    /// Means of the losses that were.
    pub mean: [f64; 2],
    /// Means of the losses that were expected.
    pub mean_expected: [f64; 2],
    /// Mean square of loss less expectation, over the mean square of the expectation.
    pub dispersion: [f64; 2],
    /// Variance, beyond chance, of a stretch's mean loss over what was expected of it.
    pub between_stretches: [f64; 2],
}

impl HeldOut {
    pub(super) fn in_order(&self) -> bool {
        let pairs = [self.mean, self.mean_expected, self.dispersion, self.between_stretches];
        self.rows > 0
            && (-1.0..=1.0).contains(&self.correlation)
            && pairs.iter().flatten().all(|value| value.is_finite() && *value >= 0.0)
    }
}

/// `codes` by input and row; `errors` of every row, finite and at least two.
pub fn learn(codes: &[Vec<u8>], ordered: &[bool], errors: &[f64]) -> (Boosting, HeldOut) {
    let losses: Vec<[f64; 2]> = errors.iter().map(|error| [error.abs(), error * error]).collect();
    let stretch = |row: u32| row as usize * STRETCHES / losses.len();
    let all = || 0..losses.len() as u32;
    let halves = [0, 1].map(|half| all().filter(|row| stretch(*row) % 2 == half).collect::<Vec<u32>>());
    let grower = |rows: Vec<u32>| Grower::new(codes, ordered, rows, &losses);
    let mut growers = [grower(halves[0].clone()), grower(halves[1].clone())];
    let mut left = vec![growers[0].left_of(&halves[1]) + growers[1].left_of(&halves[0])];
    for _ in 0..MOST_TREES {
        growers.iter_mut().for_each(|grower| {
            grower.grow();
        });
        left.push(growers[0].left_of(&halves[1]) + growers[1].left_of(&halves[0]));
    }
    let trees = (0..left.len()).min_by(|a, b| left[*a].total_cmp(&left[*b])).unwrap_or(0);
    let [of_first, of_second] = growers.map(|grower| grower.finish(trees).expected(codes, losses.len()));
    let mut expected = of_second;
    for row in &halves[1] {
        expected[*row as usize] = of_first[*row as usize];
    }
    let mut whole = grower(all().collect());
    for _ in 0..trees {
        whole.grow();
    }
    (whole.finish(trees), measure(&losses, &expected))
}

fn measure(losses: &[[f64; 2]], expected: &[[f64; 2]]) -> HeldOut {
    let mean_of = |of: &dyn Fn(usize) -> f64| (0..losses.len()).map(of).sum::<f64>() / losses.len() as f64;
    let mean = [0, 1].map(|loss| mean_of(&|row| losses[row][loss]));
    let mean_expected = [0, 1].map(|loss| mean_of(&|row| expected[row][loss]));
    let square = [0, 1].map(|loss| mean_of(&|row| expected[row][loss].powi(2)));
    let dispersion = [0, 1].map(|loss| {
        let apart = mean_of(&|row| (losses[row][loss] - expected[row][loss]).powi(2));
        if square[loss] > 0.0 { apart / square[loss] } else { 0.0 }
    });
    let deviation = |of: &[[f64; 2]], mean: f64| mean_of(&|row| (of[row][0] - mean).powi(2)).sqrt();
    let together = mean_of(&|row| (losses[row][0] - mean[0]) * (expected[row][0] - mean_expected[0]));
    let apart = deviation(losses, mean[0]) * deviation(expected, mean_expected[0]);
    HeldOut {
        rows: losses.len() as u64,
        correlation: if apart > 0.0 { (together / apart).clamp(-1.0, 1.0) } else { 0.0 },
        mean,
        mean_expected,
        dispersion,
        between_stretches: [0, 1].map(|loss| between_stretches(losses, expected, loss, dispersion[loss])),
    }
}

fn between_stretches(losses: &[[f64; 2]], expected: &[[f64; 2]], loss: usize, dispersion: f64) -> f64 {
    let (mut found, mut by_chance) = (0.0, 0.0);
    for stretch in 0..STRETCHES {
        let rows = (0..losses.len()).filter(|row| row * STRETCHES / losses.len() == stretch);
        let (mut was, mut wanted, mut square) = (0.0, 0.0, 0.0);
        for row in rows {
            was += losses[row][loss];
            wanted += expected[row][loss];
            square += expected[row][loss].powi(2);
        }
        if wanted > 0.0 {
            found += (was / wanted - 1.0).powi(2);
            by_chance += dispersion * square / (wanted * wanted);
        }
    }
    ((found - by_chance) / STRETCHES as f64).max(0.0)
}
