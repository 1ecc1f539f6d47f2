//! The section `traffic` of a model.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a new version of a model gets its share of the traffic.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrafficPolicy {}
