//! Watermarks of the models, from the clocks of the source partitions (`ingest::clocks`), and gaps in what was read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::model::Model;
use crate::ingest::clocks::{Continuity, Pace, SourceClocks};
use crate::ingest::partial::{FlushHeader, SourceProgress};

use super::performance::Clock;
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
    pub topics: SourceClocks,
    pub models: BTreeMap<String, ModelProgress>,
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
    /// Stretches of event time of which predictions or labels never reached the join.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub label_gaps: Vec<Window>,
    /// By partition of `joins`: the join's event time, epoch milliseconds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub joined_ms: BTreeMap<i32, i64>,
    /// Event time up to which all of them have met labels; never steps back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels_ms: Option<i64>,
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

impl Progress {
    /// Looks at a flush before its aggregates are merged.
    pub fn continuity(&self, header: &FlushHeader) -> Continuity {
        self.topics.continuity(header)
    }

    /// Takes in a flush's header once all its parts were merged. Returns the topics in which a gap was found.
    pub fn advance(&mut self, header: &FlushHeader, models: &[&Model]) -> Vec<String> {
        if self.first_at_ms == 0 {
            self.first_at_ms = header.at_ms;
        }
        self.at_ms = self.at_ms.max(header.at_ms);
        self.topics.learn(header);
        for (model, rows) in &header.rows {
            if *rows > 0 {
                self.models.entry(model.clone()).or_default().last_arrival_ms = Some(header.at_ms);
            }
        }
        let mut topics_with_gap = Vec::new();
        for source in &header.sources {
            let (skipped, gap) = self.topics.advance(source, header);
            let gap = gap.map(|gap| Window { start_ms: gap.start_ms, end_ms: gap.end_ms });
            if skipped {
                topics_with_gap.push(source.topic.clone());
            }
            let partitions = header.topics.get(&source.topic).copied().unwrap_or(0);
            for (model, joined_ms) in &source.joined_ms {
                self.models.entry(model.clone()).or_default().join(source.partition, *joined_ms, partitions);
            }
            for model in models.iter().filter(|model| model.topics.contains(&source.topic)) {
                self.models.entry(model.model.clone()).or_default().gaps.extend(gap);
            }
            for (model, delay_ms) in models.iter().filter_map(|model| Some((&model.model, waits_for(model, source)?))) {
                // What was skipped are predictions of that time, and labels of those up to the delay before.
                let reach = |gap: Window| Window { start_ms: gap.start_ms.saturating_sub(delay_ms), ..gap };
                self.models.entry(model.clone()).or_default().label_gaps.extend(gap.map(reach));
            }
        }
        topics_with_gap
    }

    /// True if events of the model that belong to this window may never have been read.
    pub fn has_gap(&self, model: &Model, window: Window) -> bool {
        let known = self.models.get(&model.model).is_some_and(|progress| {
            progress.gaps.iter().any(|gap| gap.start_ms < window.end_ms && window.start_ms < gap.end_ms)
        });
        known || self.topics.open_gap_before(&model.topics, window.end_ms)
    }

    /// Where the topics of the model's predictions and labels have been read to.
    pub fn positions(&self, model: &Model) -> Vec<(String, i32, i64)> {
        let labels = model.label_topics().filter(|topic| !model.topics.contains(topic));
        self.topics.positions(model.topics.iter().chain(labels))
    }

    /// What is known of time, for windows of performance.
    pub fn clock(&self, model: &str) -> Clock {
        let progress = self.models.get(model);
        let watermark_ms = progress.and_then(|progress| progress.watermark_ms);
        let labels_ms = progress.and_then(|progress| progress.labels_ms);
        Clock { watermark_ms, labels_ms, at_ms: self.at_ms }
    }

    /// True if labels of predictions in this window may never have reached the join.
    pub fn has_label_gap(&self, model: &str, window: Window) -> bool {
        let gaps = self.models.get(model).map(|progress| progress.label_gaps.as_slice()).unwrap_or_default();
        gaps.iter().any(|gap| gap.start_ms < window.end_ms && window.start_ms < gap.end_ms)
    }

    /// Event time up to which the model's windows can close; never steps back. `None`: a partition has not
    /// reported yet, or has neither an event nor been quiet for long enough.
    ///
    /// When every partition is quiet the wall clock closes the windows that hold events, so that a silent model's
    /// last ones are not left open. `last_end_ms` tells the latest end, up to the wall clock it is given, of a window
    /// that holds events: the watermark goes no further, since what comes next may be older than now (a replay).
    pub fn advance_watermark(&mut self, model: &Model, last_end_ms: impl FnOnce(i64) -> Option<i64>) -> Option<i64> {
        let delay_ms = model.windows.watermark_delay.ms;
        let candidate = match self.topics.slowest(&model.topics, self.at_ms, model.windows.idle_after.ms) {
            Pace::Unknown => None,
            Pace::Clock(clock_ms) => Some(clock_ms.saturating_sub(delay_ms)),
            Pace::Quiet => last_end_ms(self.at_ms.saturating_sub(delay_ms)),
        };
        let progress = self.models.entry(model.model.clone()).or_default();
        progress.watermark_ms = progress.watermark_ms.max(candidate);
        progress.watermark_ms
    }
}

/// The label delay of a model whose predictions or labels come from this source to the join, or in whose name the join
/// tells of it.
fn waits_for(model: &Model, source: &SourceProgress) -> Option<i64> {
    let labels = model.performance.as_ref()?.labels.as_ref()?;
    let is_awaited = source.joined_ms.contains_key(&model.model) || labels.topics.contains(&source.topic);
    is_awaited.then_some(labels.delay.ms)
}

impl ModelProgress {
    /// Takes in the time of one of the partitions of `joins`.
    fn join(&mut self, partition: i32, joined_ms: i64, partitions: i32) {
        let known = self.joined_ms.entry(partition).or_insert(joined_ms);
        *known = joined_ms.max(*known);
        if self.joined_ms.len() as i64 >= i64::from(partitions) {
            self.labels_ms = self.labels_ms.max(self.joined_ms.values().copied().min());
        }
    }

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
        self.label_gaps.retain(|gap| alive(&in_reach(gap)));
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
                joined_ms: BTreeMap::new(),
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
    fn a_gap_in_what_the_join_read_marks_windows_whose_labels_it_may_have_held() {
        let yaml = "version: 1\nmodel: m\ntopics: [t]\nfields: {prediction_id: id}\nfeatures: {x: numeric}\n\
                    score: {path: s, type: numeric}\n\
                    performance: {task: binary, labels: {topics: [l], delay: 10s}}\nreferences: {training: {path: t.csv}}\n";
        let model = crate::config::parse_model_str("model.yaml", yaml).unwrap().value;
        let joined = |from: i64, to: i64, clock: i64| {
            let mut header = flush(100, &[(0, from, to, Some(clock), None)]);
            header.topics = BTreeMap::from([("joins".into(), 1)]);
            header.sources[0].topic = "joins".into();
            header.sources[0].joined_ms = BTreeMap::from([("m".into(), clock * 1_000)]);
            header
        };
        let window = |start: i64, end: i64| Window { start_ms: start * 1_000, end_ms: end * 1_000 };
        let mut progress = Progress::default();
        assert!(progress.advance(&joined(0, 10, 50), &[&model]).is_empty());
        assert_eq!(progress.clock("m").labels_ms, Some(50_000));
        assert_eq!(progress.advance(&joined(12, 20, 70), &[&model]), ["joins"]);
        assert!(progress.has_label_gap("m", window(30, 45)) && progress.has_label_gap("m", window(60, 90)));
        assert!(!progress.has_label_gap("m", window(30, 40)) && !progress.has_label_gap("m", window(71, 90)));
        assert!(!progress.has_gap(&model, window(60, 70)), "events themselves are all there");
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
