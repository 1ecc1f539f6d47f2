//! Welch's t test of two samples.

use super::sample::Sample;
use crate::stats::welch::{self, Moments};

/// See [`welch::welch_t_test`].
pub fn welch_t_test(reference: &Sample, window: &Sample) -> Option<(f64, f64)> {
    welch::welch_t_test(moments(reference), moments(window))
}

fn moments(sample: &Sample) -> Moments {
    Moments { n: sample.n(), mean: sample.mean, variance: sample.sample_variance() }
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
