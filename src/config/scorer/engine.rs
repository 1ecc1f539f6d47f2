//! The section `engine`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What computes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EngineSettings {
    /// ONNX Runtime's library; default: `ORT_DYLIB_PATH`, then beside the binary, then in the Python environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub library: Option<String>,
}
