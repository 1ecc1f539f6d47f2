//! Where models come from: the registry, and an engine that loads their bytes.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::config::scorer::{ModelSettings, ScorerConfig};
use crate::scorer::backend::Backend;
use crate::scorer::batching::Runner;
use crate::scorer::engine::{Engine, EngineError};
use crate::scorer::events::EventLayout;
use crate::scorer::events::start::layout_options;
use crate::scorer::metrics::Metrics;
use crate::scorer::proxy::Peer;
use crate::scorer::registry::state::ServingState;
use crate::scorer::registry::{Registry, RegistryError};
use crate::scorer::transform::backend::{of_version, wrap};

/// Names, states and versions of models.
pub trait Source: Send + Sync {
    /// # Errors
    /// The models cannot be listed; the reason.
    fn models(&self) -> Result<Vec<String>, String>;

    /// # Errors
    /// There is no such model, or its state cannot be read; the reason.
    fn state(&self, model: &str) -> Result<ServingState, String>;

    /// A version, loaded and warm. Takes as long as it takes, on a thread that may wait.
    ///
    /// # Errors
    /// The version is not there, is not what its manifest says, or cannot be loaded; the reason.
    fn load(&self, model: &str, version: &str, settings: &ModelSettings) -> Result<Loaded, String>;
}

/// A version that is ready to answer.
pub struct Loaded {
    pub backend: Arc<dyn Backend>,
    /// How its events are written; none: it has none.
    pub layout: Option<Arc<EventLayout>>,
}

/// Versions of the registry, computed in this process or by a server elsewhere.
pub struct RegistrySource {
    pub registry: Arc<Registry>,
    pub engine: Arc<dyn Engine>,
    pub config: Arc<ScorerConfig>,
    /// Where connections to servers that compute live.
    pub runtime: Handle,
    pub metrics: Metrics,
}

impl Source for RegistrySource {
    fn models(&self) -> Result<Vec<String>, String> {
        self.registry.models().map_err(|error| error.to_string())
    }

    fn state(&self, model: &str) -> Result<ServingState, String> {
        self.registry.state(model).map_err(|error: RegistryError| error.to_string())
    }

    fn load(&self, model: &str, version: &str, settings: &ModelSettings) -> Result<Loaded, String> {
        let verified = self.registry.open_version(model, version).map_err(|error| error.to_string())?;
        let transform = of_version(&verified, settings.transform.as_ref())?;
        let failed = |error: EngineError| format!("version {version} of model {model} cannot be loaded: {error}");
        let computed: Arc<dyn Backend> = match &settings.proxy {
            Some(proxy) => {
                let peer = Peer::connect(model, version, proxy, &verified.model, &self.runtime, &self.metrics);
                Arc::new(peer?)
            }
            None => {
                let loaded = self.engine.load(&verified.model).map_err(failed)?;
                Arc::new(Runner::start(loaded, &settings.batching, format!("{model} {version}")).map_err(failed)?)
            }
        };
        let backend = wrap(transform, computed)
            .map_err(|reason| format!("version {version} of model {model} cannot be served: {reason}"))?;
        let layout = match self.config.events.enabled {
            true => {
                let options = layout_options(&self.config, model, backend.transform_id());
                let layout = EventLayout::new(model, version, backend.signature().as_deref(), options);
                Some(layout.map_err(|error| format!("events of model {model} version {version}: {error}"))?)
            }
            false => None,
        };
        Ok(Loaded { backend, layout })
    }
}
