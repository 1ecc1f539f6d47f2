//! Routes, headers and the server itself. Handlers take the view's read lock, render, and let go.

use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use maud::Markup;
use tokio::net::TcpListener;

use super::api::{self, Problem};
use super::follow::FollowHandle;
use super::metrics::{self, Watched};
use super::pages::{self, Context};
use super::readiness::Readiness;
use super::view::View;
use crate::telemetry::Metrics;

const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";
const STYLE_SHEET: &str = include_str!("pages/style.css");
const ICON: &str = include_str!("pages/icon.svg");

/// Everything a request can see.
#[derive(Clone)]
pub struct AppState {
    pub view: Arc<RwLock<View>>,
    pub follow: FollowHandle,
    pub metrics: Metrics,
    pub watched: Arc<Watched>,
    pub readiness: Readiness,
    pub series_budget: usize,
    /// Wall clock, epoch milliseconds.
    pub now_ms: fn() -> i64,
}

impl AppState {
    fn read(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn context(&self) -> Context<'_> {
        Context { watched: &self.watched, now_ms: (self.now_ms)(), caught_up: self.follow.is_caught_up() }
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
        .route("/style.css", get(|| async { asset("text/css; charset=utf-8", STYLE_SHEET) }))
        .route("/favicon.svg", get(|| async { asset("image/svg+xml", ICON) }))
        .route("/metrics", get(prometheus))
        .route("/-/healthy", get(|| async { "healthy\n" }))
        .route("/-/ready", get(ready))
        .route("/api/v1/models", get(api_models))
        .route("/api/v1/windows", get(api_windows))
        .route("/api/v1/performance", get(api_performance))
        .route("/api/v1/episodes", get(api_episodes))
        .route("/api/v1/episodes/{episode_id}", get(api_episode))
        .fallback(not_found)
        .layer(from_fn(secure))
        .layer(from_fn_with_state(state.clone(), count))
        .with_state(state)
}

async fn home(State(state): State<AppState>) -> Html<String> {
    page(pages::home::render(&state.read(), &state.context()))
}

async fn model(
    State(state): State<AppState>,
    Path(model): Path<String>,
    Query(choice): Query<pages::model::Choice>,
) -> Response {
    let rendered = pages::model::render(&state.read(), &state.context(), &model, &choice);
    match rendered {
        Some(markup) => page(markup).into_response(),
        None => missing(&state, &format!("No window or alert of a model `{model}` is known here.")),
    }
}

async fn alert(State(state): State<AppState>, Path(episode_id): Path<String>) -> Response {
    let rendered = pages::alert::render(&state.read(), &state.context(), &episode_id);
    match rendered {
        Some(markup) => page(markup).into_response(),
        None => missing(
            &state,
            "This alert is not held any more, or never was: pages keep the newest 1000 alerts, and the log keeps two weeks.",
        ),
    }
}

async fn not_found(State(state): State<AppState>, request: Request) -> Response {
    let path = request.uri().path();
    if path.starts_with("/api/") {
        return Problem::not_found(format!(
            "there is no `{path}`; see /api/v1/models, /api/v1/windows, /api/v1/performance, /api/v1/episodes"
        ))
        .into_response();
    }
    missing(&state, "There is no such page.")
}

/// 404, or 503 while the view is not complete: what is missing may yet come.
fn missing(state: &AppState, what: &str) -> Response {
    let context = state.context();
    let status = if context.caught_up { StatusCode::NOT_FOUND } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, page(pages::not_found::render(&context, what))).into_response()
}

async fn prometheus(State(state): State<AppState>) -> Response {
    let rendered = metrics::render(&state.metrics, &state.read(), &state.watched, state.series_budget);
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
    api::models(&state.read(), &state.watched).into_response()
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
        Ok(Query(query)) => api::episodes(&state.read(), &query).into_response(),
        Err(rejection) => Problem::bad_request(rejection.body_text()).into_response(),
    }
}

async fn api_episode(State(state): State<AppState>, Path(episode_id): Path<String>) -> Response {
    api::episode(&state.read(), &episode_id).into_response()
}

fn page(markup: Markup) -> Html<String> {
    Html(markup.into_string())
}

fn asset(content_type: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "max-age=300")], text).into_response()
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
    const ROUTES: [&str; 8] =
        ["/style.css", "/favicon.svg", "/metrics", "/-/healthy", "/-/ready", "/models", "/alerts", "/api"];
    if path == "/" {
        return "/";
    }
    let belongs = |route: &&str| path.strip_prefix(*route).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    ROUTES.into_iter().find(belongs).unwrap_or("other")
}
