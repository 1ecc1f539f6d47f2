//! Wilson's interval of a share.

/// Normal quantile of a two-sided 95% interval.
const Z_95: f64 = 1.959_963_984_540_054;

/// The shares that `hits` among `n` do not contradict at 95% (Wilson, Probable inference, the law of succession, and
/// statistical inference, 1927): within [0, 1], never empty, and right also where the share is near 0 or 1. `None`
/// without observations, or with more hits than those.
pub fn interval_95(hits: u64, n: u64) -> Option<[f64; 2]> {
    if n == 0 || hits > n {
        return None;
    }
    let (n_rows, share) = (n as f64, hits as f64 / n as f64);
    let z_squared = Z_95 * Z_95;
    let shrink = 1.0 + z_squared / n_rows;
    let centre = (share + z_squared / (2.0 * n_rows)) / shrink;
    let variance = share * (1.0 - share) / n_rows + z_squared / (4.0 * n_rows * n_rows);
    let half = Z_95 * variance.sqrt() / shrink;
    // The ends at 0 and 1 are exact; rounding would miss them by an ulp.
    let lower = if hits == 0 { 0.0 } else { (centre - half).max(0.0) };
    let upper = if hits == n { 1.0 } else { (centre + half).min(1.0) };
    Some([lower, upper])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_within_the_shares_that_there_can_be() {
        // The formula worked out apart, in Python.
        for (hits, n, lower, upper) in [
            (0, 10, 0.0, 0.277_532_799_862_889),
            (5, 10, 0.236_593_090_512_564, 0.763_406_909_487_436),
            (10, 10, 0.722_467_200_137_110_7, 1.0),
        ] {
            let [low, high] = interval_95(hits, n).unwrap();
            assert!((low - lower).abs() < 1e-12 && (high - upper).abs() < 1e-12, "{hits} of {n}: {low} to {high}");
        }
        assert_eq!((interval_95(0, 0), interval_95(2, 1)), (None, None));
    }
}
