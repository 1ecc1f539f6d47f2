//! The section `transform` of a model.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How rows of raw fields become the model's input.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TransformSettings {}
