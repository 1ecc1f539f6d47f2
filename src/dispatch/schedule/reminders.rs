//! Who was told that an episode fires, and reminders of routes with `repeat`: while it fires, unless somebody has
//! acknowledged it or a silence matches, and never after its end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::entry::Entry;
use super::lines::{Line, line_of};
use super::policy::Policy;
use super::{Effect, Schedule};
use crate::dispatch::delivery::{DeliveryKey, DeliveryStatus};
use crate::dispatch::receiver::Telling;
use crate::rules::episode::{EpisodeStatus, Notification};

/// An episode that a receiver knows to be firing.
#[derive(Debug, Clone)]
pub(super) struct Open {
    /// What it was told last.
    notification: Arc<Notification>,
    partition: i32,
    told_at_ms: i64,
    /// Reminders so far.
    reminders: u32,
    /// Whose record says so.
    key: DeliveryKey,
}

#[derive(Debug, Default)]
pub(super) struct Told {
    open: BTreeMap<Line, Open>,
    due: BTreeMap<Line, i64>,
    by_time: BTreeSet<(i64, Line)>,
    keys: BTreeSet<DeliveryKey>,
}

impl Told {
    pub fn contains(&self, line: &Line) -> bool {
        self.open.contains_key(line)
    }

    pub fn next_reminder_ms(&self) -> Option<i64> {
        self.by_time.first().map(|(at_ms, _)| *at_ms)
    }

    /// Whether a restart needs this record to know what is open. Where the rule is gone nobody will tell the end.
    pub fn is_record_of_open(&self, key: &DeliveryKey, policy: &Policy) -> bool {
        self.keys.contains(key)
            && self.open.values().any(|open| open.key == *key && policy.is_watched(&open.notification))
    }

    /// Told at `at_ms`, by the delivery `key`.
    pub fn tell(&mut self, key: &DeliveryKey, entry: &Entry, at_ms: i64) {
        let line = line_of(key, entry);
        let number = match entry.telling {
            Telling::Reminder { number } => number,
            _ => 0,
        };
        let known = self.open.remove(&line);
        if let Some(known) = &known {
            let is_newer = (entry.notification.sequence, number) >= (known.notification.sequence, known.reminders);
            if !is_newer && known.told_at_ms > at_ms {
                self.open.insert(line, known.clone());
                return;
            }
            self.keys.remove(&known.key);
        }
        let open = Open {
            notification: entry.notification.clone(),
            partition: entry.partition,
            told_at_ms: at_ms,
            reminders: number.max(known.map_or(0, |known| known.reminders)),
            key: key.clone(),
        };
        self.keys.insert(key.clone());
        self.open.insert(line, open);
    }

    pub fn end(&mut self, line: &Line) {
        self.plan(line, None);
        if let Some(open) = self.open.remove(line) {
            self.keys.remove(&open.key);
        }
    }

    pub fn sequence(&self, line: &Line) -> Option<u32> {
        self.open.get(line).map(|open| open.notification.sequence)
    }

    fn plan(&mut self, line: &Line, at_ms: Option<i64>) {
        if let Some(before_ms) = self.due.remove(line) {
            self.by_time.remove(&(before_ms, line.clone()));
        }
        if let Some(at_ms) = at_ms {
            self.due.insert(line.clone(), at_ms);
            self.by_time.insert((at_ms, line.clone()));
        }
    }

    pub fn drop_partitions(&mut self, is_lost: impl Fn(i32) -> bool) {
        let lost: Vec<Line> =
            self.open.iter().filter(|(_, open)| is_lost(open.partition)).map(|(line, _)| line.clone()).collect();
        lost.iter().for_each(|line| self.end(line));
    }
}

/// The news again, under the reminder's own id, for this receiver alone.
fn reminder_of(notification: &Notification, number: u32, receiver: &str) -> Notification {
    Notification {
        id: format!("{}-r{number}", notification.episode_id),
        receivers: vec![receiver.to_string()],
        ..notification.clone()
    }
}

impl Schedule {
    /// A delivery has ended: what its receiver knows now.
    pub(super) fn note_told(&mut self, key: &DeliveryKey, entry: &Entry, status: DeliveryStatus, now_ms: i64) {
        if matches!(entry.telling, Telling::ReceiverHealth { .. } | Telling::Heartbeat { .. }) {
            return;
        }
        let line = line_of(key, entry);
        let redelivered = entry.telling == Telling::Redelivery;
        match entry.notification.status {
            EpisodeStatus::Resolved => self.told.end(&line),
            // What was sent again at somebody's command is news to the receiver unless the end has been before it.
            EpisodeStatus::Firing
                if status == DeliveryStatus::Delivered
                    && !(redelivered && self.finished.has_end(&line.0, &key.receiver)) =>
            {
                self.told.tell(key, entry, now_ms);
            }
            _ => {}
        }
        if let (Telling::Reminder { number }, Some(open)) = (&entry.telling, self.told.open.get_mut(&line)) {
            open.reminders = open.reminders.max(*number);
            open.told_at_ms = now_ms; // delivered or not: the next one comes in its own time
        }
        self.plan_reminder(&line);
    }

    /// After a change of acknowledgements or silences.
    pub(super) fn plan_reminders(&mut self) {
        let lines: Vec<Line> = self.told.open.keys().cloned().collect();
        lines.iter().for_each(|line| self.plan_reminder(line));
    }

    pub(super) fn plan_reminder(&mut self, line: &Line) {
        let at_ms = self.told.open.get(line).and_then(|open| {
            let repeat = self.policy.told(&open.notification, &line.1).repeat?;
            let tells = self.policy.receiver(&line.1).is_some() && self.policy.is_watched(&open.notification);
            let is_quiet = self.lines.is_empty(line);
            (tells && is_quiet).then(|| open.told_at_ms.saturating_add(repeat.ms.max(1)))
        });
        self.told.plan(line, at_ms);
    }

    pub(super) fn remind(&mut self, now_ms: i64) -> Vec<Effect> {
        let mut effects = Vec::new();
        while let Some((at_ms, line)) = self.told.by_time.first().cloned() {
            if at_ms > now_ms {
                break;
            }
            self.told.plan(&line, None);
            let Some(open) = self.told.open.get(&line).cloned() else { continue };
            if !self.lines.is_empty(&line) {
                continue; // planned again when that has ended
            }
            if let Some(acknowledged) = self.control.acknowledged(&open.notification.episode_id, now_ms) {
                let until_ms = acknowledged.until_ms;
                self.told.plan(&line, until_ms);
                continue;
            }
            if let Some(silence) = self.control.silenced_by(&open.notification, now_ms) {
                let until_ms = silence.until_ms;
                self.told.plan(&line, Some(until_ms));
                continue;
            }
            let number = open.reminders.saturating_add(1);
            let reminder = Arc::new(reminder_of(&open.notification, number, &line.1));
            let key = DeliveryKey { notification_id: reminder.id.clone(), receiver: line.1.clone() };
            let entry = Entry::new(reminder, open.partition, Telling::Reminder { number }, now_ms);
            effects.push(entry.record(&key, DeliveryStatus::Pending, now_ms));
            effects.extend(self.take_up(key, entry, now_ms));
        }
        effects
    }
}
