//! A producer for what may be lost but must be counted: it never waits for the broker, and says later of each record
//! whether it was written. Outside of transactions, idempotent: what is written, is written once, and per key in order.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::Message as _;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext, PurgeConfig};

use super::context::Context;
use crate::log::{LogError, MAX_RECORD_BYTES, Result};

/// Limits of a streaming producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamOptions {
    /// Records and bytes that may wait for the broker.
    pub max_records: usize,
    pub max_bytes: usize,
    /// How long records gather before they are sent together.
    pub linger: Duration,
    /// A record that was not acknowledged after this long has failed.
    pub delivery_timeout: Duration,
}

/// What became of the records of one tag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamReport {
    pub written: u64,
    pub failed: u64,
    /// Of keys and values, of both.
    pub bytes: usize,
}

/// Why a record was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    #[error("the producer's queue is full")]
    Full,
    #[error("{0}")]
    Refused(String),
}

/// Gathers delivery reports.
#[derive(Default)]
struct Reports {
    by_tag: Mutex<BTreeMap<usize, StreamReport>>,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        Context.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Context.error(error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, tag: usize) {
        let (message, is_written) = match result {
            Ok(message) => (message, true),
            Err((_, message)) => (message, false),
        };
        let mut by_tag = self.by_tag.lock().unwrap_or_else(PoisonError::into_inner);
        let report = by_tag.entry(tag).or_default();
        report.written += u64::from(is_written);
        report.failed += u64::from(!is_written);
        report.bytes += message.key().map_or(0, <[u8]>::len) + message.payload().map_or(0, <[u8]>::len);
    }
}

/// Writes without waiting.
pub struct StreamProducer {
    client: BaseProducer<Reports>,
}

impl StreamProducer {
    pub(super) fn new(base: &ClientConfig, options: &StreamOptions) -> Result<Self> {
        let mut config = ClientConfig::new();
        config.set("compression.type", "lz4").set("batch.size", "1000000");
        config.set("linger.ms", options.linger.as_millis().to_string());
        for (key, value) in base.config_map() {
            config.set(key, value);
        }
        config.set("enable.idempotence", "true").set("delivery.report.only.error", "false");
        config.set("queue.buffering.max.messages", options.max_records.clamp(1, 10_000_000).to_string());
        config.set(
            "queue.buffering.max.kbytes",
            options.max_bytes.div_ceil(1024).clamp(1, i32::MAX as usize).to_string(),
        );
        config.set("message.timeout.ms", options.delivery_timeout.as_millis().max(1).to_string());
        let client = config
            .create_with_context(Reports::default())
            .map_err(|error| LogError::Fatal(format!("no producer: {error}")))?;
        Ok(Self { client })
    }

    /// Queues a record; `tag` says in the reports whose it is.
    ///
    /// # Errors
    /// The queue is full, or the record can never be written; it will not be reported on then.
    pub fn send(
        &self,
        topic: &str,
        key: &[u8],
        value: &[u8],
        timestamp_ms: i64,
        tag: usize,
    ) -> std::result::Result<(), StreamError> {
        if key.len() + value.len() > MAX_RECORD_BYTES {
            let bytes = key.len() + value.len();
            return Err(StreamError::Refused(format!("a record of {bytes} bytes is larger than {MAX_RECORD_BYTES}")));
        }
        let mut record = BaseRecord::<[u8], [u8], usize>::with_opaque_to(topic, tag).key(key).payload(value);
        record.timestamp = Some(timestamp_ms);
        self.client.send(record).map_err(|(error, _)| match error {
            KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => StreamError::Full,
            error => StreamError::Refused(format!("record for {topic}: {error}")),
        })
    }

    /// Reports since the last look, by tag; where there are none, waits for one at most `wait`.
    pub fn reports(&self, wait: Duration) -> Vec<(usize, StreamReport)> {
        self.client.poll(Duration::ZERO);
        let mut reports = self.take();
        if reports.is_empty() && !wait.is_zero() {
            self.client.poll(wait);
            reports = self.take();
        }
        reports.into_iter().collect()
    }

    /// Gives up on what is not yet written; it is reported as failed. A record that was on its way may be written all
    /// the same.
    pub fn purge(&self) {
        self.client.purge(PurgeConfig::default().queue().inflight());
    }

    fn take(&self) -> BTreeMap<usize, StreamReport> {
        std::mem::take(&mut *self.client.context().by_tag.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
