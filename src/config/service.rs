//! The service file (`driftline.yaml`), layered by the `config` crate: defaults, file, then environment
//! (`DRIFTLINE__KAFKA__BOOTSTRAP_SERVERS`).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::receivers::TextOrSecret;
use super::units::Span;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Service {
    /// Prefix of consumer groups, transactional ids and topics.
    pub app: String,
    /// Unique and stable per process of a fleet (a pod's ordinal or host name): part of the transactional ids.
    pub instance: String,
    /// Which Kafka, and how it is reached.
    pub kafka: Kafka,
    /// Globs of model files, relative to this file.
    pub models: Vec<String>,
    /// Globs of rules files, relative to this file; `*.test.yaml` is left out.
    pub rules: Vec<String>,
    /// Directory with built references, relative to this file.
    pub references: String,
    /// Pages, API and metrics.
    pub http: Http,
    /// Mail server, for receivers of e-mail.
    pub smtp: Option<Smtp>,
    /// How events are gathered before they are written.
    pub ingest: Ingest,
    /// How deliveries are tried again.
    pub dispatch: Dispatch,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            app: "driftline".into(),
            instance: "0".into(),
            kafka: Kafka::default(),
            models: vec!["models/*.yaml".into()],
            rules: vec!["rules/*.yaml".into()],
            references: "references".into(),
            http: Http::default(),
            smtp: None,
            ingest: Ingest::default(),
            dispatch: Dispatch::default(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Kafka {
    /// host:port, comma separated.
    pub bootstrap_servers: String,
    /// Partitions of Driftline's own topics: the most workers that can share the windows.
    pub partitions: i32,
    /// Replication factor of Driftline's own topics; -1: the broker's default.
    pub replication: i32,
    /// Any librdkafka property (security.protocol, sasl.*, ssl.*), for every client; a password is `{env: NAME}` or
    /// `{file: PATH}`.
    pub properties: BTreeMap<String, TextOrSecret>,
    /// Where a group without committed offsets starts: `earliest` or `latest`.
    pub start: Start,
}

impl Default for Kafka {
    fn default() -> Self {
        Self {
            bootstrap_servers: "localhost:9092".into(),
            partitions: 4,
            replication: -1,
            properties: BTreeMap::new(),
            start: Start::Earliest,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    Earliest,
    Latest,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Address and port to listen on.
    pub bind: String,
    /// How people reach the pages; links in notifications start with it. Default: `http://` and `bind`.
    pub public_url: Option<String>,
    /// At most this many series of per-feature gauges; the worst features are kept.
    pub series_budget: usize,
    /// Who may see and do what. Without any, everybody who reaches `bind` may read, and may change something only where
    /// that is a loopback address.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<Token>,
}

/// What lets a person or a program in: the bearer of an API call, the password of a browser.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Who it belongs to; stands beside what was done with it.
    pub name: String,
    pub role: Role,
    pub token: super::receivers::Secret,
}

/// Each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// See pages, API and metrics.
    Read,
    /// Acknowledge, silence, send again, approve and report runs of actions.
    Operate,
    /// Reload the configuration.
    Admin,
}

impl Default for Http {
    fn default() -> Self {
        Self { bind: "127.0.0.1:8080".into(), public_url: None, series_budget: 50_000, tokens: Vec::new() }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Smtp {
    /// `smtp://host:port`, `smtps://host:port`; with `?tls=required` for STARTTLS.
    pub url: String,
    /// Sender of all mail.
    pub from: String,
    /// Together with `password`.
    #[serde(default)]
    pub username: Option<String>,
    /// Refused over an unencrypted connection that leaves the machine.
    #[serde(default)]
    pub password: Option<super::receivers::Secret>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ingest {
    /// Longest time rows wait before they are written as partial aggregates.
    pub flush_interval: Span,
    /// Most rows before they are.
    pub flush_rows: usize,
}

impl Default for Ingest {
    fn default() -> Self {
        Self { flush_interval: Span::from_ms(1_000), flush_rows: 65_536 }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Dispatch {
    /// Wait after the first failed attempt; it doubles from there.
    pub first_retry: Span,
    /// Longest wait between attempts.
    pub max_retry: Span,
    /// A notification that could not be delivered for this long is given up and counted.
    pub expire_after: Span,
}

impl Default for Dispatch {
    fn default() -> Self {
        Self {
            first_retry: Span::from_ms(1_000),
            max_retry: Span::from_ms(300_000),
            expire_after: Span::from_ms(86_400_000),
        }
    }
}
