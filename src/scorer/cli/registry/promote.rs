//! `driftline-scorer promote`.

use clap::Args;

use super::{Outcome, Place, Why, change};
use crate::scorer::registry::Change;

#[derive(Debug, Args)]
pub struct PromoteArgs {
    model: String,
    version: String,
    /// Even if the version was rolled back before
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    why: Why,
    #[command(flatten)]
    place: Place,
}

pub fn run(args: &PromoteArgs) -> Outcome {
    let promote = Change::Promote { version: args.version.clone(), force: args.force };
    change(&args.place, &args.model, &args.why, promote)
}
