//! Do two sets of counts over the same cells (bins, categories) come from one distribution?
//!
//! Pearson's sum of squared deviations, with two changes that make its law hold in the tail. Each cell's deviation
//! is first turned into a normal equivalent by the skewness of its permutation law (hypergeometric), because the
//! few rows of a rare cell have a heavier tail than the normal law. And cells that expect less than one row on a
//! side are counted together: which they are depends on both sides together only, so that the permutation law still
//! holds. What hides in those, such as a category that the reference never saw, is found by the second test: the
//! largest deviation of any single cell, by Fisher's exact test, corrected for the number of cells (Bonferroni).

use super::inflation::Inflation;
use super::law::NullLaw;
use super::normal::{equivalent_of_p, two_sided_p};
use super::wilson_hilferty::normal_equivalent;
use crate::stats::proportions;

/// Cells that expect fewer rows than this on either side are counted together.
const LEAST_EXPECTED: f64 = 1.0;
/// Cells whose exact probability is computed: those with the smallest approximate one.
const EXACT_CELLS: usize = 4;

/// What the counts say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Homogeneity {
    /// Of both tests: twice the smaller one where both were made.
    pub p_value: f64,
    /// The statistic that decided, for thresholds.
    pub law: NullLaw,
}

/// One cell that has rows.
struct Cell {
    reference: u64,
    window: u64,
    /// Rows expected in the window.
    expected: f64,
    /// The lesser expectation of the two sides.
    least_expected: f64,
}

struct Margins {
    reference: u64,
    window: u64,
}

impl Margins {
    fn all(&self) -> f64 {
        self.reference as f64 + self.window as f64
    }

    fn cell(&self, reference: u64, window: u64) -> Cell {
        let rows = reference as f64 + window as f64;
        let expected = rows * (self.window as f64 / self.all());
        Cell { reference, window, expected, least_expected: expected.min(rows - expected) }
    }

    /// Normal equivalent of a cell's deviation under the hypergeometric law.
    fn deviate(&self, cell: &Cell) -> f64 {
        let all = self.all();
        let (rows, drawn) = (cell.reference as f64 + cell.window as f64, self.window as f64);
        let spare = (all - rows) / all;
        let variance = cell.expected * (1.0 - drawn / all) * spare * all / (all - 1.0);
        if variance.is_nan() || variance <= 0.0 {
            return 0.0;
        }
        let skewness = (1.0 - 2.0 * rows / all) * (1.0 - 2.0 * drawn / all) / variance.sqrt();
        normal_equivalent((cell.window as f64 - cell.expected) / variance.sqrt(), skewness)
    }

    /// A quick, rough two-sided probability, to find the cells worth an exact one.
    fn rough_p(&self, cell: &Cell) -> f64 {
        if cell.expected >= LEAST_EXPECTED || (cell.window as f64) < cell.expected {
            return two_sided_p(self.deviate(cell));
        }
        // e^x / x!, the leading term of Poisson's law.
        let terms = (1..=cell.window.min(200)).map(|k| (cell.expected / k as f64).ln());
        terms.sum::<f64>().exp().min(1.0)
    }
}

/// Tests counts of both sides, cell by cell. `single` asks for the largest cell too; it is made anyway where cells
/// had to be counted together. `None` where a side is empty or all rows are in one cell.
pub fn test(reference: &[u64], window: &[u64], single: bool, inflation: Inflation) -> Option<Homogeneity> {
    let total = |side: &[u64]| side.iter().fold(0u64, |sum, count| sum.saturating_add(*count));
    let margins = Margins { reference: total(reference), window: total(window) };
    if margins.reference == 0 || margins.window == 0 {
        return None;
    }
    let pairs = reference.iter().zip(window).filter(|(reference, window)| **reference > 0 || **window > 0);
    let cells: Vec<Cell> = pairs.map(|(reference, window)| margins.cell(*reference, *window)).collect();
    if cells.len() < 2 {
        return None;
    }
    let together = all_cells(&margins, &cells, inflation);
    let any_rare = cells.iter().any(|cell| cell.least_expected < LEAST_EXPECTED);
    if !(single || any_rare) {
        let law = together?;
        return Some(Homogeneity { p_value: law.p_value(), law });
    }
    let of_together = together.map_or(1.0, |law| law.p_value());
    let of_single = largest_cell(&margins, &cells, inflation);
    let p_value = (2.0 * of_together.min(of_single)).min(1.0);
    let law = match together.filter(|_| of_together <= of_single) {
        Some(law) => law,
        None => NullLaw::new(equivalent_of_p(of_single).powi(2), 1.0, Inflation::NONE),
    };
    Some(Homogeneity { p_value, law })
}

/// The sum over cells, rare ones together.
fn all_cells(margins: &Margins, cells: &[Cell], inflation: Inflation) -> Option<NullLaw> {
    let (mut sum, mut counted) = (0.0, 0u32);
    let (mut rare_reference, mut rare_window) = (0u64, 0u64);
    let mut add = |cell: &Cell| {
        let share = (cell.reference as f64 + cell.window as f64) / margins.all();
        sum += (1.0 - share) * margins.deviate(cell).powi(2);
        counted += 1;
    };
    for cell in cells {
        if cell.least_expected < LEAST_EXPECTED {
            rare_reference = rare_reference.saturating_add(cell.reference);
            rare_window = rare_window.saturating_add(cell.window);
        } else {
            add(cell);
        }
    }
    let rare = margins.cell(rare_reference, rare_window);
    if rare.least_expected >= LEAST_EXPECTED {
        add(&rare);
    }
    (counted >= 2).then(|| NullLaw::new(sum, f64::from(counted - 1), inflation))
}

/// Smallest exact probability of a cell, times the number of cells.
fn largest_cell(margins: &Margins, cells: &[Cell], inflation: Inflation) -> f64 {
    let mut rough: Vec<(f64, &Cell)> = cells.iter().map(|cell| (margins.rough_p(cell), cell)).collect();
    rough.sort_by(|left, right| left.0.total_cmp(&right.0));
    // A single cell may be the direction in which windows differ.
    let whole = Inflation { factor: 1.0 + (cells.len() - 1) as f64 * (inflation.factor - 1.0), ..inflation };
    let exact = rough.iter().take(EXACT_CELLS).filter_map(|(_, cell)| {
        proportions::two_sided_p(cell.reference, margins.reference, cell.window, margins.window)
    });
    let smallest = exact.fold(1.0, f64::min);
    (whole.widen(smallest) * cells.len() as f64).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(reference: &[u64], window: &[u64]) -> f64 {
        test(reference, window, false, Inflation::NONE).unwrap().p_value
    }

    #[test]
    fn many_rows_have_pearsons_law() {
        let (reference, window) = ([100_000, 200_000, 300_000], [10_300, 19_900, 29_800]);
        let pearson = crate::stats::chi_square::contingency(&reference, &window).unwrap();
        let ours = p(&reference, &window);
        assert!((ours / pearson.p_value - 1.0).abs() < 0.03, "ours {ours}, Pearson's {}", pearson.p_value);
    }

    #[test]
    fn a_category_never_seen_before_is_found_though_rare() {
        let found = p(&[30_000, 20_000, 0], &[55, 40, 5]);
        assert!(found < 1e-9, "five of a hundred rows are new: {found}");
        let single = p(&[30_000, 20_000, 0], &[60, 39, 1]);
        assert!(single > 1e-3, "one row is what chance brings: {single}");
    }

    #[test]
    fn one_cell_and_empty_sides_have_no_test() {
        assert_eq!(test(&[5, 0], &[7, 0], true, Inflation::NONE), None);
        assert_eq!(test(&[5, 1], &[0, 0], true, Inflation::NONE), None);
        let moved = test(&[1_000, 0], &[0, 500], true, Inflation::NONE).unwrap();
        assert!(moved.p_value < 1e-100, "{moved:?}");
    }

    #[test]
    fn inflation_makes_less_sure() {
        let (reference, window) = ([10_000, 10_000, 10_000], [400, 300, 300]);
        let plain = p(&reference, &window);
        let wide = Inflation { factor: 5.0, dof: 23.0 };
        let widened = test(&reference, &window, true, wide).unwrap().p_value;
        assert!(plain < 1e-4 && widened > 0.02, "plain {plain}, widened {widened}");
    }
}
