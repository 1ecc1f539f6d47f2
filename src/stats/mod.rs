//! Statistics: mergeable profiles, and pure functions on them.
//!
//! `profile` holds what a pane keeps of a feature; the other files hold one statistic each, as functions of two
//! profiles of one layout (reference and window). Definitions and names are those of docs/statistics.md. To add
//! a statistic: one file with the function, its source and tests; a `Metric` in `metric.rs`; a row in the docs.

pub mod metric;
