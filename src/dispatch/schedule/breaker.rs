//! A circuit breaker: after failures in a row a receiver is left alone for a while, then tried with one attempt.
//!
//! Closed, attempts go ahead. Open, none does until its time. Then half open: one attempt decides whether it closes or
//! stays open for longer. Kept in memory alone: a restart tries once more, which does no harm.

use super::limits::Limits;

/// Where a circuit stands, in the values of the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Circuit {
    Closed = 0,
    HalfOpen = 1,
    Open = 2,
}

#[derive(Debug, Clone, Default)]
pub struct Breaker {
    failures: u32,
    /// When the first of the failures in a row came.
    failing_since_ms: Option<i64>,
    /// No attempt before this; `None`: closed.
    open_until_ms: Option<i64>,
    /// What the receiver itself asked for (`Retry-After`).
    wait_until_ms: i64,
    last_error: Option<String>,
    has_succeeded: bool,
}

impl Breaker {
    pub fn succeeded(&mut self) {
        *self = Self { has_succeeded: true, ..Self::default() };
    }

    /// Whether an attempt has got through, ever.
    pub fn has_succeeded(&self) -> bool {
        self.has_succeeded
    }

    /// An attempt failed in a way that may heal. `after_ms`: how long the receiver wants to be left alone.
    pub fn failed(&mut self, limits: &Limits, reason: &str, after_ms: Option<i64>, jitter: f64, now_ms: i64) {
        self.failures = self.failures.saturating_add(1);
        self.failing_since_ms.get_or_insert(now_ms);
        self.last_error = Some(reason.to_string());
        self.wait_until_ms = self.wait_until_ms.max(now_ms.saturating_add(after_ms.unwrap_or(0)));
        if self.failures >= limits.open_after_failures {
            let pause_ms = limits.backoff_ms(self.failures, jitter);
            self.open_until_ms = Some(now_ms.saturating_add(pause_ms));
        }
    }

    pub fn circuit(&self, now_ms: i64) -> Circuit {
        match self.open_until_ms {
            None => Circuit::Closed,
            Some(until_ms) if now_ms < until_ms => Circuit::Open,
            Some(_) => Circuit::HalfOpen,
        }
    }

    /// Attempts that may be in flight at once; `most` while closed.
    pub fn allowed(&self, most: usize) -> usize {
        if self.open_until_ms.is_some() { most.min(1) } else { most }
    }

    /// No attempt is made before this time, epoch milliseconds.
    pub fn not_before_ms(&self) -> i64 {
        self.open_until_ms.unwrap_or(i64::MIN).max(self.wait_until_ms)
    }

    /// Since when nothing has got through.
    pub fn failing_since_ms(&self) -> Option<i64> {
        self.failing_since_ms
    }

    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { open_after_failures: 3, first_retry_ms: 10, max_retry_ms: 80, ..Limits::DEFAULT };

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_with_one_success() {
        let mut breaker = Breaker::default();
        for at_ms in [0, 1] {
            breaker.failed(&LIMITS, "down", None, 1.0, at_ms);
        }
        assert_eq!((breaker.circuit(1), breaker.allowed(4)), (Circuit::Closed, 4));
        breaker.failed(&LIMITS, "down", None, 1.0, 2);
        assert_eq!((breaker.circuit(2), breaker.not_before_ms()), (Circuit::Open, 42), "the third wait is of 40 ms");
        assert_eq!((breaker.circuit(42), breaker.allowed(4)), (Circuit::HalfOpen, 1));
        breaker.failed(&LIMITS, "down", None, 1.0, 42);
        assert_eq!((breaker.circuit(42), breaker.not_before_ms()), (Circuit::Open, 122), "longer, up to the most");
        assert_eq!(breaker.failing_since_ms(), Some(0));
        breaker.succeeded();
        assert_eq!((breaker.circuit(43), breaker.allowed(4), breaker.failing_since_ms()), (Circuit::Closed, 4, None));
    }

    #[test]
    fn a_receiver_that_asks_for_time_gets_it_for_every_delivery() {
        let mut breaker = Breaker::default();
        breaker.failed(&LIMITS, "429", Some(5_000), 0.0, 100);
        breaker.failed(&LIMITS, "429", None, 0.0, 200);
        assert_eq!((breaker.circuit(200), breaker.not_before_ms()), (Circuit::Closed, 5_100));
    }
}
