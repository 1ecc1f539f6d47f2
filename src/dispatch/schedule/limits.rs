//! How long is waited, and how much is held and done at once.

/// Waiting times in milliseconds, and limits on what is held and done at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub first_retry_ms: i64,
    pub max_retry_ms: i64,
    pub expire_after_ms: i64,
    pub max_in_flight: usize,
    pub max_in_flight_per_receiver: usize,
    /// Deliveries waiting for their receiver at which `is_full` tells the caller to read no more of the outbox. Of those
    /// that rest for a silence or a digest, four times as many.
    pub max_pending: usize,
    /// Finished deliveries remembered, so that a repeated intent is known and a person can have one sent again.
    pub max_recent: usize,
    /// Finished deliveries are forgotten, in the topic too, after this long.
    pub forget_after_ms: i64,
    /// Notifications that a digest holds before it is sent early.
    pub max_digest: usize,
    /// Failures in a row at which a receiver is left alone but for one attempt at a time.
    pub open_after_failures: u32,
    /// A receiver that has not answered for this long is told of to its fallback.
    pub alert_after_ms: i64,
}

impl Limits {
    pub const DEFAULT: Limits = Limits {
        first_retry_ms: 1_000,
        max_retry_ms: 300_000,
        expire_after_ms: 86_400_000,
        max_in_flight: 32,
        max_in_flight_per_receiver: 4,
        max_pending: 10_000,
        max_recent: 50_000,
        forget_after_ms: 30 * 86_400_000,
        max_digest: 500,
        open_after_failures: 5,
        alert_after_ms: 300_000,
    };

    /// Wait after the `failures`-th failure in a row: doubles from `first_retry_ms` to at most `max_retry_ms`. `jitter`,
    /// in [0, 1), takes up to half of it away, so that what one outage held back does not return all at once.
    pub fn backoff_ms(&self, failures: u32, jitter: f64) -> i64 {
        let doublings = failures.saturating_sub(1).min(40);
        let full_ms = self.first_retry_ms.max(1).saturating_mul(1_i64 << doublings).min(self.max_retry_ms.max(1));
        let share = 0.5 + 0.5 * jitter.clamp(0.0, 1.0);
        ((full_ms as f64 * share) as i64).max(1)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
