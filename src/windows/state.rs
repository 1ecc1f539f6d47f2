//! The pure machine of the windows role: `(state, flush) -> effects`.
//!
//! It holds the panes of one partition of `partials`, closes windows as the watermark passes their end, revises
//! them while late events are allowed, and asks the judge about each. Everything it does follows from the
//! flushes alone, so any replica and any replay derives the same results.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use crate::config::model::Model;
use crate::ingest::clocks::Continuity;
use crate::ingest::partial::{FlushHeader, PartialRow};
use crate::ingest::signals::SignalRun;
use crate::reference::Reference;
use crate::stats::profile::Profile;
use crate::stats::quality::QualityProfile;
use crate::stats::sql::is_state_name;
use crate::stats::sql::state::SqlState;

use super::baseline::kept_features;
use super::changes::{Changes, ChangesKey, Placing, StoredChange};
use super::history::History;
use super::judge::{Judge, ModelActivity, Verdict};
use super::pane::{Pane, PaneError, PaneKey};
use super::performance::{ERROR_SIGNAL, PerformanceChange, PerformanceKey, PerformanceWindows};
use super::progress::Progress;
use super::result::{PERFORMANCE_FEATURE, Segment, Window, WindowResult};
pub use super::spec::{WindowSpec, pane_width_ms};
pub use super::watched::WatchedModel;

mod closing;

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

/// Watermark from which on nothing can change any window that covers this pane.
fn expiry_ms(watched: &WatchedModel, pane: Window) -> i64 {
    let last_end_ms = watched.specs.iter().map(|spec| spec.last_end_ms(pane.start_ms)).max().unwrap_or(pane.end_ms);
    last_end_ms.saturating_add(watched.model.windows.allowed_lateness.ms)
}
