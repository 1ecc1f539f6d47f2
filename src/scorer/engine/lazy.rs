//! ONNX Runtime, loaded when the first model needs it: a scorer whose models are all computed elsewhere needs none.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Engine, EngineError, LoadedModel, OnnxEngine};
use crate::config::scorer::EngineSettings;
use crate::config::scorer::engine::Device;

pub struct LazyEngine {
    settings: EngineSettings,
    /// Where a relative `engine.library` is.
    directory: PathBuf,
    opened: Mutex<Option<OnnxEngine>>,
}

impl LazyEngine {
    pub fn new(settings: EngineSettings, directory: PathBuf) -> Self {
        Self { settings, directory, opened: Mutex::new(None) }
    }

    fn open(&self) -> Result<OnnxEngine, EngineError> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = opened.as_ref() {
            return Ok(engine.clone());
        }
        let engine = OnnxEngine::open(&self.settings, &self.directory)?;
        *opened = Some(engine.clone());
        Ok(engine)
    }
}

impl Engine for LazyEngine {
    fn name(&self) -> &'static str {
        match self.settings.device {
            Device::Cpu => "onnxruntime-cpu",
            Device::Cuda => "onnxruntime-cuda",
        }
    }

    fn load(&self, model: &[u8]) -> Result<Arc<dyn LoadedModel>, EngineError> {
        self.open()?.load(model)
    }
}
