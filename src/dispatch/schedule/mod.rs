//! When to try which delivery: a pure state machine, `(state, input, now) -> effects`.
//!
//! What it keeps:
//! 1. One delivery per notification and receiver, however often the notification is read.
//! 2. Notifications of one episode reach one receiver in the order of their sequence numbers: a later one waits
//!    until the earlier has a final status.
//! 3. A delivery leaves memory only with a final record. What was never tried is given up only if its receiver has
//!    answered nobody for `max_retry` and longer, however long the service was down.
//! 4. No more attempts are in flight than the limits allow, and none at a receiver that asked to be left alone.
//! 5. What is sent by itself was recorded as pending before.
//!
//! One concern, one file, each with its part of the state: `lines` (order), `limits` and `breaker` (retries),
//! `rate_limit`, `holds` (silences of people), `owed` (ends after all), `supersede` (one message instead of several), `digests`, `reminders`,
//! `fallback`, `health` (alerts about receivers), `heartbeat`, `finished` (what is remembered of what is done). To add
//! one: its part in `Schedule`, a call in `plan`, and what it needs in the record, so that a restart goes on with it.
//!
//! The caller feeds `Notification`, `Control` and `Attempted` as they come, then `Plan`; writes the records of all of
//! them in one transaction; then feeds `Tick` and makes the attempts that it asks for.

mod accept;
mod breaker;
mod digests;
mod entry;
mod fallback;
mod finished;
mod health;
mod heartbeat;
mod holds;
mod limits;
mod lines;
mod owed;
mod policy;
mod rate_limit;
mod reminders;
mod restore;
mod settle;
mod start;
mod supersede;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use breaker::Circuit;
pub use limits::Limits;
pub use policy::{Policy, ReceiverPolicy};

use breaker::Breaker;
use digests::Digests;
use finished::Finished;
use health::Alerted;
use heartbeat::Beat;
use lines::Lines;
use rate_limit::RateLimiter;
use reminders::Told;
use restore::Restoring;

use super::control::{Command, ControlRecord, ControlState};
use super::delivery::{DeliveryKey, DeliveryRecord, DeliveryStatus};
use super::digest::Digest;
use super::receiver::{Outcome, Telling};
use crate::rules::episode::Notification;

/// Records that are forgotten in one step, so that no transaction grows large.
const MAX_FORGOTTEN_AT_ONCE: usize = 200;

#[derive(Debug, Clone)]
pub enum Input {
    /// An intent was read from this partition of the outbox.
    Notification { notification: Arc<Notification>, partition: i32 },
    /// The next record of the control topic.
    Control { record: Box<ControlRecord> },
    /// An attempt ended. `jitter` is a random number in [0, 1).
    Attempted { key: DeliveryKey, outcome: Outcome, jitter: f64 },
    /// Time has passed: hold back, collect, remind, give up, forget. Before records are written.
    Plan,
    /// Records have become durable: start what is due.
    Tick,
}

/// What is sent as one message.
#[derive(Debug, Clone, PartialEq)]
pub enum Parcel {
    One(Arc<Notification>),
    Digest(Arc<Digest>),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Write to this partition of the `deliveries` topic.
    Record { record: Box<DeliveryRecord>, partition: i32 },
    /// Write a tombstone there.
    Forget { key: DeliveryKey, partition: i32 },
    /// Look this finished delivery up in the `deliveries` topic and `restore` it before the next `Plan`: it is to be sent
    /// again.
    Find { key: DeliveryKey, partition: i32 },
    /// Send this; `attempt` counts from 1. `key` is the delivery's, or the digest's.
    Attempt { key: DeliveryKey, parcel: Parcel, telling: Telling, attempt: u32 },
}

/// What is kept of a receiver in memory alone.
#[derive(Debug, Default)]
struct ReceiverState {
    breaker: Breaker,
    limiter: RateLimiter,
    in_flight: usize,
    alerted: Option<Alerted>,
}

#[derive(Debug)]
pub struct Schedule {
    limits: Limits,
    policy: Arc<Policy>,
    control: ControlState,
    lines: Lines,
    digests: Digests,
    told: Told,
    receivers: BTreeMap<String, ReceiverState>,
    beats: BTreeMap<String, Beat>,
    finished: Finished,
    /// Partitions of the outbox that are this schedule's.
    owned: BTreeSet<i32>,
    /// What was restored since the last `Plan`.
    restoring: Option<Restoring>,
}

impl Schedule {
    pub fn new(limits: Limits, policy: Arc<Policy>) -> Self {
        Self {
            limits,
            policy,
            control: ControlState::default(),
            lines: Lines::default(),
            digests: Digests::default(),
            told: Told::default(),
            receivers: BTreeMap::new(),
            beats: BTreeMap::new(),
            finished: Finished::default(),
            owned: BTreeSet::new(),
            restoring: None,
        }
    }

    pub fn step(&mut self, input: Input, now_ms: i64) -> Vec<Effect> {
        match input {
            Input::Notification { notification, partition } => self.accept(&notification, partition, now_ms),
            Input::Control { record } => self.command(&record, now_ms),
            Input::Attempted { key, outcome, jitter } => self.settle(&key, outcome, jitter, now_ms),
            Input::Plan => self.plan(now_ms),
            Input::Tick => self.start_due(now_ms),
        }
    }

    /// Forgets all but what people commanded and how receivers fared, to take it up again from the records.
    pub fn clear(&mut self) {
        let fresh = Self::new(self.limits, self.policy.clone());
        let control = std::mem::take(&mut self.control);
        let mut receivers = std::mem::take(&mut self.receivers);
        receivers.values_mut().for_each(|state| (state.in_flight, state.alerted) = (0, None));
        *self = Self { control, receivers, ..fresh };
    }

    /// These partitions are this schedule's from now on; what is recorded there follows by `restore`.
    pub fn own(&mut self, partitions: &[i32]) {
        self.owned.extend(partitions);
    }

    /// Deliveries not yet finished.
    pub fn pending(&self) -> usize {
        self.lines.len()
    }

    pub fn in_flight(&self) -> usize {
        self.lines.in_flight() + self.digests.in_flight()
    }

    /// Whether no more of the outbox should be read.
    pub fn is_full(&self) -> bool {
        let most = self.limits.max_pending;
        if self.lines.len() < most {
            return false;
        }
        let resting = self.lines.entries().filter(|(_, entry)| entry.is_resting()).count();
        self.lines.len() - resting >= most || resting >= 4 * most
    }

    /// Deliveries not yet finished, by receiver: all of them, and those of them that a silence holds back.
    pub fn pending_by_receiver(&self) -> BTreeMap<&str, (usize, usize)> {
        let mut counts = BTreeMap::new();
        for (key, entry) in self.lines.entries() {
            let (pending, held) = counts.entry(key.receiver.as_str()).or_insert((0, 0));
            *pending += 1;
            *held += usize::from(entry.held_by.is_some());
        }
        counts
    }

    pub fn circuit(&self, receiver: &str, now_ms: i64) -> Circuit {
        self.receivers.get(receiver).map_or(Circuit::Closed, |state| state.breaker.circuit(now_ms))
    }

    pub fn control(&self) -> &ControlState {
        &self.control
    }

    /// When there will be something to do if nothing comes in, epoch milliseconds.
    pub fn next_due_ms(&self) -> Option<i64> {
        let lines = self.lines.due().map(|(receiver, at_ms)| (receiver.to_string(), at_ms));
        let sealed = self.digests.due().map(|(receiver, at_ms)| (receiver.to_string(), at_ms));
        let attempts = lines.chain(sealed).filter_map(|(receiver, at_ms)| Some(at_ms.max(self.free_at_ms(&receiver)?)));
        let others = [
            self.digests.next_seal_ms(),
            self.told.next_reminder_ms(),
            self.next_beat_ms(),
            self.next_receiver_alert_ms(),
            self.restoring.as_ref().map(|_| i64::MIN),
        ];
        attempts.chain(others.into_iter().flatten()).min()
    }

    /// When the next digest is complete, epoch milliseconds.
    pub fn next_digest_ms(&self) -> Option<i64> {
        self.digests.next_seal_ms()
    }

    fn plan(&mut self, now_ms: i64) -> Vec<Effect> {
        let mut effects = self.end_restoring(now_ms);
        effects.extend(self.hold_due(now_ms));
        effects.extend(self.seal_digests(now_ms));
        effects.extend(self.remind(now_ms));
        effects.extend(self.watch_receivers(now_ms));
        effects.extend(self.beat(now_ms));
        effects.extend(self.forget(now_ms));
        effects
    }

    fn command(&mut self, record: &ControlRecord, now_ms: i64) -> Vec<Effect> {
        if !self.control.apply(record) {
            return Vec::new();
        }
        match &record.command {
            Command::Silence { .. } | Command::ExpireSilence { .. } => self.release_held(now_ms),
            Command::Acknowledge { .. } | Command::Unacknowledge { .. } => self.plan_reminders(),
            Command::Redeliver { notification_id, receiver } => {
                let key = DeliveryKey { notification_id: notification_id.clone(), receiver: receiver.clone() };
                return self.redeliver(&key, record, now_ms);
            }
            Command::Approve { .. } | Command::Deny { .. } | Command::Report { .. } | Command::Resume { .. } => {}
        }
        Vec::new()
    }

    /// A person wants it sent again. What is done with it already is not in memory.
    fn redeliver(&mut self, key: &DeliveryKey, record: &ControlRecord, now_ms: i64) -> Vec<Effect> {
        if self.lines.is_in_flight(key) || self.digests.is_on_its_way(key) {
            return Vec::new(); // it is being sent
        }
        if self.lines.get(key).is_none() {
            let partition = self.finished.partition(key);
            return partition.map(|partition| Effect::Find { key: key.clone(), partition }).into_iter().collect();
        }
        self.digests.remove(key);
        let entry = self.lines.update(key, |entry| {
            entry.commands.push(record.id.clone());
            (entry.held_by, entry.digest) = (None, None);
            entry.released_at_ms = Some(now_ms);
            entry.next_attempt_ms = now_ms;
        });
        entry.map(|entry| entry.record(key, DeliveryStatus::Pending, now_ms)).into_iter().collect()
    }

    /// Takes a delivery out of memory, with the record that says how it ended.
    fn finish(&mut self, key: &DeliveryKey, status: DeliveryStatus, now_ms: i64) -> Option<Effect> {
        self.digests.remove(key);
        let entry = self.lines.remove(key)?;
        self.finished.insert(key.clone(), entry.done(status, now_ms));
        self.note_told(key, &entry, status, now_ms);
        Some(entry.record(key, status, now_ms))
    }

    /// The same for one that is not sent, and why.
    fn supersede(&mut self, key: &DeliveryKey, reason: &str, now_ms: i64) -> Option<Effect> {
        self.lines.update(key, |entry| entry.last_error = Some(reason.to_string()));
        self.finish(key, DeliveryStatus::Superseded, now_ms)
    }

    /// What is long done leaves the topic, so that a restart reads a bounded stretch.
    fn forget(&mut self, now_ms: i64) -> Vec<Effect> {
        let before_ms = now_ms.saturating_sub(self.limits.forget_after_ms);
        let keep = |key: &DeliveryKey| self.told.is_record_of_open(key, &self.policy);
        let forgotten = self.finished.forget(before_ms, self.limits.max_recent, MAX_FORGOTTEN_AT_ONCE, keep);
        forgotten.into_iter().map(|(key, partition)| Effect::Forget { key, partition }).collect()
    }
}
