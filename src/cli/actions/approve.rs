//! `driftline actions approve`.

use clap::Args;
use serde_json::json;

use super::{find, subject};
use crate::cli::operate::{By, Desk, Failure, Outcome};
use crate::dispatch::actions::run::RunState;
use crate::dispatch::control::Command;

#[derive(Debug, Clone, Args)]
pub struct ApproveArgs {
    /// Id of the run, or its beginning
    pub run: String,
    #[command(flatten)]
    pub by: By,
}

pub fn run(desk: &mut Desk<'_>, args: &ApproveArgs, json: bool) -> Outcome {
    let by = args.by.name()?;
    let run = find(desk, &args.run)?;
    if run.state != RunState::AwaitingConfirmation {
        let (id, state) = (&run.run, run.state.word());
        return Err(Failure::failed(format!("run `{id}` is {state}; only one that awaits confirmation is approved")));
    }
    let given = desk.give(&by, Command::Approve { run: run.run.clone() })?;
    if json {
        return desk.json(&json!(given));
    }
    writeln!(desk.out, "{} is approved; see how it goes: driftline actions show {}", subject(&run), run.run)?;
    Ok(())
}
