//! `driftline silence expire`.

use clap::Args;
use serde_json::json;

use super::words;
use crate::cli::operate::ledger::{Ledger, resolve};
use crate::cli::operate::{By, Desk, Failure, Outcome};
use crate::dispatch::control::Command;

#[derive(Debug, Clone, Args)]
pub struct ExpireArgs {
    /// Id of the silence, or its beginning
    pub id: String,
    #[command(flatten)]
    pub by: By,
}

pub fn run(desk: &mut Desk<'_>, args: &ExpireArgs, json: bool) -> Outcome {
    let by = args.by.name()?;
    let ledger = Ledger::of_commands(desk)?;
    let ids: Vec<&str> = ledger.control.silences().map(|silence| silence.id.as_str()).collect();
    let id = resolve(&args.id, &ids, "silence", "driftline silence list --all")?;
    let silence = ledger.control.silences().find(|silence| silence.id == id);
    let Some(silence) = silence.filter(|silence| silence.until_ms > desk.now_ms) else {
        return Err(Failure::failed(format!("silence `{id}` has ended already")));
    };
    let given = desk.give(&by, Command::ExpireSilence { silence: silence.id.clone() })?;
    if json {
        return desk.json(&json!(given));
    }
    writeln!(desk.out, "silence {} ({}) has ended; what still fires is told now", silence.id, words(&silence.matcher))?;
    Ok(())
}
