//! What stands between a consumer's poll thread and its owner: a bounded queue with an epoch.
//!
//! Everything that decides what may be shown and committed happens under one lock. The epoch counts the
//! rebalances that the poll thread has met; `told` is the one of which the owner has heard. Only while the two
//! are equal is the membership handed out, so that nothing read under an old generation can be committed with
//! a new one.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::events::Membership;
use crate::log::{ConsumerEvent, LogError, Polled, Records, Result, TopicPartition};

/// Most that waits for the owner. The poll thread stops reading beyond it.
const MAX_RECORDS: usize = 65_536;
const MAX_BYTES: usize = 32 << 20;

#[derive(Default)]
pub(super) struct Mailbox {
    state: Mutex<State>,
    arrived: Condvar,
    room: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    queue: VecDeque<Item>,
    records: usize,
    bytes: usize,
    epoch: u64,
    told: u64,
    /// Of the present assignment; `None` without one.
    membership: Option<Membership>,
    assignment: Vec<TopicPartition>,
    /// Asked for and not yet done by the poll thread.
    seeks: HashMap<TopicPartition, i64>,
    hand: Option<Vec<(TopicPartition, Option<i64>)>>,
    healthy: bool,
    fatal: Option<String>,
    stopped: bool,
}

enum Item {
    /// A rebalance, with the epoch that it began.
    Rebalance(u64, ConsumerEvent),
    End(TopicPartition, i64),
    /// Records, those before `from` already handed out.
    Slab {
        records: Records,
        from: usize,
    },
}

impl State {
    /// The assignment is taken away or given: what was read under the old one is worth nothing.
    pub fn rebalance(&mut self, event: ConsumerEvent, membership: Option<Membership>) {
        self.assignment = match &event {
            ConsumerEvent::Assigned(share) => share.clone(),
            _ => Vec::new(),
        };
        self.membership = membership;
        self.forget();
        self.epoch += 1;
        self.queue.push_back(Item::Rebalance(self.epoch, event));
    }

    /// An assignment by hand, to be carried out by the poll thread. It needs no telling.
    pub fn assign(&mut self, partitions: &[(TopicPartition, Option<i64>)]) {
        self.assignment = partitions.iter().map(|(at, _)| at.clone()).collect();
        self.hand = Some(partitions.to_vec());
        self.forget();
    }

    fn forget(&mut self) {
        self.queue.retain(|item| matches!(item, Item::Rebalance(..)));
        (self.records, self.bytes) = (0, 0);
        self.seeks.clear();
    }

    pub fn seek(&mut self, partition: &TopicPartition, offset: i64) -> Result<()> {
        if self.told != self.epoch || !self.assignment.contains(partition) {
            return Err(LogError::Rebalanced);
        }
        self.seeks.insert(partition.clone(), offset);
        let others = |topic: &str, number: i32| topic != &*partition.topic || number != partition.partition;
        (self.records, self.bytes) = (0, 0);
        for item in &mut self.queue {
            if let Item::Slab { records, from } = item {
                let mut index = 0;
                *records = records.filtered(|record| {
                    index += 1;
                    index > *from && others(record.topic, record.partition)
                });
                *from = 0;
                self.records += records.len();
                self.bytes += records.byte_len();
            }
        }
        self.queue.retain(|item| match item {
            Item::Slab { records, .. } => !records.is_empty(),
            Item::End(at, _) => at != partition,
            Item::Rebalance(..) => true,
        });
        Ok(())
    }

    /// Records that the poll thread has read, except those of partitions that are to be sought.
    pub fn publish(&mut self, mut records: Records) {
        // By hand, the assignment changes before the poll thread has heard of it.
        if self.hand.is_some() {
            return;
        }
        if !self.seeks.is_empty() {
            let sought =
                |topic: &str, number: i32| self.seeks.keys().any(|at| at.partition == number && &*at.topic == topic);
            records = records.filtered(|record| !sought(record.topic, record.partition));
        }
        if !records.is_empty() {
            self.records += records.len();
            self.bytes += records.byte_len();
            self.queue.push_back(Item::Slab { records, from: 0 });
        }
    }

    pub fn publish_end(&mut self, partition: TopicPartition, next_offset: i64) {
        if self.hand.is_none() && !self.seeks.contains_key(&partition) {
            self.queue.push_back(Item::End(partition, next_offset));
        }
    }

    /// What the owner gets next: events, then records up to the next event.
    pub fn take(&mut self, max_records: usize) -> Polled {
        let mut polled = Polled::default();
        while let Some(item) = self.queue.pop_front() {
            match item {
                Item::Rebalance(epoch, event) if polled.records.is_empty() => {
                    self.told = epoch;
                    polled.events.push(event);
                }
                Item::End(partition, next_offset) if polled.records.is_empty() => {
                    polled.events.push(ConsumerEvent::EndOfPartition { partition, next_offset });
                }
                Item::Slab { records, from } if polled.records.len() < max_records => {
                    if !self.take_slab(records, from, max_records, &mut polled.records) {
                        break;
                    }
                }
                item => {
                    self.queue.push_front(item);
                    break;
                }
            }
        }
        polled
    }

    /// True if the slab was taken whole.
    fn take_slab(&mut self, records: Records, from: usize, max_records: usize, into: &mut Records) -> bool {
        let room = max_records - into.len();
        let left = records.len() - from;
        if left > room {
            into.extend_from(&records, from..from + room);
            self.queue.push_front(Item::Slab { records, from: from + room });
            return false;
        }
        // A slab counts whole until it is gone: its memory is held until then.
        self.records -= records.len();
        self.bytes -= records.byte_len();
        if into.is_empty() && from == 0 {
            *into = records;
        } else {
            into.extend_from(&records, from..records.len());
        }
        true
    }

    /// The membership under which everything that the owner holds was read.
    pub fn membership(&self) -> Result<&Membership> {
        match &self.membership {
            Some(membership) if self.told == self.epoch => Ok(membership),
            _ => Err(LogError::Rebalanced),
        }
    }

    pub fn assignment(&self) -> &[TopicPartition] {
        &self.assignment
    }

    pub fn healthy(&self) -> bool {
        self.healthy && self.fatal.is_none()
    }

    pub fn set_healthy(&mut self, healthy: bool) {
        self.healthy = healthy;
    }

    /// The consumer cannot go on.
    pub fn fail(&mut self, reason: String) {
        self.fatal.get_or_insert(reason);
    }

    pub fn check(&self) -> Result<()> {
        self.fatal.as_ref().map_or(Ok(()), |reason| Err(LogError::Fatal(reason.clone())))
    }

    pub fn take_hand_assignment(&mut self) -> Option<Vec<(TopicPartition, Option<i64>)>> {
        self.hand.take()
    }

    pub fn pending_seeks(&self) -> Vec<(TopicPartition, i64)> {
        self.seeks.iter().map(|(at, offset)| (at.clone(), *offset)).collect()
    }

    /// The poll thread has sought; unless the owner has asked for another offset since.
    pub fn sought(&mut self, partition: &TopicPartition, offset: i64) {
        if self.seeks.get(partition) == Some(&offset) {
            self.seeks.remove(partition);
        }
    }

    pub fn is_full(&self) -> bool {
        self.records >= MAX_RECORDS || self.bytes >= MAX_BYTES
    }

    /// True when a reader that was stopped for being too fast may go on.
    pub fn has_room(&self) -> bool {
        self.records <= MAX_RECORDS / 2 && self.bytes <= MAX_BYTES / 2
    }

    pub fn stopped(&self) -> bool {
        self.stopped
    }

    pub fn stop(&mut self) {
        self.stopped = true;
    }
}

impl Mailbox {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        // A thread that panicked inside has left the queue whole: each step is one push or one pop.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes whoever waits for it.
    pub fn update<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let outcome = change(&mut self.lock());
        self.arrived.notify_all();
        self.room.notify_all();
        outcome
    }

    /// The next events and records, as soon as there are any.
    pub fn take(&self, max_records: usize, timeout: Duration) -> Result<Polled> {
        let deadline = Instant::now() + timeout;
        let mut state = self.lock();
        loop {
            state.check()?;
            let polled = state.take(max_records.max(1));
            let left = deadline.saturating_duration_since(Instant::now());
            if !polled.events.is_empty() || !polled.records.is_empty() || left.is_zero() {
                self.room.notify_all();
                return Ok(polled);
            }
            state = wait(&self.arrived, state, left);
        }
    }

    pub fn wait_for_room(&self, timeout: Duration) {
        let state = self.lock();
        if state.is_full() && !state.stopped {
            drop(wait(&self.room, state, timeout));
        }
    }
}

fn wait<'a>(on: &Condvar, state: MutexGuard<'a, State>, timeout: Duration) -> MutexGuard<'a, State> {
    on.wait_timeout(state, timeout).map_or_else(|poisoned| poisoned.into_inner().0, |(guard, _)| guard)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(partition: i32) -> TopicPartition {
        TopicPartition::new("topic", partition)
    }

    fn slab(partition: i32, offsets: std::ops::Range<i64>) -> Records {
        let mut records = Records::default();
        for offset in offsets {
            records.push("topic", partition, offset, 0, None, Some(b"value"));
        }
        records
    }

    fn offsets(polled: &Polled) -> Vec<(i32, i64)> {
        polled.records.iter().map(|record| (record.partition, record.offset)).collect()
    }

    fn member(generation: i32) -> Option<Membership> {
        Some(Membership { generation, member: "m".into() })
    }

    fn assigned(state: &mut State, generation: i32) -> ConsumerEvent {
        let event = ConsumerEvent::Assigned(vec![at(0), at(1)]);
        state.rebalance(event.clone(), member(generation));
        event
    }

    #[test]
    fn no_membership_is_given_between_a_rebalance_and_its_telling() {
        let mut state = State::default();
        assigned(&mut state, 1);
        assert!(state.membership().is_err());
        state.take(10);
        assert_eq!(state.membership().map(|membership| membership.generation).ok(), Some(1));

        state.rebalance(ConsumerEvent::Revoked(vec![at(0), at(1)]), None);
        assert!(state.membership().is_err());
        assigned(&mut state, 2);
        assert!(state.membership().is_err(), "the owner still holds records of generation 1");
        assert_eq!(state.take(10).events.len(), 2);
        assert_eq!(state.membership().map(|membership| membership.generation).ok(), Some(2));
    }

    #[test]
    fn records_of_the_old_assignment_are_never_shown_after_its_end() {
        let mut state = State::default();
        assigned(&mut state, 1);
        state.publish(slab(0, 0..5));
        state.publish_end(at(0), 5);
        let revoked = ConsumerEvent::Revoked(vec![at(0), at(1)]);
        state.rebalance(revoked.clone(), None);
        let given = assigned(&mut state, 2);
        state.publish(slab(1, 7..9));
        let polled = state.take(100);
        assert_eq!(polled.events, [given.clone(), revoked, given]);
        assert_eq!(offsets(&polled), [(1, 7), (1, 8)]);
    }

    #[test]
    fn the_end_is_told_after_the_records_before_it() {
        let mut state = State::default();
        state.publish(slab(0, 0..3));
        state.publish_end(at(0), 4);
        state.publish(slab(1, 0..2));
        let first = state.take(2);
        assert_eq!((offsets(&first), first.events.len()), (vec![(0, 0), (0, 1)], 0));
        let second = state.take(2);
        assert_eq!((offsets(&second), second.events.len()), (vec![(0, 2)], 0));
        let third = state.take(2);
        assert_eq!(third.events, [ConsumerEvent::EndOfPartition { partition: at(0), next_offset: 4 }]);
        assert_eq!(offsets(&third), [(1, 0), (1, 1)]);
        assert_eq!((state.records, state.bytes), (0, 0));
    }

    #[test]
    fn a_seek_drops_what_was_read_ahead_of_that_partition_alone() {
        let mut state = State::default();
        assigned(&mut state, 1);
        state.take(1);
        let mut both = slab(0, 0..3);
        both.extend_from(&slab(1, 0..3), 0..3);
        state.publish(both);
        state.publish_end(at(0), 3);
        assert_eq!(offsets(&state.take(1)), [(0, 0)]);
        assert!(state.seek(&at(0), 0).is_ok());
        // What the poll thread had in hand when the seek came.
        state.publish(slab(0, 3..5));
        state.publish(slab(1, 3..4));
        state.publish_end(at(0), 5);
        let polled = state.take(100);
        assert_eq!((offsets(&polled), polled.events.len()), (vec![(1, 0), (1, 1), (1, 2), (1, 3)], 0));
        assert_eq!((state.records, state.bytes), (0, 0));

        assert!(state.seek(&at(0), 1).is_ok());
        state.sought(&at(0), 0);
        assert_eq!(state.pending_seeks(), [(at(0), 1)], "an older seek does not end a newer one");
        state.sought(&at(0), 1);
        state.publish(slab(0, 1..2));
        assert_eq!(offsets(&state.take(100)), [(0, 1)]);
    }

    #[test]
    fn a_partition_that_is_gone_cannot_be_sought() {
        let mut state = State::default();
        assigned(&mut state, 1);
        assert!(matches!(state.seek(&at(0), 0), Err(LogError::Rebalanced)), "not told yet");
        state.take(1);
        assert!(matches!(state.seek(&at(2), 0), Err(LogError::Rebalanced)), "not assigned");
    }

    #[test]
    fn the_queue_is_full_at_its_limit_and_has_room_again_at_half_of_it() {
        let mut state = State::default();
        for start in 0..(MAX_RECORDS / 4_096) as i64 {
            assert!(!state.is_full());
            state.publish(slab(0, start * 4_096..(start + 1) * 4_096));
        }
        assert!(state.is_full() && !state.has_room());
        state.take(MAX_RECORDS / 4);
        assert!(!state.is_full() && !state.has_room());
        state.take(MAX_RECORDS / 4);
        assert!(state.has_room());
    }
}
