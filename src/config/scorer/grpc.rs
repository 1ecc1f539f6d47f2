//! The section `grpc`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Inference over gRPC.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcSettings {
    /// False: no gRPC server is started.
    pub enabled: bool,
    /// Address and port to listen on.
    pub bind: String,
}

impl Default for GrpcSettings {
    fn default() -> Self {
        Self { enabled: true, bind: "127.0.0.1:8001".into() }
    }
}
