//! Wasserstein-1 (earth mover's) distance of two samples.

use super::ecdf::Step;

/// Integral of |F_reference - F_window|, in units of the feature. NaN where a side is empty.
pub fn wasserstein(steps: &[Step]) -> f64 {
    integrate(steps, f64::abs)
}

/// Divided by the reference's population standard deviation, but not by less than 0.001 (evidently's rule).
pub fn normed(distance: f64, reference_std: f64) -> f64 {
    distance / reference_std.max(0.001)
}

/// Integral over the values of a function of the distance of the two distribution functions.
pub(super) fn integrate(steps: &[Step], term: impl Fn(f64) -> f64) -> f64 {
    let Some(last) = steps.last() else { return f64::NAN };
    let (reference_total, window_total) = (last.reference as f64, last.window as f64);
    let piece = |pair: &[Step]| {
        let distance = pair[0].reference as f64 / reference_total - pair[0].window as f64 / window_total;
        term(distance) * (pair[1].value - pair[0].value)
    };
    // by blocks: a running sum over 100 000 steps would lose digits
    let mut total = 0.0;
    let mut start = 0;
    while start + 1 < steps.len() {
        let end = (start + 256).min(steps.len() - 1);
        total += steps[start..=end].windows(2).map(piece).sum::<f64>();
        start = end;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::rows::ecdf::merge;

    #[test]
    fn a_shift_costs_its_length() {
        let reference: Vec<f64> = (0..2000).map(f64::from).collect();
        let window: Vec<f64> = (0..2000).map(|i| f64::from(i) + 3.0).collect();
        let distance = wasserstein(&merge(&reference, &window));
        assert!((distance - 3.0).abs() < 1e-10, "{distance} instead of 3");
    }

    #[test]
    fn one_point_against_a_spread() {
        // mean of |7 - i| over 0..50
        let reference: Vec<f64> = (0..50).map(f64::from).collect();
        let distance = wasserstein(&merge(&reference, &[7.0]));
        assert!((distance - 18.62).abs() < 1e-13, "{distance} instead of 18.62");
        assert_eq!(normed(2.5, 0.0), 2500.0);
    }
}
