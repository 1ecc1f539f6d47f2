//! Prediction events: one for each row scored, to Kafka, in the schema that the monitor reads with no mapping to write.
//!
//! Nothing here may be felt by a request: `EventSink::offer` never waits. What cannot be queued is dropped and counted.

use std::time::Duration;

use super::score::Arm;
use super::tensor::Tensor;

/// What was scored, for all rows of one request and one version.
#[derive(Debug, Clone)]
pub struct ScoredEvent {
    pub model: String,
    pub version: String,
    pub arm: Arm,
    pub request_id: String,
    pub entity: Option<String>,
    /// As the model took them, with names; rows along the first dimension.
    pub inputs: Vec<Tensor>,
    pub outputs: Vec<Tensor>,
    pub engine: &'static str,
    pub latency: Duration,
    /// When the request came, ms since the epoch.
    pub event_time_ms: i64,
}

/// Takes events and never waits.
pub trait EventSink: Send + Sync {
    fn offer(&self, event: ScoredEvent);
}
