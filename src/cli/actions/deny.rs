//! `driftline actions deny`.

use clap::Args;
use serde_json::json;

use super::{find, subject};
use crate::cli::operate::{By, Desk, Failure, Outcome};
use crate::dispatch::control::Command;

#[derive(Debug, Clone, Args)]
pub struct DenyArgs {
    /// Id of the run, or its beginning
    pub run: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    #[command(flatten)]
    pub by: By,
}

pub fn run(desk: &mut Desk<'_>, args: &DenyArgs, json: bool) -> Outcome {
    let by = args.by.name()?;
    let run = find(desk, &args.run)?;
    if !run.state.is_waiting() {
        let (id, state) = (&run.run, run.state.word());
        return Err(Failure::failed(format!("run `{id}` is {state}; only one that has not begun is denied")));
    }
    let given = desk.give(&by, Command::Deny { run: run.run.clone(), reason: args.reason.clone() })?;
    if json {
        return desk.json(&json!(given));
    }
    writeln!(desk.out, "{} is denied", subject(&run))?;
    Ok(())
}
