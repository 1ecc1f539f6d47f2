//! The section `engine`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What computes, and what a model may at most be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EngineSettings {
    /// ONNX Runtime's library; default: `ORT_DYLIB_PATH`, then beside the binary, then in the Python environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub library: Option<String>,
    /// Where models run. With `cuda` a model that would silently run on the CPU instead is refused.
    pub device: Device,
    /// Threads that share the work of one batch, for each worker.
    #[schemars(range(min = 1, max = 256))]
    pub intra_op_threads: usize,
    /// Largest model, bytes.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub max_model_bytes: usize,
    /// Most nodes of a model's graph, those of its subgraphs and functions included.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_nodes: usize,
    /// What is special about a GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cuda: Option<CudaSettings>,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            library: None,
            device: Device::Cpu,
            intra_op_threads: 1,
            max_model_bytes: 512 << 20,
            max_nodes: 100_000,
            cuda: None,
        }
    }
}

/// Where models run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    Cpu,
    Cuda,
}

/// Models on an NVIDIA GPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CudaSettings {
    /// Number of the device, as CUDA counts them.
    #[schemars(range(min = 0, max = 255))]
    pub device_id: i32,
    /// Whether products of matrices may be rounded to TF32: faster, with about three decimal digits.
    pub tf32: bool,
    /// Most memory of the device for each worker's session, bytes. Default: what there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<usize>,
    /// Sizes to which batches are filled up, in rows: each is computed once before the model is ready. A
    /// batch beyond the largest is computed in parts.
    #[schemars(length(min = 1, max = 16), inner(range(min = 1, max = 1_048_576)))]
    pub batch_buckets: Vec<usize>,
    /// Batches with fewer rows than that run on the CPU. 0: none does.
    #[schemars(range(max = 1_048_576))]
    pub cpu_below_rows: usize,
}

impl Default for CudaSettings {
    fn default() -> Self {
        Self {
            device_id: 0,
            tf32: false,
            memory_limit_bytes: None,
            batch_buckets: vec![1, 8, 64, 512, 4096],
            cpu_below_rows: 0,
        }
    }
}
