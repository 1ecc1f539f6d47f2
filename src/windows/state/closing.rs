//! Windows close as the watermark passes their end: panes are put together, compared, judged, and retired once nothing can
//! change them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::reference::Reference;
use crate::stats::evaluate::evaluate_selected;
use crate::stats::profile::{FeatureReference, Profile};
use crate::stats::quality::{self, WindowQuality};

use super::super::baseline::{Comparison, Held, Merged, kept_features, needed_until_ms, outlived};
use super::super::pane::{Pane, PaneKey};
use super::super::performance::Seams;
use super::super::result::{ClosedWindow, Segment, Window, WindowResult};
use super::super::spec::WindowSpec;
use super::super::sql;
use super::super::watched::WatchedModel;
use super::{Effect, PaneChange, PartitionState, expiry_ms, pane_keys};

impl PartitionState {
    pub(super) fn close_windows(&mut self, watched: &WatchedModel, effects: &mut Vec<Effect>) {
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

    pub(super) fn close_performance(&mut self, watched: &WatchedModel, effects: &mut Vec<Effect>) {
        let (progress, model) = (&self.progress, &watched.model);
        let mut seams = Seams {
            references: &*self.references,
            judge: &mut *self.judge,
            has_gap: &|window| progress.has_gap(model, window) || progress.has_label_gap(&model.model, window),
            positions: &|| progress.positions(model),
        };
        self.performance.close(watched, &progress.clock(&model.model), &mut seams, effects);
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

    fn pane_keys<'a>(&'a self, model: &'a str) -> impl Iterator<Item = &'a PaneKey> {
        pane_keys(&self.panes, model)
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
