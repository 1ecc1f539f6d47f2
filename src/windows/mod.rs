//! Role: partial aggregates to panes, windows and metrics.
//!
//! `result` is what a closed window says; `state` is the pure machine.

pub mod result;
