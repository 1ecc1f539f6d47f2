//! One regression tree of a fixed depth with two values a leaf, grown on histograms of bins.

use serde::{Deserialize, Serialize};

/// Splits from the root to a leaf.
pub const DEPTH: usize = 5;
pub const NODES: usize = (1 << DEPTH) - 1;
pub const LEAVES: usize = 1 << DEPTH;
const BINS: usize = 64;
/// Rows of mean zero that every leaf has besides its own.
const SHRINKAGE: f64 = 1.0;

/// A node sends a row left if the bit of its bin is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    pub input: u16,
    pub left: u64,
}

/// The children of node i are 2 i + 1 and 2 i + 2; those of the last level are the leaves, from the left.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    pub splits: Vec<Split>,
    pub leaves: Vec<[f32; 2]>,
}

/// Where every row goes where nothing parts it.
const ALL_LEFT: Split = Split { input: 0, left: u64::MAX };

/// What a tree is grown on.
pub struct Growth<'a> {
    /// By input, the bin of each row.
    pub codes: &'a [Vec<u8>],
    /// By input, whether neighbouring bins hold neighbouring values.
    pub ordered: &'a [bool],
    /// Inputs that this tree may split on.
    pub inputs: &'a [u16],
    pub rows: &'a [u32],
    /// What is left to explain, of every row.
    pub residuals: &'a [[f64; 2]],
    pub fewest_in_leaf: f64,
    /// Share of a leaf's mean that it keeps.
    pub rate: f64,
}

/// Rows of a bin or a set of bins, and the sums of their residuals.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    rows: f64,
    residuals: [f64; 2],
}

impl Sums {
    fn add(&mut self, other: &Sums) {
        self.rows += other.rows;
        self.residuals[0] += other.residuals[0];
        self.residuals[1] += other.residuals[1];
    }

    fn less(&self, other: &Sums) -> Sums {
        Sums {
            rows: self.rows - other.rows,
            residuals: [self.residuals[0] - other.residuals[0], self.residuals[1] - other.residuals[1]],
        }
    }

    /// By how much the squared residuals fall if these rows get their shrunken mean.
    fn explained(&self) -> f64 {
        (self.residuals[0].powi(2) + self.residuals[1].powi(2)) / (self.rows + SHRINKAGE)
    }

    fn mean_of_both(&self) -> f64 {
        (self.residuals[0] + self.residuals[1]) / self.rows
    }
}

impl Tree {
    /// Grows level by level; ties of gain go to the first input and the lowest bin.
    pub fn grow(growth: &Growth) -> Self {
        let mut splits = vec![ALL_LEFT; NODES];
        // Place of each row among the nodes of the current level.
        let mut places = vec![0u8; growth.rows.len()];
        for level in 0..DEPTH {
            let nodes = 1usize << level;
            let histograms = histograms(growth, &places, nodes);
            for node in 0..nodes {
                let of_input = |index: usize| {
                    let at = (index * nodes + node) * BINS;
                    &histograms[at..at + BINS]
                };
                if let Some(split) = best_split(growth, of_input) {
                    splits[nodes - 1 + node] = split;
                }
            }
            for (place, row) in places.iter_mut().zip(growth.rows) {
                let split = splits[nodes - 1 + usize::from(*place)];
                let bin = growth.codes[usize::from(split.input)][*row as usize];
                *place = *place * 2 + u8::from((split.left >> bin) & 1 == 0);
            }
        }
        let mut sums = vec![Sums::default(); LEAVES];
        for (place, row) in places.iter().zip(growth.rows) {
            let residuals = growth.residuals[*row as usize];
            sums[usize::from(*place)].add(&Sums { rows: 1.0, residuals });
        }
        let value = |sum: f64, rows: f64| (growth.rate * sum / (rows + SHRINKAGE)) as f32;
        let leaves = sums.iter().map(|sums| sums.residuals.map(|residual| value(residual, sums.rows))).collect();
        Self { splits, leaves }
    }

    /// The leaf that a row reaches.
    #[inline]
    pub fn leaf(&self, bin_of: impl Fn(u16) -> u8) -> usize {
        let mut node = 0;
        for _ in 0..DEPTH {
            let split = self.splits[node];
            let left = (split.left >> bin_of(split.input)) & 1;
            node = 2 * node + 2 - left as usize;
        }
        node - NODES
    }
}

/// By input of the growth, node and bin.
fn histograms(growth: &Growth, places: &[u8], nodes: usize) -> Vec<Sums> {
    let mut histograms = vec![Sums::default(); growth.inputs.len() * nodes * BINS];
    for (index, input) in growth.inputs.iter().enumerate() {
        let codes = &growth.codes[usize::from(*input)];
        let of_input = &mut histograms[index * nodes * BINS..(index + 1) * nodes * BINS];
        for (place, row) in places.iter().zip(growth.rows) {
            let bin = usize::from(*place) * BINS + usize::from(codes[*row as usize]);
            let sums = &mut of_input[bin];
            let residuals = growth.residuals[*row as usize];
            sums.rows += 1.0;
            sums.residuals[0] += residuals[0];
            sums.residuals[1] += residuals[1];
        }
    }
    histograms
}

fn best_split<'a>(growth: &Growth, of_input: impl Fn(usize) -> &'a [Sums]) -> Option<Split> {
    let mut best: Option<(f64, Split)> = None;
    for (index, input) in growth.inputs.iter().enumerate() {
        let bins = of_input(index);
        let mut filled: Vec<usize> = (0..BINS).filter(|bin| bins[*bin].rows > 0.0).collect();
        if !growth.ordered[usize::from(*input)] {
            // In order of their means one of the cuts between neighbours is the best of all (Fisher, On grouping for
            // maximum homogeneity, 1958).
            filled.sort_by(|a, b| bins[*a].mean_of_both().total_cmp(&bins[*b].mean_of_both()));
        }
        let mut all = Sums::default();
        filled.iter().for_each(|bin| all.add(&bins[*bin]));
        let (mut left, mut mask) = (Sums::default(), 0u64);
        for bin in &filled {
            left.add(&bins[*bin]);
            mask |= 1 << bin;
            let right = all.less(&left);
            if left.rows < growth.fewest_in_leaf || right.rows < growth.fewest_in_leaf {
                continue;
            }
            let gain = left.explained() + right.explained() - all.explained();
            if gain > best.map_or(0.0, |(most, _)| most) {
                let empty = filled.iter().fold(u64::MAX, |empty, bin| empty & !(1 << bin));
                // A bin without rows goes where most rows go; of numbers, with its neighbours.
                let left_bins = match growth.ordered[usize::from(*input)] {
                    true => (2u64 << bin).wrapping_sub(1),
                    false if left.rows > right.rows => mask | empty,
                    false => mask,
                };
                best = Some((gain, Split { input: *input, left: left_bins }));
            }
        }
    }
    best.map(|(_, split)| split)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_finds_the_steps_of_numbers_and_the_sets_of_categories() {
        let rows: Vec<u32> = (0..4000).collect();
        let codes = vec![
            rows.iter().map(|row| (row % 60) as u8 + 1).collect::<Vec<u8>>(),
            rows.iter().map(|row| (row / 7 % 10) as u8 + 1).collect(),
        ];
        let wanted = |row: usize| {
            let number = if codes[0][row] > 30 { 3.0 } else { 0.0 };
            let category = if codes[1][row] % 3 == 0 { 1.0 } else { 0.0 };
            [number + category, 2.0 * number]
        };
        let residuals: Vec<[f64; 2]> = (0..4000).map(wanted).collect();
        let growth = Growth {
            codes: &codes,
            ordered: &[true, false],
            inputs: &[0, 1],
            rows: &rows,
            residuals: &residuals,
            fewest_in_leaf: 20.0,
            rate: 1.0,
        };
        let tree = Tree::grow(&growth);
        for (row, residual) in residuals.iter().enumerate() {
            let leaf = tree.leaves[tree.leaf(|input| codes[usize::from(input)][row])];
            let off = (f64::from(leaf[0]) - residual[0]).abs() + (f64::from(leaf[1]) - residual[1]).abs();
            assert!(off < 0.15, "row {row}: {leaf:?} for {residual:?}");
        }
    }
}
