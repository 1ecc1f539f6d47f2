//! What windows differ beyond chance, as seen in the reference's own windows.

use super::normal::{equivalent_of_p, student_two_sided_p};

/// How much wider the law of a statistic is than for independent draws.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Inflation {
    /// Variance over that of independent draws, at least 1.
    pub factor: f64,
    /// Degrees of freedom of that variance: few windows know it badly. Infinite where it is not estimated.
    pub dof: f64,
}

impl Default for Inflation {
    fn default() -> Self {
        Self::NONE
    }
}

impl Inflation {
    /// Independent draws.
    pub const NONE: Self = Self { factor: 1.0, dof: f64::INFINITY };

    pub fn is_none(&self) -> bool {
        self.factor <= 1.0 && self.dof.is_infinite()
    }

    /// The wider of two.
    pub fn or(self, other: Self) -> Self {
        if other.factor > self.factor { other } else { self }
    }

    /// Two-sided probability of a standardised deviation, by Student's law.
    pub fn two_sided_p(&self, z: f64) -> f64 {
        student_two_sided_p(z / self.factor.sqrt(), self.dof)
    }

    /// A probability under independent draws, by way of its normal equivalent.
    pub fn widen(&self, p: f64) -> f64 {
        if self.is_none() { p } else { self.two_sided_p(equivalent_of_p(p)).max(p) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widening_only_ever_makes_less_sure() {
        let four_times = Inflation { factor: 4.0, dof: f64::INFINITY };
        // Half of 4 standard deviations is 2: P(|Z| >= 2) = 0.0455.
        let widened = four_times.widen(6.334248366623996e-05);
        assert!((widened - 0.04550026389635842).abs() < 1e-6, "{widened}");
        let few_windows = Inflation { factor: 4.0, dof: 5.0 };
        assert!(few_windows.widen(6.3e-5) > widened);
        for p in [1.0, 0.3, 1e-9] {
            assert_eq!(Inflation::NONE.widen(p), p);
            assert!(few_windows.widen(p) >= p);
        }
    }
}
