//! Subcommands that read and change a registry on this disk; a running scorer follows within a second.
//!
//! To add one: a file with its arguments and `run`, and a line in `RegistryCommand`.

mod audit;
mod canary;
mod collect;
mod keygen;
mod list;
mod promote;
mod register;
mod rollback;
mod shadow;
mod show;
mod sign;
mod verify;

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::place::{PlaceError, RegistryPlace, Settings};
use crate::scorer::registry::{Change, ChangeRequest, Registry, RegistryError};

#[derive(Debug, Subcommand)]
pub enum RegistryCommand {
    /// Add a version of a model
    Register(register::RegisterArgs),
    /// Models, or the versions of one, and which of them serve
    List(list::ListArgs),
    /// What a version is made of and where it comes from
    Show(show::ShowArgs),
    /// Read versions whole, and check their digests and signatures
    Verify(verify::VerifyArgs),
    /// Put a version into production
    Promote(promote::PromoteArgs),
    /// Put the version before, or another one, back into production, and reject the present one
    Rollback(rollback::RollbackArgs),
    /// Give a version a share of the traffic, or end that
    Canary(canary::CanaryArgs),
    /// Score a version beside production without answering, or end that
    Shadow(shadow::ShadowArgs),
    /// Who changed what, when and why
    Audit(audit::AuditArgs),
    /// Remove versions that neither serve nor are among the newest
    Collect(collect::CollectArgs),
    /// Make a key to sign versions with
    Keygen(keygen::KeygenArgs),
    /// Sign a version that is there
    Sign(sign::SignArgs),
}

pub fn run(command: &RegistryCommand) -> ExitCode {
    let outcome = match command {
        RegistryCommand::Register(args) => register::run(args),
        RegistryCommand::List(args) => list::run(args),
        RegistryCommand::Show(args) => show::run(args),
        RegistryCommand::Verify(args) => verify::run(args),
        RegistryCommand::Promote(args) => promote::run(args),
        RegistryCommand::Rollback(args) => rollback::run(args),
        RegistryCommand::Canary(args) => canary::run(args),
        RegistryCommand::Shadow(args) => shadow::run(args),
        RegistryCommand::Audit(args) => audit::run(args),
        RegistryCommand::Collect(args) => collect::run(args),
        RegistryCommand::Keygen(args) => keygen::run(args),
        RegistryCommand::Sign(args) => sign::run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, message }) => {
            eprintln!("error: {message}");
            ExitCode::from(code)
        }
    }
}

/// An exit code and what to say: 1 where the registry refuses, 2 where the command line is wrong, 3 where the disk or
/// another process is in the way and a second try may help.
struct Failure {
    code: u8,
    message: String,
}

type Outcome = Result<(), Failure>;

impl Failure {
    fn usage(message: impl Into<String>) -> Self {
        Self { code: 2, message: message.into() }
    }

    fn refused(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        let code = match &error {
            RegistryError::Invalid(_) => 2,
            RegistryError::Busy(_) | RegistryError::Disk(_) => 3,
            RegistryError::NotFound(_) | RegistryError::Conflict(_) | RegistryError::Refused(_) => 1,
        };
        Self { code, message: error.to_string() }
    }
}

impl From<PlaceError> for Failure {
    fn from(error: PlaceError) -> Self {
        match error {
            PlaceError::Usage(message) => Self::usage(message),
            PlaceError::Registry(error) => error.into(),
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    #[default]
    Text,
    Json,
}

/// Which registry, and how the answer is printed.
#[derive(Debug, Args)]
struct Place {
    #[command(flatten)]
    place: RegistryPlace,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Place {
    fn open(&self) -> Result<Registry, Failure> {
        Ok(self.place.open()?.0)
    }

    fn settings(&self) -> Result<Settings, Failure> {
        Ok(self.place.settings()?)
    }

    /// Prints the answer: as it is, or as the lines made of it.
    fn print(&self, answer: &Value, lines: impl FnOnce() -> String) {
        match self.format {
            Format::Json => println!("{answer}"),
            Format::Text => println!("{}", lines().trim_end()),
        }
    }
}

/// Who makes a change, why, and what must hold for it.
#[derive(Debug, Args)]
struct Why {
    /// Why; stands in the audit
    #[arg(long, default_value = "")]
    reason: String,
    /// Who; default: the user
    #[arg(long, env = "USER", default_value = "command line", hide_env_values = true)]
    by: String,
    /// Refuse if the state has another generation
    #[arg(long, value_name = "NUMBER")]
    expected_generation: Option<u64>,
    /// A change that was made under this id is not made again
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

impl Why {
    fn request(&self, change: Change) -> ChangeRequest {
        ChangeRequest {
            change,
            expected_generation: self.expected_generation,
            expected_production: None,
            by: self.by.clone(),
            reason: self.reason.clone(),
            request_id: self.request_id.clone(),
        }
    }
}

/// Makes a change and prints the state that came of it.
fn change(place: &Place, model: &str, why: &Why, change: Change) -> Outcome {
    let changed = place.open()?.change(model, &why.request(change), now_ms())?;
    let state = &changed.state;
    let mut answer = json!(state);
    answer["done_before"] = json!(changed.done_before.is_some());
    place.print(&answer, || {
        let before = if changed.done_before.is_some() { "done before under this request id; now " } else { "" };
        format!("{before}{}", list::state_line(model, state))
    });
    Ok(())
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// RFC 3339, UTC, to the second.
fn shown_time(at_ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(at_ms)
        .map_or_else(|| at_ms.to_string(), |time| time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
}
