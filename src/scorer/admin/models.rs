//! What is registered, what serves, and who changed it.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Admin, on_disk};
use crate::http::problem::Problem;
use crate::scorer::registry::audit::AuditEntry;
use crate::scorer::registry::manifest::Manifest;
use crate::scorer::registry::state::ServingState;
use crate::scorer::registry::{Registry, RegistryError};

/// Most entries of the audit in one answer.
const MAX_AUDIT: usize = 1_000;

/// A list.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Items<T> {
    pub items: Vec<T>,
}

/// One model.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ModelItem {
    pub model: String,
    #[serde(flatten)]
    pub state: ServingState,
    pub loaded: Vec<LoadedItem>,
}

/// One version in the memory of this process.
#[derive(Debug, Serialize, JsonSchema)]
pub struct LoadedItem {
    pub version: String,
    pub ready: bool,
    /// Why it does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One version on disk.
#[derive(Debug, Serialize, JsonSchema)]
pub struct VersionItem {
    pub version: String,
    /// Where it serves: production, previous, canary, shadow; or rejected.
    pub roles: Vec<&'static str>,
    /// None if it is refused.
    pub manifest: Option<Manifest>,
    /// Why it cannot be served, as far as its manifest tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// The newest so many, at most 1000; default: 100.
    limit: Option<usize>,
}

pub async fn list(State(admin): State<Admin>) -> Result<Json<Items<ModelItem>>, Problem> {
    let states = on_disk(&admin, |registry| {
        registry.models()?.into_iter().map(|model| Ok((registry.state(&model)?, model))).collect::<Result<Vec<_>, _>>()
    });
    let items = states.await?.into_iter().map(|(state, model)| item(&admin, model, state)).collect();
    Ok(Json(Items { items }))
}

pub async fn model(State(admin): State<Admin>, Path(model): Path<String>) -> Result<Json<ModelItem>, Problem> {
    let name = model.clone();
    let state = on_disk(&admin, move |registry| registry.state(&name)).await?;
    Ok(Json(item(&admin, model, state)))
}

pub async fn versions(
    State(admin): State<Admin>,
    Path(model): Path<String>,
) -> Result<Json<Items<VersionItem>>, Problem> {
    let items = on_disk(&admin, move |registry| {
        let state = registry.state(&model)?;
        let versions = registry.versions(&model)?;
        versions.into_iter().map(|version| version_item(registry, &state, &model, version)).collect()
    });
    Ok(Json(Items { items: items.await? }))
}

pub async fn version(
    State(admin): State<Admin>,
    Path((model, version)): Path<(String, String)>,
) -> Result<Json<VersionItem>, Problem> {
    let item = on_disk(&admin, move |registry| {
        let state = registry.state(&model)?;
        version_item(registry, &state, &model, version)
    });
    Ok(Json(item.await?))
}

/// Newest first.
pub async fn audit(
    State(admin): State<Admin>,
    Path(model): Path<String>,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Result<Json<Items<AuditEntry>>, Problem> {
    let Query(query) = query.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    let limit = query.limit.unwrap_or(100);
    if limit == 0 || limit > MAX_AUDIT {
        return Err(Problem::unprocessable(format!("`limit` is {limit}: 1 to {MAX_AUDIT} can be had")));
    }
    let entries = on_disk(&admin, move |registry| registry.audit(&model)).await?;
    Ok(Json(Items { items: entries.into_iter().rev().take(limit).collect() }))
}

fn item(admin: &Admin, model: String, state: ServingState) -> ModelItem {
    let loaded = admin.serving.loaded(&model).into_iter().map(|loaded| LoadedItem {
        version: loaded.version,
        ready: loaded.ready.is_ok(),
        reason: loaded.ready.err(),
    });
    ModelItem { loaded: loaded.collect(), model, state }
}

fn version_item(
    registry: &Registry,
    state: &ServingState,
    model: &str,
    version: String,
) -> Result<VersionItem, RegistryError> {
    let (manifest, refused) = match registry.manifest(model, &version) {
        Ok(manifest) => (Some(manifest), None),
        Err(RegistryError::Refused(reason)) => (None, Some(reason)),
        Err(error) => return Err(error),
    };
    Ok(VersionItem { roles: state.roles(&version), version, manifest, refused })
}
