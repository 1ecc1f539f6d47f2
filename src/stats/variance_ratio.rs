//! Ratio of the window's variance to the reference's.

use statrs::function::erf::erfc;

/// Two-sided probability of a ratio at least this far from 1, on the scale of its logarithm, under no drift.
///
/// The F test takes the values to be normal and calls heavy tails drift. The variance of a sample variance is
/// `sigma^4 / n (kurtosis - 1 + 2 / (n - 1))` for any law that has a fourth moment, and the logarithm of the ratio is
/// normal to first order (delta method; Layard, 1973). `kurtosis` is `mu_4 / sigma^4` of the reference, 3 for a normal
/// law. `None` where a side has fewer than two values.
pub fn p_value(ratio: f64, kurtosis: f64, n_reference: u64, n: u64) -> Option<f64> {
    if n_reference < 2 || n < 2 || ratio.is_nan() || kurtosis.is_nan() {
        return None;
    }
    let of_logarithm = |n: u64| (kurtosis.max(1.0) - 1.0 + 2.0 / (n - 1) as f64) / n as f64;
    let variance = of_logarithm(n_reference) + of_logarithm(n);
    // A window without any spread: the logarithm is infinite, the probability 0.
    Some(erfc(ratio.ln().abs() / (2.0 * variance).sqrt()).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_as_much_again_in_a_thousand_normal_values_is_no_chance() {
        let p = p_value(1.5, 3.0, 100_000, 1_000).unwrap();
        assert!(p < 1e-15, "{p}");
        // ln 1.05 is 1.09 standard deviations: 2 (1 - Phi(1.086))
        let p = p_value(1.05, 3.0, 1_000_000_000, 1_000).unwrap();
        assert!((p - 0.275).abs() < 2e-3, "{p}");
    }

    #[test]
    fn heavy_tails_and_a_window_without_spread() {
        let heavy = p_value(1.5, 300.0, 100_000, 1_000).unwrap();
        assert!(heavy > 0.4, "{heavy}");
        assert_eq!(p_value(0.0, 3.0, 100, 100), Some(0.0));
        assert_eq!(p_value(1.0, 3.0, 1, 100), None);
    }
}
