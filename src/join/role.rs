//! The loop of the join role: reads `joins`, keeps one `JoinState` per partition, and writes aggregates, errors and lost
//! labels in one transaction with its offsets (a flush).
//!
//! A restart reads the checkpoint of each of its partitions, then `joins` from there to the last flush, telling nothing
//! of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::config::service::Ingest;
use crate::event::{Rejected, dead_letter};
use crate::ingest::joins::decode_joins;
use crate::ingest::partial::{FlushHeader, PartialRow, SourceProgress, encode_flush, partition_of};
use crate::ingest::role::{Status, StatusSink};
use crate::ingest::signals::{MOST_VALUES, SignalRun};
use crate::log::topics::Topics;
use crate::log::{
    Consumer, ConsumerEvent, ConsumerOptions, Log, LogError, OutRecord, Producer, RecordRef, Result, StartOffset,
    TopicPartition, read_to_end,
};
use crate::telemetry::{Complaints, Metrics};

use super::checkpoint::{CHECKPOINT_KEY, Checkpoint};
use super::error::ERROR_SIGNAL;
use super::model::JoinModel;
use super::outcome::{LostLabel, Outcome};
use super::state::JoinState;

/// Records of one poll; each is up to half a megabyte.
const POLL_RECORDS: usize = 64;

const POLL_TIMEOUT: Duration = Duration::from_millis(100);

const LAG_EVERY: Duration = Duration::from_secs(5);

/// Unless the sampling changes, which is written at once, a restart may read this much more than it must.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);

/// A commit that takes longer than this, on top of three flush intervals, makes others wait for this process.
const FLUSH_GRACE_MS: i64 = 2_000;

pub struct JoinRole {
    pub app: String,
    pub instance: String,
    pub topics: Topics,
    /// Models with a label topic.
    pub joined: Arc<Vec<JoinModel>>,
    /// Flushes are as frequent as those of ingest.
    pub settings: Ingest,
    /// Wall clock, epoch milliseconds.
    pub clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    pub metrics: Metrics,
    /// Told how the role stands whenever that changes: working, or why not.
    pub status: StatusSink,
}

struct Partition {
    state: JoinState,
    /// Committed, or where reading began.
    from: i64,
    quiet_since_ms: Option<i64>,
    stored: Option<Checkpoint>,
    stored_at: Instant,
}

struct Running<'a> {
    role: &'a JoinRole,
    log: &'a dyn Log,
    stop: &'a CancellationToken,
    consumer: Box<dyn Consumer>,
    producer: Box<dyn Producer>,
    join_partitions: i32,
    partial_partitions: i32,
    owned: BTreeSet<TopicPartition>,
    partitions: BTreeMap<i32, Partition>,
    /// Predictions and labels since the last flush.
    operations: usize,
    /// The state in memory does not follow the last commit any more: restore it before anything else.
    must_restore: bool,
    assigned: bool,
    reported: Option<Status>,
    complaints: Complaints,
    lag_told: Instant,
    last_flush: Instant,
}

/// What one flush tells, beside its records.
#[derive(Default)]
struct Told {
    outcomes: Vec<(String, Outcome)>,
    /// Topic and reason of every dead letter.
    lost: Vec<(String, &'static str)>,
    checkpoints: Vec<(i32, Checkpoint)>,
}

impl JoinRole {
    /// Runs until `stop` is cancelled or something fatal happens; the process must then exit.
    pub fn run(&self, log: &dyn Log, stop: &CancellationToken) -> Result<()> {
        let partitions_of = |topic: &str| {
            log.partition_count(topic)?.ok_or_else(|| LogError::Fatal(format!("topic {topic} does not exist")))
        };
        let mut running = Running {
            role: self,
            log,
            stop,
            join_partitions: partitions_of(&self.topics.joins)?,
            partial_partitions: partitions_of(&self.topics.partials)?,
            producer: log.producer(&format!("{}-join-{}", self.app, self.instance))?,
            consumer: log.consumer(ConsumerOptions {
                group: Some(format!("{}-join", self.app)),
                topics: vec![self.topics.joins.clone()],
                start: StartOffset::Earliest,
                read_committed: true,
            })?,
            owned: BTreeSet::new(),
            partitions: BTreeMap::new(),
            operations: 0,
            must_restore: false,
            assigned: false,
            reported: None,
            complaints: Complaints::default(),
            lag_told: Instant::now(),
            last_flush: Instant::now(),
        };
        while !stop.is_cancelled() {
            match running.step() {
                Ok(()) => running.report(),
                Err(LogError::Fatal(message)) => return Err(LogError::Fatal(message)),
                Err(error) => running.recover(&error)?,
            }
        }
        // What is not flushed is read again by the next owner.
        if running.consumer.healthy()
            && !running.must_restore
            && let Err(error) = running.flush()
        {
            tracing::info!(%error, "no last flush");
        }
        Ok(())
    }
}

impl Running<'_> {
    /// Records between what has been read and the end, every few seconds.
    fn tell_lag(&mut self) {
        if self.lag_told.elapsed() < LAG_EVERY || self.must_restore || !self.consumer.healthy() {
            return;
        }
        self.lag_told = Instant::now();
        let topic = &self.role.topics.joins;
        let behind = |(index, partition): (&i32, &Partition)| {
            let end = self.consumer.offsets(&TopicPartition::new(topic, *index)).map_or(0, |(_, end)| end);
            (end - partition.state.next_offset()).max(0)
        };
        let records: i64 = self.partitions.iter().map(behind).sum();
        self.role.metrics.consumer_lag_records.with_label_values(&["join", topic]).set(records);
    }

    fn report(&mut self) {
        self.tell_lag();
        let status = match (self.consumer.healthy(), self.assigned) {
            (false, _) => Err("no broker can be reached".to_string()),
            (true, false) => Err("waiting for the consumer group".to_string()),
            (true, true) => Ok(()),
        };
        if self.reported.as_ref() != Some(&status) {
            (self.role.status)(&status);
            self.reported = Some(status);
        }
    }

    fn step(&mut self) -> Result<()> {
        let interval = self.role.settings.flush_interval.to_std();
        let wait = interval.saturating_sub(self.last_flush.elapsed()).min(POLL_TIMEOUT);
        // Polled even if what comes must be dropped: a rebalance is heard of nowhere else.
        let polled = self.consumer.poll(POLL_RECORDS, wait)?;
        for event in polled.events {
            self.handle(event);
        }
        if self.must_restore {
            return self.restore_all();
        }
        for record in polled.records.iter() {
            self.take_in(record);
        }
        if self.operations >= self.role.settings.flush_rows || self.last_flush.elapsed() >= interval {
            self.flush()?;
        }
        Ok(())
    }

    fn handle(&mut self, event: ConsumerEvent) {
        match event {
            ConsumerEvent::Assigned(partitions) => {
                self.role.metrics.rebalances.with_label_values(&["join"]).inc();
                self.assigned = true;
                self.owned.extend(partitions);
                self.must_restore = true;
            }
            ConsumerEvent::Revoked(partitions) => {
                self.owned.retain(|owned| !partitions.contains(owned));
                self.must_restore = true;
            }
            ConsumerEvent::EndOfPartition { partition, next_offset } => {
                let now_ms = (self.role.clock)();
                if let Some(known) = self.partitions.get_mut(&partition.partition) {
                    known.state.skip_to(next_offset);
                    known.quiet_since_ms.get_or_insert(now_ms);
                }
            }
        }
    }

    fn take_in(&mut self, record: RecordRef<'_>) {
        let Some(partition) = self.partitions.get_mut(&record.partition) else { return };
        if record.offset < partition.state.next_offset() {
            return;
        }
        partition.quiet_since_ms = None;
        self.operations += apply(&mut partition.state, record);
    }

    /// One transaction: aggregates and progress to every partition of `partials`, lost labels, checkpoints, offsets.
    fn flush(&mut self) -> Result<()> {
        self.last_flush = Instant::now();
        let moved: Vec<(TopicPartition, i64)> = self
            .partitions
            .iter()
            .filter(|(_, partition)| partition.state.next_offset() > partition.from)
            .map(|(index, partition)| {
                (TopicPartition::new(&self.role.topics.joins, *index), partition.state.next_offset())
            })
            .collect();
        if moved.is_empty() {
            return Ok(());
        }
        let header = self.header();
        let (records, told) = self.flush_records(&header)?;
        let group = self.consumer.group()?;
        self.producer.begin()?;
        for record in records {
            self.producer.send(record)?;
        }
        self.producer.send_offsets(&moved, &*group)?;
        self.producer.commit()?;
        self.operations = 0;
        for partition in self.partitions.values_mut() {
            partition.from = partition.state.next_offset();
        }
        self.count(&told);
        for (index, checkpoint) in told.checkpoints {
            if let Some(partition) = self.partitions.get_mut(&index) {
                partition.stored = Some(checkpoint);
                partition.stored_at = Instant::now();
            }
        }
        Ok(())
    }

    fn header(&self) -> FlushHeader {
        let topic = &self.role.topics.joins;
        let sources = self.partitions.iter().map(|(index, partition)| SourceProgress {
            topic: topic.clone(),
            partition: *index,
            from: partition.from,
            to: partition.state.next_offset(),
            clock_ms: partition.state.time_ms(),
            quiet_since_ms: partition.quiet_since_ms,
            joined_ms: partition.state.times_ms(),
        });
        let at_ms = (self.role.clock)();
        FlushHeader {
            // Apart from the parts of ingest's flushes in the same process.
            instance: format!("{}/join", self.role.instance),
            at_ms,
            next_by_ms: at_ms + 3 * self.role.settings.flush_interval.ms + FLUSH_GRACE_MS,
            sources: sources.collect(),
            topics: BTreeMap::from([(topic.clone(), self.join_partitions)]),
            rows: BTreeMap::new(),
            part: 0,
            parts: 1,
        }
    }

    fn flush_records(&mut self, header: &FlushHeader) -> Result<(Vec<OutRecord>, Told)> {
        let fatal = |error: &dyn std::fmt::Display| LogError::Fatal(error.to_string());
        let topics = &self.role.topics;
        let (mut told, mut records) = (Told::default(), Vec::new());
        let mut rows: BTreeMap<i32, Vec<PartialRow>> = BTreeMap::new();
        let mut signals: BTreeMap<i32, Vec<SignalRun>> = BTreeMap::new();
        for (index, partition) in &mut self.partitions {
            let mut sampling_changed = false;
            for (model, join) in partition.state.models_mut() {
                let to = partition_of(model, self.partial_partitions);
                rows.entry(to).or_default().extend(join.take_rows());
                sampling_changed |= join.take_sampling_changed();
                let mut outcome = join.take_outcome();
                let errors = std::mem::take(&mut outcome.errors);
                for lost in outcome.lost.drain(..) {
                    records.push(letter(topics, &lost, header.at_ms).map_err(|error| fatal(&error))?);
                    told.lost.push((lost.label.topic, lost.reason.as_str()));
                }
                for (version, values) in errors {
                    let runs = values.chunks(MOST_VALUES).map(|values| SignalRun {
                        model: model.to_string(),
                        version: version.clone(),
                        topic: topics.joins.clone(),
                        partition: *index,
                        signal: ERROR_SIGNAL.to_string(),
                        values: values.to_vec(),
                    });
                    signals.entry(to).or_default().extend(runs);
                }
                told.outcomes.push((model.to_string(), outcome));
            }
            let may = partition.stored.is_none() || partition.stored_at.elapsed() >= CHECKPOINT_EVERY;
            if sampling_changed || may {
                let checkpoint = partition.state.checkpoint();
                if partition.stored.as_ref() != Some(&checkpoint) {
                    records.push(OutRecord {
                        topic: topics.join_checkpoints.as_str().into(),
                        partition: Some(*index),
                        key: Some(CHECKPOINT_KEY.to_vec()),
                        value: Some(checkpoint.encode().map_err(|error| fatal(&error))?),
                        ..OutRecord::default()
                    });
                    told.checkpoints.push((*index, checkpoint));
                }
            }
        }
        for partition in 0..self.partial_partitions {
            let rows = rows.remove(&partition).unwrap_or_default();
            let signals = signals.remove(&partition).unwrap_or_default();
            for value in encode_flush(header, &rows, signals.into_iter()).map_err(|error| fatal(&error))? {
                records.push(OutRecord {
                    topic: topics.partials.as_str().into(),
                    partition: Some(partition),
                    value: Some(value),
                    ..OutRecord::default()
                });
            }
        }
        Ok((records, told))
    }

    /// Abort, forget everything, and start again from what is committed.
    fn recover(&mut self, error: &LogError) -> Result<()> {
        if self.complaints.is_news(&error.to_string()) {
            tracing::warn!(%error, "join: transaction aborted, restoring from the last checkpoint");
        }
        self.role.metrics.transactions_aborted.with_label_values(&["join"]).inc();
        self.producer.abort()?;
        self.must_restore = true;
        // Not in a tight loop while a broker is away.
        std::thread::sleep(Duration::from_millis(100));
        Ok(())
    }

    fn restore_all(&mut self) -> Result<()> {
        self.must_restore = true;
        self.operations = 0;
        // What is kept after a rebalance is restored too: it may be ahead of its last commit.
        self.partitions.clear();
        for partition in self.owned.clone() {
            let restored = self.restore(&partition)?;
            self.consumer.seek(&partition, restored.from)?;
            self.partitions.insert(partition.partition, restored);
        }
        self.must_restore = false;
        self.last_flush = Instant::now();
        Ok(())
    }

    fn restore(&self, partition: &TopicPartition) -> Result<Partition> {
        let started = Instant::now();
        let (earliest, _) = self.consumer.offsets(partition)?;
        let committed = self.consumer.committed(partition)?;
        let from = committed.unwrap_or(earliest);
        let stored = self.stored_checkpoint(partition.partition)?;
        let joined = &self.role.joined;
        let mut state = match stored.clone().filter(|_| committed.is_some()) {
            Some(checkpoint) => JoinState::restored(joined, self.join_partitions, checkpoint),
            None => JoinState::replayed(joined, self.join_partitions, from.min(earliest)),
        };
        let needed = state.next_offset();
        if needed < earliest {
            tracing::error!(
                partition = partition.partition,
                needed,
                earliest,
                "join: records that the waiting predictions stand in are gone; raise the retention of topic {}",
                partition.topic
            );
        }
        self.replay(partition, &mut state, from)?;
        state.skip_to(from);
        state.go_live();
        let entries: usize = state.models().map(|(_, join)| join.len()).sum();
        let (index, seconds) = (partition.partition, started.elapsed().as_secs_f64());
        tracing::info!(partition = index, from = needed, to = from, entries, seconds, "join: partition restored");
        Ok(Partition { state, from, quiet_since_ms: None, stored, stored_at: Instant::now() })
    }

    /// Reads again what has been told, up to offset `to`.
    fn replay(&self, partition: &TopicPartition, state: &mut JoinState, to: i64) -> Result<()> {
        let options =
            ConsumerOptions { group: None, topics: vec![], start: StartOffset::Earliest, read_committed: true };
        let mut consumer = self.log.consumer(options)?;
        let (earliest, end) = consumer.offsets(partition)?;
        let to = to.min(end);
        state.skip_to(earliest);
        if state.next_offset() >= to {
            return Ok(());
        }
        consumer.assign(&[(partition.clone(), Some(state.next_offset()))])?;
        while state.next_offset() < to {
            if self.stop.is_cancelled() {
                return Err(LogError::Retry("the process stops".into()));
            }
            let polled = consumer.poll(POLL_RECORDS, Duration::from_secs(1))?;
            for record in polled.records.iter().filter(|record| record.offset < to) {
                apply(state, record);
            }
            if polled.records.iter().any(|record| record.offset >= to) {
                break;
            }
            for event in polled.events {
                if let ConsumerEvent::EndOfPartition { next_offset, .. } = event {
                    state.skip_to(next_offset);
                }
            }
        }
        Ok(())
    }

    fn stored_checkpoint(&self, index: i32) -> Result<Option<Checkpoint>> {
        let mut stored = None;
        read_to_end(self.log, &self.role.topics.join_checkpoints, index, |key, value| {
            if key == CHECKPOINT_KEY {
                stored = value.map(Checkpoint::decode);
            }
        })?;
        let unreadable = |error| {
            LogError::Fatal(format!(
                "checkpoint of partition {index} in {}: {error}; delete the topics {0} and {}, and the group {}-join, \
                 to start the join afresh",
                self.role.topics.join_checkpoints, self.role.topics.joins, self.role.app
            ))
        };
        stored.transpose().map_err(unreadable)
    }

    fn count(&self, told: &Told) {
        let metrics = &self.role.metrics;
        for (topic, reason) in &told.lost {
            metrics.events_dead_lettered.with_label_values(&[topic.as_str(), reason]).inc();
        }
        for (model, outcome) in &told.outcomes {
            for (what, count) in &outcome.predictions {
                metrics.join_predictions.with_label_values(&[model, what.as_str()]).inc_by(*count);
            }
            for (what, count) in &outcome.labels {
                metrics.join_labels.with_label_values(&[model, what.as_str()]).inc_by(*count);
            }
        }
        for joined in self.role.joined.iter() {
            let model = &joined.model.model;
            let joins = || {
                let all = self.partitions.values().flat_map(|partition| partition.state.models());
                all.filter(|(name, _)| name == model).map(|(_, join)| join)
            };
            let pending: usize = joins().map(|join| join.len()).sum();
            let bytes: usize = joins().map(|join| join.allocated_bytes()).sum();
            metrics.join_pending.with_label_values(&[model]).set(pending as i64);
            metrics.join_pending_bytes.with_label_values(&[model]).set(bytes as i64);
            let ratio = joins().map(|join| join.sampling().ratio()).fold(1.0, f64::min);
            metrics.join_sample_ratio.with_label_values(&[model]).set(ratio);
            if let Some(time_ms) = joins().filter_map(|join| join.time_ms()).min() {
                metrics.join_time_seconds.with_label_values(&[model]).set(time_ms as f64 / 1000.0);
            }
        }
    }
}

/// Predictions and labels in the record.
fn apply(state: &mut JoinState, record: RecordRef<'_>) -> usize {
    match decode_joins(record.value.unwrap_or_default()) {
        Ok(part) => {
            let operations = part.predictions.len() + part.labels.len();
            state.apply(record.offset, part);
            operations
        }
        Err(error) => {
            let (topic, partition, offset) = (record.topic, record.partition, record.offset);
            tracing::error!(%topic, partition, offset, %error, "join: a record could not be read and is left out");
            state.skip_to(record.offset + 1);
            0
        }
    }
}

fn letter(topics: &Topics, lost: &LostLabel, at_ms: i64) -> std::result::Result<OutRecord, serde_json::Error> {
    let label = &lost.label;
    let topic: Arc<str> = label.topic.as_str().into();
    let record = RecordRef {
        topic: &topic,
        partition: label.partition,
        offset: label.offset,
        timestamp_ms: label.timestamp_ms,
        key: label.key.as_deref(),
        value: Some(&label.raw),
    };
    let rejected = Rejected {
        record: 0,
        model: Some(label.model.as_str().into()),
        reason: lost.reason,
        detail: lost.detail(),
        place: None,
    };
    let letter = dead_letter(record, &rejected, at_ms)?;
    Ok(OutRecord { topic: topics.dead_letter.as_str().into(), ..letter })
}
