//! Role: partial aggregates to panes, windows and metrics.
//!
//! `progress` derives watermarks from the clocks of the source partitions (`ingest::clocks`); `pane` the panes; `state` is the
//! pure machine around them: `(state, flush) -> effects`; `baseline` puts moving references together from panes, of
//! which `history` keeps those past revision; `changes` holds the change detectors;
//! `performance` is the machine of a model's performance, which waits for labels; `sql` gives the values of rules' queries; `judge` is the seam to the rules;
//! `watched` says what is wanted of each model, `spec` which windows; `role` is the loop around a log.
//!
//! A new kind of window is a `WindowSpec` that says which windows cover an instant; a new kind of moving reference is a
//! `ReferenceTime` of `reference::moving` that says which stretches of time a window is compared with.

pub mod baseline;
pub mod changes;
pub mod history;
pub mod judge;
pub mod pane;
pub mod performance;
pub mod progress;
pub mod result;
pub mod role;
pub mod row_counts;
pub mod spec;
mod sql;
pub mod state;
pub mod watched;
