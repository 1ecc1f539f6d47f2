//! Welch's t test: do the means differ, variances free? (Welch, 1947)

use statrs::function::beta::checked_beta_reg;

/// What the test needs to know of a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moments {
    pub n: u64,
    pub mean: f64,
    /// Divided by n - 1; NaN below two values.
    pub variance: f64,
}

/// t of reference minus window, and its two-sided p-value; NaN where a side has fewer than two values. `None` where
/// both sides are constant: there is no spread to measure a difference by (scipy divides rounding errors then).
pub fn welch_t_test(reference: Moments, window: Moments) -> Option<(f64, f64)> {
    if reference.variance == 0.0 && window.variance == 0.0 {
        return None;
    }
    let (n_reference, n) = (reference.n as f64, window.n as f64);
    let (reference_error, window_error) = (reference.variance / n_reference, window.variance / n);
    let error = reference_error + window_error;
    let t = (reference.mean - window.mean) / error.sqrt();
    let freedom = error * error / (reference_error.powi(2) / (n_reference - 1.0) + window_error.powi(2) / (n - 1.0));
    Some((t, two_sided_p_value(t, freedom)))
}

fn two_sided_p_value(t: f64, freedom: f64) -> f64 {
    if t.is_nan() || freedom.is_nan() {
        return f64::NAN;
    }
    let x = freedom / (freedom + t * t);
    checked_beta_reg(freedom / 2.0, 0.5, x).unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_against_twenty_a_hundred_higher_equals_scipy() {
        let of = |mean: f64| Moments { n: 20, mean, variance: 35.0 };
        let (t, p) = welch_t_test(of(9.5), of(109.5)).unwrap();
        assert!((t + 53.452248382484875).abs() < 1e-12, "{t}");
        assert!((p / 2.270254219656725e-37 - 1.0).abs() < 1e-9, "{p}");
    }

    #[test]
    fn constants_cannot_be_tested_and_one_value_has_no_answer() {
        let constant = |n, mean| Moments { n, mean, variance: 0.0 };
        assert_eq!(welch_t_test(constant(20, 5.0), constant(10, 6.0)), None);
        let single = Moments { n: 1, mean: 6.0, variance: f64::NAN };
        let (t, p) = welch_t_test(constant(20, 5.0), single).unwrap();
        assert!(t.is_nan() && p.is_nan(), "{t} {p}");
    }
}
