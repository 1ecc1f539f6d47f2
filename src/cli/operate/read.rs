//! Reads a topic of Driftline's whole, within a bounded time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Failure, unreachable};
use crate::log::{ConsumerEvent, ConsumerOptions, Log, RecordRef, StartOffset, TopicPartition};

/// How long nothing may come before the reading is given up: a transaction that a killed process left open is settled
/// after 10 s.
const PATIENCE: Duration = Duration::from_secs(30);
const RECORDS_PER_POLL: usize = 4_096;
const POLL_TIMEOUT: Duration = Duration::from_millis(250);
/// Tries of a call that says that another one may help.
const MAX_CALLS: u32 = 3;

/// Partitions of one of Driftline's own topics.
pub fn partitions(log: &dyn Log, topic: &str) -> Result<i32, Failure> {
    let count = insist(|| log.partition_count(topic))?;
    count.ok_or_else(|| {
        Failure::undecided(format!(
            "topic `{topic}` does not exist: no `driftline run` has ever started with this `app` on this cluster; check \
             `app` and `kafka.bootstrap_servers` in the service file"
        ))
    })
}

/// Calls `each` with every record of the topic, in the order of each partition. `newest`: at most so many of the last
/// offsets of each partition.
pub fn read(
    log: &dyn Log,
    topic: &str,
    newest: Option<i64>,
    mut each: impl FnMut(RecordRef<'_>),
) -> Result<(), Failure> {
    let count = partitions(log, topic)?;
    let options =
        ConsumerOptions { group: None, topics: Vec::new(), start: StartOffset::Earliest, read_committed: true };
    let mut consumer = insist(|| log.consumer(options.clone()))?;
    let mut ends: BTreeMap<i32, i64> = BTreeMap::new();
    let mut from = Vec::new();
    for partition in 0..count {
        let place = TopicPartition::new(topic, partition);
        let (earliest, end) = insist(|| consumer.offsets(&place))?;
        let start = newest.map_or(earliest, |newest| earliest.max(end - newest));
        if start < end {
            ends.insert(partition, end);
            from.push((place, Some(start)));
        }
    }
    if from.is_empty() {
        return Ok(());
    }
    consumer.assign(&from).map_err(|error| unreachable(&error))?;
    let mut heard = Instant::now();
    while !ends.is_empty() {
        let polled = insist(|| consumer.poll(RECORDS_PER_POLL, POLL_TIMEOUT))?;
        for record in polled.records.iter() {
            heard = Instant::now();
            each(record);
            if ends.get(&record.partition).is_some_and(|end| record.offset + 1 >= *end) {
                ends.remove(&record.partition);
            }
        }
        // The last offset may be a control record, which only shows in where the partition ends.
        for event in polled.events {
            if let ConsumerEvent::EndOfPartition { partition, next_offset } = event
                && ends.get(&partition.partition).is_some_and(|end| next_offset >= *end)
            {
                ends.remove(&partition.partition);
            }
        }
        if heard.elapsed() > PATIENCE {
            return Err(Failure::undecided(format!(
                "topic `{topic}` could not be read to its end within {} s: the broker is away, or a transaction is open",
                PATIENCE.as_secs()
            )));
        }
    }
    Ok(())
}

fn insist<T>(mut call: impl FnMut() -> crate::log::Result<T>) -> Result<T, Failure> {
    let mut calls = 1;
    loop {
        match call() {
            Ok(answer) => return Ok(answer),
            Err(crate::log::LogError::Retry(_)) if calls < MAX_CALLS => {
                calls += 1;
                std::thread::sleep(POLL_TIMEOUT);
            }
            Err(error) => return Err(unreachable(&error)),
        }
    }
}
