//! The settings file of `driftline-scorer` (`scorer.yaml`): the servers, the registry, and what is special about a model.
//!
//! One file a section, in `scorer/`. To add a key: the field with its doc comment in its section, a check in
//! `scorer/checks.rs` if the shape alone does not say it, a row of docs/scorer.md, and a good and a bad fixture in
//! `tests/fixtures/config/scorer`.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::load::{Outcome, parse, read};
use super::receivers::TextOrSecret;
use super::{Diagnostics, Loaded};

pub mod admin;
pub mod batching;
pub mod checks;
pub mod engine;
pub mod events;
pub mod grpc;
pub mod http;
pub mod proxy;
mod proxy_checks;
pub mod signatures;
pub mod traffic;
pub mod traffic_checks;
pub mod transform;

pub use admin::AdminSettings;
pub use batching::BatchSettings;
pub use engine::EngineSettings;
pub use events::{EventSettings, ModelEvents};
pub use grpc::GrpcSettings;
pub use http::HttpSettings;
pub use proxy::{PeerKind, PeerOutput, PeerVersion, ProxySettings};
pub use signatures::SignatureSettings;
pub use traffic::TrafficPolicy;
pub use transform::TransformSettings;

/// The settings of `driftline-scorer`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScorerConfig {
    /// Version of this format: 1.
    pub version: u32,
    /// Directory of the models' versions, relative to this file.
    #[serde(default = "default_registry")]
    pub registry: String,
    /// Whose versions are served.
    #[serde(default)]
    pub signatures: SignatureSettings,
    /// Inference over HTTP.
    #[serde(default)]
    pub http: HttpSettings,
    /// Inference over gRPC.
    #[serde(default)]
    pub grpc: GrpcSettings,
    /// Changes of the registry, health and metrics.
    #[serde(default)]
    pub admin: AdminSettings,
    /// Which Kafka prediction events go to.
    #[serde(default)]
    pub kafka: KafkaConnection,
    /// How prediction events are queued and sent.
    #[serde(default)]
    pub events: EventSettings,
    /// What computes, and on what.
    #[serde(default)]
    pub engine: EngineSettings,
    /// The models that are served, each with what is special about it. Without any, all of the registry are.
    #[serde(default)]
    pub models: BTreeMap<String, ModelSettings>,
}

fn default_registry() -> String {
    "registry".into()
}

impl Default for ScorerConfig {
    fn default() -> Self {
        Self {
            version: 1,
            registry: default_registry(),
            signatures: SignatureSettings::default(),
            http: HttpSettings::default(),
            grpc: GrpcSettings::default(),
            admin: AdminSettings::default(),
            kafka: KafkaConnection::default(),
            events: EventSettings::default(),
            engine: EngineSettings::default(),
            models: BTreeMap::new(),
        }
    }
}

/// How Kafka is reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaConnection {
    /// host:port, comma separated.
    pub bootstrap_servers: String,
    /// Any librdkafka property (security.protocol, sasl.*, ssl.*); a password is `{env: NAME}` or `{file: PATH}`.
    pub properties: BTreeMap<String, TextOrSecret>,
}

impl Default for KafkaConnection {
    fn default() -> Self {
        Self { bootstrap_servers: "localhost:9092".into(), properties: BTreeMap::new() }
    }
}

/// What is special about one model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSettings {
    /// How requests are queued and put together.
    pub batching: BatchSettings,
    /// How a new version gets its share of the traffic.
    pub traffic: TrafficPolicy,
    /// What is written of each prediction.
    pub events: ModelEvents,
    /// How rows of raw fields become the model's input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transform: Option<TransformSettings>,
    /// A server that computes instead of an engine here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxySettings>,
}

/// All layers of a settings file that is at hand.
pub fn parse_scorer_str(name: &str, text: &str) -> Outcome<ScorerConfig> {
    let mut outcome = parse(name, text, |_| Vec::new(), checks::scorer);
    let help = "docs/scorer.md and the pages that it lists say what each key takes";
    outcome.found.replace_remedies(&["invalid", "out-of-range", "wrong-type"], help);
    outcome
}

/// # Errors
/// The file cannot be read, or is wrong; every finding has its place.
pub fn load_scorer(path: &Path) -> Result<Loaded<ScorerConfig>, Diagnostics> {
    let text = read(path)?;
    parse_scorer_str(&super::load::shown(path), &text).into_result()
}
