//! What a predecessor has recorded: the last record of every delivery in some partitions of `deliveries`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::delivery::DeliveryRecord;
use crate::log::{ConsumerEvent, ConsumerOptions, Log, LogError, RecordRef, Result, StartOffset, TopicPartition};

const POLL_TIMEOUT: Duration = Duration::from_millis(100);
const RECORDS_PER_POLL: usize = 1_000;
/// How often a slow restore is mentioned.
const PATIENCE: Duration = Duration::from_secs(10);

/// A delivery's last record, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Restored {
    pub partition: i32,
    pub offset: i64,
    pub record: DeliveryRecord,
}

/// Reads partitions to the high watermark they have now, in the order of the last records. The watermark is the
/// uncommitted one: records of a transaction that is still open come before it, and are waited for.
pub fn read_deliveries(
    log: &dyn Log,
    topic: &str,
    partitions: &[i32],
    stop: &CancellationToken,
) -> Result<Vec<Restored>> {
    let mut consumer = log.consumer(ConsumerOptions {
        group: None,
        topics: Vec::new(),
        start: StartOffset::Earliest,
        read_committed: true,
    })?;
    let mut ends = BTreeMap::new();
    let mut from = Vec::new();
    for &partition in partitions {
        let place = TopicPartition::new(topic, partition);
        let (low, high) = consumer.offsets(&place)?;
        if low < high {
            ends.insert(partition, high);
            from.push((place, Some(low)));
        }
    }
    let mut last: BTreeMap<Vec<u8>, Restored> = BTreeMap::new();
    if from.is_empty() {
        return Ok(Vec::new());
    }
    consumer.assign(&from)?;
    let mut unread: BTreeSet<i32> = ends.keys().copied().collect();
    let mut mentioned = Instant::now();
    while !unread.is_empty() {
        if stop.is_cancelled() {
            return Err(LogError::Abort("stopped while restoring deliveries".into()));
        }
        let polled = consumer.poll(RECORDS_PER_POLL, POLL_TIMEOUT)?;
        for record in polled.records.iter() {
            take(&mut last, &record);
            if ends.get(&record.partition).is_some_and(|end| record.offset + 1 >= *end) {
                unread.remove(&record.partition);
            }
        }
        // The last offset may be a control record, which only shows in where the partition ends.
        for event in polled.events {
            if let ConsumerEvent::EndOfPartition { partition, next_offset } = event
                && ends.get(&partition.partition).is_some_and(|end| next_offset >= *end)
            {
                unread.remove(&partition.partition);
            }
        }
        if mentioned.elapsed() >= PATIENCE {
            mentioned = Instant::now();
            tracing::warn!(topic, ?unread, "still reading deliveries; a transaction may be open");
        }
    }
    let mut restored: Vec<Restored> = last.into_values().collect();
    restored.sort_by_key(|restored| (restored.partition, restored.offset));
    Ok(restored)
}

fn take(last: &mut BTreeMap<Vec<u8>, Restored>, record: &RecordRef<'_>) {
    let Some(key) = record.key else { return };
    let Some(value) = record.value else {
        last.remove(key);
        return;
    };
    match serde_json::from_slice(value) {
        Ok(delivery) => {
            let restored = Restored { partition: record.partition, offset: record.offset, record: delivery };
            last.insert(key.to_vec(), restored);
        }
        Err(error) => tracing::error!(
            topic = %record.topic,
            partition = record.partition,
            offset = record.offset,
            %error,
            "a delivery's record cannot be read; it is passed over"
        ),
    }
}
