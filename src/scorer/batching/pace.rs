//! How fast rows are computed, for the time after which a refused request should come again.

use std::time::Duration;

/// Before anything was computed.
const UNKNOWN: Duration = Duration::from_millis(50);
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(30);
/// Weight of the newest batch.
const NEWEST: f64 = 0.1;

/// Exponential average of the seconds that a row takes one worker.
#[derive(Debug, Clone, Default)]
pub(super) struct Pace {
    seconds_per_row: Option<f64>,
}

impl Pace {
    pub(super) fn computed(&mut self, rows: usize, took: Duration) {
        let newest = took.as_secs_f64() / rows.max(1) as f64;
        self.seconds_per_row = Some(match self.seconds_per_row {
            None => newest,
            Some(average) => average + NEWEST * (newest - average),
        });
    }

    /// When the rows that wait will have been computed.
    pub(super) fn until_computed(&self, waiting_rows: usize, workers: usize) -> Duration {
        let Some(seconds_per_row) = self.seconds_per_row else {
            return UNKNOWN;
        };
        let seconds = seconds_per_row * waiting_rows as f64 / workers.max(1) as f64;
        Duration::from_secs_f64(seconds.min(LONGEST.as_secs_f64())).max(SHORTEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_what_the_queue_takes_and_within_bounds() {
        let mut pace = Pace::default();
        assert_eq!(pace.until_computed(1000, 2), UNKNOWN);
        pace.computed(10, Duration::from_millis(10));
        assert_eq!(pace.until_computed(1000, 2), Duration::from_millis(500));
        assert_eq!(pace.until_computed(0, 2), SHORTEST);
        assert_eq!(pace.until_computed(usize::MAX, 1), LONGEST);
    }
}
