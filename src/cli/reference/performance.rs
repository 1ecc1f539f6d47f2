//! A reference's performance, for people and as JSON.

use serde_json::json;

use crate::reference::performance::diff::{MetricDiff, PerformanceDiff};
use crate::reference::performance::{Expectation, PerformanceReference};
use crate::rules::reason::number;
use crate::stats::metric::MetricValue;

pub fn text(performance: &PerformanceReference) -> String {
    let profile = &performance.profile;
    let mut out = format!("performance of {} labelled rows", profile.labelled());
    if profile.incomplete() > 0 {
        out.push_str(&format!(", {} of them without what a metric needs", profile.incomplete()));
    }
    out.push('\n');
    let metrics = performance.layout().map(|layout| profile.metrics(&layout)).unwrap_or_default();
    for (name, metric) in &metrics {
        out.push_str(&format!("  {name:<24} {}\n", with_interval(metric)));
    }
    let expected = match &performance.expectation {
        Expectation::None => "nothing: there is no score, or labels of one kind only, or too few".to_string(),
        Expectation::Binary(curve) => {
            format!("the calibrated score, a curve of {} level stretches from {} rows", curve.blocks(), curve.rows())
        }
        Expectation::Multiclass(curves) => {
            format!("the calibrated scores, a curve for each of {} classes", curves.len())
        }
        Expectation::Regression(losses) => {
            let held_out = losses.held_out();
            format!(
                "the expected error, from {} trees; on {} rows held out the mean absolute error was {} and {} was \
                 expected, the two correlate by {:.2}",
                losses.trees(),
                held_out.rows,
                number(held_out.mean[0]),
                number(held_out.mean_expected[0]),
                held_out.correlation
            )
        }
    };
    out.push_str(&format!("  without labels by        {expected}\n"));
    out
}

fn with_interval(metric: &MetricValue) -> String {
    let value = metric.value.map_or("-".into(), number);
    match metric.interval {
        Some([least, most]) => format!("{value} [{}, {}]", number(least), number(most)),
        None => value,
    }
}

pub fn json(performance: &PerformanceReference) -> serde_json::Value {
    let layout = performance.layout();
    let metrics = layout.as_ref().map(|layout| performance.profile.metrics(layout)).unwrap_or_default();
    let segments = performance.segments.iter().map(|((column, value), profile)| {
        let metrics = layout.as_ref().map(|layout| profile.metrics(layout)).unwrap_or_default();
        json!({"column": column, "value": value, "labelled": profile.labelled(), "metrics": metrics})
    });
    let expectation = match &performance.expectation {
        Expectation::None => json!(null),
        Expectation::Binary(curve) => json!({"calibration": {"rows": curve.rows(), "blocks": curve.blocks()}}),
        Expectation::Multiclass(curves) => {
            let curves = curves.iter().map(|curve| json!({"rows": curve.rows(), "blocks": curve.blocks()}));
            json!({"calibrations": curves.collect::<Vec<_>>()})
        }
        Expectation::Regression(losses) => {
            json!({"expected_loss": {"trees": losses.trees(), "held_out": losses.held_out()}})
        }
    };
    json!({
        "classes": performance.classes,
        "labelled": performance.profile.labelled(),
        "incomplete": performance.profile.incomplete(),
        "metrics": metrics,
        "segments": segments.collect::<Vec<_>>(),
        "expectation": expectation,
    })
}

pub fn diff_text(diff: &PerformanceDiff) -> String {
    let mut out = format!("\nperformance  {} -> {} labelled rows\n", diff.labelled.0, diff.labelled.1);
    for (name, MetricDiff { before, after, difference }) in &diff.metrics {
        let value = |metric: &MetricValue| metric.value.map_or("-".into(), number);
        let difference = difference
            .map_or(String::new(), |[least, most]| format!("  difference {} to {}", number(least), number(most)));
        out.push_str(&format!("  {name:<24} {} -> {}{difference}\n", value(before), value(after)));
    }
    out
}
