//! `driftline-scorer verify`.

use clap::Args;
use serde_json::{Value, json};

use super::{Failure, Outcome, Place};
use crate::scorer::registry::RegistryError;

#[derive(Debug, Args)]
pub struct VerifyArgs {
    model: String,
    /// Only this version; default: all
    version: Option<String>,
    #[command(flatten)]
    place: Place,
}

pub fn run(args: &VerifyArgs) -> Outcome {
    let registry = args.place.open()?;
    let versions = match &args.version {
        Some(version) => vec![version.clone()],
        None => registry.versions(&args.model)?,
    };
    let mut rows = Vec::new();
    for version in versions {
        let outcome = match registry.open_version(&args.model, &version) {
            Ok(whole) => Ok(whole.signed_by),
            Err(RegistryError::Refused(reason)) => Err(reason),
            Err(error) => return Err(error.into()),
        };
        rows.push((version, outcome));
    }
    let as_json = |(version, outcome): &(String, Result<Option<String>, String>)| {
        json!({"version": version, "whole": outcome.is_ok(), "signed_by": outcome.as_ref().ok(),
            "refused": outcome.as_ref().err()})
    };
    let answer: Value = rows.iter().map(as_json).collect();
    args.place.print(&answer, || {
        let lines = rows.iter().map(|(version, outcome)| match outcome {
            Ok(Some(key)) => format!("{version}: whole, signed with key {key}"),
            Ok(None) => format!("{version}: whole, not signed by a trusted key"),
            Err(reason) => format!("{version}: {reason}"),
        });
        lines.collect::<Vec<_>>().join("\n")
    });
    match rows.iter().filter(|(_, outcome)| outcome.is_err()).count() {
        0 => Ok(()),
        count => Err(Failure::refused(format!("{count} of {} versions would not be served", rows.len()))),
    }
}
