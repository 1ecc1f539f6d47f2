//! Clocks of source partitions, as flushes tell them: what the later roles know of how far events have been read.
//!
//! A clock belongs to a source partition, not to the process that reads it: it advances with the event times read,
//! stalls while its owner is dead, and is passed over while the partition is quiet at its end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::partial::{FlushHeader, SourceProgress};

/// The clocks of every partition of every source topic; stored with the checkpoints of the roles that follow them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceClocks {
    topics: BTreeMap<String, BTreeMap<i32, SourceClock>>,
}

/// `None` where nothing is known yet: an unknown clock blocks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceClock {
    pub next_offset: Option<i64>,
    pub clock_ms: Option<i64>,
    /// How long the partition had been quiet at its end when its owner last reported, milliseconds.
    pub quiet_ms: i64,
    /// The owner reports again by this wall clock; past it, it is gone, and what it said of quiet is void.
    pub report_by_ms: i64,
    /// Offsets were skipped after this event time, and no event has been read since: the gap has no end yet.
    pub gap_since_ms: Option<i64>,
}

/// How a flush continues what was read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continuity {
    Next,
    /// Everything in it was counted before: drop it.
    Duplicate,
}

/// A stretch of event time, [start, end), in which events are known to be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    pub start_ms: i64,
    pub end_ms: i64,
}

/// What the partitions of some topics say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// A partition has not reported yet, or has neither an event nor been quiet for long enough.
    Unknown,
    /// The slowest clock of those that are not quiet, epoch milliseconds.
    Clock(i64),
    Quiet,
}

impl SourceClocks {
    /// Looks at a flush before what it carries is taken in.
    pub fn continuity(&self, header: &FlushHeader) -> Continuity {
        let advanced: Vec<&SourceProgress> = header.sources.iter().filter(|source| source.to > source.from).collect();
        let seen = |source: &SourceProgress| self.next_offset(source).is_some_and(|next| source.to <= next);
        if !advanced.is_empty() && advanced.into_iter().all(seen) { Continuity::Duplicate } else { Continuity::Next }
    }

    fn next_offset(&self, source: &SourceProgress) -> Option<i64> {
        self.topics.get(&source.topic)?.get(&source.partition)?.next_offset
    }

    /// Makes the partitions known that a flush tells of, those that have not reported too.
    pub fn learn(&mut self, header: &FlushHeader) {
        for (topic, partitions) in &header.topics {
            let clocks = self.topics.entry(topic.clone()).or_default();
            for partition in 0..*partitions {
                clocks.entry(partition).or_default();
            }
        }
    }

    /// Whether offsets were skipped, and the stretch of event time of a gap that has just found its end.
    pub fn advance(&mut self, source: &SourceProgress, header: &FlushHeader) -> (bool, Option<Gap>) {
        let clock = self.topics.entry(source.topic.clone()).or_default().entry(source.partition).or_default();
        let skipped = clock.next_offset.is_some_and(|next| source.from > next);
        if skipped && clock.gap_since_ms.is_none() {
            clock.gap_since_ms = Some(clock.clock_ms.unwrap_or(i64::MIN));
        }
        let gap = match (clock.gap_since_ms, source.clock_ms) {
            (Some(start_ms), Some(clock_ms)) => {
                clock.gap_since_ms = None;
                Some(Gap { start_ms, end_ms: clock_ms.saturating_add(1) })
            }
            _ => None,
        };
        clock.next_offset = Some(clock.next_offset.map_or(source.to, |next| next.max(source.to)));
        clock.clock_ms = clock.clock_ms.max(source.clock_ms);
        clock.quiet_ms = source.quiet_since_ms.map_or(0, |since_ms| header.at_ms.saturating_sub(since_ms).max(0));
        clock.report_by_ms = header.next_by_ms;
        (skipped, gap)
    }

    /// True where a gap without end yet starts before this event time.
    pub fn open_gap_before(&self, topics: &[String], end_ms: i64) -> bool {
        let endless = |clock: &SourceClock| clock.gap_since_ms.is_some_and(|since_ms| since_ms < end_ms);
        self.of(topics).any(endless)
    }

    /// The slowest of the clocks of these topics at wall clock `at_ms`; a partition is passed over once it has been
    /// quiet for `idle_after_ms`.
    pub fn slowest(&self, topics: &[String], at_ms: i64, idle_after_ms: i64) -> Pace {
        let mut slowest: Option<i64> = None;
        for topic in topics {
            let Some(clocks) = self.topics.get(topic) else { return Pace::Unknown };
            for clock in clocks.values() {
                let owned = at_ms <= clock.report_by_ms;
                let idle = owned && clock.quiet_ms > 0 && clock.quiet_ms >= idle_after_ms;
                match (clock.next_offset, clock.clock_ms) {
                    (None, _) => return Pace::Unknown,
                    (Some(_), _) if idle => {}
                    (Some(_), None) => return Pace::Unknown,
                    (Some(_), Some(clock_ms)) => {
                        slowest = Some(slowest.map_or(clock_ms, |slowest| slowest.min(clock_ms)));
                    }
                }
            }
        }
        slowest.map_or(Pace::Quiet, Pace::Clock)
    }

    /// Latest event time of these topics, epoch milliseconds.
    pub fn latest_ms(&self, topics: &[String]) -> Option<i64> {
        self.of(topics).filter_map(|clock| clock.clock_ms).max()
    }

    /// Since when all partitions of these topics have been quiet, as their owners last reported: a length, milliseconds.
    pub fn quiet_ms(&self, topics: &[String]) -> i64 {
        self.of(topics).map(|clock| clock.quiet_ms).min().unwrap_or(0)
    }

    /// Where these topics have been read to: topic, partition, offset of the next record to be read.
    pub fn positions<'a>(&self, topics: impl Iterator<Item = &'a String>) -> Vec<(String, i32, i64)> {
        let mut positions = Vec::new();
        for topic in topics {
            let clocks = self.topics.get(topic).into_iter().flatten();
            let known = clocks.filter_map(|(partition, clock)| Some((*partition, clock.next_offset?)));
            positions.extend(known.map(|(partition, next)| (topic.clone(), partition, next)));
        }
        positions
    }

    fn of<'a>(&'a self, topics: &'a [String]) -> impl Iterator<Item = &'a SourceClock> {
        topics.iter().filter_map(|topic| self.topics.get(topic)).flat_map(BTreeMap::values)
    }
}
