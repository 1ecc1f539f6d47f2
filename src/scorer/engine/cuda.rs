//! ONNX Runtime's CUDA execution provider. In a build without the feature `gpu` everything here refuses.

use ort::memory::MemoryInfo;
use ort::session::Session as OrtSession;
use ort::session::builder::SessionBuilder;

use super::EngineError;
use crate::config::scorer::engine::CudaSettings;

#[cfg(feature = "gpu")]
mod provider {
    use ort::ep::{CUDA, ExecutionProvider};
    use ort::memory::{AllocationDevice, AllocatorType, MemoryType};

    use super::*;
    use crate::scorer::engine::values::brief;

    pub fn available(_: &CudaSettings) -> Result<(), EngineError> {
        match CUDA::is_available() {
            Ok(true) => Ok(()),
            Ok(false) => Err(EngineError::Unavailable(
                "this ONNX Runtime has no CUDA execution provider: install it with `pip install onnxruntime-gpu`"
                    .into(),
            )),
            Err(error) => Err(EngineError::Unavailable(brief(error.message()).to_string())),
        }
    }

    pub fn session(builder: SessionBuilder, settings: &CudaSettings, model: &[u8]) -> Result<OrtSession, EngineError> {
        let mut provider = CUDA::default().with_device_id(settings.device_id).with_tf32(settings.tf32);
        if let Some(bytes) = settings.memory_limit_bytes {
            provider = provider.with_memory_limit(bytes);
        }
        let unavailable =
            |message: &str| EngineError::Unavailable(format!("no GPU for this model: {}", brief(message)));
        let mut builder = builder
            .with_execution_providers([provider.build().error_on_failure()])
            .map_err(|error| unavailable(error.message()))?
            // Without it nodes that the GPU cannot compute run on the CPU, and nobody is told.
            .with_disable_cpu_fallback()
            .map_err(|error| unavailable(error.message()))?;
        builder.commit_from_memory(model).map_err(|error| {
            EngineError::Model(format!("the model does not run on the GPU as a whole: {}", brief(error.message())))
        })
    }

    pub fn pinned_memory(settings: &CudaSettings) -> Result<MemoryInfo<'static>, EngineError> {
        MemoryInfo::new(AllocationDevice::CUDA_PINNED, settings.device_id, AllocatorType::Device, MemoryType::CPUInput)
            .map_err(|error| EngineError::Unavailable(brief(error.message()).to_string()))
    }
}

#[cfg(not(feature = "gpu"))]
mod provider {
    use super::*;

    fn not_built() -> EngineError {
        EngineError::Unavailable(
            "`engine.device` is `cuda`, but this program was built without it: build with `--features gpu`".into(),
        )
    }

    pub fn available(_: &CudaSettings) -> Result<(), EngineError> {
        Err(not_built())
    }

    pub fn session(_: SessionBuilder, _: &CudaSettings, _: &[u8]) -> Result<OrtSession, EngineError> {
        Err(not_built())
    }

    pub fn pinned_memory(_: &CudaSettings) -> Result<MemoryInfo<'static>, EngineError> {
        Err(not_built())
    }
}

/// Whether models can run on the GPU at all.
///
/// # Errors
/// The build or the runtime has no CUDA.
pub(super) fn available(settings: &CudaSettings) -> Result<(), EngineError> {
    provider::available(settings)
}

/// A session all of whose nodes run on the GPU.
///
/// # Errors
/// There is no GPU, or nodes of the model would run on the CPU.
pub(super) fn session(
    builder: SessionBuilder,
    settings: &CudaSettings,
    model: &[u8],
) -> Result<OrtSession, EngineError> {
    provider::session(builder, settings, model)
}

/// Memory of the machine that the GPU reads and writes by itself.
///
/// # Errors
/// The build has no CUDA.
pub(super) fn pinned_memory(settings: &CudaSettings) -> Result<MemoryInfo<'static>, EngineError> {
    provider::pinned_memory(settings)
}
