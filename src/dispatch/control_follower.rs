//! Reads the `control` topic: whole at the start, then as it grows. Without a group: every process reads all of it.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::control::ControlRecord;
use crate::log::{
    Consumer, ConsumerEvent, ConsumerOptions, Log, LogError, RecordRef, Result, StartOffset, TopicPartition,
};

const RECORDS_PER_POLL: usize = 1_000;
const CATCH_UP_POLL: Duration = Duration::from_millis(100);
/// How often a slow start is mentioned.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct ControlFollower {
    consumer: Box<dyn Consumer>,
}

impl ControlFollower {
    /// The commands up to where the topic ends now, and what will follow it.
    pub fn start(log: &dyn Log, topic: &str, stop: &CancellationToken) -> Result<(Self, Vec<ControlRecord>)> {
        if log.partition_count(topic)?.is_none() {
            return Err(LogError::Retry(format!("topic `{topic}` does not exist yet")));
        }
        let mut consumer = log.consumer(ConsumerOptions {
            group: None,
            topics: Vec::new(),
            start: StartOffset::Earliest,
            read_committed: true,
        })?;
        let place = TopicPartition::new(topic, 0);
        let (low, end) = consumer.offsets(&place)?;
        consumer.assign(&[(place, Some(low))])?;
        let mut commands = Vec::new();
        let mut position = low;
        let mut mentioned = Instant::now();
        while position < end {
            if stop.is_cancelled() {
                return Err(LogError::Abort("stopped while reading commands".into()));
            }
            let polled = consumer.poll(RECORDS_PER_POLL, CATCH_UP_POLL)?;
            for record in polled.records.iter() {
                position = record.offset + 1;
                commands.extend(decode(&record));
            }
            for event in polled.events {
                if let ConsumerEvent::EndOfPartition { next_offset, .. } = event {
                    position = position.max(next_offset);
                }
            }
            if mentioned.elapsed() >= PATIENCE {
                mentioned = Instant::now();
                tracing::warn!(topic, position, end, "still reading commands");
            }
        }
        Ok((Self { consumer }, commands))
    }

    /// What has been commanded since, without waiting.
    pub fn poll(&mut self) -> Result<Vec<ControlRecord>> {
        let polled = self.consumer.poll(RECORDS_PER_POLL, Duration::ZERO)?;
        Ok(polled.records.iter().filter_map(|record| decode(&record)).collect())
    }
}

fn decode(record: &RecordRef<'_>) -> Option<ControlRecord> {
    let read = serde_json::from_slice(record.value?);
    let told = |error: &serde_json::Error| {
        tracing::error!(topic = %record.topic, offset = record.offset, %error, "a command cannot be read; it is passed over");
    };
    read.inspect_err(told).ok()
}
