//! What the commands of an operator share: where the cluster is, who is asking, what stands in Driftline's topics, and how
//! it is printed. They work on Kafka itself, so that they do while no page is served.
//!
//! To add a command: a file in the folder of its group, whose function takes `&dyn Log`, so that it is tested on the
//! embedded log.

pub mod ledger;
pub mod read;
pub mod table;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::check::{FAILED, Format, UNDECIDED};
use crate::config::diagnostic::Diagnostics;
use crate::config::layers::{ConfigError, layered, variables};
use crate::config::service::Service;
use crate::config::units::Span;
use crate::dispatch::commands;
use crate::dispatch::control::{Command, ControlRecord};
use crate::log::kafka::{KafkaLog, KafkaOptions};
use crate::log::topics::Topics;
use crate::log::{Log, LogError};
use crate::reference::table::parse_epoch_ms;

pub const USAGE: u8 = 2;

/// An exit code and what to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub code: u8,
    pub message: String,
}

impl Failure {
    pub fn failed(message: impl Into<String>) -> Self {
        Self { code: FAILED, message: message.into() }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: USAGE, message: message.into() }
    }

    pub fn undecided(message: impl Into<String>) -> Self {
        Self { code: UNDECIDED, message: message.into() }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::undecided(format!("cannot print: {error}"))
    }
}

pub type Outcome = Result<(), Failure>;

/// Flags of every command here.
#[derive(Debug, Clone, Default, Args)]
pub struct Common {
    /// Service file; default: driftline.yaml here
    #[arg(long, short, env = "DRIFTLINE_CONFIG", global = true)]
    pub config: Option<PathBuf>,
    #[arg(long, value_enum, default_value = "text", global = true)]
    pub format: Option<Format>,
}

impl Common {
    pub fn json(&self) -> bool {
        self.format == Some(Format::Json)
    }
}

/// Flags of every command that changes something.
#[derive(Debug, Clone, Default, Args)]
pub struct By {
    /// Who you are, for those who read it; default: your user name
    #[arg(long, value_name = "NAME", env = "DRIFTLINE_BY")]
    pub by: Option<String>,
}

impl By {
    pub fn name(&self) -> Result<String, Failure> {
        let user = || std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).ok();
        let name = self.by.clone().or_else(user).filter(|name| !name.trim().is_empty());
        name.ok_or_else(|| Failure::usage("nobody knows who you are: say it with `--by NAME`"))
    }
}

/// What a command works with.
pub struct Desk<'a> {
    pub log: &'a dyn Log,
    pub topics: Topics,
    /// Wall clock, epoch milliseconds.
    pub now_ms: i64,
    pub out: &'a mut dyn Write,
}

impl Desk<'_> {
    /// Checks a command and appends it.
    pub fn give(&self, by: &str, command: Command) -> Result<ControlRecord, Failure> {
        if let Some(problem) = commands::problem(by, &command, self.now_ms) {
            return Err(Failure::usage(problem));
        }
        read::partitions(self.log, &self.topics.control)?;
        commands::give(self.log, &self.topics, by, command, self.now_ms).map_err(|error| unreachable(&error))
    }

    pub fn json(&mut self, value: &serde_json::Value) -> Outcome {
        Ok(writeln!(self.out, "{value:#}")?)
    }
}

pub fn unreachable(error: &LogError) -> Failure {
    Failure::undecided(format!(
        "Kafka cannot be asked: {error}; check `kafka` in the service file, and whether the broker runs"
    ))
}

/// The service file alone: an alert must be acknowledged though a rule next to it is broken.
pub fn service(common: &Common) -> Result<Service, Failure> {
    let failed = |found: Diagnostics| Failure::failed(found.text(false));
    match layered(common.config.as_deref(), &variables()) {
        Ok(layers) => Ok(layers.service),
        Err(ConfigError::File(found)) => Err(failed(found)),
        Err(ConfigError::Environment(lines)) => Err(Failure::failed(lines.join("\n"))),
    }
}

pub fn connect(service: &Service) -> Result<Arc<dyn Log>, Failure> {
    let log = KafkaLog::new(KafkaOptions {
        bootstrap_servers: service.kafka.bootstrap_servers.clone(),
        client_id: format!("{}-command", service.app),
        instance: None,
        properties: service.kafka.properties.clone(),
    });
    log.map(|log| Arc::new(log) as Arc<dyn Log>).map_err(|error| unreachable(&error))
}

/// Runs a command on the service's cluster and prints what it says; errors go to the standard error.
pub fn on_kafka(common: &Common, command: impl FnOnce(&mut Desk<'_>) -> Outcome) -> ExitCode {
    let attempt = || {
        let service = service(common)?;
        let log = connect(&service)?;
        let stdout = std::io::stdout();
        let mut out = stdout.lock();
        let topics = Topics::new(&service.app);
        command(&mut Desk { log: &*log, topics, now_ms: super::service::now_ms(), out: &mut out })
    };
    exit(attempt())
}

pub fn exit(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, message }) => {
            let message = message.trim_end();
            let prefix = if message.starts_with("error") { "" } else { "error: " };
            eprintln!("{prefix}{message}");
            ExitCode::from(code)
        }
    }
}

/// When something ends: after a while, or at a time.
#[derive(Debug, Clone, Default, Args)]
pub struct Until {
    /// How long: `30m`, `4h`, `2d`
    #[arg(long = "for", value_name = "DURATION", value_parser = Span::parse, conflicts_with = "until")]
    pub for_: Option<Span>,
    /// Until when: RFC 3339 (2026-03-01T18:00:00Z), or a date
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub until: Option<i64>,
}

impl Until {
    /// Epoch milliseconds; `None`: no end was given.
    pub fn ms(&self, from_ms: i64) -> Option<i64> {
        self.until.or_else(|| self.for_.map(|span| from_ms.saturating_add(span.ms)))
    }
}

/// RFC 3339 or a date, as epoch milliseconds.
pub fn instant(text: &str) -> Result<i64, String> {
    parse_epoch_ms(text)
        .ok_or_else(|| format!("`{text}` is not a time; write RFC 3339 (2026-03-01T18:00:00Z) or a date"))
}
