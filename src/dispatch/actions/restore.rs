//! What a predecessor has recorded: the last record of every run, from all partitions of `actions`.

use std::collections::BTreeMap;

use super::run::RunRecord;
use crate::log::{Log, Result, read_to_end};

/// Reads the whole topic to the end that it has now. What cannot be read is told and passed over.
pub fn read_runs(log: &dyn Log, topic: &str) -> Result<Vec<RunRecord>> {
    let mut last: BTreeMap<Vec<u8>, RunRecord> = BTreeMap::new();
    for partition in 0..log.partition_count(topic)?.unwrap_or(0) {
        read_to_end(log, topic, partition, |key, value| match value.map(RunRecord::decode) {
            None => drop(last.remove(key)),
            Some(Ok(record)) => {
                let known = last.get(key).map_or(0, |known| known.revision);
                if record.revision >= known {
                    last.insert(key.to_vec(), record);
                }
            }
            Some(Err(error)) => {
                let key = String::from_utf8_lossy(key);
                tracing::error!(topic, partition, %key, %error, "a run's record cannot be read; it is passed over");
            }
        })?;
    }
    Ok(last.into_values().collect())
}
