//! `driftline actions resume`.

use clap::Args;
use serde_json::json;

use super::runs;
use crate::cli::operate::{By, Desk, Failure, Outcome};
use crate::dispatch::actions::run::RunState;
use crate::dispatch::control::Command;

#[derive(Debug, Clone, Args)]
pub struct ResumeArgs {
    /// Name of the action
    pub action: String,
    /// The model that it was suspended for
    pub model: String,
    #[command(flatten)]
    pub by: By,
}

pub fn run(desk: &mut Desk<'_>, args: &ResumeArgs, json: bool) -> Outcome {
    let by = args.by.name()?;
    let runs = runs(desk)?;
    let suspended: Vec<(&str, &str)> = runs
        .values()
        .filter(|run| run.state == RunState::Suspended)
        .map(|run| (run.action.as_str(), run.request.model.as_str()))
        .collect();
    if !suspended.contains(&(args.action.as_str(), args.model.as_str())) {
        let known: Vec<String> = suspended.iter().map(|(action, model)| format!("`{action} {model}`")).collect();
        let known = if known.is_empty() { "nothing is".to_string() } else { known.join(", ") };
        let (action, model) = (&args.action, &args.model);
        return Err(Failure::failed(format!("no run of `{action}` for `{model}` is suspended; suspended: {known}")));
    }
    let (action, model) = (args.action.clone(), args.model.clone());
    let given = desk.give(&by, Command::Resume { action, model })?;
    if json {
        return desk.json(&json!(given));
    }
    writeln!(desk.out, "{} runs again for {}", args.action, args.model)?;
    Ok(())
}
