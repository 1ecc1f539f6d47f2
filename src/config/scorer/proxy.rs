//! The section `proxy` of a model.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A server that a team already runs, which computes instead of an engine here.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProxySettings {}
