//! Deliveries that are done: known for a while, so that an intent that comes twice is told once, then forgotten.
//!
//! `deliveries` is compacted by key, and keys are never used again: without forgetting it would grow for ever, and with
//! it what a restart reads. The offsets in the transaction are what protects from reading an intent twice; this is for
//! intents that were written twice.

use std::collections::{BTreeMap, BTreeSet};

use crate::dispatch::delivery::DeliveryKey;

#[derive(Debug, Default)]
pub struct Finished {
    by_time: BTreeSet<(i64, DeliveryKey)>,
    known: BTreeMap<DeliveryKey, Done>,
}

#[derive(Debug, Clone, Copy)]
pub struct Done {
    pub at_ms: i64,
    /// Of its record.
    pub partition: i32,
    /// It was about the end of its episode.
    pub is_end: bool,
    /// It was superseded.
    pub is_passed_over: bool,
}

impl Finished {
    pub fn contains(&self, key: &DeliveryKey) -> bool {
        self.known.contains_key(key)
    }

    /// The partition of its record.
    pub fn partition(&self, key: &DeliveryKey) -> Option<i32> {
        self.known.get(key).map(|done| done.partition)
    }

    /// Whether the end of the episode is done with at the receiver.
    pub fn has_end(&self, episode_id: &str, receiver: &str) -> bool {
        self.end(episode_id, receiver).is_some()
    }

    /// The end of the episode at the receiver if it was not sent, and the partition of its record.
    pub fn passed_over_end(&self, episode_id: &str, receiver: &str) -> Option<(DeliveryKey, i32)> {
        let (key, done) = self.end(episode_id, receiver)?;
        done.is_passed_over.then(|| (key.clone(), done.partition))
    }

    /// Ids of news are `{episode}-{sequence}`.
    fn end(&self, episode_id: &str, receiver: &str) -> Option<(&DeliveryKey, &Done)> {
        let first = DeliveryKey { notification_id: format!("{episode_id}-"), receiver: String::new() };
        let is_of_episode = |id: &str| id.strip_prefix(episode_id).is_some_and(|rest| rest.starts_with('-'));
        let mut done = self.known.range(first..).take_while(|(key, _)| is_of_episode(&key.notification_id));
        done.find(|(key, done)| key.receiver == receiver && done.is_end)
    }

    pub fn insert(&mut self, key: DeliveryKey, done: Done) {
        self.remove(&key);
        self.by_time.insert((done.at_ms, key.clone()));
        self.known.insert(key, done);
    }

    pub fn remove(&mut self, key: &DeliveryKey) -> Option<i32> {
        let Done { at_ms, partition, .. } = self.known.remove(key)?;
        self.by_time.remove(&(at_ms, key.clone()));
        Some(partition)
    }

    /// Takes out at most `most` of those finished before `before_ms`, and of those beyond the `capacity` newest; but none
    /// that is to be kept.
    pub fn forget(
        &mut self,
        before_ms: i64,
        capacity: usize,
        most: usize,
        keep: impl Fn(&DeliveryKey) -> bool,
    ) -> Vec<(DeliveryKey, i32)> {
        let beyond = self.known.len().saturating_sub(capacity);
        let old = self.by_time.iter().enumerate();
        let old = old.take_while(|(place, (at_ms, _))| *place < beyond || *at_ms < before_ms).map(|(_, found)| found);
        // What is kept is few: one for each open episode and receiver. Looking past it is bounded all the same.
        let forgotten: Vec<DeliveryKey> =
            old.take(10 * most).filter(|(_, key)| !keep(key)).take(most).map(|(_, key)| key.clone()).collect();
        forgotten.into_iter().filter_map(|key| self.remove(&key).map(|partition| (key, partition))).collect()
    }

    pub fn drop_partitions(&mut self, is_lost: impl Fn(i32) -> bool) {
        self.known.retain(|_, done| !is_lost(done.partition));
        self.by_time.retain(|(_, key)| self.known.contains_key(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> DeliveryKey {
        DeliveryKey { notification_id: id.into(), receiver: "r".into() }
    }

    #[test]
    fn the_old_and_the_many_are_forgotten_oldest_first_but_not_what_is_kept() {
        let mut finished = Finished::default();
        for (at_ms, id) in [(5, "a"), (1, "b"), (9, "c"), (2, "d")] {
            let done = Done { at_ms, partition: 0, is_end: false, is_passed_over: false };
            finished.insert(key(id), done);
        }
        let ids = |forgotten: Vec<(DeliveryKey, i32)>| -> Vec<String> {
            forgotten.into_iter().map(|(key, _)| key.notification_id).collect()
        };
        assert_eq!(ids(finished.forget(3, 100, 10, |key| key.notification_id == "b")), ["d"]);
        assert_eq!(ids(finished.forget(0, 2, 10, |_| false)), ["b"]);
        assert_eq!(ids(finished.forget(100, 100, 1, |_| false)), ["a"]);
        assert!(finished.contains(&key("c")) && !finished.contains(&key("a")));
        finished.drop_partitions(|partition| partition == 0);
        assert!(!finished.contains(&key("c")));
    }
}
