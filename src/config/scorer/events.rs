//! The section `events`, and that of a model.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How prediction events are queued and sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EventSettings {
    /// False: no events are written, Kafka is not needed.
    pub enabled: bool,
    /// Topic of all models that name none themselves.
    pub topic: String,
}

impl Default for EventSettings {
    fn default() -> Self {
        Self { enabled: false, topic: "predictions".into() }
    }
}

/// What is written of each prediction of one model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelEvents {
    /// Default: `events.topic`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
}
