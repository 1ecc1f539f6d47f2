//! The law of a sum of squares, kept so that a threshold can be given at any level.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::inflation::Inflation;
use super::normal::{student_two_sided_density, student_two_sided_p};
use crate::stats::chi_square;

/// Intervals of Simpson's rule: measured against 4 096 of them, p is right to four digits down to 1e-12.
const INTERVALS: u32 = 128;

/// A statistic and its law under no drift: the sum of `dof` squares of independent normal deviates, of which one,
/// the `lead`, is wider than the others by what windows differ beyond chance.
///
/// All of that is put on one direction because that is where seasons and batches act (a level that moves), and
/// because it is the safe choice: the same variance spread over all directions has the lighter tail.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NullLaw {
    pub statistic: f64,
    /// Degrees of freedom, at least 1.
    pub dof: f64,
    /// Variance of the widest direction over that of independent draws; absent: 1.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub lead: f64,
    /// Degrees of freedom with which `lead` is known; absent: exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lead_dof: Option<f64>,
}

fn one() -> f64 {
    1.0
}

fn is_one(value: &f64) -> bool {
    *value == 1.0
}

impl NullLaw {
    /// `inflation.factor` is the mean over all `dof` directions.
    pub fn new(statistic: f64, dof: f64, inflation: Inflation) -> Self {
        let lead = 1.0 + dof * (inflation.factor - 1.0).max(0.0);
        Self { statistic, dof, lead, lead_dof: Some(inflation.dof).filter(|dof| dof.is_finite()) }
    }

    /// Probability of a statistic at least this large.
    pub fn p_value(&self) -> f64 {
        self.survival(self.statistic)
    }

    /// The statistic whose probability is `level`.
    pub fn critical(&self, level: f64) -> f64 {
        let (mut low, mut high) = (0.0, self.dof + 10.0);
        while self.survival(high) > level && high < 1e12 {
            high *= 2.0;
        }
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            if self.survival(middle) > level { low = middle } else { high = middle }
        }
        0.5 * (low + high)
    }

    fn survival(&self, statistic: f64) -> f64 {
        if statistic <= 0.0 {
            return 1.0;
        }
        let lead_dof = self.lead_dof.unwrap_or(f64::INFINITY);
        if self.lead <= 1.0 && lead_dof.is_infinite() {
            return chi_square::survival(statistic, self.dof);
        }
        // The lead alone passes, or it is t and the others have to make up the rest.
        let most = (statistic / self.lead).sqrt();
        let alone = student_two_sided_p(most, lead_dof);
        let others = self.dof - 1.0;
        if others < 0.5 {
            return alone;
        }
        let step = most / f64::from(INTERVALS);
        let sum: f64 = (0..=INTERVALS)
            .map(|i| {
                let t = step * f64::from(i);
                let weight = match i {
                    0 | INTERVALS => 1.0,
                    odd if odd % 2 == 1 => 4.0,
                    _ => 2.0,
                };
                let rest = (statistic - self.lead * t * t).max(0.0);
                weight * student_two_sided_density(t, lead_dof) * chi_square::survival(rest, others)
            })
            .sum();
        (alone + sum * step / 3.0).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_inflation_it_is_chi_square() {
        let law = NullLaw::new(33.72, 9.0, Inflation::NONE);
        assert!((law.p_value() / 1e-4 - 1.0).abs() < 0.02, "{}", law.p_value());
        assert!((law.critical(1e-4) - 33.72).abs() < 0.01, "{}", law.critical(1e-4));
    }

    #[test]
    fn the_quadrature_meets_chi_square_where_the_lead_is_like_the_others() {
        for (statistic, dof) in [(5.0, 3.0), (33.72, 9.0), (80.0, 9.0), (150.0, 99.0)] {
            let exact = chi_square::survival(statistic, dof);
            let law = NullLaw { statistic, dof, lead: 1.0, lead_dof: Some(1e6) };
            assert!((law.p_value() / exact - 1.0).abs() < 2e-3, "{statistic}, {dof}: {} and {exact}", law.p_value());
        }
    }

    #[test]
    fn a_wide_direction_rules_the_tail() {
        // 81 Z^2 + 8 others: P(81 Z^2 > t) and a little more.
        let law = NullLaw::new(81.0 * 16.0, 9.0, Inflation { factor: 1.0 + 80.0 / 9.0, dof: f64::INFINITY });
        assert!((law.lead - 81.0).abs() < 1e-9);
        let alone = crate::stats::null::normal::two_sided_p(4.0);
        assert!(law.p_value() > alone && law.p_value() < 1.5 * alone, "{} and {alone}", law.p_value());
        let few_windows = NullLaw { lead_dof: Some(7.0), ..law };
        assert!(few_windows.p_value() > 50.0 * law.p_value(), "{}", few_windows.p_value());
        let critical = few_windows.critical(1e-3);
        let at_critical = NullLaw { statistic: critical, ..few_windows };
        assert!((at_critical.p_value() / 1e-3 - 1.0).abs() < 1e-6);
    }
}
