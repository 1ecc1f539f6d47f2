//! When to try which delivery: a pure state machine, `(state, input, now) -> effects`.
//!
//! What it keeps:
//! 1. One delivery per notification and receiver, however often the notification is read.
//! 2. Notifications of one episode reach one receiver in the order of their sequence numbers: a later one waits
//!    until the earlier has a final status.
//! 3. A delivery leaves memory only with a final record, and only a failed attempt expires one: what was never
//!    tried is never given up, however long the service was down.
//! 4. No more attempts are in flight than the limits allow.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use super::delivery::{DeliveryKey, DeliveryRecord, DeliveryStatus};
use super::receiver::Outcome;
use crate::rules::episode::Notification;

/// Longest error text kept in a record, in characters.
const MAX_ERROR_CHARS: usize = 500;

/// Waiting times in milliseconds, and limits on what is held and done at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub first_retry_ms: i64,
    pub max_retry_ms: i64,
    pub expire_after_ms: i64,
    pub max_in_flight: usize,
    pub max_in_flight_per_receiver: usize,
    /// Deliveries held at which `is_full` tells the caller to read no more of the outbox.
    pub max_pending: usize,
    /// Finished deliveries remembered, so that a repeated intent is known.
    pub max_recent: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            first_retry_ms: 1_000,
            max_retry_ms: 300_000,
            expire_after_ms: 86_400_000,
            max_in_flight: 32,
            max_in_flight_per_receiver: 4,
            max_pending: 10_000,
            max_recent: 10_000,
        }
    }
}

#[derive(Debug, Clone)]
pub enum Input {
    /// An intent was read from this partition of the outbox.
    Notification { notification: Arc<Notification>, partition: i32 },
    /// An attempt ended. `jitter` is a random number in [0, 1).
    Attempted { key: DeliveryKey, outcome: Outcome, jitter: f64 },
    /// Time has passed, or records have become durable: start what is due.
    Tick,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Write to this partition of the `deliveries` topic.
    Record { record: Box<DeliveryRecord>, partition: i32 },
    /// Try this delivery; `attempt` counts from 1.
    Attempt { key: DeliveryKey, notification: Arc<Notification>, attempt: u32 },
}

/// Where order is kept: one episode at one receiver.
type Line = (String, String);

#[derive(Debug)]
struct Entry {
    notification: Arc<Notification>,
    partition: i32,
    attempts: u32,
    first_at_ms: i64,
    next_attempt_ms: i64,
    last_error: Option<String>,
}

#[derive(Debug)]
pub struct Schedule {
    limits: Limits,
    entries: BTreeMap<DeliveryKey, Entry>,
    /// Pending deliveries in order; only the first of a line is ever tried.
    lines: BTreeMap<Line, BTreeMap<(u32, String), DeliveryKey>>,
    /// Lines whose first delivery is not in flight, by when it may be tried.
    due: BTreeSet<(i64, Line)>,
    in_flight: BTreeMap<Line, DeliveryKey>,
    in_flight_by_receiver: BTreeMap<String, usize>,
    recent: Recent,
}

impl Schedule {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: BTreeMap::new(),
            lines: BTreeMap::new(),
            due: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            in_flight_by_receiver: BTreeMap::new(),
            recent: Recent::new(limits.max_recent),
        }
    }

    pub fn step(&mut self, input: Input, now_ms: i64) -> Vec<Effect> {
        match input {
            Input::Notification { notification, partition } => self.accept(notification, partition, now_ms),
            Input::Attempted { key, outcome, jitter } => self.settle(&key, outcome, jitter, now_ms),
            Input::Tick => self.start_due(now_ms),
        }
    }

    /// Takes up what a predecessor has recorded in this partition of the `deliveries` topic: pending ones go on
    /// where they stood, finished ones are remembered as done.
    pub fn restore(&mut self, record: DeliveryRecord, partition: i32) {
        let key = record.key();
        if record.status.is_final() {
            self.recent.insert(key);
            return;
        }
        if self.entries.contains_key(&key) || self.recent.contains(&key) {
            return;
        }
        let entry = Entry {
            partition,
            attempts: record.attempts,
            first_at_ms: record.first_at_ms,
            next_attempt_ms: record.next_attempt_ms.unwrap_or(record.first_at_ms),
            last_error: record.last_error,
            notification: Arc::new(record.notification),
        };
        self.insert(key, entry);
    }

    /// Forgets everything that belongs to partitions which somebody else owns now. Answers the attempts in
    /// flight among it: their outcomes will be ignored, and the caller had better stop them.
    pub fn drop_partitions(&mut self, is_lost: impl Fn(i32) -> bool) -> Vec<DeliveryKey> {
        let lost: Vec<DeliveryKey> =
            self.entries.iter().filter(|(_, entry)| is_lost(entry.partition)).map(|(key, _)| key.clone()).collect();
        let mut abandoned = Vec::new();
        for key in lost {
            let Some(entry) = self.entries.get(&key) else { continue };
            let line = line_of(&key, &entry.notification);
            if self.in_flight.get(&line) == Some(&key) {
                abandoned.push(key.clone());
            }
            self.remove(&key);
        }
        abandoned
    }

    /// Deliveries not yet finished.
    pub fn pending(&self) -> usize {
        self.entries.len()
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub fn is_full(&self) -> bool {
        self.entries.len() >= self.limits.max_pending
    }

    /// Deliveries not yet finished, by receiver.
    pub fn pending_by_receiver(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for key in self.entries.keys() {
            *counts.entry(key.receiver.as_str()).or_insert(0) += 1;
        }
        counts
    }

    /// When the next waiting delivery may be tried, epoch milliseconds.
    pub fn next_due_ms(&self) -> Option<i64> {
        self.due.first().map(|(at_ms, _)| *at_ms)
    }

    fn accept(&mut self, notification: Arc<Notification>, partition: i32, now_ms: i64) -> Vec<Effect> {
        let mut effects = Vec::new();
        for receiver in &notification.receivers {
            let key = DeliveryKey { notification_id: notification.id.clone(), receiver: receiver.clone() };
            if self.entries.contains_key(&key) || self.recent.contains(&key) {
                continue;
            }
            let entry = Entry {
                notification: notification.clone(),
                partition,
                attempts: 0,
                first_at_ms: now_ms,
                next_attempt_ms: now_ms,
                last_error: None,
            };
            effects.push(record_of(&key, &entry, DeliveryStatus::Pending, now_ms));
            self.insert(key, entry);
        }
        effects
    }

    fn settle(&mut self, key: &DeliveryKey, outcome: Outcome, jitter: f64, now_ms: i64) -> Vec<Effect> {
        let limits = self.limits;
        let Some(entry) = self.entries.get_mut(key) else {
            return Vec::new(); // its partition has gone to somebody else
        };
        let line = line_of(key, &entry.notification);
        if self.in_flight.get(&line) != Some(key) {
            return Vec::new(); // an outcome of an attempt from before the delivery was dropped and restored
        }
        entry.attempts = entry.attempts.saturating_add(1);
        let status = match outcome {
            Outcome::Delivered { remark } => {
                entry.last_error = remark.map(shorten);
                DeliveryStatus::Delivered
            }
            Outcome::Permanent { reason } => {
                entry.last_error = Some(shorten(reason));
                DeliveryStatus::Failed
            }
            Outcome::Retry { reason, after_ms } => {
                entry.last_error = Some(shorten(reason));
                let expires_at_ms = entry.first_at_ms.saturating_add(limits.expire_after_ms);
                if now_ms >= expires_at_ms {
                    DeliveryStatus::Expired
                } else {
                    let wait_ms = backoff_ms(&limits, entry.attempts, jitter).max(after_ms.unwrap_or(0));
                    // The last attempt is made when the time is up, not before.
                    entry.next_attempt_ms = now_ms.saturating_add(wait_ms).min(expires_at_ms);
                    DeliveryStatus::Pending
                }
            }
        };
        let effect = record_of(key, entry, status, now_ms);
        if status.is_final() {
            self.remove(key);
            self.recent.insert(key.clone());
        } else {
            self.leave_flight(&line, key);
            self.enqueue(&line);
        }
        vec![effect]
    }

    fn start_due(&mut self, now_ms: i64) -> Vec<Effect> {
        let mut started = Vec::new();
        let mut in_flight = self.in_flight.len();
        let mut by_receiver = self.in_flight_by_receiver.clone();
        for (at_ms, line) in &self.due {
            if *at_ms > now_ms || in_flight >= self.limits.max_in_flight {
                break;
            }
            let busy = by_receiver.entry(line.1.clone()).or_insert(0);
            if *busy >= self.limits.max_in_flight_per_receiver {
                continue;
            }
            *busy += 1;
            in_flight += 1;
            started.push((*at_ms, line.clone()));
        }
        self.in_flight_by_receiver = by_receiver;

        let mut effects = Vec::with_capacity(started.len());
        for due in started {
            self.due.remove(&due);
            let (_, line) = due;
            let Some(key) = self.first_of(&line).cloned() else { continue };
            let Some(entry) = self.entries.get(&key) else { continue };
            effects.push(Effect::Attempt {
                key: key.clone(),
                notification: entry.notification.clone(),
                attempt: entry.attempts.saturating_add(1),
            });
            self.in_flight.insert(line, key);
        }
        effects
    }

    fn insert(&mut self, key: DeliveryKey, entry: Entry) {
        let line = line_of(&key, &entry.notification);
        self.dequeue(&line);
        let place = (entry.notification.sequence, key.notification_id.clone());
        self.lines.entry(line.clone()).or_default().insert(place, key.clone());
        self.entries.insert(key, entry);
        self.enqueue(&line);
    }

    fn remove(&mut self, key: &DeliveryKey) {
        let Some(entry) = self.entries.get(key) else { return };
        let line = line_of(key, &entry.notification);
        let place = (entry.notification.sequence, key.notification_id.clone());
        self.dequeue(&line);
        self.leave_flight(&line, key);
        self.entries.remove(key);
        if let Some(waiting) = self.lines.get_mut(&line) {
            waiting.remove(&place);
            if waiting.is_empty() {
                self.lines.remove(&line);
            }
        }
        self.enqueue(&line);
    }

    fn leave_flight(&mut self, line: &Line, key: &DeliveryKey) {
        if self.in_flight.get(line) != Some(key) {
            return;
        }
        self.in_flight.remove(line);
        if let Some(count) = self.in_flight_by_receiver.get_mut(&line.1) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.in_flight_by_receiver.remove(&line.1);
            }
        }
    }

    /// Puts a line's first delivery among the due ones, unless the line is busy.
    fn enqueue(&mut self, line: &Line) {
        if self.in_flight.contains_key(line) {
            return;
        }
        if let Some(entry) = self.first_of(line).and_then(|key| self.entries.get(key)) {
            self.due.insert((entry.next_attempt_ms, line.clone()));
        }
    }

    /// Undoes `enqueue`: to be called before a line's first delivery changes.
    fn dequeue(&mut self, line: &Line) {
        let due = self.first_of(line).and_then(|key| self.entries.get(key)).map(|entry| entry.next_attempt_ms);
        if let Some(at_ms) = due {
            self.due.remove(&(at_ms, line.clone()));
        }
    }

    fn first_of(&self, line: &Line) -> Option<&DeliveryKey> {
        self.lines.get(line).and_then(|waiting| waiting.values().next())
    }
}

fn line_of(key: &DeliveryKey, notification: &Notification) -> Line {
    (notification.episode_id.clone(), key.receiver.clone())
}

fn record_of(key: &DeliveryKey, entry: &Entry, status: DeliveryStatus, now_ms: i64) -> Effect {
    let record = DeliveryRecord {
        notification: (*entry.notification).clone(),
        receiver: key.receiver.clone(),
        status,
        attempts: entry.attempts,
        first_at_ms: entry.first_at_ms,
        last_error: entry.last_error.clone(),
        next_attempt_ms: (status == DeliveryStatus::Pending).then_some(entry.next_attempt_ms),
        delivered_at_ms: (status == DeliveryStatus::Delivered).then_some(now_ms),
    };
    Effect::Record { record: Box::new(record), partition: entry.partition }
}

/// Doubles from `first_retry_ms` to at most `max_retry_ms`; the jitter takes up to half of it away, so that the
/// notifications that one outage held back do not return all at once.
fn backoff_ms(limits: &Limits, attempts: u32, jitter: f64) -> i64 {
    let doublings = attempts.saturating_sub(1).min(40);
    let full_ms = limits.first_retry_ms.max(1).saturating_mul(1_i64 << doublings).min(limits.max_retry_ms.max(1));
    let share = 0.5 + 0.5 * jitter.clamp(0.0, 1.0);
    ((full_ms as f64 * share) as i64).max(1)
}

fn shorten(text: String) -> String {
    match text.char_indices().nth(MAX_ERROR_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// The last finished deliveries, oldest forgotten first. The offsets in the transaction are what protects from
/// reading an intent twice; this is for intents that were written twice.
#[derive(Debug)]
struct Recent {
    capacity: usize,
    order: VecDeque<DeliveryKey>,
    known: HashSet<DeliveryKey>,
}

impl Recent {
    fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), order: VecDeque::new(), known: HashSet::new() }
    }

    fn contains(&self, key: &DeliveryKey) -> bool {
        self.known.contains(key)
    }

    fn insert(&mut self, key: DeliveryKey) {
        if !self.known.insert(key.clone()) {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}
