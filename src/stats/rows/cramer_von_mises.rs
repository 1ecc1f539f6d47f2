//! Two-sample Cramér-von Mises test of two samples.

use super::ecdf::{Step, ties};
use crate::stats::cramer_von_mises::{p_value, statistic, tied};

/// T and its p-value from the limiting law after matching mean and variance (unreliable below about 1e-6). `None`
/// where a side has fewer than two values.
pub fn cramer_von_mises(steps: &[Step]) -> Option<(f64, f64)> {
    let last = steps.last()?;
    if last.reference < 2 || last.window < 2 {
        return None;
    }
    let (nx, ny) = (last.reference as f64, last.window as f64);
    let (mut u, mut reference_before, mut window_before) = (0.0, 0.0, 0.0);
    for (_, reference, window) in ties(steps) {
        let (reference, window) = (reference as f64, window as f64);
        u += tied(nx, ny, (reference_before, window_before), (reference, window));
        reference_before += reference;
        window_before += window;
    }
    let t = statistic(u, last.reference, last.window);
    Some((t, p_value(t, last.reference, last.window)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::rows::ecdf::merge;

    #[test]
    fn disjoint_samples_equal_scipy() {
        let reference: Vec<f64> = (0..20).map(f64::from).collect();
        let window: Vec<f64> = (100..120).map(f64::from).collect();
        let (t, p) = cramer_von_mises(&merge(&reference, &window)).unwrap();
        assert!((t - 3.3375).abs() < 1e-12, "{t}");
        assert!((p - 1.1199134064554528e-08).abs() < 1e-10, "{p}");
    }

    #[test]
    fn identical_samples_have_p_one() {
        let values: Vec<f64> = (1..=12).map(f64::from).collect();
        let (t, p) = cramer_von_mises(&merge(&values, &values)).unwrap();
        assert!(t.abs() < 1e-12, "{t}");
        assert!((p - 1.0).abs() < 1e-9, "{p}");
        assert_eq!(cramer_von_mises(&merge(&values, &[1.0])), None);
    }
}
