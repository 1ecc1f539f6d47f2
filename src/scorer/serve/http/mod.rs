//! The server of the HTTP protocols.
//!
//! `server` accepts connections and deals them to worker threads; `connection` keeps slow clients from holding one;
//! `body` reads a request's body within its limits; `route` tells what a path asks for; `answer` is what goes back. One
//! file for each protocol's requests: `oip`, `rows` (KServe V1 and
//! TensorFlow Serving, whose paths are the same), `torchserve`.
//!
//! To add a protocol: its paths in `route`, a file with its handler here, and its row in docs/scorer.md.

pub mod answer;
pub mod body;
pub mod connection;
pub mod headers;
pub mod oip;
pub mod route;
pub mod rows;
pub mod server;
pub mod torchserve;

use std::sync::Arc;
use std::time::Duration;

use super::Scorer;
use crate::config::scorer::HttpSettings;
use crate::scorer::tensor::TensorLimits;

/// What every request of one server sees.
pub struct Context {
    pub scorer: Arc<Scorer>,
    pub limits: TensorLimits,
    pub bodies: body::Budget,
    pub max_body_bytes: usize,
    pub body_timeout: Duration,
    pub request_timeout: Duration,
}

impl Context {
    pub fn new(scorer: Arc<Scorer>, settings: &HttpSettings) -> Self {
        let bodies = body::Budget::new(settings.max_bodies_bytes, scorer.metrics().http_body_bytes.clone());
        Self {
            scorer,
            limits: TensorLimits::default(),
            bodies,
            max_body_bytes: settings.max_body_bytes,
            body_timeout: settings.body_timeout.to_std(),
            request_timeout: settings.request_timeout.to_std(),
        }
    }
}
