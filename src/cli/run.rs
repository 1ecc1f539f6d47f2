//! `driftline run`: the service, on Kafka.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::host::{Host, Parts};
use super::loaded::{self, Failure, Loaded, create_topics, failure};
use super::service::Roles;
use crate::http::write::ReloadRequest;
use crate::log::Log;
use crate::log::kafka::{KafkaLog, KafkaOptions};
use crate::telemetry::{self, LogFormat, Metrics};

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
    telemetry::start_logging(args.log_format.format(), &args.log).map_err(failure)?;
    let workspace = loaded::files(args.config.as_deref())?;
    let service = workspace.service.clone();
    let metrics = Metrics::new().map_err(failure)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|failed| failure(format!("cannot start: {failed}")))?;
    let log = KafkaLog::new(KafkaOptions {
        bootstrap_servers: service.kafka.bootstrap_servers.clone(),
        client_id: format!("{}-{}", service.app, service.instance),
        instance: Some(service.instance.clone()),
        properties: service.kafka.properties.clone(),
    })
    .map_err(|failed| failure(format!("kafka: {failed}")))?;
    let log: Arc<dyn Log> = Arc::new(log);
    let loaded = Loaded::of(workspace, &log)?;
    let listener = if roles.http {
        let bound = runtime.block_on(tokio::net::TcpListener::bind(&service.http.bind));
        Some(bound.map_err(|failed| {
            let bind = &service.http.bind;
            failure(format!("cannot serve pages on {bind}: {failed}; choose another with `http.bind`"))
        })?)
    } else {
        None
    };
    let mut signals = {
        let _inside = runtime.enter();
        Signals::new().map_err(|failed| failure(format!("signals cannot be handled: {failed}")))?
    };
    // The first answer of a broker that is away takes a while; silence would look like a hang.
    tracing::info!(bootstrap_servers = %service.kafka.bootstrap_servers, "connecting to Kafka");
    create_topics(&*log, &service, &loaded.models)?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        models = loaded.models.len(),
        bootstrap_servers = %service.kafka.bootstrap_servers,
        "driftline starts"
    );
    let parts = Parts { log, roles, metrics, runtime: runtime.handle().clone() };
    let (sender, mut requests) = tokio::sync::mpsc::channel(1);
    let mut host = Host::start(parts, loaded, listener, sender).map_err(failure)?;
    loop {
        let [process, roles] = host.stops();
        let request = runtime.block_on(async {
            tokio::select! {
                _ = signals.terminate.recv() => None,
                _ = signals.interrupt.recv() => None,
                () = process.cancelled() => None,
                () = roles.cancelled() => None,
                _ = signals.hangup.recv() => Some(None),
                Some(request) = requests.recv() => Some(Some(request)),
            }
        });
        let Some(asked) = request else {
            tracing::info!("stopping");
            break;
        };
        let outcome = host.reload(args.config.as_deref());
        if let Some(ReloadRequest { answer }) = asked {
            // Nobody waits any more: the outcome is in the log and in the metrics.
            let _ = answer.send(outcome);
        }
    }
    let joined = host.join();
    // Threads that were left behind must not be waited for.
    runtime.shutdown_background();
    joined.map_err(|reasons| failure(reasons.join("\nerror: ")))
}

/// Listened to from before the first wait until the end: one that comes during a reload is heard after it.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}
