//! Role: predictions meet their labels.
//!
//! Ingest writes both to `joins`, re-keyed by prediction id. `state` is the pure machine of one partition of it:
//! `(state, record) -> outcome`; `model` is its part for one model: who waits, who meets whom, who is forgotten; `table`
//! holds the waiting predictions, `compact` their values, `slab` what only some of them have; `sampling` thins them out
//! by the hash of the id where they exceed the budget; `outcome` is what a flush writes; `checkpoint` is the record from
//! which a restart goes on; `role` is the loop around a log.
//!
//! Nothing is written for each prediction: a restart reads `joins` again, from where the oldest entry still held was
//! read, without telling anything of it twice. So the state must follow from the records alone. The rules that make
//! it so stand in `model`.

pub mod checkpoint;
pub mod compact;
pub mod error;
pub mod model;
pub mod outcome;
pub mod role;
pub mod sampling;
pub mod slab;
pub mod state;
pub mod table;
