//! Windows compared with another version's: its performance in the same time is the baseline.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::config::glob;
use crate::stats::performance::profile::PerformanceProfile;

use super::super::baseline::{Baseline, Comparison};
use super::super::result::{PERFORMANCE_FEATURE, Window, WindowResult};
use super::super::watched::WatchedModel;
use super::evaluate::{self, Opened};
use super::panes::Panes;

/// For each result against the stored reference that the comparison looks at, one against the other version.
pub(super) fn compared(
    watched: &WatchedModel,
    comparison: &Comparison,
    panes: &Panes,
    against_stored: &[WindowResult],
    opened: &dyn Fn(&str) -> Option<Arc<Opened>>,
) -> Vec<WindowResult> {
    let stored = || against_stored.iter().filter(|result| result.baseline.is_none());
    let Some(first) = stored().next() else { return Vec::new() };
    if !comparison.tests(&first.version) || !comparison.spec.starts(first.window) {
        return Vec::new();
    }
    let versions = panes.versions(&first.model).into_iter();
    let versions: Vec<&str> =
        versions.filter(|version| comparison.reference.takes_version(&first.version, version)).collect();
    let wanted = comparison.reference.version.as_deref().unwrap_or_default();
    if versions.is_empty() && glob::matches(wanted, &first.version) {
        // It is itself the one that others are compared with.
        return Vec::new();
    }
    let mut results = Vec::new();
    for result in stored().filter(|result| comparison.looks_at(&result.segment)) {
        let Some(opened) = opened(&result.reference_id) else { continue };
        let (mut other, profile) = baseline(watched, comparison, panes, &versions, result, &opened);
        if versions.is_empty() {
            other.wanting = Some(format!("no other version matches `{wanted}`"));
        } else if profile.predictions() == 0 {
            other.wanting = Some("the other version has no predictions in this time".to_string());
        }
        results.push(against(watched, comparison, result, &opened, other, &profile));
    }
    results
}

/// What the versions have of the time that the result is compared with.
fn baseline(
    watched: &WatchedModel,
    comparison: &Comparison,
    panes: &Panes,
    versions: &[&str],
    result: &WindowResult,
    opened: &Opened,
) -> (Baseline, PerformanceProfile) {
    let stretches = comparison.reference.stretches(result.window.start_ms..result.window.end_ms);
    let mut sum = PerformanceProfile::new(&opened.layout);
    let mut starts: BTreeSet<i64> = BTreeSet::new();
    for stretch in &stretches {
        let window = Window { start_ms: stretch.start, end_ms: stretch.end };
        for version in versions {
            let of_window = panes.of_window(&result.model, version, window);
            for key in of_window.filter(|key| {
                key.reference_id == result.reference_id
                    && key.segment == result.segment
                    && lies_in(key.window(), window)
            }) {
                let mut merged = BTreeMap::new();
                if panes.add_to(key, window, &opened.layout, &mut merged).is_ok() {
                    merged.values().for_each(|merged| sum.merge(&merged.pane.profile));
                    starts.insert(key.start_ms);
                }
            }
        }
    }
    let length_ms: i64 = stretches.iter().map(|stretch| stretch.end - stretch.start).sum();
    let reach = Window {
        start_ms: stretches.first().map_or(result.window.start_ms, |stretch| stretch.start),
        end_ms: stretches.last().map_or(result.window.start_ms, |stretch| stretch.end),
    };
    let baseline = Baseline {
        reach,
        rows: sum.predictions(),
        panes: starts.len() as u32,
        panes_expected: u32::try_from(length_ms / watched.pane_ms()).unwrap_or(u32::MAX),
        wanting: None,
    };
    (baseline, sum)
}

fn lies_in(pane: Window, window: Window) -> bool {
    pane.start_ms >= window.start_ms && pane.end_ms <= window.end_ms
}

/// The result once more, with the other version's figures in the place of the reference's.
fn against(
    watched: &WatchedModel,
    comparison: &Comparison,
    result: &WindowResult,
    opened: &Opened,
    baseline: Baseline,
    other: &PerformanceProfile,
) -> WindowResult {
    let name = comparison.reference.to_string();
    let mut compared = result.clone();
    if let Some(stats) = compared.features.get_mut(PERFORMANCE_FEATURE) {
        stats.n_reference = other.labelled();
    }
    if let Some(performance) = &mut compared.performance {
        performance.baseline = evaluate::metrics(watched, opened, &result.segment, other);
    }
    WindowResult {
        reference_id: format!("{}+{name}", result.reference_id),
        reference: name,
        baseline: Some(baseline),
        ..compared
    }
}
