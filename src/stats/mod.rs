//! Statistics: mergeable profiles, and pure functions on them.
//!
//! `profile` holds what a pane keeps of a feature; the other files hold one statistic each, as functions of two
//! profiles of one layout (reference and window), down to plain shares and counts; `rows` holds the exact ones on
//! the values themselves. Definitions and names are those of docs/statistics.md. To add a statistic: one file with
//! the function, its source and tests; a `Metric` in `metric.rs`; a row in the docs.

pub mod chi_square;
pub mod hellinger;
pub mod jensen_shannon;
pub mod kolmogorov_smirnov;
pub mod kullback_leibler;
pub mod metric;
pub mod multiple_testing;
pub mod psi;
pub mod quantile;
pub mod rows;
pub mod total_variation;
