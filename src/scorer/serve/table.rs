//! What serves at one instant: models, and the versions of each that are in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::source::Loaded;
use crate::config::scorer::ModelSettings;
use crate::scorer::backend::Backend;
use crate::scorer::events::EventLayout;
use crate::scorer::metrics::{ArmCounters, Metrics, Totals};
use crate::scorer::protocols::shown;
use crate::scorer::registry::state::ServingState;
use crate::scorer::score::{Arm, ScoreError};
use crate::scorer::traffic::counters::Counters;

/// All models.
#[derive(Default, Clone)]
pub struct Table {
    pub models: BTreeMap<String, Arc<ServedModel>>,
    /// Models that should be served and are not, each with the reason: while there are any, the scorer is not ready.
    pub missing: BTreeMap<String, String>,
    /// Whether the registry was read at all.
    pub started: bool,
}

impl Table {
    pub fn model(&self, name: &str) -> Option<Arc<ServedModel>> {
        self.models.get(name).cloned()
    }

    /// Whether every model that should be served is.
    ///
    /// # Errors
    /// Not yet, or not any more; the reasons, one a line.
    pub fn ready(&self) -> Result<(), String> {
        if !self.started {
            return Err("the registry has not been read yet".into());
        }
        let mut reasons: Vec<String> =
            self.missing.iter().map(|(model, reason)| format!("model `{model}`: {reason}")).collect();
        reasons.extend(self.models.values().filter_map(|model| model.ready().err()));
        if reasons.is_empty() { Ok(()) } else { Err(reasons.join("\n")) }
    }
}

/// One model: the state that serves, which may be older than the registry's if a version could not be loaded.
pub struct ServedModel {
    pub name: String,
    pub state: ServingState,
    pub settings: Arc<ModelSettings>,
    pub versions: BTreeMap<String, Arc<ServedVersion>>,
    /// Of the trial and the experiment; they outlive a change of what serves.
    pub counters: Arc<Counters>,
}

impl ServedModel {
    /// A version in memory.
    ///
    /// # Errors
    /// It is not loaded: `NotFound`, with those that are.
    pub fn version(&self, version: &str) -> Result<&Arc<ServedVersion>, ScoreError> {
        self.versions.get(version).ok_or_else(|| {
            let loaded: Vec<&str> = self.versions.keys().map(String::as_str).collect();
            ScoreError::NotFound(format!(
                "version `{}` of model `{}` is not loaded; loaded are {}",
                shown(version),
                self.name,
                loaded.join(", ")
            ))
        })
    }

    /// The version in production.
    ///
    /// # Errors
    /// There is none: `Unavailable`.
    pub fn production(&self) -> Result<&Arc<ServedVersion>, ScoreError> {
        match &self.state.production {
            Some(version) => self.version(version),
            None => Err(ScoreError::Unavailable(format!("model `{}` has no version in production", self.name))),
        }
    }

    /// # Errors
    /// The version in production cannot answer; the reason.
    pub fn ready(&self) -> Result<(), String> {
        let production = self.production().map_err(|error| error.to_string())?;
        match production.backend.ready() {
            true => Ok(()),
            false => Err(format!("model `{}`: version {} does not answer", self.name, production.version)),
        }
    }
}

/// A version in memory, warm.
pub struct ServedVersion {
    pub version: String,
    pub backend: Arc<dyn Backend>,
    pub layout: Option<Arc<EventLayout>>,
    /// Requests that wait for it as a shadow.
    pub(super) waiting_as_shadow: AtomicUsize,
    /// In the order of `Arm::ALL`.
    counters: [ArmCounters; Arm::ALL.len()],
}

impl ServedVersion {
    pub fn new(model: &str, version: &str, loaded: Loaded, metrics: &Metrics) -> Self {
        let counters = Arm::ALL.map(|arm| metrics.arm(model, version, arm));
        let waiting_as_shadow = AtomicUsize::new(0);
        Self { version: version.into(), backend: loaded.backend, layout: loaded.layout, waiting_as_shadow, counters }
    }

    /// Of all arms.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.counters.iter().for_each(|counters| counters.add_to(&mut totals));
        totals
    }

    pub fn counters(&self, arm: Arm) -> &ArmCounters {
        let [production, canary, shadow, experiment, pinned] = &self.counters;
        match arm {
            Arm::Production => production,
            Arm::Canary => canary,
            Arm::Shadow => shadow,
            Arm::Experiment => experiment,
            Arm::Pinned => pinned,
        }
    }
}
