//! A notification comes in.

use std::sync::Arc;

use super::entry::Entry;
use super::lines::line_of;
use super::{Effect, Schedule};
use crate::dispatch::delivery::{DeliveryKey, DeliveryStatus};
use crate::dispatch::receiver::Telling;
use crate::rules::episode::Notification;

impl Schedule {
    pub(super) fn accept(&mut self, notification: &Arc<Notification>, partition: i32, now_ms: i64) -> Vec<Effect> {
        let mut effects = Vec::new();
        for receiver in &notification.receivers {
            let key = DeliveryKey { notification_id: notification.id.clone(), receiver: receiver.clone() };
            if self.is_known(&key) {
                continue;
            }
            let mut entry = Entry::new(notification.clone(), partition, Telling::News, now_ms);
            if self.policy.receiver(receiver).is_none() {
                entry.last_error = Some(stranger(receiver));
                effects.push(entry.record(&key, DeliveryStatus::Failed, now_ms));
                self.finished.insert(key.clone(), entry.done(DeliveryStatus::Failed, now_ms));
                effects.extend(self.fall_back(&key, &entry, now_ms));
                continue;
            }
            if let Some(period) = self.policy.told(notification, receiver).digest {
                entry.digest = Some(super::digests::next_place(now_ms, period.ms));
            }
            if let Some(digest) = &entry.digest {
                entry.next_attempt_ms = digest.until_ms;
                entry.held_by = self.control.silenced_by(notification, now_ms).map(|silence| silence.id.clone());
            }
            effects.push(entry.record(&key, DeliveryStatus::Pending, now_ms));
            effects.extend(self.take_up(key, entry, now_ms));
        }
        effects
    }

    pub(super) fn is_known(&self, key: &DeliveryKey) -> bool {
        self.lines.get(key).is_some() || self.finished.contains(key)
    }

    /// A recorded delivery takes its place; what it makes needless goes.
    pub(super) fn take_up(&mut self, key: DeliveryKey, entry: Entry, now_ms: i64) -> Vec<Effect> {
        let line = line_of(&key, &entry);
        self.digests.collect(&key, &entry);
        self.lines.insert(key, entry);
        let mut effects = self.hold(&line, now_ms);
        effects.extend(self.tidy(&line, now_ms));
        effects
    }
}

pub(super) fn stranger(receiver: &str) -> String {
    format!("receiver `{receiver}` is not configured")
}
