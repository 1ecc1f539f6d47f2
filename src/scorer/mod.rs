//! The scoring sidecar: serves versions of models beside the monitor, splits traffic between them, writes prediction
//! events that the monitor reads, and obeys its rollbacks. Its binary is `driftline-scorer`.
//!
//! In the order in which a request passes: `protocols` (bytes to a `ScoreRequest` and back), `serve` (the centre: it asks
//! `traffic` which version answers, hands the tensors to that version's `batching`, and offers the event to `events`),
//! `engine` (what computes). `registry` holds versions and state on disk, `admin` changes them. An earlier module of that
//! list never names a later one's insides.
//!
//! To add a protocol: a file in `protocols` that builds `ScoreRequest` and writes `ScoreResponse`. To add an engine: an
//! implementation of `engine::Engine`.

pub mod admin;
pub mod backend;
pub mod batch;
pub mod batching;
pub mod cli;
pub mod engine;
pub mod events;
pub mod gate;
pub mod metrics;
pub mod names;
pub mod protocols;
pub mod proxy;
pub mod registry;
pub mod score;
pub mod serve;
pub mod tensor;
pub mod traffic;
pub mod transform;
