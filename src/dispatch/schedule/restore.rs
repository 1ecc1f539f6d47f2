//! What a predecessor has recorded is taken up, and given up when its partition goes to somebody else.

use std::collections::{BTreeMap, BTreeSet};

use super::accept::stranger;
use super::entry::Entry;
use super::health::Alerted;
use super::heartbeat::Beat;
use super::lines::{Line, line_of};
use super::owed::Owed;
use super::{Effect, Schedule};
use crate::dispatch::delivery::{DeliveryKey, DeliveryRecord, DeliveryStatus};
use crate::dispatch::receiver::Telling;
use crate::rules::episode::EpisodeStatus;

/// What the records of one restore amount to only together.
#[derive(Debug, Default)]
pub(super) struct Restoring {
    /// Sequence numbers of ends, whatever became of them.
    ended: BTreeMap<Line, u32>,
    /// Deliveries seen of each digest that was sealed, and how many there should be.
    sealed: BTreeMap<DeliveryKey, (usize, usize)>,
    /// Ends of alerts about receivers, by receiver.
    answering: BTreeMap<String, String>,
    pub owed: Owed,
}

impl Schedule {
    /// Takes up what a predecessor has recorded in this partition of the `deliveries` topic: pending ones go on
    /// where they stood, finished ones are remembered as done, or sent again if a person asked for it since.
    pub fn restore(&mut self, record: DeliveryRecord, partition: i32) {
        let key = record.key();
        if self.lines.get(&key).is_some() {
            return;
        }
        self.note_restored(&key, &record, partition);
        let asked = self.control.redeliveries(&key.notification_id, &key.receiver);
        let asked: Vec<(String, i64)> = asked.iter().filter(|(id, _)| !record.commands.contains(id)).cloned().collect();
        let is_final = record.status.is_final();
        if is_final && asked.is_empty() {
            let at_ms = record.finished_at_ms.or(record.delivered_at_ms).unwrap_or(record.first_at_ms);
            let (status, entry) = (record.status, Entry::restored(record, partition));
            self.finished.insert(key.clone(), entry.done(status, at_ms));
            if status == DeliveryStatus::Delivered {
                self.restore_told(&key, &entry, at_ms);
            }
            return;
        }
        let mut entry = Entry::restored(record, partition);
        if let Some((_, at_ms)) = asked.last() {
            if is_final {
                (entry.telling, entry.attempts) = (Telling::Redelivery, 0);
            }
            (entry.held_by, entry.digest, entry.released_at_ms) = (None, None, Some(*at_ms));
            entry.next_attempt_ms = entry.first_at_ms;
            entry.commands.extend(asked.iter().map(|(id, _)| id.clone()));
        }
        self.finished.remove(&key);
        self.digests.collect(&key, &entry);
        self.lines.insert(key, entry);
    }

    fn note_restored(&mut self, key: &DeliveryKey, record: &DeliveryRecord, partition: i32) {
        let line = (record.notification.episode_id.clone(), key.receiver.clone());
        let is_end = record.notification.status == EpisodeStatus::Resolved;
        let is_known = self.finished.contains(key); // and found again: its digest is done with, or knows it no longer
        let restoring = self.restoring.get_or_insert_default();
        if let Some((id, size)) = record.digest.as_ref().and_then(|place| Some((place.id.clone()?, place.size)))
            && !is_known
        {
            let digest = DeliveryKey { notification_id: id, receiver: key.receiver.clone() };
            restoring.sealed.entry(digest).or_insert((0, size)).0 += 1;
        }
        match &record.telling {
            Telling::Heartbeat { .. } => {
                let at_ms = record.notification.first_window.start_ms;
                if self.beats.get(&key.receiver).is_none_or(|beat| beat.at_ms < at_ms) {
                    self.beats.insert(key.receiver.clone(), Beat { at_ms, key: key.clone() });
                }
            }
            Telling::ReceiverHealth { receiver } if is_end => {
                restoring.answering.insert(receiver.clone(), record.notification.episode_id.clone());
            }
            Telling::ReceiverHealth { receiver } => {
                let state = self.receivers.entry(receiver.clone()).or_default();
                let is_newer =
                    state.alerted.as_ref().is_none_or(|alerted| alerted.notification.at_ms < record.notification.at_ms);
                if is_newer {
                    state.alerted = Some(Alerted { notification: record.notification.clone().into(), partition });
                }
            }
            _ => self.note_alert(line, record, partition),
        }
    }

    fn note_alert(&mut self, line: Line, record: &DeliveryRecord, partition: i32) {
        let (is_end, sequence) = (record.notification.status == EpisodeStatus::Resolved, record.notification.sequence);
        let restoring = self.restoring.get_or_insert_default();
        // An end that is sent again has been told, or given up, before.
        if is_end && (record.status.is_final() || record.telling == Telling::Redelivery) {
            let ended = restoring.ended.entry(line.clone()).or_insert(0);
            *ended = (*ended).max(sequence);
            if self.told.sequence(&line).is_some_and(|told| told < sequence) {
                self.told.end(&line);
            }
        }
        restoring.owed.note(line, record, partition);
    }

    fn restore_told(&mut self, key: &DeliveryKey, entry: &Entry, at_ms: i64) {
        if let Some(limit) = self.policy.receiver(&key.receiver).and_then(|policy| policy.rate_limit) {
            self.receivers.entry(key.receiver.clone()).or_default().limiter.sent(Some(limit), at_ms);
        }
        let is_alert = !matches!(entry.telling, Telling::Heartbeat { .. } | Telling::ReceiverHealth { .. });
        let line = line_of(key, entry);
        let ended = self.restoring.as_ref().and_then(|restoring| restoring.ended.get(&line));
        let is_over = ended.is_some_and(|ended| *ended > entry.notification.sequence);
        if is_alert && !is_over && !entry.is_end() {
            self.told.tell(key, entry, at_ms);
        }
    }

    /// Everything is there that will be.
    pub(super) fn end_restoring(&mut self, now_ms: i64) -> Vec<Effect> {
        let Some(restoring) = self.restoring.take() else { return Vec::new() };
        for (receiver, episode_id) in &restoring.answering {
            if let Some(state) = self.receivers.get_mut(receiver)
                && state.alerted.as_ref().is_some_and(|alerted| alerted.notification.episode_id == *episode_id)
            {
                state.alerted = None;
            }
        }
        // A digest of which a part is somebody else's now is another one.
        let is_whole = |digest: &DeliveryKey| restoring.sealed.get(digest).is_none_or(|(seen, size)| seen >= size);
        let loose = self.digests.break_up(is_whole);
        self.collect_again(&loose);
        self.take_up_owed(restoring.owed, now_ms);
        self.plan_reminders();
        let mut effects = Vec::new();
        // What was on its way when its end came is not any more.
        let lines: BTreeSet<Line> = self.lines.entries().map(|(key, entry)| line_of(key, entry)).collect();
        for line in &lines {
            effects.extend(self.tidy(line, now_ms));
        }
        let strangers = self.lines.entries().filter(|(key, _)| self.policy.receiver(&key.receiver).is_none());
        let strangers: Vec<DeliveryKey> = strangers.map(|(key, _)| key.clone()).collect();
        for key in strangers {
            let entry = self.lines.update(&key, |entry| entry.last_error = Some(stranger(&key.receiver)));
            let Some(entry) = entry.cloned() else { continue };
            effects.extend(self.finish(&key, DeliveryStatus::Failed, now_ms));
            effects.extend(self.fall_back(&key, &entry, now_ms));
        }
        effects
    }

    fn collect_again(&mut self, loose: &[DeliveryKey]) {
        for key in loose {
            let entry = self.lines.update(key, |entry| {
                if let Some(place) = &mut entry.digest {
                    (place.id, place.size) = (None, 0);
                }
            });
            if let Some(entry) = entry {
                self.digests.collect(key, entry);
            }
        }
    }

    /// Forgets everything that belongs to partitions which somebody else owns now. Answers the attempts in
    /// flight among it: their outcomes will be ignored, and the caller had better stop them.
    pub fn drop_partitions(&mut self, is_lost: impl Fn(i32) -> bool) -> Vec<DeliveryKey> {
        let lost: Vec<DeliveryKey> =
            self.lines.entries().filter(|(_, entry)| is_lost(entry.partition)).map(|(key, _)| key.clone()).collect();
        let mut abandoned = self.digests.abandon(&|key| lost.contains(key));
        abandoned.iter().for_each(|digest| self.landed(&digest.receiver));
        let mut split: Vec<DeliveryKey> = Vec::new();
        for key in &lost {
            if self.lines.is_in_flight(key) {
                self.landed(&key.receiver);
                abandoned.push(key.clone());
            }
            if let Some(place) = self.lines.get(key).and_then(|entry| entry.digest.as_ref()?.id.clone()) {
                split.push(DeliveryKey { notification_id: place, receiver: key.receiver.clone() });
            }
            self.digests.remove(key);
            self.lines.remove(key);
        }
        let loose = self.digests.break_up(|digest| !split.contains(digest));
        self.collect_again(&loose);
        self.told.drop_partitions(&is_lost);
        self.finished.drop_partitions(&is_lost);
        if is_lost(0) {
            self.beats.clear();
        }
        for state in self.receivers.values_mut() {
            if state.alerted.as_ref().is_some_and(|alerted| is_lost(alerted.partition)) {
                state.alerted = None;
            }
        }
        self.owned.retain(|partition| !is_lost(*partition));
        abandoned
    }
}
