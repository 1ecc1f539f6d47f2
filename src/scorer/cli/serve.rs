//! `driftline-scorer serve`: the sidecar.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use clap::{Args, ValueEnum};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::scorer::{ScorerConfig, load_scorer};
use crate::http::access::Access;
use crate::scorer::admin::{self, Admin, Serving};
use crate::scorer::batching::metrics::BatchCollector;
use crate::scorer::engine::{Engine, EngineError, LazyEngine, OnnxEngine};
use crate::scorer::events::EventSink;
use crate::scorer::events::metrics::EventCollector;
use crate::scorer::events::start::Events;
use crate::scorer::metrics::Metrics;
use crate::scorer::proxy::version::register;
use crate::scorer::registry::Registry;
use crate::scorer::registry::signing::Trust;
use crate::scorer::serve::Scorer;
use crate::scorer::serve::follow::{FollowHandle, Follower};
use crate::scorer::serve::grpc::{Calls, server as grpc_server};
use crate::scorer::serve::http::{Context, server::HttpServer};
use crate::scorer::serve::serving::Here;
use crate::scorer::serve::source::RegistrySource;
use crate::scorer::serve::trials::Trials;
use crate::telemetry::{self, LogFormat};

/// Most threads of the runtime that gRPC, the admin server and requests to other servers share.
const MOST_WORKERS: usize = 4;

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Settings file
    #[arg(long, short, value_name = "FILE", default_value = "scorer.yaml", env = "DRIFTLINE_SCORER_CONFIG")]
    config: PathBuf,
    /// Lines for people, or JSON
    #[arg(long, value_enum, default_value = "text", env = "DRIFTLINE_LOG_FORMAT")]
    log_format: LogLines,
    /// What is logged: `info`, `debug`, or a filter such as `driftline::scorer=debug`
    #[arg(long, default_value = "info", env = "DRIFTLINE_LOG")]
    log: String,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogLines {
    Text,
    Json,
}

pub fn run(args: &ServeArgs) -> ExitCode {
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{}", message.trim_end());
            ExitCode::FAILURE
        }
    }
}

fn start(args: &ServeArgs) -> Result<(), String> {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let format = match args.log_format {
        LogLines::Text => LogFormat::Text { colour: std::io::stderr().is_terminal() && !plain },
        LogLines::Json => LogFormat::Json,
    };
    telemetry::start_logging(format, &args.log).map_err(shown)?;
    let config = load_scorer(&args.config).map_err(|found| found.text(false))?.value;
    let directory = args.config.parent().unwrap_or(Path::new("."));
    // Calls over gRPC and requests to servers that compute are on this one; HTTP's workers have their own.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(cores.min(MOST_WORKERS)).enable_all().build().map_err(shown)?;
    runtime.block_on(serve(&config, directory))
}

fn shown(error: impl std::fmt::Display) -> String {
    format!("error: {error}")
}

async fn serve(config: &ScorerConfig, directory: &Path) -> Result<(), String> {
    let access = Access::at(&config.admin.bind, &config.admin.tokens)
        .map_err(|errors| errors.iter().map(shown).collect::<Vec<_>>().join("\n"))?;
    let trust = Trust::of(&config.signatures).map_err(shown)?;
    let registry = Arc::new(Registry::open(&directory.join(&config.registry)).map_err(shown)?.with_trust(trust));
    for (name, model) in &config.models {
        if let Some(proxy) = &model.proxy {
            register(&registry, name, proxy, now_ms()).map_err(shown)?;
        }
    }
    let engine = engine(config, directory).map_err(shown)?;
    // Ports first: whoever finds them taken should not have waited for models to load.
    let http = listen("http.bind", &config.http.bind).await?;
    let admin_listener = listen("admin.bind", &config.admin.bind).await?;
    let grpc = match config.grpc.enabled {
        true => Some(listen("grpc.bind", &config.grpc.bind).await?),
        false => None,
    };
    let metrics = Metrics::new().map_err(shown)?;
    let events = Events::start(config).map_err(shown)?;
    if let Some(events) = &events {
        let collector = EventCollector::new(Arc::clone(&events.queue)).map_err(shown)?;
        metrics.registry.register(Box::new(collector)).map_err(shown)?;
    }
    let sink = events.as_ref().map(|events| Arc::clone(&events.queue) as Arc<dyn EventSink>);
    let scorer = Arc::new(Scorer::new(metrics, sink));
    let seen = Arc::downgrade(&scorer);
    let batching = BatchCollector::new(move || seen.upgrade().map(|scorer| scorer.batching()).unwrap_or_default());
    scorer.metrics().registry.register(Box::new(batching.map_err(shown)?)).map_err(shown)?;
    let settings = config.models.iter().map(|(name, model)| (name.clone(), Arc::new(model.clone()))).collect();
    let source = Arc::new(RegistrySource {
        registry: Arc::clone(&registry),
        engine,
        config: Arc::new(config.clone()),
        runtime: tokio::runtime::Handle::current(),
        metrics: scorer.metrics().clone(),
    });
    let follow = Follower::new(source, Arc::clone(&scorer), settings).start().map_err(shown)?;
    let trials = Trials::start(Arc::clone(&registry), Arc::clone(&scorer), follow.clone(), now_ms).map_err(shown)?;
    let stop = CancellationToken::new();
    let context = Arc::new(Context::new(Arc::clone(&scorer), &config.http));
    let server = HttpServer::start(http, Arc::clone(&context), &config.http, &stop).map_err(shown)?;
    tracing::info!(address = %server.address(), "serving inference over HTTP");
    let serving = Arc::new(Here { scorer: Arc::clone(&scorer), follow: follow.clone() });
    let access = Arc::new(access);
    let grpc = match grpc {
        Some(listener) => {
            tracing::info!(address = %listener.local_addr().map_err(shown)?, "serving inference over gRPC");
            let calls =
                Calls { context, access: Arc::clone(&access), serving: Arc::clone(&serving) as Arc<dyn Serving> };
            Some(grpc_server::start(listener, calls, &config.http, stop.clone()))
        }
        None => None,
    };
    let admin = Admin { registry, serving, access, now_ms };
    tracing::info!(address = %admin_listener.local_addr().map_err(shown)?, "serving health, metrics and the admin API");
    let stopped = stop.clone();
    let admin_server = axum::serve(admin_listener, router(admin, Arc::clone(&scorer)))
        .with_graceful_shutdown(async move { stopped.cancelled().await });
    let admin_server = tokio::spawn(admin_server.into_future());
    await_signal().await?;
    tracing::info!("stopping: requests under way are answered");
    stop.cancel();
    let http_drained = tokio::task::spawn_blocking(move || server.join());
    if let Some(grpc) = grpc {
        // The calls under way end with their deadlines; a client that only holds its connection is not waited for.
        let _ = tokio::time::timeout(config.http.drain_timeout.to_std(), grpc).await;
    }
    let _ = http_drained.await;
    // What was answered until now has its events.
    let drained = tokio::task::spawn_blocking(move || {
        trials.stop();
        events.map(|events| events.close())
    });
    if let Ok(Some(counts)) = drained.await {
        tracing::info!(?counts, "prediction events");
    }
    admin_server.abort();
    end(follow, scorer);
    Ok(())
}

/// ONNX Runtime at once, so that a library that is missing is told at the start; only when a model needs it where all of the
/// settings' models are computed elsewhere.
fn engine(config: &ScorerConfig, directory: &Path) -> Result<Arc<dyn Engine>, EngineError> {
    let all_elsewhere = !config.models.is_empty() && config.models.values().all(|model| model.proxy.is_some());
    Ok(match all_elsewhere {
        true => Arc::new(LazyEngine::new(config.engine.clone(), directory.to_path_buf())),
        false => Arc::new(OnnxEngine::open(&config.engine, directory)?),
    })
}

/// Runners end with the last of these.
fn end(follow: FollowHandle, scorer: Arc<Scorer>) {
    drop(follow);
    drop(scorer);
}

fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

async fn listen(key: &str, bind: &str) -> Result<TcpListener, String> {
    let address: SocketAddr =
        bind.parse().map_err(|_| format!("error: {key}: `{bind}` is not an address and a port"))?;
    TcpListener::bind(address).await.map_err(|error| format!("error: {key}: cannot listen on {bind}: {error}"))
}

async fn await_signal() -> Result<(), String> {
    let mut terminate = signal(SignalKind::terminate()).map_err(shown)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(shown)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// The admin API, with health and metrics, which need no token.
fn router(admin: Admin, scorer: Arc<Scorer>) -> Router {
    let metrics = Arc::clone(&scorer);
    admin::router(admin)
        .route("/metrics", get(move || async move { metrics.metrics().text() }))
        .route("/-/healthy", get(|| async { "healthy\n" }))
        .route(
            "/-/ready",
            get(move || async move {
                match scorer.table().ready() {
                    Ok(()) => (StatusCode::OK, "ready\n".to_string()),
                    Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
                }
            }),
        )
}
