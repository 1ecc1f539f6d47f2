//! `driftline deliveries show`.

use clap::Args;
use serde_json::json;

use crate::cli::alerts::show::{delivery_json, delivery_line, event, plain};
use crate::cli::operate::ledger::{Ledger, resolve};
use crate::cli::operate::{Desk, Outcome};
use crate::http::wording;
use crate::rules::episode::Notification;

#[derive(Debug, Clone, Args)]
pub struct ShowArgs {
    /// Id of a notification (`9f2c41aa-0`) or of an alert (`9f2c41aa`), or its beginning
    pub id: String,
}

pub fn run(desk: &mut Desk<'_>, args: &ShowArgs, json: bool) -> Outcome {
    let ledger = Ledger::read(desk)?;
    let notifications = find(&ledger, &args.id)?;
    if json {
        let deliveries = notifications.iter().flat_map(|notification| ledger.deliveries(&notification.id));
        return desk.json(&json!({"deliveries": deliveries.map(delivery_json).collect::<Vec<_>>()}));
    }
    for notification in notifications {
        let (id, summary) = (&notification.id, plain(&notification.summary));
        writeln!(desk.out, "{id}  {} {}: {summary}", wording::minute(notification.at_ms), event(notification))?;
        let mut lines: Vec<String> =
            ledger.deliveries(id).map(|delivery| delivery_line(delivery, desk.now_ms)).collect();
        if lines.is_empty() {
            lines.push("nothing is known of its delivery yet".into());
        }
        for line in lines {
            writeln!(desk.out, "  {line}")?;
        }
    }
    Ok(())
}

/// The notification of this id, or all of the alert of this id.
pub fn find<'a>(ledger: &'a Ledger, wanted: &str) -> Result<Vec<&'a Notification>, crate::cli::operate::Failure> {
    let exact = ledger.all_notifications().find(|notification| notification.id == wanted);
    if let Some(notification) = exact {
        return Ok(vec![notification]);
    }
    let (episode, sequence) = match wanted.rsplit_once('-') {
        Some((episode, sequence)) if sequence.parse::<u32>().is_ok() => (episode, sequence.parse::<u32>().ok()),
        _ => (wanted, None),
    };
    let mut ids: Vec<&str> = ledger.all_notifications().map(|notification| notification.episode_id.as_str()).collect();
    ids.dedup();
    let id = resolve(episode, &ids, "notification", "driftline deliveries list --status all")?.to_string();
    let of_episode: Vec<&Notification> = ledger
        .notifications(&id)
        .filter(|notification| sequence.is_none_or(|sequence| notification.sequence == sequence))
        .collect();
    if of_episode.is_empty() {
        let message = format!("alert `{id}` has no notification {}", sequence.unwrap_or_default());
        return Err(crate::cli::operate::Failure::failed(message));
    }
    Ok(of_episode)
}
