//! Mean distance between standardised vectors and their projection on the reference's principal axes (NannyML's
//! multivariate drift measure, Hinder et al. 2020 for its limits).
//!
//! Sees correlations that break or turn: rows leave the subspace in which the reference lived, or move into it. Does
//! not see what happens inside that subspace, nor a change that leaves the mean distance to it as it was.

use super::law::{gamma_tails, two_sided};

/// Mean of the window and how it compares with the reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReconstructionError {
    /// Mean error of the window's rows, in standard deviations of the entries.
    pub mean: f64,
    /// Difference to the reference's mean, in standard errors; negative where the window fits better.
    pub shift: f64,
    /// Two-sided: probability of a shift at least this large under no drift.
    pub p_value: f64,
}

/// Compares means of the first three powers of the error on both sides. The standard error is that of the reference's
/// spread at both sizes; the law has the skewness that the reference's implies for a difference of two means. `None`
/// for fewer than two rows, or a reference whose error does not vary.
pub fn reconstruction_error(
    reference: [f64; 3],
    n_reference: u64,
    window: [f64; 3],
    n: u64,
) -> Option<ReconstructionError> {
    /// Spread that is rounding of 32-bit projections rather than data.
    const LEAST_DEVIATION: f64 = 1e-4;
    if n_reference < 2 || n < 2 {
        return None;
    }
    let (n_reference, n) = (n_reference as f64, n as f64);
    let [mean, square, cube] = reference;
    let variance = (square - mean * mean) * n_reference / (n_reference - 1.0);
    let deviation = variance.max(0.0).sqrt().max(LEAST_DEVIATION);
    let skewness = (cube - 3.0 * mean * square + 2.0 * mean.powi(3)) / deviation.powi(3);
    let weight = 1.0 / n + 1.0 / n_reference;
    let shift = (window[0] - mean) / (deviation * weight.sqrt());
    let of_difference = skewness * (1.0 / (n * n) - 1.0 / (n_reference * n_reference)) / weight.powf(1.5);
    Some(ReconstructionError { mean: window[0], shift, p_value: two_sided(gamma_tails(shift, of_difference)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shift_counts_standard_errors() {
        // Errors 0 and 2 in equal parts: mean 1, square 2, cube 4; no skewness.
        let found = reconstruction_error([1.0, 2.0, 4.0], 1_000_000, [1.1, 2.0, 4.0], 400).unwrap();
        assert!((found.shift - 2.0).abs() < 1e-2, "{found:?}");
        assert!((found.p_value - 0.0455).abs() < 1e-3, "{found:?}");
        assert_eq!(reconstruction_error([1.0, 2.0, 4.0], 1, [1.0, 2.0, 4.0], 400), None);
    }

    #[test]
    fn a_skewed_error_has_a_heavier_upper_tail() {
        // Exponential errors: moments 1, 2, 6.
        let up = reconstruction_error([1.0, 2.0, 6.0], 1_000_000, [1.4, 0.0, 0.0], 50).unwrap();
        let down = reconstruction_error([1.0, 2.0, 6.0], 1_000_000, [0.6, 0.0, 0.0], 50).unwrap();
        assert!(up.p_value > 2.0 * down.p_value, "{up:?} {down:?}");
        // The mean of 50 exponential draws is at least 1.4 with probability 0.0047 (gamma law, shape 50).
        assert!((up.p_value / 2.0 - 0.0047).abs() < 5e-4, "{up:?}");
    }
}
