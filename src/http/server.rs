//! Routes, headers and the server itself. Handlers take the view's read lock, render, and let go.

use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, body::Bytes};
use maud::Markup;
use tokio::net::TcpListener;

use super::access::{Access, Caller};
use super::api::{self, Problem};
use super::api_actions::{self, ActionsQuery};
use super::follow::FollowHandle;
use super::metrics::{self, Watched};
use super::openapi;
use super::pages::{self, Context};
use super::readiness::Readiness;
use super::view::View;
use super::write::{self, ReloadSender};
use super::write_actions;
use crate::config::service::Role;
use crate::log::Log;
use crate::log::topics::Topics;
use crate::telemetry::Metrics;

const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; \
    form-action 'self'; frame-ancestors 'none'";
const STYLE_SHEET: &str = include_str!("pages/style.css");
const ICON: &str = include_str!("pages/icon.svg");

/// Everything a request can see.
#[derive(Clone)]
pub struct AppState {
    pub view: Arc<RwLock<View>>,
    pub follow: FollowHandle,
    pub metrics: Metrics,
    /// What comes from the configuration: a reload puts another in its place.
    pub configured: Arc<RwLock<Arc<Configured>>>,
    pub readiness: Readiness,
    /// Where commands go; `None`: none are taken.
    pub operations: Option<Operations>,
    /// Whom to ask for a reload; `None`: there is nothing to read again.
    pub reload: Option<ReloadSender>,
    /// Wall clock, epoch milliseconds.
    pub now_ms: fn() -> i64,
}

/// What requests see of the configuration.
#[derive(Default)]
pub struct Configured {
    pub watched: Watched,
    pub access: Access,
    pub series_budget: usize,
}

impl Configured {
    pub fn shared(self) -> Arc<RwLock<Arc<Configured>>> {
        Arc::new(RwLock::new(Arc::new(self)))
    }
}

/// The log that commands are written to.
#[derive(Clone)]
pub struct Operations {
    pub log: Arc<dyn Log>,
    pub topics: Topics,
}

/// Largest body of a request, bytes: a silence with every text at its longest has a fifth of it.
const MAX_BODY_BYTES: usize = 64 << 10;

impl AppState {
    pub(super) fn read(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn configured(&self) -> Arc<Configured> {
        self.configured.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn context<'a>(&self, configured: &'a Configured, caller: &Caller) -> Context<'a> {
        Context {
            watched: &configured.watched,
            now_ms: (self.now_ms)(),
            caught_up: self.follow.is_caught_up(),
            may_operate: self.operations.is_some() && caller.must(Role::Operate).is_ok(),
        }
    }
}

/// Serves until `shutdown` completes, then finishes the requests under way.
pub async fn serve(
    state: AppState,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "serving pages, API and metrics");
    }
    axum::serve(listener, router(state)).with_graceful_shutdown(shutdown).await
}

pub fn router(state: AppState) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/models/{model}", get(model))
        .route("/alerts/{episode_id}", get(alert))
        .route("/alerts/{episode_id}/acknowledge", get(acknowledge_page).post(acknowledge_form))
        .route("/alerts/{episode_id}/unacknowledge", post(unacknowledge_form))
        .route("/actions", get(actions))
        .route("/actions/{run}", get(action))
        .route("/style.css", get(|| async { asset("text/css; charset=utf-8", STYLE_SHEET) }))
        .route("/favicon.svg", get(|| async { asset("image/svg+xml", ICON) }))
        .route("/metrics", get(prometheus))
        .route("/-/healthy", get(|| async { "healthy\n" }))
        .route("/-/ready", get(ready))
        .route("/-/reload", post(write::reload))
        .route("/api/v1/models", get(api_models))
        .route("/api/v1/windows", get(api_windows))
        .route("/api/v1/performance", get(api_performance))
        .route("/api/v1/episodes", get(api_episodes))
        .route("/api/v1/episodes/{episode_id}", get(api_episode))
        .route("/api/v1/episodes/{episode_id}/acknowledge", post(write::acknowledge).delete(write::unacknowledge))
        .route("/api/v1/silences", get(write::silences).post(write::silence))
        .route("/api/v1/silences/{silence_id}", delete(write::expire_silence))
        .route("/api/v1/deliveries/{notification_id}/retry", post(write::retry))
        .route("/api/v1/openapi.json", get(|| async { axum::Json(openapi::document()) }))
        .route("/api/v1/actions", get(api_actions))
        .route("/api/v1/actions/{run}", get(api_action))
        .route("/api/v1/actions/{run}/manifest", get(api_manifest))
        .route("/api/v1/actions/{run}/approve", post(write_actions::approve))
        .route("/api/v1/actions/{run}/deny", post(write_actions::deny))
        .route("/api/v1/actions/{run}/report", post(write_actions::report))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_fn_with_state(state.clone(), authorise))
        .layer(from_fn(secure))
        .layer(from_fn_with_state(state.clone(), count))
        .with_state(state)
}

async fn home(State(state): State<AppState>, Extension(caller): Extension<Caller>) -> Html<String> {
    let configured = state.configured();
    page(pages::home::render(&state.read(), &state.context(&configured, &caller)))
}

async fn model(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Path(model): Path<String>,
    Query(choice): Query<pages::model::Choice>,
) -> Response {
    let configured = state.configured();
    let rendered = pages::model::render(&state.read(), &state.context(&configured, &caller), &model, &choice);
    match rendered {
        Some(markup) => page(markup).into_response(),
        None => missing(&state, &caller, &format!("No window or alert of a model `{model}` is known here.")),
    }
}

async fn alert(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Path(episode_id): Path<String>,
) -> Response {
    alert_page(&state, &caller, &episode_id, pages::alert::render)
}

async fn acknowledge_page(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Path(episode_id): Path<String>,
) -> Response {
    alert_page(&state, &caller, &episode_id, pages::acknowledge::render)
}

fn alert_page(
    state: &AppState,
    caller: &Caller,
    episode_id: &str,
    render: fn(&View, &Context<'_>, &str) -> Option<Markup>,
) -> Response {
    let configured = state.configured();
    let rendered = render(&state.read(), &state.context(&configured, caller), episode_id);
    match rendered {
        Some(markup) => page(markup).into_response(),
        None => missing(
            state,
            caller,
            "This alert is not held any more, or never was: pages keep the newest 1000 alerts, and the log keeps two weeks.",
        ),
    }
}

async fn acknowledge_form(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Path(episode_id): Path<String>,
    body: Bytes,
) -> Response {
    let acknowledge = async {
        caller.must(Role::Operate)?;
        let form: pages::acknowledge::Form = read_form(&body)?;
        let request = form.request().map_err(Problem::unprocessable)?;
        write::acknowledge_episode(&state, &caller, &episode_id, request).await
    };
    after_form(&state, &caller, &episode_id, acknowledge.await.map(drop))
}

async fn unacknowledge_form(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Path(episode_id): Path<String>,
) -> Response {
    let unacknowledge = async {
        caller.must(Role::Operate)?;
        write::unacknowledge_episode(&state, &caller, &episode_id).await
    };
    after_form(&state, &caller, &episode_id, unacknowledge.await.map(drop))
}

/// A form is written like a query, and read as one.
fn read_form<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let unreadable = || Problem::bad_request("the form cannot be read".into());
    let text = std::str::from_utf8(body).map_err(|_| unreadable())?;
    let uri: Uri = format!("/?{text}").parse().map_err(|_| unreadable())?;
    Query::try_from_uri(&uri).map(|Query(form)| form).map_err(|_| unreadable())
}

/// Back to the alert, or why not.
fn after_form(state: &AppState, caller: &Caller, episode_id: &str, outcome: Result<(), Problem>) -> Response {
    match outcome {
        Ok(()) => Redirect::to(&format!("/alerts/{}", pages::encode(episode_id))).into_response(),
        Err(problem) => {
            let configured = state.configured();
            let context = state.context(&configured, caller);
            (problem.status(), page(pages::refused::render(&context, episode_id, problem.detail()))).into_response()
        }
    }
}

async fn actions(State(state): State<AppState>, Extension(caller): Extension<Caller>) -> Html<String> {
    let configured = state.configured();
    page(pages::actions::render(&state.read(), &state.context(&configured, &caller)))
}

async fn action(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Path(run): Path<String>,
) -> Response {
    let configured = state.configured();
    let rendered = pages::actions::render_one(&state.read(), &state.context(&configured, &caller), &run);
    match rendered {
        Some(markup) => page(markup).into_response(),
        None => {
            missing(&state, &caller, "This run is not held any more, or never was: pages keep the newest 1000 runs.")
        }
    }
}

async fn method_not_allowed(request: Request) -> Response {
    let (method, path) = (request.method(), request.uri().path());
    Problem::method_not_allowed(format!("`{path}` does not take {method}; see /api/v1/openapi.json")).into_response()
}

async fn not_found(State(state): State<AppState>, Extension(caller): Extension<Caller>, request: Request) -> Response {
    let path = request.uri().path();
    if path.starts_with("/api/") {
        return Problem::not_found(format!("there is no `{path}`; see /api/v1/openapi.json")).into_response();
    }
    missing(&state, &caller, "There is no such page.")
}

/// 404, or 503 while the view is not complete: what is missing may yet come.
fn missing(state: &AppState, caller: &Caller, what: &str) -> Response {
    let configured = state.configured();
    let context = state.context(&configured, caller);
    let status = if context.caught_up { StatusCode::NOT_FOUND } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, page(pages::not_found::render(&context, what))).into_response()
}

async fn prometheus(State(state): State<AppState>) -> Response {
    let configured = state.configured();
    let rendered = metrics::render(&state.metrics, &state.read(), &configured.watched, configured.series_budget);
    match rendered {
        Ok(text) => ([(header::CONTENT_TYPE, ::prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics could not be written");
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
        }
    }
}

async fn ready(State(state): State<AppState>) -> Response {
    match state.readiness.check() {
        Ok(()) => "ready\n".into_response(),
        Err(reasons) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", reasons.join("\n"))).into_response(),
    }
}

async fn api_models(State(state): State<AppState>) -> Response {
    api::models(&state.read(), &state.configured().watched).into_response()
}

async fn api_windows(
    State(state): State<AppState>,
    query: Result<Query<api::WindowsQuery>, QueryRejection>,
) -> Response {
    match query {
        Ok(Query(query)) => api::windows(&state.read(), &query).into_response(),
        Err(rejection) => Problem::bad_request(rejection.body_text()).into_response(),
    }
}

async fn api_performance(
    State(state): State<AppState>,
    query: Result<Query<api::WindowsQuery>, QueryRejection>,
) -> Response {
    match query {
        Ok(Query(query)) => api::performance(&state.read(), &query).into_response(),
        Err(rejection) => Problem::bad_request(rejection.body_text()).into_response(),
    }
}

async fn api_episodes(
    State(state): State<AppState>,
    query: Result<Query<api::EpisodesQuery>, QueryRejection>,
) -> Response {
    match query {
        Ok(Query(query)) => api::episodes(&state.read(), &query, (state.now_ms)()).into_response(),
        Err(rejection) => Problem::bad_request(rejection.body_text()).into_response(),
    }
}

async fn api_episode(State(state): State<AppState>, Path(episode_id): Path<String>) -> Response {
    api::episode(&state.read(), &episode_id, (state.now_ms)()).into_response()
}

async fn api_actions(State(state): State<AppState>, query: Result<Query<ActionsQuery>, QueryRejection>) -> Response {
    match query {
        Ok(Query(query)) => api_actions::actions(&state.read(), &query).into_response(),
        Err(rejection) => Problem::bad_request(rejection.body_text()).into_response(),
    }
}

async fn api_action(State(state): State<AppState>, Path(run): Path<String>) -> Response {
    api_actions::action(&state.read(), &run).into_response()
}

async fn api_manifest(State(state): State<AppState>, Path(run): Path<String>) -> Response {
    api_actions::manifest(&state.read(), &run).into_response()
}

fn page(markup: Markup) -> Html<String> {
    Html(markup.into_string())
}

fn asset(content_type: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "max-age=300")], text).into_response()
}

/// Finds out who is asking, before anything is answered. Health is for everybody: what watches a process has no token.
async fn authorise(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let open = ["/-/healthy", "/-/ready", "/style.css", "/favicon.svg"];
    let caller = match state.configured().access.caller(request.method(), request.headers()) {
        Ok(caller) => caller,
        Err(_) if open.contains(&request.uri().path()) => Caller { name: None, role: Role::Read },
        Err(problem) => return problem.into_response(),
    };
    request.extensions_mut().insert(caller);
    next.run(request).await
}

async fn secure(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn count(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let route = route_label(request.uri().path());
    let response = next.run(request).await;
    let status = response.status();
    state.metrics.http_requests.with_label_values(&[route, status.as_str()]).inc();
    tracing::debug!(route, status = status.as_u16(), "http request");
    response
}

/// Requests are counted by route, not by path: a path may hold anything.
fn route_label(path: &str) -> &'static str {
    const ROUTES: [&str; 10] = [
        "/style.css",
        "/favicon.svg",
        "/metrics",
        "/-/healthy",
        "/-/ready",
        "/-/reload",
        "/models",
        "/alerts",
        "/actions",
        "/api",
    ];
    if path == "/" {
        return "/";
    }
    let belongs = |route: &&str| path.strip_prefix(*route).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    ROUTES.into_iter().find(belongs).unwrap_or("other")
}
