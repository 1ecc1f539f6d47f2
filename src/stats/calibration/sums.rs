//! What one of a reference's own windows adds to the analysis of variance.

use crate::stats::edges::quantile_edges;
use crate::stats::layout::Layout;
use crate::stats::null::scores::normal_scores;
use crate::stats::profile::{FeatureReference, Profile};

/// Bins of the stability index.
const BINS: usize = 10;
/// A category with a smaller share than this is counted with the others: windows have a few rows each.
const LEAST_SHARE: f64 = 0.02;

/// Scores and cells of a feature's bins or categories, fixed by the whole reference.
#[derive(Debug, Clone, PartialEq)]
pub struct Scoring {
    /// Per bin, mean 0 and variance 1 over the reference; empty for categories.
    level: Vec<f64>,
    spread: Vec<f64>,
    /// Cell of each bin or category.
    cell: Vec<usize>,
    pub(super) cells: usize,
}

/// One window of one feature.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WindowSums {
    /// Rows with and without a value.
    pub(super) rows: u64,
    /// Rows with a value.
    pub(super) n: u64,
    pub(super) level: f64,
    pub(super) spread: f64,
    pub(super) cells: Vec<u64>,
}

impl Scoring {
    /// Of the reference that the windows are parts of.
    pub fn of(reference: &FeatureReference) -> Self {
        match (&reference.layout, &reference.profile) {
            (Layout::Numeric(layout), Profile::Numeric(profile)) => {
                let level = standardised(normal_scores(&profile.counts()), &profile.counts());
                let squares = level.iter().map(|score| score * score).collect();
                let coarse = quantile_edges(layout.percentiles(), BINS);
                let lower_ends = std::iter::once(f64::NEG_INFINITY).chain(layout.edges().iter().copied());
                let cell = lower_ends.map(|end| coarse.partition_point(|edge| *edge <= end)).collect();
                Self { spread: standardised(squares, &profile.counts()), level, cell, cells: coarse.len() + 1 }
            }
            (_, profile) => Self::of_categories(profile),
        }
    }

    fn of_categories(profile: &Profile) -> Self {
        let Profile::Categorical(profile) = profile else {
            return Self { level: Vec::new(), spread: Vec::new(), cell: Vec::new(), cells: 0 };
        };
        let least = (profile.n() as f64 * LEAST_SHARE).max(1.0);
        let mut cells = 0;
        let cell = profile.counts().into_iter().map(|count| {
            let of_its_own = count as f64 >= least;
            cells += usize::from(of_its_own);
            if of_its_own { cells } else { 0 }
        });
        // Cell 0 is that of all others.
        let cell = cell.collect();
        Self { level: Vec::new(), spread: Vec::new(), cell, cells: cells + 1 }
    }

    /// An empty window.
    pub fn window(&self) -> WindowSums {
        WindowSums { cells: vec![0; self.cells], ..WindowSums::default() }
    }

    /// A window kept as a profile of the reference's layout, such as a pane.
    pub fn window_of(&self, profile: &Profile) -> WindowSums {
        let mut sums = self.window();
        let counts = match profile {
            Profile::Numeric(profile) => profile.counts(),
            Profile::Categorical(profile) => profile.counts(),
            // Vectors have no bins to learn from: their laws take rows for independent.
            Profile::Vector(_) => return sums,
        };
        for (bin, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            sums.add(self, bin, *count);
        }
        if let Profile::Categorical(profile) = profile {
            sums.add_others(profile.unseen_mass());
        }
        sums.add_missing(profile.missing());
        sums
    }
}

impl WindowSums {
    /// `count` rows in a bin, or of a category.
    pub fn add(&mut self, scoring: &Scoring, bin: usize, count: u64) {
        let rows = count as f64;
        self.level += rows * scoring.level.get(bin).copied().unwrap_or(0.0);
        self.spread += rows * scoring.spread.get(bin).copied().unwrap_or(0.0);
        self.add_cell(scoring.cell.get(bin).copied().unwrap_or(0), count);
    }

    /// Rows of categories that have no place of their own.
    pub fn add_others(&mut self, count: u64) {
        self.add_cell(0, count);
    }

    pub fn add_missing(&mut self, count: u64) {
        self.rows = self.rows.saturating_add(count);
    }

    fn add_cell(&mut self, cell: usize, count: u64) {
        self.rows = self.rows.saturating_add(count);
        self.n = self.n.saturating_add(count);
        if let Some(in_cell) = self.cells.get_mut(cell) {
            *in_cell = in_cell.saturating_add(count);
        }
    }
}

/// Mean 0 and variance 1 over rows with these counts; all 0 where all rows have one score.
fn standardised(scores: Vec<f64>, counts: &[u64]) -> Vec<f64> {
    let all: f64 = counts.iter().map(|count| *count as f64).sum();
    let over_rows = |of: &dyn Fn(f64) -> f64| -> f64 {
        counts.iter().zip(&scores).map(|(count, score)| *count as f64 * of(*score)).sum::<f64>() / all
    };
    let mean = over_rows(&|score| score);
    let deviation = over_rows(&|score| (score - mean).powi(2)).sqrt();
    if deviation.is_nan() || deviation <= 0.0 {
        return vec![0.0; counts.len()];
    }
    scores.iter().map(|score| (score - mean) / deviation).collect()
}
