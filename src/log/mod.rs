//! The one seam to Kafka: partitioned logs, consumer groups, transactions.
//!
//! Two implementations pass one conformance suite (`tests/log_conformance.rs`): `kafka` on rdkafka, the only
//! folder that names that crate, and `embedded`, in process, for the demo, the tests and the simulator. To
//! add a backend: implement `Log`, `Consumer` and `Producer`, and add it to the list in the suite.
//!
//! Every call blocks; the roles run on threads of their own.

pub mod embedded;
pub mod kafka;
pub mod partitioner;
mod read_to_end;
pub mod records;
pub mod topics;

pub use read_to_end::read_to_end;
pub use records::{RecordRef, Records};

use std::sync::Arc;
use std::time::Duration;

/// One partition of one topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: Arc<str>,
    pub partition: i32,
}

impl TopicPartition {
    pub fn new(topic: &str, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}[{}]", self.topic, self.partition)
    }
}

/// A record to be written.
#[derive(Debug, Clone, Default)]
pub struct OutRecord {
    pub topic: Arc<str>,
    /// `None`: by the key's hash (Kafka's murmur2, so that other clients agree), or round robin without key.
    pub partition: Option<i32>,
    pub key: Option<Vec<u8>>,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
}

impl OutRecord {
    /// Bytes of key, value and headers.
    pub fn byte_len(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(key, value)| key.len() + value.len()).sum();
        self.key.as_ref().map_or(0, Vec::len) + self.value.as_ref().map_or(0, Vec::len) + headers
    }
}

impl Default for TopicPartition {
    fn default() -> Self {
        Self::new("", 0)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsumerEvent {
    /// Partitions given to this consumer by the group; reading starts at the committed offset.
    Assigned(Vec<TopicPartition>),
    /// Partitions taken away: whatever was read of *any* partition and not yet committed must be dropped, and
    /// what is kept must be sought back to its committed offset.
    Revoked(Vec<TopicPartition>),
    /// Everything up to the end of the partition has been returned; `next_offset` is past control records.
    EndOfPartition { partition: TopicPartition, next_offset: i64 },
}

/// What one poll returned. Events precede the records: a caller handles them first.
#[derive(Debug, Default)]
pub struct Polled {
    pub events: Vec<ConsumerEvent>,
    pub records: Records,
}

/// Membership of a consumer in its group at one instant, for `Producer::send_offsets`. Take it from the
/// consumer at every flush: a cached one is fenced wrongly.
pub trait GroupMetadata: Send + std::any::Any {
    fn as_any(&self) -> &dyn std::any::Any;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartOffset {
    Earliest,
    Latest,
}

#[derive(Debug, Clone)]
pub struct ConsumerOptions {
    /// `None`: no group; the caller assigns partitions by hand.
    pub group: Option<String>,
    /// Topics to subscribe to (with a group). Empty without one.
    pub topics: Vec<String>,
    /// Where a group without committed offset starts.
    pub start: StartOffset,
    /// Hide aborted and open transactions. On everywhere but in tests.
    pub read_committed: bool,
}

#[derive(Debug, Clone)]
pub struct TopicSpec {
    pub name: String,
    pub partitions: i32,
    /// -1: the broker's default.
    pub replication: i32,
    /// Kafka's topic configuration. The embedded log obeys `cleanup.policy`, `retention.ms` and its own
    /// `RETENTION_RECORDS`, which is not sent to Kafka.
    pub config: Vec<(String, String)>,
}

/// Largest record that every log takes: key, value and headers together, in bytes. A larger one is refused
/// with `Abort` each time, so its writer has to split or shorten it before. Topics that Driftline creates
/// allow it; on others, Kafka's `max.message.bytes` (1 MiB by default) decides.
pub const MAX_RECORD_BYTES: usize = 4_000_000;

/// Topic configuration of the embedded log alone: most records that a partition keeps.
pub const RETENTION_RECORDS: &str = "retention.records";

/// Errors by what the caller does next.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// Try the same call again after a pause; nothing was changed.
    #[error("{0}")]
    Retry(String),
    /// Abort the transaction, drop the buffers, seek to the committed offsets, go on.
    #[error("{0}")]
    Abort(String),
    /// The group was rebalanced since the caller's last poll: poll, handle the events, start again.
    #[error("the consumer group was rebalanced")]
    Rebalanced,
    /// This producer or consumer was replaced by a newer one, or cannot go on: the process must exit.
    #[error("{0}")]
    Fatal(String),
}

pub type Result<T> = std::result::Result<T, LogError>;

pub trait Log: Send + Sync {
    /// Creates what does not exist yet; existing topics stay as they are.
    fn create_topics(&self, topics: &[TopicSpec]) -> Result<()>;
    /// `None` if the topic does not exist.
    fn partition_count(&self, topic: &str) -> Result<Option<i32>>;
    fn consumer(&self, options: ConsumerOptions) -> Result<Box<dyn Consumer>>;
    /// Writes records outside any transaction, each once and in order per partition; durable on return. After an
    /// error some of them may have been written. This is how tests and the demo play the part of the
    /// programs that produce events, and how alerts get to a topic of the user's; the roles write in transactions.
    fn append(&self, records: Vec<OutRecord>) -> Result<()>;
    /// A transactional producer, initialised: a predecessor with the same id is fenced, its open transaction
    /// aborted or completed.
    fn producer(&self, transactional_id: &str) -> Result<Box<dyn Producer>>;
}

pub trait Consumer: Send {
    /// Returns as soon as there is something, at the latest after `timeout`. Errors that heal by themselves
    /// (broker away) are not returned: they show as an empty answer and in `healthy`.
    fn poll(&mut self, max_records: usize, timeout: Duration) -> Result<Polled>;
    /// Without a group: reads these partitions from these offsets (`None`: the earliest). Replaces what was assigned.
    fn assign(&mut self, partitions: &[(TopicPartition, Option<i64>)]) -> Result<()>;
    fn assignment(&self) -> Vec<TopicPartition>;
    /// The next record returned for `partition` is the first at or after `offset`.
    fn seek(&mut self, partition: &TopicPartition, offset: i64) -> Result<()>;
    /// Committed offset of the group; `None` if there is none.
    fn committed(&self, partition: &TopicPartition) -> Result<Option<i64>>;
    /// Earliest offset still held, and high watermark read uncommitted: the offset of the next record to be
    /// written, whether it belongs to an open transaction or not.
    fn offsets(&self, partition: &TopicPartition) -> Result<(i64, i64)>;
    /// Current membership. `Rebalanced` if the group has been rebalanced and poll has not yet told the caller.
    fn group(&self) -> Result<Box<dyn GroupMetadata>>;
    /// False while no broker can be reached.
    fn healthy(&self) -> bool;
}

pub trait Producer: Send {
    fn begin(&mut self) -> Result<()>;
    /// Queues a record in the open transaction. Waits while the queue is full.
    fn send(&mut self, record: OutRecord) -> Result<()>;
    /// Adds offsets (of the next record to be read) to the open transaction.
    fn send_offsets(&mut self, offsets: &[(TopicPartition, i64)], group: &dyn GroupMetadata) -> Result<()>;
    /// Returns once the transaction is durable. An unknown outcome is resolved inside, or is `Fatal`.
    fn commit(&mut self) -> Result<()>;
    fn abort(&mut self) -> Result<()>;
}
