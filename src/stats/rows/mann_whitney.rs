//! Mann-Whitney U of two samples.

use super::ecdf::{Step, ties};
use super::kolmogorov_smirnov::tie_term;
use crate::stats::mann_whitney::p_value;

/// U of the reference (pairs in which its value is the larger one, ties half), and the two-sided p-value of the
/// normal approximation with tie and continuity correction.
pub fn mann_whitney(steps: &[Step]) -> (f64, f64) {
    let Some(last) = steps.last() else { return (f64::NAN, f64::NAN) };
    let mut below = 0;
    let mut u = 0.0;
    for (_, reference, window) in ties(steps) {
        u += reference as f64 * (below as f64 + window as f64 / 2.0);
        below += window;
    }
    (u, p_value(u, last.reference, last.window, tie_term(steps)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::rows::ecdf::merge;

    #[test]
    fn disjoint_samples_equal_scipy() {
        let reference: Vec<f64> = (0..20).map(f64::from).collect();
        let window: Vec<f64> = (100..120).map(f64::from).collect();
        let (u, p) = mann_whitney(&merge(&reference, &window));
        assert_eq!(u, 0.0);
        assert!((p / 6.795615128173358e-08 - 1.0).abs() < 1e-9, "{p}");
    }

    #[test]
    fn one_constant_value_tells_nothing() {
        assert_eq!(mann_whitney(&merge(&[5.0; 20], &[5.0; 10])), (100.0, 1.0));
    }
}
