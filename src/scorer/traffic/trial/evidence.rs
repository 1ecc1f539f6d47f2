//! What a trial has seen, of both sides. It only ever grows, and survives restarts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::guards::{ScoreBins, Yardstick};
use crate::config::scorer::traffic::Guards;
use crate::scorer::traffic::counters::Block;
use crate::scorer::traffic::sequential::bernoulli::TwoStreams;
use crate::scorer::traffic::sequential::normal_mixture::Moments;

/// Everything that was counted in a trial.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Evidence {
    /// All of it, by side.
    pub totals: Block,
    /// Counts that wait until both sides have some: a test compares blocks of both.
    waiting: Block,
    pub errors: TwoStreams,
    pub latency: Option<Yardstick>,
    pub drift: Option<ScoreBins>,
    /// The newest report.
    pub labels: Option<LabelReport>,
}

impl Evidence {
    /// Takes what was counted since the last time. Yardsticks come from what was there before it.
    pub fn observe(&mut self, new: &Block, guards: &Guards) {
        self.totals.add(new);
        self.waiting.add(new);
        if self.waiting.canary.requests == 0 || self.waiting.production.requests == 0 {
            return;
        }
        let block = std::mem::take(&mut self.waiting);
        self.errors.observe(block.canary.errors_of_requests(), block.production.errors_of_requests());
        match (&mut self.latency, &guards.latency) {
            (Some(yardstick), _) => yardstick.observe(&block),
            (None, Some(guard)) => self.latency = Yardstick::take(guard, &self.totals.production),
            (None, None) => {}
        }
        match (&mut self.drift, &guards.score_drift) {
            (Some(bins), _) => bins.observe(&block),
            (None, Some(_)) => self.drift = ScoreBins::take(&self.totals.production),
            (None, None) => {}
        }
    }
}

/// A metric over labels, of all that the trial's versions have predicted since it began; a newer report replaces it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelReport {
    pub metric: String,
    pub canary: Moments,
    pub production: Moments,
    /// ms since the epoch.
    pub at_ms: i64,
}

/// A side of a report as it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelSide {
    /// Labels.
    pub n: u64,
    pub mean: f64,
    /// Of the values that the mean is of, with n - 1.
    pub variance: f64,
}

impl LabelSide {
    /// # Errors
    /// It is no mean of anything; what is wrong.
    pub fn moments(self) -> Result<Moments, String> {
        if !(self.mean.is_finite() && self.variance.is_finite() && self.variance >= 0.0) {
            return Err("`mean` must be a number, `variance` one from 0 on".into());
        }
        Ok(Moments { n: self.n, mean: self.mean, squares: self.variance * self.n.saturating_sub(1) as f64 })
    }
}
