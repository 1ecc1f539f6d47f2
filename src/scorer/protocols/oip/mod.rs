//! The Open Inference Protocol, version 2, over HTTP: JSON, and tensors as binary data behind it.
//!
//! `request` reads an inference request, `raw` one that is nothing but binary data; `response` writes the answer, `metadata`
//! describes server and models.

pub mod metadata;
pub mod raw;
pub mod request;
pub mod response;

/// Where the JSON of a body ends and binary data begin, bytes.
pub const HEADER_LENGTH: &str = "inference-header-content-length";
