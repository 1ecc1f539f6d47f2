//! A delivery that is not finished, and its record.

use std::sync::Arc;

use super::Effect;
use super::finished::Done;
use crate::dispatch::delivery::{DeliveryKey, DeliveryRecord, DeliveryStatus, DigestPlace};
use crate::dispatch::receiver::Telling;
use crate::rules::episode::{EpisodeStatus, Notification};

/// Longest error text kept in a record, in characters.
const MAX_ERROR_CHARS: usize = 500;

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub notification: Arc<Notification>,
    pub partition: i32,
    pub telling: Telling,
    pub attempts: u32,
    pub first_at_ms: i64,
    pub next_attempt_ms: i64,
    pub last_error: Option<String>,
    pub held_by: Option<String>,
    pub released_at_ms: Option<i64>,
    pub digest: Option<DigestPlace>,
    pub commands: Vec<String>,
}

impl Entry {
    pub fn new(notification: Arc<Notification>, partition: i32, telling: Telling, now_ms: i64) -> Self {
        Self {
            notification,
            partition,
            telling,
            attempts: 0,
            first_at_ms: now_ms,
            next_attempt_ms: now_ms,
            last_error: None,
            held_by: None,
            released_at_ms: None,
            digest: None,
            commands: Vec::new(),
        }
    }

    pub fn restored(record: DeliveryRecord, partition: i32) -> Self {
        Self {
            partition,
            telling: record.telling,
            attempts: record.attempts,
            first_at_ms: record.first_at_ms,
            // Whether it is still held back is asked anew.
            next_attempt_ms: match record.held_by {
                Some(_) => record.first_at_ms,
                None => record.next_attempt_ms.unwrap_or(record.first_at_ms),
            },
            last_error: record.last_error,
            held_by: record.held_by,
            released_at_ms: record.released_at_ms,
            digest: record.digest,
            commands: record.commands,
            notification: Arc::new(record.notification),
        }
    }

    /// When it is given up if nothing gets through.
    pub fn expires_at_ms(&self, expire_after_ms: i64) -> i64 {
        let since_ms = self.released_at_ms.unwrap_or(self.first_at_ms).max(self.first_at_ms);
        let since_ms = self.digest.as_ref().map_or(since_ms, |digest| since_ms.max(digest.until_ms));
        since_ms.saturating_add(expire_after_ms)
    }

    pub fn is_news(&self) -> bool {
        matches!(self.telling, Telling::News | Telling::InPlaceOf { .. })
    }

    pub fn is_end(&self) -> bool {
        self.notification.status == EpisodeStatus::Resolved
    }

    pub fn is_reminder(&self) -> bool {
        matches!(self.telling, Telling::Reminder { .. })
    }

    /// Held back or collected: it waits for something other than its receiver.
    pub fn is_resting(&self) -> bool {
        self.held_by.is_some() || self.digest.as_ref().is_some_and(|digest| digest.id.is_none())
    }

    /// What is remembered of it once it has this final status.
    pub fn done(&self, status: DeliveryStatus, at_ms: i64) -> Done {
        let is_passed_over = status == DeliveryStatus::Superseded;
        Done { at_ms, partition: self.partition, is_end: self.is_end(), is_passed_over }
    }

    pub fn record(&self, key: &DeliveryKey, status: DeliveryStatus, now_ms: i64) -> Effect {
        let is_final = status.is_final();
        let record = DeliveryRecord {
            notification: (*self.notification).clone(),
            receiver: key.receiver.clone(),
            status,
            attempts: self.attempts,
            first_at_ms: self.first_at_ms,
            last_error: self.last_error.clone(),
            next_attempt_ms: (!is_final).then_some(self.next_attempt_ms),
            delivered_at_ms: (status == DeliveryStatus::Delivered).then_some(now_ms),
            finished_at_ms: is_final.then_some(now_ms),
            telling: self.telling.clone(),
            held_by: self.held_by.clone(),
            released_at_ms: self.released_at_ms,
            digest: self.digest.clone(),
            commands: self.commands.clone(),
        };
        Effect::Record { record: Box::new(record), partition: self.partition }
    }
}

pub(super) fn shorten(text: String) -> String {
    match text.char_indices().nth(MAX_ERROR_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
