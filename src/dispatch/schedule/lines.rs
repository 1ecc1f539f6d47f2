//! The order of deliveries: a line for each episode at each receiver, of which only the first is ever tried.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::Entry;
use crate::dispatch::delivery::DeliveryKey;

/// Where order is kept: one episode at one receiver.
pub(super) type Line = (String, String);

pub(super) fn line_of(key: &DeliveryKey, entry: &Entry) -> Line {
    (entry.notification.episode_id.clone(), key.receiver.clone())
}

#[derive(Debug, Default)]
pub(super) struct Lines {
    entries: BTreeMap<DeliveryKey, Entry>,
    /// By sequence number and id.
    order: BTreeMap<Line, BTreeMap<(u32, String), DeliveryKey>>,
    /// By receiver: lines whose first delivery is neither in flight nor collected, by when it may be tried.
    due: BTreeMap<String, BTreeSet<(i64, String)>>,
    in_flight: BTreeMap<Line, DeliveryKey>,
}

impl Lines {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub fn get(&self, key: &DeliveryKey) -> Option<&Entry> {
        self.entries.get(key)
    }

    pub fn entries(&self) -> impl Iterator<Item = (&DeliveryKey, &Entry)> {
        self.entries.iter()
    }

    /// The line's deliveries, first to last.
    pub fn of_line(&self, line: &Line) -> Vec<DeliveryKey> {
        self.order.get(line).map_or_else(Vec::new, |waiting| waiting.values().cloned().collect())
    }

    pub fn is_empty(&self, line: &Line) -> bool {
        !self.order.contains_key(line)
    }

    pub fn first(&self, line: &Line) -> Option<(&DeliveryKey, &Entry)> {
        let key = self.order.get(line)?.values().next()?;
        Some((key, self.entries.get(key)?))
    }

    /// Whether something before it in its line, other than a reminder, is in no digest.
    pub fn follows_one_alone(&self, key: &DeliveryKey) -> bool {
        self.before(key).any(|(_, earlier)| earlier.digest.is_none() && !earlier.is_reminder())
    }

    /// What was collected before it in its line, is not among `these` and in no sealed digest.
    pub fn collected_before(&self, key: &DeliveryKey, these: &[DeliveryKey]) -> Option<&Entry> {
        let is_collected = |entry: &Entry| entry.digest.as_ref().is_some_and(|place| place.id.is_none());
        let mut before = self.before(key).filter(|(other, earlier)| is_collected(earlier) && !these.contains(other));
        before.next().map(|(_, earlier)| earlier)
    }

    /// Whether `is` holds for everything before it in its line.
    pub fn all_before(&self, key: &DeliveryKey, is: impl Fn(&DeliveryKey, &Entry) -> bool) -> bool {
        self.before(key).all(|(other, earlier)| is(other, earlier))
    }

    fn before(&self, key: &DeliveryKey) -> impl Iterator<Item = (&DeliveryKey, &Entry)> {
        let line = self.entries.get(key).and_then(|entry| self.order.get(&line_of(key, entry)));
        let earlier = line.into_iter().flat_map(BTreeMap::values).take_while(move |other| *other != key);
        earlier.filter_map(|other| Some((other, self.entries.get(other)?)))
    }

    pub fn is_in_flight(&self, key: &DeliveryKey) -> bool {
        self.entries.get(key).is_some_and(|entry| self.in_flight.get(&line_of(key, entry)) == Some(key))
    }

    pub fn insert(&mut self, key: DeliveryKey, entry: Entry) {
        let line = line_of(&key, &entry);
        self.dequeue(&line);
        let place = (entry.notification.sequence, key.notification_id.clone());
        self.order.entry(line.clone()).or_default().insert(place, key.clone());
        self.entries.insert(key, entry);
        self.enqueue(&line);
    }

    /// Takes a delivery out, in flight or not.
    pub fn remove(&mut self, key: &DeliveryKey) -> Option<Entry> {
        let entry = self.entries.get(key)?;
        let line = line_of(key, entry);
        let place = (entry.notification.sequence, key.notification_id.clone());
        self.dequeue(&line);
        if self.in_flight.get(&line) == Some(key) {
            self.in_flight.remove(&line);
        }
        let entry = self.entries.remove(key);
        if let Some(waiting) = self.order.get_mut(&line) {
            waiting.remove(&place);
            if waiting.is_empty() {
                self.order.remove(&line);
            }
        }
        self.enqueue(&line);
        entry
    }

    /// Changes a delivery in place; its notification must stay.
    pub fn update(&mut self, key: &DeliveryKey, change: impl FnOnce(&mut Entry)) -> Option<&Entry> {
        let line = line_of(key, self.entries.get(key)?);
        self.dequeue(&line);
        change(self.entries.get_mut(key)?);
        self.enqueue(&line);
        self.entries.get(key)
    }

    /// The first of the line starts on its way.
    pub fn take_off(&mut self, line: &Line) -> Option<(DeliveryKey, &Entry)> {
        self.dequeue(line);
        let key = self.order.get(line)?.values().next()?.clone();
        self.in_flight.insert(line.clone(), key.clone());
        let entry = self.entries.get(&key)?;
        Some((key, entry))
    }

    /// It is back, and may be tried again. False: it was not on its way.
    pub fn land(&mut self, key: &DeliveryKey) -> bool {
        let Some(entry) = self.entries.get(key) else { return false };
        let line = line_of(key, entry);
        if self.in_flight.get(&line) != Some(key) {
            return false;
        }
        self.in_flight.remove(&line);
        self.enqueue(&line);
        true
    }

    /// Receivers that have something due, and when first.
    pub fn due(&self) -> impl Iterator<Item = (&str, i64)> {
        self.due.iter().filter_map(|(receiver, due)| Some((receiver.as_str(), due.first()?.0)))
    }

    /// The receiver's lines that are due by `now_ms`, longest waiting first.
    pub fn due_of(&self, receiver: &str, now_ms: i64) -> impl Iterator<Item = (i64, Line)> {
        let due = self.due.get(receiver).into_iter().flatten().take_while(move |(at_ms, _)| *at_ms <= now_ms);
        due.map(|(at_ms, episode)| (*at_ms, (episode.clone(), receiver.to_string())))
    }

    fn enqueue(&mut self, line: &Line) {
        if self.in_flight.contains_key(line) {
            return;
        }
        let at_ms = match self.first(line) {
            Some((_, entry)) if entry.digest.is_none() => entry.next_attempt_ms,
            _ => return, // nothing, or a digest sees to it
        };
        self.due.entry(line.1.clone()).or_default().insert((at_ms, line.0.clone()));
    }

    /// Undoes `enqueue`: to be called before a line's first delivery changes.
    fn dequeue(&mut self, line: &Line) {
        let Some((_, entry)) = self.first(line) else { return };
        let at_ms = entry.next_attempt_ms;
        if let Some(due) = self.due.get_mut(&line.1) {
            due.remove(&(at_ms, line.0.clone()));
            if due.is_empty() {
                self.due.remove(&line.1);
            }
        }
    }
}
