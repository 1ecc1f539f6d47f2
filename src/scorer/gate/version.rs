//! A version as the scorer serves it: its model, its transform, and the outputs that its events are written from.

use std::sync::Arc;

use crate::config::scorer::ScorerConfig;
use crate::scorer::engine::{Engine, EngineError, LoadedModel, Signature};
use crate::scorer::events::start::layout_options;
use crate::scorer::events::{EventLayout, LayoutOptions};
use crate::scorer::registry::VerifiedVersion;
use crate::scorer::transform::FeatureTransform;
use crate::scorer::transform::backend::of_version;

use super::outputs::{OutputColumn, Outputs};

/// A version that is judged, or that another is judged by.
#[derive(Clone)]
pub struct Version {
    pub name: String,
    /// Of the model's file.
    pub bytes: u64,
    pub loaded: Arc<dyn LoadedModel>,
    /// Features of a matrix input, in its order, where the settings say them.
    pub feature_names: Option<Vec<String>>,
    /// Makes its features, where it has one.
    pub transform: Option<Arc<FeatureTransform>>,
    pub outputs: Outputs,
}

/// A version that cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// The scorer would not serve it either.
    #[error("version {version}: {reason}")]
    Refused { version: String, reason: String },
    /// This machine cannot load it.
    #[error("version {version}: {reason}")]
    Engine { version: String, reason: String },
}

impl Version {
    /// Loads a version whose bytes were checked, by the settings that it would be served by.
    ///
    /// # Errors
    /// It has not the transform that its manifest or the settings name, is no model, or lacks an output that the settings
    /// name; or the engine fails.
    pub fn of(verified: &VerifiedVersion, engine: &dyn Engine, config: &ScorerConfig) -> Result<Self, VersionError> {
        let (model, version) = (&verified.manifest.model, &verified.manifest.version);
        let refused = |reason: String| VersionError::Refused { version: version.clone(), reason };
        let settings = config.models.get(model);
        let transform =
            of_version(verified, settings.and_then(|settings| settings.transform.as_ref())).map_err(refused)?;
        let loaded = engine.load(&verified.model).map_err(|error| match error {
            EngineError::Model(_) => refused(error.to_string()),
            _ => VersionError::Engine { version: version.clone(), reason: error.to_string() },
        })?;
        let options = layout_options(config, model, transform.as_ref().map(|transform| transform.id()));
        let names = Some(options.feature_names.clone()).filter(|names| !names.is_empty() && transform.is_none());
        // Inputs are named by the columns of the rows; of the layout only outputs are wanted.
        let options = LayoutOptions { feature_names: Vec::new(), ..options };
        let outputs =
            outputs(model, version, loaded.signature(), options).map_err(|error| refused(error.to_string()))?;
        Ok(Self {
            name: version.clone(),
            bytes: verified.model.len() as u64,
            loaded,
            feature_names: names,
            transform,
            outputs,
        })
    }
}

/// Score and prediction are those of the events: the monitor judges later what the gate judges now.
fn outputs(
    model: &str,
    version: &str,
    signature: &Signature,
    options: LayoutOptions,
) -> Result<Outputs, crate::scorer::events::LayoutError> {
    let layout = EventLayout::new(model, version, Some(signature), options)?;
    let of = |(output, column): (&str, Option<usize>)| OutputColumn { output: output.into(), column };
    Ok(Outputs { score: layout.score_output().map(of), prediction: layout.prediction_output().map(of) })
}
