//! A consumer: the mailbox's owner side.

use std::any::Any;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerGroupMetadata};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::context::Context;
use super::events::{EventQueue, Membership};
use super::mailbox::Mailbox;
use super::poller::Poller;
use crate::log::{
    Consumer, ConsumerEvent, ConsumerOptions, GroupMetadata, LogError, Polled, Result, StartOffset, TopicPartition,
};

/// Longest wait for an answer about offsets.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct KafkaConsumer {
    /// Dropped by hand, after the poll thread.
    consumer: Option<Arc<BaseConsumer<Context>>>,
    /// Reads uncommitted, so that its high watermark is the partition's and not the last stable offset.
    metadata: Arc<BaseConsumer<Context>>,
    mailbox: Arc<Mailbox>,
    poll_thread: Option<JoinHandle<()>>,
    in_group: bool,
    /// As told to the owner.
    assignment: Vec<TopicPartition>,
}

/// Membership at one instant.
pub(super) struct KafkaGroup {
    pub metadata: Arc<ConsumerGroupMetadata>,
}

impl GroupMetadata for KafkaGroup {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What every consumer is configured with, before the user's own properties.
fn defaults(config: &mut ClientConfig) {
    for (key, value) in [
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("enable.partition.eof", "true"),
        ("allow.auto.create.topics", "false"),
        // Eager: everything is revoked, then assigned anew. Range: equal partition numbers of equally
        // partitioned topics go to one member.
        ("partition.assignment.strategy", "range"),
        ("session.timeout.ms", "10000"),
        ("heartbeat.interval.ms", "3000"),
        ("max.poll.interval.ms", "300000"),
        // How soon new topics and partitions of a subscription are noticed.
        ("topic.metadata.refresh.interval.ms", "30000"),
        // Read-ahead: enough to feed several hundred thousand records a second, bounded by bytes.
        ("queued.min.messages", "200000"),
        ("queued.max.messages.kbytes", "65536"),
        ("fetch.message.max.bytes", "4194304"),
        ("fetch.queue.backoff.ms", "50"),
        // An answer held back by the broker holds back a seek.
        ("fetch.wait.max.ms", "100"),
    ] {
        config.set(key, value);
    }
}

impl KafkaConsumer {
    /// `properties` come from the service file and win over the defaults, but not over what a consumer's
    /// correctness rests on.
    pub fn new(
        base: &ClientConfig,
        metadata: Arc<BaseConsumer<Context>>,
        client_id: &str,
        instance: Option<&str>,
        options: &ConsumerOptions,
    ) -> Result<Self> {
        let mut config = ClientConfig::new();
        defaults(&mut config);
        for (key, value) in base.config_map() {
            config.set(key, value);
        }
        // librdkafka does not assign without a group id; an assignment by hand joins no group.
        let group = options.group.clone().unwrap_or_else(|| format!("{client_id}.unjoined"));
        if let (Some(group), Some(instance)) = (&options.group, instance) {
            config.set("group.instance.id", format!("{group}-{instance}"));
        }
        config.set("group.id", group);
        config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        config.set("enable.partition.eof", "true").set("partition.assignment.strategy", "range");
        config.set("isolation.level", if options.read_committed { "read_committed" } else { "read_uncommitted" });
        config.set(
            "auto.offset.reset",
            match options.start {
                StartOffset::Earliest => "earliest",
                StartOffset::Latest => "latest",
            },
        );
        let refused = |error: rdkafka::error::KafkaError| LogError::Fatal(format!("no consumer: {error}"));
        let consumer: Arc<BaseConsumer<Context>> = Arc::new(config.create_with_context(Context).map_err(refused)?);
        let mailbox = Arc::new(Mailbox::default());
        let events = EventQueue::new(&consumer).ok_or_else(|| LogError::Fatal("a consumer without a queue".into()))?;
        if options.group.is_some() {
            let topics: Vec<&str> = options.topics.iter().map(String::as_str).collect();
            consumer.subscribe(&topics).map_err(refused)?;
        }
        let poller = Poller {
            consumer: consumer.clone(),
            events,
            mailbox: mailbox.clone(),
            probe_topic: options.topics.first().cloned(),
            next_probe: Instant::now(),
            full_since: None,
            paused: false,
        };
        let poll_thread = std::thread::Builder::new()
            .name("kafka-poll".into())
            .spawn(|| poller.run())
            .map_err(|error| LogError::Retry(format!("no thread for the consumer: {error}")))?;
        Ok(Self {
            consumer: Some(consumer),
            metadata,
            mailbox,
            poll_thread: Some(poll_thread),
            in_group: options.group.is_some(),
            assignment: Vec::new(),
        })
    }

    fn consumer(&self) -> Result<&BaseConsumer<Context>> {
        self.consumer.as_deref().ok_or_else(|| LogError::Fatal("the consumer is closed".into()))
    }
}

impl Consumer for KafkaConsumer {
    fn poll(&mut self, max_records: usize, timeout: Duration) -> Result<Polled> {
        let polled = self.mailbox.take(max_records, timeout)?;
        for event in &polled.events {
            match event {
                ConsumerEvent::Assigned(share) => self.assignment.clone_from(share),
                ConsumerEvent::Revoked(_) => self.assignment.clear(),
                ConsumerEvent::EndOfPartition { .. } => {}
            }
        }
        Ok(polled)
    }

    fn assign(&mut self, partitions: &[(TopicPartition, Option<i64>)]) -> Result<()> {
        if self.in_group {
            return Err(LogError::Fatal("a member of a group cannot assign partitions by hand".into()));
        }
        self.mailbox.lock().check()?;
        self.mailbox.update(|state| state.assign(partitions));
        self.assignment = partitions.iter().map(|(at, _)| at.clone()).collect();
        Ok(())
    }

    fn assignment(&self) -> Vec<TopicPartition> {
        self.assignment.clone()
    }

    fn seek(&mut self, partition: &TopicPartition, offset: i64) -> Result<()> {
        self.mailbox.lock().check()?;
        if !self.in_group && !self.assignment.contains(partition) {
            return Err(LogError::Fatal(format!("partition {partition} is not assigned")));
        }
        self.mailbox.update(|state| state.seek(partition, offset))
    }

    fn committed(&self, partition: &TopicPartition) -> Result<Option<i64>> {
        if !self.in_group {
            return Err(LogError::Fatal("a consumer without a group has no committed offsets".into()));
        }
        let mut list = TopicPartitionList::new();
        list.add_partition(&partition.topic, partition.partition);
        let unknown = |error| LogError::Retry(format!("committed offset of {partition}: {error}"));
        let committed = self.consumer()?.committed_offsets(list, QUERY_TIMEOUT).map_err(unknown)?;
        let Some(element) = committed.find_partition(&partition.topic, partition.partition) else {
            return Ok(None);
        };
        element.error().map_err(unknown)?;
        match element.offset() {
            Offset::Offset(offset) => Ok(Some(offset)),
            _ => Ok(None),
        }
    }

    fn offsets(&self, partition: &TopicPartition) -> Result<(i64, i64)> {
        self.metadata
            .fetch_watermarks(&partition.topic, partition.partition, QUERY_TIMEOUT)
            .map_err(|error| LogError::Retry(format!("offsets of {partition}: {error}")))
    }

    fn group(&self) -> Result<Box<dyn GroupMetadata>> {
        let consumer = self.consumer()?;
        // One critical section: the poll thread cannot give up the assignment, and so the consumer cannot
        // join the next generation, before this is done.
        let state = self.mailbox.lock();
        state.check()?;
        let expected = state.membership()?;
        let before = Membership::of(consumer);
        let metadata = consumer.group_metadata().ok_or(LogError::Rebalanced)?;
        // A session can also end by itself, at any moment. Neither generations nor member ids come back, so
        // what stood before and stands after, stood between.
        if before.as_ref() != Some(expected) || Membership::of(consumer).as_ref() != Some(expected) {
            return Err(LogError::Rebalanced);
        }
        Ok(Box::new(KafkaGroup { metadata: Arc::new(metadata) }))
    }

    fn healthy(&self) -> bool {
        self.mailbox.lock().healthy()
    }
}

impl Drop for KafkaConsumer {
    fn drop(&mut self) {
        self.mailbox.update(|state| state.stop());
        if let Some(thread) = self.poll_thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the poll thread panicked");
        }
        // The last reference: closes the consumer, which leaves its group.
        drop(self.consumer.take());
    }
}
