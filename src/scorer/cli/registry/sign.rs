//! `driftline-scorer sign`.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::register::read_key;
use super::{Outcome, Place};

#[derive(Debug, Args)]
pub struct SignArgs {
    model: String,
    version: String,
    /// Private key; its signature takes the place of any that is there
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    #[command(flatten)]
    place: Place,
}

pub fn run(args: &SignArgs) -> Outcome {
    let key = read_key(&args.key)?;
    args.place.open()?.sign(&args.model, &args.version, &key)?;
    let id = key.public().id();
    args.place.print(&json!({"model": args.model, "version": args.version, "signed_by": id}), || {
        format!("{} version {} is signed with key {id}", args.model, args.version)
    });
    Ok(())
}
