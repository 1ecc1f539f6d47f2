//! `driftline-scorer canary`.

use clap::{Args, Subcommand};

use super::{Failure, Outcome, Place, Why, change};
use crate::scorer::registry::Change;
use crate::scorer::registry::change::ALL_BUCKETS;

#[derive(Debug, Args)]
pub struct CanaryArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Give a version a share of the traffic, or change its share
    Set(SetArgs),
    /// End the canary: production answers everything
    Clear(ClearArgs),
}

#[derive(Debug, Args)]
struct SetArgs {
    model: String,
    version: String,
    /// Share of the traffic in per cent, in steps of 0.01
    #[arg(long)]
    percent: f64,
    /// Deals entities to versions anew; default: that of the canary that runs, else the version's name
    #[arg(long)]
    salt: Option<String>,
    /// First step of a progressive rollout, which goes on by itself; without it the share stays
    #[arg(long, value_name = "STEP")]
    step: Option<u32>,
    /// Even if the version was rolled back before
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    why: Why,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct ClearArgs {
    model: String,
    /// Refuse if another version is the canary
    #[arg(long)]
    version: Option<String>,
    /// The version has failed: it is not promoted any more without force
    #[arg(long)]
    reject: bool,
    #[command(flatten)]
    why: Why,
    #[command(flatten)]
    place: Place,
}

pub fn run(args: &CanaryArgs) -> Outcome {
    match &args.action {
        Action::Set(args) => {
            let set = Change::SetCanary {
                version: args.version.clone(),
                buckets: buckets(args.percent)?,
                salt: args.salt.clone(),
                step: args.step,
                force: args.force,
            };
            change(&args.place, &args.model, &args.why, set)
        }
        Action::Clear(args) => {
            let clear = Change::ClearCanary { version: args.version.clone(), reject: args.reject };
            change(&args.place, &args.model, &args.why, clear)
        }
    }
}

fn buckets(percent: f64) -> Result<u32, Failure> {
    let wanted = percent * f64::from(ALL_BUCKETS) / 100.0;
    let nearest = wanted.round();
    if !(0.0..=f64::from(ALL_BUCKETS)).contains(&nearest) || (wanted - nearest).abs() > 1e-6 {
        return Err(Failure::usage(format!("--percent is {percent}: from 0 to 100 in steps of 0.01 is meant")));
    }
    // In range by the check above.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Ok(nearest as u32)
}
