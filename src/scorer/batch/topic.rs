//! A topic of rows in, a topic of scored rows out, each exactly once: scores and offsets are one transaction.
//!
//! Nothing is held between two polls: what was polled is scored, written and committed before the next, so a rebalance or a
//! crash undoes the open transaction and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::file::append_fields;
use super::{BatchError, CHUNK_ROWS, NewColumn, RowScorer, Work};
use crate::log::{
    Consumer, ConsumerEvent, ConsumerOptions, Log, LogError, OutRecord, Producer, RecordRef, Records, StartOffset,
    TopicPartition,
};
use crate::scorer::transform::rows;

const POLL_TIMEOUT: Duration = Duration::from_millis(200);
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// From where to where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicJob {
    pub from: String,
    pub to: String,
    /// Where rows go that cannot be scored, as they are.
    pub dead_letter: String,
    /// Consumer group: whoever has the same shares the partitions.
    pub group: String,
    /// Unique and stable per process of a group.
    pub instance: String,
    /// Stop once every partition was read to its end.
    pub until_end: bool,
}

/// What became of records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TopicCounts {
    pub scored: u64,
    pub dead_lettered: u64,
}

/// Scores until `stop` is cancelled or, if the job says so, until the end.
///
/// # Errors
/// A topic does not exist, another process has this instance, or the model fails on what it should take.
pub fn run_topic(
    log: &dyn Log,
    scorer: &mut RowScorer,
    job: &TopicJob,
    stop: &CancellationToken,
    progress: &dyn Fn(TopicCounts),
) -> Result<TopicCounts, BatchError> {
    let failed = |error: LogError| BatchError::Failed(error.to_string());
    for topic in [&job.from, &job.to, &job.dead_letter] {
        if log.partition_count(topic).map_err(failed)?.is_none() {
            return Err(BatchError::Failed(format!("topic {topic} does not exist: create it")));
        }
    }
    let options = ConsumerOptions {
        group: Some(job.group.clone()),
        topics: vec![job.from.clone()],
        start: StartOffset::Earliest,
        read_committed: true,
    };
    let producer = log.producer(&format!("{}-score-{}", job.group, job.instance)).map_err(failed)?;
    let consumer = log.consumer(options).map_err(failed)?;
    let mut running =
        Running { job, scorer, consumer, producer, at_end: BTreeSet::new(), counts: TopicCounts::default() };
    let mut retry_at: Option<Instant> = None;
    while !stop.is_cancelled() {
        if job.until_end && running.is_at_end() {
            break;
        }
        if retry_at.is_some_and(|at| Instant::now() < at) {
            std::thread::sleep(POLL_TIMEOUT);
            continue;
        }
        retry_at = None;
        match running.step() {
            Ok(()) => progress(running.counts),
            Err(Stop::Batch(error)) => {
                running.producer.abort().map_err(failed)?;
                return Err(error);
            }
            Err(Stop::Log(LogError::Fatal(reason))) => return Err(BatchError::Failed(reason)),
            Err(Stop::Log(error)) => {
                tracing::warn!(%error, "scoring of {} starts again where it was committed", job.from);
                running.producer.abort().map_err(failed)?;
                if running.rewind().is_err() {
                    retry_at = Some(Instant::now() + RETRY_PAUSE);
                }
            }
        }
    }
    Ok(running.counts)
}

enum Stop {
    Log(LogError),
    Batch(BatchError),
}

impl From<LogError> for Stop {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

struct Running<'a> {
    job: &'a TopicJob,
    scorer: &'a mut RowScorer,
    consumer: Box<dyn Consumer>,
    producer: Box<dyn Producer>,
    at_end: BTreeSet<TopicPartition>,
    counts: TopicCounts,
}

impl Running<'_> {
    fn is_at_end(&self) -> bool {
        let assigned = self.consumer.assignment();
        !assigned.is_empty() && assigned.iter().all(|partition| self.at_end.contains(partition))
    }

    /// One poll, one transaction.
    fn step(&mut self) -> Result<(), Stop> {
        let polled = self.consumer.poll(CHUNK_ROWS, POLL_TIMEOUT)?;
        for record in polled.records.iter() {
            self.at_end.remove(&TopicPartition { topic: record.topic.clone(), partition: record.partition });
        }
        for event in polled.events {
            match event {
                ConsumerEvent::Assigned(_) => {}
                ConsumerEvent::Revoked(partitions) => {
                    self.at_end.retain(|partition| !partitions.contains(partition));
                }
                ConsumerEvent::EndOfPartition { partition, .. } => {
                    self.at_end.insert(partition);
                }
            }
        }
        if polled.records.is_empty() {
            return Ok(());
        }
        let mut done = TopicCounts::default();
        let out = self.score(&polled.records, &mut done).map_err(Stop::Batch)?;
        let mut offsets: BTreeMap<TopicPartition, i64> = BTreeMap::new();
        for record in polled.records.iter() {
            let partition = TopicPartition { topic: record.topic.clone(), partition: record.partition };
            let next = offsets.entry(partition).or_default();
            *next = (*next).max(record.offset + 1);
        }
        let group = self.consumer.group()?;
        self.producer.begin()?;
        for record in out {
            self.producer.send(record)?;
        }
        let offsets: Vec<_> = offsets.into_iter().collect();
        self.producer.send_offsets(&offsets, &*group)?;
        self.producer.commit()?;
        self.counts.scored += done.scored;
        self.counts.dead_lettered += done.dead_lettered;
        Ok(())
    }

    /// Reading goes on where the group has committed.
    fn rewind(&mut self) -> Result<(), LogError> {
        self.at_end.clear();
        for partition in self.consumer.assignment() {
            let start = match self.consumer.committed(&partition)? {
                Some(committed) => committed,
                None => self.consumer.offsets(&partition)?.0,
            };
            self.consumer.seek(&partition, start)?;
        }
        Ok(())
    }

    fn score(&mut self, records: &Records, done: &mut TopicCounts) -> Result<Vec<OutRecord>, BatchError> {
        let mut out = Vec::with_capacity(records.len());
        let mut rows: Vec<(RecordRef<'_>, Map<String, Value>)> = Vec::with_capacity(records.len());
        for record in records.iter() {
            let object = record.value.and_then(|value| serde_json::from_slice(value).ok());
            match object {
                Some(object) => rows.push((record, object)),
                None => out.push(self.dead_letter(&record, "not a JSON object", done)),
            }
        }
        match self.values(&rows) {
            Ok(values) => out.extend(self.scored(&rows, &values, done)),
            Err(BatchError::Failed(reason)) => return Err(BatchError::Failed(reason)),
            // One of them is at fault: each by itself.
            Err(BatchError::Rows(_)) => {
                for row in &rows {
                    let one = std::slice::from_ref(row);
                    match self.values(one) {
                        Ok(values) => out.extend(self.scored(one, &values, done)),
                        Err(BatchError::Rows(reason)) => out.push(self.dead_letter(&row.0, &reason, done)),
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(out)
    }

    fn values(&mut self, rows: &[(RecordRef<'_>, Map<String, Value>)]) -> Result<Vec<NewColumn>, BatchError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let objects: Vec<&Map<String, Value>> = rows.iter().map(|(_, object)| object).collect();
        let raw = rows::raw_columns(self.scorer.inputs(), &objects)?;
        let mut values = self.scorer.run(&raw, objects.len())?;
        values.push(NewColumn::Texts(vec![self.scorer.model().to_string(); objects.len()]));
        values.push(NewColumn::Texts(vec![self.scorer.version().to_string(); objects.len()]));
        Ok(values)
    }

    /// The rows as they came, with score, prediction, model and version in place of such as they had.
    fn scored(
        &self,
        rows: &[(RecordRef<'_>, Map<String, Value>)],
        values: &[NewColumn],
        done: &mut TopicCounts,
    ) -> Vec<OutRecord> {
        let fields = self.scorer.fields();
        let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).chain(["model", "version"]).collect();
        done.scored += rows.len() as u64;
        let record = |(row, (record, object)): (usize, &(RecordRef<'_>, Map<String, Value>))| {
            let text = match names.iter().any(|name| object.contains_key(*name)) {
                false => String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned(),
                true => {
                    let mut others = object.clone();
                    names.iter().for_each(|name| drop(others.remove(*name)));
                    Value::Object(others).to_string()
                }
            };
            let mut value = Vec::with_capacity(text.len() + 96);
            append_fields(&text, names.iter().copied(), values, row, &mut value);
            OutRecord {
                topic: self.job.to.as_str().into(),
                key: record.key.map(<[u8]>::to_vec),
                value: Some(value),
                ..OutRecord::default()
            }
        };
        rows.iter().enumerate().map(record).collect()
    }

    fn dead_letter(&self, record: &RecordRef<'_>, reason: &str, done: &mut TopicCounts) -> OutRecord {
        done.dead_lettered += 1;
        let at = format!("{}[{}]@{}", record.topic, record.partition, record.offset);
        OutRecord {
            topic: self.job.dead_letter.as_str().into(),
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: vec![("reason".into(), reason.as_bytes().to_vec()), ("source".into(), at.into_bytes())],
            ..OutRecord::default()
        }
    }
}
