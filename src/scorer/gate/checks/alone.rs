//! A version that has no other to be compared with: the first one. It passes by what is asked of any version, so
//! something must be.

use super::{check, number};
use crate::config::gate::{GateFile, MetricGate};
use crate::scorer::gate::measurements::Measurements;
use crate::scorer::gate::verdict::{Check, Outcome, Stage};

pub fn checks(
    measurements: &Measurements,
    gate: &GateFile,
    metrics: &[(&str, &MetricGate)],
    notes: &mut Vec<String>,
) -> Vec<Check> {
    if measurements.against.is_some() {
        return Vec::new();
    }
    let why = match measurements.against_asked.as_str() {
        "none" => "no version was to be compared with".to_string(),
        role => format!("no version is {}", if role == "production" { "in production" } else { role }),
    };
    let limits = limits(metrics);
    let applied = if limits.is_empty() { "no limit of a metric".into() } else { limits.join(", ") };
    notes.push(format!(
        "nothing was compared with: {why}; margins, segments and ratios were not looked at. Judged by: {applied}"
    ));
    let mut checks = Vec::new();
    if gate.require.comparison {
        let wanted = "a version to compare with (`require: {comparison: true}`)".to_string();
        checks.push(check(Stage::Model, "comparison", Outcome::Refused, why, wanted));
    }
    if gate.require.limits {
        let outcome = if limits.is_empty() { Outcome::Undecided } else { Outcome::Pass };
        let wanted = "a `min` or `max` of some metric, as there is nothing to compare with".to_string();
        checks.push(check(Stage::Model, "limits", outcome, applied, wanted));
    }
    checks
}

/// `roc_auc at least 0.7`.
fn limits(metrics: &[(&str, &MetricGate)]) -> Vec<String> {
    let mut limits = Vec::new();
    for (name, metric) in metrics {
        limits.extend(metric.min.map(|least| format!("{name} at least {}", number(least))));
        limits.extend(metric.max.map(|most| format!("{name} at most {}", number(most))));
    }
    limits
}
