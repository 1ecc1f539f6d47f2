//! ADWIN: a window that keeps as much of the recent past as has one mean (Bifet and Gavalda, Learning from
//! time-changing data with adaptive windowing, 2007, algorithm ADWIN2).
//!
//! The window is an exponential histogram: rows of buckets, those of row i hold 2^i values as sum and sum of squared
//! deviations, at most `max_buckets` a row, so that memory grows with the logarithm of the window. Every `clock`
//! values each border between buckets is tried: where the means before and after it differ by more than
//!
//! ```text
//! sqrt(2 m V D) + 2 m D / 3,  D = ln(2 ln(width) / delta),  m = 1/(n0 - k + 1) + 1/(n1 - k + 1),
//! ```
//!
//! with V the variance of the window and k the shortest part that counts, the oldest bucket is dropped and the rest
//! is tried again.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Verdict;

/// How sensitive ADWIN is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdwinParameters {
    /// Chance of a false cut, in (0, 1).
    pub delta: f64,
    /// Values between two looks for a change.
    pub clock: u64,
    /// Buckets of one size before two of them are merged.
    pub max_buckets: u64,
    /// Fewest values on either side of a cut.
    pub min_window_length: u64,
    /// No look for a change while the window holds no more values than this.
    pub grace_period: u64,
}

impl Default for AdwinParameters {
    fn default() -> Self {
        Self { delta: 0.002, clock: 32, max_buckets: 5, min_window_length: 5, grace_period: 10 }
    }
}

/// State of one stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adwin {
    pub parameters: AdwinParameters,
    /// Row i holds buckets of 2^i values, oldest first.
    rows: Vec<VecDeque<Bucket>>,
    width: u64,
    total: f64,
    /// Sum of squared deviations from the mean over the window.
    variance: f64,
    seen: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Bucket {
    total: f64,
    variance: f64,
}

impl Adwin {
    pub fn new(parameters: AdwinParameters) -> Self {
        Self { parameters, rows: vec![VecDeque::new()], width: 0, total: 0.0, variance: 0.0, seen: 0 }
    }

    /// Values in the window.
    pub fn width(&self) -> u64 {
        self.width
    }

    /// Mean of the window; 0 while it is empty.
    pub fn estimation(&self) -> f64 {
        if self.width == 0 { 0.0 } else { self.total / self.width as f64 }
    }

    /// Sum of squared deviations over the window, not divided by its width.
    pub fn variance(&self) -> f64 {
        self.variance
    }

    pub fn update(&mut self, value: f64) -> Verdict {
        self.insert(value);
        self.seen += 1;
        let mut change = false;
        if self.seen.is_multiple_of(self.parameters.clock.max(1)) && self.width > self.parameters.grace_period {
            while self.has_cut() {
                change = true;
                self.drop_oldest();
            }
        }
        Verdict { change, warning: false }
    }

    fn insert(&mut self, value: f64) {
        let before = self.width as f64;
        self.width += 1;
        if before > 0.0 {
            let deviation = value - self.total / before;
            self.variance += before * deviation * deviation / self.width as f64;
        }
        self.total += value;
        self.rows[0].push_back(Bucket { total: value, variance: 0.0 });
        self.compress();
    }

    /// Merges the two oldest buckets of a row that is too long into one of the next.
    fn compress(&mut self) {
        let mut row = 0;
        while let Some(buckets) = self.rows.get_mut(row)
            && buckets.len() as u64 > self.parameters.max_buckets
            && let (Some(first), Some(second)) = (buckets.pop_front(), buckets.pop_front())
        {
            let size = bucket_size(row);
            let difference = first.total / size - second.total / size;
            let merged = Bucket {
                total: first.total + second.total,
                variance: first.variance + second.variance + size * size * difference * difference / (size + size),
            };
            row += 1;
            if row == self.rows.len() {
                self.rows.push(VecDeque::new());
            }
            self.rows[row].push_back(merged);
        }
    }

    /// Whether some border between buckets, from the oldest on, parts two different means.
    fn has_cut(&self) -> bool {
        let (mut older, mut older_total) = (0.0, 0.0);
        let (mut newer, mut newer_total) = (self.width as f64, self.total);
        let shortest = self.parameters.min_window_length as f64;
        for (row, buckets) in self.rows.iter().enumerate().rev() {
            let size = bucket_size(row);
            for bucket in buckets {
                older += size;
                older_total += bucket.total;
                newer -= size;
                newer_total -= bucket.total;
                // Nothing is left after the newest bucket, and nothing may be too short to compare.
                if newer > 0.0
                    && newer >= shortest
                    && older >= shortest
                    && self.differ(older, newer, older_total / older - newer_total / newer)
                {
                    return true;
                }
            }
        }
        false
    }

    fn differ(&self, older: f64, newer: f64, difference: f64) -> bool {
        let width = self.width as f64;
        let shortest = self.parameters.min_window_length as f64;
        let log_term = (2.0 * width.ln() / self.parameters.delta).ln();
        let reciprocal = 1.0 / (older - shortest + 1.0) + 1.0 / (newer - shortest + 1.0);
        let spread = (2.0 * reciprocal * (self.variance / width) * log_term).sqrt();
        difference.abs() > spread + 2.0 / 3.0 * log_term * reciprocal
    }

    fn drop_oldest(&mut self) {
        let row = self.rows.len() - 1;
        let Some(bucket) = self.rows[row].pop_front() else { return };
        let size = bucket_size(row);
        let mean = bucket.total / size;
        self.width -= size as u64;
        self.total -= bucket.total;
        let width = self.width as f64;
        let difference = mean - self.total / width;
        self.variance -= bucket.variance + size * width * difference * difference / (size + width);
        if self.rows[row].is_empty() && row > 0 {
            self.rows.pop();
        }
    }
}

fn bucket_size(row: usize) -> f64 {
    (row as f64).exp2()
}
