//! Segments: whether any of them is surely harmed.

use super::metrics::{compared, interval};
use super::{check, number, passes_if};
use crate::config::gate::{GateFile, MetricGate, higher_is_better};
use crate::scorer::gate::measurements::Measurements;
use crate::scorer::gate::verdict::{Check, Stage};

/// Whether a segment is surely worse than the margin allows.
pub fn checks(
    measurements: &Measurements,
    gate: &GateFile,
    metrics: &[(&str, &MetricGate)],
    notes: &mut Vec<String>,
) -> Vec<Check> {
    let judged: Vec<_> = metrics.iter().filter_map(|(name, metric)| Some((*name, metric.margin?))).collect();
    if measurements.against.is_none() || judged.is_empty() {
        return Vec::new();
    }
    let (large, small): (Vec<_>, Vec<_>) =
        measurements.slices.iter().partition(|slice| slice.labelled >= gate.slices.min_rows);
    if !small.is_empty() {
        let names: Vec<String> = small.iter().map(|slice| format!("{} ({})", slice.name, slice.labelled)).collect();
        let least = gate.slices.min_rows;
        notes.push(format!("not judged, as they have fewer than {least} labelled rows: {}", names.join(", ")));
    }
    let questions = (large.len() * judged.len()).max(1) as f64;
    let mut checks = Vec::new();
    for slice in large {
        for (name, margin) in &judged {
            let found = slice.metrics.get(*name).copied().unwrap_or_default();
            // A segment of one class has no such figure: there is nothing to be worse at.
            let (Some(difference), Some(against)) = (found.difference, found.against) else { continue };
            let margin = gate.slices.margin.unwrap_or(*margin).of(against);
            // One side of the interval is asked about.
            let level = 2.0 * 0.05 / questions;
            let [low, high] = interval(&difference, level);
            let harmed = match higher_is_better(name) {
                Some(false) => low > margin,
                _ => high < -margin,
            };
            let wanted = format!("not surely more than {} worse", number(margin));
            let name = format!("{name} where {}", slice.name);
            checks.push(check(Stage::Model, name, passes_if(!harmed), compared(&found, level), wanted));
        }
    }
    checks
}
