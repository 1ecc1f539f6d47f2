//! `driftline alerts show`.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::operate::ledger::{Alert, Ledger};
use crate::cli::operate::{Desk, Outcome};
use crate::dispatch::delivery::{DeliveryRecord, DeliveryStatus};
use crate::http::metrics::severity_name;
use crate::http::wording;
use crate::rules::episode::{EpisodeStatus, Notification};

#[derive(Debug, Clone, Args)]
pub struct ShowArgs {
    /// Id of the alert, or its beginning
    pub id: String,
}

pub fn run(desk: &mut Desk<'_>, args: &ShowArgs, json: bool) -> Outcome {
    let ledger = Ledger::read(desk)?;
    let alert = ledger.find(&args.id, desk.now_ms)?;
    if json {
        return desk.json(&as_json(&ledger, &alert));
    }
    head(desk, &alert)?;
    let evidence = ledger.notifications(&alert.id).rev().find(|notification| !notification.findings.is_empty());
    for finding in evidence.iter().flat_map(|notification| &notification.findings) {
        writeln!(desk.out, "  {}", plain(&finding.reason))?;
        for moved in &finding.moved {
            writeln!(desk.out, "    {}", plain(&moved.sentence()))?;
        }
    }
    if let Some(notification) = evidence {
        for (name, text) in [("description", &notification.description), ("runbook", &notification.runbook)] {
            if let Some(text) = text {
                writeln!(desk.out, "{name:<13}{text}")?;
            }
        }
    }
    writeln!(desk.out)?;
    for notification in ledger.notifications(&alert.id) {
        writeln!(desk.out, "{}  {}", wording::minute(notification.at_ms), event(notification))?;
        let deliveries: Vec<&DeliveryRecord> = ledger.deliveries(&notification.id).collect();
        for delivery in &deliveries {
            writeln!(desk.out, "  {}", delivery_line(delivery, desk.now_ms))?;
        }
        for receiver in &notification.receivers {
            if !deliveries.iter().any(|delivery| delivery.receiver == *receiver) {
                writeln!(desk.out, "  {receiver}: nothing is known of the delivery yet")?;
            }
        }
        match &notification.suppressed {
            Some(quiet) => writeln!(desk.out, "  told to nobody: kept quiet by {} `{}`", quiet.by.word(), quiet.name)?,
            None if notification.receivers.is_empty() => writeln!(desk.out, "  told to nobody: no route matches it")?,
            None => {}
        }
    }
    Ok(())
}

fn head(desk: &mut Desk<'_>, alert: &Alert) -> Outcome {
    let out = &mut *desk.out;
    writeln!(out, "{}  {} {}", alert.id, alert.rule, severity_name(alert.severity))?;
    writeln!(out, "status       {}", alert.status())?;
    writeln!(out, "about        {}", alert.subject())?;
    let first = alert.first_window;
    writeln!(
        out,
        "since        {} UTC, first window to breach ({})",
        wording::window(first.start_ms, first.end_ms),
        wording::ago(first.start_ms, desk.now_ms)
    )?;
    writeln!(out, "what         {}", plain(&alert.summary))?;
    Ok(())
}

/// Without the marks around names.
pub fn plain(text: &str) -> String {
    text.replace('`', "")
}

pub fn event(notification: &Notification) -> String {
    let severity = severity_name(notification.severity);
    match (notification.status, notification.sequence) {
        (EpisodeStatus::Resolved, _) => "resolved".into(),
        (EpisodeStatus::Firing, 0) => format!("fired, {severity}"),
        (EpisodeStatus::Firing, _) => format!("now {severity}"),
    }
}

pub fn status_word(status: DeliveryStatus) -> &'static str {
    match status {
        DeliveryStatus::Pending => "pending",
        DeliveryStatus::Delivered => "delivered",
        DeliveryStatus::Failed => "failed",
        DeliveryStatus::Expired => "expired",
        DeliveryStatus::Superseded => "superseded",
    }
}

/// `pager: delivered 12 s ago, 2 attempts`.
pub fn delivery_line(delivery: &DeliveryRecord, now_ms: i64) -> String {
    let mut line = format!("{}: {}", delivery.receiver, status_word(delivery.status));
    if let Some(at_ms) = delivery.delivered_at_ms {
        line.push_str(&format!(" {}", wording::ago(at_ms, now_ms)));
    }
    let plural = if delivery.attempts == 1 { "" } else { "s" };
    line.push_str(&format!(", {} attempt{plural}", delivery.attempts));
    if let Some(next_ms) = delivery.next_attempt_ms.filter(|_| delivery.status == DeliveryStatus::Pending) {
        line.push_str(&format!(
            ", next {}",
            if next_ms > now_ms { wording::ago(next_ms, now_ms) } else { "now".into() }
        ));
    }
    if let Some(error) = &delivery.last_error {
        line.push_str(&format!(": {error}"));
    }
    line
}

fn as_json(ledger: &Ledger, alert: &Alert) -> Value {
    let notifications: Vec<Value> = ledger
        .notifications(&alert.id)
        .map(|notification| {
            let deliveries: Vec<Value> = ledger.deliveries(&notification.id).map(delivery_json).collect();
            json!({"notification": notification, "deliveries": deliveries})
        })
        .collect();
    let mut value = alert.json();
    value["notifications"] = json!(notifications);
    value
}

/// A delivery without the notification in it.
pub fn delivery_json(delivery: &DeliveryRecord) -> Value {
    let mut value = serde_json::to_value(delivery).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("notification");
        fields.insert("notification_id".into(), json!(delivery.notification.id));
        fields.insert("episode_id".into(), json!(delivery.notification.episode_id));
    }
    value
}
