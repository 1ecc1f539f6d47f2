//! Versions of models on disk, and which of them serve.
//!
//!     models/<name>/versions/<version>/{model.onnx, MANIFEST.json, ...}   immutable
//!     models/<name>/state.json                                           which versions serve; compare-and-swap on `generation`
//!     models/<name>/audit.jsonl                                          every change, appended
//!
//! A version is written to a temporary directory, synced, renamed, and read-only from then on.

pub mod state;
