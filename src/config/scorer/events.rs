//! The section `events`, and that of a model.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::Span;

/// How prediction events are queued and sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EventSettings {
    /// False: no events are written, Kafka is not needed.
    pub enabled: bool,
    /// Topic of all models that name none themselves.
    pub topic: String,
    /// Events that may wait to be acknowledged, over all models; what comes beyond is dropped and counted. 1 to 10 000 000.
    pub max_rows: usize,
    /// Bytes that these may take, 1 MiB to 16 GiB.
    pub max_bytes: usize,
    /// How long events gather before they are sent together.
    pub linger: Span,
    /// An event that the broker has not acknowledged after this long has failed.
    pub delivery_timeout: Span,
    /// How long a stop waits for the events that are still to be sent.
    pub close_timeout: Span,
}

impl Default for EventSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            topic: "predictions".into(),
            max_rows: 100_000,
            max_bytes: 64 << 20,
            linger: Span::from_ms(50),
            delivery_timeout: Span::from_ms(300_000),
            close_timeout: Span::from_ms(10_000),
        }
    }
}

/// What is written of each prediction of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelEvents {
    /// Default: `events.topic`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Where the shadow's events go. Default: with the others, under ids of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow_topic: Option<String>,
    /// Names of the features, one for each column of the model's inputs, input by input. Default: the input's own name, for
    /// its number or, where it has several columns, its vector.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// Which output is the score: `OUTPUT` for its last column, or `OUTPUT:COLUMN`. Default: see docs/scorer-events.md.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<String>,
    /// Which output is the prediction, in the same form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prediction: Option<String>,
    /// Share of the requests of which events are written, 0 to 1: the same for the same request id.
    pub sample: f64,
}

impl Default for ModelEvents {
    fn default() -> Self {
        Self { topic: None, shadow_topic: None, features: Vec::new(), score: None, prediction: None, sample: 1.0 }
    }
}
