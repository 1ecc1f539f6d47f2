//! The Open Inference Protocol's model repository extension: what is in memory, and loading and unloading it.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Admin, on_disk};
use crate::config::service::Role;
use crate::http::access::Caller;
use crate::http::problem::Problem;
use crate::scorer::protocols::shown;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct IndexRequest {
    /// Only versions that answer.
    pub ready: bool,
}

/// One version, as the protocol writes it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct IndexItem {
    pub name: String,
    pub version: String,
    /// `READY`, or `UNAVAILABLE`.
    pub state: &'static str,
    pub reason: String,
}

pub async fn index(State(admin): State<Admin>, body: Bytes) -> Result<Json<Vec<IndexItem>>, Problem> {
    // Clients send nothing at all where they ask for everything.
    let asked: IndexRequest = match body.as_ref() {
        [] => IndexRequest::default(),
        body => serde_json::from_slice(body).map_err(|error| Problem::bad_request(error.to_string()))?,
    };
    let versions = on_disk(&admin, |registry| {
        registry
            .models()?
            .into_iter()
            .map(|model| Ok((registry.versions(&model)?, model)))
            .collect::<Result<Vec<_>, _>>()
    });
    let mut items = Vec::new();
    for (versions, model) in versions.await? {
        let loaded = admin.serving.loaded(&model);
        for version in versions {
            let ready = loaded.iter().find(|loaded| loaded.version == version).map(|loaded| loaded.ready.clone());
            let (state, reason) = match ready {
                Some(Ok(())) => ("READY", String::new()),
                Some(Err(reason)) => ("UNAVAILABLE", reason),
                None => ("UNAVAILABLE", "not loaded".into()),
            };
            items.push(IndexItem { name: model.clone(), version, state, reason });
        }
    }
    items.retain(|item| !asked.ready || item.state == "READY");
    Ok(Json(items))
}

/// A body may follow the protocol with parameters; a model is loaded as the registry has it, whatever they say.
pub async fn load(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Path(model): Path<String>,
) -> Result<(), Problem> {
    caller.must(Role::Operate)?;
    let name = model.clone();
    on_disk(&admin, move |registry| registry.state(&name).map(drop)).await?;
    // No change of the registry's state, so none of its audit: the log tells who asked.
    tracing::info!(model, by = caller.by(None), "asked to load a model");
    admin.serving.load(&model).await.map_err(Problem::unprocessable)
}

pub async fn unload(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Path(model): Path<String>,
) -> Result<(), Problem> {
    caller.must(Role::Operate)?;
    tracing::info!(model = shown(&model), by = caller.by(None), "asked to unload a model");
    admin.serving.unload(&model).await.map_err(Problem::not_found)
}
