//! Rows of a reference from a stretch of the model's own topics: the events of a time range, decoded as ingest decodes
//! them.
//!
//! Each topic is read from its earliest record to what is its end at the start, and events are taken by event time: a
//! record's own timestamp may be anything. Bins are placed at the values themselves, so the rows are held in memory,
//! up to a limit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::{AsArray, BooleanArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use datafusion::arrow::datatypes::TimestampMillisecondType;
use datafusion::arrow::error::ArrowError;

use super::Stretch;
use crate::config::glob;
use crate::config::model::Model;
use crate::event::{DecodedBatch, Decoder, DecoderError, VERSION, schema};
use crate::log::{ConsumerEvent, ConsumerOptions, Log, LogError, Records, StartOffset, TopicPartition};

const POLL_RECORDS: usize = 8_192;
const POLL_TIMEOUT: Duration = Duration::from_millis(200);
/// How long a broker may stay away.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which events become rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// Topics of the model to read; all where empty.
    pub topics: Vec<String>,
    /// Event time, [from, to), epoch milliseconds.
    pub from_ms: i64,
    pub to_ms: i64,
    /// Only events of versions that match this name or glob.
    pub version: Option<String>,
    /// More rows than this are an error.
    pub most_rows: u64,
}

/// The rows, in order of event time, and where they were.
#[derive(Debug)]
pub struct StreamRows {
    pub batch: RecordBatch,
    pub stretch: Stretch,
    /// Records read, and of those the ones that could not be decoded.
    pub read: u64,
    pub rejected: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error("topic `{topic}` does not exist; the model reads: {}", known.join(", "))]
    NoTopic { topic: String, known: Vec<String> },
    #[error(
        "the stretch holds more than {most_rows} events; take a shorter one, or raise the limit with --max-rows (about \
         {bytes_per_row} bytes of memory each)"
    )]
    TooManyRows { most_rows: u64, bytes_per_row: u64 },
    #[error("topic `{0}` does not exist on this broker")]
    NoSuchTopic(String),
    #[error("topic `{topic}` holds no JSON object in this stretch; {}", seen_text(.read, .broken, &None))]
    NoObjects { topic: String, read: u64, broken: u64 },
    /// `seen`: first and last event time read.
    #[error("no event of the model lies in this stretch; {}", seen_text(.read, .rejected, .seen))]
    NoEvents { read: u64, rejected: u64, seen: Option<(i64, i64)> },
    #[error("no broker has answered for {} s", PATIENCE.as_secs())]
    BrokerAway,
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Decoder(#[from] DecoderError),
    #[error("the rows could not be put together: {0}")]
    Arrow(#[from] ArrowError),
}

fn seen_text(read: &u64, rejected: &u64, seen: &Option<(i64, i64)>) -> String {
    let time = |ms: i64| chrono::DateTime::from_timestamp_millis(ms).map_or(ms.to_string(), |time| time.to_rfc3339());
    match seen {
        Some((first, last)) => {
            format!(
                "{read} records were read, {rejected} of them broken, with events from {} to {}",
                time(*first),
                time(*last)
            )
        }
        None => format!("{read} records were read, {rejected} of them broken"),
    }
}

/// Reads the events of `range`. `now_ms`: the current time, epoch milliseconds; events far beyond it are rejected as
/// in ingest. `progress` hears how many records were read, now and then.
pub fn read(
    log: &dyn Log,
    model: &Arc<Model>,
    range: &Range,
    now_ms: i64,
    mut progress: impl FnMut(u64),
) -> Result<StreamRows, StreamError> {
    let mut reader = Reader {
        range,
        schema_row_bytes: schema(model).fields().len() as u64 * BYTES_PER_VALUE,
        decoder: Decoder::new(std::slice::from_ref(model))?,
        taken: Vec::new(),
        rows: 0,
        read: 0,
        rejected: 0,
        seen: None,
        offsets: BTreeMap::new(),
    };
    read_to_end(log, &partitions(log, model, range)?, |records| {
        reader.take(records, now_ms)?;
        progress(reader.read);
        Ok(())
    })?;
    reader.finish(model)
}

/// Reads the partitions from their earliest record to what is their end now.
pub(super) fn read_to_end(
    log: &dyn Log,
    partitions: &[TopicPartition],
    mut each: impl FnMut(&Records) -> Result<(), StreamError>,
) -> Result<(), StreamError> {
    let mut consumer = log.consumer(ConsumerOptions {
        group: None,
        topics: Vec::new(),
        start: StartOffset::Earliest,
        read_committed: true,
    })?;
    let mut left: BTreeMap<TopicPartition, i64> = BTreeMap::new();
    let mut from = Vec::new();
    for partition in partitions {
        let (earliest, end) = consumer.offsets(partition)?;
        if earliest < end {
            from.push((partition.clone(), Some(earliest)));
            left.insert(partition.clone(), end);
        }
    }
    if !from.is_empty() {
        consumer.assign(&from)?;
    }
    let mut heard = Instant::now();
    while !left.is_empty() {
        let polled = consumer.poll(POLL_RECORDS, POLL_TIMEOUT)?;
        if consumer.healthy() || !polled.records.is_empty() {
            heard = Instant::now();
        } else if heard.elapsed() > PATIENCE {
            return Err(StreamError::BrokerAway);
        }
        each(&polled.records)?;
        for record in polled.records.iter() {
            let partition = TopicPartition::new(record.topic, record.partition);
            if left.get(&partition).is_some_and(|end| record.offset + 1 >= *end) {
                left.remove(&partition);
            }
        }
        for event in polled.events {
            if let ConsumerEvent::EndOfPartition { partition, next_offset } = event
                && left.get(&partition).is_some_and(|end| next_offset >= *end)
            {
                left.remove(&partition);
            }
        }
    }
    Ok(())
}

fn partitions(log: &dyn Log, model: &Model, range: &Range) -> Result<Vec<TopicPartition>, StreamError> {
    let topics = if range.topics.is_empty() { &model.topics } else { &range.topics };
    let mut partitions = Vec::new();
    for topic in topics {
        let missing = || StreamError::NoTopic { topic: topic.clone(), known: model.topics.clone() };
        let known = model.topics.contains(topic);
        let count = log.partition_count(topic)?.filter(|_| known).ok_or_else(missing)?;
        partitions.extend((0..count).map(|partition| TopicPartition::new(topic, partition)));
    }
    Ok(partitions)
}

/// Of one value in a row, for the message about too many: its column, and what placing the bins takes on top.
const BYTES_PER_VALUE: u64 = 16;

struct Reader<'a> {
    range: &'a Range,
    schema_row_bytes: u64,
    decoder: Decoder,
    taken: Vec<RecordBatch>,
    rows: u64,
    read: u64,
    rejected: u64,
    seen: Option<(i64, i64)>,
    offsets: BTreeMap<String, BTreeMap<i32, (i64, i64)>>,
}

impl Reader<'_> {
    fn take(&mut self, records: &Records, now_ms: i64) -> Result<(), StreamError> {
        if records.is_empty() {
            return Ok(());
        }
        self.read += records.len() as u64;
        let decoded = self.decoder.decode(records, now_ms)?;
        self.rejected += decoded.rejected.len() as u64;
        for decoded in decoded.batches {
            let keep = self.wanted(&decoded);
            if keep.true_count() == 0 {
                continue;
            }
            self.note_offsets(&decoded, &keep, records);
            let batch = filter_record_batch(&decoded.batch, &keep)?;
            self.rows += batch.num_rows() as u64;
            self.taken.push(batch);
            if self.rows > self.range.most_rows {
                let bytes_per_row = self.schema_row_bytes;
                return Err(StreamError::TooManyRows { most_rows: self.range.most_rows, bytes_per_row });
            }
        }
        Ok(())
    }

    fn wanted(&mut self, decoded: &DecodedBatch) -> BooleanArray {
        let times = decoded.event_times_ms();
        for time in times {
            let (first, last) = self.seen.unwrap_or((*time, *time));
            self.seen = Some((first.min(*time), last.max(*time)));
        }
        let in_time = |time: &i64| (self.range.from_ms..self.range.to_ms).contains(time);
        let versions = decoded.batch.column_by_name(VERSION).map(|column| column.as_string::<i32>());
        let of_version = |row: usize| match (&self.range.version, versions) {
            (Some(pattern), Some(versions)) => glob::matches(pattern, versions.value(row)),
            _ => true,
        };
        times.iter().enumerate().map(|(row, time)| Some(in_time(time) && of_version(row))).collect()
    }

    fn note_offsets(&mut self, decoded: &DecodedBatch, keep: &BooleanArray, records: &Records) {
        for (_, index) in decoded.record_indices.iter().enumerate().filter(|(row, _)| keep.value(*row)) {
            let Some(record) = records.get(*index as usize) else { continue };
            let of_topic = self.offsets.entry(record.topic.to_string()).or_default();
            let range = of_topic.entry(record.partition).or_insert((record.offset, record.offset + 1));
            *range = (range.0.min(record.offset), range.1.max(record.offset + 1));
        }
    }

    fn finish(self, model: &Arc<Model>) -> Result<StreamRows, StreamError> {
        if self.rows == 0 {
            return Err(StreamError::NoEvents { read: self.read, rejected: self.rejected, seen: self.seen });
        }
        let batch = concat_batches(&schema(model), &self.taken)?;
        drop(self.taken);
        let Range { from_ms, to_ms, .. } = *self.range;
        let found_ms = self.seen.map(|(first, last)| (first.clamp(from_ms, to_ms), last.clamp(from_ms, to_ms)));
        let stretch = Stretch { from_ms, to_ms, offsets: self.offsets, found_ms };
        Ok(StreamRows { batch: by_time(&batch)?, stretch, read: self.read, rejected: self.rejected })
    }
}

/// Rows in order of event time, as they would have come from one partition.
fn by_time(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let times = batch.column(0).as_primitive::<TimestampMillisecondType>().values();
    let mut order: Vec<u32> = (0..batch.num_rows() as u32).collect();
    order.sort_by_key(|row| times.get(*row as usize).copied());
    take_record_batch(batch, &UInt32Array::from(order))
}
