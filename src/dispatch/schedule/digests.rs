//! Digests: what routes with `digest` collect for a receiver goes as one message at the next full period, counted from
//! 1970-01-01T00:00:00Z.
//!
//! A digest is sealed before it is sent: its id, the hash of what it holds, is recorded with each of its deliveries, so
//! that a restart sends the same message under the same id. What else is collected goes with the next one. Deliveries
//! of all partitions of one process go together; where several processes share the partitions, each sends its own.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::entry::Entry;
use super::lines::{Lines, line_of};
use super::{Effect, Parcel, Schedule};
use crate::dispatch::delivery::{DeliveryKey, DeliveryStatus, DigestPlace};
use crate::dispatch::digest::Digest;
use crate::dispatch::receiver::{Outcome, Telling};

/// A digest that nothing more is added to.
#[derive(Debug, Clone)]
pub(super) struct Sealed {
    key: DeliveryKey,
    from_ms: i64,
    until_ms: i64,
    /// In the order in which they came.
    items: Vec<DeliveryKey>,
    attempts: u32,
    next_attempt_ms: i64,
    in_flight: bool,
}

#[derive(Debug, Default)]
pub(super) struct Digests {
    /// By receiver and end.
    collecting: BTreeMap<(String, i64), Vec<DeliveryKey>>,
    /// By receiver, oldest first; only the first is tried.
    sealed: BTreeMap<String, VecDeque<Sealed>>,
}

/// The period that `now_ms` lies in.
pub(super) fn next_place(now_ms: i64, period_ms: i64) -> DigestPlace {
    let period_ms = period_ms.max(1);
    let from_ms = now_ms.div_euclid(period_ms) * period_ms;
    DigestPlace { from_ms, until_ms: from_ms.saturating_add(period_ms), id: None, size: 0 }
}

/// A place in a digest of the same time that is sent at once.
pub(super) fn at_once(place: &DigestPlace, now_ms: i64) -> DigestPlace {
    DigestPlace { from_ms: place.from_ms, until_ms: place.until_ms.min(now_ms), id: None, size: 0 }
}

impl Digests {
    /// A delivery that is to be collected takes its place.
    pub fn collect(&mut self, key: &DeliveryKey, entry: &Entry) {
        let Some(place) = &entry.digest else { return };
        match &place.id {
            None => self.collecting.entry((key.receiver.clone(), place.until_ms)).or_default().push(key.clone()),
            Some(id) => {
                let queue = self.sealed.entry(key.receiver.clone()).or_default();
                match queue.iter_mut().find(|sealed| sealed.key.notification_id == *id) {
                    Some(sealed) => {
                        sealed.items.push(key.clone());
                        sealed.attempts = sealed.attempts.max(entry.attempts);
                        sealed.next_attempt_ms = sealed.next_attempt_ms.max(entry.next_attempt_ms);
                    }
                    None => {
                        let sealed = Sealed {
                            key: DeliveryKey { notification_id: id.clone(), receiver: key.receiver.clone() },
                            from_ms: place.from_ms,
                            until_ms: place.until_ms,
                            items: vec![key.clone()],
                            attempts: entry.attempts,
                            next_attempt_ms: entry.next_attempt_ms,
                            in_flight: false,
                        };
                        let at = queue.partition_point(|other| other.until_ms <= sealed.until_ms);
                        queue.insert(at, sealed);
                    }
                }
            }
        }
    }

    /// A delivery leaves, sent or not.
    pub fn remove(&mut self, key: &DeliveryKey) {
        self.collecting.retain(|_, items| {
            items.retain(|item| item != key);
            !items.is_empty()
        });
        if let Some(queue) = self.sealed.get_mut(&key.receiver) {
            queue.iter_mut().for_each(|sealed| sealed.items.retain(|item| item != key));
            queue.retain(|sealed| !sealed.items.is_empty());
        }
        self.sealed.retain(|_, queue| !queue.is_empty());
    }

    pub fn in_flight(&self) -> usize {
        self.sealed.values().flatten().filter(|sealed| sealed.in_flight).count()
    }

    pub fn is_in_flight(&self, digest: &DeliveryKey) -> bool {
        self.first(&digest.receiver).is_some_and(|sealed| sealed.in_flight && sealed.key == *digest)
    }

    /// Whether the digest that holds this delivery is being sent.
    pub fn is_on_its_way(&self, item: &DeliveryKey) -> bool {
        self.first(&item.receiver).is_some_and(|sealed| sealed.in_flight && sealed.items.contains(item))
    }

    /// Deliveries in sealed digests that are not on their way.
    fn waiting(&self) -> Vec<DeliveryKey> {
        let waiting = self.sealed.values().flatten().filter(|sealed| !sealed.in_flight);
        waiting.flat_map(|sealed| sealed.items.iter().cloned()).collect()
    }

    /// Receivers with a digest to send, and when.
    pub fn due(&self) -> impl Iterator<Item = (&str, i64)> {
        let first = self.sealed.iter().filter_map(|(receiver, queue)| Some((receiver.as_str(), queue.front()?)));
        first.filter(|(_, sealed)| !sealed.in_flight).map(|(receiver, sealed)| (receiver, sealed.next_attempt_ms))
    }

    pub fn next_seal_ms(&self) -> Option<i64> {
        self.collecting.keys().map(|(_, until_ms)| *until_ms).min()
    }

    fn first(&self, receiver: &str) -> Option<&Sealed> {
        self.sealed.get(receiver)?.front()
    }

    /// Takes a whole collection out once it is due or full. What is held back fills none: it would only go to the next.
    fn take_due(&mut self, lines: &Lines, now_ms: i64, most: usize) -> Option<(String, i64, Vec<DeliveryKey>)> {
        let is_held = |key: &DeliveryKey| lines.get(key).is_some_and(|entry| entry.held_by.is_some());
        let is_full = |items: &[DeliveryKey]| items.iter().filter(|key| !is_held(key)).count() >= most;
        let due = self.collecting.iter().find(|((_, until_ms), items)| *until_ms <= now_ms || is_full(items));
        let (receiver, until_ms) = due?.0.clone();
        let items = self.collecting.remove(&(receiver.clone(), until_ms))?;
        Some((receiver, until_ms, items))
    }

    /// Items of sealed digests whose number is not the recorded one, by `is_whole`; they are no longer in a digest. Nor are
    /// those of the digests after one of these, none of which has been tried: sealed again, it would come after them.
    pub fn break_up(&mut self, is_whole: impl Fn(&DeliveryKey) -> bool) -> Vec<DeliveryKey> {
        let mut loose = Vec::new();
        for queue in self.sealed.values_mut() {
            let mut is_behind = false;
            queue.retain(|sealed| {
                let keep = sealed.in_flight || (!is_behind && is_whole(&sealed.key));
                is_behind |= !keep;
                if !keep {
                    loose.extend(sealed.items.iter().cloned());
                }
                keep
            });
        }
        self.sealed.retain(|_, queue| !queue.is_empty());
        loose
    }

    /// Digests in flight that hold any of these deliveries; they are in flight no longer.
    pub fn abandon(&mut self, lost: &dyn Fn(&DeliveryKey) -> bool) -> Vec<DeliveryKey> {
        let mut abandoned = Vec::new();
        for sealed in self.sealed.values_mut().flatten() {
            if sealed.in_flight && sealed.items.iter().any(lost) {
                sealed.in_flight = false;
                abandoned.push(sealed.key.clone());
            }
        }
        abandoned
    }
}

impl Schedule {
    /// Closes what has been collected for long enough, or is enough.
    pub(super) fn seal_digests(&mut self, now_ms: i64) -> Vec<Effect> {
        let mut effects = self.send_alone(self.digests.waiting(), now_ms);
        while let Some((receiver, until_ms, mut items)) =
            self.digests.take_due(&self.lines, now_ms, self.limits.max_digest)
        {
            let silenced = |key: &DeliveryKey| {
                let entry = self.lines.get(key)?;
                Some(self.control.silenced_by(&entry.notification, now_ms)?.id.clone())
            };
            let held: Vec<(DeliveryKey, String)> =
                items.iter().filter_map(|key| Some((key.clone(), silenced(key)?))).collect();
            items.retain(|key| !held.iter().any(|(other, _)| other == key));
            for (key, silence) in held {
                let line = self.lines.get(&key).map(|entry| line_of(&key, entry));
                effects.extend(self.collect_later(&key, silence, now_ms));
                effects.extend(line.map(|line| self.tidy(&line, now_ms)).unwrap_or_default());
            }
            effects.extend(self.send_alone(items.clone(), now_ms));
            items.retain(|key| self.lines.get(key).is_some_and(|entry| entry.digest.is_some()));
            let behind: Vec<(DeliveryKey, Entry)> = items
                .iter()
                .filter_map(|key| Some((key.clone(), self.lines.collected_before(key, &items)?.clone())))
                .collect();
            items.retain(|key| !behind.iter().any(|(other, _)| other == key));
            for (key, earlier) in behind {
                effects.extend(self.collect_with(&key, &earlier, now_ms));
            }
            effects.extend(self.seal(&receiver, until_ms.min(now_ms), items, now_ms));
        }
        effects
    }

    /// Of these deliveries, those behind one that is sent by itself (a person asked for it) follow by themselves too: in
    /// a digest they could overtake it.
    fn send_alone(&mut self, collected: Vec<DeliveryKey>, now_ms: i64) -> Vec<Effect> {
        let mut effects = Vec::new();
        for key in collected {
            if !self.lines.follows_one_alone(&key) {
                continue;
            }
            self.digests.remove(&key);
            let entry = self.lines.update(&key, |entry| {
                (entry.held_by, entry.digest, entry.next_attempt_ms) = (None, None, now_ms);
            });
            effects.extend(entry.map(|entry| entry.record(&key, DeliveryStatus::Pending, now_ms)));
        }
        effects
    }

    /// To the digest after this one: a silence holds it back.
    fn collect_later(&mut self, key: &DeliveryKey, silence: String, now_ms: i64) -> Option<Effect> {
        let entry = self.lines.update(key, |entry| {
            let period_ms = entry.digest.as_ref().map_or(1, |place| place.until_ms - place.from_ms);
            let place = next_place(now_ms.max(entry.next_attempt_ms), period_ms.max(60_000));
            (entry.held_by, entry.next_attempt_ms) = (Some(silence), place.until_ms);
            entry.digest = Some(place);
        })?;
        self.digests.collect(key, entry);
        Some(entry.record(key, DeliveryStatus::Pending, now_ms))
    }

    /// To the digest of what is before it in its line.
    fn collect_with(&mut self, key: &DeliveryKey, earlier: &Entry, now_ms: i64) -> Option<Effect> {
        let entry = self.lines.update(key, |entry| {
            (entry.held_by, entry.next_attempt_ms) = (earlier.held_by.clone(), earlier.next_attempt_ms);
            entry.digest = earlier.digest.clone();
        })?;
        self.digests.collect(key, entry);
        Some(entry.record(key, DeliveryStatus::Pending, now_ms))
    }

    fn seal(&mut self, receiver: &str, until_ms: i64, mut items: Vec<DeliveryKey>, now_ms: i64) -> Vec<Effect> {
        items.retain(|key| self.lines.get(key).is_some());
        items.sort_by_key(|key| {
            let came = self.lines.get(key).map(|entry| (entry.first_at_ms, entry.notification.sequence));
            (came, key.notification_id.clone())
        });
        // Digests go in the order in which they were sealed, after a restart too, which knows them by their ends.
        let last = self.digests.sealed.get(receiver).and_then(|queue| queue.back());
        let until_ms = last.map_or(until_ms, |last| until_ms.max(last.until_ms.saturating_add(1)));
        let mut hash = Sha256::new();
        hash.update(format!("{receiver}|{until_ms}"));
        items.iter().for_each(|key| hash.update(format!("|{}", key.notification_id)));
        let id = format!("digest-{}", hash.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect::<String>());
        let size = items.len();
        let mut effects = Vec::with_capacity(size);
        for key in items {
            let entry = self.lines.update(&key, |entry| {
                let from_ms = entry.digest.as_ref().map_or(until_ms, |place| place.from_ms);
                entry.digest = Some(DigestPlace { from_ms, until_ms, id: Some(id.clone()), size });
                (entry.held_by, entry.next_attempt_ms) = (None, now_ms);
            });
            let Some(entry) = entry else { continue };
            self.digests.collect(&key, entry);
            effects.push(entry.record(&key, DeliveryStatus::Pending, now_ms));
        }
        effects
    }

    pub(super) fn start_digest(&mut self, receiver: &str) -> Option<Effect> {
        let sealed = self.digests.sealed.get_mut(receiver)?.front_mut()?;
        let entries: Vec<&Entry> = sealed.items.iter().filter_map(|key| self.lines.get(key)).collect();
        let telling = entries.first()?.telling.clone();
        sealed.in_flight = true;
        let digest = Digest {
            id: sealed.key.notification_id.clone(),
            receiver: receiver.to_string(),
            from_ms: sealed.from_ms,
            until_ms: sealed.until_ms,
            notifications: entries.iter().map(|entry| (*entry.notification).clone()).collect(),
        };
        Some(Effect::Attempt {
            key: sealed.key.clone(),
            parcel: Parcel::Digest(Arc::new(digest)),
            telling: if matches!(telling, Telling::Fallback { .. }) { telling } else { Telling::News },
            attempt: sealed.attempts.saturating_add(1),
        })
    }

    pub(super) fn settle_digest(
        &mut self,
        key: &DeliveryKey,
        outcome: Outcome,
        jitter: f64,
        now_ms: i64,
    ) -> Vec<Effect> {
        self.landed(&key.receiver);
        let Some(sealed) = self.digests.sealed.get_mut(&key.receiver).and_then(VecDeque::front_mut) else {
            return Vec::new();
        };
        sealed.in_flight = false;
        sealed.attempts = sealed.attempts.saturating_add(1);
        let (attempts, items) = (sealed.attempts, sealed.items.clone());
        let expiries = items.iter().filter_map(|key| self.lines.get(key));
        let expires_at_ms = expiries.map(|entry| entry.expires_at_ms(self.limits.expire_after_ms)).max();
        let verdict = self.judge(&key.receiver, outcome, attempts, expires_at_ms.unwrap_or(i64::MAX), jitter, now_ms);
        if let Some(sealed) = self.digests.sealed.get_mut(&key.receiver).and_then(VecDeque::front_mut) {
            sealed.next_attempt_ms = verdict.next_attempt_ms;
        }
        let mut effects = Vec::new();
        let mut given_up = Vec::new();
        for item in items {
            let entry = self.lines.update(&item, |entry| {
                entry.attempts = attempts;
                entry.last_error = verdict.error.clone();
                entry.next_attempt_ms = verdict.next_attempt_ms;
            });
            let Some(entry) = entry.cloned() else { continue };
            if verdict.status.is_final() {
                effects.extend(self.finish(&item, verdict.status, now_ms));
                given_up.push((item, entry));
            } else {
                // Of many attempts few are recorded: each would be as many records as the digest has notifications.
                if attempts.is_power_of_two() {
                    effects.push(entry.record(&item, DeliveryStatus::Pending, now_ms));
                }
                effects.extend(self.tidy(&line_of(&item, &entry), now_ms));
            }
        }
        if matches!(verdict.status, DeliveryStatus::Failed | DeliveryStatus::Expired) {
            for (item, entry) in given_up {
                effects.extend(self.fall_back(&item, &entry, now_ms));
            }
        }
        effects
    }
}
