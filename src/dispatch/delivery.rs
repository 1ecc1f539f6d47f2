//! One notification on its way to one receiver, as it stands in the compacted `deliveries` topic.

use serde::{Deserialize, Serialize};

use super::receiver::Telling;
use crate::rules::episode::Notification;

/// What a delivery is called everywhere: the record's key is `{notification_id}|{receiver}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryKey {
    pub notification_id: String,
    pub receiver: String,
}

impl std::fmt::Display for DeliveryKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}|{}", self.notification_id, self.receiver)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryStatus {
    /// Not yet accepted by the receiver; it will be tried (again), once it is no longer held back or collected.
    Pending,
    /// The receiver has accepted it.
    Delivered,
    /// The receiver refused it for good, or is not configured.
    Failed,
    /// The receiver could not take it for longer than `dispatch.expire_after`.
    Expired,
    /// Not sent by itself: a later notification of the episode says it too, or it ended while it was held back.
    /// `last_error` says which.
    Superseded,
}

impl DeliveryStatus {
    pub fn is_final(self) -> bool {
        self != DeliveryStatus::Pending
    }

    /// As in records and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            DeliveryStatus::Pending => "pending",
            DeliveryStatus::Delivered => "delivered",
            DeliveryStatus::Failed => "failed",
            DeliveryStatus::Expired => "expired",
            DeliveryStatus::Superseded => "superseded",
        }
    }
}

/// The digest that a delivery is collected for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestPlace {
    /// What it covers, [from, until), epoch milliseconds. It is sent at the end.
    pub from_ms: i64,
    pub until_ms: i64,
    /// Id and number of notifications, once nothing more is collected for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub size: usize,
}

fn is_zero(size: &usize) -> bool {
    *size == 0
}

/// One record of the `deliveries` topic. Times are epoch milliseconds of the dispatcher's wall clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeliveryRecord {
    pub notification: Notification,
    pub receiver: String,
    pub status: DeliveryStatus,
    /// Attempts whose outcome is known.
    pub attempts: u32,
    /// When the notification was first read from the outbox.
    pub first_at_ms: i64,
    /// Why the last attempt did not succeed, or what a successful one remarked; or why none was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When it will be tried next; absent once the status is final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_at_ms: Option<i64>,
    /// When the status became final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at_ms: Option<i64>,
    /// How it comes to be sent.
    #[serde(default, skip_serializing_if = "is_news")]
    pub telling: Telling,
    /// Id of the silence that holds it back until `next_attempt_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<String>,
    /// When it was no longer held back or collected: from then on its expiry counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_at_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<DigestPlace>,
    /// Ids of the commands to send it again that were obeyed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
}

fn is_news(telling: &Telling) -> bool {
    *telling == Telling::News
}

impl DeliveryRecord {
    pub fn key(&self) -> DeliveryKey {
        DeliveryKey { notification_id: self.notification.id.clone(), receiver: self.receiver.clone() }
    }
}
