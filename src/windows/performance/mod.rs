//! Windows of performance: the pure machine, apart from that of features, since they wait for labels.
//!
//! A window is told when the watermark closes it, then with what is estimated and the labels that are known by then; told
//! again while labels come in, at most every `labels.revise_every` of the log's wall clock; and told a last time, as final,
//! once no label can come any more. `panes` holds the profiles, `ledger` which windows were told, `time` when what is due,
//! `evaluate` the figures of a window, `gaps` how far its segments lie apart, `versions` the same window of another version as its baseline, `past` how good
//! earlier estimates were. Everything follows from the flushes alone.

mod evaluate;
mod gaps;
mod ledger;
mod panes;
mod past;
mod time;
mod versions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use crate::config::performance::ERROR_SIGNAL;
use crate::ingest::partial::FlushHeader;
use crate::ingest::signals::SignalRun;
use crate::stats::change::CHANGE_POINTS;
use crate::stats::metric::MetricValue;

use super::changes::{Changes, ChangesKey, Placing};
use super::judge::Judge;
use super::pane::PaneKey;
use super::result::{ClosedWindow, PERFORMANCE_FEATURE, Segment, Window, WindowResult};
use super::spec::WindowSpec;
use super::state::{Effect, LateRecord, References};
use super::watched::WatchedModel;

use evaluate::Opened;
use ledger::{Ledger, Told, WindowKey};
use panes::{Merged, Panes};
use past::{PastEstimates, SeriesKey};
pub use time::Clock;
use time::Patience;

/// Panes that go into windows told again because of one flush; what is left waits for the next one.
const MOST_PANES_A_FLUSH: usize = 512;

/// References opened at a time; they change with promotions only.
const MOST_OPENED: usize = 64;

/// What a record of the `panes` topic is of. Its JSON is the key of the record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PerformanceKey {
    #[serde(rename = "performance_pane")]
    Pane(PaneKey),
    #[serde(rename = "performance_window")]
    Window(WindowKey),
    #[serde(rename = "performance_changes")]
    Changes(ChangesKey),
    #[serde(rename = "estimate_errors")]
    Past(SeriesKey),
}

/// A record of the `panes` topic to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct PerformanceChange {
    pub key: PerformanceKey,
    /// `None`: forget it.
    pub value: Option<Vec<u8>>,
}

/// What the machine asks while it closes windows.
pub struct Seams<'a> {
    pub references: &'a dyn References,
    pub judge: &'a mut dyn Judge,
    /// Whether events of the model in this stretch are known to be missing.
    pub has_gap: &'a dyn Fn(Window) -> bool,
    /// Where the model's source topics have been read to.
    pub positions: &'a dyn Fn() -> Vec<(String, i32, i64)>,
}

/// The windows of performance of one partition of `partials`.
pub struct PerformanceWindows {
    panes: Panes,
    ledger: Ledger,
    past: PastEstimates,
    /// Of [`ERROR_SIGNAL`].
    changes: Changes,
    /// By model: how far things were when what is past was last looked for.
    retired: BTreeMap<String, (Option<i64>, Option<i64>)>,
    /// By model and content address.
    opened: BTreeMap<(String, String), Arc<Opened>>,
}

impl PerformanceWindows {
    pub fn new(watched: &[WatchedModel]) -> Self {
        Self {
            panes: Panes::default(),
            ledger: Ledger::default(),
            past: PastEstimates::default(),
            changes: Changes::of_signals(watched, |signal| signal == ERROR_SIGNAL),
            retired: BTreeMap::new(),
            opened: BTreeMap::new(),
        }
    }

    /// Takes in one aggregate. Those of segments come together with that of all events, which says which windows they
    /// belong to.
    pub fn merge(
        &mut self,
        watched: &WatchedModel,
        key: &PaneKey,
        (rows, state): (u64, &[u8]),
        clock: &Clock,
        references: &dyn References,
        header: &FlushHeader,
    ) -> Option<Effect> {
        if watched.model.performance.is_none() || watched.performance.specs.is_empty() {
            return None;
        }
        let patience = Patience::of(watched);
        let pane = key.window();
        if patience.is_outlived(last_end_ms(watched, pane), clock) {
            // Counted once: by the aggregate of all events.
            return key.segment.is_all().then(|| {
                Effect::Late(LateRecord {
                    model: key.model.clone(),
                    version: key.version.clone(),
                    pane,
                    rows,
                    watermark_ms: clock.watermark_ms.unwrap_or(i64::MIN),
                    performance: true,
                    sources: header.sources.clone(),
                })
            });
        }
        if key.segment.is_all() {
            for window in covering(&watched.performance.specs, pane) {
                if !patience.is_past(window.end_ms, clock) {
                    self.ledger.touch(WindowKey::new(&key.model, &key.version, window));
                }
            }
        }
        let opened = match self.open(watched, &key.reference_id, references) {
            Ok(opened) => opened,
            Err(reason) => return Some(Effect::Damaged(reason)),
        };
        let merged = self.panes.merge(key, &opened.layout, state);
        merged.err().map(|reason| Effect::Damaged(format!("performance of {} {}: {reason}", key.model, key.version)))
    }

    /// Feeds the change detectors of the error signal.
    pub fn observe(&mut self, watched: &WatchedModel, run: &SignalRun, clock: &Clock) {
        let patience = Patience::of(watched);
        let expired = |pane: Window| patience.is_outlived(last_end_ms(watched, pane), clock);
        let placing = Placing { pane_ms: watched.pane_ms(), watermark_ms: clock.watermark_ms, expired: &expired };
        self.changes.observe(run, &placing);
    }

    /// The latest end, at most `now_ms`, of a window that holds predictions.
    pub fn last_end_ms(&self, watched: &WatchedModel, now_ms: i64) -> Option<i64> {
        let specs = &watched.performance.specs;
        let windows = self.panes.of_model(&watched.model.model).flat_map(|key| covering(specs, key.window()));
        windows.map(|window| window.end_ms).filter(|end_ms| *end_ms <= now_ms).max()
    }

    /// Tells every window that is due after a flush, in the order of their ends.
    pub fn close(&mut self, watched: &WatchedModel, clock: &Clock, seams: &mut Seams<'_>, effects: &mut Vec<Effect>) {
        if watched.model.performance.is_none() {
            return;
        }
        let name = &watched.model.model;
        let patience = Patience::of(watched);
        let mut telling = self.ledger.take_closing(name, clock);
        let mut panes = 0;
        for key in self.ledger.due(name, &patience, clock) {
            panes += self.panes.of_window(name, &key.version, key.window()).count();
            telling.insert(key);
            if panes >= MOST_PANES_A_FLUSH {
                break;
            }
        }
        for key in telling {
            self.tell(watched, &key, &patience, clock, seams, effects);
        }
        let so_far = (clock.watermark_ms, clock.labels_ms);
        if self.retired.insert(name.clone(), so_far) != Some(so_far) {
            self.retire(watched, &patience, clock);
        }
    }

    fn tell(
        &mut self,
        watched: &WatchedModel,
        key: &WindowKey,
        patience: &Patience,
        clock: &Clock,
        seams: &mut Seams<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let is_final = patience.labels_are_in(key.end_ms, clock);
        let revision = self.ledger.tell(key, clock.at_ms, is_final);
        let merged = self.merge_panes(watched, key, seams.references, effects);
        let ids: BTreeSet<&String> = merged.keys().map(|(_, reference_id)| reference_id).collect();
        // With two references neither part stands for the whole.
        let complete = ids.len() == 1 && !(seams.has_gap)(key.window());
        let mut results = Vec::new();
        for ((segment, reference_id), merged) in &merged {
            let Ok(opened) = self.open(watched, reference_id, seams.references) else { continue };
            let (stats, performance) = evaluate::figures(watched, &opened, segment, &merged.pane.profile, is_final);
            results.push(WindowResult {
                model: key.model.clone(),
                version: key.version.clone(),
                segment: segment.clone(),
                window: key.window(),
                revision,
                reference: opened.reference.name.clone(),
                reference_id: reference_id.clone(),
                rows: merged.pane.profile.predictions(),
                complete: complete && merged.fits && !merged.pane.damaged,
                baseline: None,
                quality: None,
                changes: Vec::new(),
                performance: Some(performance),
                features: BTreeMap::from([(PERFORMANCE_FEATURE.to_string(), stats)]),
            });
        }
        self.tell_of_whole(&mut results);
        for comparison in &watched.performance.comparisons {
            let opened = |id: &str| self.opened.get(&(key.model.clone(), id.to_string())).cloned();
            results.extend(versions::compared(watched, comparison, &self.panes, &results, &opened));
        }
        self.tell_changes(&mut results);
        if results.is_empty() {
            return;
        }
        let (model, version) = (key.model.clone(), key.version.clone());
        let positions = Arc::new((seams.positions)());
        let closed = ClosedWindow { model, version, window: key.window(), revision, results, positions };
        let verdicts = seams.judge.on_window(&closed, clock.at_ms);
        effects.extend(closed.results.into_iter().map(|result| Effect::Result(Box::new(result))));
        effects.extend(verdicts.into_iter().map(Effect::Verdict));
    }

    /// What only the result of all events says.
    fn tell_of_whole(&mut self, results: &mut [WindowResult]) {
        let gaps = gaps::gaps(results);
        let Some(whole) = results.iter_mut().find(|result| result.segment.is_all()) else { return };
        self.past.record(whole);
        let estimate_error = self.past.before(whole);
        if let Some(performance) = &mut whole.performance {
            (performance.gaps, performance.estimate_error) = (gaps, estimate_error);
        }
    }

    /// Adds the changes of the error signal to the result of all events against the stored reference.
    fn tell_changes(&self, results: &mut [WindowResult]) {
        for result in results.iter_mut().filter(|result| result.segment.is_all() && result.baseline.is_none()) {
            let Some(changes) = self.changes.of_window(&result.model, &result.version, result.window) else { continue };
            let count = changes.counts.values().sum::<u64>();
            if let Some(stats) = result.features.get_mut(PERFORMANCE_FEATURE) {
                stats.metrics.insert(CHANGE_POINTS.to_string(), MetricValue::exact(count as f64));
            }
            result.changes = changes.first;
        }
    }

    /// The panes of one window, put together by segment and reference.
    fn merge_panes(
        &mut self,
        watched: &WatchedModel,
        key: &WindowKey,
        references: &dyn References,
        effects: &mut Vec<Effect>,
    ) -> BTreeMap<(Segment, String), Merged> {
        let window = key.window();
        let panes: Vec<PaneKey> = self.panes.of_window(&key.model, &key.version, window).cloned().collect();
        let mut merged = BTreeMap::new();
        for pane in panes {
            let added = self
                .open(watched, &pane.reference_id, references)
                .and_then(|opened| self.panes.add_to(&pane, window, &opened.layout, &mut merged));
            if let Err(reason) = added {
                effects.push(Effect::Damaged(format!("performance of {} {}: {reason}", key.model, key.version)));
            }
        }
        merged
    }

    fn open(&mut self, watched: &WatchedModel, id: &str, references: &dyn References) -> Result<Arc<Opened>, String> {
        let place = (watched.model.model.clone(), id.to_string());
        if let Some(opened) = self.opened.get(&place) {
            return Ok(opened.clone());
        }
        let opened = Arc::new(Opened::new(watched, id, references)?);
        if self.opened.len() >= MOST_OPENED {
            self.opened.clear();
        }
        self.opened.insert(place, opened.clone());
        Ok(opened)
    }

    fn retire(&mut self, watched: &WatchedModel, patience: &Patience, clock: &Clock) {
        let name = &watched.model.model;
        let still_needed_ms = self.ledger.retire(name, patience, clock).unwrap_or(i64::MAX);
        let outlived = |pane: Window| {
            patience.is_outlived(last_end_ms(watched, pane), clock)
                && pane.end_ms <= still_needed_ms.saturating_sub(watched.performance.reach_ms())
        };
        let panes: Vec<PaneKey> = self.panes.of_model(name).filter(|key| outlived(key.window())).cloned().collect();
        panes.into_iter().for_each(|key| self.panes.forget(key));
        let versions = self.panes.versions(name);
        self.changes.retire(name, &versions, outlived);
    }

    pub fn pane_count(&self) -> usize {
        self.panes.len()
    }

    /// Approximate memory of the panes, bytes.
    pub fn allocated_bytes(&self) -> usize {
        self.panes.allocated_bytes()
    }

    pub fn detector_count(&self) -> usize {
        self.changes.detector_count()
    }

    /// Whether the record of the change detectors belongs here.
    pub fn owns(key: &ChangesKey) -> bool {
        matches!(key, ChangesKey::Detector(detector) if detector.signal == ERROR_SIGNAL)
    }

    /// Takes back a record; its watermark tells open windows from closed ones. False: it cannot be read.
    pub fn restore(&mut self, watched: &WatchedModel, key: PerformanceKey, value: &[u8], clock: &Clock) -> bool {
        match key {
            PerformanceKey::Pane(key) => {
                if key.segment.is_all() {
                    for window in covering(&watched.performance.specs, key.window()) {
                        let window = WindowKey::new(&key.model, &key.version, window);
                        self.ledger.restore_open(window, clock.watermark_ms);
                    }
                }
                self.panes.restore(key, value);
                true
            }
            PerformanceKey::Window(key) => match serde_json::from_slice::<Told>(value) {
                Ok(told) => {
                    self.ledger.restore(key, told);
                    true
                }
                Err(_) => false,
            },
            PerformanceKey::Changes(key) => self.changes.restore(key, value),
            PerformanceKey::Past(key) => self.past.restore(key, value),
        }
    }

    /// What changed since the last call.
    pub fn take_stored(&mut self) -> Result<Vec<PerformanceChange>, serde_json::Error> {
        let panes = self.panes.take_stored().into_iter();
        let panes = panes.map(|(key, value)| PerformanceChange { key: PerformanceKey::Pane(key), value });
        let mut stored: Vec<PerformanceChange> = panes.collect();
        for (key, told) in self.ledger.take_stored() {
            let value = told.as_ref().map(serde_json::to_vec).transpose()?;
            stored.push(PerformanceChange { key: PerformanceKey::Window(key), value });
        }
        for change in self.changes.take_stored()? {
            stored.push(PerformanceChange { key: PerformanceKey::Changes(change.key), value: change.value });
        }
        for (key, value) in self.past.take_stored()? {
            stored.push(PerformanceChange { key: PerformanceKey::Past(key), value });
        }
        Ok(stored)
    }
}

impl PerformanceKey {
    pub fn model(&self) -> &str {
        match self {
            Self::Pane(key) => &key.model,
            Self::Window(key) => &key.model,
            Self::Changes(ChangesKey::Detector(key)) => &key.model,
            Self::Changes(ChangesKey::Changes(key)) => &key.model,
            Self::Past(key) => &key.model,
        }
    }
}

fn covering(specs: &[WindowSpec], pane: Window) -> impl Iterator<Item = Window> {
    specs.iter().flat_map(move |spec| spec.covering(pane))
}

/// End of the last window of performance that covers this pane.
fn last_end_ms(watched: &WatchedModel, pane: Window) -> i64 {
    let ends = watched.performance.specs.iter().map(|spec| spec.last_end_ms(pane.start_ms));
    ends.max().unwrap_or(pane.end_ms)
}

#[cfg(test)]
mod tests;
