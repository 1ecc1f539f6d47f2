//! The loop of the windows role: reads `partials`, keeps one `PartitionState` per partition, and writes panes,
//! results, episodes and the outbox in one transaction with its offsets (a checkpoint).
//!
//! A checkpoint is written as soon as there is something to tell, otherwise every `checkpoint_interval`. A
//! restart reads the panes and the judge's state of its partitions, then the few flushes since the checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::config::glob;
use crate::ingest::partial::decode_flush;
use crate::ingest::role::{Status, StatusSink};
use crate::log::topics::Topics;
use crate::log::{
    Consumer, ConsumerEvent, ConsumerOptions, Log, LogError, OutRecord, Producer, Result, StartOffset, TopicPartition,
};
use crate::telemetry::{Complaints, Metrics};

pub use crate::log::read_to_end;

use super::changes::ChangesKey;
use super::history::History;
use super::judge::{Judge, Verdict};
use super::pane::PaneKey;
use super::performance::{PerformanceKey, PerformanceWindows};
use super::progress::Progress;
use super::state::{Effect, PartitionState, References, WatchedModel};

/// Key of the record in `panes` that holds the progress of a partition.
const PROGRESS_KEY: &[u8] = b"progress";

/// Flushes taken in before a checkpoint is considered.
const POLL_RECORDS: usize = 256;

const POLL_TIMEOUT: Duration = Duration::from_millis(100);

const LAG_EVERY: Duration = Duration::from_secs(5);

pub struct WindowsRole {
    pub app: String,
    pub instance: String,
    pub topics: Topics,
    pub watched: Arc<Vec<WatchedModel>>,
    pub references: Arc<dyn References>,
    /// A judge for one partition, without state.
    pub judge: Arc<dyn Fn() -> Box<dyn Judge> + Send + Sync>,
    pub checkpoint_interval: Duration,
    pub metrics: Metrics,
    /// Told how the role stands whenever that changes: working, or why not.
    pub status: StatusSink,
}

struct Partition {
    state: PartitionState,
    /// Of the next record to be read.
    next_offset: i64,
    effects: Vec<Effect>,
    /// Something was taken in since the last checkpoint.
    dirty: bool,
}

struct Running<'a> {
    role: &'a WindowsRole,
    log: &'a dyn Log,
    consumer: Box<dyn Consumer>,
    producer: Box<dyn Producer>,
    owned: BTreeSet<TopicPartition>,
    partitions: BTreeMap<i32, Partition>,
    /// The state in memory does not follow the last commit any more: restore it before anything else.
    must_restore: bool,
    assigned: bool,
    reported: Option<Status>,
    complaints: Complaints,
    lag_told: Instant,
    last_checkpoint: Instant,
    /// Model versions of which it was said that the reference belongs to another one.
    foreign_versions: BTreeSet<(String, String)>,
}

impl WindowsRole {
    /// Runs until `stop` is cancelled or something fatal happens; the process must then exit.
    pub fn run(&self, log: &dyn Log, stop: &CancellationToken) -> Result<()> {
        let producer = log.producer(&format!("{}-windows-{}", self.app, self.instance))?;
        let consumer = log.consumer(ConsumerOptions {
            group: Some(format!("{}-windows", self.app)),
            topics: vec![self.topics.partials.clone()],
            start: StartOffset::Earliest,
            read_committed: true,
        })?;
        let mut running = Running {
            role: self,
            log,
            consumer,
            producer,
            owned: BTreeSet::new(),
            partitions: BTreeMap::new(),
            must_restore: false,
            assigned: false,
            reported: None,
            complaints: Complaints::default(),
            lag_told: Instant::now(),
            last_checkpoint: Instant::now(),
            foreign_versions: BTreeSet::new(),
        };
        while !stop.is_cancelled() {
            match running.step() {
                Ok(()) => running.report(),
                Err(LogError::Fatal(message)) => return Err(LogError::Fatal(message)),
                Err(error) => running.recover(&error)?,
            }
        }
        // What is not yet in a checkpoint is read again by the next owner.
        if running.consumer.healthy()
            && let Err(error) = running.checkpoint()
        {
            tracing::info!(%error, "no last checkpoint");
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
        let topic = &self.role.topics.partials;
        let behind = |(index, partition): (&i32, &Partition)| {
            let end = self.consumer.offsets(&TopicPartition::new(topic, *index)).map_or(0, |(_, end)| end);
            (end - partition.next_offset).max(0)
        };
        let records: i64 = self.partitions.iter().map(behind).sum();
        self.role.metrics.consumer_lag_records.with_label_values(&["windows", topic]).set(records);
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
        // Polled even if what comes must be dropped: a rebalance is heard of nowhere else.
        let polled = self.consumer.poll(POLL_RECORDS, POLL_TIMEOUT)?;
        for event in polled.events {
            match event {
                ConsumerEvent::Assigned(partitions) => {
                    self.role.metrics.rebalances.with_label_values(&["windows"]).inc();
                    self.assigned = true;
                    self.owned.extend(partitions);
                    self.must_restore = true;
                }
                ConsumerEvent::Revoked(partitions) => {
                    self.owned.retain(|owned| !partitions.contains(owned));
                    self.must_restore = true;
                }
                ConsumerEvent::EndOfPartition { partition, next_offset } => {
                    if let Some(known) = self.partitions.get_mut(&partition.partition) {
                        known.next_offset = known.next_offset.max(next_offset);
                    }
                }
            }
        }
        if self.must_restore {
            return self.restore_all();
        }
        for record in polled.records.iter() {
            let Some(partition) = self.partitions.get_mut(&record.partition) else { continue };
            if record.offset < partition.next_offset {
                continue;
            }
            partition.next_offset = record.offset + 1;
            partition.dirty = true;
            match decode_flush(record.value.unwrap_or_default()) {
                Ok(part) => {
                    partition.state.observe(&part.header, &part.signals);
                    partition.effects.extend(partition.state.apply(&part.header, part.rows));
                }
                Err(error) => partition.effects.push(Effect::Damaged(format!(
                    "{}[{}] offset {}: {error}",
                    record.topic, record.partition, record.offset
                ))),
            }
        }
        let told = self.partitions.values().any(|partition| !partition.effects.is_empty());
        if told || self.last_checkpoint.elapsed() >= self.role.checkpoint_interval {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// One transaction: everything that changed, with the offsets it follows from.
    fn checkpoint(&mut self) -> Result<()> {
        self.last_checkpoint = Instant::now();
        let ready = |partition: &Partition| partition.dirty && partition.state.between_flushes();
        let due: Vec<i32> = self.partitions.iter().filter(|(_, state)| ready(state)).map(|(index, _)| *index).collect();
        if due.is_empty() {
            return Ok(());
        }
        let group = self.consumer.group()?;
        self.producer.begin()?;
        let mut offsets = Vec::new();
        let mut told = Vec::new();
        for index in due {
            if let Some(partition) = self.partitions.get_mut(&index) {
                partition.dirty = false;
                let effects = std::mem::take(&mut partition.effects);
                for record in partition_records(&self.role.topics, index, &mut partition.state, &effects)? {
                    self.producer.send(record)?;
                }
                offsets.push((TopicPartition::new(&self.role.topics.partials, index), partition.next_offset));
                told.extend(effects);
            }
        }
        self.producer.send_offsets(&offsets, &*group)?;
        self.producer.commit()?;
        self.count(&told);
        told.iter().for_each(|effect| self.warn_of_foreign_version(effect));
        Ok(())
    }

    /// Once per version: its windows are compared with a reference that was built for another one.
    fn warn_of_foreign_version(&mut self, effect: &Effect) {
        let Effect::Result(result) = effect else { return };
        let place = (result.model.clone(), result.version.clone());
        if !result.segment.is_all()
            || result.baseline.is_some()
            || result.performance.is_some()
            || self.foreign_versions.contains(&place)
        {
            return;
        }
        let Some(reference) = self.role.references.find(&result.model, &result.reference_id) else { return };
        if let Some(belongs_to) = reference.source.version.as_ref()
            && !glob::matches(belongs_to, &result.version)
        {
            tracing::warn!(
                model = %result.model,
                version = %result.version,
                reference = %reference.name,
                reference_version = %belongs_to,
                "this version is compared with a reference that was built for another one; build one for it \
                 (driftline reference build --for-version), or compare versions with `reference: {{version: ...}}`"
            );
            self.foreign_versions.insert(place);
        }
    }

    /// Abort, forget everything, and start again from what is committed.
    fn recover(&mut self, error: &LogError) -> Result<()> {
        if self.complaints.is_news(&error.to_string()) {
            tracing::warn!(%error, "windows: transaction aborted, restoring from the last checkpoint");
        }
        self.role.metrics.transactions_aborted.with_label_values(&["windows"]).inc();
        self.producer.abort()?;
        self.must_restore = true;
        // Not in a tight loop while a broker is away.
        std::thread::sleep(Duration::from_millis(100));
        Ok(())
    }

    fn restore_all(&mut self) -> Result<()> {
        self.must_restore = true;
        self.partitions.clear();
        for partition in self.owned.clone() {
            let restored = self.restore(&partition)?;
            self.consumer.seek(&partition, restored.next_offset)?;
            self.partitions.insert(partition.partition, restored);
        }
        self.must_restore = false;
        Ok(())
    }

    fn restore(&self, partition: &TopicPartition) -> Result<Partition> {
        let index = partition.partition;
        let role = self.role;
        let mut state = PartitionState::new(role.watched.clone(), role.references.clone(), (role.judge)());
        let mut panes: BTreeMap<PaneKey, Option<Vec<u8>>> = BTreeMap::new();
        let mut changes: BTreeMap<ChangesKey, Option<Vec<u8>>> = BTreeMap::new();
        let mut performance: BTreeMap<PerformanceKey, Option<Vec<u8>>> = BTreeMap::new();
        let mut damaged = 0_u64;
        read_to_end(self.log, &role.topics.panes, index, |key, value| {
            if key == PROGRESS_KEY {
                match value.map(serde_json::from_slice::<Progress>) {
                    Some(Ok(progress)) => state.restore_progress(progress),
                    Some(Err(_)) => damaged += 1,
                    None => {}
                }
            } else if let Ok(key) = serde_json::from_slice::<PaneKey>(key) {
                drop(panes.insert(key, value.map(<[u8]>::to_vec)));
            } else if let Ok(key) = serde_json::from_slice::<ChangesKey>(key) {
                drop(changes.insert(key, value.map(<[u8]>::to_vec)));
            } else if let Ok(key) = serde_json::from_slice::<PerformanceKey>(key) {
                drop(performance.insert(key, value.map(<[u8]>::to_vec)));
            } else {
                damaged += 1;
            }
        })?;
        for (key, value) in changes.into_iter().filter_map(|(key, value)| Some((key, value?))) {
            damaged += u64::from(!state.restore_changes(key, &value));
        }
        for (key, value) in performance.into_iter().filter_map(|(key, value)| Some((key, value?))) {
            damaged += u64::from(!state.restore_performance(key, &value));
        }
        for (key, value) in panes.into_iter().filter_map(|(key, value)| Some((key, value?))) {
            if let Err(error) = state.restore_pane(key, &value) {
                tracing::error!(partition = index, %error, "windows: a pane could not be restored");
                damaged += 1;
            }
        }
        if damaged > 0 {
            tracing::error!(partition = index, damaged, "windows: records of the panes topic could not be read");
        }
        let mut verdicts: BTreeMap<String, Option<Vec<u8>>> = BTreeMap::new();
        read_to_end(self.log, &role.topics.episodes, index, |key, value| {
            verdicts.insert(String::from_utf8_lossy(key).into_owned(), value.map(<[u8]>::to_vec));
        })?;
        for (key, value) in verdicts.iter().filter_map(|(key, value)| value.as_ref().map(|value| (key, value))) {
            state.restore_judge(key, value);
        }
        let (earliest, _) = self.consumer.offsets(partition)?;
        let committed = self.consumer.committed(partition)?;
        let next_offset = committed.unwrap_or(earliest);
        let (panes, detectors) = (state.pane_count(), state.detector_count());
        tracing::info!(partition = index, next_offset, panes, detectors, "windows: partition restored");
        Ok(Partition { state, next_offset, effects: Vec::new(), dirty: false })
    }

    fn count(&self, effects: &[Effect]) {
        let metrics = &self.role.metrics;
        for effect in effects {
            match effect {
                Effect::Result(result) if result.performance.is_some() => {}
                Effect::Result(result) if result.segment.is_all() && result.baseline.is_none() => {
                    let counter = if result.revision == 0 { &metrics.windows_closed } else { &metrics.windows_revised };
                    counter.with_label_values(&[&result.model]).inc();
                    if !result.complete {
                        metrics.windows_incomplete.with_label_values(&[&result.model]).inc();
                    }
                }
                Effect::Late(late) if late.performance => {
                    metrics.performance_late.with_label_values(&[&late.model]).inc_by(late.rows);
                }
                Effect::Late(late) => metrics.events_late.with_label_values(&[&late.model]).inc_by(late.rows),
                Effect::Gap { topic } => {
                    tracing::error!(%topic, "windows: offsets were skipped, the windows they belong to are incomplete");
                }
                Effect::Damaged(message) => tracing::error!(%message, "windows: aggregates could not be merged"),
                Effect::Duplicate => tracing::warn!("windows: a flush came twice and was dropped"),
                Effect::Result(_) | Effect::Verdict(_) => {}
            }
        }
        let panes: usize = self.partitions.values().map(|partition| partition.state.pane_count()).sum();
        metrics.open_panes.set(panes as i64);
        let bytes: usize = self.partitions.values().map(|partition| partition.state.allocated_bytes()).sum();
        metrics.pane_bytes.set(bytes as i64);
        let performance = || self.partitions.values().map(|partition| partition.state.performance());
        metrics.performance_panes.set(performance().map(PerformanceWindows::pane_count).sum::<usize>() as i64);
        metrics.performance_bytes.set(performance().map(PerformanceWindows::allocated_bytes).sum::<usize>() as i64);
        let histories = || self.partitions.values().map(|partition| partition.state.history());
        metrics.history_panes.set(histories().map(History::len).sum::<usize>() as i64);
        metrics.history_bytes.set(histories().map(History::bytes).sum::<usize>() as i64);
        for partition in self.partitions.values() {
            for (model, progress) in &partition.state.progress().models {
                if let Some(watermark_ms) = progress.watermark_ms {
                    metrics.watermark_seconds.with_label_values(&[model]).set(watermark_ms as f64 / 1000.0);
                }
            }
        }
    }
}

/// The records of one partition's checkpoint.
fn partition_records(
    topics: &Topics,
    partition: i32,
    state: &mut PartitionState,
    effects: &[Effect],
) -> Result<Vec<OutRecord>> {
    let unwritable =
        |error: serde_json::Error| LogError::Fatal(format!("a record could not be written as JSON: {error}"));
    let record = |topic: &str, key: Vec<u8>, value: Option<Vec<u8>>| OutRecord {
        topic: topic.into(),
        partition: Some(partition),
        key: Some(key),
        value,
        headers: Vec::new(),
    };
    let mut records = Vec::new();
    for effect in effects {
        match effect {
            Effect::Result(result) => {
                let value = serde_json::to_vec(result).map_err(unwritable)?;
                records.push(record(&topics.results, result.key().into_bytes(), Some(value)));
            }
            Effect::Verdict(Verdict::State { key, value }) => {
                records.push(record(&topics.episodes, key.clone().into_bytes(), value.clone()));
            }
            Effect::Verdict(Verdict::Notify { key, value }) => {
                records.push(record(&topics.outbox, key.clone().into_bytes(), Some(value.clone())));
            }
            Effect::Late(late) => {
                let value = serde_json::to_vec(late).map_err(unwritable)?;
                records.push(record(&topics.late, late.model.clone().into_bytes(), Some(value)));
            }
            Effect::Gap { .. } | Effect::Damaged(_) | Effect::Duplicate => {}
        }
    }
    for change in state.take_pane_changes() {
        let key = serde_json::to_vec(&change.key).map_err(unwritable)?;
        records.push(record(&topics.panes, key, change.value));
    }
    for stored in state.take_unstored_changes().map_err(unwritable)? {
        let key = serde_json::to_vec(&stored.key).map_err(unwritable)?;
        records.push(record(&topics.panes, key, stored.value));
    }
    for stored in state.take_unstored_performance().map_err(unwritable)? {
        let key = serde_json::to_vec(&stored.key).map_err(unwritable)?;
        records.push(record(&topics.panes, key, stored.value));
    }
    let progress = serde_json::to_vec(state.progress()).map_err(unwritable)?;
    records.push(record(&topics.panes, PROGRESS_KEY.to_vec(), Some(progress)));
    Ok(records)
}
