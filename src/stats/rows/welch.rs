//! Welch's t test: do the means differ, variances free?

use statrs::function::beta::checked_beta_reg;

use super::sample::Sample;

/// t of reference minus window, and its two-sided p-value; NaN where a side has fewer than two values. `None` where
/// both sides are constant: there is no spread to measure a difference by (scipy divides rounding errors then).
pub fn welch_t_test(reference: &Sample, window: &Sample) -> Option<(f64, f64)> {
    if reference.variance() == 0.0 && window.variance() == 0.0 && reference.n() > 1 && window.n() > 1 {
        return None;
    }
    let (n_reference, n) = (reference.n() as f64, window.n() as f64);
    let (reference_error, window_error) = (reference.sample_variance() / n_reference, window.sample_variance() / n);
    let error = reference_error + window_error;
    let t = (reference.mean - window.mean) / error.sqrt();
    let freedom = error * error / (reference_error.powi(2) / (n_reference - 1.0) + window_error.powi(2) / (n - 1.0));
    Some((t, two_sided_p_value(t, freedom)))
}

fn two_sided_p_value(t: f64, freedom: f64) -> f64 {
    if t.is_nan() {
        return f64::NAN;
    }
    let x = freedom / (freedom + t * t);
    checked_beta_reg(freedom / 2.0, 0.5, x).unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disjoint_samples_equal_scipy() {
        let (t, p) =
            welch_t_test(&Sample::new((0..20).map(f64::from)), &Sample::new((100..120).map(f64::from))).unwrap();
        assert!((t + 53.452248382484875).abs() < 1e-12, "{t}");
        assert!((p / 2.270254219656725e-37 - 1.0).abs() < 1e-9, "{p}");
    }

    #[test]
    fn two_constants_cannot_be_tested_and_one_value_has_no_answer() {
        assert_eq!(welch_t_test(&Sample::new([5.0; 20]), &Sample::new([6.0; 10])), None);
        let (t, p) = welch_t_test(&Sample::new([1.0, 2.0]), &Sample::new([6.0])).unwrap();
        assert!(t.is_nan() && p.is_nan(), "{t} {p}");
    }
}
