//! The section `transform` of a model.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which feature transform the versions of a model must have.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TransformSettings {
    /// Its id, the SHA-256 of `transform.yaml` in 64 hexadecimal digits: a version with another transform, or without one,
    /// is not served. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}
