//! Population stability index: the symmetric Kullback-Leibler divergence of credit scoring.
//!
//! `sum (q - p) ln(q / p)` over bins, p the reference's shares and q the window's. Shares below the floor are
//! raised to it and not renormalised (Yurdakul, 2018, describes the statistic's law under no drift: about
//! `chi2(bins - 1) * (1/n_reference + 1/n)`).

/// Conventional floor of a share: an empty bin counts as one in ten thousand.
pub const SHARE_FLOOR: f64 = 1e-4;

/// Population stability index of two lists of shares over the same bins, each in [0, 1]. Zero: same shares;
/// above 0.1 is commonly read as some drift, above 0.25 as much.
pub fn population_stability_index(reference: &[f64], window: &[f64], floor: f64) -> f64 {
    reference
        .iter()
        .zip(window)
        .map(|(&p, &q)| {
            let (p, q) = (p.max(floor), q.max(floor));
            (q - p) * (q / p).ln()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_bins_by_hand() {
        let psi = population_stability_index(&[0.5, 0.5], &[0.4, 0.6], SHARE_FLOOR);
        let expected = -0.1 * (0.8_f64).ln() + 0.1 * (1.2_f64).ln();
        assert!((psi - expected).abs() < 1e-15, "{psi} instead of {expected}");
    }

    #[test]
    fn an_empty_bin_counts_as_the_floor() {
        let psi = population_stability_index(&[1.0, 0.0], &[0.0, 1.0], 1e-4);
        let expected = 2.0 * (1.0 - 1e-4) * (1e4_f64).ln();
        assert!((psi - expected).abs() < 1e-12, "{psi} instead of {expected}");
    }

    #[test]
    fn same_shares_give_zero() {
        assert_eq!(population_stability_index(&[0.2, 0.0, 0.8], &[0.2, 0.0, 0.8], SHARE_FLOOR), 0.0);
    }
}
