//! A topic of the same cluster: the manifest as a CloudEvent 1.0 in structured JSON mode, keyed by model, so that the
//! runs of one model stand in order in one partition. Whoever takes it reports how the run went.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;

use super::manifest::Manifest;
use super::run::{External, RunRecord};
use super::target::{CallOutcome, Target};
use crate::log::{Log, LogError, OutRecord};

#[derive(Debug, Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    /// The run's name: the same however often it is sent.
    id: String,
    /// `/driftline/{app}`.
    source: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    /// The run.
    subject: &'a str,
    time: &'a str,
    datacontenttype: &'static str,
    /// The record's key (CloudEvents Partitioning extension).
    partitionkey: &'a str,
    data: &'a Manifest,
}

pub struct KafkaTarget {
    log: Arc<dyn Log>,
    topic: String,
    source: String,
}

impl KafkaTarget {
    pub fn new(log: Arc<dyn Log>, app: &str, topic: &str) -> Self {
        Self { log, topic: topic.to_string(), source: format!("/driftline/{app}") }
    }

    fn record(&self, run: &RunRecord) -> Result<OutRecord, String> {
        let manifest = run.manifest.as_ref().ok_or("the run has no manifest")?;
        let event = CloudEvent {
            specversion: "1.0",
            id: run.name(),
            source: &self.source,
            kind: "driftline.action.requested",
            subject: &run.run,
            time: &manifest.created_at,
            datacontenttype: "application/json",
            partitionkey: &manifest.model,
            data: manifest,
        };
        let value =
            serde_json::to_vec(&event).map_err(|error| format!("cannot write the manifest as json: {error}"))?;
        Ok(OutRecord {
            topic: self.topic.as_str().into(),
            partition: None,
            key: Some(manifest.model.clone().into_bytes()),
            value: Some(value),
            headers: vec![("content-type".into(), b"application/cloudevents+json; charset=UTF-8".to_vec())],
        })
    }
}

fn append(log: &dyn Log, record: OutRecord) -> CallOutcome {
    let retry = |reason: String| CallOutcome::Retry { reason, after_ms: None };
    let topic = record.topic.clone();
    match log.partition_count(&topic) {
        Ok(Some(_)) => {}
        Ok(None) => return retry(format!("topic `{topic}` does not exist; create it")),
        Err(error) => return retry(error.to_string()),
    }
    match log.append(vec![record]) {
        Ok(()) => CallOutcome::Accepted { external: External::default() },
        Err(LogError::Abort(reason) | LogError::Retry(reason) | LogError::Fatal(reason)) => retry(reason),
        Err(error @ LogError::Rebalanced) => retry(error.to_string()),
    }
}

#[async_trait]
impl Target for KafkaTarget {
    async fn call(&self, run: &RunRecord) -> CallOutcome {
        let record = match self.record(run) {
            Ok(record) => record,
            Err(reason) => return CallOutcome::Permanent { reason },
        };
        let log = self.log.clone();
        match tokio::task::spawn_blocking(move || append(&*log, record)).await {
            Ok(outcome) => outcome,
            Err(error) => CallOutcome::Retry { reason: format!("the append did not end: {error}"), after_ms: None },
        }
    }
}
