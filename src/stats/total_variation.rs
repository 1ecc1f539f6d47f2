//! Total variation and the largest difference: the two plain distances between lists of shares.

/// Half the sum of absolute differences, in [0, 1]: the share of rows that would have to change bin.
pub fn total_variation_distance(reference: &[f64], window: &[f64]) -> f64 {
    0.5 * reference.iter().zip(window).map(|(p, q)| (p - q).abs()).sum::<f64>()
}

/// Largest absolute difference of one bin's share, in [0, 1] (L-infinity).
pub fn largest_share_difference(reference: &[f64], window: &[f64]) -> f64 {
    reference.iter().zip(window).map(|(p, q)| (p - q).abs()).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_bins_by_hand() {
        let (reference, window) = ([0.5, 0.3, 0.2], [0.2, 0.4, 0.4]);
        let total = total_variation_distance(&reference, &window);
        assert!((total - 0.3).abs() < 1e-15, "{total} instead of 0.3");
        let largest = largest_share_difference(&reference, &window);
        assert!((largest - 0.3).abs() < 1e-15, "{largest} instead of 0.3");
    }
}
