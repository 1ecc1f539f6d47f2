//! `state.json`: which versions of a model serve.

use serde::{Deserialize, Serialize};

/// Which versions of a model serve. Changed as a whole: whoever changes it names the generation it has seen.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServingState {
    /// Grows by one with each change; 0 before the first.
    pub generation: u64,
    pub production: Option<String>,
    /// What was in production before, kept warm: a rollback goes there.
    pub previous: Option<String>,
    pub canary: Option<Canary>,
    /// Scored beside production, answers are not sent.
    pub shadow: Option<String>,
    /// When `production` became so, ms since the epoch.
    pub promoted_at_ms: Option<i64>,
    /// Versions that were rolled back: never promoted again without `force`.
    #[serde(default)]
    pub rejected: Vec<String>,
}

/// A version on trial with a share of the traffic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    pub version: String,
    /// Its share in steps of 1/10 000.
    pub buckets: u32,
    /// Part of the hash that assigns entities; another salt deals them anew.
    pub salt: String,
    /// Index of the progressive rollout's step; none: the share stays as it is set.
    #[serde(default)]
    pub step: Option<u32>,
    pub started_at_ms: i64,
    /// When the present share was set, ms since the epoch.
    pub step_at_ms: i64,
}
