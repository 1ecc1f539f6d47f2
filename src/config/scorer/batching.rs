//! The section `batching` of a model: how requests wait and are computed together.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How requests of a version are queued and put together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatchSettings {
    /// Most rows computed at once. A request with more rows than that is computed alone.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub max_batch_rows: usize,
    /// How long the first of a batch that is not full may wait for others, in microseconds. 0: a worker that is free takes
    /// what waits; batches then grow with the load by themselves.
    #[schemars(range(max = 1_000_000))]
    pub max_queue_delay_us: u64,
    /// Threads that compute, each with a session of its own. Default: half of the cores, at least one.
    #[schemars(range(min = 1, max = 256))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<usize>,
    /// Most requests that wait; further ones are told when to try again.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub max_queue_requests: usize,
    /// Most rows that wait, and most that one request may have.
    #[schemars(range(min = 1, max = 16_777_216))]
    pub max_queue_rows: usize,
}

impl Default for BatchSettings {
    fn default() -> Self {
        Self {
            max_batch_rows: 1024,
            max_queue_delay_us: 0,
            workers: None,
            max_queue_requests: 1024,
            max_queue_rows: 65_536,
        }
    }
}
