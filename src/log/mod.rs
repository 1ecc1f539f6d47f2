//! The one seam to Kafka: partitioned logs, consumer groups, transactions.
//!
//! Two implementations pass one conformance suite (`tests/log_conformance.rs`): `kafka` on rdkafka, the only
//! folder that names that crate, and `embedded`, in process, for the demo, the tests and the simulator. To
//! add a backend: implement `Log`, `Consumer` and `Producer`, and add it to the list in the suite.
//!
//! Every call blocks; the roles run on threads of their own.

pub mod embedded;
pub mod kafka;
pub mod topics;

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

/// A slab of records of one poll: keys and values stand in one buffer, so that a slab costs a handful of
/// allocations however many records it holds.
#[derive(Debug, Clone, Default)]
pub struct Records {
    topics: Vec<Arc<str>>,
    metas: Vec<RecordMeta>,
    bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct RecordMeta {
    topic: u32,
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
    key_start: usize,
    key_len: Option<u32>,
    value_len: Option<u32>,
}

/// One record of a slab. `timestamp_ms` is the broker's record timestamp (epoch milliseconds), not event time.
#[derive(Debug, Clone, Copy)]
pub struct RecordRef<'a> {
    pub topic: &'a Arc<str>,
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
}

impl Records {
    pub fn len(&self) -> usize {
        self.metas.len()
    }

    pub fn is_empty(&self) -> bool {
        self.metas.is_empty()
    }

    /// Bytes of keys and values held.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    pub fn push(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) {
        let topic_index = match self.topics.iter().position(|known| &**known == topic) {
            Some(index) => index,
            None => {
                self.topics.push(topic.into());
                self.topics.len() - 1
            }
        };
        let key_start = self.bytes.len();
        self.bytes.extend_from_slice(key.unwrap_or_default());
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.metas.push(RecordMeta {
            topic: topic_index as u32,
            partition,
            offset,
            timestamp_ms,
            key_start,
            key_len: key.map(|key| key.len() as u32),
            value_len: value.map(|value| value.len() as u32),
        });
    }

    pub fn get(&self, index: usize) -> Option<RecordRef<'_>> {
        self.metas.get(index).map(|meta| self.view(meta))
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = RecordRef<'_>> {
        self.metas.iter().map(|meta| self.view(meta))
    }

    fn view(&self, meta: &RecordMeta) -> RecordRef<'_> {
        let value_start = meta.key_start + meta.key_len.unwrap_or(0) as usize;
        let slice = |start: usize, len: Option<u32>| len.map(|len| &self.bytes[start..start + len as usize]);
        RecordRef {
            topic: &self.topics[meta.topic as usize],
            partition: meta.partition,
            offset: meta.offset,
            timestamp_ms: meta.timestamp_ms,
            key: slice(meta.key_start, meta.key_len),
            value: slice(value_start, meta.value_len),
        }
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
    pub config: Vec<(String, String)>,
}

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
