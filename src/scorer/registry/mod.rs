//! Versions of models on disk, and which of them serve.
//!
//! ```text
//! models/<name>/versions/<version>/{model.onnx, MANIFEST.json, ...}   immutable
//! models/<name>/state.json                                           which versions serve; compare-and-swap on `generation`
//! models/<name>/audit.jsonl                                          every change and every verdict of the gate, appended
//! models/<name>/incoming/                                            versions on their way in or out
//! ```
//!
//! `store` reads, `register` writes a version, `commit` changes the state, `collect` removes what is not wanted any more.
//! `change` says what a change does to a state, as a function. `beneath` is the only file that touches the disk, and
//! `signing` the only one that knows keys.
//!
//! To add a kind of change: a variant of `change::Change` and its arm in `apply`; a route in `admin`, and a subcommand.

pub mod audit;
pub mod beneath;
pub mod change;
pub mod collect;
pub mod commit;
pub mod manifest;
pub mod register;
pub mod signing;
pub mod state;
pub mod store;

pub use change::{Change, GateOutcome, RollbackTo};
pub use commit::{ChangeRequest, Changed, Preview};
pub use store::{Registry, RegistryError, VerifiedVersion};

/// SHA-256 in lower-case hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod store_tests;
