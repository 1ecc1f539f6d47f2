//! Feeds the view from the log: a thread that reads `results`, `outbox`, `deliveries`, `control` and `actions` without a group, so that
//! every process has the whole picture whichever partitions its roles work on.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use super::view::{Delivery, View};
use crate::dispatch::actions::run::RunRecord;
use crate::dispatch::control::ControlRecord;
use crate::log::topics::Topics;
use crate::log::{Consumer, ConsumerEvent, ConsumerOptions, Log, LogError, RecordRef, StartOffset, TopicPartition};
use crate::rules::action_request::OutboxRecord;
use crate::rules::episode::Notification;
use crate::telemetry::Metrics;
use crate::windows::result::WindowResult;

/// Reads the value of one record of `deliveries`; `Ok(None)` for a record that pages do not show.
pub type DecodeDelivery = Box<dyn Fn(&[u8]) -> Result<Option<Delivery>, String> + Send>;

/// At most this many of the newest records of a partition are read at start. A result of 25 features
/// (26 kB) takes 0.26 ms to decode (measured, dev profile), so catching up takes under 3 s a partition, however
/// long the topics are kept.
const CATCH_UP_RECORDS: i64 = 10_000;
const POLL_RECORDS: usize = 500;
const POLL_TIMEOUT: Duration = Duration::from_millis(250);
const RETRY_PAUSE: Duration = Duration::from_millis(500);

pub struct Follow {
    pub log: Arc<dyn Log>,
    pub topics: Topics,
    pub view: Arc<RwLock<View>>,
    pub decode_delivery: DecodeDelivery,
    pub metrics: Metrics,
}

/// What the thread shows of itself. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct FollowHandle {
    caught_up: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
}

impl FollowHandle {
    /// The view holds everything that was in the log when the thread started.
    pub fn is_caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Acquire)
    }

    /// For who fills the view without the log: nothing is left to be read.
    pub fn mark_caught_up(&self) {
        self.caught_up.store(true, Ordering::Release);
    }

    /// The thread ends within one poll.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// Starts the thread. It waits for the topics to exist; it ends when told to, or on a fatal error of the log.
pub fn spawn(follow: Follow) -> std::io::Result<(FollowHandle, JoinHandle<Result<(), LogError>>)> {
    let handle = FollowHandle::default();
    let in_thread = handle.clone();
    let thread = std::thread::Builder::new().name("follow".into()).spawn(move || follow.run(&in_thread))?;
    Ok((handle, thread))
}

/// One record, decoded outside the view's lock.
enum Change {
    Result(Box<WindowResult>),
    Notification(Box<Notification>),
    Delivery(Delivery),
    Command(Box<ControlRecord>),
    Run(Box<RunRecord>),
}

type StartingOffset = (TopicPartition, Option<i64>);

/// Asks again until there is an answer; `None`: told to stop before that. A fatal error is returned.
fn until_known<T>(handle: &FollowHandle, ask: impl Fn() -> Result<Option<T>, LogError>) -> Result<Option<T>, LogError> {
    while !handle.stopped() {
        match ask() {
            Ok(Some(answer)) => return Ok(Some(answer)),
            Ok(None) => {}
            Err(LogError::Fatal(reason)) => return Err(LogError::Fatal(reason)),
            Err(error) => tracing::warn!(%error, "the log cannot be read for the pages yet; trying again"),
        }
        std::thread::sleep(RETRY_PAUSE);
    }
    Ok(None)
}

impl Follow {
    fn run(&self, handle: &FollowHandle) -> Result<(), LogError> {
        let Some(partitions) = self.await_partitions(handle)? else { return Ok(()) };
        let mut consumer = self.log.consumer(ConsumerOptions {
            group: None,
            topics: Vec::new(),
            start: StartOffset::Earliest,
            read_committed: true,
        })?;
        let Some(from) = self.starting_offsets(consumer.as_ref(), &partitions, handle)? else { return Ok(()) };
        consumer.assign(&from)?;
        let mut behind: BTreeSet<TopicPartition> = partitions.into_iter().collect();
        while !handle.stopped() {
            let polled = match consumer.poll(POLL_RECORDS, POLL_TIMEOUT) {
                Ok(polled) => polled,
                Err(LogError::Fatal(reason)) => return Err(LogError::Fatal(reason)),
                Err(error) => {
                    tracing::warn!(%error, "reading for the pages failed; trying again");
                    std::thread::sleep(RETRY_PAUSE);
                    continue;
                }
            };
            self.apply(polled.records.iter().filter_map(|record| self.decode(record)).collect());
            for event in polled.events {
                if let ConsumerEvent::EndOfPartition { partition, .. } = event {
                    behind.remove(&partition);
                }
            }
            if behind.is_empty() && !handle.caught_up.swap(true, Ordering::AcqRel) {
                tracing::info!("pages have caught up with the log");
            }
        }
        Ok(())
    }

    /// All partitions of the topics, once those exist. `None`: told to stop before that.
    fn await_partitions(&self, handle: &FollowHandle) -> Result<Option<Vec<TopicPartition>>, LogError> {
        let mut partitions = Vec::new();
        for topic in [
            &self.topics.results,
            &self.topics.outbox,
            &self.topics.deliveries,
            &self.topics.control,
            &self.topics.actions,
        ] {
            let Some(count) = until_known(handle, || self.log.partition_count(topic))? else { return Ok(None) };
            partitions.extend((0..count).map(|partition| TopicPartition::new(topic, partition)));
        }
        Ok(Some(partitions))
    }

    /// Where to read each partition from. `None`: told to stop.
    fn starting_offsets(
        &self,
        consumer: &dyn Consumer,
        partitions: &[TopicPartition],
        handle: &FollowHandle,
    ) -> Result<Option<Vec<StartingOffset>>, LogError> {
        let mut from = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let offsets = until_known(handle, || consumer.offsets(partition).map(Some))?;
            let Some((earliest, end)) = offsets else { return Ok(None) };
            // A command means nothing without those before it.
            let most = if *partition.topic == self.topics.control { i64::MAX } else { CATCH_UP_RECORDS };
            from.push((partition.clone(), Some(earliest.max(end.saturating_sub(most)))));
        }
        Ok(Some(from))
    }

    /// An unreadable record is counted and passed over: a page must not stop at what a newer version wrote.
    fn decode(&self, record: RecordRef<'_>) -> Option<Change> {
        let value = record.value?;
        let topic: &str = record.topic;
        let decoded = if topic == self.topics.results {
            serde_json::from_slice(value)
                .map(|result| Some(Change::Result(Box::new(result))))
                .map_err(|e| e.to_string())
        } else if topic == self.topics.outbox {
            OutboxRecord::decode(value).map_err(|error| error.to_string()).map(|record| match record {
                OutboxRecord::Notification(notification) => Some(Change::Notification(notification)),
                OutboxRecord::ActionRequest(_) => None,
            })
        } else if topic == self.topics.control {
            serde_json::from_slice(value)
                .map(|command| Some(Change::Command(Box::new(command))))
                .map_err(|error| error.to_string())
        } else if topic == self.topics.actions {
            let run = RunRecord::decode(value).map_err(|error| error.to_string());
            run.map(|run| Some(Change::Run(Box::new(run))))
        } else {
            (self.decode_delivery)(value).map(|delivery| delivery.map(Change::Delivery))
        };
        let outcome = if decoded.is_ok() { "applied" } else { "undecodable" };
        self.metrics.view_records.with_label_values(&[topic, outcome]).inc();
        decoded.unwrap_or_else(|error| {
            tracing::warn!(topic, partition = record.partition, offset = record.offset, error, "unreadable record");
            None
        })
    }

    fn apply(&self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            match change {
                Change::Result(result) => view.apply_result(*result),
                Change::Notification(notification) => view.apply_notification(*notification),
                Change::Delivery(delivery) => view.apply_delivery(delivery),
                Change::Command(command) => view.apply_command(&command),
                Change::Run(run) => view.apply_run(*run),
            }
        }
    }
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
