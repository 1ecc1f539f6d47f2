//! PagerDuty by Events API v2: a firing notification triggers, a resolved one resolves. The episode is the
//! `dedup_key`, so a copy, or a rise of severity, goes to the alert that is open already.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, SecondsFormat};
use serde::Serialize;

use super::http_sender::{ConnectionConfig, HttpSender};
use super::message::{Message, cut};
use super::receiver::{DeliveryContext, Outcome, ReceiverError, Telling, Transport};
use super::{render, secret, telling};
use crate::config::receivers::{PagerDutyReceiver, PagerDutySeverities, PagerDutySeverity, TextOrSecret};
use crate::config::rules::Severity;
use crate::rules::episode::{EpisodeStatus, Notification};

const DEFAULT_URL: &str = "https://events.pagerduty.com/v2/enqueue";
/// Documented limits, in characters. A whole event may have 512 KB; what stands here comes to less than 20.
const MAX_SUMMARY_CHARS: usize = 1_024;
const MAX_DEDUP_KEY_CHARS: usize = 255;
/// PagerDuty asks for a pause of a few minutes after a 429, but does not send `Retry-After`.
const THROTTLED_MS: i64 = 120_000;

/// One event, as it is sent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event<'a> {
    pub routing_key: &'a str,
    pub event_action: &'static str,
    pub dedup_key: String,
    /// A resolving event has neither payload nor links.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_url: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
}

/// What is wrong, in the PagerDuty Common Event Format.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Payload {
    pub summary: String,
    /// The model and its version: what is in trouble.
    pub source: String,
    pub severity: PagerDutySeverity,
    /// When the window closed that caused the notification: RFC 3339, UTC.
    pub timestamp: String,
    pub component: String,
    pub group: String,
    pub class: String,
    pub custom_details: BTreeMap<&'static str, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Link {
    pub href: String,
    pub text: &'static str,
}

pub struct PagerDutyTransport {
    url: reqwest::Url,
    routing_key: String,
    severities: PagerDutySeverities,
    sender: HttpSender,
}

impl PagerDutyTransport {
    pub fn new(receiver: &str, config: &PagerDutyReceiver) -> Result<Self, ReceiverError> {
        let secret_error = |error| ReceiverError::Secret { receiver: receiver.to_string(), error };
        let PagerDutyReceiver { allow_private, timeout, severity: severities, .. } = *config;
        let throttled_ms = Some(THROTTLED_MS);
        let sender = HttpSender::new(receiver, ConnectionConfig { allow_private, timeout, throttled_ms })?;
        let default_url = TextOrSecret::Text(DEFAULT_URL.into());
        let text = secret::resolve_text(config.url.as_ref().unwrap_or(&default_url)).map_err(secret_error)?;
        let url = sender.address(receiver, &text)?;
        let routing_key = secret::resolve(&config.routing_key).map_err(secret_error)?;
        Ok(Self { url, routing_key, severities, sender })
    }
}

#[async_trait]
impl Transport for PagerDutyTransport {
    async fn deliver(&self, notification: &Notification, context: &DeliveryContext) -> Outcome {
        self.sender.post_json(&self.url, &event(notification, context, &self.routing_key, self.severities)).await
    }

    /// PagerDuty drops the end of an incident that it never opened.
    fn takes_an_end_alone(&self) -> bool {
        false
    }
}

/// With links to the alert's own page and to the runbook. A heartbeat triggers nothing that anybody should be woken for:
/// it has a low severity.
pub fn event<'a>(
    notification: &Notification,
    context: &DeliveryContext,
    routing_key: &'a str,
    severities: PagerDutySeverities,
) -> Event<'a> {
    let dedup_key = notification.episode_id.chars().take(MAX_DEDUP_KEY_CHARS).collect();
    if notification.status == EpisodeStatus::Resolved {
        return Event {
            routing_key,
            event_action: "resolve",
            dedup_key,
            payload: None,
            client: None,
            client_url: None,
            links: Vec::new(),
        };
    }
    let url = context.episode_url(notification);
    let message = Message::of(notification, &context.telling);
    let mut links = vec![Link { href: url.clone(), text: message.open_words }];
    links.extend(message.runbook.clone().map(|href| Link { href, text: "Open the runbook" }));
    Event {
        routing_key,
        event_action: "trigger",
        dedup_key,
        payload: Some(payload(notification, &message, severities, &context.telling)),
        client: Some("Driftline"),
        client_url: Some(url),
        links,
    }
}

fn payload(
    notification: &Notification,
    message: &Message,
    severities: PagerDutySeverities,
    telling: &Telling,
) -> Payload {
    let is_of_an_alert = telling::is_of_an_alert(telling);
    let mut custom_details: BTreeMap<&'static str, String> = message.facts.iter().cloned().collect();
    custom_details.insert("Summary", message.summary.clone());
    if !message.notes.is_empty() {
        custom_details.insert("Notes", message.notes.join("\n"));
    }
    if !message.findings.is_empty() {
        let findings: Vec<&str> = message.findings.iter().map(String::as_str).chain(message.more.as_deref()).collect();
        custom_details.insert("Findings", findings.join("\n\n"));
    }
    custom_details.insert("Next", message.next_steps.join("\n"));
    custom_details.insert("Notification", render::clean(&notification.id));
    Payload {
        summary: match is_of_an_alert {
            true => cut(&render::subject(notification), MAX_SUMMARY_CHARS),
            false => cut(&message.headline, MAX_SUMMARY_CHARS),
        },
        source: match is_of_an_alert {
            true => render::who_only(notification),
            false => "Driftline".into(),
        },
        severity: match notification.severity {
            _ if matches!(telling, Telling::Heartbeat { .. }) => PagerDutySeverity::Info,
            Severity::Warn => severities.warn,
            Severity::Critical => severities.critical,
        },
        timestamp: DateTime::from_timestamp_millis(notification.at_ms)
            .unwrap_or_default()
            .to_rfc3339_opts(SecondsFormat::Millis, true),
        component: match notification.segment.is_all() {
            true => "all events".into(),
            false => render::clean(&notification.segment.to_string()),
        },
        group: render::clean(&notification.model),
        class: render::clean(&notification.rule),
        custom_details,
    }
}
