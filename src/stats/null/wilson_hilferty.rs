//! Normal equivalents of skewed counts and sums.

/// The normal deviate that corresponds to a `standardised` one (mean 0, variance 1) of a law with this `skewness`:
/// the law is taken to be a gamma law with the same first three moments, and its cube root to be normal (Wilson and
/// Hilferty, 1931). Counts of a permutation are gamma-like in their upper tail; below 10 expected rows the result
/// errs on the safe side (measured: at p = 5e-5 the chance is 0.2 to 0.9 times that).
pub fn normal_equivalent(standardised: f64, skewness: f64) -> f64 {
    if skewness.abs() < 1e-6 {
        return standardised;
    }
    let ratio = (1.0 + standardised * skewness / 2.0).max(0.0);
    6.0 / skewness * (ratio.cbrt() - 1.0) + skewness / 6.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gamma_law_becomes_normal() {
        // chi-square with 8 degrees of freedom: mean 8, variance 16, skewness 1; P(X >= 32) = 9.3e-5, z = 3.737
        let z = normal_equivalent((32.0 - 8.0) / 4.0, 1.0);
        assert!((3.737 - z) > 0.0 && (3.737 - z) < 0.05, "{z}");
        assert_eq!(normal_equivalent(2.5, 0.0), 2.5);
        let mirrored = normal_equivalent(-(32.0 - 8.0) / 4.0, -1.0);
        assert!((mirrored + z).abs() < 1e-12, "{mirrored} mirrors {z}");
    }
}
