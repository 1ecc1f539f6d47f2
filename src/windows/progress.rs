//! Clocks of the source partitions, watermarks of the models, and gaps in what was read.
//!
//! A clock belongs to a source partition, not to the process that reads it: it advances with the event times
//! read, stalls while its owner is dead, and is passed over while the partition is quiet at its end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::model::Model;
use crate::ingest::partial::{FlushHeader, SourceProgress};

use super::result::Window;

/// Everything the windows of one partition know of their input; stored with every checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Latest wall clock of any flush, epoch milliseconds.
    pub at_ms: i64,
    /// Wall clock of the first flush.
    pub first_at_ms: i64,
    /// Source topics and their partitions.
    pub topics: BTreeMap<String, BTreeMap<i32, SourceClock>>,
    pub models: BTreeMap<String, ModelProgress>,
}

/// `None` where nothing is known yet: an unknown clock blocks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceClock {
    pub next_offset: Option<i64>,
    pub clock_ms: Option<i64>,
    pub quiet_since_ms: Option<i64>,
    /// Offsets were skipped after this event time, and no event has been read since: the gap has no end yet.
    pub gap_since_ms: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelProgress {
    pub watermark_ms: Option<i64>,
    pub last_arrival_ms: Option<i64>,
    /// Windows already closed and still open to revision.
    pub closed: Vec<ClosedEntry>,
    /// Stretches of event time in which events are known to be missing.
    pub gaps: Vec<Window>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedEntry {
    pub version: String,
    pub window: Window,
    pub revision: u32,
}

/// How a flush continues what was read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continuity {
    Next,
    /// Everything in it was counted before: drop it.
    Duplicate,
}

impl Progress {
    /// Looks at a flush before its aggregates are merged.
    pub fn continuity(&self, header: &FlushHeader) -> Continuity {
        let advanced: Vec<&SourceProgress> = header.sources.iter().filter(|source| source.to > source.from).collect();
        let seen = |source: &SourceProgress| self.next_offset(source).is_some_and(|next| source.to <= next);
        if !advanced.is_empty() && advanced.into_iter().all(seen) { Continuity::Duplicate } else { Continuity::Next }
    }

    fn next_offset(&self, source: &SourceProgress) -> Option<i64> {
        self.topics.get(&source.topic)?.get(&source.partition)?.next_offset
    }

    /// Takes in a flush's header once all its parts were merged. Returns the topics in which a gap was found.
    pub fn advance(&mut self, header: &FlushHeader, models: &[&Model]) -> Vec<String> {
        if self.first_at_ms == 0 {
            self.first_at_ms = header.at_ms;
        }
        self.at_ms = self.at_ms.max(header.at_ms);
        for (topic, partitions) in &header.topics {
            let clocks = self.topics.entry(topic.clone()).or_default();
            for partition in 0..*partitions {
                clocks.entry(partition).or_default();
            }
        }
        for (model, rows) in &header.rows {
            if *rows > 0 {
                self.models.entry(model.clone()).or_default().last_arrival_ms = Some(header.at_ms);
            }
        }
        let mut topics_with_gap = Vec::new();
        for source in &header.sources {
            let (skipped, gap) = self.advance_source(source);
            if skipped {
                topics_with_gap.push(source.topic.clone());
            }
            for model in models.iter().filter(|model| model.topics.contains(&source.topic)) {
                self.models.entry(model.model.clone()).or_default().gaps.extend(gap);
            }
        }
        topics_with_gap
    }

    /// Whether offsets were skipped, and the stretch of event time of a gap that has just found its end.
    fn advance_source(&mut self, source: &SourceProgress) -> (bool, Option<Window>) {
        let clock = self.topics.entry(source.topic.clone()).or_default().entry(source.partition).or_default();
        let skipped = clock.next_offset.is_some_and(|next| source.from > next);
        if skipped && clock.gap_since_ms.is_none() {
            clock.gap_since_ms = Some(clock.clock_ms.unwrap_or(i64::MIN));
        }
        let gap = match (clock.gap_since_ms, source.clock_ms) {
            (Some(start_ms), Some(clock_ms)) => {
                clock.gap_since_ms = None;
                Some(Window { start_ms, end_ms: clock_ms.saturating_add(1) })
            }
            _ => None,
        };
        clock.next_offset = Some(clock.next_offset.map_or(source.to, |next| next.max(source.to)));
        clock.clock_ms = clock.clock_ms.max(source.clock_ms);
        clock.quiet_since_ms = source.quiet_since_ms;
        (skipped, gap)
    }

    /// True if events of the model that belong to this window may never have been read.
    pub fn has_gap(&self, model: &Model, window: Window) -> bool {
        let known = self.models.get(&model.model).is_some_and(|progress| {
            progress.gaps.iter().any(|gap| gap.start_ms < window.end_ms && window.start_ms < gap.end_ms)
        });
        let endless = |clock: &SourceClock| clock.gap_since_ms.is_some_and(|since_ms| since_ms < window.end_ms);
        let topics = model.topics.iter().filter_map(|topic| self.topics.get(topic));
        known || topics.flat_map(BTreeMap::values).any(endless)
    }

    /// Event time up to which the model's windows can close; never steps back. `None`: a partition has not
    /// reported yet, or has neither an event nor been quiet for long enough.
    pub fn advance_watermark(&mut self, model: &Model) -> Option<i64> {
        let candidate = self.candidate_watermark(model);
        let progress = self.models.entry(model.model.clone()).or_default();
        progress.watermark_ms = progress.watermark_ms.max(candidate);
        progress.watermark_ms
    }

    fn candidate_watermark(&self, model: &Model) -> Option<i64> {
        let mut slowest: Option<i64> = None;
        for topic in &model.topics {
            for clock in self.topics.get(topic)?.values() {
                clock.next_offset?;
                let idle = clock
                    .quiet_since_ms
                    .is_some_and(|since| self.at_ms.saturating_sub(since) >= model.windows.idle_after.ms);
                if !idle {
                    let clock_ms = clock.clock_ms?;
                    slowest = Some(slowest.map_or(clock_ms, |slowest| slowest.min(clock_ms)));
                }
            }
        }
        // All quiet: a silent model's last windows are closed by the wall clock.
        Some(slowest.unwrap_or(self.at_ms).saturating_sub(model.windows.watermark_delay.ms))
    }
}

impl ModelProgress {
    pub fn revision(&self, version: &str, window: Window) -> Option<u32> {
        self.closed.iter().find(|entry| entry.version == version && entry.window == window).map(|entry| entry.revision)
    }

    pub fn set_revision(&mut self, version: &str, window: Window, revision: u32) {
        match self.closed.iter_mut().find(|entry| entry.version == version && entry.window == window) {
            Some(entry) => entry.revision = revision,
            None => self.closed.push(ClosedEntry { version: version.to_string(), window, revision }),
        }
    }

    /// Forgets what can no longer be revised.
    pub fn retire(&mut self, watermark_ms: i64, allowed_lateness_ms: i64) {
        let alive = |window: &Window| window.end_ms.saturating_add(allowed_lateness_ms) > watermark_ms;
        self.closed.retain(|entry| alive(&entry.window));
        self.gaps.retain(alive);
    }
}
