//! Rows of a Kafka topic of JSON objects, as a table: each record is what a line of a JSONL file is.
//!
//! Read from the earliest record to what is the end at the start, by the time of the records. The rows are held in
//! memory, up to a limit.

use super::stream::{StreamError, read_to_end};
use super::table::{Table, jsonl};
use crate::log::{Log, TopicPartition};

/// Which records become rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordRange {
    /// Time of the records, [from, to), epoch milliseconds.
    pub from_ms: i64,
    pub to_ms: i64,
    /// More rows than this are an error.
    pub most_rows: u64,
}

#[derive(Debug)]
pub struct TopicRows {
    pub table: Table,
    /// Records read, and of those the ones that are no JSON object.
    pub read: u64,
    pub broken: u64,
}

/// For the message about too many rows: a JSON object of a dozen features in columns.
const BYTES_PER_ROW: u64 = 200;

/// Rows in order of partition and offset. Records without a value (tombstones) are left out.
pub fn read(
    log: &dyn Log,
    topic: &str,
    range: &RecordRange,
    mut progress: impl FnMut(u64),
) -> Result<TopicRows, StreamError> {
    let count = log.partition_count(topic)?.ok_or_else(|| StreamError::NoSuchTopic(topic.to_string()))?;
    let (mut read, mut broken, mut rows) = (0, 0, 0);
    let mut parts: Vec<jsonl::Rows> = (0..count).map(|_| jsonl::Rows::default()).collect();
    let partitions: Vec<TopicPartition> = (0..count).map(|partition| TopicPartition::new(topic, partition)).collect();
    read_to_end(log, &partitions, |records| {
        for record in records.iter() {
            read += 1;
            let Some(payload) = record.value.filter(|_| (range.from_ms..range.to_ms).contains(&record.timestamp_ms))
            else {
                continue;
            };
            match parts.get_mut(record.partition.max(0) as usize).map(|part| part.push(payload)) {
                Some(Ok(())) => rows += 1,
                _ => broken += 1,
            }
            if rows > range.most_rows {
                return Err(StreamError::TooManyRows { most_rows: range.most_rows, bytes_per_row: BYTES_PER_ROW });
            }
        }
        progress(read);
        Ok(())
    })?;
    if rows == 0 {
        return Err(StreamError::NoObjects { topic: topic.to_string(), read, broken });
    }
    Ok(TopicRows { table: jsonl::table(parts)?, read, broken })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::embedded::EmbeddedLog;
    use crate::log::{OutRecord, TopicSpec};

    fn log(payloads: &[&str]) -> EmbeddedLog {
        let log = EmbeddedLog::new();
        let spec = TopicSpec { name: "offline".into(), partitions: 2, replication: 1, config: vec![] };
        log.create_topics(&[spec]).unwrap();
        let records = payloads.iter().enumerate().map(|(index, payload)| OutRecord {
            topic: "offline".into(),
            partition: Some((index % 2) as i32),
            value: Some(payload.as_bytes().to_vec()),
            ..OutRecord::default()
        });
        log.append(records.collect()).unwrap();
        log
    }

    const ALL: RecordRange = RecordRange { from_ms: i64::MIN, to_ms: i64::MAX, most_rows: 10 };

    #[test]
    fn objects_become_rows_and_what_is_none_is_counted() {
        let log = log(&[
            r#"{"id": "a", "features": {"x": 1}}"#,
            "{broken",
            r#"{"id": "b", "id": "twice"}"#,
            "{\n  \"id\": \"c\",\n  \"features\": {\"x\": 2.5}\n}",
            "[1]",
        ]);
        let rows = read(&log, "offline", &ALL, |_| {}).unwrap();
        assert_eq!((rows.read, rows.broken), (5, 3));
        assert_eq!(rows.table.categories("id").unwrap(), [Some("a".to_string()), Some("c".to_string())]);
        assert_eq!(rows.table.numeric("features.x").unwrap(), [1.0, 2.5]);
    }

    #[test]
    fn too_many_rows_and_none_are_errors_that_say_so() {
        let log = log(&[r#"{"id": 1}"#, r#"{"id": 2}"#]);
        let error = |range: RecordRange, topic: &str| read(&log, topic, &range, |_| {}).unwrap_err().to_string();
        assert!(error(RecordRange { most_rows: 1, ..ALL }, "offline").contains("more than 1 events"));
        let never = error(RecordRange { to_ms: 0, ..ALL }, "offline");
        assert!(never.contains("holds no JSON object in this stretch; 2 records were read"), "{never}");
        assert!(error(ALL, "ofline").contains("`ofline` does not exist"));
    }
}
