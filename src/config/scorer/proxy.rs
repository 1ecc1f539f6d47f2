//! The section `proxy` of a model.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::receivers::TextOrSecret;
use crate::config::units::Span;

/// A server that a team already runs, which computes instead of an engine here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxySettings {
    /// Which protocol the server speaks.
    pub kind: PeerKind,
    /// Its address, such as `http://127.0.0.1:8080`; a path goes before those of the protocol. Loopback and private
    /// addresses are allowed, redirects are not followed.
    pub url: String,
    /// Versions here, and what each is over there. They are added to the registry when the scorer starts; one that stands
    /// there already never changes.
    pub versions: BTreeMap<String, PeerVersion>,
    /// Further headers of each request; one that lets in is `{env: NAME}` or `{file: PATH}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, TextOrSecret>,
    /// Outputs by name and type, in their order, where the protocol does not say them (`kserve-v1`, `torchserve`).
    /// Default: one, `output`, of FP64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub outputs: Vec<PeerOutput>,
    /// Longest time for an answer.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// Longest time for a connection.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: Span,
    /// How often a connection that could not be made is tried again, for one request.
    #[serde(default = "default_connect_retries")]
    #[schemars(range(max = 10))]
    pub connect_retries: u32,
    /// Most requests under way to the server; further ones are told when to try again.
    #[serde(default = "default_max_concurrent")]
    #[schemars(range(min = 1, max = 65_536))]
    pub max_concurrent: usize,
    /// Largest answer, bytes.
    #[serde(default = "default_max_answer_bytes")]
    #[schemars(range(min = 1024, max = 1_073_741_824))]
    pub max_answer_bytes: usize,
    /// How often the server is asked whether the model is ready.
    #[serde(default = "default_health_interval")]
    pub health_interval: Span,
    /// Failures in a row after which the server is left alone.
    #[serde(default = "default_circuit_failures")]
    #[schemars(range(min = 1, max = 10_000))]
    pub circuit_failures: u32,
    /// For how long; then one request tries it.
    #[serde(default = "default_circuit_open")]
    pub circuit_open: Span,
}

/// Protocols of servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PeerKind {
    /// Open Inference Protocol over HTTP: Triton, MLServer, KServe.
    Oip,
    /// `/v1/models/NAME:predict` with `instances`.
    KserveV1,
    /// `/predictions/NAME`.
    Torchserve,
    /// TensorFlow Serving's REST API.
    TfServing,
}

/// What a version here is over there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PeerVersion {
    /// Name of the model.
    pub model: String,
    /// Its version; default: whichever the server takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// An output of a model whose server does not describe it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PeerOutput {
    /// As the server names it.
    pub name: String,
    /// By the Open Inference Protocol's name: `FP32`.
    #[serde(default = "default_datatype")]
    pub datatype: String,
}

fn default_datatype() -> String {
    "FP64".into()
}

const fn default_timeout() -> Span {
    Span::from_ms(5_000)
}

const fn default_connect_timeout() -> Span {
    Span::from_ms(1_000)
}

const fn default_connect_retries() -> u32 {
    2
}

const fn default_max_concurrent() -> usize {
    64
}

const fn default_max_answer_bytes() -> usize {
    64 << 20
}

const fn default_health_interval() -> Span {
    Span::from_ms(2_000)
}

const fn default_circuit_failures() -> u32 {
    5
}

const fn default_circuit_open() -> Span {
    Span::from_ms(5_000)
}
