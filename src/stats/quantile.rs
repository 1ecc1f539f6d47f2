//! Quantiles of type 7 (Hyndman and Fan 1996): h = (n - 1) p, linear between the neighbours of h.

/// The quantile `numerator / denominator` of `sorted` (ascending, no NaN): bit for bit what
/// `numpy.quantile(x, numerator / denominator)` answers, so that a value on a bin edge falls into the same bin here
/// and there. The quotient is correctly rounded, hence 100/1000 and 1/10 are one and the same share.
///
/// NaN for an empty slice.
pub fn quantile_type7(sorted: &[f64], numerator: u64, denominator: u64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let position = last as f64 * (numerator as f64 / denominator as f64);
    let below = (position.floor() as usize).min(last);
    let above = (below + 1).min(last);
    let weight = position - position.floor();
    let (low, high) = (sorted[below], sorted[above]);
    // numpy interpolates from the nearer end; the two forms differ in the last bit.
    if weight >= 0.5 { high - (high - low) * (1.0 - weight) } else { low + (high - low) * weight }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_equal_numpy_to_the_bit() {
        // numpy.quantile([0.1, 0.7, 1.3, 2.9, 3.3], [0.1, 0.3, 0.45, 0.9]) (numpy 2.4)
        let sorted = [0.1, 0.7, 1.3, 2.9, 3.3];
        let expected = [0.33999999999999997, 0.82, 1.1800000000000002, 3.1399999999999997];
        let ours = [(1, 10), (3, 10), (9, 20), (9, 10)].map(|(i, k)| quantile_type7(&sorted, i, k));
        assert_eq!(ours, expected);
    }

    #[test]
    fn ends_and_single_values_are_themselves() {
        assert_eq!(quantile_type7(&[4.0], 1, 10), 4.0);
        assert_eq!(quantile_type7(&[1.0, 2.0], 10, 10), 2.0);
        assert!(quantile_type7(&[], 1, 10).is_nan());
    }
}
