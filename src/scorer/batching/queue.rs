//! What waits, and what is computed next. A state machine: the time comes in as an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::join::joinable;
use crate::scorer::score::Priority;
use crate::scorer::tensor::Tensor;

/// What a queue may hold, and what a batch may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    pub max_requests: usize,
    pub max_rows: usize,
    pub max_batch_rows: usize,
    /// How long the first of a batch that is not full waits for others.
    pub max_delay: Duration,
    /// Whether requests may be computed together.
    pub joins: bool,
}

/// Whoever waits for an answer.
pub trait Waiter {
    /// Nobody waits any more: the caller is gone.
    fn abandoned(&self) -> bool;
}

/// A request that waits.
#[derive(Debug)]
pub struct Entry<W> {
    pub waiter: W,
    pub inputs: Vec<Tensor>,
    pub rows: usize,
    pub priority: Priority,
    pub deadline: Option<Instant>,
    pub since: Instant,
}

impl<W: Waiter> Entry<W> {
    /// Not to be computed any more.
    pub fn is_dead(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now) || self.waiter.abandoned()
    }
}

/// What a free worker finds.
#[derive(Debug)]
pub struct Taken<W> {
    /// To be computed together; empty: nothing is to be done now.
    pub batch: Vec<Entry<W>>,
    /// Expired or abandoned before they were computed.
    pub dropped: Vec<Entry<W>>,
    /// When to look again although nothing comes.
    pub look_again: Option<Instant>,
}

/// Requests that may be joined with each other, by priority, lowest first.
#[derive(Debug)]
struct Lane<W> {
    by_priority: [VecDeque<(u64, Entry<W>)>; 3],
    rows: usize,
}

impl<W> Lane<W> {
    fn new() -> Self {
        Self { by_priority: [VecDeque::new(), VecDeque::new(), VecDeque::new()], rows: 0 }
    }

    fn is_empty(&self) -> bool {
        self.by_priority.iter().all(VecDeque::is_empty)
    }

    /// The request that this lane would compute first.
    fn head(&self) -> Option<&(u64, Entry<W>)> {
        self.by_priority.iter().rev().find_map(VecDeque::front)
    }

    fn oldest(&self) -> Option<Instant> {
        self.by_priority.iter().filter_map(|entries| entries.front().map(|(_, entry)| entry.since)).min()
    }

    /// The head, if it has at most so many rows.
    fn pop_within(&mut self, rows: usize) -> Option<Entry<W>> {
        let entries = self.by_priority.iter_mut().rev().find(|entries| !entries.is_empty())?;
        let fits = entries.front().is_some_and(|(_, entry)| entry.rows <= rows);
        let (_, entry) = if fits { entries.pop_front()? } else { return None };
        self.rows -= entry.rows;
        Some(entry)
    }
}

/// Requests of one model that wait, bounded in number and rows.
#[derive(Debug)]
pub struct Queue<W> {
    limits: QueueLimits,
    lanes: Vec<Lane<W>>,
    requests: usize,
    rows: usize,
    arrivals: u64,
}

impl<W: Waiter> Queue<W> {
    pub fn new(limits: QueueLimits) -> Self {
        Self { limits, lanes: Vec::new(), requests: 0, rows: 0, arrivals: 0 }
    }

    pub fn requests(&self) -> usize {
        self.requests
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn is_empty(&self) -> bool {
        self.requests == 0
    }

    /// Whether a request of so many rows finds room.
    pub fn has_room(&self, rows: usize) -> bool {
        self.requests < self.limits.max_requests && rows <= self.limits.max_rows.saturating_sub(self.rows)
    }

    /// Lets a request wait; whether there is room was asked before.
    pub fn push(&mut self, entry: Entry<W>) {
        self.arrivals += 1;
        self.requests += 1;
        self.rows += entry.rows;
        let joins = self.limits.joins;
        let fits = |lane: &Lane<W>| !joins || lane.head().is_none_or(|(_, head)| joinable(&head.inputs, &entry.inputs));
        // A lane that holds the like of it comes before an empty one.
        let holding = self.lanes.iter().position(|lane| !lane.is_empty() && fits(lane));
        let found = holding.or_else(|| self.lanes.iter().position(Lane::is_empty));
        let index = found.unwrap_or_else(|| {
            self.lanes.push(Lane::new());
            self.lanes.len() - 1
        });
        if let Some(lane) = self.lanes.get_mut(index) {
            lane.rows += entry.rows;
            lane.by_priority[entry.priority as usize].push_back((self.arrivals, entry));
        }
    }

    /// Removes what is not to be computed any more: room for those that come.
    pub fn sweep(&mut self, now: Instant) -> Vec<Entry<W>> {
        let mut dropped = Vec::new();
        for lane in &mut self.lanes {
            for entries in &mut lane.by_priority {
                let (dead, alive) = std::mem::take(entries).into_iter().partition(|(_, entry)| entry.is_dead(now));
                *entries = alive;
                let dead: VecDeque<(u64, Entry<W>)> = dead;
                lane.rows -= dead.iter().map(|(_, entry)| entry.rows).sum::<usize>();
                dropped.extend(dead.into_iter().map(|(_, entry)| entry));
            }
        }
        self.forget(&dropped);
        dropped
    }

    /// What a free worker computes now: the highest priority first, in it the request that came first, and with it what may
    /// be computed together. `closing`: nothing more will come, so nothing is waited for.
    pub fn take(&mut self, now: Instant, closing: bool) -> Taken<W> {
        let mut taken = Taken { batch: Vec::new(), dropped: Vec::new(), look_again: None };
        while taken.batch.is_empty() {
            let ripe = |lane: &Lane<W>| closing || self.is_ripe(lane, now);
            let next = self.lanes.iter().enumerate().filter(|(_, lane)| ripe(lane));
            let next = next.filter_map(|(index, lane)| {
                let (arrival, head) = lane.head()?;
                Some((head.priority, std::cmp::Reverse(*arrival), index))
            });
            let Some((_, _, index)) = next.max() else {
                break;
            };
            self.fill(index, now, &mut taken);
        }
        self.forget(&taken.batch);
        self.forget(&taken.dropped);
        if taken.batch.is_empty() {
            taken.look_again =
                self.lanes.iter().filter_map(Lane::oldest).min().map(|since| since + self.limits.max_delay);
        }
        taken
    }

    /// Everything, for a queue that ends.
    pub fn drain(&mut self) -> Vec<Entry<W>> {
        let lanes = std::mem::take(&mut self.lanes).into_iter();
        let entries = lanes.flat_map(|lane| lane.by_priority.into_iter().flatten());
        (self.requests, self.rows) = (0, 0);
        entries.map(|(_, entry)| entry).collect()
    }

    fn is_ripe(&self, lane: &Lane<W>, now: Instant) -> bool {
        let waited = |since| now.saturating_duration_since(since) >= self.limits.max_delay;
        !self.limits.joins || lane.rows >= self.limits.max_batch_rows || lane.oldest().is_some_and(waited)
    }

    fn fill(&mut self, index: usize, now: Instant, taken: &mut Taken<W>) {
        let Some(lane) = self.lanes.get_mut(index) else {
            return;
        };
        let mut room = self.limits.max_batch_rows;
        // The first is taken whatever its size: it is computed alone.
        while let Some(entry) = lane.pop_within(if taken.batch.is_empty() { usize::MAX } else { room }) {
            if entry.is_dead(now) {
                taken.dropped.push(entry);
                continue;
            }
            room = room.saturating_sub(entry.rows);
            taken.batch.push(entry);
            if !self.limits.joins || room == 0 {
                break;
            }
        }
    }

    fn forget(&mut self, entries: &[Entry<W>]) {
        self.requests -= entries.len();
        self.rows -= entries.iter().map(|entry| entry.rows).sum::<usize>();
    }
}
