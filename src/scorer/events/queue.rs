//! What requests see of events: a bounded queue, and the counts. The lock is held for some tens of nanoseconds.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::transport::DeliveryReport;
use super::{EventCounts, EventSink, ScoredEvent};

/// How much may wait: in the queue and with the producer together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventLimits {
    pub max_rows: usize,
    pub max_bytes: usize,
}

impl Default for EventLimits {
    fn default() -> Self {
        Self { max_rows: 100_000, max_bytes: 64 << 20 }
    }
}

/// An event in the queue.
#[derive(Debug)]
pub(super) struct Queued {
    pub event: ScoredEvent,
    /// Index of the model's counts.
    pub model: usize,
    /// What it counts in the queue's bytes.
    pub bytes: usize,
}

/// What the writer is given.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub events: VecDeque<Queued>,
    pub is_closed: bool,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Queued>,
    /// Of what is in flight: in the queue, and with the transport.
    rows: usize,
    bytes: usize,
    models: HashMap<Arc<str>, usize>,
    counts: Vec<EventCounts>,
    is_closed: bool,
    /// The writer sleeps until it is told.
    writer_sleeps: bool,
}

/// A bounded queue of events.
#[derive(Debug)]
pub struct EventQueue {
    limits: EventLimits,
    state: Mutex<State>,
    wake: Condvar,
}

impl EventQueue {
    pub fn new(limits: EventLimits) -> Self {
        Self { limits, state: Mutex::default(), wake: Condvar::new() }
    }

    /// Counts by model, of one moment.
    pub fn counts_by_model(&self) -> Vec<(Arc<str>, EventCounts)> {
        let state = self.state();
        let mut counts: Vec<_> =
            state.models.iter().map(|(model, index)| (model.clone(), state.counts[*index])).collect();
        counts.sort_by(|(one, _), (other, _)| one.cmp(other));
        counts
    }

    /// Counts over all models, of one moment.
    pub fn counts(&self) -> EventCounts {
        let mut total = EventCounts::default();
        for counts in &self.state().counts {
            total += *counts;
        }
        total
    }

    /// Bytes in flight.
    pub fn bytes(&self) -> usize {
        self.state().bytes
    }

    /// From now on everything offered is dropped; the writer is told to finish.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.wake.notify_all();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state().is_closed
    }

    /// Everything that waits. Where nothing does, waits up to `wait`, or, with `sleep`, until something comes.
    pub(super) fn take(&self, wait: Duration, sleep: bool) -> Taken {
        let mut state = self.state();
        if state.events.is_empty() && !state.is_closed {
            state.writer_sleeps = sleep;
            state = self.wake.wait_timeout(state, wait).map_or_else(|error| error.into_inner().0, |(state, _)| state);
            state.writer_sleeps = false;
        }
        Taken { events: std::mem::take(&mut state.events), is_closed: state.is_closed }
    }

    /// An event's bytes, now that it is written out.
    pub(super) fn resize(&self, before: usize, after: usize) {
        let mut state = self.state();
        state.bytes = (state.bytes + after).saturating_sub(before);
    }

    pub(super) fn settle(&self, reports: &[DeliveryReport]) {
        if reports.is_empty() {
            return;
        }
        let mut state = self.state();
        for report in reports {
            let done = report.sent + report.failed;
            state.rows = state.rows.saturating_sub(done as usize);
            state.bytes = state.bytes.saturating_sub(report.bytes);
            let counts = &mut state.counts[report.tag];
            counts.sent += report.sent;
            counts.failed += report.failed;
            counts.in_flight -= done;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventSink for EventQueue {
    fn offer(&self, event: ScoredEvent) {
        let rows = event.rows();
        if rows == 0 {
            return;
        }
        let bytes = event.byte_len();
        let is_sampled = event.layout.is_sampled(&event.request_id);
        let mut state = self.state();
        let model = match state.models.get(event.layout.model()) {
            Some(index) => *index,
            None => {
                let index = state.counts.len();
                state.models.insert(event.layout.model().clone(), index);
                state.counts.push(EventCounts::default());
                index
            }
        };
        let fits = !state.is_closed
            && state.rows.saturating_add(rows) <= self.limits.max_rows
            && state.bytes.saturating_add(bytes) <= self.limits.max_bytes;
        let counts = &mut state.counts[model];
        counts.offered += rows as u64;
        if !is_sampled {
            counts.sampled_out += rows as u64;
        } else if !fits {
            counts.dropped += rows as u64;
        } else {
            counts.enqueued += rows as u64;
            counts.in_flight += rows as u64;
            state.rows += rows;
            state.bytes += bytes;
            state.events.push_back(Queued { event, model, bytes });
            if std::mem::take(&mut state.writer_sleeps) {
                drop(state);
                self.wake.notify_one();
            }
        }
    }
}
