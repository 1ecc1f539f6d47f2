//! The end that is owed: whoever was told of a beginning is told of its end.
//!
//! What ends while a silence holds is passed over if nothing of it was told. A person can have its beginning sent all the
//! same, afterwards: once the receiver has that, the end is sent after it. The records alone say so, a beginning that was
//! delivered and an end that was superseded, so that a restart in between owes it too.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::Entry;
use super::lines::{Line, line_of};
use super::{Effect, Schedule};
use crate::dispatch::delivery::{DeliveryKey, DeliveryRecord, DeliveryStatus};
use crate::dispatch::receiver::Telling;
use crate::rules::episode::EpisodeStatus;

/// Both halves of what makes an end owed, in whichever order they are come upon.
#[derive(Debug, Default)]
pub(super) struct Owed {
    /// Whose receiver has a beginning.
    begun: BTreeSet<Line>,
    /// Records of ends that were passed over, and their partitions.
    passed_over: BTreeMap<Line, (DeliveryRecord, i32)>,
}

impl Owed {
    /// A finished delivery of an alert is read back.
    pub fn note(&mut self, line: Line, record: &DeliveryRecord, partition: i32) {
        match (record.notification.status, record.status) {
            (EpisodeStatus::Firing, DeliveryStatus::Delivered) => drop(self.begun.insert(line)),
            (EpisodeStatus::Resolved, DeliveryStatus::Superseded) => {
                self.passed_over.insert(line, (record.clone(), partition));
            }
            _ => {}
        }
    }

    fn into_ends(self) -> impl Iterator<Item = (DeliveryRecord, i32)> {
        let Self { begun, passed_over } = self;
        passed_over.into_iter().filter(move |(line, _)| begun.contains(line)).map(|(_, end)| end)
    }
}

impl Schedule {
    /// A delivery has arrived. Of an end that is owed from then on, more is needed than is in memory.
    pub(super) fn owe_the_end(&mut self, key: &DeliveryKey, entry: &Entry) -> Option<Effect> {
        if entry.telling != Telling::Redelivery || entry.is_end() {
            return None;
        }
        let line = line_of(key, entry);
        let (end, partition) = self.finished.passed_over_end(&line.0, &line.1)?;
        self.restoring.get_or_insert_default().owed.begun.insert(line);
        Some(Effect::Find { key: end, partition })
    }

    /// Ends that are owed are sent, once everything is there that says so.
    pub(super) fn take_up_owed(&mut self, owed: Owed, now_ms: i64) {
        for (record, partition) in owed.into_ends() {
            let key = record.key();
            if self.lines.get(&key).is_some() {
                continue; // a person has asked for it too
            }
            let mut entry = Entry::restored(record, partition);
            (entry.telling, entry.attempts) = (Telling::Redelivery, 0);
            (entry.held_by, entry.digest, entry.released_at_ms) = (None, None, Some(now_ms));
            entry.next_attempt_ms = now_ms;
            self.finished.remove(&key);
            self.lines.insert(key, entry);
        }
    }
}
