//! The dead man's switch: a message at every full period, counted from 1970-01-01T00:00:00Z, as long as alerts would be
//! delivered. Whoever owns partition 0 sends it, and not while deliveries pile up so high that no more are read.

use std::sync::Arc;

use super::entry::Entry;
use super::health::own_notification;
use super::{Effect, Schedule};
use crate::config::rules::Severity;
use crate::dispatch::delivery::{DeliveryKey, DeliveryStatus};
use crate::dispatch::receiver::Telling;
use crate::rules::episode::Notification;

/// What stands where other notifications have the rule and the episode.
pub const HEARTBEAT_RULE: &str = "heartbeat";
/// Its records, whoever sends it.
const HOME: i32 = 0;

/// The last one of a receiver.
#[derive(Debug, Clone)]
pub(super) struct Beat {
    pub at_ms: i64,
    pub key: DeliveryKey,
}

fn beat_of(at_ms: i64, every_ms: i64, receiver: &str) -> Notification {
    let summary = "Driftline is alive and would deliver alerts".to_string();
    let id = format!("{HEARTBEAT_RULE}-{at_ms}");
    Notification {
        rule: HEARTBEAT_RULE.into(),
        severity: Severity::Warn,
        receivers: vec![receiver.to_string()],
        ..own_notification(id, HEARTBEAT_RULE.into(), summary, at_ms, at_ms.saturating_add(every_ms))
    }
}

impl Schedule {
    pub(super) fn next_beat_ms(&self) -> Option<i64> {
        let heartbeat = self.policy.heartbeat().filter(|_| self.owned.contains(&HOME) && !self.is_full())?;
        let next = |receiver: &String| {
            self.beats.get(receiver).map_or(i64::MIN, |beat| beat.at_ms.saturating_add(heartbeat.every.ms))
        };
        heartbeat.to.iter().filter(|receiver| self.policy.receiver(receiver).is_some()).map(next).min()
    }

    pub(super) fn beat(&mut self, now_ms: i64) -> Vec<Effect> {
        if self.next_beat_ms().is_none_or(|next_ms| next_ms > now_ms) {
            return Vec::new();
        }
        let Some(heartbeat) = self.policy.heartbeat().cloned() else { return Vec::new() };
        let every_ms = heartbeat.every.ms.max(1);
        let at_ms = now_ms.div_euclid(every_ms) * every_ms;
        let mut effects = Vec::new();
        for receiver in heartbeat.to {
            let last = self.beats.get(&receiver);
            if last.is_some_and(|beat| beat.at_ms >= at_ms) || self.policy.receiver(&receiver).is_none() {
                continue;
            }
            let last = last.map(|beat| beat.key.clone());
            if let Some(last) = last {
                if self.lines.is_in_flight(&last) {
                    continue; // its outcome comes first
                }
                effects.extend(self.supersede(&last, "the next heartbeat is due", now_ms));
                // Old ones are of no use to anybody.
                let partition = self.finished.remove(&last);
                effects.extend(partition.map(|partition| Effect::Forget { key: last, partition }));
            }
            let notification = Arc::new(beat_of(at_ms, every_ms, &receiver));
            let key = DeliveryKey { notification_id: notification.id.clone(), receiver: receiver.clone() };
            let entry = Entry::new(notification, HOME, Telling::Heartbeat { every_ms }, now_ms);
            effects.push(entry.record(&key, DeliveryStatus::Pending, now_ms));
            self.beats.insert(receiver, Beat { at_ms, key: key.clone() });
            effects.extend(self.take_up(key, entry, now_ms));
        }
        effects
    }
}
