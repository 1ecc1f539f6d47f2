//! A Kafka topic of the same cluster: one CloudEvent 1.0 in structured JSON mode for each notification, keyed by episode,
//! so that those of one episode stand in order in one partition.
//!
//! It is appended through the log seam, not in dispatch's transaction: there, a topic that is missing, forbidden or
//! takes only small records would abort what is recorded of all other receivers. So a kill between append and record
//! leaves one more copy, as with every receiver; `source` and `id` tell (CloudEvents 1.0, 3.1).

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, SecondsFormat};
use serde::Serialize;

use super::receiver::{DeliveryContext, Outcome, Telling, Transport};
use crate::log::{Log, LogError, OutRecord};
use crate::rules::episode::{EpisodeStatus, Notification};

/// Largest event: Kafka's default for `message.max.bytes` is 1 048 588 with the batch around it. Findings beyond it are
/// left to the page.
const MAX_EVENT_BYTES: usize = 1_000_000;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CloudEvent {
    pub specversion: &'static str,
    /// The notification's: the same however often it is sent.
    pub id: String,
    /// `/driftline/{app}`.
    pub source: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The episode.
    pub subject: String,
    /// When the window closed that caused the notification: RFC 3339, UTC.
    pub time: String,
    pub datacontenttype: &'static str,
    /// The record's key (CloudEvents Partitioning extension).
    pub partitionkey: String,
    pub data: EventData,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EventData {
    pub notification: Notification,
    /// The alert's own page.
    pub url: String,
    /// How it comes to be sent; absent: it is news.
    #[serde(skip_serializing_if = "is_news")]
    pub telling: Telling,
    /// Findings that did not fit; absent: none.
    #[serde(skip_serializing_if = "is_zero")]
    pub findings_omitted: usize,
}

fn is_news(telling: &Telling) -> bool {
    *telling == Telling::News
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

pub struct KafkaTransport {
    log: Arc<dyn Log>,
    topic: String,
    source: String,
}

impl KafkaTransport {
    pub fn new(log: Arc<dyn Log>, app: &str, topic: &str) -> Self {
        Self { log, topic: topic.to_string(), source: format!("/driftline/{app}") }
    }
}

#[async_trait]
impl Transport for KafkaTransport {
    async fn deliver(&self, notification: &Notification, context: &DeliveryContext) -> Outcome {
        let value = match event(notification, context, &self.source) {
            Ok(value) => value,
            Err(error) => return Outcome::permanent(format!("cannot write the notification as json: {error}")),
        };
        let record = OutRecord {
            topic: self.topic.as_str().into(),
            partition: None,
            key: Some(notification.episode_id.clone().into_bytes()),
            value: Some(value),
            headers: vec![("content-type".into(), b"application/cloudevents+json; charset=UTF-8".to_vec())],
        };
        let log = self.log.clone();
        match tokio::task::spawn_blocking(move || append(&*log, record)).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::retry(format!("the append did not end: {error}")),
        }
    }

    /// Whoever reads the topic wants every change.
    fn takes_an_end_alone(&self) -> bool {
        false
    }
}

fn append(log: &dyn Log, record: OutRecord) -> Outcome {
    let topic = record.topic.clone();
    match log.partition_count(&topic) {
        Ok(Some(_)) => {}
        Ok(None) => return Outcome::retry(format!("topic `{topic}` does not exist; create it")),
        Err(error) => return Outcome::retry(error.to_string()),
    }
    match log.append(vec![record]) {
        Ok(()) => Outcome::Delivered { remark: None },
        Err(LogError::Abort(reason) | LogError::Retry(reason) | LogError::Fatal(reason)) => Outcome::retry(reason),
        Err(error @ LogError::Rebalanced) => Outcome::retry(error.to_string()),
    }
}

/// The event as JSON, with as many findings as fit, in their order.
pub fn event(notification: &Notification, context: &DeliveryContext, source: &str) -> serde_json::Result<Vec<u8>> {
    let kind = match notification.status {
        _ if matches!(context.telling, Telling::Heartbeat { .. }) => "driftline.heartbeat",
        EpisodeStatus::Firing => "driftline.alert.firing",
        EpisodeStatus::Resolved => "driftline.alert.resolved",
    };
    let time = DateTime::from_timestamp_millis(notification.at_ms).unwrap_or_default();
    let mut event = CloudEvent {
        specversion: "1.0",
        id: notification.id.clone(),
        source: source.to_string(),
        kind,
        subject: notification.episode_id.clone(),
        time: time.to_rfc3339_opts(SecondsFormat::Millis, true),
        datacontenttype: "application/json",
        partitionkey: notification.episode_id.clone(),
        data: EventData {
            notification: notification.clone(),
            url: context.episode_url(notification),
            telling: context.telling.clone(),
            findings_omitted: 0,
        },
    };
    loop {
        let json = serde_json::to_vec(&event)?;
        let findings = event.data.notification.findings.len();
        if json.len() <= MAX_EVENT_BYTES || findings == 0 {
            return Ok(json);
        }
        // Halved, so that even thousands of findings are few rounds.
        event.data.notification.findings.truncate(findings / 2);
        event.data.findings_omitted = notification.findings.len() - findings / 2;
    }
}
