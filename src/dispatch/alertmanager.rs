//! Prometheus Alertmanager by its API v2, for those whose routes, silences and receivers stand there.
//!
//! Alertmanager keeps alerts by their labels, in memory, and does not share them between the members of a cluster:
//! every member is sent every alert. An alert is over at its `endsAt`. Prometheus sends what fires again and again with
//! an end a few minutes ahead; Driftline sends it once, with an end far ahead (`ends_after`), and the true end later.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, SecondsFormat};
use futures::future::join_all;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde::Serialize;

use super::http_sender::{ConnectionConfig, HttpSender};
use super::message::Message;
use super::receiver::{DeliveryContext, Outcome, ReceiverError, Transport};
use super::{render, secret};
use crate::config::receivers::AlertmanagerReceiver;
use crate::config::rules::Severity;
use crate::rules::episode::{EpisodeStatus, Notification};

const PATH: &str = "api/v2/alerts";
/// After so many attempts, members that cannot be reached no longer hold up what comes next: it would keep an alert
/// open at the others that is over.
const ATTEMPTS_FOR_ALL: u32 = 5;

/// One alert as `POST /api/v2/alerts` takes it. Times are RFC 3339, UTC.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<&'static str, String>,
    pub starts_at: String,
    pub ends_at: String,
    #[serde(rename = "generatorURL")]
    pub generator_url: String,
}

pub struct AlertmanagerTransport {
    urls: Vec<reqwest::Url>,
    headers: HeaderMap,
    labels: BTreeMap<String, String>,
    ends_after_ms: i64,
    sender: HttpSender,
}

impl AlertmanagerTransport {
    pub fn new(receiver: &str, config: &AlertmanagerReceiver) -> Result<Self, ReceiverError> {
        let secret_error = |error| ReceiverError::Secret { receiver: receiver.to_string(), error };
        let invalid = |reason: String| ReceiverError::Invalid { receiver: receiver.to_string(), reason };
        let AlertmanagerReceiver { allow_private, timeout, .. } = *config;
        let sender = HttpSender::new(receiver, ConnectionConfig { allow_private, timeout, throttled_ms: None })?;
        let mut urls = Vec::new();
        for url in &config.urls {
            let base = secret::resolve_text(url).map_err(secret_error)?;
            urls.push(sender.address(receiver, &format!("{}/{PATH}", base.trim_end_matches('/')))?);
        }
        if urls.is_empty() {
            return Err(invalid("`urls` names no Alertmanager".into()));
        }
        let mut headers = HeaderMap::new();
        if let Some(authorization) = &config.authorization {
            let text = secret::resolve(authorization).map_err(secret_error)?;
            let mut value = HeaderValue::from_str(&text)
                .map_err(|_| invalid("`authorization` does not fit into a header".into()))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(Self { urls, headers, labels: config.labels.clone(), ends_after_ms: config.ends_after.ms, sender })
    }
}

#[async_trait]
impl Transport for AlertmanagerTransport {
    async fn deliver(&self, notification: &Notification, context: &DeliveryContext) -> Outcome {
        let body = match serde_json::to_vec(&alerts(notification, context, &self.labels, self.ends_after_ms)) {
            Ok(body) => body,
            Err(error) => return Outcome::permanent(format!("cannot write the alerts as json: {error}")),
        };
        let posts = self.urls.iter().map(|url| self.sender.post(url, body.clone(), self.headers.clone()));
        combine(join_all(posts).await, context.attempt)
    }

    /// Alertmanager tells nobody of an alert that was over when it first heard of it.
    fn takes_an_end_alone(&self) -> bool {
        false
    }
}

/// What the answers of all members come to. Sending an alert again to a member that has it changes nothing there.
fn combine(outcomes: Vec<Outcome>, attempt: u32) -> Outcome {
    let members = outcomes.len();
    let mut accepted = 0;
    let mut may_heal = false;
    let mut wait_ms: Option<i64> = None;
    let mut reasons = Vec::new();
    for (place, outcome) in outcomes.into_iter().enumerate() {
        let reason = match outcome {
            Outcome::Delivered { .. } => {
                accepted += 1;
                continue;
            }
            Outcome::Retry { reason, after_ms } => {
                may_heal = true;
                wait_ms = wait_ms.max(after_ms);
                reason
            }
            Outcome::Permanent { reason } => reason,
        };
        reasons.push(if members == 1 { reason } else { format!("member {} of {members}: {reason}", place + 1) });
    }
    let reason = reasons.join("; ");
    match (accepted, may_heal) {
        (_, _) if accepted == members => Outcome::Delivered { remark: None },
        (0, true) => Outcome::Retry { reason, after_ms: wait_ms },
        (_, true) if attempt < ATTEMPTS_FOR_ALL => Outcome::Retry { reason, after_ms: wait_ms },
        (0, false) => Outcome::Permanent { reason },
        _ => Outcome::Delivered { remark: Some(reason) },
    }
}

/// The notification's alert and, once its severity has risen, the end of the same one at `warn`: the severity is a label,
/// and so part of what an alert is. `labels`: those of the configuration.
pub fn alerts(
    notification: &Notification,
    context: &DeliveryContext,
    labels: &BTreeMap<String, String>,
    ends_after_ms: i64,
) -> Vec<Alert> {
    let alert = |severity: Severity, is_over: bool| {
        let starts_at_ms = notification.first_window.start_ms;
        let ends_at_ms = if is_over { notification.at_ms } else { notification.at_ms.saturating_add(ends_after_ms) };
        Alert {
            labels: labels_of(notification, severity, labels),
            annotations: annotations_of(notification, context),
            starts_at: time(starts_at_ms),
            // An end at or before the start is refused; events may run ahead of the clock a little.
            ends_at: time(ends_at_ms.max(starts_at_ms.saturating_add(1))),
            generator_url: context.episode_url(notification),
        }
    };
    let mut alerts = vec![alert(notification.severity, notification.status == EpisodeStatus::Resolved)];
    // Between its beginning and its end an episode is told again only when its severity rises.
    let told_before_the_rise = match notification.status {
        EpisodeStatus::Firing => notification.sequence > 0,
        EpisodeStatus::Resolved => notification.sequence > 1,
    };
    if notification.severity == Severity::Critical && told_before_the_rise {
        alerts.push(alert(Severity::Warn, true));
    }
    alerts
}

/// Labels are what the alert is, so only what does not change within an episode; its id keeps the end of one episode,
/// delivered late, from ending the next. The version may change where a rule groups across versions.
fn labels_of(
    notification: &Notification,
    severity: Severity,
    configured: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let severity = match severity {
        Severity::Warn => "warning",
        Severity::Critical => "critical",
    };
    let mut labels = configured.clone();
    let mut set = |name: &str, value: &str| labels.insert(name.to_string(), render::clean(value));
    set("alertname", &notification.rule);
    set("model", &notification.model);
    set("severity", severity);
    set("episode", &notification.episode_id);
    if !notification.segment.is_all() {
        set("segment", &notification.segment.to_string());
    }
    if let Some(feature) = &notification.feature {
        set("feature", feature);
    }
    labels
}

fn annotations_of(notification: &Notification, context: &DeliveryContext) -> BTreeMap<&'static str, String> {
    let message = Message::of(notification, &context.telling);
    let notes = message.notes.iter().map(String::as_str);
    let findings = message.findings.iter().map(String::as_str);
    let description: Vec<&str> = notes.chain(findings).chain(message.more.as_deref()).collect();
    let mut annotations = BTreeMap::from([
        ("summary", message.summary.clone()),
        ("title", message.headline.clone()),
        ("version", render::clean(&notification.version)),
        ("notification", render::clean(&notification.id)),
    ]);
    if let Some(runbook) = message.runbook {
        annotations.insert("runbook_url", runbook);
    }
    if !description.is_empty() {
        annotations.insert("description", description.join("\n\n"));
    }
    annotations
}

fn time(at_ms: i64) -> String {
    DateTime::from_timestamp_millis(at_ms).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(after_ms: Option<i64>) -> Outcome {
        Outcome::Retry { reason: "away".into(), after_ms }
    }

    #[test]
    fn all_members_must_take_an_alert_but_not_for_ever() {
        let taken = || Outcome::Delivered { remark: None };
        assert_eq!(combine(vec![taken(), taken()], 1), taken());
        let away = Outcome::Retry { reason: "member 2 of 2: away".into(), after_ms: Some(7_000) };
        assert_eq!(combine(vec![taken(), retry(Some(7_000))], ATTEMPTS_FOR_ALL - 1), away);
        let remark = Some("member 2 of 2: away".to_string());
        assert_eq!(combine(vec![taken(), retry(None)], ATTEMPTS_FOR_ALL), Outcome::Delivered { remark });
        let refused = || Outcome::permanent("no");
        assert_eq!(combine(vec![refused(), taken()], 1).label(), "delivered");
        assert_eq!(combine(vec![refused(), refused()], 1).label(), "permanent");
        assert_eq!(combine(vec![retry(None), refused()], 100).label(), "retry");
        assert_eq!(combine(vec![retry(None)], 1), retry(None));
    }
}
