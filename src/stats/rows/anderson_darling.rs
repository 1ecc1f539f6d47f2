//! Two-sample Anderson-Darling test of two samples.

use super::ecdf::{Step, ties};
use crate::stats::anderson_darling::{is_defined, normalised, p_value, weight};

/// Normalised statistic `(A2 - 1) / sigma`, and p interpolated between the published levels, so in [0.001, 0.25].
/// `None` below four rows, for an empty side, and where all values are equal.
pub fn anderson_darling(steps: &[Step]) -> Option<(f64, f64)> {
    let last = steps.last()?;
    if !is_defined(last.reference, last.window) || steps.len() < 2 {
        return None;
    }
    let statistic = normalised(sum_over_ties(steps), last.reference, last.window);
    Some((statistic, p_value(statistic)))
}

fn sum_over_ties(steps: &[Step]) -> f64 {
    let Some(last) = steps.last() else { return f64::NAN };
    let (nx, ny) = (last.reference as f64, last.window as f64);
    let (mut reference_before, mut window_before, mut sum) = (0.0, 0.0, 0.0);
    for (_, reference, window) in ties(steps) {
        let (reference, window) = (reference as f64, window as f64);
        let distance = ny * (reference_before + reference / 2.0) - nx * (window_before + window / 2.0);
        let (from, tied) = (reference_before + window_before, reference + window);
        sum += tied * distance * distance / weight(nx + ny, from, from + tied);
        reference_before += reference;
        window_before += window;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::rows::ecdf::merge;

    #[test]
    fn equals_scipy_without_and_with_ties() {
        let reference: Vec<f64> = (0..20).map(f64::from).collect();
        let window: Vec<f64> = (100..120).map(f64::from).collect();
        let (statistic, p) = anderson_darling(&merge(&reference, &window)).unwrap();
        assert!((statistic - 20.043912434676297).abs() < 1e-10, "{statistic}");
        assert_eq!(p, 0.001);
        let spread: Vec<f64> = (0..10).map(f64::from).collect();
        let (statistic, p) = anderson_darling(&merge(&[5.0; 20], &spread)).unwrap();
        assert!((statistic - 1.1800426316794583).abs() < 1e-11, "{statistic}");
        assert!((p - 0.10622670413272697).abs() < 1e-9, "{p}");
    }

    #[test]
    fn one_value_everywhere_is_no_test() {
        assert_eq!(anderson_darling(&merge(&[5.0; 20], &[5.0; 10])), None);
    }
}
