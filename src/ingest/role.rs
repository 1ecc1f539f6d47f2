//! The loop of the ingest role: reads the source topics, and at every flush writes partial aggregates, dead
//! letters and its offsets in one transaction. Between flushes it keeps nothing that is not read again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::config::model::Model;
use crate::config::service::Ingest;
use crate::event::{Decoder, dead_letter};
use crate::log::topics::Topics;
use crate::log::{
    Consumer, ConsumerEvent, ConsumerOptions, Log, LogError, OutRecord, Producer, Records, Result, StartOffset,
    TopicPartition,
};
use crate::telemetry::{Complaints, Metrics};

pub use super::model_ingest::IngestModel;

use super::joins::encode_placed;
use super::model_ingest::ModelIngest;
use super::partial::{FlushHeader, SourceProgress, encode_flush, partition_of};
use super::performance::Waiting;

/// Most records of one poll: a slab.
const SLAB_RECORDS: usize = 8192;

const POLL_TIMEOUT: Duration = Duration::from_millis(100);

const LAG_EVERY: Duration = Duration::from_secs(5);

/// A commit that takes longer than this, on top of three flush intervals, makes others wait for this process.
const FLUSH_GRACE_MS: i64 = 2_000;

/// Working, or why not, in words.
pub type Status = std::result::Result<(), String>;
/// Hears of changes of a role's status.
pub type StatusSink = Arc<dyn Fn(&Status) + Send + Sync>;

pub struct IngestRole {
    pub app: String,
    pub instance: String,
    pub topics: Topics,
    pub models: Vec<IngestModel>,
    pub start: StartOffset,
    pub settings: Ingest,
    /// Wall clock, epoch milliseconds.
    pub clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    pub metrics: Metrics,
    /// Told how the role stands whenever that changes: working, or why not.
    pub status: StatusSink,
}

/// One source partition since the last commit.
#[derive(Default)]
struct Source {
    /// Committed, or where reading began; `None` until the log has told.
    from: Option<i64>,
    next: i64,
    clock_ms: Option<i64>,
    quiet_since_ms: Option<i64>,
}

struct Running<'a> {
    role: &'a IngestRole,
    log: &'a dyn Log,
    consumer: Box<dyn Consumer>,
    producer: Box<dyn Producer>,
    decoder: Decoder,
    /// In the order of the role's models.
    models: Vec<ModelIngest>,
    waiting: Waiting,
    runtime: tokio::runtime::Runtime,
    partial_partitions: i32,
    topic_partitions: BTreeMap<String, i32>,
    sources: BTreeMap<TopicPartition, Source>,
    rows: usize,
    dead_letters: Vec<OutRecord>,
    counts: Counts,
    /// What is buffered does not follow the last commit any more: drop it and seek before anything else.
    must_rewind: bool,
    /// The group has told which partitions are this process's; none is an answer too.
    assigned: bool,
    reported: Option<Status>,
    complaints: Complaints,
    lag_told: Instant,
    last_flush: Instant,
}

/// Counted when the flush that holds them is committed, so that metrics agree with results.
#[derive(Default)]
struct Counts {
    read: BTreeMap<Arc<str>, u64>,
    dead_lettered: BTreeMap<(Arc<str>, &'static str), u64>,
    unrouted: u64,
}

impl IngestRole {
    /// Runs until `stop` is cancelled or something fatal happens; the process must then exit.
    pub fn run(&self, log: &dyn Log, stop: &CancellationToken) -> Result<()> {
        let fatal = |error: &dyn std::fmt::Display| LogError::Fatal(error.to_string());
        let models: Vec<Arc<Model>> = self.models.iter().map(|watched| watched.model.clone()).collect();
        let gathered: std::result::Result<Vec<ModelIngest>, String> =
            self.models.iter().map(ModelIngest::new).collect();
        let label_topics: Vec<&String> = models.iter().flat_map(|model| model.label_topics()).collect();
        let mut topics: Vec<String> = models.iter().flat_map(|model| model.topics.iter().cloned()).collect();
        topics.extend(label_topics.iter().map(|topic| topic.to_string()));
        topics.sort();
        topics.dedup();
        let partitions = |topic: &str| {
            let count = log.partition_count(topic)?;
            count.ok_or_else(|| LogError::Fatal(format!("topic {topic} does not exist")))
        };
        let partial_partitions = partitions(&self.topics.partials)?;
        let join_partitions = if label_topics.is_empty() { 0 } else { partitions(&self.topics.joins)? };
        let mut running = Running {
            role: self,
            log,
            producer: log.producer(&format!("{}-ingest-{}", self.app, self.instance))?,
            consumer: log.consumer(ConsumerOptions {
                group: Some(format!("{}-ingest", self.app)),
                topics: topics.clone(),
                start: self.start,
                read_committed: true,
            })?,
            decoder: Decoder::new(&models).map_err(|error| fatal(&error))?,
            models: gathered.map_err(|error| fatal(&error))?,
            waiting: Waiting::new(join_partitions),
            runtime: tokio::runtime::Builder::new_current_thread().build().map_err(|error| fatal(&error))?,
            partial_partitions,
            topic_partitions: topics.into_iter().map(|topic| (topic, 0)).collect(),
            sources: BTreeMap::new(),
            rows: 0,
            dead_letters: Vec::new(),
            counts: Counts::default(),
            must_rewind: false,
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
            && let Err(error) = running.flush()
        {
            tracing::info!(%error, "no last flush");
        }
        Ok(())
    }
}

impl Running<'_> {
    /// Records between what is committed and the end, every few seconds.
    fn tell_lag(&mut self) {
        if self.lag_told.elapsed() < LAG_EVERY || self.must_rewind || !self.consumer.healthy() {
            return;
        }
        self.lag_told = Instant::now();
        let mut lag: BTreeMap<&str, i64> = self.topic_partitions.keys().map(|topic| (topic.as_str(), 0)).collect();
        for (partition, source) in &self.sources {
            if let (Some(from), Ok((_, end))) = (source.from, self.consumer.offsets(partition)) {
                *lag.entry(&partition.topic).or_default() += (end - from).max(0);
            }
        }
        for (topic, records) in lag {
            self.role.metrics.consumer_lag_records.with_label_values(&["ingest", topic]).set(records);
        }
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
        let polled = self.consumer.poll(SLAB_RECORDS, wait)?;
        for event in polled.events {
            self.handle(event);
        }
        if self.must_rewind {
            // The records of this poll may stand before the committed offset: they are read again.
            return self.rewind();
        }
        self.take_in(&polled.records)?;
        if self.rows >= self.role.settings.flush_rows || self.last_flush.elapsed() >= interval {
            self.flush()?;
        }
        Ok(())
    }

    fn handle(&mut self, event: ConsumerEvent) {
        match event {
            ConsumerEvent::Assigned(partitions) => {
                self.role.metrics.rebalances.with_label_values(&["ingest"]).inc();
                self.assigned = true;
                self.sources.extend(partitions.into_iter().map(|partition| (partition, Source::default())));
                self.must_rewind = true;
            }
            ConsumerEvent::Revoked(partitions) => {
                for partition in partitions {
                    self.sources.remove(&partition);
                }
                self.must_rewind = true;
            }
            ConsumerEvent::EndOfPartition { partition, next_offset } => {
                let now_ms = (self.role.clock)();
                if let Some(source) = self.sources.get_mut(&partition) {
                    source.next = source.next.max(next_offset);
                    source.quiet_since_ms.get_or_insert(now_ms);
                }
            }
        }
    }

    /// Where reading of a newly assigned partition begins. Where retention ran past the committed offset this is
    /// the earliest one left, so that the windows role sees the gap.
    fn start_of(&self, partition: &TopicPartition) -> Result<i64> {
        let (earliest, end) = self.consumer.offsets(partition)?;
        Ok(match (self.consumer.committed(partition)?, self.role.start) {
            (Some(committed), _) => committed.max(earliest),
            (None, StartOffset::Earliest) => earliest,
            (None, StartOffset::Latest) => end,
        })
    }

    /// Drops what is buffered and reads again from the last commit.
    fn rewind(&mut self) -> Result<()> {
        self.must_rewind = true;
        self.clear();
        let mut starts = Vec::new();
        for (partition, source) in &self.sources {
            let from = match source.from {
                Some(from) => from,
                None => self.start_of(partition)?,
            };
            starts.push((partition.clone(), from));
        }
        for (partition, from) in starts {
            self.consumer.seek(&partition, from)?;
            self.sources.insert(partition, Source { from: Some(from), next: from, ..Source::default() });
        }
        self.must_rewind = false;
        Ok(())
    }

    fn clear(&mut self) {
        self.models.iter_mut().for_each(ModelIngest::clear);
        self.waiting.clear();
        self.rows = 0;
        self.dead_letters.clear();
        self.counts = Counts::default();
    }

    fn take_in(&mut self, records: &Records) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let now_ms = (self.role.clock)();
        for record in records.iter() {
            // Looked up per record: partitions of one slab are interleaved in long runs at most.
            if let Some(source) =
                self.sources.get_mut(&TopicPartition { topic: record.topic.clone(), partition: record.partition })
            {
                source.next = record.offset + 1;
                source.quiet_since_ms = None;
            }
            *self.counts.read.entry(record.topic.clone()).or_default() += 1;
        }
        let fatal = |error: &dyn std::fmt::Display| LogError::Fatal(error.to_string());
        let decoded = self.decoder.decode(records, now_ms).map_err(|error| fatal(&error))?;
        for decoded in decoded.batches {
            for progress in &decoded.sources {
                if let Some(source) = self.sources.get_mut(&progress.partition) {
                    source.clock_ms = source.clock_ms.max(Some(progress.max_event_time_ms));
                }
            }
            self.rows += decoded.batch.num_rows();
            self.models[decoded.model_index].add_batch(decoded, records, &mut self.waiting);
        }
        self.rows += decoded.labels.len();
        for label in decoded.labels {
            let Some(record) = records.get(label.record) else { continue };
            let partition = TopicPartition { topic: record.topic.clone(), partition: record.partition };
            if let Some(source) = self.sources.get_mut(&partition) {
                // Labels that are still to be read hold back the join, so their partition has a clock as well.
                let read_up_to_ms = label.given_ms.unwrap_or(record.timestamp_ms).min(now_ms);
                source.clock_ms = source.clock_ms.max(Some(read_up_to_ms));
            }
            self.models[label.model_index].add_label(label, record, &mut self.waiting);
        }
        for rejected in &decoded.rejected {
            let Some(record) = records.get(rejected.record) else { continue };
            let mut letter = dead_letter(record, rejected, now_ms).map_err(|error| fatal(&error))?;
            letter.topic = self.role.topics.dead_letter.as_str().into();
            self.dead_letters.push(letter);
            let reason = rejected.reason.as_str();
            *self.counts.dead_lettered.entry((record.topic.clone(), reason)).or_default() += 1;
            if let Some(place) = &rejected.place {
                self.models[place.model_index].add_rejected(reason, place);
                // A producer whose every event is rejected would otherwise keep its windows open, and nobody told.
                let partition = TopicPartition { topic: record.topic.clone(), partition: record.partition };
                if let Some(source) = self.sources.get_mut(&partition) {
                    source.clock_ms = source.clock_ms.max(Some(place.event_time_ms));
                }
            }
        }
        self.counts.unrouted += decoded.unrouted;
        Ok(())
    }

    /// One transaction: aggregates and progress to every partition of `partials`, dead letters, offsets.
    fn flush(&mut self) -> Result<()> {
        self.last_flush = Instant::now();
        if self.sources.is_empty() {
            return Ok(());
        }
        let timer = self.role.metrics.flush_seconds.start_timer();
        let header = self.header()?;
        let records = self.flush_records(&header)?;
        let ingested = header.rows;
        let group = self.consumer.group()?;
        self.producer.begin()?;
        for record in records.into_iter().chain(std::mem::take(&mut self.dead_letters)) {
            self.producer.send(record)?;
        }
        let moved = self.sources.iter().filter(|(_, source)| source.from.is_some_and(|from| source.next > from));
        let offsets: Vec<(TopicPartition, i64)> =
            moved.map(|(partition, source)| (partition.clone(), source.next)).collect();
        if !offsets.is_empty() {
            self.producer.send_offsets(&offsets, &*group)?;
        }
        self.producer.commit()?;
        timer.observe_duration();
        for source in self.sources.values_mut() {
            source.from = Some(source.next);
            source.clock_ms = None;
        }
        self.count(&ingested);
        self.clear();
        Ok(())
    }

    fn flush_records(&mut self, header: &FlushHeader) -> Result<Vec<OutRecord>> {
        let fatal = |error: &dyn std::fmt::Display| LogError::Fatal(error.to_string());
        let mut by_partition: BTreeMap<i32, Vec<_>> = (0..self.partial_partitions).map(|p| (p, Vec::new())).collect();
        for model in &mut self.models {
            let partition = partition_of(&model.model().model, self.partial_partitions);
            let rows = self.runtime.block_on(model.take_partial_rows()).map_err(|error| fatal(&error))?;
            by_partition.entry(partition).or_default().extend(rows);
        }
        let mut records = Vec::new();
        for (partition, rows) in by_partition {
            let here = |model: &&ModelIngest| partition_of(&model.model().model, self.partial_partitions) == partition;
            let signals = self.models.iter().filter(here).flat_map(ModelIngest::signal_runs);
            for value in encode_flush(header, &rows, signals).map_err(|error| fatal(&error))? {
                records.push(OutRecord {
                    topic: self.role.topics.partials.as_str().into(),
                    partition: Some(partition),
                    value: Some(value),
                    ..OutRecord::default()
                });
            }
        }
        for (partition, (predictions, labels)) in (0..).zip(self.waiting.predictions.iter().zip(&self.waiting.labels)) {
            let values = encode_placed(header, &self.waiting.places, predictions, labels);
            records.extend(values.map_err(|error| fatal(&error))?.into_iter().map(|value| OutRecord {
                topic: self.role.topics.joins.as_str().into(),
                partition: Some(partition),
                value: Some(value),
                ..OutRecord::default()
            }));
        }
        Ok(records)
    }

    fn header(&mut self) -> Result<FlushHeader> {
        for (topic, partitions) in &mut self.topic_partitions {
            // Zero: not known yet. A topic that grows is noticed at the next rebalance, which the client starts.
            let known = self.sources.keys().filter(|source| &*source.topic == topic).map(|source| source.partition + 1);
            let owned = known.max().unwrap_or(0);
            if *partitions == 0 || owned > *partitions {
                *partitions = self.log.partition_count(topic)?.unwrap_or(0);
            }
        }
        let sources = self.sources.iter().map(|(partition, source)| SourceProgress {
            topic: partition.topic.to_string(),
            partition: partition.partition,
            from: source.from.unwrap_or(source.next),
            to: source.next,
            clock_ms: source.clock_ms,
            quiet_since_ms: source.quiet_since_ms,
            joined_ms: BTreeMap::new(),
        });
        let rows = self.models.iter().map(|model| (model.model().model.clone(), model.rows()));
        let at_ms = (self.role.clock)();
        Ok(FlushHeader {
            instance: self.role.instance.clone(),
            at_ms,
            next_by_ms: at_ms + 3 * self.role.settings.flush_interval.ms + FLUSH_GRACE_MS,
            sources: sources.collect(),
            topics: self.topic_partitions.clone(),
            rows: rows.filter(|(_, rows)| *rows > 0).collect(),
            part: 0,
            parts: 1,
        })
    }

    fn count(&self, ingested: &BTreeMap<String, u64>) {
        let metrics = &self.role.metrics;
        for (model, count) in ingested {
            metrics.events_ingested.with_label_values(&[model]).inc_by(*count);
        }
        metrics.flushes.inc();
        for (topic, count) in &self.counts.read {
            metrics.events_read.with_label_values(&[topic]).inc_by(*count);
        }
        for ((topic, reason), count) in &self.counts.dead_lettered {
            metrics.events_dead_lettered.with_label_values(&[&**topic, reason]).inc_by(*count);
        }
    }

    /// Abort, drop the buffers, and read again from the last commit.
    fn recover(&mut self, error: &LogError) -> Result<()> {
        if self.complaints.is_news(&error.to_string()) {
            tracing::warn!(%error, "ingest: transaction aborted, reading again from the last commit");
        }
        self.role.metrics.transactions_aborted.with_label_values(&["ingest"]).inc();
        self.producer.abort()?;
        self.must_rewind = true;
        // Not in a tight loop while a broker is away.
        std::thread::sleep(Duration::from_millis(100));
        Ok(())
    }
}
