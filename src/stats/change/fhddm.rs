//! FHDDM, the fast Hoeffding drift detection method: the share of ones in a sliding window has fallen from its
//! highest by more than Hoeffding's bound (Pesaranghader and Viktor, Fast Hoeffding drift detection method for
//! evolving data streams, 2016). It notices a *fall*: feed it what is right, not what is wrong.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Verdict;

/// How sensitive FHDDM is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FhddmParameters {
    /// Values in the window; none is judged before it is full.
    pub sliding_window_size: u64,
    /// Chance that the bound is passed without a change, in (0, 1).
    pub confidence_level: f64,
    /// Values in a second, shorter window at the end of the first, which finds abrupt changes sooner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub short_window_size: Option<u64>,
}

impl Default for FhddmParameters {
    fn default() -> Self {
        Self { sliding_window_size: 100, confidence_level: 0.000_001, short_window_size: None }
    }
}

/// State of one stream of zeros and ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fhddm {
    pub parameters: FhddmParameters,
    /// The last values, oldest first, one fewer than the window holds.
    window: VecDeque<bool>,
    ones: u64,
    highest: f64,
    highest_short: f64,
}

impl Fhddm {
    pub fn new(parameters: FhddmParameters) -> Self {
        Self { parameters, window: VecDeque::new(), ones: 0, highest: 0.0, highest_short: 0.0 }
    }

    pub fn update(&mut self, value: f64) -> Verdict {
        let FhddmParameters { sliding_window_size, confidence_level, short_window_size } = self.parameters;
        let one = value == 1.0;
        self.window.push_back(one);
        self.ones += u64::from(one);
        if (self.window.len() as u64) < sliding_window_size {
            return Verdict::default();
        }
        let bound = |size: u64| ((1.0 / confidence_level).ln() / (2 * size) as f64).sqrt();
        let share = self.ones as f64 / sliding_window_size as f64;
        self.highest = self.highest.max(share);
        let mut change = self.highest - share > bound(sliding_window_size);
        if let Some(size) = short_window_size {
            let ones = self.window.iter().rev().take(size as usize).filter(|one| **one).count();
            let share = ones as f64 / size as f64;
            self.highest_short = self.highest_short.max(share);
            change |= self.highest_short - share > bound(size);
        }
        self.ones -= u64::from(self.window.pop_front() == Some(true));
        Verdict { change, warning: false }
    }
}
