//! A trial of a canary: the machine that carries it from step to step, or takes its traffic back.
//!
//! `evidence` is what was counted, `guards` judge it, `machine` decides: a function of (trial, counts, policy, state of the
//! registry, time). `keeper` is the edge: each second it moves counts from the serving threads into `trial.json` beside the
//! registry's state, asks the machine, and carries the decision out by compare-and-swap.

pub mod evidence;
pub mod guards;
pub mod keeper;
pub mod machine;

pub use machine::{Decision, Trial, Verdict};

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
