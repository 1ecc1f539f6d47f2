//! Prediction events: one for each row scored, to Kafka, in the schema that the monitor reads with no mapping to write.
//!
//! Nothing here may be felt by a request: `EventSink::offer` never waits. What cannot be queued is dropped and counted.
//! `queue` is what requests see: bounded by rows and bytes, and the counts. `writer` is the thread behind it: it writes
//! each row as JSON (`layout`, `json`) and hands it to a `transport`; `kafka` is that of production, `memory` that of
//! tests. `start` puts them together as the settings say, `metrics` shows the counts.
//!
//! To add a field to events: a line in `json`, its description in `schemas/events/prediction.schema.json`, a row of the
//! table in docs/scorer-events.md. To add a transport: an implementation of `transport::Transport`.

pub mod counts;
pub mod json;
pub mod kafka;
pub mod layout;
pub mod memory;
pub mod metrics;
pub mod queue;
pub mod start;
pub mod transport;
pub mod writer;

use std::sync::Arc;
use std::time::Duration;

use super::score::Arm;
use super::tensor::{Tensor, TensorData};

pub use counts::EventCounts;
pub use layout::{EventLayout, LayoutError, LayoutOptions};
pub use metrics::EventCollector;
pub use queue::{EventLimits, EventQueue};
pub use start::{Events, layout_options};
pub use writer::EventWriter;

/// What was scored, for all rows of one request and one version.
#[derive(Debug, Clone)]
pub struct ScoredEvent {
    /// Model, version and names, as they are in every event of that version.
    pub layout: Arc<EventLayout>,
    pub arm: Arm,
    pub request_id: String,
    pub entity: Option<String>,
    /// Raw features where the version has a feature transform, else the model's inputs; rows along the first dimension.
    pub inputs: Vec<Tensor>,
    pub outputs: Vec<Tensor>,
    pub engine: &'static str,
    pub latency: Duration,
    /// When the request came, ms since the epoch.
    pub event_time_ms: i64,
}

impl ScoredEvent {
    /// Rows, each of which becomes an event: the first dimension of the inputs, where all have the same.
    pub fn rows(&self) -> usize {
        let mut sizes = self.inputs.iter().map(Tensor::rows);
        let first = sizes.next().unwrap_or(1);
        if sizes.all(|rows| rows == first) { first } else { 1 }
    }

    /// Memory that it holds, near enough to bound a queue.
    pub fn byte_len(&self) -> usize {
        const OF_A_TENSOR: usize = 128;
        let tensors = self.inputs.iter().chain(&self.outputs);
        let in_tensors: usize = tensors.map(|tensor| OF_A_TENSOR + data_bytes(tensor.data())).sum();
        size_of::<Self>() + self.request_id.len() + self.entity.as_ref().map_or(0, String::len) + in_tensors
    }
}

fn data_bytes(data: &TensorData) -> usize {
    match (data, data.datatype().element_bytes()) {
        (TensorData::Bytes(values), _) => values.iter().map(|value| size_of::<Vec<u8>>() + value.len()).sum(),
        (_, Some(bytes)) => data.len() * bytes,
        (_, None) => 0,
    }
}

/// Takes events and never waits.
pub trait EventSink: Send + Sync {
    fn offer(&self, event: ScoredEvent);
}
