//! Population stability index: the symmetrised Kullback-Leibler divergence of two sets of shares.
//!
//! Siddiqi, Credit Risk Scorecards (2006); null law: Yurdakul, Statistical properties of population stability
//! index (2018): PSI / (1/N + 1/M) follows a chi-square law with B - 1 degrees of freedom.

use super::cells::Cells;
use super::chi_square;
use super::metric::MetricValue;

/// Smallest share a bin counts with, so that an empty one has a finite weight.
pub const SHARE_FLOOR: f64 = 1e-4;

/// Scouter's.
pub const SCOUTER_FLOOR: f64 = 1e-10;

/// Sum of (q - p) ln(q / p) over the bins, natural logarithm, with both shares raised to `floor` and not
/// renormalised. Slices of equal length; shares, not counts.
pub fn population_stability_index(reference: &[f64], window: &[f64], floor: f64) -> f64 {
    debug_assert_eq!(reference.len(), window.len());
    reference.iter().zip(window).map(|(&p, &q)| term(p, q, floor)).sum()
}

/// What one bin contributes.
pub fn term(reference: f64, window: f64, floor: f64) -> f64 {
    let (p, q) = (reference.max(floor), window.max(floor));
    (q - p) * (q / p).ln()
}

/// With half a count added to every bin instead of a floor (a Jeffreys prior): no share is 0. Slices of equal length;
/// counts, not shares.
pub fn with_half_counts(reference: &[u64], window: &[u64]) -> f64 {
    population_stability_index(&half_count_shares(reference), &half_count_shares(window), 0.0)
}

fn half_count_shares(counts: &[u64]) -> Vec<f64> {
    let total = counts.iter().sum::<u64>() as f64 + 0.5 * counts.len() as f64;
    counts.iter().map(|&count| (count as f64 + 0.5) / total).collect()
}

/// Every value a bin of its own, over a reference of few values: exact where each value of the window is one of the
/// reference's, or alone between two of them. Several that lie between two of them are counted as one value, which is
/// the most that they can add: what a value without reference rows adds is convex in its share. `None` where the
/// reference has values in a bin with others.
pub fn over_distinct_values(cells: &Cells) -> Option<MetricValue> {
    let (n_reference, n) = (cells.n_reference as f64, cells.n as f64);
    let (mut least, mut most, mut values) = (0.0, 0.0, 0);
    for cell in cells.filled() {
        let (p, q) = (cell.reference as f64 / n_reference, cell.window as f64 / n);
        values += 1;
        most += term(p, q, SHARE_FLOOR);
        least += match (cell.single, cell.reference) {
            (true, _) => term(p, q, SHARE_FLOOR),
            (false, 0) => cell.window as f64 * term(0.0, 1.0 / n, SHARE_FLOOR),
            (false, _) => return None,
        };
    }
    let p_value = p_value(most, values, cells.n_reference, cells.n);
    Some(MetricValue::within(most, least, most).with_p(p_value))
}

/// Probability of an index at least this large when both sides are samples of one distribution: `bins` bins,
/// `n_reference` and `n` values. `None` with fewer than two bins or an empty side.
pub fn p_value(index: f64, bins: usize, n_reference: u64, n: u64) -> Option<f64> {
    if bins < 2 || n_reference == 0 || n == 0 {
        return None;
    }
    let scale = 1.0 / n_reference as f64 + 1.0 / n as f64;
    Some(chi_square::survival(index / scale, (bins - 1) as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_equals_the_written_out_sum() {
        let reference = [0.1; 10];
        let window = [0.05, 0.05, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.2];
        let expected = 2.0 * (-0.05 * (0.5f64).ln()) + 0.1 * 2f64.ln();
        let ours = population_stability_index(&reference, &window, SHARE_FLOOR);
        assert!((ours - expected).abs() < 1e-15, "ours {ours}, expected {expected}");
    }

    #[test]
    fn an_empty_bin_counts_with_the_floor() {
        let ours = population_stability_index(&[0.5, 0.5], &[1.0, 0.0], 1e-4);
        let expected = 0.5 * 2f64.ln() + (1e-4 - 0.5) * (1e-4f64 / 0.5).ln();
        assert!((ours - expected).abs() < 1e-15, "ours {ours}, expected {expected}");
    }

    #[test]
    fn a_large_index_of_a_small_window_is_not_significant() {
        // 0.2 of 60 rows is chance; of 6000 rows it is not.
        let small = p_value(0.2, 10, 10_000, 60).unwrap();
        let large = p_value(0.2, 10, 10_000, 6_000).unwrap();
        assert!(small > 0.1 && large < 1e-12, "small window {small}, large window {large}");
        assert_eq!(p_value(0.2, 1, 10, 10), None);
    }
}
