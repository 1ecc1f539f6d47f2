//! The section `http`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::Span;

/// Inference over HTTP: where, and what a client may at most ask of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSettings {
    /// Address and port to listen on; everybody who reaches it can have predictions.
    pub bind: String,
    /// Threads that read requests and write answers; 0: one a core, at most 4.
    pub workers: usize,
    /// Largest body of a request, bytes, after decompression too.
    pub max_body_bytes: usize,
    /// Bytes of all bodies that are being read or scored; a request beyond them is refused with 503.
    pub max_bodies_bytes: usize,
    /// Connections at a time; one beyond them is closed at once.
    pub max_connections: usize,
    /// Longest time for the head of a request, counted from when the connection is free for it: an idle connection is
    /// closed after it too.
    pub head_timeout: Span,
    /// Longest time for the body of a request.
    pub body_timeout: Span,
    /// Longest time in which a client takes no byte of an answer.
    pub write_timeout: Span,
    /// Longest time that a request may wait for its score; a client may ask for less.
    pub request_timeout: Span,
    /// How long requests under way are waited for when the scorer is told to stop.
    pub drain_timeout: Span,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            bind: "127.0.0.1:8000".into(),
            workers: 0,
            max_body_bytes: 64 << 20,
            max_bodies_bytes: 256 << 20,
            max_connections: 4096,
            head_timeout: Span::from_ms(60_000),
            body_timeout: Span::from_ms(30_000),
            write_timeout: Span::from_ms(30_000),
            request_timeout: Span::from_ms(30_000),
            drain_timeout: Span::from_ms(15_000),
        }
    }
}
