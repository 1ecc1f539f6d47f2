//! One notification on its way to one receiver, as it stands in the compacted `deliveries` topic.

use serde::{Deserialize, Serialize};

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
    /// Not yet accepted by the receiver; it will be tried (again).
    Pending,
    /// The receiver has accepted it.
    Delivered,
    /// The receiver refused it for good, or is configured wrongly.
    Failed,
    /// The receiver could not take it for longer than `dispatch.expire_after`.
    Expired,
    /// Put aside by an operator's tool. The schedule never does this by itself: an alert that fired and resolved
    /// during an outage is told in full.
    Superseded,
}

impl DeliveryStatus {
    pub fn is_final(self) -> bool {
        self != DeliveryStatus::Pending
    }
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
    /// Why the last attempt did not succeed, or what a successful one remarked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When it will be tried next; absent once the status is final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_at_ms: Option<i64>,
}

impl DeliveryRecord {
    pub fn key(&self) -> DeliveryKey {
        DeliveryKey { notification_id: self.notification.id.clone(), receiver: self.receiver.clone() }
    }
}
