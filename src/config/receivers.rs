//! Receivers: where notifications go, one struct a kind. Their checks are in `receiver_checks`, what they send in
//! `dispatch`. To add a kind: a struct here, its field in `Receiver` and its arm in `ReceiverKind`; the compiler names
//! the rest.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::units::Span;

/// Exactly one kind, and how it is treated.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Receiver {
    /// Mail, by the `smtp` server of the service file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<EmailReceiver>,
    /// A POST, signed as Standard Webhooks says, or of JSON of your own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookReceiver>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slack: Option<SlackReceiver>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teams: Option<TeamsReceiver>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pagerduty: Option<PagerDutyReceiver>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alertmanager: Option<AlertmanagerReceiver>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaReceiver>,
    /// Name of the receiver that is told instead, once this one could not be told for `dispatch.expire_after` or refuses
    /// for good; it also hears that this one does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// Messages beyond this wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
}

/// At most `max` messages in any stretch of `per`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Most messages.
    pub max: u32,
    /// In any stretch of this length.
    pub per: Span,
}

/// What a receiver is, once it is known to be one thing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ReceiverKind<'a> {
    Email(&'a EmailReceiver),
    Webhook(&'a WebhookReceiver),
    Slack(&'a SlackReceiver),
    Teams(&'a TeamsReceiver),
    PagerDuty(&'a PagerDutyReceiver),
    Alertmanager(&'a AlertmanagerReceiver),
    Kafka(&'a KafkaReceiver),
}

impl Receiver {
    /// Its keys, for messages.
    pub const KINDS: &'static str = "`email`, `webhook`, `slack`, `teams`, `pagerduty`, `alertmanager` and `kafka`";

    /// Every kind that is given; a right receiver has one.
    pub fn kinds(&self) -> Vec<ReceiverKind<'_>> {
        let kinds = [
            self.email.as_ref().map(ReceiverKind::Email),
            self.webhook.as_ref().map(ReceiverKind::Webhook),
            self.slack.as_ref().map(ReceiverKind::Slack),
            self.teams.as_ref().map(ReceiverKind::Teams),
            self.pagerduty.as_ref().map(ReceiverKind::PagerDuty),
            self.alertmanager.as_ref().map(ReceiverKind::Alertmanager),
            self.kafka.as_ref().map(ReceiverKind::Kafka),
        ];
        kinds.into_iter().flatten().collect()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmailReceiver {
    /// Addresses.
    pub to: Vec<String>,
    /// What goes with the text; default: a chart of what drifted.
    #[serde(default)]
    pub attach: Attachment,
}

/// What goes with an e-mail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Attachment {
    /// A picture within the text.
    #[default]
    Chart,
    None,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookReceiver {
    /// `{placeholders}` of a notification may stand in its path and query.
    pub url: TextOrSecret,
    /// Standard Webhooks secrets (`whsec_...`); two while rotating, each signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_secret: Option<Secret>,
    /// Further headers by their names; one that lets in is `{env: NAME}` or `{file: PATH}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, TextOrSecret>,
    /// What is sent, for a service that wants JSON of its own: any value, with `{placeholders}` of a notification in its
    /// texts. Default: the document of `schemas/webhook-notification.schema.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// Where the end of an alert goes and what it says, if that is not as for its beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<WebhookResolved>,
    /// Allow loopback, private and link-local addresses.
    #[serde(default)]
    pub allow_private: bool,
    /// Longest time that an attempt may take; default: 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

/// How a webhook tells the end of an alert; what is not given is as for its beginning.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookResolved {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<TextOrSecret>,
    /// What is sent at the end; default: as at the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
}

/// A Slack channel, by an incoming webhook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlackReceiver {
    /// The incoming webhook's URL. Who has it can post, so it is a secret as a whole.
    pub url: Secret,
    /// Allow loopback, private and link-local addresses.
    #[serde(default)]
    pub allow_private: bool,
    /// Longest time that an attempt may take; default: 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

/// A Microsoft Teams channel or chat, by a workflow that starts when a Teams webhook request is received.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TeamsReceiver {
    /// The workflow's URL. It is signed (`sig=`), so it is a secret as a whole.
    pub url: Secret,
    /// Allow loopback, private and link-local addresses.
    #[serde(default)]
    pub allow_private: bool,
    /// Longest time that an attempt may take; default: 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

/// A PagerDuty service, by Events API v2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PagerDutyReceiver {
    /// The service's integration key.
    pub routing_key: Secret,
    /// Default: `https://events.pagerduty.com/v2/enqueue`; `https://events.eu.pagerduty.com/v2/enqueue` in the EU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<TextOrSecret>,
    /// What PagerDuty calls a severity of Driftline.
    #[serde(default)]
    pub severity: PagerDutySeverities,
    /// Allow loopback, private and link-local addresses.
    #[serde(default)]
    pub allow_private: bool,
    /// Longest time that an attempt may take; default: 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PagerDutySeverities {
    pub warn: PagerDutySeverity,
    pub critical: PagerDutySeverity,
}

impl Default for PagerDutySeverities {
    fn default() -> Self {
        Self { warn: PagerDutySeverity::Warning, critical: PagerDutySeverity::Critical }
    }
}

/// The severities of the PagerDuty Common Event Format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PagerDutySeverity {
    Info,
    Warning,
    Error,
    Critical,
}

/// Alertmanager, by its API v2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertmanagerReceiver {
    /// Every member of the cluster, up to the path: `https://alertmanager.example.com:9093`.
    pub urls: Vec<TextOrSecret>,
    /// The header `Authorization`, whole: `Basic ...` or `Bearer ...`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Secret>,
    /// Labels of every alert beside its own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// When an alert is over that was never told to be.
    #[serde(default = "default_ends_after")]
    pub ends_after: Span,
    /// Allow loopback, private and link-local addresses.
    #[serde(default)]
    pub allow_private: bool,
    /// Longest time that an attempt may take; default: 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

fn default_ends_after() -> Span {
    Span::from_days(30)
}

impl AlertmanagerReceiver {
    /// Labels that an alert has of its own.
    pub const OWN_LABELS: [&'static str; 6] = ["alertname", "model", "severity", "episode", "segment", "feature"];
}

/// A topic of the cluster that Driftline runs on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaReceiver {
    /// It must exist, and be none of Driftline's own.
    pub topic: String,
    /// How the record is written.
    #[serde(default)]
    pub format: KafkaFormat,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KafkaFormat {
    /// CloudEvents 1.0, structured mode, JSON.
    #[default]
    Cloudevents,
}

/// A plain value, or where to read it from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TextOrSecret {
    Text(String),
    Secret(Secret),
}

/// `{env: NAME}` or `{file: PATH}`; never the value itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Secret {
    /// Name of an environment variable that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// Path of a file that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}
