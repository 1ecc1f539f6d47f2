//! The pure machine of the windows role: `(state, flush) -> effects`.
//!
//! It holds the panes of one partition of `partials`, closes windows as the watermark passes their end, revises
//! them while late events are allowed, and asks the judge about each. Everything it does follows from the
//! flushes alone, so any replica and any replay derives the same results.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use crate::config::model::Model;
use crate::ingest::clocks::Continuity;
use crate::ingest::partial::{FlushHeader, PartialRow};
use crate::ingest::signals::SignalRun;
use crate::reference::Reference;
use crate::stats::evaluate::evaluate_selected;
use crate::stats::profile::{FeatureReference, Profile};
use crate::stats::quality::{self, QualityProfile, WindowQuality};
use crate::stats::sql::is_state_name;
use crate::stats::sql::state::SqlState;

use super::baseline::{Comparison, Held, Merged, kept_features, needed_until_ms, outlived};
use super::changes::{Changes, ChangesKey, Placing, StoredChange};
use super::history::History;
use super::judge::{Judge, ModelActivity, Verdict};
use super::pane::{Pane, PaneError, PaneKey};
use super::performance::{ERROR_SIGNAL, PerformanceChange, PerformanceKey, PerformanceWindows, Seams};
use super::progress::Progress;
use super::result::{ClosedWindow, PERFORMANCE_FEATURE, Segment, Window, WindowResult};
pub use super::spec::{WindowSpec, pane_width_ms};
use super::sql;
pub use super::watched::WatchedModel;

/// Finds a reference by its content address.
pub trait References: Send + Sync {
    fn find(&self, model: &str, id: &str) -> Option<Arc<Reference>>;
}

/// What a flush led to, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    Result(Box<WindowResult>),
    Verdict(Verdict),
    /// Aggregates too late for their window.
    Late(LateRecord),
    /// A stretch of a source topic was never read.
    Gap {
        topic: String,
    },
    /// Aggregates that could not be merged; their windows are marked incomplete.
    Damaged(String),
    Duplicate,
}

/// The record of the `late` topic: how many events of which pane came too late, and in which offsets they are.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LateRecord {
    pub model: String,
    pub version: String,
    pub pane: Window,
    pub rows: u64,
    pub watermark_ms: i64,
    /// Not the events of a window of features, but predictions and labels of one of performance.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub performance: bool,
    pub sources: Vec<crate::ingest::partial::SourceProgress>,
}

/// A change since the last checkpoint, to be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct PaneChange {
    pub key: PaneKey,
    /// `None`: forget it.
    pub value: Option<Vec<u8>>,
}

/// The windows of one partition.
pub struct PartitionState {
    watched: Arc<Vec<WatchedModel>>,
    references: Arc<dyn References>,
    judge: Box<dyn Judge>,
    changes: Changes,
    performance: PerformanceWindows,
    progress: Progress,
    panes: BTreeMap<PaneKey, Pane>,
    /// Past revision, kept for moving references.
    history: History,
    changed: BTreeSet<PaneKey>,
    /// Panes that went from `panes` to `history` before their last change was stored.
    unwritten: Vec<PaneChange>,
    retired: BTreeSet<PaneKey>,
    /// Closed windows that the current flush added to: (model, version, window).
    to_revise: BTreeSet<(String, String, Window)>,
    /// Processes of whose current flush some parts are still to come.
    unfinished: BTreeSet<String>,
}

impl PartitionState {
    pub fn new(watched: Arc<Vec<WatchedModel>>, references: Arc<dyn References>, judge: Box<dyn Judge>) -> Self {
        Self {
            changes: Changes::of_signals(&watched, |signal| signal != ERROR_SIGNAL),
            performance: PerformanceWindows::new(&watched),
            watched,
            references,
            judge,
            progress: Progress::default(),
            panes: BTreeMap::new(),
            history: History::default(),
            changed: BTreeSet::new(),
            unwritten: Vec::new(),
            retired: BTreeSet::new(),
            to_revise: BTreeSet::new(),
            unfinished: BTreeSet::new(),
        }
    }

    pub fn restore_progress(&mut self, progress: Progress) {
        self.progress = progress;
    }

    /// After `restore_progress`: the watermark tells open panes from those past revision.
    pub fn restore_pane(&mut self, key: PaneKey, value: &[u8]) -> Result<(), PaneError> {
        let reference = self.reference(&key.model, &key.reference_id)?;
        let pane = Pane::decode(&reference, value)?;
        let watched = self.watched.clone();
        let watched = watched.iter().find(|watched| watched.model.model == key.model);
        let watermark_ms = self.progress.models.get(&key.model).and_then(|progress| progress.watermark_ms);
        match watched.zip(watermark_ms) {
            Some((watched, watermark_ms)) if expiry_ms(watched, key.window()) <= watermark_ms => {
                let kept = kept_features(&watched.comparisons);
                self.history.insert(key, pane.encode_some(|name| kept.contains(name)));
            }
            _ => drop(self.panes.insert(key, pane)),
        }
        Ok(())
    }

    pub fn forget_pane(&mut self, key: &PaneKey) {
        self.panes.remove(key);
        self.history.remove(key);
    }

    pub fn restore_judge(&mut self, key: &str, value: &[u8]) {
        self.judge.restore(key, value);
    }

    /// After `restore_progress`; what belongs to no watched model rests in the log. False: it cannot be read.
    pub fn restore_performance(&mut self, key: PerformanceKey, value: &[u8]) -> bool {
        let clock = self.progress.clock(key.model());
        let watched = self.watched.iter().find(|watched| watched.model.model == key.model());
        watched.is_none_or(|watched| self.performance.restore(watched, key, value, &clock))
    }

    /// What is not stored yet of the windows of performance.
    pub fn take_unstored_performance(&mut self) -> Result<Vec<PerformanceChange>, serde_json::Error> {
        self.performance.take_stored()
    }

    /// False: it cannot be read.
    pub fn restore_changes(&mut self, key: ChangesKey, value: &[u8]) -> bool {
        self.changes.restore(key, value)
    }

    /// Detectors and their changes that are not stored yet.
    pub fn take_unstored_changes(&mut self) -> Result<Vec<StoredChange>, serde_json::Error> {
        self.changes.take_stored()
    }

    pub fn detector_count(&self) -> usize {
        self.changes.detector_count() + self.performance.detector_count()
    }

    pub fn performance(&self) -> &PerformanceWindows {
        &self.performance
    }

    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    pub fn pane_count(&self) -> usize {
        self.panes.len()
    }

    /// Panes past revision that moving references need.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Approximate memory of the open panes, bytes.
    pub fn allocated_bytes(&self) -> usize {
        let profiles = self.panes.values().flat_map(|pane| pane.profiles.values());
        let quality = self.panes.values().filter_map(|pane| pane.quality.as_ref());
        let queries = self.panes.values().flat_map(|pane| pane.sql.values());
        profiles.map(Profile::allocated_bytes).sum::<usize>()
            + queries.map(SqlState::allocated_bytes).sum::<usize>()
            + quality.map(QualityProfile::allocated_bytes).sum::<usize>()
    }

    /// False while parts of a flush are still to come: a checkpoint must wait for them.
    pub fn between_flushes(&self) -> bool {
        self.unfinished.is_empty()
    }

    /// Panes changed since the last call.
    pub fn take_pane_changes(&mut self) -> Vec<PaneChange> {
        let retired = std::mem::take(&mut self.retired).into_iter().map(|key| PaneChange { key, value: None });
        let mut changes = std::mem::take(&mut self.unwritten);
        changes.extend(retired);
        for key in std::mem::take(&mut self.changed) {
            if let Some(pane) = self.panes.get(&key) {
                changes.push(PaneChange { value: Some(pane.encode()), key });
            }
        }
        changes
    }

    /// Forgets what a checkpoint would store: for callers that store nothing, to whom it would only pile up.
    pub fn discard_unstored(&mut self) -> Result<(), serde_json::Error> {
        self.changed.clear();
        self.unwritten.clear();
        self.retired.clear();
        self.changes.discard_unstored();
        self.performance.take_stored().map(drop)
    }

    /// Feeds the change detectors with one part of a flush; before `apply`, which closes windows.
    pub fn observe(&mut self, header: &FlushHeader, signals: &[SignalRun]) {
        if self.progress.continuity(header) == Continuity::Duplicate {
            return;
        }
        let watched = self.watched.clone();
        for run in signals {
            let Some(watched) = watched.iter().find(|watched| watched.model.model == run.model) else { continue };
            if run.signal == ERROR_SIGNAL {
                self.performance.observe(watched, run, &self.progress.clock(&run.model));
                continue;
            }
            let watermark_ms = self.progress.models.get(&run.model).and_then(|progress| progress.watermark_ms);
            let expired =
                |pane: Window| watermark_ms.is_some_and(|watermark_ms| expiry_ms(watched, pane) <= watermark_ms);
            let placing = Placing { pane_ms: watched.pane_ms(), watermark_ms, expired: &expired };
            self.changes.observe(run, &placing);
        }
    }

    /// Takes in one part of a flush.
    pub fn apply(&mut self, header: &FlushHeader, rows: Vec<PartialRow>) -> Vec<Effect> {
        let mut effects = Vec::new();
        let last_part = header.part + 1 >= header.parts;
        match self.progress.continuity(header) {
            Continuity::Duplicate => effects.push(Effect::Duplicate),
            Continuity::Next => self.merge_rows(header, rows, &mut effects),
        }
        if !last_part {
            self.unfinished.insert(header.instance.clone());
            return effects;
        }
        self.unfinished.remove(&header.instance);
        let watched = self.watched.clone();
        let models: Vec<&Model> = watched.iter().map(|watched| &*watched.model).collect();
        for topic in self.progress.advance(header, &models) {
            effects.push(Effect::Gap { topic });
        }
        // Before windows close: that a model is absent may explain what they say.
        let activity = self.activity();
        effects.extend(self.judge.on_clock(&activity, self.progress.at_ms).into_iter().map(Effect::Verdict));
        for watched in watched.iter() {
            self.close_windows(watched, &mut effects);
            self.close_performance(watched, &mut effects);
        }
        effects
    }

    fn activity(&self) -> Vec<ModelActivity> {
        let activity = |watched: &WatchedModel| {
            let name = &watched.model.model;
            let arrival = self.progress.models.get(name).and_then(|progress| progress.last_arrival_ms);
            ModelActivity { model: name.clone(), last_arrival_ms: arrival.unwrap_or(self.progress.first_at_ms) }
        };
        self.watched.iter().map(activity).collect()
    }

    fn reference(&self, model: &str, id: &str) -> Result<Arc<Reference>, PaneError> {
        self.references
            .find(model, id)
            .ok_or_else(|| PaneError::NoReference { model: model.to_string(), id: id.to_string() })
    }

    fn merge_rows(&mut self, header: &FlushHeader, rows: Vec<PartialRow>, effects: &mut Vec<Effect>) {
        let watched = self.watched.clone();
        for row in rows {
            let Some(watched) = watched.iter().find(|watched| watched.model.model == row.model) else { continue };
            let segment = Segment { column: row.segment_column, value: row.segment_value };
            let key = PaneKey {
                model: row.model,
                version: row.version,
                start_ms: row.pane_start_ms,
                pane_ms: row.pane_ms,
                reference_id: row.reference_id,
                segment,
            };
            if row.feature == PERFORMANCE_FEATURE {
                let clock = self.progress.clock(&key.model);
                let what = (row.rows, row.state.as_slice());
                effects.extend(self.performance.merge(watched, &key, what, &clock, &*self.references, header));
                continue;
            }
            let watermark = self.progress.models.get(&key.model).and_then(|progress| progress.watermark_ms);
            if let Some(watermark_ms) = watermark {
                if expiry_ms(watched, key.window()) <= watermark_ms {
                    // Counted once: by the row count of all events, not by each feature and segment.
                    if row.feature.is_empty() && key.segment.is_all() {
                        effects.push(Effect::Late(LateRecord {
                            pane: key.window(),
                            model: key.model,
                            version: key.version,
                            rows: row.rows,
                            watermark_ms,
                            performance: false,
                            sources: header.sources.clone(),
                        }));
                    }
                    continue;
                }
                self.mark_for_revision(watched, &key, watermark_ms);
            }
            if is_state_name(&row.feature) {
                self.merge_sql(watched, &key, &row.feature, (row.rows, &row.state));
                continue;
            }
            if let Err(error) = self.merge_row(&key, &row.feature, row.rows, &row.state) {
                self.progress.models.entry(key.model.clone()).or_default().gaps.push(key.window());
                effects.push(Effect::Damaged(error.to_string()));
            }
        }
    }

    fn mark_for_revision(&mut self, watched: &WatchedModel, key: &PaneKey, watermark_ms: i64) {
        let lateness_ms = watched.model.windows.allowed_lateness.ms;
        for window in watched.specs.iter().flat_map(|spec| spec.covering(key.window())) {
            if window.end_ms <= watermark_ms && window.end_ms.saturating_add(lateness_ms) > watermark_ms {
                self.to_revise.insert((key.model.clone(), key.version.clone(), window));
            }
        }
    }

    fn merge_row(&mut self, key: &PaneKey, feature: &str, rows: u64, state: &[u8]) -> Result<(), PaneError> {
        let reference = self.reference(&key.model, &key.reference_id)?;
        // A pane's rows follow one another: its key, five texts, is not copied for each feature.
        if !self.panes.contains_key(key) {
            self.panes.insert(key.clone(), Pane::default());
        }
        let Some(pane) = self.panes.get_mut(key) else { return Ok(()) };
        if feature.is_empty() {
            pane.rows += rows;
        } else {
            pane.merge_state(&reference, feature, state)?;
        }
        if !self.changed.contains(key) {
            self.changed.insert(key.clone());
        }
        Ok(())
    }

    /// Of a query that no rule asks any more nothing is kept.
    fn merge_sql(&mut self, watched: &WatchedModel, key: &PaneKey, name: &str, (rows, state): (u64, &[u8])) {
        let Some(query) = watched.sql_query(name) else { return };
        let pane = self.panes.entry(key.clone()).or_default();
        let held = pane.sql.entry(name.to_string()).or_default();
        held.add(rows, state);
        if held.wants_compaction() {
            held.compact(query);
        }
        self.changed.insert(key.clone());
    }

    fn close_windows(&mut self, watched: &WatchedModel, effects: &mut Vec<Effect>) {
        let name = &watched.model.model;
        let before = self.progress.models.get(name).and_then(|progress| progress.watermark_ms);
        let (panes, performance) = (&self.panes, &self.performance);
        let last_end_ms =
            |now_ms: i64| last_window_end_ms(panes, watched, now_ms).max(performance.last_end_ms(watched, now_ms));
        let Some(watermark_ms) = self.progress.advance_watermark(&watched.model, last_end_ms) else { return };
        // By end, then size: the order in which rules see them, whatever the order of panes.
        let mut due: BTreeSet<(i64, i64, String)> = BTreeSet::new();
        let revise = std::mem::take(&mut self.to_revise).into_iter();
        let (mine, others): (BTreeSet<_>, BTreeSet<_>) = revise.partition(|(model, ..)| model == name);
        self.to_revise = others;
        due.extend(mine.into_iter().map(|(_, version, window)| (window.end_ms, window.start_ms, version)));
        let passed: Vec<WindowSpec> =
            watched.specs.iter().copied().filter(|spec| spec.boundary_passed(before, watermark_ms)).collect();
        if !passed.is_empty() {
            for key in self.pane_keys(name).filter(|key| key.segment.is_all()) {
                for window in passed.iter().flat_map(|spec| spec.covering(key.window())) {
                    if window.end_ms <= watermark_ms && before.is_none_or(|before| window.end_ms > before) {
                        due.insert((window.end_ms, window.start_ms, key.version.clone()));
                    }
                }
            }
        }
        for (end_ms, start_ms, version) in due {
            self.close_window(watched, &version, Window { start_ms, end_ms }, effects);
        }
        if !passed.is_empty() {
            self.retire(watched, watermark_ms);
        }
    }

    fn close_performance(&mut self, watched: &WatchedModel, effects: &mut Vec<Effect>) {
        let (progress, model) = (&self.progress, &watched.model);
        let mut seams = Seams {
            references: &*self.references,
            judge: &mut *self.judge,
            has_gap: &|window| progress.has_gap(model, window) || progress.has_label_gap(&model.model, window),
            positions: &|| progress.positions(model),
        };
        self.performance.close(watched, &progress.clock(&model.model), &mut seams, effects);
    }

    fn pane_keys<'a>(&'a self, model: &'a str) -> impl Iterator<Item = &'a PaneKey> {
        pane_keys(&self.panes, model)
    }

    fn close_window(&mut self, watched: &WatchedModel, version: &str, window: Window, effects: &mut Vec<Effect>) {
        let name = &watched.model.model;
        let (merged, mut complete) = self.merge_panes(name, version, window, effects);
        let has_gap = self.progress.has_gap(&watched.model, window);
        complete &= !has_gap;
        let at_ms = self.progress.at_ms;
        let progress = self.progress.models.entry(name.clone()).or_default();
        let revision = progress.revision(version, window).map_or(0, |revision| revision + 1);
        let closed_ms = progress.set_revision(version, window, revision, at_ms);
        let expected_rows = progress.row_counts.expected(version, window);
        let rows = merged.iter().filter(|((segment, _), _)| segment.is_all()).map(|(_, pane)| pane.rows).sum();
        progress.row_counts.record(version, window, complete.then_some(rows));
        let mut results = Vec::new();
        for ((segment, reference_id), pane) in &merged {
            let Ok(reference) = self.reference(name, reference_id) else { continue };
            let mut quality = pane
                .quality
                .as_ref()
                .filter(|_| segment.is_all())
                .map(|quality| WindowQuality { expected_rows, ..WindowQuality::of(quality, closed_ms) });
            let mut features = BTreeMap::new();
            for feature in features_of(&reference, segment) {
                let empty = || Profile::new(&feature.layout);
                let profile = pane.profiles.get(&feature.name).map_or_else(|| Cow::Owned(empty()), Cow::Borrowed);
                let mut stats = evaluate_selected(feature, &profile, &watched.selection);
                if let (Some(of_window), Some(of_pane)) = (&mut quality, &pane.quality)
                    && quality::from_flaws(&mut stats, &profile, of_pane, &feature.name)
                {
                    of_window.schema_missing.push(feature.name.clone());
                }
                stats.importance = reference.importance_of(&watched.model, &feature.name);
                features.insert(feature.name.clone(), stats);
            }
            features.extend(sql::values(watched, segment, pane));
            results.push(WindowResult {
                model: name.clone(),
                version: version.to_string(),
                segment: segment.clone(),
                window,
                revision,
                reference: reference.name.clone(),
                reference_id: reference_id.clone(),
                rows: pane.rows,
                complete,
                baseline: None,
                quality,
                changes: Vec::new(),
                performance: None,
                features,
            });
        }
        for comparison in watched.comparisons.iter().filter(|comparison| comparison.tests(version)) {
            if comparison.spec.starts(window) {
                results.extend(self.compare(watched, comparison, &results, &merged, effects));
            }
        }
        if results.is_empty() {
            return;
        }
        self.changes.tell(&mut results);
        let positions = Arc::new(self.progress.positions(&watched.model));
        let version = version.to_string();
        let closed = ClosedWindow { model: name.clone(), version, window, revision, results, positions };
        let verdicts = self.judge.on_window(&closed, self.progress.at_ms);
        effects.extend(closed.results.into_iter().map(|result| Effect::Result(Box::new(result))));
        effects.extend(verdicts.into_iter().map(Effect::Verdict));
    }

    /// One closed window against a moving reference: a result for each one against the stored reference that the
    /// comparison looks at.
    fn compare(
        &self,
        watched: &WatchedModel,
        comparison: &Comparison,
        against_stored: &[WindowResult],
        merged: &BTreeMap<(Segment, String), Pane>,
        effects: &mut Vec<Effect>,
    ) -> Vec<WindowResult> {
        let has_gap = |window: Window| self.progress.has_gap(&watched.model, window);
        let held = Held {
            model: &watched.model.model,
            open: &self.panes,
            history: &self.history,
            pane_ms: watched.pane_ms(),
            has_gap: &has_gap,
        };
        let stored = || against_stored.iter().filter(|result| result.baseline.is_none());
        let ids: BTreeSet<&String> = stored().map(|result| &result.reference_id).collect();
        let mut results = Vec::new();
        for id in ids {
            let Ok(reference) = self.reference(&watched.model.model, id) else { continue };
            let mine: Vec<&WindowResult> = stored().filter(|result| result.reference_id == *id).collect();
            let Some(first) = mine.first() else { continue };
            let segments = mine.iter().map(|result| result.segment.clone()).collect();
            let baselines = held.baselines(comparison, &reference, &first.version, first.window, &segments);
            let baselines = match baselines {
                Ok(Some(baselines)) => baselines,
                Ok(None) => continue,
                Err(error) => {
                    effects.push(Effect::Damaged(error.to_string()));
                    continue;
                }
            };
            for result in mine {
                let pane = merged.get(&(result.segment.clone(), id.clone()));
                if let Some((baseline, pane)) = baselines.get(&result.segment).zip(pane) {
                    results.push(compared(watched, comparison, &reference, result, baseline, pane));
                }
            }
        }
        results
    }

    /// The panes of one window, put together by segment and reference; false if they do not tile it.
    fn merge_panes(
        &self,
        model: &str,
        version: &str,
        window: Window,
        effects: &mut Vec<Effect>,
    ) -> (BTreeMap<(Segment, String), Pane>, bool) {
        let mut merged: BTreeMap<(Segment, String), Pane> = BTreeMap::new();
        let mut complete = true;
        for key in self.pane_keys(model).filter(|key| key.version == version) {
            let pane = key.window();
            if pane.end_ms <= window.start_ms || pane.start_ms >= window.end_ms {
                continue;
            }
            if pane.start_ms < window.start_ms || pane.end_ms > window.end_ms {
                // A pane of another width, from before a change of the configuration.
                complete = false;
                continue;
            }
            let into = merged.entry((key.segment.clone(), key.reference_id.clone())).or_default();
            if let Some(pane) = self.panes.get(key)
                && let Err(error) = into.merge(pane)
            {
                complete = false;
                effects.push(Effect::Damaged(error.to_string()));
            }
        }
        let references: BTreeSet<&String> = merged.keys().map(|(_, reference_id)| reference_id).collect();
        // The reference was changed within this window: neither part stands for the whole.
        complete &= references.len() <= 1;
        (merged, complete)
    }

    fn retire(&mut self, watched: &WatchedModel, watermark_ms: i64) {
        let expired: Vec<PaneKey> = self
            .pane_keys(&watched.model.model)
            .filter(|key| expiry_ms(watched, key.window()) <= watermark_ms)
            .cloned()
            .collect();
        let lateness_ms = watched.model.windows.allowed_lateness.ms;
        for key in expired {
            self.settle(watched, key, watermark_ms);
        }
        let versions = pane_keys(&self.panes, &watched.model.model).map(|key| key.version.as_str()).collect();
        let past = |pane: Window| expiry_ms(watched, pane) <= watermark_ms;
        self.changes.retire(&watched.model.model, &versions, past);
        for key in outlived(&self.history, &watched.model.model, &watched.comparisons, lateness_ms, watermark_ms) {
            self.history.remove(&key);
            self.retired.insert(key);
        }
        if let Some(progress) = self.progress.models.get_mut(&watched.model.model) {
            progress.retire(watermark_ms, lateness_ms, watched.reach_ms().saturating_add(watched.label_delay_ms()));
        }
    }

    /// A pane that nothing can change any more: to history if a moving reference needs it, else forgotten.
    fn settle(&mut self, watched: &WatchedModel, key: PaneKey, watermark_ms: i64) {
        let changed = self.changed.remove(&key);
        let Some(mut pane) = self.panes.remove(&key) else { return };
        let lateness_ms = watched.model.windows.allowed_lateness.ms;
        let needed_until = needed_until_ms(&watched.comparisons, &key, lateness_ms);
        if needed_until.is_none_or(|until_ms| until_ms <= watermark_ms) {
            self.retired.insert(key);
            return;
        }
        sql::compact(watched, &mut pane);
        if changed {
            // Whole: rules may look at other features after a restart.
            self.unwritten.push(PaneChange { key: key.clone(), value: Some(pane.encode()) });
        }
        let kept = kept_features(&watched.comparisons);
        self.history.insert(key, pane.encode_some(|name| kept.contains(name)));
    }
}

/// The result of one segment's window against its baseline; without statistics where that is wanting.
fn compared(
    watched: &WatchedModel,
    comparison: &Comparison,
    reference: &Reference,
    against_stored: &WindowResult,
    merged: &Merged,
    window: &Pane,
) -> WindowResult {
    let split_by = against_stored.segment.parts();
    let mut features = BTreeMap::new();
    for (name, feature) in &reference.features {
        if merged.baseline.wanting.is_some()
            || !comparison.features.contains(name)
            || split_by.iter().any(|(column, _)| column == name)
        {
            continue;
        }
        let empty = || Profile::new(&feature.layout);
        let baseline = feature.with_profile(merged.pane.profiles.get(name).cloned().unwrap_or_else(empty));
        let profile = window.profiles.get(name).map_or_else(|| Cow::Owned(empty()), Cow::Borrowed);
        let mut stats = evaluate_selected(&baseline, &profile, &watched.selection);
        if let Some(quality) = window.quality.as_ref().filter(|_| against_stored.segment.is_all()) {
            quality::from_flaws(&mut stats, &profile, quality, name);
        }
        stats.importance = reference.importance_of(&watched.model, name);
        features.insert(name.clone(), stats);
    }
    features.extend(sql::compared(watched, comparison, merged, &against_stored.segment, window));
    let name = comparison.reference.to_string();
    let expected_rows = merged.baseline.expected_rows(against_stored.window, watched.pane_ms());
    let quality = against_stored.quality.clone().map(|quality| WindowQuality { expected_rows, ..quality });
    WindowResult {
        reference_id: format!("{}+{name}", reference.id),
        reference: name,
        baseline: Some(merged.baseline.clone()),
        quality,
        features,
        ..against_stored.clone()
    }
}

fn pane_keys<'a>(panes: &'a BTreeMap<PaneKey, Pane>, model: &'a str) -> impl Iterator<Item = &'a PaneKey> {
    let from = PaneKey {
        model: model.to_string(),
        version: String::new(),
        start_ms: i64::MIN,
        pane_ms: 0,
        reference_id: String::new(),
        segment: Segment::default(),
    };
    panes.range(from..).map(|(key, _)| key).take_while(move |key| key.model == model)
}

/// The latest end, at most `now_ms`, of a window that holds events.
fn last_window_end_ms(panes: &BTreeMap<PaneKey, Pane>, watched: &WatchedModel, now_ms: i64) -> Option<i64> {
    let windows = pane_keys(panes, &watched.model.model)
        .flat_map(|key| watched.specs.iter().flat_map(move |spec| spec.covering(key.window())));
    windows.map(|window| window.end_ms).filter(|end_ms| *end_ms <= now_ms).max()
}

/// What a segment is compared with: its own rows of the reference. The segment column itself is constant there, and
/// a segment that the reference never saw has nothing to be compared with.
fn features_of<'a>(reference: &'a Reference, segment: &Segment) -> Vec<&'a FeatureReference> {
    if segment.is_all() {
        return reference.features.values().collect();
    }
    let key = (segment.column.clone(), segment.value.clone());
    reference.segments.get(&key).map(|features| features.values().collect()).unwrap_or_default()
}

/// Watermark from which on nothing can change any window that covers this pane.
fn expiry_ms(watched: &WatchedModel, pane: Window) -> i64 {
    let last_end_ms = watched.specs.iter().map(|spec| spec.last_end_ms(pane.start_ms)).max().unwrap_or(pane.end_ms);
    last_end_ms.saturating_add(watched.model.windows.allowed_lateness.ms)
}
