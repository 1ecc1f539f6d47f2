//! What became of events. They are counted under one lock, so at any moment
//! `offered = sampled_out + enqueued + dropped` and `enqueued = sent + failed + in_flight`.

use std::ops::AddAssign;

/// Events (rows scored) by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// Rows scored.
    pub offered: u64,
    /// Left out by `sample`.
    pub sampled_out: u64,
    /// Taken into the queue.
    pub enqueued: u64,
    /// Not taken: the queue was full, or shutting down.
    pub dropped: u64,
    /// Acknowledged by the broker.
    pub sent: u64,
    /// Taken, and not acknowledged in time, or refused by the broker.
    pub failed: u64,
    /// Taken, and neither sent nor failed yet.
    pub in_flight: u64,
}

impl EventCounts {
    /// Whether nothing is unaccounted for.
    pub const fn add_up(&self) -> bool {
        self.offered == self.sampled_out + self.enqueued + self.dropped
            && self.enqueued == self.sent + self.failed + self.in_flight
    }
}

impl AddAssign for EventCounts {
    fn add_assign(&mut self, other: Self) {
        self.offered += other.offered;
        self.sampled_out += other.sampled_out;
        self.enqueued += other.enqueued;
        self.dropped += other.dropped;
        self.sent += other.sent;
        self.failed += other.failed;
        self.in_flight += other.in_flight;
    }
}
