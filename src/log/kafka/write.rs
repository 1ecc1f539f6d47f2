//! Records into librdkafka's queue: what the transactional producer and `Log::append` share.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};

use super::context::Context;
use crate::log::{LogError, OutRecord, Result};

/// How long a full queue is waited for between two looks.
const QUEUE_WAIT: Duration = Duration::from_millis(50);
/// Longest time in which `append` gets its records written.
const APPEND_TIMEOUT: Duration = Duration::from_secs(60);

/// Remembers the first record that was not written.
#[derive(Default)]
pub(super) struct Delivery {
    failure: Mutex<Option<KafkaError>>,
}

impl Delivery {
    fn take_failure(&self) -> Option<KafkaError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for Delivery {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        Context.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Context.error(error, reason);
    }
}

impl ProducerContext for Delivery {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.clone());
        }
    }
}

/// Queues a record; while the queue is full, waits for room, at most `limit`.
pub(super) fn write(client: &BaseProducer<Delivery>, record: &OutRecord, limit: Duration) -> KafkaResult<()> {
    let mut headers = None;
    if !record.headers.is_empty() {
        let empty = OwnedHeaders::new_with_capacity(record.headers.len());
        let add = |headers: OwnedHeaders, (key, value): &(String, Vec<u8>)| {
            headers.insert(Header { key, value: Some(value.as_slice()) })
        };
        headers = Some(record.headers.iter().fold(empty, add));
    }
    let mut out = BaseRecord::<[u8], [u8]>::to(&record.topic);
    out.partition = record.partition;
    out.key = record.key.as_deref();
    out.payload = record.value.as_deref();
    out.headers = headers;
    let deadline = Instant::now() + limit;
    loop {
        match client.send(out) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) if Instant::now() < deadline => {
                client.poll(QUEUE_WAIT);
                out = back;
            }
            Err((error, _)) => return Err(error),
        }
    }
}

/// Writes outside of transactions.
pub(super) struct Appender {
    client: BaseProducer<Delivery>,
    /// One caller at a time: a failure is told to whoever looks first.
    in_use: Mutex<()>,
}

impl Appender {
    pub fn new(base: &ClientConfig) -> Result<Self> {
        let mut config = ClientConfig::new();
        config.set("linger.ms", "5").set("compression.type", "lz4").set("delivery.report.only.error", "true");
        for (key, value) in base.config_map() {
            config.set(key, value);
        }
        config.set("enable.idempotence", "true");
        config.set("message.timeout.ms", APPEND_TIMEOUT.as_millis().to_string());
        let client = config
            .create_with_context(Delivery::default())
            .map_err(|error| LogError::Fatal(format!("no producer: {error}")))?;
        Ok(Self { client, in_use: Mutex::new(()) })
    }

    pub fn append(&self, records: &[OutRecord]) -> Result<()> {
        let _alone = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        let not_written = |error| LogError::Retry(format!("records not written: {error}"));
        let queued = records.iter().try_for_each(|record| write(&self.client, record, APPEND_TIMEOUT));
        // Even after an error: what was queued must not fail in the middle of the next call.
        let flushed = self.client.flush(APPEND_TIMEOUT);
        let failure = self.client.context().take_failure();
        queued.and(flushed).and(failure.map_or(Ok(()), Err)).map_err(not_written)
    }
}
