//! `driftline-scorer list`.

use clap::Args;
use serde_json::{Value, json};

use super::{Outcome, Place, shown_time};
use crate::scorer::registry::state::ServingState;

#[derive(Debug, Args)]
pub struct ListArgs {
    /// The versions of this model; default: all models
    model: Option<String>,
    #[command(flatten)]
    place: Place,
}

pub fn run(args: &ListArgs) -> Outcome {
    match &args.model {
        Some(model) => versions(args, model),
        None => models(args),
    }
}

fn models(args: &ListArgs) -> Outcome {
    let registry = args.place.open()?;
    let mut states = Vec::new();
    for model in registry.models()? {
        let (state, versions) = (registry.state(&model)?, registry.versions(&model)?);
        states.push((model, state, versions));
    }
    let as_json = |(model, state, versions): &(String, ServingState, Vec<String>)| {
        let mut value = json!(state);
        value["model"] = json!(model);
        value["versions"] = json!(versions);
        value
    };
    let answer: Value = states.iter().map(as_json).collect();
    args.place.print(&answer, || {
        if states.is_empty() {
            return "no model is registered: `driftline-scorer register MODEL FILE` adds one".into();
        }
        let lines = states.iter().map(|(model, state, versions)| {
            let count = versions.len();
            format!("{}; {count} version{} registered", state_line(model, state), if count == 1 { "" } else { "s" })
        });
        lines.collect::<Vec<_>>().join("\n")
    });
    Ok(())
}

fn versions(args: &ListArgs, model: &str) -> Outcome {
    let registry = args.place.open()?;
    let state = registry.state(model)?;
    let mut rows = Vec::new();
    for version in registry.versions(model)? {
        let manifest = registry.manifest(model, &version).map_err(|error| error.to_string());
        rows.push((version, manifest));
    }
    let as_json = |(version, manifest): &(String, Result<_, String>)| {
        json!({"version": version, "roles": state.roles(version), "manifest": manifest.as_ref().ok(),
            "refused": manifest.as_ref().err()})
    };
    let answer: Value = rows.iter().map(as_json).collect();
    args.place.print(&answer, || {
        let lines = rows.iter().map(|(version, manifest)| {
            let roles = state.roles(version).join(", ");
            let what = match manifest {
                Ok(manifest) => shown_time(manifest.created_at_ms),
                Err(reason) => reason.clone(),
            };
            format!("{version:<12} {roles:<20} {what}").trim_end().to_string()
        });
        let lines: Vec<String> = lines.collect();
        if lines.is_empty() { format!("model {model} has no version") } else { lines.join("\n") }
    });
    Ok(())
}

/// `fraud: 3 in production, 2 before, 4 canary at 5.00%, generation 7`.
pub(super) fn state_line(model: &str, state: &ServingState) -> String {
    let mut parts = vec![match &state.production {
        Some(version) => format!("{version} in production"),
        None => "nothing in production".into(),
    }];
    parts.extend(state.previous.as_ref().map(|version| format!("{version} before")));
    parts.extend(
        state.canary.as_ref().map(|canary| {
            format!("{} canary at {}.{:02}%", canary.version, canary.buckets / 100, canary.buckets % 100)
        }),
    );
    parts.extend(state.shadow.as_ref().map(|version| format!("{version} shadow")));
    format!("{model}: {}, generation {}", parts.join(", "), state.generation)
}
