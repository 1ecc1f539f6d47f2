//! `driftline actions report`.

use clap::Args;
use serde_json::json;

use super::{find, subject};
use crate::cli::operate::{By, Desk, Failure, Outcome};
use crate::dispatch::actions::run::RunState;
use crate::dispatch::control::Command;

#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// Id of the run, or its beginning
    pub run: String,
    /// It did what it was for
    #[arg(long, conflicts_with = "failed", required_unless_present = "failed")]
    pub succeeded: bool,
    /// It did not
    #[arg(long)]
    pub failed: bool,
    /// What to know of it
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub message: String,
    #[command(flatten)]
    pub by: By,
}

pub fn run(desk: &mut Desk<'_>, args: &ReportArgs, json: bool) -> Outcome {
    let by = args.by.name()?;
    let run = find(desk, &args.run)?;
    if !matches!(run.state, RunState::Accepted | RunState::Calling) {
        let (id, state) = (&run.run, run.state.word());
        return Err(Failure::failed(format!("run `{id}` is {state}; only one that works is reported on")));
    }
    let (succeeded, message) = (args.succeeded, args.message.clone());
    let given = desk.give(&by, Command::Report { run: run.run.clone(), succeeded, message })?;
    if json {
        return desk.json(&json!(given));
    }
    let how = if args.succeeded { "succeeded" } else { "failed" };
    writeln!(desk.out, "{} is reported to have {how}", subject(&run))?;
    Ok(())
}
