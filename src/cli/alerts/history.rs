//! `driftline alerts history`.

use clap::Args;
use serde_json::{Value, json};

use super::show::{event, plain};
use crate::cli::operate::ledger::Ledger;
use crate::cli::operate::{Desk, Outcome};
use crate::cli::time::{Time, time};
use crate::config::glob;
use crate::dispatch::control::{Command, ControlRecord};
use crate::http::wording;
use crate::rules::episode::Notification;

#[derive(Debug, Clone, Args)]
pub struct HistoryArgs {
    /// Only of this alert: an id or its beginning
    pub id: Option<String>,
    /// From when: a time, a date, or how long ago
    #[arg(long, value_parser = time, default_value = "7d", value_name = "TIME")]
    pub since: Time,
    /// Only of these models; a name or a glob
    #[arg(long, value_name = "GLOB")]
    pub model: Option<String>,
}

/// Something that happened.
struct Happening {
    at_ms: i64,
    about: String,
    text: String,
    json: Value,
}

pub fn run(desk: &mut Desk<'_>, args: &HistoryArgs, json: bool) -> Outcome {
    let ledger = Ledger::read(desk)?;
    let wanted = args.id.as_ref().map(|id| ledger.find(id, desk.now_ms)).transpose()?.map(|alert| alert.id);
    let since_ms = args.since.ms(desk.now_ms);
    let mut happenings: Vec<Happening> = Vec::new();
    let is_of_model = |model: &str| args.model.as_ref().is_none_or(|glob| glob::matches(glob, model));
    for notification in ledger.all_notifications() {
        let is_wanted = wanted.as_ref().is_none_or(|id| *id == notification.episode_id);
        if is_wanted && is_of_model(&notification.model) {
            happenings.push(of_notification(notification));
        }
    }
    for record in &ledger.commands {
        let about = about(&record.command);
        let known = about.and_then(|id| ledger.notifications(id).next());
        let is_wanted = match &wanted {
            Some(id) => about == Some(id),
            None => args.model.is_none() || known.is_some_and(|notification| is_of_model(&notification.model)),
        };
        if is_wanted {
            happenings.push(of_command(record));
        }
    }
    happenings.retain(|happening| happening.at_ms >= since_ms);
    happenings.sort_by_key(|happening| happening.at_ms);
    if json {
        return desk.json(&Value::Array(happenings.into_iter().map(|happening| happening.json).collect()));
    }
    if happenings.is_empty() {
        writeln!(desk.out, "nothing happened since {} UTC", wording::minute(since_ms))?;
    }
    for Happening { at_ms, about, text, .. } in &happenings {
        writeln!(desk.out, "{}  {about:<16}  {text}", wording::minute(*at_ms))?;
    }
    Ok(())
}

fn of_notification(notification: &Notification) -> Happening {
    Happening {
        at_ms: notification.at_ms,
        about: notification.episode_id.clone(),
        text: format!("{}: {}", event(notification), plain(&notification.summary)),
        json: json!({"at_ms": notification.at_ms, "notification": notification}),
    }
}

/// The alert that a command is about.
fn about(command: &Command) -> Option<&str> {
    match command {
        Command::Acknowledge { episode_id, .. } | Command::Unacknowledge { episode_id } => Some(episode_id),
        Command::Redeliver { notification_id, .. } => notification_id.split('-').next(),
        _ => None,
    }
}

fn of_command(record: &ControlRecord) -> Happening {
    let about = about(&record.command).unwrap_or("-").to_string();
    let text = format!("{} {}", record.by, deed(&record.command));
    Happening { at_ms: record.at_ms, about, text, json: json!({"at_ms": record.at_ms, "command": record}) }
}

/// What somebody did.
fn deed(command: &Command) -> String {
    let minute = wording::minute;
    match command {
        Command::Acknowledge { owner, until_ms, note, .. } => {
            let until = until_ms.map_or_else(|| "until it ends".to_string(), |ms| format!("until {}", minute(ms)));
            let note = note.as_ref().map_or_else(String::new, |note| format!(": {note}"));
            format!("acknowledged it for {owner} {until}{note}")
        }
        Command::Unacknowledge { .. } => "took the acknowledgement back".into(),
        Command::Silence { until_ms, reason, .. } => format!("silenced alerts until {}: {reason}", minute(*until_ms)),
        Command::ExpireSilence { silence } => format!("ended silence {silence}"),
        Command::Redeliver { receiver, .. } => format!("had it sent again to {receiver}"),
        Command::Approve { run } => format!("approved run {run}"),
        Command::Deny { run, reason } => format!("denied run {run}: {reason}"),
        Command::Report { run, succeeded: true, .. } => format!("reported run {run} as succeeded"),
        Command::Report { run, message, .. } => format!("reported run {run} as failed: {message}"),
        Command::Resume { action, model } => format!("let action {action} run again for {model}"),
    }
}
