//! The report for programs: one document, or one value a line.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use super::changes::{RowEvent, SignalChanges};
use super::joint::JOINT_FEATURE;
use super::performance::PERFORMANCE_FEATURE;
use super::verdict::Cause;
use super::windows::instant;
use super::{Report, Source};
use crate::config::model::Kind;
use crate::stats::metric::BinShare;
use crate::stats::rows::numeric::Metrics;

/// Version of the document's shape.
const FORMAT_VERSION: u32 = 1;

#[derive(Serialize)]
struct Line<'a> {
    window: usize,
    feature: &'a str,
    metric: &'a str,
    value: Option<f64>,
    /// Largest distance to the value of the rows; from profiles only.
    #[serde(skip_serializing_if = "Option::is_none")]
    bound: Option<f64>,
}

/// A change: `value` is the row at which it was seen, `window` the one that the row is in.
#[derive(Serialize)]
struct ChangeLine<'a> {
    window: Option<usize>,
    feature: &'a str,
    metric: &'static str,
    value: usize,
    detector: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_time: Option<String>,
}

/// Window by window, feature by feature; then changes, signal by signal.
pub fn write_lines(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let no_bounds = BTreeMap::new();
    for window in 0..report.windows.len() {
        for feature in &report.features {
            let values = &feature.windows[window];
            write_metrics(out, window, &feature.name, &values.metrics, &values.bounds)?;
        }
        if let Some(metrics) = report.joint.get(window) {
            write_metrics(out, window, JOINT_FEATURE, metrics, &no_bounds)?;
        }
        if let Some(performance) = &report.performance {
            write_metrics(out, window, PERFORMANCE_FEATURE, &performance.windows[window], &no_bounds)?;
        }
    }
    for found in &report.changes {
        for (metric, events) in [("change_point", &found.changes), ("change_warning", &found.warnings)] {
            for event in events {
                let line = ChangeLine {
                    window: event.window,
                    feature: &found.signal,
                    metric,
                    value: event.row,
                    detector: found.method.to_string(),
                    event_time: event.event_time_ms.map(instant),
                };
                serde_json::to_writer(&mut *out, &line)?;
                out.write_all(b"\n")?;
            }
        }
    }
    Ok(())
}

fn write_metrics(
    out: &mut impl Write,
    window: usize,
    feature: &str,
    metrics: &Metrics,
    bounds: &BTreeMap<&'static str, f64>,
) -> io::Result<()> {
    for (metric, value) in metrics {
        let bound = bounds.get(metric).copied();
        serde_json::to_writer(&mut *out, &Line { window, feature, metric, value: *value, bound })?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    reference: File,
    current: File,
    windows_by: String,
    thresholds: ThresholdsOut,
    drifted: bool,
    windows: Vec<WindowOut<'a>>,
    /// Of the reference's own rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    reference_performance: Option<BTreeMap<&'a str, Option<f64>>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changes: Vec<ChangesOut<'a>>,
    notes: &'a [String],
}

#[derive(Serialize)]
struct ChangesOut<'a> {
    signal: &'a str,
    detector: String,
    values: usize,
    changes: Vec<EventOut>,
    warnings: Vec<EventOut>,
}

#[derive(Serialize)]
struct EventOut {
    /// The first row of the file is 0.
    row: usize,
    window: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_time: Option<String>,
}

impl From<&RowEvent> for EventOut {
    fn from(event: &RowEvent) -> Self {
        Self { row: event.row, window: event.window, event_time: event.event_time_ms.map(instant) }
    }
}

#[derive(Serialize)]
struct File {
    path: String,
    rows: usize,
}

impl From<&Source> for File {
    fn from(source: &Source) -> Self {
        Self { path: source.path.display().to_string(), rows: source.rows }
    }
}

#[derive(Serialize)]
struct ThresholdsOut {
    psi_above: f64,
    significance: f64,
    min_samples: u64,
}

#[derive(Serialize)]
struct WindowOut<'a> {
    index: usize,
    label: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    rows: usize,
    /// Worst first.
    drifted: Vec<DriftOut<'a>>,
    too_small: Vec<&'a str>,
    tests: usize,
    features: BTreeMap<&'a str, FeatureOut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    joint: Option<BTreeMap<&'a str, Option<f64>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    performance: Option<BTreeMap<&'a str, Option<f64>>>,
}

#[derive(Serialize)]
struct DriftOut<'a> {
    feature: &'a str,
    cause: &'static str,
    psi: f64,
    adjusted_p: f64,
    what_moved: String,
}

#[derive(Serialize)]
struct FeatureOut<'a> {
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    adjusted_p: Option<f64>,
    metrics: BTreeMap<&'a str, Option<f64>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    bounds: &'a BTreeMap<&'static str, f64>,
    bins: &'a [BinShare],
}

/// Everything in one JSON document.
pub fn write_document(out: &mut impl Write, report: &Report) -> Result<(), String> {
    let document = Document {
        version: FORMAT_VERSION,
        reference: (&report.reference).into(),
        current: (&report.current).into(),
        windows_by: report.spec.to_string(),
        thresholds: ThresholdsOut {
            psi_above: report.thresholds.psi_above,
            significance: report.thresholds.significance,
            min_samples: report.thresholds.min_samples,
        },
        drifted: report.verdicts.iter().any(|verdict| verdict.has_drift()),
        windows: (0..report.windows.len()).map(|index| window(report, index)).collect(),
        reference_performance: report.performance.as_ref().map(|performance| by_name(&performance.reference)),
        changes: report.changes.iter().map(changes).collect(),
        notes: &report.notes,
    };
    serde_json::to_writer_pretty(&mut *out, &document).map_err(|error| error.to_string())?;
    out.write_all(b"\n").map_err(|error| error.to_string())
}

fn by_name(metrics: &Metrics) -> BTreeMap<&str, Option<f64>> {
    metrics.iter().copied().collect()
}

fn changes(found: &SignalChanges) -> ChangesOut<'_> {
    ChangesOut {
        signal: &found.signal,
        detector: found.method.to_string(),
        values: found.values,
        changes: found.changes.iter().map(EventOut::from).collect(),
        warnings: found.warnings.iter().map(EventOut::from).collect(),
    }
}

fn window(report: &Report, index: usize) -> WindowOut<'_> {
    let (rows, verdict) = (&report.windows[index], &report.verdicts[index]);
    let name = |position: usize| report.features[position].name.as_str();
    let drifted = verdict.drifted.iter().map(|drift| DriftOut {
        feature: name(drift.feature),
        cause: match drift.cause {
            Cause::Distribution => "distribution",
            Cause::Missing => "missing",
        },
        psi: drift.psi,
        adjusted_p: drift.adjusted_p,
        what_moved: super::explain::what_moved(&report.features[drift.feature], index, drift.cause),
    });
    let features = report.features.iter().zip(&verdict.adjusted).map(|(feature, adjusted_p)| {
        let values = &feature.windows[index];
        let metrics = values.metrics.iter().copied().collect();
        let (bounds, bins) = (&values.bounds, values.bins.as_slice());
        (feature.name.as_str(), FeatureOut { kind: feature.kind, adjusted_p: *adjusted_p, metrics, bounds, bins })
    });
    WindowOut {
        index,
        label: &rows.label,
        start_ms: rows.time_ms.map(|(start, _)| start),
        end_ms: rows.time_ms.map(|(_, end)| end),
        key: rows.key.as_deref(),
        rows: rows.rows,
        drifted: drifted.collect(),
        too_small: verdict.too_small.iter().map(|position| name(*position)).collect(),
        tests: verdict.tests,
        features: features.collect(),
        joint: report.joint.get(index).map(by_name),
        performance: report.performance.as_ref().map(|performance| by_name(&performance.windows[index])),
    }
}
