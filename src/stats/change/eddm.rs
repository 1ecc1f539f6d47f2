//! EDDM, the early drift detection method: the distance between two errors has shrunk from its longest (Baena-Garcia
//! and others, Early drift detection method, 2006).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Verdict;
use super::running_mean::RunningMean;

/// How sensitive EDDM is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EddmParameters {
    /// Errors before a change can be found.
    pub warm_start: u64,
    /// Share of the longest distance below which there is a warning, in (0, 1].
    pub alpha: f64,
    /// Share of the longest distance below which there is a change, in (0, 1], at most `alpha`.
    pub beta: f64,
}

impl Default for EddmParameters {
    fn default() -> Self {
        Self { warm_start: 30, alpha: 0.95, beta: 0.9 }
    }
}

/// State of one stream of zeros and ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Eddm {
    pub parameters: EddmParameters,
    seen: u64,
    last_error: u64,
    distance: RunningMean,
    /// Sum of squared deviations of the distances from their mean.
    squares: f64,
    /// Largest mean distance plus two standard deviations.
    longest: Option<f64>,
    /// A warning lasts until an error says otherwise.
    warning: bool,
}

impl Eddm {
    pub fn new(parameters: EddmParameters) -> Self {
        let distance = RunningMean::default();
        Self { parameters, seen: 0, last_error: 0, distance, squares: 0.0, longest: None, warning: false }
    }

    pub fn update(&mut self, value: f64) -> Verdict {
        self.seen += 1;
        let change = value == 1.0 && self.on_error();
        Verdict { change, warning: self.warning }
    }

    fn on_error(&mut self) -> bool {
        let distance = (self.seen - self.last_error) as f64;
        self.last_error = self.seen;
        let mean_before = self.distance.mean;
        self.distance.update(distance);
        self.squares += (distance - mean_before) * (distance - self.distance.mean);
        let EddmParameters { warm_start, alpha, beta } = self.parameters;
        if self.seen <= warm_start {
            return false;
        }
        let errors = self.distance.n;
        let variance = if errors > 1 { self.squares / (errors - 1) as f64 } else { 0.0 };
        let length = self.distance.mean + 2.0 * variance.sqrt();
        match self.longest {
            Some(longest) if length <= longest => {
                if errors <= warm_start {
                    return false;
                }
                let share = length / longest;
                if share < beta {
                    return true;
                }
                self.warning = share < alpha;
            }
            _ => self.longest = Some(length),
        }
        false
    }
}
