//! `driftline alerts ack`.

use clap::Args;
use serde_json::json;

use crate::cli::operate::ledger::Ledger;
use crate::cli::operate::{By, Desk, Failure, Outcome, Until};
use crate::dispatch::control::Command;
use crate::http::wording;

#[derive(Debug, Clone, Args)]
pub struct AckArgs {
    /// Ids of alerts, or their beginnings
    #[arg(required = true)]
    pub ids: Vec<String>,
    #[command(flatten)]
    pub until: Until,
    /// Who works on it; default: you
    #[arg(long, value_name = "NAME")]
    pub owner: Option<String>,
    /// What others should know
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    #[command(flatten)]
    pub by: By,
}

pub fn run(desk: &mut Desk<'_>, args: &AckArgs, json: bool) -> Outcome {
    let by = args.by.name()?;
    let ledger = Ledger::read(desk)?;
    // All of them are known before any is acknowledged.
    let mut alerts = Vec::new();
    for id in &args.ids {
        let alert = ledger.find(id, desk.now_ms)?;
        if !alert.firing {
            return Err(Failure::failed(format!("alert `{}` has ended; there is nothing to acknowledge", alert.id)));
        }
        alerts.push(alert);
    }
    let until_ms = args.until.ms(desk.now_ms);
    let owner = args.owner.clone().unwrap_or_else(|| by.clone());
    let mut given = Vec::new();
    for alert in &alerts {
        let command = Command::Acknowledge {
            episode_id: alert.id.clone(),
            owner: owner.clone(),
            until_ms,
            note: args.note.clone(),
        };
        given.push(desk.give(&by, command)?);
    }
    if json {
        return desk.json(&json!(given));
    }
    let until = until_ms.map_or_else(|| "it ends".to_string(), |ms| format!("{} UTC", wording::minute(ms)));
    for alert in &alerts {
        let (id, rule, about) = (&alert.id, &alert.rule, alert.subject());
        writeln!(desk.out, "{id} ({rule}, {about}) is acknowledged by {owner} until {until}")?;
    }
    Ok(())
}
