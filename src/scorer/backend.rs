//! Who computes a version's scores: `batching::Runner` in this process, or `proxy::Peer`, a server that already runs.
//! `serve` holds one for each version that it keeps loaded, and does not ask which of the two it is.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;

use super::batching::RunnerStats;
use super::engine::Signature;
use super::score::{Priority, ScoreError};
use super::tensor::Tensor;

/// Computes the scores of one version of one model.
#[async_trait]
pub trait Backend: Send + Sync {
    /// What the version takes and gives. `None` as long as that is not known: a peer whose protocol has no metadata, or
    /// that has not answered yet; inputs then pass unchecked, and the peer refuses what it cannot take.
    fn signature(&self) -> Option<Arc<Signature>>;

    /// For events and metrics: `onnxruntime-cpu`, `proxy-oip`.
    fn engine(&self) -> &'static str;

    /// Id of the version's feature transform, which stands before what computes.
    fn transform_id(&self) -> Option<&str> {
        None
    }

    /// Whether a request that comes now would be tried: the model is warm, the peer answers and its circuit is closed.
    fn ready(&self) -> bool;

    /// Its queue and batches, where there are such in this process.
    fn batching(&self) -> Option<RunnerStats> {
        None
    }

    /// Scores the rows of one request; gives all outputs.
    ///
    /// # Errors
    /// As `ScoreError` says; a peer's own answer is translated to it.
    async fn score(
        &self,
        inputs: Vec<Tensor>,
        priority: Priority,
        deadline: Option<Instant>,
    ) -> Result<Vec<Tensor>, ScoreError>;
}
