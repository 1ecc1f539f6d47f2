//! The section `traffic` of a model: which version answers, and what a new version must show to get more of the traffic.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::{Share, Span};

/// How versions of a model share the traffic.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrafficPolicy {
    /// Whether a request may name the arm that answers it (`canary`, `production`, an arm of the experiment). Such a
    /// request is counted in no trial and no experiment.
    pub arm_override: bool,
    /// An A/B test between versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experiment: Option<Experiment>,
    /// How a shadow version is scored beside production.
    pub shadow: ShadowSettings,
    /// How a canary gets its share, step by step, and what takes it back.
    pub progressive: Progressive,
}

/// An A/B test: arms with weights, each a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// Its name, in events, metrics and results.
    pub name: String,
    /// Part of the hash that deals entities to arms; another salt deals them anew. Default: the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
    /// At least two.
    pub arms: Vec<ExperimentArm>,
}

/// One arm of an A/B test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExperimentArm {
    /// In events, metrics and results; requests may name it where `arm_override` is set.
    pub name: String,
    /// A version, or `production`: what is in production, with its canary.
    pub version: String,
    /// Its part of the traffic is its weight over the sum of all weights.
    pub weight: u32,
}

/// How a shadow version is scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShadowSettings {
    /// Share of the requests that the shadow gets too, by the hash that canaries use.
    pub share: Share,
    /// Requests that may wait for the shadow; one beyond them is dropped and counted.
    pub queue_requests: usize,
    /// The answer counts as different where a score differs from production's by more than this.
    pub tolerance: f64,
}

impl Default for ShadowSettings {
    fn default() -> Self {
        Self { share: Share { percent: 100.0 }, queue_requests: 256, tolerance: 1e-4 }
    }
}

/// A progressive rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Progressive {
    /// Shares of the traffic, growing; the last is 100%, where the canary is promoted.
    pub steps: Vec<Share>,
    /// Requests that the canary must have answered in a step before it goes on.
    pub min_requests: u64,
    /// Least time in a step.
    pub dwell: Span,
    /// Chance that a canary as good as production is ever rolled back, however often it is looked at; all guards together.
    pub false_rollback_rate: f64,
    /// Chance that a canary beyond a guard's limit ever goes on past that guard.
    pub false_promotion_rate: f64,
    /// What a canary is held against. Default: `errors` and `latency`; where any is given, only those.
    pub guards: Guards,
}

impl Default for Progressive {
    fn default() -> Self {
        Self {
            steps: [1.0, 5.0, 25.0, 50.0, 100.0].map(|percent| Share { percent }).to_vec(),
            min_requests: 500,
            dwell: Span::from_ms(600_000),
            false_rollback_rate: 0.01,
            false_promotion_rate: 0.05,
            guards: Guards {
                errors: Some(ErrorGuard::default()),
                latency: Some(LatencyGuard::default()),
                ..Guards::default()
            },
        }
    }
}

/// Each guard that is given must be passed to go on, and any of them rolls back.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Guards {
    /// Requests that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<ErrorGuard>,
    /// How long answers take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<LatencyGuard>,
    /// The mean score.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score_mean: Option<ScoreMeanGuard>,
    /// The distribution of scores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score_drift: Option<ScoreDriftGuard>,
    /// A mean over labels that come later, reported to the admin API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_metric: Option<LabelGuard>,
}

/// Requests that failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ErrorGuard {
    /// The canary goes on once its error rate is shown to be above production's by less than this.
    pub max_increase: Share,
}

impl Default for ErrorGuard {
    fn default() -> Self {
        Self { max_increase: Share { percent: 1.0 } }
    }
}

/// How long answers take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LatencyGuard {
    /// The quantile of production's latency that is the yardstick.
    pub quantile: f64,
    /// The canary may take so many times as long.
    pub max_ratio: f64,
    /// The canary goes on once the share of its answers beyond the yardstick is shown to be above production's by less
    /// than this.
    pub max_increase: Share,
}

impl Default for LatencyGuard {
    fn default() -> Self {
        Self { quantile: 0.99, max_ratio: 1.5, max_increase: Share { percent: 1.0 } }
    }
}

/// The mean score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScoreMeanGuard {
    /// Largest change of the mean, in standard deviations of production's scores.
    pub max_change: f64,
}

impl Default for ScoreMeanGuard {
    fn default() -> Self {
        Self { max_change: 0.25 }
    }
}

/// The distribution of scores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScoreDriftGuard {
    /// Largest population stability index, over ten bins between production's deciles.
    pub max_psi: f64,
}

impl Default for ScoreDriftGuard {
    fn default() -> Self {
        Self { max_psi: 0.25 }
    }
}

/// A mean over labels that come later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelGuard {
    /// Which one, as it is named in the reports.
    pub metric: String,
    /// What is better.
    pub better: Better,
    /// The canary goes on once its mean is shown to be worse than production's by less than this, in the metric's unit.
    pub max_worse: f64,
    /// Labels that each side must have.
    #[serde(default = "least_labels")]
    pub min_labels: u64,
}

fn least_labels() -> u64 {
    200
}

/// Which direction is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    Higher,
    Lower,
}
