//! A consumer of the embedded log.

use std::any::Any;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::group::MemberNumber;
use super::{EmbeddedLog, State, lock};
use crate::log::{
    Consumer, ConsumerEvent, ConsumerOptions, GroupMetadata, LogError, Polled, Records, Result, StartOffset,
    TopicPartition,
};

pub(super) struct EmbeddedConsumer {
    log: EmbeddedLog,
    options: ConsumerOptions,
    /// The group and this member's number in it.
    membership: Option<(String, MemberNumber)>,
    /// Generation of the last assignment told to the caller.
    generation: i32,
    positions: BTreeMap<TopicPartition, Position>,
    /// The partition read first by the next poll, so that a busy one does not starve the others.
    turn: usize,
}

#[derive(Default)]
struct Position {
    /// `None` until the committed offset is known.
    next: Option<i64>,
    /// The end that was last reported.
    reported_end: Option<i64>,
}

/// Membership at one instant.
pub(super) struct EmbeddedGroup {
    pub group: String,
    pub member: MemberNumber,
    pub generation: i32,
}

impl GroupMetadata for EmbeddedGroup {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl EmbeddedConsumer {
    pub fn new(log: EmbeddedLog, options: ConsumerOptions) -> Result<Self> {
        let mut membership = None;
        if let Some(group) = &options.group {
            let mut state = log.enter()?;
            let member = state.join(group, options.topics.clone());
            lock(&log.process.members).push((group.clone(), member));
            membership = Some((group.clone(), member));
            log.shared.changed.notify_all();
        }
        Ok(Self { log, options, membership, generation: 0, positions: BTreeMap::new(), turn: 0 })
    }

    /// Whatever there is now: group events, ends reached, records.
    fn collect(&mut self, state: &mut State, max_records: usize, polled: &mut Polled) {
        self.take_group_events(state, &mut polled.events);
        self.resolve_positions(state);
        let read_committed = self.options.read_committed;
        let count = self.positions.len();
        let mut cursors: Vec<(&TopicPartition, &mut Position)> = self.positions.iter_mut().collect();
        cursors.rotate_left(if count == 0 { 0 } else { self.turn % count });
        self.turn = self.turn.wrapping_add(1);
        for (at, position) in cursors {
            let (Some(next), Some(partition)) = (position.next, state.partition(at)) else { continue };
            let end = partition.end(read_committed);
            // An end reported in one poll with the records before it would be handled before them.
            let room = max_records.saturating_sub(polled.records.len());
            let held = polled.records.len();
            let after = partition.read(next, read_committed, room, at, &mut polled.records);
            position.next = Some(after);
            if polled.records.len() == held && after >= end && position.reported_end != Some(after) {
                position.reported_end = Some(after);
                polled.events.push(ConsumerEvent::EndOfPartition { partition: at.clone(), next_offset: after });
            }
        }
    }

    fn take_group_events(&mut self, state: &mut State, events: &mut Vec<ConsumerEvent>) {
        let Some((group, member)) = &self.membership else { return };
        let Some(group) = state.groups.get_mut(group) else { return };
        for event in group.take_events(*member) {
            match &event {
                ConsumerEvent::Assigned(share) => {
                    self.positions = share.iter().map(|at| (at.clone(), Position::default())).collect();
                }
                ConsumerEvent::Revoked(_) => self.positions.clear(),
                ConsumerEvent::EndOfPartition { .. } => {}
            }
            events.push(event);
        }
        self.generation = group.generation;
    }

    /// Finds where new partitions start, and moves positions that retention has overtaken.
    fn resolve_positions(&mut self, state: &State) {
        let group = self.membership.as_ref().and_then(|(group, _)| state.groups.get(group));
        for (at, position) in &mut self.positions {
            let Some(partition) = state.partition(at) else { continue };
            let reset = match self.options.start {
                StartOffset::Earliest => partition.start_offset(),
                StartOffset::Latest => partition.end(self.options.read_committed),
            };
            if position.next.is_none() {
                // An open transaction may still move the committed offset: starting now could read twice.
                if self.options.read_committed && group.is_some_and(|group| group.is_unstable(at)) {
                    continue;
                }
                position.next = Some(group.and_then(|group| group.committed(at)).unwrap_or(reset));
            }
            let out_of_range = |next: i64| next < partition.start_offset() || next > partition.high_watermark();
            if position.next.is_some_and(out_of_range) {
                position.next = Some(reset);
            }
        }
    }
}

impl Consumer for EmbeddedConsumer {
    fn poll(&mut self, max_records: usize, timeout: Duration) -> Result<Polled> {
        let log = self.log.clone();
        let deadline = Instant::now() + timeout;
        let mut state = log.enter()?;
        loop {
            let mut polled = Polled { events: Vec::new(), records: Records::default() };
            self.collect(&mut state, max_records, &mut polled);
            let left = deadline.saturating_duration_since(Instant::now());
            if !polled.events.is_empty() || !polled.records.is_empty() || left.is_zero() {
                return Ok(polled);
            }
            state = log
                .shared
                .changed
                .wait_timeout(state, left)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(guard, _)| guard);
            log.check_alive()?;
        }
    }

    fn assign(&mut self, partitions: &[(TopicPartition, Option<i64>)]) -> Result<()> {
        if self.membership.is_some() {
            return Err(LogError::Fatal("a member of a group cannot assign partitions by hand".into()));
        }
        let state = self.log.enter()?;
        let mut positions = BTreeMap::new();
        for (at, offset) in partitions {
            let Some(partition) = state.partition(at) else {
                return Err(LogError::Retry(format!("partition {at} does not exist")));
            };
            let next = Some(offset.unwrap_or_else(|| partition.start_offset()));
            positions.insert(at.clone(), Position { next, reported_end: None });
        }
        drop(state);
        self.positions = positions;
        Ok(())
    }

    fn assignment(&self) -> Vec<TopicPartition> {
        self.positions.keys().cloned().collect()
    }

    fn seek(&mut self, partition: &TopicPartition, offset: i64) -> Result<()> {
        drop(self.log.enter()?);
        match self.positions.get_mut(partition) {
            Some(position) => {
                *position = Position { next: Some(offset), reported_end: None };
                Ok(())
            }
            None if self.membership.is_some() => Err(LogError::Rebalanced),
            None => Err(LogError::Fatal(format!("partition {partition} is not assigned"))),
        }
    }

    fn committed(&self, partition: &TopicPartition) -> Result<Option<i64>> {
        let state = self.log.enter()?;
        let Some((group, _)) = &self.membership else {
            return Err(LogError::Fatal("a consumer without a group has no committed offsets".into()));
        };
        match state.groups.get(group) {
            Some(group) if self.options.read_committed && group.is_unstable(partition) => {
                Err(LogError::Retry(format!("an open transaction may still move the offset of {partition}")))
            }
            Some(group) => Ok(group.committed(partition)),
            None => Ok(None),
        }
    }

    fn offsets(&self, partition: &TopicPartition) -> Result<(i64, i64)> {
        let state = self.log.enter()?;
        match state.partition(partition) {
            Some(found) => Ok((found.start_offset(), found.high_watermark())),
            None => Err(LogError::Retry(format!("partition {partition} does not exist"))),
        }
    }

    fn group(&self) -> Result<Box<dyn GroupMetadata>> {
        let state = self.log.enter()?;
        let Some((name, member)) = &self.membership else {
            return Err(LogError::Fatal("this consumer is in no group".into()));
        };
        match state.groups.get(name) {
            Some(group)
                if group.has_member(*member) && !group.has_events(*member) && group.generation == self.generation =>
            {
                Ok(Box::new(EmbeddedGroup { group: name.clone(), member: *member, generation: self.generation }))
            }
            _ => Err(LogError::Rebalanced),
        }
    }

    fn healthy(&self) -> bool {
        !self.log.is_killed()
    }
}

impl Drop for EmbeddedConsumer {
    fn drop(&mut self) {
        if let Some((group, member)) = self.membership.take() {
            let mut state = self.log.shared.lock();
            lock(&self.log.process.members).retain(|(_, other)| *other != member);
            state.leave(&group, member);
            self.log.shared.changed.notify_all();
        }
    }
}
