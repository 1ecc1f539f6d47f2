//! HDDM-A: the mean has moved from its best by more than Hoeffding's bound allows, on plain averages (Frias-Blanco
//! and others, Online and non-parametric drift detection methods based on Hoeffding's bounds, 2015).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Verdict;
use super::running_mean::RunningMean;

/// How sensitive HDDM-A is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HddmAParameters {
    /// Chance that the bound of a change is passed without one, in (0, 1).
    pub drift_confidence: f64,
    /// Chance that the bound of a warning is passed without a change, in (0, 1).
    pub warning_confidence: f64,
    /// Also watch for a fall of the mean.
    pub two_sided_test: bool,
}

impl Default for HddmAParameters {
    fn default() -> Self {
        Self { drift_confidence: 0.001, warning_confidence: 0.005, two_sided_test: false }
    }
}

/// State of one stream of values in [0, 1].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HddmA {
    pub parameters: HddmAParameters,
    /// All values.
    total: RunningMean,
    /// The stretch from the start with the lowest upper bound of the mean.
    lowest: RunningMean,
    /// The stretch from the start with the highest lower bound of the mean.
    highest: RunningMean,
}

impl HddmA {
    pub fn new(parameters: HddmAParameters) -> Self {
        let empty = RunningMean::default();
        Self { parameters, total: empty, lowest: empty, highest: empty }
    }

    pub fn update(&mut self, value: f64) -> Verdict {
        self.total.update(value);
        if self.lowest.n == 0 {
            self.lowest = self.total;
        }
        if self.highest.n == 0 {
            self.highest = self.total;
        }
        let bound = |n: u64| (1.0 / (2 * n) as f64 * (1.0 / self.parameters.drift_confidence).ln()).sqrt();
        let bound_of_total = bound(self.total.n);
        if self.lowest.mean + bound(self.lowest.n) >= self.total.mean + bound_of_total {
            self.lowest = self.total;
        }
        if self.highest.mean - bound(self.highest.n) <= self.total.mean - bound_of_total {
            self.highest = self.total;
        }
        let HddmAParameters { drift_confidence, warning_confidence, two_sided_test } = self.parameters;
        let rise = |confidence| self.exceeds(self.lowest, self.total.mean - self.lowest.mean, confidence);
        let fall = |confidence| self.exceeds(self.highest, self.highest.mean - self.total.mean, confidence);
        let mut change = rise(drift_confidence);
        let mut warning = !change && rise(warning_confidence);
        if two_sided_test {
            let fallen = fall(drift_confidence);
            warning |= !fallen && fall(warning_confidence);
            change |= fallen;
        }
        Verdict { change, warning }
    }

    /// Whether all values differ from the best stretch among them by more than chance.
    fn exceeds(&self, best: RunningMean, difference: f64, confidence: f64) -> bool {
        if best.n == self.total.n {
            return false;
        }
        let (all, best) = (self.total.n as f64, best.n as f64);
        let m = (all - best) / best * (1.0 / all);
        difference >= (m / 2.0 * (2.0 / confidence).ln()).sqrt()
    }
}
