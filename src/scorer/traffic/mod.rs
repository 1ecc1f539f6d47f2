//! Which version answers: weights, sticky assignment, shadow, and trials of a new version that decide themselves.
//!
//! `assign` deals entities to buckets, `choose` says which version answers a request. `sequential` holds the tests that
//! may be looked at at any time, one a file; `trial` the machine that carries a canary from step to step by them. All of
//! that is pure: states, counts and times go in, decisions come out. Edges: `counters` (what the serving threads add to),
//! `shadow` (a queue of its own), `keeper` (reads and writes the files beside the registry's state).
//!
//! To add a guard of a trial: its settings in `config::scorer::traffic`, a file in `trial/guards` with its two questions
//! (is it worse? is it good enough?), and a line in `trial::guards::all`.

pub mod assign;
pub mod cells;
pub mod choose;
pub mod counters;
pub mod experiment;
pub mod sequential;
pub mod trial;

pub use choose::{Ask, Choice, ChoiceError, Exposure, choose};
