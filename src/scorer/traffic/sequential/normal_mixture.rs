//! Whether two means differ: the mixture sequential probability ratio test (Robbins, 1970; Johari, Koomen, Pekelis and
//! Walsh, 2022), and the confidence sequence that comes of it.
//!
//! For a difference d of two means whose variance is V, and effects spread like a normal law of variance T around 0,
//!
//! ```text
//! e = sqrt(V / (V + T)) exp(T d^2 / (2 V (V + T)))
//! ```
//!
//! V is estimated from the two samples, so the promise holds in the limit of many observations: callers ask for a least
//! number of each side first.

use serde::{Deserialize, Serialize};

/// Number, mean and sum of squared deviations of a sample; samples merge in any order, to rounding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moments {
    pub n: u64,
    pub mean: f64,
    /// Sum of squared deviations from the mean.
    pub squares: f64,
}

impl Moments {
    /// One more value (Welford, 1962).
    pub fn push(&mut self, value: f64) {
        self.n += 1;
        let before = value - self.mean;
        self.mean += before / self.n as f64;
        self.squares += before * (value - self.mean);
    }

    /// Another sample (Chan, Golub and LeVeque, 1979).
    pub fn add(&mut self, other: Self) {
        if other.n == 0 {
            return;
        }
        let (n, m) = (self.n as f64, other.n as f64);
        let apart = other.mean - self.mean;
        self.n += other.n;
        self.mean += apart * m / (n + m);
        self.squares += other.squares + apart * apart * n * m / (n + m);
    }

    /// Variance of the values, with n - 1; `None` of fewer than two.
    pub fn variance(self) -> Option<f64> {
        (self.n > 1).then(|| self.squares.max(0.0) / (self.n - 1) as f64)
    }

    /// Variance of the mean.
    fn variance_of_mean(self) -> Option<f64> {
        Some(self.variance()? / self.n as f64)
    }
}

/// A difference of two means and its variance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    pub mean: f64,
    pub variance: f64,
}

impl Difference {
    /// The first's mean minus the second's; `None` where a sample has fewer than two values.
    pub fn of(first: Moments, second: Moments) -> Option<Self> {
        let variance = first.variance_of_mean()? + second.variance_of_mean()?;
        Some(Self { mean: first.mean - second.mean, variance })
    }

    /// Logarithm of the e-value against differences no farther from 0 than `tolerated`, for effects spread by `spread`.
    pub fn log_e(self, tolerated: f64, spread: f64) -> f64 {
        let beyond = (self.mean.abs() - tolerated).max(0.0);
        log_e(beyond, self.variance, spread)
    }

    /// Logarithm of the e-value against differences of 0 and below.
    pub fn log_e_above(self, spread: f64) -> f64 {
        log_e(self.mean.max(0.0), self.variance, spread)
    }

    /// Half the width of the confidence sequence at a level.
    pub fn half_width(self, alpha: f64, spread: f64) -> f64 {
        let (variance, effects) = (self.variance, spread * spread);
        if variance <= 0.0 {
            return 0.0;
        }
        let sum = variance + effects;
        // The e-value at which a difference is excluded, solved for the difference.
        (variance * sum / effects * (sum / (variance * alpha * alpha)).ln()).sqrt()
    }
}

fn log_e(difference: f64, variance: f64, spread: f64) -> f64 {
    let effects = spread * spread;
    if variance <= 0.0 {
        // Constants on both sides: equal, or certainly not.
        return if difference > 0.0 { f64::INFINITY } else { 0.0 };
    }
    let sum = variance + effects;
    0.5 * (variance / sum).ln() + effects * difference * difference / (2.0 * variance * sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[f64]) -> Moments {
        let mut moments = Moments::default();
        for &value in values {
            moments.push(value);
        }
        moments
    }

    proptest! {
        #[test]
        fn samples_merge_in_any_split(values in prop::collection::vec(-1e3_f64..1e3, 2..60), cut in 0_usize..60) {
            let cut = cut.min(values.len());
            let mut merged = of(&values[cut..]);
            merged.add(of(&values[..cut]));
            let whole = of(&values);
            prop_assert_eq!(merged.n, whole.n);
            prop_assert!((merged.mean - whole.mean).abs() < 1e-9);
            prop_assert!((merged.squares - whole.squares).abs() < 1e-6 * (1.0 + whole.squares));
        }

        #[test]
        fn the_interval_is_what_the_test_does_not_exclude(
            variance in 1e-6_f64..10.0, spread in 1e-3_f64..5.0, alpha in 0.001_f64..0.3,
        ) {
            let zero = Difference { mean: 0.0, variance };
            let edge = Difference { mean: zero.half_width(alpha, spread), variance };
            prop_assert!((edge.log_e(0.0, spread) + alpha.ln()).abs() < 1e-6);
        }

        #[test]
        fn the_order_of_the_arms_changes_only_the_sign(
            one in prop::collection::vec(-10.0_f64..10.0, 2..30), other in prop::collection::vec(-10.0_f64..10.0, 2..30),
        ) {
            let (forth, back) = (Difference::of(of(&one), of(&other)).unwrap(), Difference::of(of(&other), of(&one)).unwrap());
            prop_assert_eq!(forth.mean, -back.mean);
            prop_assert!((forth.log_e(0.1, 1.0) - back.log_e(0.1, 1.0)).abs() < 1e-9);
        }
    }

    #[test]
    fn constants_that_differ_are_certain() {
        let (zeros, ones) = (of(&[0.0; 9]), of(&[1.0; 9]));
        assert_eq!(Difference::of(zeros, zeros).unwrap().log_e(0.0, 1.0), 0.0);
        assert_eq!(Difference::of(zeros, ones).unwrap().log_e(0.5, 1.0), f64::INFINITY);
        assert_eq!(Difference::of(zeros, ones).unwrap().half_width(0.05, 1.0), 0.0);
    }
}
