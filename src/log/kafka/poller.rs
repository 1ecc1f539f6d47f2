//! The poll thread of a consumer: events of librdkafka into the mailbox.
//!
//! Back-pressure. While the mailbox is full the thread does not poll, in steps short enough for seeks and the
//! stop; after `PAUSE_AFTER` it pauses the partitions and polls again, so that a rebalance is served however
//! long the owner takes. A pause throws away what librdkafka has read ahead, hence not at once. It follows
//! that `max.poll.interval.ms` never runs out because of a slow owner: a membership says that the process is
//! alive, not that it makes progress.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::context::{Context, log_line};
use super::events::{Event, EventQueue, Membership};
use super::mailbox::Mailbox;
use crate::log::{ConsumerEvent, Records, TopicPartition};

/// A slab is handed over when it is this big, or as soon as nothing more is there at once.
const SLAB_RECORDS: usize = 4_096;
const SLAB_BYTES: usize = 4 << 20;
/// Longest wait for an event: how late a seek or a stop may be noticed.
const IDLE_WAIT: Duration = Duration::from_millis(20);
const FULL_WAIT: Duration = Duration::from_millis(100);
const PAUSE_AFTER: Duration = Duration::from_secs(1);
/// How often, and how long, an unreachable cluster is asked whether it is back.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
const SEEK_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) struct Poller {
    pub consumer: Arc<BaseConsumer<Context>>,
    pub events: EventQueue,
    pub mailbox: Arc<Mailbox>,
    /// Asked about when probing; `None` for all topics.
    pub probe_topic: Option<String>,
    pub next_probe: Instant,
    pub full_since: Option<Instant>,
    pub paused: bool,
}

enum Step {
    Nothing,
    Record,
    Assign(Vec<TopicPartition>),
    Revoke(Vec<TopicPartition>),
    End(TopicPartition, i64),
    Error { code: RDKafkaErrorCode, fatal: bool, reason: String },
}

impl Poller {
    pub fn run(mut self) {
        while !self.mailbox.lock().stopped() {
            self.assign_by_hand();
            self.seek();
            self.probe();
            if self.may_poll() {
                self.fill();
            }
        }
    }

    /// Reads until nothing more is there at once, or a slab is full.
    fn fill(&mut self) {
        let mut slab = Records::default();
        let mut wait = IDLE_WAIT;
        while slab.len() < SLAB_RECORDS && slab.byte_len() < SLAB_BYTES {
            let step = self.events.poll(wait, |event| match event {
                Event::Message(message) => {
                    slab.push(
                        message.topic,
                        message.partition,
                        message.offset,
                        message.timestamp_ms,
                        message.key,
                        message.value,
                    );
                    Step::Record
                }
                Event::Assign(partitions) => Step::Assign(partitions),
                Event::Revoke(partitions) => Step::Revoke(partitions),
                Event::EndOfPartition { partition, next_offset } => Step::End(partition, next_offset),
                Event::Error { code, fatal, reason } => Step::Error { code, fatal, reason },
                Event::Log { level, facility, line } => {
                    log_line(level, &facility, &line);
                    Step::Nothing
                }
                Event::Other => Step::Nothing,
            });
            wait = Duration::ZERO;
            match step {
                None => break,
                Some(Step::Record | Step::Nothing) => {}
                Some(Step::Assign(partitions)) => self.assigned(partitions),
                Some(Step::Revoke(partitions)) => {
                    slab = Records::default();
                    self.revoked(partitions);
                }
                Some(Step::End(partition, next_offset)) => {
                    let before = std::mem::take(&mut slab);
                    self.mailbox.update(|state| {
                        state.publish(before);
                        state.publish_end(partition, next_offset);
                    });
                }
                Some(Step::Error { code, fatal, reason }) => self.error(code, fatal, &reason),
            }
        }
        if !slab.is_empty() {
            self.mailbox.update(|state| state.publish(slab));
        }
    }

    /// The group gives partitions. Reading starts at the committed offsets, which librdkafka asks for, and
    /// waits for while a transaction may still move them (read_committed).
    fn assigned(&mut self, partitions: Vec<TopicPartition>) {
        let start = |at: TopicPartition| (at, Offset::Invalid);
        if let Err(error) = self.assign(partitions.iter().cloned().map(start)) {
            self.mailbox.update(|state| state.fail(format!("the assignment was refused: {error}")));
            return;
        }
        let membership = Membership::of(&self.consumer);
        tracing::debug!(?membership, ?partitions, "partitions assigned");
        self.mailbox.update(|state| state.rebalance(ConsumerEvent::Assigned(partitions), membership));
    }

    /// The group takes everything back. The epoch moves before librdkafka is told, and so before the consumer
    /// can join the next generation.
    fn revoked(&mut self, partitions: Vec<TopicPartition>) {
        tracing::debug!(?partitions, "partitions revoked");
        self.resume(&partitions);
        self.mailbox.update(|state| state.rebalance(ConsumerEvent::Revoked(partitions), None));
        if let Err(error) = self.consumer.unassign() {
            self.mailbox.update(|state| state.fail(format!("the assignment could not be given back: {error}")));
        }
    }

    fn assign_by_hand(&mut self) {
        let mut state = self.mailbox.lock();
        let Some(partitions) = state.take_hand_assignment() else { return };
        self.probe_topic = partitions.first().map(|(at, _)| at.topic.to_string());
        self.paused = false;
        let starts = partitions.into_iter().map(|(at, offset)| (at, offset.map_or(Offset::Beginning, Offset::Offset)));
        if let Err(error) = self.assign(starts) {
            state.fail(format!("the assignment was refused: {error}"));
        }
    }

    fn assign(&self, starts: impl Iterator<Item = (TopicPartition, Offset)>) -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        for (at, offset) in starts {
            list.add_partition_offset(&at.topic, at.partition, offset)?;
        }
        self.consumer.assign(&list)
    }

    /// Carries out the seeks that the owner has asked for. One that comes too early, before librdkafka has
    /// begun with a partition, is tried again in the next round.
    fn seek(&mut self) {
        let seeks = self.mailbox.lock().pending_seeks();
        if seeks.is_empty() {
            return;
        }
        let partitions: Vec<TopicPartition> = seeks.iter().map(|(at, _)| at.clone()).collect();
        self.resume(&partitions);
        let mut list = TopicPartitionList::new();
        for (at, offset) in &seeks {
            if let Err(error) = list.add_partition_offset(&at.topic, at.partition, Offset::Offset(*offset)) {
                tracing::warn!(%error, partition = %at, offset, "not a possible offset");
            }
        }
        match self.consumer.seek_partitions(list, SEEK_TIMEOUT) {
            Ok(outcome) => self.mailbox.update(|state| {
                for (at, offset) in &seeks {
                    let found = outcome.find_partition(&at.topic, at.partition);
                    if found.is_some_and(|element| element.error().is_ok()) {
                        state.sought(at, *offset);
                    }
                }
            }),
            Err(error) => tracing::debug!(%error, "seek put off"),
        }
    }

    /// False while the owner must first make room.
    fn may_poll(&mut self) -> bool {
        let (full, has_room) = {
            let state = self.mailbox.lock();
            (state.is_full(), state.has_room())
        };
        if self.paused {
            if has_room {
                let assignment = self.mailbox.lock().assignment().to_vec();
                self.resume(&assignment);
            }
            // A paused consumer polls for rebalances; there are no records.
            return true;
        }
        if !full {
            self.full_since = None;
            return true;
        }
        let full_since = *self.full_since.get_or_insert_with(Instant::now);
        if full_since.elapsed() >= PAUSE_AFTER {
            let assignment = self.mailbox.lock().assignment().to_vec();
            match self.consumer.pause(&list_of(&assignment)) {
                Ok(()) => self.paused = true,
                Err(error) => tracing::warn!(%error, "could not pause"),
            }
            return self.paused;
        }
        self.mailbox.wait_for_room(FULL_WAIT);
        false
    }

    fn resume(&mut self, partitions: &[TopicPartition]) {
        if !self.paused {
            return;
        }
        // All of them, or the flag would lie.
        let assignment = self.mailbox.lock().assignment().to_vec();
        for list in [list_of(&assignment), list_of(partitions)] {
            if let Err(error) = self.consumer.resume(&list) {
                tracing::warn!(%error, "could not resume");
            }
        }
        self.paused = false;
        self.full_since = None;
    }

    fn error(&mut self, code: RDKafkaErrorCode, fatal: bool, reason: &str) {
        if fatal {
            self.mailbox.update(|state| state.fail(format!("{code}: {reason}")));
        } else if code == RDKafkaErrorCode::AllBrokersDown {
            // librdkafka repeats it with every attempt to connect.
            if self.mailbox.lock().healthy() {
                tracing::warn!(reason, "no broker can be reached");
            }
            self.mailbox.update(|state| state.set_healthy(false));
            self.next_probe = Instant::now() + PROBE_INTERVAL;
        } else {
            tracing::warn!(%code, reason, "the consumer met an error");
        }
    }

    /// librdkafka says when it has lost every broker, but not when it has one again.
    fn probe(&mut self) {
        if self.mailbox.lock().healthy() || Instant::now() < self.next_probe {
            return;
        }
        if self.consumer.fetch_metadata(self.probe_topic.as_deref(), PROBE_TIMEOUT).is_ok() {
            self.mailbox.update(|state| state.set_healthy(true));
        }
        self.next_probe = Instant::now() + PROBE_INTERVAL;
    }
}

fn list_of(partitions: &[TopicPartition]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for at in partitions {
        list.add_partition(&at.topic, at.partition);
    }
    list
}
