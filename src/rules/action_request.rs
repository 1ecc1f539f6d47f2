//! What a firing episode asks to have done: a record of the `outbox` topic beside the notifications, keyed by
//! `episode_id` like them. It comes when the episode begins to ask, and again with every window in which it still fires,
//! so that an action whose guard did not hold can go ahead once it does.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::episode::Notification;
use crate::config::rules::Severity;
use crate::windows::result::{Segment, Window};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActionRequest {
    /// Name of the action. The outbox tells its records apart by this key, which notifications do not have.
    pub action: String,
    pub episode_id: String,
    pub rule: String,
    pub model: String,
    pub version: String,
    #[serde(default, skip_serializing_if = "Segment::is_all")]
    pub segment: Segment,
    pub severity: Severity,
    /// The notification's line.
    pub summary: String,
    /// First breaching window, and the one that this record comes from.
    pub first_window: Window,
    pub window: Window,
    pub reference: String,
    pub reference_id: String,
    pub facts: ActionFacts,
    /// Wall clock of the log when the window closed, epoch milliseconds.
    pub at_ms: i64,
}

/// What guards are asked about, as it stood when `window` closed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ActionFacts {
    /// Events of the model, all versions, in closed windows of its own size, by the UTC day of the window's start
    /// (days since 1970-01-01); the last 90 days.
    pub rows_by_day: Vec<(i64, u64)>,
    /// Predictions that can be met by a label, and those whose label is known, likewise; empty without labels.
    pub labels_by_day: Vec<(i64, u64, u64)>,
    /// Rules that fire for the model.
    pub firing: BTreeSet<String>,
    /// Where the source partitions stood when each day's first window of the model's own size closed, and now (the last entry):
    /// offsets of the next record to be read. What was read between two of them holds the events of the time between,
    /// and late ones of before.
    pub positions_by_day: Vec<Positions>,
}

/// Source partitions at one instant.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Positions {
    /// End of the window that had closed, epoch milliseconds.
    pub window_end_ms: i64,
    /// Topic, partition, offset of the next record to be read.
    pub next_offsets: Vec<(String, i32, i64)>,
}

/// A record of the `outbox` topic.
#[derive(Debug, Clone, PartialEq)]
pub enum OutboxRecord {
    Notification(Box<Notification>),
    ActionRequest(Box<ActionRequest>),
}

impl OutboxRecord {
    pub fn decode(value: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Peek {
            action: Option<serde::de::IgnoredAny>,
        }
        let peek: Peek = serde_json::from_slice(value)?;
        Ok(match peek.action {
            Some(_) => OutboxRecord::ActionRequest(Box::new(serde_json::from_slice(value)?)),
            None => OutboxRecord::Notification(Box::new(serde_json::from_slice(value)?)),
        })
    }
}
