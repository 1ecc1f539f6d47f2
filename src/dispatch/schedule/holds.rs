//! Silences of people, asked of the clock: what matches is held back until the silence ends.
//!
//! Then what still fires is told. What ended meanwhile is not told at all, unless its beginning was: who was told of the
//! beginning is told of the end, silenced or not; `owed` if it is told later.

use super::lines::Line;
use super::{Effect, Schedule};
use crate::dispatch::delivery::{DeliveryKey, DeliveryStatus};
use crate::dispatch::receiver::Telling;
use crate::rules::episode::EpisodeStatus;

impl Schedule {
    /// Holds back what is due and silenced.
    pub(super) fn hold_due(&mut self, now_ms: i64) -> Vec<Effect> {
        if !self.control.silences().any(|silence| silence.holds(now_ms)) {
            return Vec::new();
        }
        let free = self.lines.due().filter(|(receiver, at_ms)| {
            *at_ms <= now_ms && self.free_at_ms(receiver).is_some_and(|free_ms| free_ms <= now_ms)
        });
        let receivers: Vec<String> = free.map(|(receiver, _)| receiver.to_string()).collect();
        let mut effects = Vec::new();
        for receiver in receivers {
            let due: Vec<Line> = self.lines.due_of(&receiver, now_ms).map(|(_, line)| line).collect();
            for line in due {
                effects.extend(self.hold(&line, now_ms));
            }
        }
        effects
    }

    /// Holds the first of a line back if it is silenced.
    pub(super) fn hold(&mut self, line: &Line, now_ms: i64) -> Vec<Effect> {
        let Some((key, entry)) = self.lines.first(line) else { return Vec::new() };
        let silenceable = match entry.telling {
            Telling::News | Telling::InPlaceOf { .. } | Telling::Reminder { .. } | Telling::Fallback { .. } => true,
            Telling::Redelivery | Telling::ReceiverHealth { .. } | Telling::Heartbeat { .. } => false,
        };
        let is_asked_for = !entry.commands.is_empty(); // by a person, silence or not
        if !silenceable || is_asked_for || entry.digest.is_some() || self.lines.is_in_flight(key) {
            return Vec::new();
        }
        let Some(silence) = self.control.silenced_by(&entry.notification, now_ms) else { return Vec::new() };
        let (silence, until_ms) = (silence.id.clone(), silence.until_ms);
        let key: DeliveryKey = key.clone();
        if entry.notification.status == EpisodeStatus::Resolved {
            let was_tried = entry.attempts > 0 || entry.telling != Telling::News;
            if was_tried || self.told.contains(line) {
                return Vec::new();
            }
            let reason = format!("ended while silence `{silence}` held it back; its beginning was not told");
            return self.supersede(&key, &reason, now_ms).into_iter().collect();
        }
        if entry.held_by.as_ref() == Some(&silence) && entry.next_attempt_ms == until_ms {
            return Vec::new();
        }
        let entry = self.lines.update(&key, |entry| {
            entry.held_by = Some(silence);
            entry.next_attempt_ms = until_ms;
        });
        entry.map(|entry| entry.record(&key, DeliveryStatus::Pending, now_ms)).into_iter().collect()
    }

    /// After a change of silences: what is no longer held back is due now.
    pub(super) fn release_held(&mut self, now_ms: i64) {
        let held = self.lines.entries().filter(|(_, entry)| entry.held_by.is_some() && entry.digest.is_none());
        let released: Vec<DeliveryKey> = held
            .filter(|(_, entry)| self.control.silenced_by(&entry.notification, now_ms).is_none())
            .map(|(key, _)| key.clone())
            .collect();
        for key in released {
            self.lines.update(&key, |entry| entry.next_attempt_ms = now_ms);
        }
        self.plan_reminders();
    }
}
