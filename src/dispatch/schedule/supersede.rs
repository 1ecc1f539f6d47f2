//! One message instead of several: what a later notification of the episode says as well is not sent by itself.

use super::lines::Line;
use super::{Effect, Schedule};
use crate::dispatch::delivery::{DeliveryKey, DeliveryStatus};
use crate::dispatch::receiver::Telling;
use crate::rules::episode::EpisodeStatus;

impl Schedule {
    /// To be called when a line has a new last one, or its first is back.
    pub(super) fn tidy(&mut self, line: &Line, now_ms: i64) -> Vec<Effect> {
        let mut effects = self.pass_over(line, now_ms);
        effects.extend(self.tell_the_end_alone(line, now_ms));
        effects
    }

    /// The line without what is on its way.
    fn at_rest(&self, line: &Line) -> Vec<DeliveryKey> {
        let mut keys = self.lines.of_line(line);
        keys.retain(|key| !self.lines.is_in_flight(key) && !self.digests.is_on_its_way(key));
        keys
    }

    /// Reminders before news, what was collected before news that go at once, and what a silence holds back before news
    /// that it does not (a silence of `warn` is no silence of what has become `critical` since).
    fn pass_over(&mut self, line: &Line, now_ms: i64) -> Vec<Effect> {
        let keys = self.at_rest(line);
        let of = |key: &DeliveryKey| self.lines.get(key);
        let last_news = keys.iter().rposition(|key| of(key).is_some_and(|entry| entry.is_news()));
        let Some(last_news) = last_news else { return Vec::new() };
        let is_at_once = |key: &DeliveryKey| of(key).is_some_and(|entry| entry.is_news() && entry.digest.is_none());
        let last_at_once = keys.iter().rposition(is_at_once).unwrap_or(0);
        let is_heard = |key: &DeliveryKey| {
            of(key).is_some_and(|entry| {
                entry.is_news()
                    && entry.notification.status == EpisodeStatus::Firing
                    && self.control.silenced_by(&entry.notification, now_ms).is_none()
            })
        };
        let last_heard = keys.iter().rposition(is_heard).unwrap_or(0);
        let passed = keys.iter().enumerate().filter(|(place, key)| {
            let Some(entry) = of(key) else { return false };
            let is_held = entry.is_news() && entry.held_by.is_some() && entry.attempts == 0;
            (*place < last_news && entry.is_reminder())
                || (*place < last_at_once && entry.digest.is_some())
                || (*place < last_heard && is_held)
        });
        let passed: Vec<DeliveryKey> = passed.map(|(_, key)| key.clone()).collect();
        let newer = keys.get(last_news).map(|key| key.notification_id.clone()).unwrap_or_default();
        let reason = format!("`{newer}` says it too");
        passed.iter().filter_map(|key| self.supersede(key, &reason, now_ms)).collect()
    }

    /// The end of an episode behind notifications that could not be delivered, or that a silence held back.
    fn tell_the_end_alone(&mut self, line: &Line, now_ms: i64) -> Vec<Effect> {
        let keys = self.at_rest(line);
        let is_end = |key: &DeliveryKey| {
            self.lines
                .get(key)
                .is_some_and(|entry| entry.is_news() && entry.notification.status == EpisodeStatus::Resolved)
        };
        let Some(place) = keys.iter().rposition(is_end).filter(|place| *place > 0) else { return Vec::new() };
        let (earlier, end) = (&keys[..place], &keys[place]);
        let entries: Vec<_> = earlier.iter().filter_map(|key| self.lines.get(key)).collect();
        if !entries.iter().all(|entry| entry.is_news()) {
            return Vec::new(); // somebody asked for one of them
        }
        let was_tried = entries.iter().any(|entry| entry.attempts > 0);
        let held_by = entries.iter().find_map(|entry| entry.held_by.clone());
        let next_attempt_ms = match held_by {
            Some(_) => now_ms,
            None => entries.first().map_or(now_ms, |entry| entry.next_attempt_ms),
        };
        let first_at_ms = entries.first().map_or(now_ms, |entry| entry.notification.at_ms);
        let is_collected = self.lines.get(end).is_some_and(|entry| entry.digest.is_some());
        let takes_it = self.policy.receiver(&line.1).is_none_or(|policy| policy.takes_an_end_alone);
        match (was_tried, held_by) {
            (true, _) if takes_it && !is_collected => {
                let telling = Telling::InPlaceOf {
                    notifications: earlier.iter().map(|key| key.notification_id.clone()).collect(),
                    first_at_ms,
                };
                let reason = format!("could not be delivered before it ended; `{}` says both", end.notification_id);
                let mut effects: Vec<Effect> =
                    earlier.iter().filter_map(|key| self.supersede(key, &reason, now_ms)).collect();
                let entry = self.lines.update(end, |entry| {
                    entry.telling = telling;
                    entry.next_attempt_ms = next_attempt_ms;
                });
                effects.extend(entry.map(|entry| entry.record(end, DeliveryStatus::Pending, now_ms)));
                effects
            }
            (false, Some(silence)) => {
                let reason = format!("ended while silence `{silence}` held it back");
                // What is on its way may arrive: then its end is owed.
                let on_its_way = self.lines.of_line(line).len() > keys.len();
                let mut effects: Vec<Effect> =
                    earlier.iter().filter_map(|key| self.supersede(key, &reason, now_ms)).collect();
                if !self.told.contains(line) && !on_its_way {
                    effects.extend(self.supersede(end, &reason, now_ms));
                }
                effects
            }
            _ => Vec::new(),
        }
    }
}
