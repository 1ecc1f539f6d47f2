//! `driftline actions show`.

use clap::Args;
use serde_json::json;

use super::list::why;
use super::{find, subject};
use crate::cli::operate::{Desk, Outcome};
use crate::http::wording;

#[derive(Debug, Clone, Args)]
pub struct ShowArgs {
    /// Id of the run, or its beginning
    pub run: String,
}

pub fn run(desk: &mut Desk<'_>, args: &ShowArgs, json: bool) -> Outcome {
    let run = find(desk, &args.run)?;
    if json {
        return desk.json(&json!(run));
    }
    let out = &mut *desk.out;
    writeln!(out, "{}  {}", run.run, subject(&run))?;
    writeln!(out, "state    {}{}", run.state.word(), if run.dry_run { " (dry run)" } else { "" })?;
    let why = why(&run);
    if !why.is_empty() {
        writeln!(out, "why      {why}")?;
    }
    writeln!(
        out,
        "alert    {}, of rule {}: {}",
        run.request.episode_id,
        run.request.rule,
        run.request.summary.replace('`', "")
    )?;
    let external = run.external.clone().unwrap_or_default();
    for (name, value) in [
        ("there", external.id),
        ("page", external.url),
        ("approved", run.approved_by.clone()),
        ("error", run.last_error.clone()),
        ("helped", run.helped.map(|helped| if helped { "yes".into() } else { "no".into() })),
    ] {
        if let Some(value) = value {
            writeln!(out, "{name:<8} {value}")?;
        }
    }
    for transition in &run.history {
        let line =
            format!("{}  {:<21} {}", wording::minute(transition.at_ms), transition.state.word(), transition.reason);
        writeln!(out, "{}", line.trim_end())?;
    }
    if run.manifest.is_some() {
        writeln!(out, "what it was given: driftline actions show {} --format json", run.run)?;
    }
    Ok(())
}
