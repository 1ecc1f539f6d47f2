//! Who is told instead, where a receiver refuses for good, does not answer in time, or is not configured any more.

use super::digests::at_once;
use super::entry::Entry;
use super::{Effect, Schedule};
use crate::dispatch::delivery::{DeliveryKey, DeliveryStatus};
use crate::dispatch::receiver::Telling;

impl Schedule {
    /// `entry` is given up at `key.receiver`.
    pub(super) fn fall_back(&mut self, key: &DeliveryKey, entry: &Entry, now_ms: i64) -> Vec<Effect> {
        if !matches!(entry.telling, Telling::News | Telling::InPlaceOf { .. } | Telling::Fallback { .. }) {
            return Vec::new();
        }
        let instead: Vec<String> = match self.policy.receiver(&key.receiver) {
            Some(policy) => policy.fallback.iter().cloned().collect(),
            // Removed from the rules files: whoever the routes lead to now.
            None => self.policy.routes_now(&entry.notification),
        };
        let mut effects = Vec::new();
        for receiver in instead {
            let other = DeliveryKey { notification_id: key.notification_id.clone(), receiver };
            if other.receiver == key.receiver
                || self.is_known(&other)
                || self.policy.receiver(&other.receiver).is_none()
            {
                continue;
            }
            let telling = Telling::Fallback {
                receiver: key.receiver.clone(),
                reason: entry.last_error.clone().unwrap_or_default(),
            };
            let mut fresh = Entry::new(entry.notification.clone(), entry.partition, telling, now_ms);
            // What was one message stays one.
            fresh.digest = entry.digest.as_ref().map(|digest| at_once(digest, now_ms));
            effects.push(fresh.record(&other, DeliveryStatus::Pending, now_ms));
            effects.extend(self.take_up(other, fresh, now_ms));
        }
        effects
    }
}
