//! `driftline run`: the service, on Kafka.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use crate::config::model::Model;
use crate::dispatch::actions::target;
use crate::dispatch::receiver::{Means, build_all};
use crate::http::access::Access;
use crate::log::kafka::{KafkaLog, KafkaOptions};
use crate::log::topics::Topics;
use crate::log::{Log, LogError};
use crate::reference::{Reference, ReferenceStore, StoreError};
use crate::rules::Workspace;
use crate::telemetry::{self, LogFormat, Metrics};

use super::check::UNDECIDED;
use super::service::{Assembly, Roles, no_reference};
use super::watched;

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Service file; default: driftline.yaml here
    #[arg(long, short, env = "DRIFTLINE_CONFIG")]
    config: Option<PathBuf>,
    /// Roles of this process, comma separated: ingest, join, windows, dispatch, http; default: all
    #[arg(long, value_delimiter = ',')]
    roles: Vec<String>,
    /// Lines for people, or JSON
    #[arg(long, value_enum, default_value = "text", env = "DRIFTLINE_LOG_FORMAT")]
    log_format: LogLines,
    /// What is logged: `info`, `debug`, or a filter such as `driftline::ingest=debug`
    #[arg(long, default_value = "info", env = "DRIFTLINE_LOG")]
    log: String,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogLines {
    Text,
    Json,
}

impl LogLines {
    fn format(self) -> LogFormat {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        match self {
            LogLines::Text => LogFormat::Text { colour: std::io::stderr().is_terminal() && !plain },
            LogLines::Json => LogFormat::Json,
        }
    }
}

/// Why the service did not start or went down, with its exit code.
struct Failure {
    message: String,
    code: u8,
}

fn failure(message: impl Into<String>) -> Failure {
    Failure { message: message.into(), code: 1 }
}

pub fn run(args: &RunArgs) -> ExitCode {
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { message, code }) => {
            eprintln!("{}", message.trim_end());
            ExitCode::from(code)
        }
    }
}

fn start(args: &RunArgs) -> Result<(), Failure> {
    let roles = if args.roles.is_empty() {
        Roles::ALL
    } else {
        Roles::of(&args.roles).map_err(|message| Failure { message: format!("error: {message}"), code: 2 })?
    };
    telemetry::start_logging(args.log_format.format(), &args.log)
        .map_err(|message| failure(format!("error: {message}")))?;
    let workspace = Workspace::load(args.config.as_deref()).map_err(|errors| failure(errors.text(false)))?;
    let error = |message: String| failure(format!("error: {message}"));
    let service = workspace.service;
    let store = ReferenceStore::open(workspace.base_dir.join(&service.references))
        .map_err(|failed| error(failed.to_string()))?;
    let references =
        current_references(&store, &workspace.models).map_err(|messages| error(messages.join("\nerror: ")))?;
    for (model, reference) in &references {
        for warning in reference.warnings() {
            tracing::warn!(%model, reference = %reference.name, "a weak reference: {warning}");
        }
    }
    let rules = Arc::new(workspace.rules);
    let metrics = Metrics::new().map_err(|failed| error(failed.to_string()))?;
    metrics.prepare(&watched::labels(&workspace.models, &rules));

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|failed| error(format!("cannot start: {failed}")))?;
    let log = KafkaLog::new(KafkaOptions {
        bootstrap_servers: service.kafka.bootstrap_servers.clone(),
        client_id: format!("{}-{}", service.app, service.instance),
        instance: Some(service.instance.clone()),
        properties: service.kafka.properties.clone(),
    })
    .map_err(|failed| error(format!("kafka: {failed}")))?;
    let log: Arc<dyn Log> = Arc::new(log);
    let means = Means { smtp: service.smtp.as_ref(), log: Some((&log, &service.app)) };
    let receivers = build_all(rules.receivers(), means)
        .map_err(|errors| error(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\nerror: ")))?;
    let targets = target::build_all(rules.actions(), target::Means { log: Some((&log, &service.app)) })
        .map_err(|errors| error(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\nerror: ")))?;
    Access::new(&service.http).map_err(|errors| error(errors.join("\nerror: ")))?;
    let listener = if roles.http {
        let bound = runtime.block_on(tokio::net::TcpListener::bind(&service.http.bind));
        Some(bound.map_err(|failed| {
            error(format!("cannot serve pages on {}: {failed}; choose another with `http.bind`", service.http.bind))
        })?)
    } else {
        None
    };
    // The first answer of a broker that is away takes a while; silence would look like a hang.
    tracing::info!(bootstrap_servers = %service.kafka.bootstrap_servers, "connecting to Kafka");
    create_topics(&*log, &service, &workspace.models)
        .map_err(|message| Failure { message: format!("error: {message}"), code: UNDECIDED })?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        models = workspace.models.len(),
        bootstrap_servers = %service.kafka.bootstrap_servers,
        "driftline starts"
    );
    let watched = watched::of(&workspace.models, &rules);
    let assembly = Assembly {
        log,
        service,
        roles,
        models: workspace.models,
        rules,
        references,
        store: Some(store),
        receivers,
        targets,
        metrics,
        watched,
    };
    let running = assembly.start(runtime.handle(), listener).map_err(error)?;
    let stop = running.stop.clone();
    runtime.block_on(async {
        tokio::select! {
            () = stopped_by_signal() => tracing::info!("stopping"),
            () = stop.cancelled() => {}
        }
    });
    stop.cancel();
    let joined = running.join();
    // Threads that were left behind must not be waited for.
    runtime.shutdown_background();
    joined.map_err(|reasons| failure(format!("error: {}", reasons.join("\nerror: "))))
}

async fn stopped_by_signal() {
    let mut terminate = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => {
            tracing::warn!(%error, "SIGTERM cannot be handled");
            let _ = tokio::signal::ctrl_c().await;
            return;
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// The promoted `training` reference of every model, or what is missing.
fn current_references(
    store: &ReferenceStore,
    models: &[Arc<Model>],
) -> Result<BTreeMap<String, Arc<Reference>>, Vec<String>> {
    let mut references = BTreeMap::new();
    let mut problems = Vec::new();
    for model in models {
        match store.load(&model.model, "training", "current") {
            Ok(reference) => drop(references.insert(model.model.clone(), Arc::new(reference))),
            Err(StoreError::Missing { .. }) => problems.push(no_reference(model)),
            Err(error) => problems.push(error.to_string()),
        }
    }
    if problems.is_empty() { Ok(references) } else { Err(problems) }
}

/// Waits for the broker for a while: in a fleet that starts together it may come last.
fn create_topics(
    log: &dyn Log,
    service: &crate::config::service::Service,
    models: &[Arc<Model>],
) -> Result<(), String> {
    let labels = models.iter().filter_map(|model| model.performance.as_ref()?.labels.as_ref());
    let label_delay_ms = labels.map(|labels| labels.delay.ms).max().unwrap_or(0);
    let topics = Topics::new(&service.app);
    let specs = topics.specs_for(service.kafka.partitions, service.kafka.replication, label_delay_ms);
    // An attempt takes up to 15 s: two minutes in all.
    for attempt in 1..=8 {
        match log.create_topics(&specs) {
            Ok(()) => return Ok(()),
            Err(LogError::Fatal(reason)) => return Err(reason),
            Err(error) => {
                let servers = &service.kafka.bootstrap_servers;
                tracing::warn!(%error, attempt, "kafka at {servers} does not answer yet");
                std::thread::sleep(std::time::Duration::from_secs(2));
            }
        }
    }
    Err(format!(
        "no Kafka broker answers at {}; check `kafka.bootstrap_servers` in the service file",
        service.kafka.bootstrap_servers
    ))
}
