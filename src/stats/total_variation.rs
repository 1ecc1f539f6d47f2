//! Total variation and the largest difference: the two plain distances between lists of shares.

use statrs::function::erf::erfc;

/// Half the sum of absolute differences, in [0, 1]: the share of rows that would have to change bin.
pub fn total_variation_distance(reference: &[f64], window: &[f64]) -> f64 {
    0.5 * reference.iter().zip(window).map(|(p, q)| (p - q).abs()).sum::<f64>()
}

/// Largest absolute difference of one bin's share, in [0, 1] (L-infinity).
pub fn largest_share_difference(reference: &[f64], window: &[f64]) -> f64 {
    reference.iter().zip(window).map(|(p, q)| (p - q).abs()).fold(0.0, f64::max)
}

/// Probability that any share differs by at least `difference` under no drift, `pooled` being the shares of both sides
/// together: each difference is normal, and the chances of all bins are added (so it is an upper limit).
pub fn largest_difference_p(difference: f64, pooled: &[f64], n_reference: u64, n: u64) -> Option<f64> {
    if n_reference == 0 || n == 0 {
        return None;
    }
    let scale = 1.0 / n_reference as f64 + 1.0 / n as f64;
    let exceeds = |share: &f64| {
        let deviation = (share * (1.0 - share) * scale).sqrt();
        if difference <= 0.0 { 1.0 } else { erfc(difference / (deviation * std::f64::consts::SQRT_2)) }
    };
    Some(pooled.iter().map(exceeds).sum::<f64>().min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_of_three_deviations_in_ten_bins_is_about_two_and_a_half_in_a_hundred() {
        // One bin of ten, sd sqrt(0.09 (1/1000 + 1/1000)): 10 * 2 (1 - Phi(3)) = 0.02700.
        let p = largest_difference_p(3.0 * (0.09_f64 / 500.0).sqrt(), &[0.1; 10], 1_000, 1_000).unwrap();
        assert!((p - 0.026998).abs() < 1e-5, "{p}");
        assert_eq!(largest_difference_p(0.0, &[0.5, 0.5], 10, 10), Some(1.0));
        assert_eq!(largest_difference_p(1.0, &[1.0, 0.0], 10, 10), Some(0.0));
    }

    #[test]
    fn three_bins_by_hand() {
        let (reference, window) = ([0.5, 0.3, 0.2], [0.2, 0.4, 0.4]);
        let total = total_variation_distance(&reference, &window);
        assert!((total - 0.3).abs() < 1e-15, "{total} instead of 0.3");
        let largest = largest_share_difference(&reference, &window);
        assert!((largest - 0.3).abs() < 1e-15, "{largest} instead of 0.3");
    }
}
