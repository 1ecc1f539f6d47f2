//! `driftline-scorer rollback`.

use clap::Args;

use super::{Failure, Outcome, Place, Why, change};
use crate::scorer::registry::{Change, RollbackTo};

#[derive(Debug, Args)]
pub struct RollbackArgs {
    model: String,
    /// Where to: last_good, or a version
    #[arg(long, default_value = "last_good")]
    to: String,
    /// Refuse if another version is in production; default: whatever is
    #[arg(long, value_name = "VERSION")]
    production: Option<String>,
    #[command(flatten)]
    why: Why,
    #[command(flatten)]
    place: Place,
}

pub fn run(args: &RollbackArgs) -> Outcome {
    let production = match &args.production {
        Some(version) => version.clone(),
        None => in_production(args)?,
    };
    let roll_back = Change::Rollback { to: RollbackTo::parse(&args.to), production };
    change(&args.place, &args.model, &args.why, roll_back)
}

fn in_production(args: &RollbackArgs) -> Result<String, Failure> {
    if args.why.request_id.is_some() {
        return Err(Failure::usage(
            "--request-id needs --production: otherwise a second call would mean another version",
        ));
    }
    let nothing = || Failure::refused(format!("nothing of model {} is in production", args.model));
    args.place.open()?.state(&args.model)?.production.ok_or_else(nothing)
}
