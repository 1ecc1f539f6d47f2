//! From the expectations of a window's rows to metrics.
//!
//! The band holds the realised value with 95%, to the normal approximation: each row's loss lies about its expectation
//! with a variance in proportion to the expectation's square, as on the rows held out of the reference; the expectation
//! itself is as sure as that many rows of the reference make it; and stretches of the reference were off as a whole by
//! so much beyond chance.

use super::HeldOut;
use crate::stats::metric::MetricValue;
use crate::stats::performance::confidence_based::band::{self, Variance};

/// Sums over rows; pairs: absolute error, squared error.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ExpectedLosses {
    pub rows: u64,
    pub sums: [f64; 2],
    /// Of the squares of the expectations.
    pub squares: [f64; 2],
}

/// `est_mae`, `est_mse` and `est_rmse`; nothing without rows.
pub fn estimates(held_out: &HeldOut, losses: &ExpectedLosses) -> Vec<(&'static str, MetricValue)> {
    if losses.rows == 0 {
        return Vec::new();
    }
    let rows = losses.rows as f64;
    let [absolute, squared] = [0, 1].map(|loss| {
        let mean = losses.sums[loss] / rows;
        let of_row = held_out.dispersion[loss] * losses.squares[loss] / rows;
        let variance = Variance {
            sampling: of_row / rows,
            calibration: of_row / held_out.rows as f64 + held_out.between_stretches[loss] * mean * mean,
        };
        band::amount(mean, [mean, mean], variance)
    });
    let root = MetricValue {
        value: squared.value.map(f64::sqrt),
        interval: squared.interval.map(|ends| ends.map(f64::sqrt)),
        ..squared
    };
    vec![("est_mae", absolute), ("est_mse", squared), ("est_rmse", root)]
}
