//! Hellinger distance: Euclidean distance of the square roots of the shares.

/// `sqrt(sum (sqrt p - sqrt q)^2) / sqrt 2`, in [0, 1].
pub fn hellinger_distance(reference: &[f64], window: &[f64]) -> f64 {
    let squares: f64 = reference.iter().zip(window).map(|(&p, &q)| (p.sqrt() - q.sqrt()).powi(2)).sum();
    squares.sqrt() / std::f64::consts::SQRT_2
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
