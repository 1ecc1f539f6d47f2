//! Role: events to partial aggregates.
//!
//! `partial` is the record of the `partials` topic: progress of the source partitions, and aggregates in one
//! long, fixed schema. `clocks` is what the later roles make of the progress. `joins` is the record of the `joins` topic:
//! predictions and labels that are to meet. `aggregate` is the DataFusion plan, `quality` counts what is wrong with
//! events, `role` is the loop around them. To aggregate something new: give it a state that merges by addition, a UDAF
//! in `stats`, and rows of its own in the long schema.

pub mod aggregate;
pub mod clocks;
pub mod joins;
pub mod partial;
pub mod quality;
pub mod role;
pub mod signals;
