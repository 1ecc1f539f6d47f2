//! Role: partial aggregates to panes, windows and metrics.
//!
//! `progress` holds the clocks of the source partitions and derives watermarks; `pane` the panes; `state` is the
//! pure machine around them: `(state, flush) -> effects`; `judge` is the seam to the rules; `role` the loop
//! around a log. A new kind of window is a `WindowSpec` that says which windows cover an instant.

pub mod judge;
pub mod pane;
pub mod progress;
pub mod result;
pub mod role;
pub mod state;
