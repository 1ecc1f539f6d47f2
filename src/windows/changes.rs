//! Change detectors on the signals of the stream, and the changes they have seen, by pane.
//!
//! A detector is sequential, so there is one for each signal, model version and *source partition*, fed in the order of
//! offsets: what it sees follows from the partition alone, however partitions, flushes and processes interleave. Event
//! time only says in which window a change is told. The states are stored with every checkpoint, in its transaction;
//! values at offsets that a detector has seen are dropped.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::result::{Change, Window, WindowResult};
use super::state::WatchedModel;
use crate::ingest::signals::SignalRun;
use crate::stats::change::{CHANGE_POINTS, Detector, Method};
use crate::stats::metric::MetricValue;

/// Changes of one pane that are kept in full, the earliest first; all are counted.
const MOST_CHANGES: usize = 100;

/// What a stored record is of. Its JSON is the key of the record in the `panes` topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangesKey {
    Detector(DetectorKey),
    Changes(PaneOfChanges),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DetectorKey {
    pub model: String,
    pub version: String,
    pub topic: String,
    pub partition: i32,
    pub signal: String,
    /// Method and parameters: with others the detector is another one.
    pub method: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PaneOfChanges {
    pub model: String,
    pub version: String,
    pub start_ms: i64,
    pub pane_ms: i64,
}

impl PaneOfChanges {
    fn window(&self) -> Window {
        Window { start_ms: self.start_ms, end_ms: self.start_ms + self.pane_ms }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Watched {
    detector: Detector,
    next_offset: i64,
}

/// Changes of one pane. Which are kept does not depend on the order in which they come.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    /// By signal.
    counts: BTreeMap<String, u64>,
    first: BTreeSet<Change>,
}

/// The changes of a window.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WindowChanges {
    /// By signal; 0 for a watched signal without.
    pub counts: BTreeMap<String, u64>,
    /// In order of event time.
    pub first: Vec<Change>,
}

/// A record of the `panes` topic to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredChange {
    pub key: ChangesKey,
    /// `None`: forget it.
    pub value: Option<Vec<u8>>,
}

/// Where in the model's windows a change is told.
pub struct Placing<'a> {
    pub pane_ms: i64,
    pub watermark_ms: Option<i64>,
    /// Whether nothing can change a window of this pane any more.
    pub expired: &'a dyn Fn(Window) -> bool,
}

#[derive(Debug, Default)]
pub struct Changes {
    /// By model: the signals and how they are watched.
    methods: BTreeMap<String, Vec<(String, Method)>>,
    detectors: BTreeMap<DetectorKey, Watched>,
    seen: BTreeMap<PaneOfChanges, Seen>,
    unstored: BTreeSet<ChangesKey>,
}

impl Changes {
    /// Of every signal.
    pub fn new(watched: &[WatchedModel]) -> Self {
        Self::of_signals(watched, |_| true)
    }

    /// Of the signals that are wanted. Parameters were checked when the model file was read: a detector that still has
    /// wrong ones is left out.
    pub fn of_signals(watched: &[WatchedModel], wanted: impl Fn(&str) -> bool) -> Self {
        let of_model = |watched: &WatchedModel| {
            let detectors = watched.model.change_detectors.iter().filter(|detector| wanted(&detector.signal));
            let methods =
                detectors.filter_map(|detector| Some((detector.signal.clone(), Method::configured(detector).ok()?)));
            (watched.model.model.clone(), methods.collect())
        };
        Self { methods: watched.iter().map(of_model).collect(), ..Self::default() }
    }

    /// Feeds values that follow on those before.
    pub fn observe(&mut self, run: &SignalRun, placing: &Placing<'_>) {
        let methods = self.methods.get(&run.model).cloned().unwrap_or_default();
        for (signal, method) in methods.iter().filter(|(signal, _)| *signal == run.signal) {
            let key = DetectorKey {
                model: run.model.clone(),
                version: run.version.clone(),
                topic: run.topic.clone(),
                partition: run.partition,
                signal: signal.clone(),
                method: method.to_string(),
            };
            let fresh = || Watched { detector: Detector::new(method), next_offset: i64::MIN };
            let watched = self.detectors.entry(key.clone()).or_insert_with(fresh);
            let mut changes = Vec::new();
            for value in &run.values {
                if value.offset < watched.next_offset {
                    continue;
                }
                watched.next_offset = value.offset.saturating_add(1);
                if watched.detector.observe(value.value).is_some_and(|verdict| verdict.change) {
                    changes.push(Change {
                        event_time_ms: value.event_time_ms,
                        signal: signal.clone(),
                        detector: key.method.clone(),
                        topic: run.topic.clone(),
                        partition: run.partition,
                        offset: value.offset,
                    });
                }
            }
            self.unstored.insert(ChangesKey::Detector(key));
            for change in changes {
                self.record(run, change, placing);
            }
        }
    }

    fn record(&mut self, run: &SignalRun, change: Change, placing: &Placing<'_>) {
        let pane_of = |time_ms: i64| PaneOfChanges {
            model: run.model.clone(),
            version: run.version.clone(),
            start_ms: time_ms.div_euclid(placing.pane_ms) * placing.pane_ms,
            pane_ms: placing.pane_ms,
        };
        let own = pane_of(change.event_time_ms);
        // Too late for its own window, a change is told in the one that is open.
        let pane = match placing.watermark_ms {
            Some(watermark_ms) if (placing.expired)(own.window()) => pane_of(watermark_ms),
            _ => own,
        };
        let seen = self.seen.entry(pane.clone()).or_default();
        *seen.counts.entry(change.signal.clone()).or_default() += 1;
        seen.first.insert(change);
        if seen.first.len() > MOST_CHANGES {
            seen.first.pop_last();
        }
        self.unstored.insert(ChangesKey::Changes(pane));
    }

    /// `None` for a model without detectors.
    pub fn of_window(&self, model: &str, version: &str, window: Window) -> Option<WindowChanges> {
        let methods = self.methods.get(model).filter(|methods| !methods.is_empty())?;
        let counts = methods.iter().map(|(signal, _)| (signal.clone(), 0)).collect();
        let mut changes = WindowChanges { counts, first: Vec::new() };
        let within = |pane: &PaneOfChanges| {
            let pane = pane.window();
            pane.start_ms >= window.start_ms && pane.end_ms <= window.end_ms
        };
        for (_, seen) in self.of_model(model).filter(|(pane, _)| pane.version == version && within(pane)) {
            for (signal, count) in &seen.counts {
                *changes.counts.entry(signal.clone()).or_default() += count;
            }
            changes.first.extend(seen.first.iter().cloned());
        }
        changes.first.sort();
        changes.first.truncate(MOST_CHANGES);
        Some(changes)
    }

    fn of_model<'a>(&'a self, model: &'a str) -> impl Iterator<Item = (&'a PaneOfChanges, &'a Seen)> {
        let from = PaneOfChanges { model: model.to_string(), version: String::new(), start_ms: i64::MIN, pane_ms: 0 };
        self.seen.range(from..).take_while(move |(pane, _)| pane.model == model)
    }

    /// Adds to the results of a window what was seen in it: to those of all events against a stored reference.
    pub fn tell(&self, results: &mut [WindowResult]) {
        for result in results.iter_mut().filter(|result| result.segment.is_all() && result.baseline.is_none()) {
            let Some(changes) = self.of_window(&result.model, &result.version, result.window) else { continue };
            for (signal, count) in changes.counts {
                if let Some(stats) = result.features.get_mut(&signal) {
                    stats.metrics.insert(CHANGE_POINTS.to_string(), MetricValue::exact(count as f64));
                }
            }
            result.changes = changes.first;
        }
    }

    /// Forgets the changes of expired panes, and the detectors of versions that have no windows left.
    pub fn retire(&mut self, model: &str, versions: &BTreeSet<&str>, expired: impl Fn(Window) -> bool) {
        let panes: Vec<PaneOfChanges> =
            self.of_model(model).filter(|(pane, _)| expired(pane.window())).map(|(pane, _)| pane.clone()).collect();
        for pane in panes {
            self.seen.remove(&pane);
            self.unstored.insert(ChangesKey::Changes(pane));
        }
        let gone = |key: &DetectorKey| key.model == model && !versions.contains(key.version.as_str());
        let detectors: Vec<DetectorKey> = self.detectors.keys().filter(|key| gone(key)).cloned().collect();
        for key in detectors {
            self.detectors.remove(&key);
            self.unstored.insert(ChangesKey::Detector(key));
        }
    }

    /// Takes back what was stored; what no model asks for any more is forgotten. False: it cannot be read.
    pub fn restore(&mut self, key: ChangesKey, value: &[u8]) -> bool {
        match key {
            ChangesKey::Detector(key) => {
                let asked = self.methods.get(&key.model).into_iter().flatten();
                let asked =
                    asked.clone().any(|(signal, method)| *signal == key.signal && method.to_string() == key.method);
                if !asked {
                    self.unstored.insert(ChangesKey::Detector(key));
                    return true;
                }
                let Ok(watched) = serde_json::from_slice(value) else { return false };
                self.detectors.insert(key, watched);
            }
            ChangesKey::Changes(pane) => {
                let Ok(seen) = serde_json::from_slice(value) else { return false };
                self.seen.insert(pane, seen);
            }
        }
        true
    }

    /// What changed since the last call.
    pub fn take_stored(&mut self) -> Result<Vec<StoredChange>, serde_json::Error> {
        let value = |key: &ChangesKey| match key {
            ChangesKey::Detector(key) => self.detectors.get(key).map(serde_json::to_vec).transpose(),
            ChangesKey::Changes(pane) => self.seen.get(pane).map(serde_json::to_vec).transpose(),
        };
        let unstored = std::mem::take(&mut self.unstored);
        unstored.into_iter().map(|key| Ok(StoredChange { value: value(&key)?, key })).collect()
    }

    /// For callers that store nothing.
    pub fn discard_unstored(&mut self) {
        self.unstored.clear();
    }

    pub fn detector_count(&self) -> usize {
        self.detectors.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ingest::signals::SignalValue;
    use crate::stats::selection::Selection;
    use crate::windows::state::WindowSpec;

    const PANE_MS: i64 = 60_000;

    fn changes(detectors: &str) -> Changes {
        let yaml = format!(
            "version: 1\nmodel: m\ntopics: [t]\nfeatures: {{x: numeric}}\nchange_detectors: {detectors}\n\
             references: {{training: {{path: t.csv}}}}\n"
        );
        let model = Arc::new(crate::config::parse_model_str("model.yaml", &yaml).unwrap().value);
        let specs = vec![WindowSpec::tumbling(PANE_MS)];
        let (selection, comparisons) = (Selection::default(), Vec::new());
        Changes::new(&[WatchedModel {
            model,
            specs,
            selection,
            comparisons,
            performance: Default::default(),
            sql: Vec::new(),
        }])
    }

    const ADWIN: &str = "[{signal: x, method: adwin, clock: 1}]";

    /// One value a second; the level changes after every 200 values, at another place in each partition.
    fn run(partition: i32, offsets: std::ops::Range<i64>) -> SignalRun {
        let level = |offset: i64| ((offset + 40 * i64::from(partition)) / 200 % 2) as f64;
        let value = |offset: i64| SignalValue {
            offset,
            event_time_ms: offset * 1_000,
            value: level(offset) + (offset % 7) as f64 / 10.0,
        };
        SignalRun {
            model: "m".into(),
            version: "1".into(),
            topic: "t".into(),
            partition,
            signal: "x".into(),
            values: offsets.map(value).collect(),
        }
    }

    fn placing(expired: &dyn Fn(Window) -> bool) -> Placing<'_> {
        Placing { pane_ms: PANE_MS, watermark_ms: Some(5_000 * 1_000), expired }
    }

    fn all(changes: &Changes) -> WindowChanges {
        changes.of_window("m", "1", Window { start_ms: 0, end_ms: 1_000_000_000 }).unwrap()
    }

    #[test]
    fn no_cut_and_no_interleaving_changes_what_is_seen() {
        let open = |_: Window| false;
        let mut whole = changes(ADWIN);
        for partition in [0, 1] {
            whole.observe(&run(partition, 0..1_000), &placing(&open));
        }
        let expected = all(&whole);
        assert!(expected.first.len() >= 8, "{expected:?}");
        assert_eq!(expected.counts["x"], expected.first.len() as u64);
        for step in [1, 7, 333] {
            let mut cut = changes(ADWIN);
            for from in (0..1_000).step_by(step) {
                let to = (from + step as i64).min(1_000);
                for partition in [1, 0] {
                    cut.observe(&run(partition, from..to), &placing(&open));
                }
                // What was read is read again after a crash of ingest.
                cut.observe(&run(0, from..to), &placing(&open));
            }
            assert_eq!(all(&cut), expected, "in steps of {step}");
        }
    }

    #[test]
    fn a_restart_goes_on_from_what_was_stored() {
        let open = |_: Window| false;
        let mut whole = changes(ADWIN);
        whole.observe(&run(0, 0..1_000), &placing(&open));
        let mut first = changes(ADWIN);
        first.observe(&run(0, 0..555), &placing(&open));
        let mut second = changes(ADWIN);
        for stored in first.take_stored().unwrap() {
            let key = serde_json::from_slice(&serde_json::to_vec(&stored.key).unwrap()).unwrap();
            assert!(second.restore(key, &stored.value.unwrap()));
        }
        second.observe(&run(0, 555..1_000), &placing(&open));
        assert_eq!(all(&second), all(&whole));
        assert!(second.take_stored().unwrap().iter().all(|stored| stored.value.is_some()));
        assert_eq!(second.take_stored().unwrap(), []);
    }

    #[test]
    fn a_detector_that_nobody_asks_for_is_forgotten() {
        let open = |_: Window| false;
        let mut before = changes(ADWIN);
        before.observe(&run(0, 0..100), &placing(&open));
        let mut after = changes("[{signal: x, method: adwin, delta: 0.1}]");
        for stored in before.take_stored().unwrap() {
            assert!(after.restore(stored.key, &stored.value.unwrap()));
        }
        assert_eq!(after.detector_count(), 0);
        assert!(after.take_stored().unwrap().iter().all(|stored| stored.value.is_none()));
    }

    #[test]
    fn a_change_too_late_for_its_window_is_told_in_the_open_one() {
        let expired = |pane: Window| pane.end_ms <= 4_000 * 1_000;
        let mut late = changes(ADWIN);
        late.observe(&run(0, 0..300), &placing(&expired));
        let open = Window { start_ms: 4_980_000, end_ms: 5_040_000 };
        let told = late.of_window("m", "1", open).unwrap();
        assert_eq!(told.first.len(), 1, "{told:?}");
        assert!(told.first[0].event_time_ms < 300_000, "its own time is kept: {told:?}");
    }

    #[test]
    fn versions_without_windows_leave_nothing_behind() {
        let open = |_: Window| false;
        let mut changes = changes(ADWIN);
        changes.observe(&run(0, 0..1_000), &placing(&open));
        changes.take_stored().unwrap();
        changes.retire("m", &BTreeSet::new(), |_| true);
        let stored = changes.take_stored().unwrap();
        assert!(stored.len() > 2 && stored.iter().all(|stored| stored.value.is_none()), "{stored:?}");
        assert_eq!((changes.detector_count(), all(&changes).first.len()), (0, 0));
    }

    #[test]
    fn changes_kept_of_a_pane_are_bounded_and_all_are_counted() {
        let open = |_: Window| false;
        let mut changes = changes("[{signal: x, method: page_hinkley, min_instances: 1, threshold: 0.1}]");
        let mut noisy = run(0, 0..1_000);
        noisy.values.iter_mut().for_each(|value| value.event_time_ms = 1);
        changes.observe(&noisy, &placing(&open));
        let seen = all(&changes);
        assert_eq!(seen.first.len(), MOST_CHANGES);
        assert!(seen.counts["x"] > MOST_CHANGES as u64);
    }
}
