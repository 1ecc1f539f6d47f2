//! `driftline-scorer collect`.

use clap::Args;
use serde_json::json;

use super::{Outcome, Place};

#[derive(Debug, Args)]
pub struct CollectArgs {
    model: String,
    /// Keep so many of the newest, beside those that serve and the one before
    #[arg(long, default_value_t = 5)]
    keep: usize,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    place: Place,
}

pub fn run(args: &CollectArgs) -> Outcome {
    let removed = args.place.open()?.collect(&args.model, args.keep, args.dry_run)?;
    args.place.print(&json!({"removed": removed, "dry_run": args.dry_run}), || {
        let verb = if args.dry_run { "would remove" } else { "removed" };
        if removed.is_empty() { format!("{verb} nothing") } else { format!("{verb} {}", removed.join(", ")) }
    });
    Ok(())
}
