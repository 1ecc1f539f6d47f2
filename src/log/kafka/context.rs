//! librdkafka's log and errors into Driftline's log.

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;

pub(super) struct Context;

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(level as i32, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "kafka client");
    }
}

impl ConsumerContext for Context {}

/// `level` as in syslog: 3 error, 4 warning, 5 notice, 6 info, 7 debug. A lost connection is an error to
/// librdkafka; it heals, so it is a warning here.
pub(super) fn log_line(level: i32, facility: &str, line: &str) {
    match level {
        ..=4 => tracing::warn!(target: "librdkafka", facility, "{line}"),
        5 | 6 => tracing::info!(target: "librdkafka", facility, "{line}"),
        _ => tracing::debug!(target: "librdkafka", facility, "{line}"),
    }
}
