//! A source of versions for tests of the server: no disk, no ONNX Runtime.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use driftline::config::scorer::{BatchSettings, ModelSettings};
use driftline::scorer::batching::Runner;
use driftline::scorer::engine::Engine;
use driftline::scorer::registry::state::ServingState;
use driftline::scorer::serve::source::{Loaded, Source};

use super::FakeEngine;

/// A registry in memory: versions are texts of the fake engine.
#[derive(Default)]
pub struct Shelf {
    states: Mutex<BTreeMap<String, ServingState>>,
    pub versions: Mutex<HashMap<(String, String), String>>,
    pub loads: AtomicU64,
}

impl Shelf {
    pub fn put(&self, version: &str, text: &str) {
        self.versions.lock().unwrap().insert(("fraud".into(), version.into()), text.into());
    }

    pub fn state(&self, change: impl FnOnce(&mut ServingState)) {
        let mut states = self.states.lock().unwrap();
        let state = states.entry("fraud".into()).or_default();
        state.generation += 1;
        change(state);
    }
}

impl Source for Shelf {
    fn models(&self) -> Result<Vec<String>, String> {
        Ok(self.states.lock().unwrap().keys().cloned().collect())
    }

    fn state(&self, model: &str) -> Result<ServingState, String> {
        self.states.lock().unwrap().get(model).cloned().ok_or_else(|| format!("there is no model {model}"))
    }

    fn load(&self, model: &str, version: &str, _: &ModelSettings) -> Result<Loaded, String> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        let text = self.versions.lock().unwrap().get(&(model.into(), version.into())).cloned();
        let text = text.ok_or_else(|| format!("no version {version}"))?;
        let model = FakeEngine::default().load(text.as_bytes()).map_err(|error| error.to_string())?;
        let settings = BatchSettings { workers: Some(1), ..BatchSettings::default() };
        let runner = Runner::start(model, &settings, "fake").map_err(|error| error.to_string())?;
        Ok(Loaded { backend: Arc::new(runner), layout: None })
    }
}
