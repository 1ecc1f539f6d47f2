//! `driftline-scorer show`.

use clap::Args;
use serde_json::json;

use super::{Failure, Outcome, Place};
use crate::scorer::registry::state::ServingState;

#[derive(Debug, Args)]
pub struct ShowArgs {
    model: String,
    /// A version, or where one serves: production, previous, canary, shadow
    #[arg(default_value = "production")]
    version: String,
    #[command(flatten)]
    place: Place,
}

pub fn run(args: &ShowArgs) -> Outcome {
    let registry = args.place.open()?;
    let state = registry.state(&args.model)?;
    let version = named(&state, &args.model, &args.version)?;
    let manifest = registry.manifest(&args.model, &version)?;
    let answer = json!({"roles": state.roles(&version), "manifest": manifest});
    args.place.print(&answer, || {
        let roles = state.roles(&version).join(", ");
        let roles = if roles.is_empty() { "serves nowhere".into() } else { roles };
        let text = serde_json::to_string_pretty(&manifest).unwrap_or_default();
        format!("{} version {version}: {roles}\n{text}", args.model)
    });
    Ok(())
}

/// The version that a word means.
pub(super) fn named(state: &ServingState, model: &str, wanted: &str) -> Result<String, Failure> {
    let place = match wanted {
        "production" => &state.production,
        "previous" => &state.previous,
        "canary" => &state.canary.as_ref().map(|canary| canary.version.clone()),
        "shadow" => &state.shadow,
        version => return Ok(version.to_string()),
    };
    place.clone().ok_or_else(|| Failure::refused(format!("model {model} has no {wanted} version: name one")))
}
