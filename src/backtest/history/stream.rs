//! A stretch of the topics that models read, partitions merged by event time. Nothing is committed, and no group joined.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::{BacktestError, Engine};
use super::OnProgress;
use crate::config::model::Model;
use crate::event::Decoder;
use crate::log::{Consumer, ConsumerEvent, ConsumerOptions, Log, LogError, Records, StartOffset, TopicPartition};

/// Records of one partition that are asked for at once, and that are pushed at once.
const SLAB_RECORDS: usize = 4_096;

const POLL_TIMEOUT: Duration = Duration::from_millis(200);

/// A broker that does not answer for this long is away.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is read.
#[derive(Debug, Clone, Default)]
pub struct StreamRange {
    /// Event time, [from, to), epoch milliseconds. Labels count until their delay after `to`.
    pub from_ms: Option<i64>,
    pub to_ms: Option<i64>,
    /// Offsets, [from, to), of these partitions alone; empty: everything that is there now.
    pub offsets: BTreeMap<TopicPartition, (i64, i64)>,
}

/// How the stretch was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamRead {
    /// Records read, whether they count or not.
    pub records: u64,
    /// Records in the stretch.
    pub taken: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error("kafka: {0}")]
    Log(#[from] LogError),
    #[error("no Kafka broker answers")]
    BrokerAway,
    #[error("topic `{topic}` does not exist; the models read {}", known.join(", "))]
    NoTopic { topic: String, known: Vec<String> },
    #[error("{topic} has {partitions} partitions, numbered from 0; there is no {topic}:{partition}")]
    NoPartition { topic: String, partition: i32, partitions: i32 },
    #[error("{0}")]
    Engine(#[from] BacktestError),
}

/// One partition, read ahead as far as the merge needs.
struct Reader {
    partition: TopicPartition,
    consumer: Box<dyn Consumer>,
    /// Offset of the next record to be polled, and where the stretch ends.
    next: i64,
    end: i64,
    /// Time of the records waiting, and those records.
    times_ms: VecDeque<i64>,
    waiting: Records,
    /// How many of `waiting` have been taken.
    taken: usize,
    /// Latest time so far: the order within a partition is kept.
    latest_ms: i64,
    is_of_labels: bool,
}

/// Feeds the engine with what stands in the log.
pub fn read(
    engine: &mut Engine,
    log: &dyn Log,
    models: &[Arc<Model>],
    range: &StreamRange,
    progress: OnProgress<'_>,
) -> Result<StreamRead, StreamError> {
    let mut readers = readers(log, models, range)?;
    let failed = |error: String| StreamError::Engine(BacktestError::Configuration(error));
    let mut decoder = Decoder::new(models).map_err(|error| failed(error.to_string()))?;
    let total: u64 = readers.iter().map(|reader| (reader.end - reader.next).unsigned_abs()).sum();
    let label_delay_ms =
        models.iter().filter_map(|model| Some(model.performance.as_ref()?.labels.as_ref()?.delay.ms)).max();
    let mut read = StreamRead::default();
    let mut slab = Records::default();
    loop {
        for reader in &mut readers {
            reader.fill(&mut decoder)?;
        }
        let ahead = readers.iter().enumerate().filter_map(|(index, reader)| Some((*reader.times_ms.front()?, index)));
        let Some((_, index)) = ahead.min() else { break };
        let Some(reader) = readers.get_mut(index) else { break };
        let Some((time_ms, record)) = reader.take() else { continue };
        read.records += 1;
        let to_ms = range.to_ms.map(|to_ms| match reader.is_of_labels {
            true => to_ms.saturating_add(label_delay_ms.unwrap_or(0)),
            false => to_ms,
        });
        if range.from_ms.is_none_or(|from_ms| time_ms >= from_ms) && to_ms.is_none_or(|to_ms| time_ms < to_ms) {
            read.taken += 1;
            slab.extend_from(&reader.waiting, record..record + 1);
        }
        if slab.len() >= SLAB_RECORDS {
            engine.push_events(&std::mem::take(&mut slab))?;
            progress(read.records, total);
        }
    }
    engine.push_events(&slab)?;
    progress(read.records, total);
    Ok(read)
}

fn readers(log: &dyn Log, models: &[Arc<Model>], range: &StreamRange) -> Result<Vec<Reader>, StreamError> {
    let of_events = || models.iter().flat_map(|model| model.topics.iter());
    let mut topics: Vec<&String> = of_events().chain(models.iter().flat_map(|model| model.label_topics())).collect();
    topics.sort();
    topics.dedup();
    let known = || topics.iter().map(ToString::to_string).collect::<Vec<_>>();
    if let Some(stranger) =
        range.offsets.keys().find(|partition| !topics.iter().any(|topic| **topic == *partition.topic))
    {
        return Err(StreamError::NoTopic { topic: stranger.topic.to_string(), known: known() });
    }
    let mut readers = Vec::new();
    for topic in &topics {
        let missing = || StreamError::NoTopic { topic: topic.to_string(), known: known() };
        let partitions = log.partition_count(topic)?.ok_or_else(missing)?;
        let mine = range.offsets.keys().filter(|partition| *partition.topic == **topic);
        if let Some(stranger) = mine.clone().find(|partition| !(0..partitions).contains(&partition.partition)) {
            let (topic, partition) = (topic.to_string(), stranger.partition);
            return Err(StreamError::NoPartition { topic, partition, partitions });
        }
        for partition in 0..partitions {
            let partition = TopicPartition::new(topic, partition);
            let wanted = match (range.offsets.is_empty(), range.offsets.get(&partition)) {
                (true, _) => (0, i64::MAX),
                (false, Some(wanted)) => *wanted,
                (false, None) => continue,
            };
            let is_of_labels = !of_events().any(|known| known == *topic);
            readers.extend(Reader::open(log, partition, wanted, is_of_labels)?);
        }
    }
    Ok(readers)
}

impl Reader {
    /// `None`: there is nothing to read.
    fn open(
        log: &dyn Log,
        partition: TopicPartition,
        (from, to): (i64, i64),
        is_of_labels: bool,
    ) -> Result<Option<Self>, StreamError> {
        let mut consumer = log.consumer(ConsumerOptions {
            group: None,
            topics: Vec::new(),
            start: StartOffset::Earliest,
            read_committed: true,
        })?;
        let (earliest, end) = consumer.offsets(&partition)?;
        let (next, end) = (from.max(earliest), to.min(end));
        if next >= end {
            return Ok(None);
        }
        consumer.assign(&[(partition.clone(), Some(next))])?;
        Ok(Some(Self {
            partition,
            consumer,
            next,
            end,
            times_ms: VecDeque::new(),
            waiting: Records::default(),
            taken: 0,
            latest_ms: i64::MIN,
            is_of_labels,
        }))
    }

    /// Has something waiting, unless the stretch is read to its end.
    fn fill(&mut self, decoder: &mut Decoder) -> Result<(), StreamError> {
        let mut heard = Instant::now();
        while self.times_ms.is_empty() && self.next < self.end {
            let polled = self.consumer.poll(SLAB_RECORDS, POLL_TIMEOUT)?;
            if self.consumer.healthy() || !polled.records.is_empty() {
                heard = Instant::now();
            } else if heard.elapsed() > PATIENCE {
                return Err(StreamError::BrokerAway);
            }
            for event in &polled.events {
                if let ConsumerEvent::EndOfPartition { next_offset, .. } = event {
                    self.next = self.next.max(*next_offset);
                }
            }
            if let Some(last) = polled.records.iter().last() {
                self.next = self.next.max(last.offset + 1);
            }
            self.waiting = polled.records.filtered(|record| record.offset < self.end);
            self.taken = 0;
            self.times_ms = self.ordered_times(decoder)?;
        }
        Ok(())
    }

    /// Times by which the records waiting are merged.
    fn ordered_times(&mut self, decoder: &mut Decoder) -> Result<VecDeque<i64>, StreamError> {
        let times = super::times_of(decoder, &self.waiting).map_err(|reason| {
            StreamError::Engine(BacktestError::Configuration(format!("{}: {reason}", self.partition.topic)))
        })?;
        let ordered = times.into_iter().map(|time_ms| {
            self.latest_ms = self.latest_ms.max(time_ms.unwrap_or(i64::MIN));
            self.latest_ms
        });
        Ok(ordered.collect())
    }

    /// Time and index in `waiting` of the next record.
    fn take(&mut self) -> Option<(i64, usize)> {
        let time_ms = self.times_ms.pop_front()?;
        self.taken += 1;
        Some((time_ms, self.taken - 1))
    }
}
