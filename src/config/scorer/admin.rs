//! The section `admin`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::service::Token;

/// Changes of the registry, health and metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdminSettings {
    /// Address and port to listen on.
    pub bind: String,
    /// Who may read and change what. Without any, everybody who reaches `bind` may read, and may change something only
    /// where that is a loopback address.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<Token>,
}

impl Default for AdminSettings {
    fn default() -> Self {
        Self { bind: "127.0.0.1:9000".into(), tokens: Vec::new() }
    }
}
