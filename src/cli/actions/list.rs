//! `driftline actions list`.

use clap::{Args, ValueEnum};
use serde_json::json;

use super::runs;
use crate::cli::operate::{Desk, Outcome, table};
use crate::config::glob;
use crate::dispatch::actions::run::RunRecord;
use crate::http::wording;

#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    #[arg(long, value_enum, default_value = "open")]
    pub status: Status,
    /// Only of these actions; a name or a glob
    #[arg(long, value_name = "GLOB")]
    pub action: Option<String>,
    /// Only of these models; a name or a glob
    #[arg(long, value_name = "GLOB")]
    pub model: Option<String>,
    /// At most so many, the newest first
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub limit: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Status {
    /// Waiting or working
    Open,
    /// Those that a person must approve
    Asking,
    All,
}

impl ListArgs {
    fn wants(&self, run: &RunRecord) -> bool {
        use crate::dispatch::actions::run::RunState::AwaitingConfirmation;
        let status = match self.status {
            Status::Open => !run.state.is_final(),
            Status::Asking => run.state == AwaitingConfirmation,
            Status::All => true,
        };
        let named = |glob: &Option<String>, name: &str| glob.as_ref().is_none_or(|glob| glob::matches(glob, name));
        status && named(&self.action, &run.action) && named(&self.model, &run.request.model)
    }
}

pub fn run(desk: &mut Desk<'_>, args: &ListArgs, json: bool) -> Outcome {
    let mut found: Vec<RunRecord> = runs(desk)?.into_values().filter(|run| args.wants(run)).collect();
    found.sort_by_key(|run| (std::cmp::Reverse(run.requested_at_ms()), run.run.clone()));
    let shown = &found[..found.len().min(args.limit)];
    if json {
        return desk.json(&json!({"runs": shown, "total": found.len()}));
    }
    if found.is_empty() {
        let words = match args.status {
            Status::Open => "no run waits or works; `--status all` lists those that have ended",
            Status::Asking => "no run asks to be approved",
            Status::All => "no rule has asked for an action yet",
        };
        writeln!(desk.out, "{words}")?;
        return Ok(());
    }
    let row = |run: &RunRecord| {
        vec![
            run.run.chars().take(12).collect(),
            run.action.clone(),
            format!("{}@{}", run.request.model, run.request.version),
            run.state.word().to_string(),
            wording::ago(run.since_ms(), desk.now_ms),
            why(run),
        ]
    };
    let rows: Vec<Vec<String>> = shown.iter().map(row).collect();
    table::print(desk.out, &["RUN", "ACTION", "MODEL", "STATE", "SINCE", "WHY"], &rows)?;
    if found.len() > shown.len() {
        writeln!(desk.out, "{} more; see `--limit`", found.len() - shown.len())?;
    }
    Ok(())
}

/// Everything that does not hold, else the reason of its state.
pub fn why(run: &RunRecord) -> String {
    if run.unmet.is_empty() {
        return run.reason().to_string();
    }
    run.unmet.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
