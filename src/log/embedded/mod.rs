//! A log in this process: partitions, transactions, groups and fencing with Kafka's meaning, in memory.
//!
//! It is what the demo, the tests and the simulator run on, and it passes the same conformance suite as Kafka.
//! Control records take offsets, read_committed readers stop at the last stable offset, a stale generation
//! cannot commit offsets, and a reader of offsets waits for the transactions that may still move them. Two
//! things are sharper than in Kafka, never softer: a rebalance happens at once instead of waiting for the
//! members, and a process that dies has its transaction aborted at once instead of after a timeout.
//!
//! One lock guards it all and one condition variable wakes whoever waits; calls are short.

mod consumer;
mod group;
mod partition;
mod producer;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use self::consumer::EmbeddedConsumer;
use self::group::{Group, MemberNumber};
use self::partition::{Partition, Retention, TransactionNumber};
use self::producer::{EmbeddedProducer, ProducerState};
use super::partitioner::partition_of;
use super::{
    Consumer, ConsumerOptions, Log, LogError, MAX_RECORD_BYTES, OutRecord, Producer, RETENTION_RECORDS, Result,
    TopicPartition, TopicSpec,
};

/// The handle of one client process on the log. Clones are the same process; `process` makes another.
#[derive(Clone)]
pub struct EmbeddedLog {
    shared: Arc<Shared>,
    process: Arc<Process>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    clock: Box<dyn Fn() -> i64 + Send + Sync>,
    default_retention_records: Option<usize>,
}

/// What dies together.
#[derive(Default)]
struct Process {
    killed: AtomicBool,
    /// Calls left before the process dies by itself; `u64::MAX` for ever.
    calls_left: AtomicU64,
    members: Mutex<Vec<(String, MemberNumber)>>,
    transactional_ids: Mutex<Vec<(String, i32)>>,
}

#[derive(Default)]
struct State {
    topics: HashMap<Arc<str>, Topic>,
    groups: HashMap<String, Group>,
    producers: HashMap<String, ProducerState>,
    last_member: MemberNumber,
    last_transaction: TransactionNumber,
    round_robin: u32,
}

struct Topic {
    partitions: Vec<Partition>,
    retention: Retention,
}

impl Default for EmbeddedLog {
    fn default() -> Self {
        Self::new()
    }
}

impl EmbeddedLog {
    /// An empty log; records get the wall clock's time.
    pub fn new() -> Self {
        Self::with_clock(|| chrono::Utc::now().timestamp_millis())
    }

    /// An empty log whose records get their time (epoch milliseconds) from `clock`.
    pub fn with_clock(clock: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self::build(Box::new(clock), None)
    }

    /// An empty log that keeps at most `records` records in each partition of topics that do not say otherwise
    /// by `RETENTION_RECORDS` and are not compacted.
    pub fn with_default_retention(records: usize) -> Self {
        Self::build(Box::new(|| chrono::Utc::now().timestamp_millis()), Some(records))
    }

    fn build(clock: Box<dyn Fn() -> i64 + Send + Sync>, default_retention_records: Option<usize>) -> Self {
        let shared = Shared { state: Mutex::default(), changed: Condvar::new(), clock, default_retention_records };
        Self { shared: Arc::new(shared), process: Arc::new(Process::new()) }
    }

    /// A handle of another process on the same log.
    pub fn process(&self) -> Self {
        Self { shared: self.shared.clone(), process: Arc::new(Process::new()) }
    }

    /// The process of this handle dies: its calls fail from now on, its members are out of their groups and its
    /// open transactions are aborted, as in Kafka after the session and transaction timeouts.
    pub fn kill(&self) {
        let mut state = self.shared.lock();
        self.bury(&mut state);
    }

    /// The process dies by itself when it makes its next call after `calls` more: a kill at a chosen instant.
    pub fn kill_after(&self, calls: u64) {
        self.process.calls_left.store(calls, Ordering::SeqCst);
    }

    pub fn is_killed(&self) -> bool {
        self.process.killed.load(Ordering::SeqCst)
    }

    /// Every call of a client starts here.
    fn enter(&self) -> Result<MutexGuard<'_, State>> {
        let mut state = self.shared.lock();
        let calls_left = self.process.calls_left.load(Ordering::SeqCst);
        if calls_left == 0 && !self.is_killed() {
            self.bury(&mut state);
        } else if calls_left != u64::MAX {
            self.process.calls_left.store(calls_left.saturating_sub(1), Ordering::SeqCst);
        }
        self.check_alive()?;
        Ok(state)
    }

    fn check_alive(&self) -> Result<()> {
        if self.is_killed() { Err(LogError::Fatal("this process was killed".into())) } else { Ok(()) }
    }

    fn bury(&self, state: &mut State) {
        self.process.killed.store(true, Ordering::SeqCst);
        let members = std::mem::take(&mut *lock(&self.process.members));
        for (group, member) in members {
            state.leave(&group, member);
        }
        let transactional_ids = std::mem::take(&mut *lock(&self.process.transactional_ids));
        for (transactional_id, epoch) in transactional_ids {
            state.drop_producer(&transactional_id, epoch, self.shared.now_ms());
        }
        self.shared.changed.notify_all();
    }
}

impl Process {
    fn new() -> Self {
        Self { calls_left: AtomicU64::new(u64::MAX), ..Self::default() }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn now_ms(&self) -> i64 {
        (self.clock)()
    }
}

/// A thread that panicked inside has left whole entries only: each change under a lock is one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn partition(&self, of: &TopicPartition) -> Option<&Partition> {
        self.topics.get(&of.topic)?.partitions.get(usize::try_from(of.partition).ok()?)
    }

    fn partition_mut(&mut self, of: &TopicPartition) -> Option<&mut Partition> {
        self.topics.get_mut(&of.topic)?.partitions.get_mut(usize::try_from(of.partition).ok()?)
    }

    /// Writes one record; returns where.
    fn append(
        &mut self,
        record: OutRecord,
        transaction: Option<TransactionNumber>,
        now_ms: i64,
    ) -> Result<TopicPartition> {
        if record.byte_len() > MAX_RECORD_BYTES {
            return Err(LogError::Abort(format!("a record of {} bytes is too large", record.byte_len())));
        }
        let round_robin = self.round_robin;
        let missing = |what: String| LogError::Abort(format!("{what} does not exist"));
        let Some((name, topic)) = self.topics.get_key_value(&record.topic) else {
            return Err(missing(format!("topic {}", record.topic)));
        };
        let count = topic.partitions.len() as i32;
        let partition = match (record.partition, &record.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_of(key, count),
            (None, None) => {
                self.round_robin = self.round_robin.wrapping_add(1);
                (round_robin % count.max(1) as u32) as i32
            }
        };
        let at = TopicPartition { topic: name.clone(), partition };
        let retention = topic.retention;
        let target = self.partition_mut(&at).ok_or_else(|| missing(format!("partition {at}")))?;
        target.append(record, transaction, now_ms);
        if transaction.is_none() {
            target.retain(retention, now_ms);
        }
        Ok(at)
    }

    fn rebalance(&mut self, group: &str) {
        let topics = &self.topics;
        if let Some(group) = self.groups.get_mut(group) {
            group.rebalance(|topic| topics.get(topic).map(|topic| topic.partitions.len() as i32));
        }
    }

    fn join(&mut self, group: &str, topics: Vec<String>) -> MemberNumber {
        self.last_member += 1;
        let member = self.last_member;
        self.groups.entry(group.to_string()).or_default().join(member, topics);
        self.rebalance(group);
        member
    }

    fn leave(&mut self, group: &str, member: MemberNumber) {
        if self.groups.get_mut(group).is_some_and(|group| group.leave(member)) {
            self.rebalance(group);
        }
    }
}

fn retention_of(spec: &TopicSpec, default_records: Option<usize>) -> Retention {
    let value = |key: &str| spec.config.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    let policy = value("cleanup.policy").unwrap_or("delete");
    let deletes = policy.contains("delete");
    let compact = policy.contains("compact");
    Retention {
        records: value(RETENTION_RECORDS).and_then(|text| text.parse().ok()).or(default_records.filter(|_| !compact)),
        age_ms: value("retention.ms").filter(|_| deletes).and_then(|text| text.parse().ok()).filter(|age| *age >= 0),
        compact,
    }
}

impl Log for EmbeddedLog {
    fn create_topics(&self, topics: &[TopicSpec]) -> Result<()> {
        let mut state = self.enter()?;
        for spec in topics {
            if state.topics.contains_key(spec.name.as_str()) {
                continue;
            }
            if spec.partitions < 1 {
                return Err(LogError::Fatal(format!("topic {} needs at least one partition", spec.name)));
            }
            let partitions = (0..spec.partitions).map(|_| Partition::default()).collect();
            let retention = retention_of(spec, self.shared.default_retention_records);
            state.topics.insert(spec.name.as_str().into(), Topic { partitions, retention });
            let concerned: Vec<String> = state
                .groups
                .iter()
                .filter(|(_, group)| group.subscribes_to(&spec.name))
                .map(|(name, _)| name.clone())
                .collect();
            for group in concerned {
                state.rebalance(&group);
            }
        }
        self.shared.changed.notify_all();
        Ok(())
    }

    fn partition_count(&self, topic: &str) -> Result<Option<i32>> {
        let state = self.enter()?;
        Ok(state.topics.get(topic).map(|topic| topic.partitions.len() as i32))
    }

    fn consumer(&self, options: ConsumerOptions) -> Result<Box<dyn Consumer>> {
        Ok(Box::new(EmbeddedConsumer::new(self.clone(), options)?))
    }

    fn append(&self, records: Vec<OutRecord>) -> Result<()> {
        let mut state = self.enter()?;
        let now_ms = self.shared.now_ms();
        for record in records {
            state.append(record, None, now_ms)?;
        }
        self.shared.changed.notify_all();
        Ok(())
    }

    fn producer(&self, transactional_id: &str) -> Result<Box<dyn Producer>> {
        Ok(Box::new(EmbeddedProducer::new(self.clone(), transactional_id)?))
    }
}
