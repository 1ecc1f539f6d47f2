//! A partition of a topic, read whole: how a role gets back what it has stored.

use std::time::Duration;

use super::{ConsumerEvent, ConsumerOptions, Log, Result, StartOffset, TopicPartition};

/// Reads one partition from its start to its end. The end is the high watermark read uncommitted: a
/// predecessor's transaction that is still being settled is waited for, not missed.
pub fn read_to_end(
    log: &dyn Log,
    topic: &str,
    partition: i32,
    mut each: impl FnMut(&[u8], Option<&[u8]>),
) -> Result<()> {
    let mut consumer = log.consumer(ConsumerOptions {
        group: None,
        topics: vec![],
        start: StartOffset::Earliest,
        read_committed: true,
    })?;
    let partition = TopicPartition::new(topic, partition);
    let (earliest, end) = consumer.offsets(&partition)?;
    if end <= earliest {
        return Ok(());
    }
    consumer.assign(&[(partition.clone(), None)])?;
    let mut position = earliest;
    while position < end {
        let polled = consumer.poll(4096, Duration::from_secs(1))?;
        for record in polled.records.iter() {
            position = record.offset + 1;
            if let Some(key) = record.key {
                each(key, record.value);
            }
        }
        for event in polled.events {
            if let ConsumerEvent::EndOfPartition { next_offset, .. } = event {
                position = position.max(next_offset);
            }
        }
    }
    Ok(())
}
