//! The Page-Hinkley test: sums of deviations from the mean so far, and how far they have come from their extreme
//! (Page, Continuous inspection schemes, 1954; with a forgetting factor).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Verdict;
use super::running_mean::RunningMean;

/// How sensitive the Page-Hinkley test is. Delta and threshold are in the signal's own unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PageHinkleyParameters {
    /// Values before a change can be found.
    pub min_instances: u64,
    /// Deviation per value that is no change.
    pub delta: f64,
    /// Sum of deviations that is a change.
    pub threshold: f64,
    /// Forgetting factor of the sums, in (0, 1].
    pub alpha: f64,
    pub mode: Direction,
}

/// Which changes of the mean count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Up,
    Down,
    #[default]
    Both,
}

impl Default for PageHinkleyParameters {
    fn default() -> Self {
        Self { min_instances: 30, delta: 0.005, threshold: 50.0, alpha: 1.0 - 0.0001, mode: Direction::Both }
    }
}

/// State of one stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PageHinkley {
    pub parameters: PageHinkleyParameters,
    mean: RunningMean,
    sum_increase: f64,
    sum_decrease: f64,
    /// `None` before the first value.
    min_increase: Option<f64>,
    max_decrease: f64,
}

impl PageHinkley {
    pub fn new(parameters: PageHinkleyParameters) -> Self {
        // The maximum starts at -1, not at minus infinity, as in river.
        let mean = RunningMean::default();
        Self { parameters, mean, sum_increase: 0.0, sum_decrease: 0.0, min_increase: None, max_decrease: -1.0 }
    }

    pub fn update(&mut self, value: f64) -> Verdict {
        let PageHinkleyParameters { min_instances, delta, threshold, alpha, mode } = self.parameters;
        self.mean.update(value);
        let deviation = value - self.mean.mean;
        self.sum_increase = alpha * self.sum_increase + deviation - delta;
        self.sum_decrease = alpha * self.sum_decrease + deviation + delta;
        let min_increase = self.min_increase.map_or(self.sum_increase, |least| least.min(self.sum_increase));
        self.min_increase = Some(min_increase);
        self.max_decrease = self.max_decrease.max(self.sum_decrease);
        let up = mode != Direction::Down && self.sum_increase - min_increase > threshold;
        let down = mode != Direction::Up && self.max_decrease - self.sum_decrease > threshold;
        Verdict { change: self.mean.n >= min_instances && (up || down), warning: false }
    }
}
