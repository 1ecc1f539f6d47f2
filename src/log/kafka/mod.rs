//! The log on Apache Kafka, by rdkafka: the only folder that names that crate.
//!
//! A consumer has a poll thread (`poller`) that reads librdkafka's events (`events`) into a bounded queue with
//! an epoch (`mailbox`). A producer makes its transactional calls on a thread of its own, under a watchdog
//! (`producer`); `stream` is one that neither waits nor takes part in transactions. Configuration: each file's
//! defaults, then the user's properties, then what correctness rests on.

mod consumer;
mod context;
mod events;
mod mailbox;
mod poller;
mod producer;
mod stream;
mod write;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;

use self::consumer::KafkaConsumer;
use self::context::Context;
use self::producer::KafkaProducer;
pub use self::producer::{WATCHDOG_EXIT_CODE, WATCHDOG_LIMIT};
pub use self::stream::{StreamError, StreamOptions, StreamProducer, StreamReport};
use self::write::Appender;
use crate::config::receivers::TextOrSecret;
use crate::config::secret::resolve_text;

use super::{
    Consumer, ConsumerOptions, Log, LogError, MAX_RECORD_BYTES, OutRecord, Producer, RETENTION_RECORDS, Result,
    TopicSpec,
};

const ADMIN_TIMEOUT: Duration = Duration::from_secs(30);
const METADATA_TIMEOUT: Duration = Duration::from_secs(10);
/// Room for a batch's frame around the largest record.
const BATCH_OVERHEAD_BYTES: usize = 65_536;

/// How to reach the cluster.
#[derive(Debug, Clone)]
pub struct KafkaOptions {
    /// host:port, comma separated.
    pub bootstrap_servers: String,
    /// Shows in the brokers' logs and metrics.
    pub client_id: String,
    /// A name that this process keeps over restarts and shares with no other. A restarted process then takes its
    /// place in the groups at once (static membership), instead of after the session timeout; another process with
    /// the same name makes this one's consumers fail for good.
    pub instance: Option<String>,
    /// Any librdkafka properties, for every client; secrets among them are read when the clients are made.
    pub properties: BTreeMap<String, TextOrSecret>,
}

/// A Kafka cluster.
pub struct KafkaLog {
    base: ClientConfig,
    client_id: String,
    instance: Option<String>,
    /// Without a group, read uncommitted: answers about topics and high watermarks.
    metadata: Arc<BaseConsumer<Context>>,
    /// Made at the first use: most processes never append.
    appender: Mutex<Option<Arc<Appender>>>,
}

impl KafkaLog {
    /// Does not wait for a connection.
    pub fn new(options: KafkaOptions) -> Result<Self> {
        let mut base = ClientConfig::new();
        base.set("bootstrap.servers", &options.bootstrap_servers).set("client.id", &options.client_id);
        // librdkafka would wait up to 10 s between attempts: as long as a transaction may last.
        base.set("reconnect.backoff.max.ms", "2000");
        for (key, value) in &options.properties {
            let value = resolve_text(value).map_err(|error| LogError::Fatal(format!("property `{key}`: {error}")))?;
            base.set(key, value);
        }
        let mut config = base.clone();
        config.set("isolation.level", "read_uncommitted").set("allow.auto.create.topics", "false");
        let metadata = config
            .create_with_context(Context)
            .map_err(|error| LogError::Fatal(format!("no Kafka client: {error}")))?;
        Ok(Self {
            base,
            client_id: options.client_id,
            instance: options.instance,
            metadata: Arc::new(metadata),
            appender: Mutex::default(),
        })
    }

    /// For producers.
    fn producer_base(&self) -> ClientConfig {
        let mut config = self.base.clone();
        // Kafka's own default, so that a key's partition does not depend on who writes.
        config.set("partitioner", "murmur2_random");
        config.set("message.max.bytes", (MAX_RECORD_BYTES + BATCH_OVERHEAD_BYTES).to_string());
        config
    }

    /// A producer outside of transactions that never waits and reports on each record later; for what may be lost but
    /// must be counted.
    ///
    /// # Errors
    /// A property that librdkafka does not take.
    pub fn stream(&self, options: StreamOptions) -> Result<StreamProducer> {
        StreamProducer::new(&self.producer_base(), &options)
    }

    fn appender(&self) -> Result<Arc<Appender>> {
        let mut appender = self.appender.lock().unwrap_or_else(PoisonError::into_inner);
        match &*appender {
            Some(appender) => Ok(appender.clone()),
            None => Ok(appender.insert(Arc::new(Appender::new(&self.producer_base())?)).clone()),
        }
    }
}

/// A topic as the admin client wants it. Driftline's own records may be larger than the broker's default.
fn new_topic<'a>(spec: &'a TopicSpec, max_message_bytes: &'a str) -> NewTopic<'a> {
    let mut topic = NewTopic::new(&spec.name, spec.partitions, TopicReplication::Fixed(spec.replication));
    if !spec.config.iter().any(|(key, _)| key == "max.message.bytes") {
        topic = topic.set("max.message.bytes", max_message_bytes);
    }
    spec.config
        .iter()
        .filter(|(key, _)| key != RETENTION_RECORDS)
        .fold(topic, |topic, (key, value)| topic.set(key, value))
}

/// Runs the admin client's future to its end, on a thread of its own: the caller may stand in a runtime.
fn block_on<T: Send>(future: impl Future<Output = T> + Send) -> Result<T> {
    let no_runtime = |error: std::io::Error| LogError::Retry(format!("no runtime for the admin client: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(no_runtime)?;
    std::thread::scope(|scope| {
        let panicked = |_| LogError::Fatal("the admin client panicked".into());
        scope.spawn(move || runtime.block_on(future)).join().map_err(panicked)
    })
}

impl Log for KafkaLog {
    fn create_topics(&self, topics: &[TopicSpec]) -> Result<()> {
        if topics.is_empty() {
            return Ok(());
        }
        let unreachable = |error: KafkaError| LogError::Retry(format!("topics not created: {error}"));
        let client: AdminClient<Context> = self
            .base
            .create_with_context(Context)
            .map_err(|error: KafkaError| LogError::Fatal(format!("no Kafka client: {error}")))?;
        let max_message_bytes = (MAX_RECORD_BYTES + BATCH_OVERHEAD_BYTES).to_string();
        let wanted: Vec<NewTopic<'_>> = topics.iter().map(|spec| new_topic(spec, &max_message_bytes)).collect();
        let options = AdminOptions::new().request_timeout(Some(ADMIN_TIMEOUT)).operation_timeout(Some(ADMIN_TIMEOUT));
        let outcomes = block_on(client.create_topics(&wanted, &options))?.map_err(unreachable)?;
        for outcome in outcomes {
            match outcome {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => return Err(LogError::Retry(format!("topic {topic} not created: {code}"))),
            }
        }
        Ok(())
    }

    fn partition_count(&self, topic: &str) -> Result<Option<i32>> {
        let unreachable = |error| LogError::Retry(format!("partitions of {topic}: {error}"));
        let metadata = self.metadata.fetch_metadata(Some(topic), METADATA_TIMEOUT).map_err(unreachable)?;
        // Its log lines wait in its queue.
        self.metadata.poll(Duration::ZERO);
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Ok(None);
        };
        match found.error() {
            None => Ok(Some(found.partitions().len() as i32)),
            Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) => Ok(None),
            Some(error) => Err(LogError::Retry(format!("partitions of {topic}: {}", RDKafkaErrorCode::from(error)))),
        }
    }

    fn consumer(&self, options: ConsumerOptions) -> Result<Box<dyn Consumer>> {
        let metadata = self.metadata.clone();
        Ok(Box::new(KafkaConsumer::new(&self.base, metadata, &self.client_id, self.instance.as_deref(), &options)?))
    }

    fn append(&self, records: Vec<OutRecord>) -> Result<()> {
        self.appender()?.append(&records)
    }

    fn producer(&self, transactional_id: &str) -> Result<Box<dyn Producer>> {
        Ok(Box::new(KafkaProducer::new(&self.producer_base(), transactional_id)?))
    }
}
