//! `driftline-scorer audit`.

use clap::Args;
use serde_json::json;

use super::{Outcome, Place, shown_time};
use crate::scorer::registry::Change;
use crate::scorer::registry::audit::{AuditEntry, Served};

#[derive(Debug, Args)]
pub struct AuditArgs {
    model: String,
    /// Only so many, the newest
    #[arg(long, default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    place: Place,
}

pub fn run(args: &AuditArgs) -> Outcome {
    let entries = args.place.open()?.audit(&args.model)?;
    let newest = entries.split_at(entries.len().saturating_sub(args.limit)).1;
    args.place.print(&json!(newest), || match newest {
        [] => format!("nothing of model {} has changed yet", args.model),
        newest => newest.iter().map(line).collect::<Vec<_>>().join("\n"),
    });
    Ok(())
}

fn line(entry: &AuditEntry) -> String {
    let AuditEntry { generation, at_ms, by, what, from, to, reason, .. } = entry;
    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let came_of_it = match what {
        Change::Verdict { version, against, outcome, .. } => {
            let against = against.as_ref().map_or("nothing".into(), |against| format!("version {against}"));
            format!("version {version} against {against}: {outcome:?}").to_lowercase()
        }
        _ => format!("{} -> {}", served(from), served(to)),
    };
    format!(
        "{generation:>5} {} {:<12} {came_of_it} by {}{}",
        shown_time(*at_ms),
        what.name(),
        by.escape_debug(),
        reason.escape_debug()
    )
}

fn served(served: &Served) -> String {
    let mut parts = vec![served.production.clone().unwrap_or_else(|| "nothing".into())];
    parts.extend(served.canary.as_ref().map(|version| format!("canary {version} {}", share(served.canary_buckets))));
    parts.extend(served.shadow.as_ref().map(|version| format!("shadow {version}")));
    parts.join(" + ")
}

fn share(buckets: u32) -> String {
    format!("{}.{:02}%", buckets / 100, buckets % 100)
}
