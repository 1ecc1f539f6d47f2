//! The seam to the outside world: what a receiver can do, what an attempt answers, and building receivers from
//! the configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::alertmanager::AlertmanagerTransport;
use super::digest::Digest;
use super::email::EmailTransport;
use super::kafka::KafkaTransport;
use super::pagerduty::PagerDutyTransport;
use super::secret::SecretError;
use super::slack::SlackTransport;
use super::teams::TeamsTransport;
use super::telling::is_of_an_alert;
use super::webhook::WebhookTransport;
use crate::config::receivers::{Receiver, ReceiverKind};
use crate::config::service::Smtp;
use crate::log::Log;
use crate::log::topics::Topics;
use crate::rules::episode::Notification;

/// Receivers by the names that routes use.
pub type Receivers = BTreeMap<String, Box<dyn Transport>>;

/// How an attempt ended, by what happens next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Accepted. `remark`: what a person should know all the same, such as one refused address among several.
    Delivered { remark: Option<String> },
    /// Try again, at the earliest after `after_ms` if the receiver said so.
    Retry { reason: String, after_ms: Option<i64> },
    /// Trying again would not help.
    Permanent { reason: String },
}

impl Outcome {
    pub fn retry(reason: impl Into<String>) -> Self {
        Outcome::Retry { reason: reason.into(), after_ms: None }
    }

    pub fn permanent(reason: impl Into<String>) -> Self {
        Outcome::Permanent { reason: reason.into() }
    }

    /// The value of the metric label `outcome`.
    pub fn label(&self) -> &'static str {
        match self {
            Outcome::Delivered { .. } => "delivered",
            Outcome::Retry { .. } => "retry",
            Outcome::Permanent { .. } => "permanent",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryContext {
    /// What links start with, without a slash at the end.
    pub public_url: String,
    /// Counts from 1.
    pub attempt: u32,
    pub telling: Telling,
}

/// How a notification comes to be sent, for those who read it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "as")]
pub enum Telling {
    #[default]
    News,
    /// It still fires: the how-manieth reminder, from 1.
    Reminder { number: u32 },
    /// A person asked for it to be sent again.
    Redelivery,
    /// It stands for earlier ones of its episode that could not be delivered in time, oldest first: it fired and was
    /// resolved while the receiver could not be told. `first_at_ms`: when the first of them came about.
    InPlaceOf { notifications: Vec<String>, first_at_ms: i64 },
    /// `receiver` could not be told, for `reason`; this one is its `fallback`.
    Fallback { receiver: String, reason: String },
    /// Not about an alert: `receiver` does not answer, or answers again; this one is its `fallback`.
    ReceiverHealth { receiver: String },
    /// Not about an alert: the sign of life that comes every `every_ms` as long as alerts would.
    Heartbeat { every_ms: i64 },
}

impl DeliveryContext {
    /// The alert's own page; what is about Driftline itself has none, and gets the first one.
    pub fn episode_url(&self, notification: &Notification) -> String {
        let base = self.public_url.trim_end_matches('/');
        match is_of_an_alert(&self.telling) {
            true => format!("{base}/alerts/{}", notification.episode_id),
            false => format!("{base}/"),
        }
    }
}

/// One kind of receiver. `deliver` sends the notification once, with its id as idempotency key, within a bounded
/// time; it neither retries nor panics.
#[async_trait]
pub trait Transport: Send + Sync {
    async fn deliver(&self, notification: &Notification, context: &DeliveryContext) -> Outcome;

    /// Sends what was collected for a route with `digest` as one message, with the digest's id as idempotency key. Where
    /// the other side keeps alerts of its own, it gets each by itself.
    async fn deliver_digest(&self, digest: &Digest, context: &DeliveryContext) -> Outcome {
        for notification in &digest.notifications {
            match self.deliver(notification, context).await {
                Outcome::Delivered { .. } => {}
                failed => return failed,
            }
        }
        Outcome::Delivered { remark: None }
    }

    /// Whether the end of an alert means anything to the other side where its beginning was never told.
    fn takes_an_end_alone(&self) -> bool {
        true
    }
}

/// Why a receiver cannot be used as it is configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiverError {
    #[error("receiver `{receiver}`: {error}")]
    Secret { receiver: String, error: SecretError },
    #[error("receiver `{receiver}`: {reason}")]
    Invalid { receiver: String, reason: String },
}

/// What some kinds of receivers need of the service.
#[derive(Clone, Copy, Default)]
pub struct Means<'a> {
    pub smtp: Option<&'a Smtp>,
    /// The log that the service runs on, and the prefix of its own topics there.
    pub log: Option<(&'a Arc<dyn Log>, &'a str)>,
}

/// Every receiver, or everything that is wrong with them.
pub fn build_all(receivers: &BTreeMap<String, Receiver>, means: Means<'_>) -> Result<Receivers, Vec<ReceiverError>> {
    let mut built = Receivers::new();
    let mut errors = Vec::new();
    for (name, receiver) in receivers {
        match build(name, receiver, means) {
            Ok(transport) => {
                built.insert(name.clone(), transport);
            }
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(built) } else { Err(errors) }
}

/// Resolves the secrets of one receiver and checks what can be checked without connecting.
pub fn build(name: &str, receiver: &Receiver, means: Means<'_>) -> Result<Box<dyn Transport>, ReceiverError> {
    let invalid = |reason: String| ReceiverError::Invalid { receiver: name.to_string(), reason };
    match receiver.kinds().as_slice() {
        [ReceiverKind::Email(email)] => match means.smtp {
            Some(smtp) => Ok(Box::new(EmailTransport::new(name, email, smtp)?)),
            None => Err(invalid("e-mail needs `smtp` in the service file".into())),
        },
        [ReceiverKind::Webhook(webhook)] => Ok(Box::new(WebhookTransport::new(name, webhook)?)),
        [ReceiverKind::Slack(slack)] => Ok(Box::new(SlackTransport::new(name, slack)?)),
        [ReceiverKind::Teams(teams)] => Ok(Box::new(TeamsTransport::new(name, teams)?)),
        [ReceiverKind::PagerDuty(pagerduty)] => Ok(Box::new(PagerDutyTransport::new(name, pagerduty)?)),
        [ReceiverKind::Alertmanager(config)] => Ok(Box::new(AlertmanagerTransport::new(name, config)?)),
        [ReceiverKind::Kafka(kafka)] => {
            let Some((log, app)) = means.log else {
                return Err(invalid("a topic needs the log that the service runs on".into()));
            };
            let topic = &kafka.topic;
            if Topics::new(app).specs(1, 1).iter().any(|own| own.name == *topic) {
                return Err(invalid(format!("topic `{topic}` is Driftline's own; name another")));
            }
            Ok(Box::new(KafkaTransport::new(log.clone(), app, topic)))
        }
        _ => Err(invalid(format!("exactly one of {} is needed", Receiver::KINDS))),
    }
}
