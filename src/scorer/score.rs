//! What every protocol turns a request into, and what it writes an answer from.

use std::time::{Duration, Instant};

use super::tensor::Tensor;

/// Order in the queue; within one, first come first served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    Low,
    #[default]
    Normal,
    High,
}

/// One request for scores of one or more rows.
#[derive(Debug, Clone)]
pub struct ScoreRequest {
    pub model: String,
    /// A version by name: no traffic policy applies. `None`: the policy decides.
    pub version: Option<String>,
    /// An arm by name (`canary`, `production`, an arm of an experiment), where settings allow it.
    pub arm: Option<String>,
    /// The caller's id, echoed and written to the event; made here where the caller gave none.
    pub id: Option<String>,
    /// What is being scored (a customer, a card): the same entity always meets the same version.
    pub entity: Option<String>,
    pub inputs: Vec<Tensor>,
    /// Names of the outputs wanted; empty: all.
    pub outputs: Vec<String>,
    pub priority: Priority,
    /// Not to be computed after this.
    pub deadline: Option<Instant>,
}

/// Which part of the traffic policy answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arm {
    Production,
    Canary,
    Shadow,
    /// An experiment's arm with a version of its own.
    Experiment,
    /// The caller named the version.
    Pinned,
}

impl Arm {
    pub const ALL: [Self; 5] = [Self::Production, Self::Canary, Self::Shadow, Self::Experiment, Self::Pinned];

    /// For events, metrics and headers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Canary => "canary",
            Self::Shadow => "shadow",
            Self::Experiment => "experiment",
            Self::Pinned => "pinned",
        }
    }
}

/// The answer.
#[derive(Debug, Clone)]
pub struct ScoreResponse {
    pub model: String,
    pub version: String,
    pub arm: Arm,
    pub id: String,
    pub outputs: Vec<Tensor>,
    pub engine: &'static str,
    /// From the request's last byte to the last score.
    pub latency: Duration,
}

/// Why there is no answer, by what the caller does next; every protocol maps these to its own codes (HTTP, gRPC).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScoreError {
    /// 404, NOT_FOUND.
    #[error("{0}")]
    NotFound(String),
    /// 400, INVALID_ARGUMENT.
    #[error("{0}")]
    Invalid(String),
    /// 429, RESOURCE_EXHAUSTED: the queue is full; try again after that.
    #[error("the queue of {model} is full; try again in {} ms", retry_after.as_millis())]
    QueueFull { model: String, retry_after: Duration },
    /// 503, UNAVAILABLE: not ready, unloading or shutting down.
    #[error("{0}")]
    Unavailable(String),
    /// 504, DEADLINE_EXCEEDED: dropped before it was computed.
    #[error("the deadline passed before the request could be computed")]
    Expired,
    /// 500, INTERNAL.
    #[error("{0}")]
    Failed(String),
}
