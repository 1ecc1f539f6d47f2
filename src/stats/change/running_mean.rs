//! The mean of a stream, one value at a time.

use serde::{Deserialize, Serialize};

/// Mean so far, updated as `mean += (value - mean) / n`, in this order of operations: detectors compare such means
/// with bounds that they reach exactly on streams of zeros and ones, so that another rounding finds other changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct RunningMean {
    pub n: u64,
    pub mean: f64,
}

impl RunningMean {
    pub fn update(&mut self, value: f64) {
        self.n += 1;
        self.mean += 1.0 / self.n as f64 * (value - self.mean);
    }
}
