//! What computes scores: a model's bytes become a `LoadedModel`, of which each worker thread holds a `Session`.
//!
//! `onnx` is ONNX Runtime, whose library `library` finds, `lazy` the same once a model needs it; `model_check` looks at a model before it is loaded, `values` turns
//! tensors into the runtime's. For a GPU, `cuda` asks for it, `buckets` decides sizes of batches, and `bound` keeps memory
//! bound for them.
//!
//! To add an engine: a file with an implementation of `Engine`, and a choice in `config::scorer::engine`.

use std::sync::Arc;

mod bound;
pub mod buckets;
mod cuda;
mod lazy;
pub mod library;
pub mod model_check;
mod onnx;
mod values;

pub use lazy::LazyEngine;
pub use onnx::OnnxEngine;

use super::tensor::{DataType, Tensor};

/// One input or output of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    pub name: String,
    pub datatype: DataType,
    /// `None` where any size goes; the first dimension is the batch.
    pub shape: Vec<Option<usize>>,
}

/// What a model takes and gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    pub inputs: Vec<TensorSpec>,
    pub outputs: Vec<TensorSpec>,
    /// Whether rows of several requests may be scored as one batch: every input and output has a first dimension of any size.
    pub batches: bool,
}

/// An engine's failure, by what the caller does next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The runtime is missing, too old, or has no such device: nothing can be loaded.
    #[error("{0}")]
    Unavailable(String),
    /// These bytes are no model that can be served: keep what is serving.
    #[error("{0}")]
    Model(String),
    /// This input cannot be scored: tell whoever sent it.
    #[error("{0}")]
    Input(String),
    /// The computation failed on an input that looked right.
    #[error("{0}")]
    Compute(String),
}

/// A runtime that loads models.
pub trait Engine: Send + Sync {
    /// For events and metrics: `onnxruntime-cpu`, `onnxruntime-cuda`.
    fn name(&self) -> &'static str;

    /// Loads a model from its bytes; nothing outside of them is read.
    ///
    /// # Errors
    /// The runtime is not to be had, or the bytes are no model within the limits.
    fn load(&self, model: &[u8]) -> Result<Arc<dyn LoadedModel>, EngineError>;
}

/// A model in memory.
pub trait LoadedModel: Send + Sync {
    fn signature(&self) -> &Signature;

    /// For events and metrics, where the model runs: an engine may fall back for models that it cannot speed up.
    fn engine(&self) -> &'static str;

    /// A session for one worker thread. Weights are shared where the runtime can.
    ///
    /// # Errors
    /// The runtime has no memory or no device for one more.
    fn session(&self) -> Result<Box<dyn Session>, EngineError>;
}

/// One thread's handle to a model.
pub trait Session: Send {
    /// Computes once what the first requests would otherwise wait for: memory, kernels, batch sizes that are fixed.
    ///
    /// # Errors
    /// The model cannot be computed as it is meant to be: it must not serve.
    fn warm(&mut self) -> Result<(), EngineError> {
        Ok(())
    }

    /// Scores tensors that satisfy the signature; gives all outputs in the signature's order.
    ///
    /// # Errors
    /// The runtime refuses the input or fails.
    fn score(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError>;
}
