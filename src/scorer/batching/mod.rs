//! Requests of many callers become batches for one model's workers, and the outputs find their way back.
//!
//! `queue` decides (a state machine without a clock): what waits, what is computed next and together, what is refused or
//! dropped. `join` makes one batch's tensors out of many requests' and takes the outputs apart. `worker` is the thread that
//! computes, `runner` what callers hold, `metrics` shows their counts. Batches are work-conserving: a worker that is free takes what waits, so one lone
//! request never waits for company, and under load batches grow by themselves.
//!
//! To add a rule of what is computed first: `queue::Queue::take`, and its properties in `tests/scorer_batching.rs`.

pub mod join;
pub mod metrics;
mod pace;
pub mod queue;
mod runner;
mod worker;

pub use crate::config::scorer::BatchSettings;
pub use runner::{Job, ROW_CELLS, Runner, RunnerStats};
