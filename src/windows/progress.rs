//! Clocks of the source partitions, watermarks of the models, and gaps in what was read.
//!
//! A clock belongs to a source partition, not to the process that reads it: it advances with the event times
//! read, stalls while its owner is dead, and is passed over while the partition is quiet at its end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::model::Model;
use crate::ingest::partial::{FlushHeader, SourceProgress};

use super::result::Window;
use super::row_counts::RowCounts;

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
    /// How long the partition had been quiet at its end when its owner last reported, milliseconds.
    pub quiet_ms: i64,
    /// The owner reports again by this wall clock; past it, it is gone, and what it said of quiet is void.
    pub report_by_ms: i64,
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
    /// Rows of closed windows, from which what is usual is learned.
    #[serde(default, skip_serializing_if = "RowCounts::is_empty")]
    pub row_counts: RowCounts,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedEntry {
    pub version: String,
    pub window: Window,
    pub revision: u32,
    /// Wall clock of the log when the window first closed, epoch milliseconds.
    #[serde(default)]
    pub closed_ms: i64,
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
            let (skipped, gap) = self.advance_source(source, header);
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
    fn advance_source(&mut self, source: &SourceProgress, header: &FlushHeader) -> (bool, Option<Window>) {
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
        clock.quiet_ms = source.quiet_since_ms.map_or(0, |since_ms| header.at_ms.saturating_sub(since_ms).max(0));
        clock.report_by_ms = header.next_by_ms;
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
    ///
    /// When every partition is quiet the wall clock closes the windows that hold events, so that a silent model's
    /// last ones are not left open. `last_end_ms` tells the latest end, up to the wall clock it is given, of a window
    /// that holds events: the watermark goes no further, since what comes next may be older than now (a replay).
    pub fn advance_watermark(&mut self, model: &Model, last_end_ms: impl FnOnce(i64) -> Option<i64>) -> Option<i64> {
        let delay_ms = model.windows.watermark_delay.ms;
        let candidate = match self.slowest_clock(model) {
            Pace::Unknown => None,
            Pace::Clock(clock_ms) => Some(clock_ms.saturating_sub(delay_ms)),
            Pace::Quiet => last_end_ms(self.at_ms.saturating_sub(delay_ms)),
        };
        let progress = self.models.entry(model.model.clone()).or_default();
        progress.watermark_ms = progress.watermark_ms.max(candidate);
        progress.watermark_ms
    }

    fn slowest_clock(&self, model: &Model) -> Pace {
        let mut slowest: Option<i64> = None;
        for topic in &model.topics {
            let Some(clocks) = self.topics.get(topic) else { return Pace::Unknown };
            for clock in clocks.values() {
                let owned = self.at_ms <= clock.report_by_ms;
                let idle = owned && clock.quiet_ms > 0 && clock.quiet_ms >= model.windows.idle_after.ms;
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
}

/// What the source partitions of a model say together.
enum Pace {
    Unknown,
    /// The slowest clock of those that are not quiet, epoch milliseconds.
    Clock(i64),
    Quiet,
}

impl ModelProgress {
    pub fn revision(&self, version: &str, window: Window) -> Option<u32> {
        self.closed.iter().find(|entry| entry.version == version && entry.window == window).map(|entry| entry.revision)
    }

    /// Notes that a window closed or was revised at wall clock `at_ms`; answers when it first closed.
    pub fn set_revision(&mut self, version: &str, window: Window, revision: u32, at_ms: i64) -> i64 {
        match self.closed.iter_mut().find(|entry| entry.version == version && entry.window == window) {
            Some(entry) => {
                entry.revision = revision;
                entry.closed_ms
            }
            None => {
                self.closed.push(ClosedEntry { version: version.to_string(), window, revision, closed_ms: at_ms });
                at_ms
            }
        }
    }

    /// Forgets what can no longer be revised; gaps, once no reference reaches back to them.
    pub fn retire(&mut self, watermark_ms: i64, allowed_lateness_ms: i64, reach_ms: i64) {
        let alive = |window: &Window| window.end_ms.saturating_add(allowed_lateness_ms) > watermark_ms;
        self.closed.retain(|entry| alive(&entry.window));
        let in_reach = |window: &Window| Window { end_ms: window.end_ms.saturating_add(reach_ms), ..*window };
        self.gaps.retain(|gap| alive(&in_reach(gap)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Model {
        let yaml = "version: 1\nmodel: m\ntopics: [t]\nfeatures: {x: numeric}\nwindows: {watermark_delay: 0s, idle_after: 5s}\nreferences: {training: {path: t.csv}}\n";
        crate::config::parse_model_str("model.yaml", yaml).unwrap().value
    }

    /// Partition, offsets from and to, latest event time and start of quiet in seconds.
    type Report = (i32, i64, i64, Option<i64>, Option<i64>);

    /// A report of partition 0 (offsets from..to) and of what else is given, at second `at`.
    fn flush(at: i64, sources: &[Report]) -> FlushHeader {
        let source = |&(partition, from, to, clock, quiet_since): &Report| {
            let ms = |seconds: i64| seconds * 1_000;
            SourceProgress {
                topic: "t".into(),
                partition,
                from,
                to,
                clock_ms: clock.map(ms),
                quiet_since_ms: quiet_since.map(ms),
            }
        };
        FlushHeader {
            instance: "0".into(),
            at_ms: at * 1_000,
            next_by_ms: (at + 3) * 1_000,
            sources: sources.iter().map(source).collect(),
            topics: BTreeMap::from([("t".into(), 2)]),
            rows: BTreeMap::new(),
            part: 0,
            parts: 1,
        }
    }

    fn watermark(progress: &mut Progress, header: &FlushHeader) -> Option<i64> {
        let model = model();
        progress.advance(header, &[&model]);
        progress.advance_watermark(&model, Some).map(|watermark_ms| watermark_ms / 1_000)
    }

    #[test]
    fn an_unknown_partition_blocks_and_the_slowest_clock_rules() {
        let mut progress = Progress::default();
        assert_eq!(watermark(&mut progress, &flush(100, &[(0, 0, 10, Some(50), None)])), None);
        assert_eq!(watermark(&mut progress, &flush(101, &[(1, 0, 10, Some(40), None)])), Some(40));
        assert_eq!(watermark(&mut progress, &flush(102, &[(1, 10, 20, Some(60), None)])), Some(50));
    }

    #[test]
    fn a_quiet_partition_is_passed_over_and_all_quiet_is_the_wall_clock() {
        let mut progress = Progress::default();
        watermark(&mut progress, &flush(100, &[(0, 0, 10, Some(50), None), (1, 0, 10, Some(40), None)]));
        let quiet = (1, 10, 10, None, Some(100));
        assert_eq!(watermark(&mut progress, &flush(104, &[(0, 10, 20, Some(70), None), quiet])), Some(40));
        assert_eq!(watermark(&mut progress, &flush(105, &[(0, 20, 20, None, None), quiet])), Some(70));
        assert_eq!(watermark(&mut progress, &flush(112, &[(0, 20, 20, None, Some(106)), quiet])), Some(112));
    }

    #[test]
    fn the_clock_of_a_partition_whose_owner_is_gone_stalls() {
        let mut progress = Progress::default();
        watermark(&mut progress, &flush(100, &[(0, 0, 10, Some(50), None), (1, 0, 10, Some(40), None)]));
        // Quiet for 6 s, then its owner falls silent; the other process goes on.
        let quiet = (1, 10, 10, None, Some(100));
        assert_eq!(watermark(&mut progress, &flush(106, &[(0, 10, 20, Some(60), None), quiet])), Some(60));
        assert_eq!(watermark(&mut progress, &flush(109, &[(0, 20, 30, Some(70), None)])), Some(70));
        assert_eq!(watermark(&mut progress, &flush(110, &[(0, 30, 40, Some(90), None)])), Some(70), "stalls");
        let taken_over = (1, 10, 15, Some(80), None);
        assert_eq!(watermark(&mut progress, &flush(115, &[(0, 40, 40, None, None), taken_over])), Some(80));
    }

    #[test]
    fn a_gap_marks_windows_until_the_next_event_is_known() {
        let (mut progress, model) = (Progress::default(), model());
        let window = |start: i64, end: i64| Window { start_ms: start * 1_000, end_ms: end * 1_000 };
        progress.advance(&flush(100, &[(0, 0, 10, Some(50), None)]), &[&model]);
        assert!(!progress.has_gap(&model, window(40, 60)));
        assert_eq!(progress.advance(&flush(101, &[(0, 15, 15, None, None)]), &[&model]), vec!["t".to_string()]);
        assert!(progress.has_gap(&model, window(40, 60)) && progress.has_gap(&model, window(900, 960)));
        progress.advance(&flush(102, &[(0, 15, 20, Some(70), None)]), &[&model]);
        assert!(progress.has_gap(&model, window(40, 60)) && progress.has_gap(&model, window(60, 80)));
        assert!(!progress.has_gap(&model, window(30, 50)) && !progress.has_gap(&model, window(80, 100)));
    }

    #[test]
    fn a_flush_read_twice_is_a_duplicate() {
        let mut progress = Progress::default();
        let first = flush(100, &[(0, 0, 10, Some(50), None)]);
        assert_eq!(progress.continuity(&first), Continuity::Next);
        progress.advance(&first, &[&model()]);
        assert_eq!(progress.continuity(&first), Continuity::Duplicate);
        assert_eq!(progress.continuity(&flush(101, &[(0, 10, 10, None, Some(100))])), Continuity::Next);
    }
}
