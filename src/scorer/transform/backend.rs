//! A version's transform before what computes it: requests bring raw features, the model gets its columns.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;

use crate::config::scorer::TransformSettings;
use crate::scorer::backend::Backend;
use crate::scorer::batching::RunnerStats;
use crate::scorer::engine::Signature;
use crate::scorer::registry::VerifiedVersion;
use crate::scorer::score::{Priority, ScoreError};
use crate::scorer::tensor::{Tensor, TensorLimits};

use super::{FeatureTransform, TRANSFORM_FILE, tensors};

/// More values than this are computed on a thread that may take its time.
const MANY_VALUES: usize = 65_536;

/// The transform of a version, checked against its manifest and against the one that the settings ask for.
///
/// # Errors
/// The manifest names a transform that the version does not have, or another than its file is; the file is wrong; the
/// settings ask for another.
pub fn of_version(
    version: &VerifiedVersion,
    settings: Option<&TransformSettings>,
) -> Result<Option<Arc<FeatureTransform>>, String> {
    let manifest = &version.manifest;
    let named = manifest.lineage.transform.as_deref();
    let name = format!("{TRANSFORM_FILE} of version {} of model {}", manifest.version, manifest.model);
    let transform = match (version.files.get(TRANSFORM_FILE), named) {
        (None, None) => None,
        (None, Some(id)) => {
            return Err(format!(
                "{name} is missing, and the manifest names the transform {id}: register the version with it"
            ));
        }
        (Some(bytes), named) => {
            let transform = FeatureTransform::parse(&name, bytes).map_err(|found| found.to_string())?;
            if let Some(named) = named.filter(|named| *named != transform.id()) {
                let id = transform.id();
                return Err(format!(
                    "{name} has the id {id}, the manifest names {named}: the model was trained on other features"
                ));
            }
            Some(Arc::new(transform))
        }
    };
    let wanted = settings.and_then(|settings| settings.id.as_deref());
    let has = transform.as_ref().map(|transform| transform.id());
    match wanted {
        Some(wanted) if has != Some(wanted) => {
            let has = has.unwrap_or("none");
            Err(format!("{name} must have the id {wanted} by the settings (`transform.id`), it has {has}"))
        }
        _ => Ok(transform),
    }
}

/// Puts a transform before a backend; without one gives the backend back.
///
/// # Errors
/// The model does not take what the transform gives.
pub fn wrap(transform: Option<Arc<FeatureTransform>>, inner: Arc<dyn Backend>) -> Result<Arc<dyn Backend>, String> {
    let Some(transform) = transform else { return Ok(inner) };
    if let Some(signature) = inner.signature() {
        fits(&transform, &signature)?;
    }
    Ok(Arc::new(TransformedBackend { transform, inner }))
}

/// Whether a model takes what a transform gives.
///
/// # Errors
/// It does not, and why.
pub fn fits(transform: &FeatureTransform, signature: &Signature) -> Result<(), String> {
    let (output, columns) = (transform.output(), transform.columns().len());
    let [input] = signature.inputs.as_slice() else {
        let count = signature.inputs.len();
        return Err(format!("a feature transform gives one input, `{output}`; the model takes {count}"));
    };
    let width = match input.shape.as_slice() {
        [_, width] => *width,
        shape => {
            let rank = shape.len();
            return Err(format!("a feature transform gives rows of columns; the model's input has {rank} dimensions"));
        }
    };
    let datatype = transform.datatype();
    if input.name != output || input.datatype != datatype || width.is_some_and(|width| width != columns) {
        let wanted = width.map_or("any number of".into(), |width| width.to_string());
        return Err(format!(
            "the feature transform gives `{output}` of {} with {columns} columns; the model takes `{}` of {} with {wanted} columns",
            datatype.name(),
            input.name,
            input.datatype.name()
        ));
    }
    Ok(())
}

/// A transform before a backend.
struct TransformedBackend {
    transform: Arc<FeatureTransform>,
    inner: Arc<dyn Backend>,
}

/// The model's input from a request's raw features.
///
/// # Errors
/// As the transform's.
pub fn model_input(transform: &FeatureTransform, inputs: &[Tensor]) -> Result<Tensor, ScoreError> {
    let (raw, rows) =
        tensors::raw_columns(transform.inputs(), inputs).map_err(|error| ScoreError::Invalid(error.to_string()))?;
    let data = transform.apply(&raw, rows).map_err(|error| ScoreError::Invalid(error.to_string()))?;
    let shape = vec![rows, transform.columns().len()];
    Tensor::new(transform.output(), shape, data, &TensorLimits::default())
        .map_err(|error| ScoreError::Invalid(error.to_string()))
}

#[async_trait]
impl Backend for TransformedBackend {
    fn signature(&self) -> Option<Arc<Signature>> {
        let inner = self.inner.signature()?;
        let inputs = self.transform.raw_specs();
        Some(Arc::new(Signature { inputs, outputs: inner.outputs.clone(), batches: inner.batches }))
    }

    fn engine(&self) -> &'static str {
        self.inner.engine()
    }

    fn transform_id(&self) -> Option<&str> {
        Some(self.transform.id())
    }

    fn ready(&self) -> bool {
        self.inner.ready()
    }

    fn batching(&self) -> Option<RunnerStats> {
        self.inner.batching()
    }

    async fn score(
        &self,
        inputs: Vec<Tensor>,
        priority: Priority,
        deadline: Option<Instant>,
    ) -> Result<Vec<Tensor>, ScoreError> {
        let rows = inputs.first().map_or(0, Tensor::rows);
        let input = if rows.saturating_mul(self.transform.columns().len()) > MANY_VALUES {
            let transform = Arc::clone(&self.transform);
            let computed = tokio::task::spawn_blocking(move || model_input(&transform, &inputs)).await;
            computed.map_err(|error| ScoreError::Failed(format!("the feature transform: {error}")))??
        } else {
            model_input(&self.transform, &inputs)?
        };
        self.inner.score(vec![input], priority, deadline).await
    }
}
