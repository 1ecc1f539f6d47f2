//! The admin API: which versions serve, and changing that, over HTTP behind tokens.
//!
//! `models` reads, `changes` changes, `trial` tells of canaries on trial and of experiments, `repository` is the Open Inference Protocol's extension of that name, `openapi`
//! describes all of it. Who may do what, and how errors are written, is as in the monitor (`http::access`,
//! `http::problem`). What is in memory is asked of the process that serves, through `Serving`.
//!
//! To add an operation: a handler, its route in `router`, and its row in `openapi::OPERATIONS`.

pub mod changes;
pub mod models;
pub mod openapi;
pub mod repository;
pub mod trial;

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::registry::{Registry, RegistryError};
use crate::http::access::Access;
use crate::http::problem::Problem;

/// Largest body of a request, bytes.
const MAX_BODY_BYTES: usize = 64 << 10;

/// The process that serves, as the admin API needs it.
#[async_trait]
pub trait Serving: Send + Sync {
    /// Loads and warms a version beside those that serve, so that a change to it takes effect at once.
    ///
    /// # Errors
    /// It cannot be loaded, and why; what serves goes on.
    async fn prepare(&self, model: &str, version: &str) -> Result<(), String>;

    /// The registry has a change of this model: look at it now.
    fn changed(&self, model: &str);

    /// What is in memory of this model.
    fn loaded(&self, model: &str) -> Vec<LoadedVersion>;

    /// Serves a model again that was unloaded, or one that is new.
    ///
    /// # Errors
    /// It cannot be loaded, and why.
    async fn load(&self, model: &str) -> Result<(), String>;

    /// Stops serving a model, until it is loaded or the process starts again.
    ///
    /// # Errors
    /// It is not served.
    async fn unload(&self, model: &str) -> Result<(), String>;
}

/// One version in the memory of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedVersion {
    pub version: String,
    /// Whether it answers; otherwise why not.
    pub ready: Result<(), String>,
}

/// Everything a request can see.
#[derive(Clone)]
pub struct Admin {
    pub registry: Arc<Registry>,
    pub serving: Arc<dyn Serving>,
    pub access: Arc<Access>,
    /// Wall clock, epoch milliseconds.
    pub now_ms: fn() -> i64,
}

/// All routes of the admin API. Health and metrics are served beside it, by whoever serves.
pub fn router(admin: Admin) -> Router {
    Router::new()
        .route("/admin/v1/models", get(models::list))
        .route("/admin/v1/models/{model}", get(models::model))
        .route("/admin/v1/models/{model}/versions", get(models::versions))
        .route("/admin/v1/models/{model}/versions/{version}", get(models::version))
        .route("/admin/v1/models/{model}/audit", get(models::audit))
        .route("/admin/v1/models/{model}/trial", get(trial::trial))
        .route("/admin/v1/models/{model}/trial/labels", post(trial::report_labels))
        .route("/admin/v1/models/{model}/experiments", get(trial::experiments))
        .route("/admin/v1/models/{model}/promote", post(changes::promote))
        .route("/admin/v1/models/{model}/rollback", post(changes::roll_back))
        .route("/admin/v1/models/{model}/canary", post(changes::set_canary).delete(changes::clear_canary))
        .route("/admin/v1/models/{model}/shadow", post(changes::set_shadow).delete(changes::clear_shadow))
        .route("/admin/v1/openapi.json", get(|| async { axum::Json(openapi::document()) }))
        .route("/v2/repository/index", post(repository::index))
        .route("/v2/repository/models/{model}/load", post(repository::load))
        .route("/v2/repository/models/{model}/unload", post(repository::unload))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .route_layer(from_fn_with_state(admin.clone(), authorise))
        .layer(from_fn(secure))
        .with_state(admin)
}

/// Finds out who is asking, before anything is answered.
async fn authorise(State(admin): State<Admin>, mut request: Request, next: Next) -> Response {
    match admin.access.caller(request.method(), request.headers()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

async fn secure(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn method_not_allowed(request: Request) -> Response {
    let (method, path) = (request.method(), request.uri().path());
    Problem::method_not_allowed(format!("`{path}` does not take {method}; see /admin/v1/openapi.json")).into_response()
}

/// What a caller is told, by what they do next.
fn problem(error: RegistryError) -> Problem {
    match error {
        RegistryError::NotFound(reason) => Problem::not_found(reason),
        RegistryError::Conflict(reason) => Problem::conflict(reason),
        RegistryError::Invalid(reason) | RegistryError::Refused(reason) => Problem::unprocessable(reason),
        RegistryError::Busy(reason) => Problem::unavailable(reason),
        RegistryError::Disk(error) => {
            tracing::error!("the registry's disk fails: {error}");
            Problem::unavailable(error.to_string())
        }
    }
}

/// Runs work on the disk where it holds up no other request.
async fn on_disk<T: Send + 'static>(
    admin: &Admin,
    work: impl FnOnce(&Registry) -> Result<T, RegistryError> + Send + 'static,
) -> Result<T, Problem> {
    let registry = admin.registry.clone();
    match tokio::task::spawn_blocking(move || work(&registry)).await {
        Ok(outcome) => outcome.map_err(problem),
        Err(error) => Err(Problem::unavailable(format!("the registry could not be asked: {error}"))),
    }
}
