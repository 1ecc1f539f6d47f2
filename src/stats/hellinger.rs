//! Hellinger distance: Euclidean distance of the square roots of the shares.

use super::psi;

/// `sqrt(sum (sqrt p - sqrt q)^2) / sqrt 2`, in [0, 1].
pub fn hellinger_distance(reference: &[f64], window: &[f64]) -> f64 {
    let squares: f64 = reference.iter().zip(window).map(|(&p, &q)| (p.sqrt() - q.sqrt()).powi(2)).sum();
    squares.sqrt() / std::f64::consts::SQRT_2
}

/// Probability of a distance at least this large under one distribution: to second order its square is an eighth of
/// the population stability index, whose law is known.
pub fn p_value(distance: f64, bins: usize, n_reference: u64, n: u64) -> Option<f64> {
    psi::p_value(8.0 * distance * distance, bins, n_reference, n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disjoint_shares_are_one_apart() {
        let distance = hellinger_distance(&[1.0, 0.0], &[0.0, 1.0]);
        assert!((distance - 1.0).abs() < 1e-15, "{distance} instead of 1");
    }

    #[test]
    fn half_against_one_by_hand() {
        let distance = hellinger_distance(&[1.0, 0.0], &[0.5, 0.5]);
        let expected = (1.0 - 0.5_f64.sqrt()).sqrt();
        assert!((distance - expected).abs() < 1e-15, "{distance} instead of {expected}");
    }
}
