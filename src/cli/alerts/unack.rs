//! `driftline alerts unack`.

use clap::Args;
use serde_json::json;

use crate::cli::operate::ledger::{Ledger, acknowledgement};
use crate::cli::operate::{By, Desk, Failure, Outcome};
use crate::dispatch::control::Command;

#[derive(Debug, Clone, Args)]
pub struct UnackArgs {
    /// Id of the alert, or its beginning
    pub id: String,
    #[command(flatten)]
    pub by: By,
}

pub fn run(desk: &mut Desk<'_>, args: &UnackArgs, json: bool) -> Outcome {
    let by = args.by.name()?;
    let ledger = Ledger::read(desk)?;
    let alert = ledger.find(&args.id, desk.now_ms)?;
    let Some(held) = &alert.acknowledged else {
        return Err(Failure::failed(format!("nobody has acknowledged alert `{}`, or the time is over", alert.id)));
    };
    let given = desk.give(&by, Command::Unacknowledge { episode_id: alert.id.clone() })?;
    if json {
        return desk.json(&json!(given));
    }
    writeln!(desk.out, "{} is no longer acknowledged; it was {}", alert.id, acknowledgement(held))?;
    Ok(())
}
