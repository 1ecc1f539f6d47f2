//! `state.json`: which versions of a model serve.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::audit::AuditEntry;

pub(super) const STATE_FILE: &str = "state.json";
const LAST_CHANGE: &str = "last_change";

/// Which versions of a model serve. Changed as a whole: whoever changes it names the generation it has seen.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
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

impl ServingState {
    /// Where a version serves: production, previous, canary, shadow; or that it was rolled back: rejected.
    pub fn roles(&self, version: &str) -> Vec<&'static str> {
        let is = |other: Option<&String>| other.is_some_and(|other| other == version);
        [
            ("production", is(self.production.as_ref())),
            ("previous", is(self.previous.as_ref())),
            ("canary", is(self.canary.as_ref().map(|canary| &canary.version))),
            ("shadow", is(self.shadow.as_ref())),
            ("rejected", self.rejected.iter().any(|rejected| rejected == version)),
        ]
        .into_iter()
        .filter_map(|(role, holds)| holds.then_some(role))
        .collect()
    }
}

/// A version on trial with a share of the traffic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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

/// The file: the state, and beside its keys the audit entry of its generation.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct StateFile {
    pub(super) state: ServingState,
    pub(super) last_change: Option<AuditEntry>,
}

impl StateFile {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut value: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let last_change = value.as_object_mut().and_then(|keys| keys.remove(LAST_CHANGE));
        let last_change = last_change.map(serde_json::from_value).transpose();
        Ok(Self {
            last_change: last_change.map_err(|error| format!("`{LAST_CHANGE}`: {error}"))?,
            state: serde_json::from_value(value).map_err(|error| error.to_string())?,
        })
    }

    pub(super) fn bytes(&self) -> Result<Vec<u8>, String> {
        let write = || {
            let mut value = serde_json::to_value(&self.state)?;
            if let (Some(keys), Some(entry)) = (value.as_object_mut(), &self.last_change) {
                keys.insert(LAST_CHANGE.into(), serde_json::to_value(entry)?);
            }
            serde_json::to_vec_pretty(&value)
        };
        let mut bytes = write().map_err(|error| error.to_string())?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}
