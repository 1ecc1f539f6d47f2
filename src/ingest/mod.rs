//! Role: events to partial aggregates.
//!
//! `partial` is the record of the `partials` topic: progress of the source partitions, and aggregates in one
//! long, fixed schema. `clocks` is what the later roles make of the progress. `joins` is the record of the `joins` topic:
//! predictions and labels that are to meet. `aggregate` is the DataFusion plan over the `segments` of a
//! model, `performance` counts predictions and sets them and their labels aside for the join, `quality` counts what is wrong with
//! events, `model_ingest` is all of that for one model, `role` is the loop around them. To aggregate something new: give it a state that merges by addition, a UDAF
//! in `stats`, and rows of its own in the long schema.

pub mod aggregate;
pub mod clocks;
pub mod joins;
pub mod model_ingest;
pub mod partial;
pub mod performance;
pub mod quality;
pub mod role;
pub mod segments;
pub mod signals;
pub mod sql;
