//! Events to Kafka, by the log's streaming producer.

use std::time::Duration;

use crate::log::kafka::{KafkaLog, StreamError, StreamOptions, StreamProducer};
use crate::log::{self};

use super::transport::{DeliveryReport, EventRecord, SendError, Transport};

/// Events to Kafka.
pub struct KafkaTransport {
    producer: StreamProducer,
}

impl KafkaTransport {
    /// Does not wait for a connection.
    ///
    /// # Errors
    /// A property that librdkafka does not take.
    pub fn new(log: &KafkaLog, options: StreamOptions) -> log::Result<Self> {
        Ok(Self { producer: log.stream(options)? })
    }
}

impl Transport for KafkaTransport {
    fn send(&mut self, record: EventRecord<'_>, tag: usize) -> Result<(), SendError> {
        let EventRecord { topic, key, value, event_time_ms } = record;
        self.producer.send(topic, key, value, event_time_ms, tag).map_err(|error| match error {
            StreamError::Full => SendError::Full,
            StreamError::Refused(reason) => SendError::Refused(reason),
        })
    }

    fn reports(&mut self, wait: Duration) -> Vec<DeliveryReport> {
        let reports = self.producer.reports(wait);
        let report = |(tag, report): (usize, log::kafka::StreamReport)| DeliveryReport {
            tag,
            sent: report.written,
            failed: report.failed,
            bytes: report.bytes,
        };
        reports.into_iter().map(report).collect()
    }

    fn abandon(&mut self) {
        self.producer.purge();
    }
}
