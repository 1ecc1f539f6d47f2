//! Leaves a server alone that fails again and again: a state machine of (state, outcome, now), with no clock of its own.

use std::time::{Duration, Instant};

/// Closed, open, or trying with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    Trying,
}

#[derive(Debug)]
pub struct Circuit {
    most_failures: u32,
    open_for: Duration,
    state: State,
}

impl Circuit {
    pub const fn new(most_failures: u32, open_for: Duration) -> Self {
        Self { most_failures, open_for, state: State::Closed { failures: 0 } }
    }

    pub const fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    /// Whether a request that comes now would be sent.
    pub fn admits(&self, now: Instant) -> bool {
        match self.state {
            State::Closed { .. } => true,
            State::Open { until } => now >= until,
            State::Trying => false,
        }
    }

    /// The server says itself that it is well: it need not be left alone any longer.
    pub const fn may_try(&mut self, now: Instant) {
        if let State::Open { .. } = self.state {
            self.state = State::Open { until: now };
        }
    }

    /// Whether a request may go; whoever got leave tells the outcome by `succeeded`, `failed` or `abandoned`.
    ///
    /// # Errors
    /// Not now; after that time.
    pub fn enter(&mut self, now: Instant) -> Result<(), Duration> {
        match self.state {
            State::Closed { .. } => Ok(()),
            State::Open { until } if now >= until => {
                self.state = State::Trying;
                Ok(())
            }
            State::Open { until } => Err(until.duration_since(now)),
            State::Trying => Err(self.open_for),
        }
    }

    pub const fn succeeded(&mut self) {
        self.state = State::Closed { failures: 0 };
    }

    pub fn failed(&mut self, now: Instant) {
        let open = State::Open { until: now + self.open_for };
        self.state = match self.state {
            State::Closed { failures } if failures + 1 < self.most_failures => State::Closed { failures: failures + 1 },
            // A failure of before does not keep it open for longer.
            State::Open { until } => State::Open { until },
            State::Closed { .. } | State::Trying => open,
        };
    }

    /// Nothing is known of the outcome: the caller went away.
    pub const fn abandoned(&mut self, now: Instant) {
        if let State::Trying = self.state {
            self.state = State::Open { until: now };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Duration = Duration::from_secs(5);

    #[test]
    fn it_opens_after_failures_in_a_row_and_one_request_tries() {
        let start = Instant::now();
        let mut circuit = Circuit::new(3, OPEN);
        for _ in 0..2 {
            circuit.failed(start);
        }
        circuit.succeeded();
        for _ in 0..3 {
            assert_eq!(circuit.enter(start), Ok(()));
            circuit.failed(start);
        }
        assert_eq!(circuit.enter(start + OPEN / 5), Err(OPEN * 4 / 5));
        assert!(!circuit.admits(start) && circuit.admits(start + OPEN));
        assert_eq!(circuit.enter(start + OPEN), Ok(()), "one tries");
        assert!(!circuit.admits(start + OPEN));
        assert_eq!(circuit.enter(start + OPEN), Err(OPEN), "and no other");
        circuit.failed(start + OPEN);
        assert_eq!(circuit.enter(start + OPEN), Err(OPEN));
        assert_eq!(circuit.enter(start + OPEN * 2), Ok(()));
        circuit.succeeded();
        assert!(circuit.is_closed());
    }

    #[test]
    fn a_server_that_says_that_it_is_well_is_tried_at_once() {
        let start = Instant::now();
        let mut circuit = Circuit::new(1, OPEN);
        circuit.failed(start);
        circuit.may_try(start);
        assert!(circuit.admits(start) && !circuit.is_closed());
        assert_eq!(circuit.enter(start), Ok(()));
        circuit.may_try(start);
        assert_eq!(circuit.enter(start), Err(OPEN), "one that tries is enough");
    }

    #[test]
    fn a_trial_whose_caller_went_away_leaves_room_for_another() {
        let start = Instant::now();
        let mut circuit = Circuit::new(1, OPEN);
        circuit.failed(start);
        assert_eq!(circuit.enter(start + OPEN), Ok(()));
        circuit.abandoned(start + OPEN);
        assert_eq!(circuit.enter(start + OPEN), Ok(()));
    }
}
