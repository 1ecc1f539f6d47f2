//! `driftline silence list`.

use clap::Args;
use serde_json::json;

use super::words;
use crate::cli::operate::ledger::Ledger;
use crate::cli::operate::{Desk, Outcome, table};
use crate::dispatch::control::SilenceState;
use crate::http::wording;

#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    /// Past ones, too
    #[arg(long)]
    pub all: bool,
}

pub fn run(desk: &mut Desk<'_>, args: &ListArgs, json: bool) -> Outcome {
    let ledger = Ledger::of_commands(desk)?;
    let now_ms = desk.now_ms;
    let mut silences: Vec<&SilenceState> =
        ledger.control.silences().filter(|silence| args.all || silence.until_ms > now_ms).collect();
    silences.sort_by_key(|silence| (silence.until_ms, &silence.id));
    if json {
        return desk.json(&json!({"silences": silences}));
    }
    if silences.is_empty() {
        let more = if args.all { "" } else { "; `--all` lists past ones" };
        writeln!(
            desk.out,
            "no silence holds or is to come{more}. Those of the rules files: driftline silence preview"
        )?;
        return Ok(());
    }
    let row = |silence: &&SilenceState| {
        vec![
            silence.id.clone(),
            state(silence, now_ms),
            words(&silence.matcher),
            wording::minute(silence.until_ms),
            silence.by.clone(),
            silence.reason.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = silences.iter().map(row).collect();
    table::print(desk.out, &["ID", "STATE", "MATCH", "UNTIL (UTC)", "BY", "REASON"], &rows)?;
    Ok(())
}

fn state(silence: &SilenceState, now_ms: i64) -> String {
    if silence.holds(now_ms) {
        "holds".into()
    } else if silence.from_ms > now_ms && silence.until_ms > now_ms {
        format!("begins {}", wording::ago(silence.from_ms, now_ms))
    } else {
        "past".into()
    }
}
