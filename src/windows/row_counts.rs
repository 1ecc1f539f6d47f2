//! How many rows a window usually has: the mean over the windows before it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::result::Window;

/// Windows before the one at hand that say what is usual: a day of hourly ones.
pub const WINDOWS_BEFORE: i64 = 24;
/// Fewer than this say nothing.
pub const FEWEST_BEFORE: i64 = 3;
/// Model versions and window sizes remembered; the least recent goes first.
const MOST_SERIES: usize = 64;
/// Windows remembered of each, which limits sliding ones.
const MOST_WINDOWS: usize = 1_000;

/// Rows of closed windows by model version and window size.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RowCounts(Vec<Series>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Series {
    version: String,
    size_ms: i64,
    /// Start of the first window ever closed, epoch milliseconds.
    first_ms: i64,
    /// By start; `None`: events of the window are known to be missing.
    rows: BTreeMap<i64, Option<u64>>,
}

impl RowCounts {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Mean rows of the [`WINDOWS_BEFORE`] windows of this version and size that end where this one starts or one or
    /// more sizes earlier. One between them that never closed had no events. `None` for fewer than [`FEWEST_BEFORE`].
    pub fn expected(&self, version: &str, window: Window) -> Option<f64> {
        let size_ms = window.end_ms - window.start_ms;
        let series = self.0.iter().find(|series| series.version == version && series.size_ms == size_ms)?;
        let (mut windows, mut rows) = (0, 0u64);
        for back in 1..=WINDOWS_BEFORE {
            let start_ms = window.start_ms - back * size_ms;
            if start_ms < series.first_ms {
                break;
            }
            match series.rows.get(&start_ms) {
                Some(None) => continue,
                Some(Some(known)) => rows = rows.saturating_add(*known),
                None => {}
            }
            windows += 1;
        }
        (windows >= FEWEST_BEFORE).then(|| rows as f64 / windows as f64)
    }

    /// Remembers a closed (or revised) window; `None`: events are known to be missing.
    pub fn record(&mut self, version: &str, window: Window, rows: Option<u64>) {
        let size_ms = window.end_ms - window.start_ms;
        let known = self.0.iter().position(|series| series.version == version && series.size_ms == size_ms);
        let index = known.unwrap_or_else(|| {
            let (version, first_ms) = (version.to_string(), window.start_ms);
            self.0.push(Series { version, size_ms, first_ms, rows: BTreeMap::new() });
            self.0.len() - 1
        });
        let series = &mut self.0[index];
        series.first_ms = series.first_ms.min(window.start_ms);
        series.rows.insert(window.start_ms, rows);
        let newest_ms = series.rows.last_key_value().map_or(0, |(start_ms, _)| *start_ms);
        // A window as old as the oldest one needed can still be revised while the newest is closed.
        let oldest_ms = newest_ms - 2 * WINDOWS_BEFORE * size_ms;
        while series.rows.len() > MOST_WINDOWS
            || series.rows.first_key_value().is_some_and(|(start, _)| *start < oldest_ms)
        {
            let Some((dropped_ms, _)) = series.rows.pop_first() else { break };
            series.first_ms = series.first_ms.max(dropped_ms + 1);
        }
        if self.0.len() > MOST_SERIES {
            let last = |series: &Series| series.rows.last_key_value().map(|(start_ms, _)| *start_ms);
            if let Some(least) = (0..self.0.len()).min_by_key(|index| last(&self.0[*index])) {
                self.0.remove(least);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(index: i64) -> Window {
        Window { start_ms: index * 3_600_000, end_ms: (index + 1) * 3_600_000 }
    }

    #[test]
    fn the_mean_of_the_windows_before_is_expected() {
        let mut counts = RowCounts::default();
        for (index, rows) in [100, 200, 300].into_iter().enumerate() {
            assert_eq!(counts.expected("1", hour(index as i64)), None, "too few before hour {index}");
            counts.record("1", hour(index as i64), Some(rows));
        }
        assert_eq!(counts.expected("1", hour(3)), Some(200.0));
        assert_eq!(counts.expected("2", hour(3)), None);
        let quarter = Window { start_ms: hour(3).start_ms, end_ms: hour(3).start_ms + 900_000 };
        assert_eq!(counts.expected("1", quarter), None, "windows of another size");
    }

    #[test]
    fn a_window_that_never_closed_was_empty_and_one_with_a_gap_says_nothing() {
        let mut counts = RowCounts::default();
        counts.record("1", hour(0), Some(300));
        counts.record("1", hour(1), None);
        counts.record("1", hour(3), Some(300));
        counts.record("1", hour(4), Some(300));
        // Hours 0, 2 (empty), 3 and 4.
        assert_eq!(counts.expected("1", hour(5)), Some(225.0));
        counts.record("1", hour(4), Some(600));
        assert_eq!(counts.expected("1", hour(5)), Some(300.0), "a revision replaces");
    }

    #[test]
    fn only_the_last_day_counts_and_memory_is_bounded() {
        let mut counts = RowCounts::default();
        (0..500).for_each(|index| counts.record("1", hour(index), Some(if index < 476 { 1 } else { 9 })));
        assert_eq!(counts.expected("1", hour(500)), Some(9.0));
        assert!(counts.0[0].rows.len() <= 49, "{} windows kept", counts.0[0].rows.len());
        (0..200).for_each(|version| counts.record(&version.to_string(), hour(600 + version), Some(1)));
        assert_eq!(counts.0.len(), MOST_SERIES);
        assert!(counts.0.iter().any(|series| series.version == "199"));
        let json = serde_json::to_string(&counts).unwrap();
        assert_eq!(serde_json::from_str::<RowCounts>(&json).unwrap(), counts);
    }

    #[test]
    fn sliding_windows_compare_with_those_one_size_back() {
        let mut counts = RowCounts::default();
        let at = |minutes: i64| Window { start_ms: minutes * 60_000, end_ms: (minutes + 60) * 60_000 };
        for quarter in 0..12 {
            counts.record("1", at(quarter * 15), Some(if quarter % 4 == 0 { 40 } else { 1_000 }));
        }
        assert_eq!(counts.expected("1", at(180)), Some(40.0));
    }
}
