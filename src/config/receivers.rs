//! Receivers: where notifications go, one struct a kind. Their checks are in `receiver_checks`, what they send in
//! `dispatch`. To add a kind: a struct here, its field in `Receiver` and its arm in `ReceiverKind`; the compiler names
//! the rest.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::Span;

/// Exactly one kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Receiver {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<EmailReceiver>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookReceiver>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slack: Option<SlackReceiver>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teams: Option<TeamsReceiver>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pagerduty: Option<PagerDutyReceiver>,
}

/// What a receiver is, once it is known to be one thing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ReceiverKind<'a> {
    Email(&'a EmailReceiver),
    Webhook(&'a WebhookReceiver),
    Slack(&'a SlackReceiver),
    Teams(&'a TeamsReceiver),
    PagerDuty(&'a PagerDutyReceiver),
}

impl Receiver {
    /// Its keys, for messages.
    pub const KINDS: &'static str = "`email`, `webhook`, `slack`, `teams` and `pagerduty`";

    /// Every kind that is given; a right receiver has one.
    pub fn kinds(&self) -> Vec<ReceiverKind<'_>> {
        let kinds = [
            self.email.as_ref().map(ReceiverKind::Email),
            self.webhook.as_ref().map(ReceiverKind::Webhook),
            self.slack.as_ref().map(ReceiverKind::Slack),
            self.teams.as_ref().map(ReceiverKind::Teams),
            self.pagerduty.as_ref().map(ReceiverKind::PagerDuty),
        ];
        kinds.into_iter().flatten().collect()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmailReceiver {
    pub to: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookReceiver {
    pub url: TextOrSecret,
    /// Standard Webhooks secrets (`whsec_...`); two while rotating, each signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_secret: Option<Secret>,
    /// Allow loopback, private and link-local addresses.
    #[serde(default)]
    pub allow_private: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}
