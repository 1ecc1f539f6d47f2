//! `driftline-scorer shadow`.

use clap::{Args, Subcommand};

use super::{Outcome, Place, Why, change};
use crate::scorer::registry::Change;

#[derive(Debug, Args)]
pub struct ShadowArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Score a version beside production
    Set {
        model: String,
        version: String,
        #[command(flatten)]
        why: Why,
        #[command(flatten)]
        place: Place,
    },
    /// End it
    Clear {
        model: String,
        #[command(flatten)]
        why: Why,
        #[command(flatten)]
        place: Place,
    },
}

pub fn run(args: &ShadowArgs) -> Outcome {
    match &args.action {
        Action::Set { model, version, why, place } => {
            change(place, model, why, Change::SetShadow { version: version.clone() })
        }
        Action::Clear { model, why, place } => change(place, model, why, Change::ClearShadow),
    }
}
