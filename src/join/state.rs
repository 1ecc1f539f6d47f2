//! The pure machine of one partition of `joins`: it follows the clocks that flushes tell, hands predictions and labels to
//! their models, and knows from where a restart must read again.
//!
//! The join's event time of a model is that of the slowest partition of its prediction topics; while all are quiet it goes
//! on from the latest event at the pace of the wall clock, so that a model that fell silent is not waited for. Labels
//! that are still unread hold it back: it never passes the slowest clock of the label topics' partitions that are not
//! quiet, so predictions that are read faster than their labels, after an outage or from the beginning, wait for them.

use std::collections::{BTreeMap, VecDeque};

use crate::config::performance::Labels;
use crate::ingest::clocks::{Continuity, Pace, SourceClocks};
use crate::ingest::joins::JoinPart;
use crate::ingest::partial::FlushHeader;

use super::checkpoint::{Checkpoint, ModelCheckpoint};
use super::model::{JoinModel, ModelJoin};

/// Within the shortest delay, this many places are remembered from which a restart may begin.
const SNAPSHOTS_WITHIN_DELAY: i64 = 64;

/// Where more have gathered, every second one is dropped.
const MOST_SNAPSHOTS: usize = 256;

struct Joined {
    topics: Vec<String>,
    labels: Labels,
    idle_after_ms: i64,
    join: ModelJoin,
}

/// What was known before the record at `offset`.
#[derive(Debug, Clone)]
struct Snapshot {
    offset: i64,
    at_ms: i64,
    clocks: SourceClocks,
    times_ms: BTreeMap<String, Option<i64>>,
}

pub struct JoinState {
    models: BTreeMap<String, Joined>,
    at_ms: i64,
    clocks: SourceClocks,
    snapshots: VecDeque<Snapshot>,
    /// Of the next record.
    next_offset: i64,
    duplicates: u64,
}

impl JoinState {
    /// Empty, before the record at `offset`; `partitions` share the budgets.
    pub fn new(joined: &[JoinModel], partitions: i32, offset: i64) -> Self {
        let of_model = |joined: &JoinModel| {
            let model = &joined.model;
            let entry = Joined {
                topics: model.topics.clone(),
                labels: joined.labels()?.clone(),
                idle_after_ms: model.windows.idle_after.ms,
                join: ModelJoin::new(joined, partitions)?,
            };
            Some((model.model.clone(), entry))
        };
        let mut state = Self {
            models: joined.iter().filter_map(of_model).collect(),
            at_ms: 0,
            clocks: SourceClocks::default(),
            snapshots: VecDeque::new(),
            next_offset: offset,
            duplicates: 0,
        };
        state.snapshots.push_back(state.snapshot());
        state
    }

    /// As it was before the record at the checkpoint's offset. Records from there on are read again; `go_live` before
    /// the first one whose outcome has not been told.
    pub fn restored(joined: &[JoinModel], partitions: i32, checkpoint: Checkpoint) -> Self {
        let mut state = Self::new(joined, partitions, checkpoint.offset);
        state.at_ms = checkpoint.at_ms;
        state.clocks = checkpoint.clocks;
        let mut models = checkpoint.models;
        for (name, joined) in &mut state.models {
            let ModelCheckpoint { time_ms, sampling } = models.remove(name).unwrap_or_default();
            joined.join.replay_from(checkpoint.offset, time_ms, sampling);
        }
        state.snapshots.clear();
        state.snapshots.push_back(state.snapshot());
        state
    }

    /// Empty, to read again from `offset` without a checkpoint.
    pub fn replayed(joined: &[JoinModel], partitions: i32, offset: i64) -> Self {
        Self::restored(joined, partitions, Checkpoint::new(offset, 0, SourceClocks::default(), BTreeMap::new()))
    }

    pub fn go_live(&mut self) {
        self.models.values_mut().for_each(|joined| joined.join.go_live());
    }

    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Offsets without a record for us were passed.
    pub fn skip_to(&mut self, offset: i64) {
        self.next_offset = self.next_offset.max(offset);
    }

    /// Flushes that came twice.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    pub fn models(&self) -> impl Iterator<Item = (&str, &ModelJoin)> {
        self.models.iter().map(|(name, joined)| (name.as_str(), &joined.join))
    }

    pub fn models_mut(&mut self) -> impl Iterator<Item = (&str, &mut ModelJoin)> {
        self.models.iter_mut().map(|(name, joined)| (name.as_str(), &mut joined.join))
    }

    /// Event time up to which the slowest model whose time is known has been joined, epoch milliseconds.
    pub fn time_ms(&self) -> Option<i64> {
        self.models.values().filter_map(|joined| joined.join.time_ms()).min()
    }

    /// By model, where it is known: event time up to which predictions and labels have been joined, epoch milliseconds.
    pub fn times_ms(&self) -> BTreeMap<String, i64> {
        self.models().filter_map(|(name, join)| Some((name.to_string(), join.time_ms()?))).collect()
    }

    /// Takes in one record: a part of a flush of ingest.
    pub fn apply(&mut self, offset: i64, part: JoinPart) {
        self.next_offset = offset + 1;
        let JoinPart { header, predictions, labels } = part;
        if self.clocks.continuity(&header) == Continuity::Duplicate {
            self.duplicates += 1;
        } else {
            let mut operation = 0;
            for prediction in predictions {
                if let Some(joined) = self.models.get_mut(&*prediction.model) {
                    joined.join.predict(prediction, offset, operation);
                }
                operation += 1;
            }
            for label in labels {
                if let Some(joined) = self.models.get_mut(&*label.model) {
                    joined.join.label(label, offset, operation);
                }
                operation += 1;
            }
        }
        if header.part + 1 >= header.parts {
            self.advance(&header);
        }
        self.models.values_mut().for_each(|joined| joined.join.end_record(offset));
        if self.has_moved() {
            self.remember();
        }
    }

    fn advance(&mut self, header: &FlushHeader) {
        self.at_ms = self.at_ms.max(header.at_ms);
        self.clocks.learn(header);
        for source in &header.sources {
            self.clocks.advance(source, header);
        }
        for joined in self.models.values_mut() {
            if let Some(time_ms) = event_time_ms(&self.clocks, joined, self.at_ms) {
                joined.join.advance(time_ms);
            }
        }
    }

    fn snapshot(&self) -> Snapshot {
        let times_ms = self.models.iter().map(|(name, joined)| (name.clone(), joined.join.time_ms())).collect();
        Snapshot { offset: self.next_offset, at_ms: self.at_ms, clocks: self.clocks.clone(), times_ms }
    }

    /// Whether the time of any model is a good step past the last snapshot.
    fn has_moved(&self) -> bool {
        let Some(last) = self.snapshots.back() else { return true };
        self.models.iter().any(|(name, joined)| {
            let step_ms = (joined.join.delay_ms() / SNAPSHOTS_WITHIN_DELAY).max(1);
            match (last.times_ms.get(name).copied().flatten(), joined.join.time_ms()) {
                (Some(then_ms), Some(now_ms)) => now_ms.saturating_sub(then_ms) >= step_ms,
                (then_ms, now_ms) => then_ms != now_ms,
            }
        })
    }

    fn remember(&mut self) {
        self.snapshots.push_back(self.snapshot());
        if self.snapshots.len() > MOST_SNAPSHOTS {
            // The first one stays: it may be the only one before the oldest entry.
            let mut index = 0;
            self.snapshots.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
    }

    /// Where a restart after the records read so far would begin.
    pub fn checkpoint(&mut self) -> Checkpoint {
        let oldest = self.models.values().filter_map(|joined| joined.join.oldest_offset()).min();
        let oldest = oldest.unwrap_or(self.next_offset);
        while self.snapshots.get(1).is_some_and(|second| second.offset <= oldest) {
            self.snapshots.pop_front();
        }
        let Snapshot { offset, at_ms, clocks, times_ms } =
            self.snapshots.front().cloned().unwrap_or_else(|| self.snapshot());
        let of_model = |(name, joined): (&String, &mut Joined)| {
            joined.join.forget_changes(offset);
            let time_ms = times_ms.get(name).copied().flatten();
            (name.clone(), ModelCheckpoint { time_ms, sampling: joined.join.sampling().clone() })
        };
        let models = self.models.iter_mut().map(of_model).collect();
        Checkpoint::new(offset, at_ms, clocks, models)
    }
}

fn event_time_ms(clocks: &SourceClocks, joined: &Joined, at_ms: i64) -> Option<i64> {
    let of_predictions = match clocks.slowest(&joined.topics, at_ms, joined.idle_after_ms) {
        Pace::Unknown => return None,
        Pace::Clock(clock_ms) => clock_ms,
        Pace::Quiet => clocks.latest_ms(&joined.topics)?.saturating_add(clocks.quiet_ms(&joined.topics)),
    };
    match clocks.slowest(&joined.labels.topics, at_ms, joined.idle_after_ms) {
        Pace::Unknown => None,
        Pace::Clock(clock_ms) => Some(of_predictions.min(clock_ms)),
        Pace::Quiet => Some(of_predictions),
    }
}
