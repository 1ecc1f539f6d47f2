//! The section `batching` of a model.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How requests of a version are queued and put together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatchSettings {
    /// Worker threads of each version, each with a session.
    pub workers: usize,
    /// Most rows that are scored as one batch.
    pub max_batch_rows: usize,
    /// Longest wait for more rows, microseconds; 0: what is waiting when a worker is free is the batch.
    pub max_queue_delay_us: u64,
    /// Requests that may wait; one beyond them is refused with 429.
    pub queue_requests: usize,
}

impl Default for BatchSettings {
    fn default() -> Self {
        Self { workers: 1, max_batch_rows: 4096, max_queue_delay_us: 0, queue_requests: 1024 }
    }
}
