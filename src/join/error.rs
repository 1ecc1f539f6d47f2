//! The error of a prediction once its label is known: what change detectors watch as `performance.error`.

pub use crate::config::performance::ERROR_SIGNAL;
pub use crate::stats::performance::error::error;
