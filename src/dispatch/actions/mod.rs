//! The role that has done what rules ask for: requests of the `outbox` in, calls to whoever retrains or rolls back out,
//! `actions` as the record of it.
//!
//! A run is one request of one episode for one action. `run` is its record, `machine` decides (pure), `guard` says what
//! does not hold, `role` moves offsets and records in transactions, `target` is the seam to the outside world,
//! `manifest` what a training job is given. To add a kind of target: one file here that implements `target::Target`, a
//! struct and an arm in `config::actions`, an arm in `target::build`, its checks in `config::action_checks`, its request
//! as a golden file in `tests/action_targets.rs`. Its `call` sends the run's name as idempotency key and answers with a
//! `CallOutcome`; when it is called again is not its business.
//!
//! A run's record is durable before its target is called. A kill in between repeats the call with the same key.

pub mod guard;
pub mod machine;
pub mod manifest;
pub mod restore;
pub mod role;
pub mod run;
pub mod target;

mod airflow;
mod argo;
mod github;
mod http_call;
mod kafka;
mod kubernetes;
mod rollback;
mod sagemaker;
mod webhook;
