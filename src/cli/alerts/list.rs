//! `driftline alerts list`.

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::cli::operate::ledger::{Alert, Ledger};
use crate::cli::operate::{Desk, Outcome, table};
use crate::config::glob;
use crate::http::metrics::severity_name;
use crate::http::wording;

#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    #[arg(long, value_enum, default_value = "firing")]
    pub status: Status,
    /// Only of these models; a name or a glob
    #[arg(long, value_name = "GLOB")]
    pub model: Option<String>,
    /// Only of these rules; a name or a glob
    #[arg(long, value_name = "GLOB")]
    pub rule: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub limit: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Status {
    Firing,
    Resolved,
    All,
}

impl ListArgs {
    fn wants(&self, alert: &Alert) -> bool {
        let status = match self.status {
            Status::Firing => alert.firing,
            Status::Resolved => !alert.firing,
            Status::All => true,
        };
        let named = |glob: &Option<String>, name: &str| glob.as_ref().is_none_or(|glob| glob::matches(glob, name));
        status && named(&self.model, &alert.model) && named(&self.rule, &alert.rule)
    }
}

pub fn run(desk: &mut Desk<'_>, args: &ListArgs, json: bool) -> Outcome {
    let ledger = Ledger::read(desk)?;
    let found: Vec<Alert> = ledger.alerts(desk.now_ms).into_iter().filter(|alert| args.wants(alert)).collect();
    let shown = &found[..found.len().min(args.limit)];
    if json {
        return desk.json(&json!({"alerts": shown.iter().map(Alert::json).collect::<Vec<_>>(), "total": found.len()}));
    }
    if found.is_empty() {
        let (what, more) = match args.status {
            Status::Firing => ("nothing fires", "; `--status all` lists what has ended"),
            Status::Resolved => ("nothing has ended", ""),
            Status::All => ("no alert is known", ""),
        };
        writeln!(desk.out, "{what}{more}")?;
        return Ok(());
    }
    let rows: Vec<Vec<String>> = shown.iter().map(|alert| row(alert, desk.now_ms)).collect();
    table::print(desk.out, &["ID", "STATUS", "SEVERITY", "SINCE", "RULE", "ABOUT", "WHAT"], &rows)?;
    if found.len() > shown.len() {
        writeln!(desk.out, "{} more; see `--limit`", found.len() - shown.len())?;
    }
    Ok(())
}

fn row(alert: &Alert, now_ms: i64) -> Vec<String> {
    vec![
        alert.id.clone(),
        alert.status(),
        severity_name(alert.severity).to_string(),
        wording::ago(alert.first_window.start_ms, now_ms),
        alert.rule.clone(),
        alert.subject(),
        alert.summary.replace('`', ""),
    ]
}
