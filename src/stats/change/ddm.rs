//! DDM, the drift detection method: the error rate has risen above its lowest by so many standard deviations (Gama
//! and others, Learning with drift detection, 2004).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Verdict;
use super::running_mean::RunningMean;

/// How sensitive DDM is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DdmParameters {
    /// Values before a change can be found.
    pub warm_start: u64,
    /// Standard deviations above the lowest rate that are a warning.
    pub warning_threshold: f64,
    /// Standard deviations above the lowest rate that are a change.
    pub drift_threshold: f64,
}

impl Default for DdmParameters {
    fn default() -> Self {
        Self { warm_start: 30, warning_threshold: 2.0, drift_threshold: 3.0 }
    }
}

/// State of one stream of zeros and ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ddm {
    pub parameters: DdmParameters,
    rate: RunningMean,
    /// Rate and standard deviation where their sum was lowest.
    lowest: Option<(f64, f64)>,
}

impl Ddm {
    pub fn new(parameters: DdmParameters) -> Self {
        Self { parameters, rate: RunningMean::default(), lowest: None }
    }

    pub fn update(&mut self, value: f64) -> Verdict {
        self.rate.update(value);
        let rate = self.rate.mean;
        let deviation = (rate * (1.0 - rate) / self.rate.n as f64).sqrt();
        if self.rate.n <= self.parameters.warm_start {
            return Verdict::default();
        }
        let level = rate + deviation;
        let (lowest_rate, lowest_deviation) = match self.lowest {
            Some((rate, deviation)) if level > rate + deviation => (rate, deviation),
            _ => (rate, deviation),
        };
        self.lowest = Some((lowest_rate, lowest_deviation));
        let above = |deviations: f64| level > lowest_rate + deviations * lowest_deviation;
        let change = above(self.parameters.drift_threshold);
        Verdict { change, warning: !change && above(self.parameters.warning_threshold) }
    }
}
