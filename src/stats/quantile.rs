//! Quantiles of a sorted sample, linear between order statistics (type 7 of Hyndman and Fan, 1996).

/// Quantile `numerator / denominator` of values sorted ascending; to the bit what `numpy.quantile` gives for the
/// same fraction. NaN for an empty slice.
pub fn quantile_type7(sorted: &[f64], numerator: u64, denominator: u64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let position = last as f64 * (numerator as f64 / denominator as f64);
    let lower = position.floor() as usize;
    if lower >= last {
        return sorted[last];
    }
    interpolate(sorted[lower], sorted[lower + 1], position - lower as f64)
}

/// numpy's interpolation: from the nearer end, so that t = 1 gives exactly `to`.
fn interpolate(from: f64, to: f64, t: f64) -> f64 {
    let difference = to - from;
    if t >= 0.5 { to - difference * (1.0 - t) } else { from + difference * t }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deciles_of_one_to_twelve_equal_numpy_to_the_bit() {
        let values: Vec<f64> = (1..=12).map(f64::from).collect();
        let deciles: Vec<f64> = (1..10).map(|i| quantile_type7(&values, i, 10)).collect();
        assert_eq!(deciles, [2.1, 3.2, 4.3, 5.4, 6.5, 7.6, 8.7, 9.8, 10.9]);
        // numpy.quantile(range(20), i / 10): rounding shows
        let values: Vec<f64> = (0..20).map(f64::from).collect();
        assert_eq!(quantile_type7(&values, 1, 10), 1.9000000000000001);
        assert_eq!(quantile_type7(&values, 7, 10), 13.299999999999999);
        assert_eq!(quantile_type7(&values, 8, 10), 15.200000000000001);
    }

    #[test]
    fn ends_and_single_values() {
        assert_eq!(quantile_type7(&[3.0], 99, 100), 3.0);
        assert_eq!(quantile_type7(&[1.0, 2.0], 0, 1), 1.0);
        assert_eq!(quantile_type7(&[1.0, 2.0], 1, 1), 2.0);
        assert!(quantile_type7(&[], 1, 2).is_nan());
    }
}
