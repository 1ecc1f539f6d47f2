//! Findings on performance in sentences: the realised figure and the estimate, and what they are compared with.

use super::compile::DEFAULT_REFERENCE;
use super::evaluate::Decider;
use super::performance::{PerformanceFinding, SegmentGap};
use super::reason::{grouped, number, percent};
use crate::stats::metric::MetricValue;

/// "ROC AUC 0.874 (95% 0.861 to 0.887), 0.052 below the baseline 0.926, labels for 83% of 4 812 predictions".
pub fn measured(decider: &Decider, finding: &PerformanceFinding, reference: &str) -> String {
    let label = decider.metric.map_or(decider.name.as_str(), |metric| metric.label);
    let share = decider.metric.is_some_and(|metric| metric.share);
    let shown = |value: &MetricValue| match value.value {
        Some(value) if share => percent(value),
        Some(value) => figure(value),
        None => "undefined".into(),
    };
    // `recall@0.7`: the label alone would be that of another threshold.
    let place = decider.name.trim_end_matches(')').split_once('@').map_or(String::new(), |(_, at)| format!(" at {at}"));
    let mut sentence = match &finding.gap {
        Some(gap) => {
            let value = with_interval(&decider.value, &shown, "95% ");
            format!("{label}{place} differs by {value} between {}", between(gap, &shown))
        }
        None => format!("{label}{place} {}", with_interval(&decider.value, &shown, "95% ")),
    };
    if let Some((baseline, difference)) =
        finding.baseline.as_ref().zip(finding.difference.and_then(|found| found.value))
    {
        let side = if difference < 0.0 { "below" } else { "above" };
        let whose = if reference == DEFAULT_REFERENCE { String::new() } else { format!(" of {reference}") };
        sentence.push_str(&format!(", {} {side} the baseline {}{whose}", figure(difference.abs()), shown(baseline)));
    }
    if let Some(threshold) = decider.threshold {
        let limit = number(threshold.value);
        sentence
            .push_str(&format!(", threshold {limit} at a false-alarm rate of {} a window", percent(threshold.rate)));
    }
    // Every prediction has a part in an estimate, whether or not its label is known.
    let (coverage, predictions) = (percent(finding.label_coverage), grouped(finding.predictions));
    if !decider.name.starts_with("label_coverage") {
        sentence.push_str(&format!(", labels for {coverage} of {predictions} predictions"));
    }
    sentence
}

/// What is said last: how the estimate and the realised figure stand to each other.
pub fn estimate(finding: &PerformanceFinding) -> Option<String> {
    let shown = |value: &MetricValue| value.value.map_or_else(|| "undefined".into(), figure);
    if finding.estimated {
        return Some("an estimate from the scores, until the labels are known".into());
    }
    let told = finding.estimate.as_ref()?;
    let verdict = match finding.confirmed {
        Some(true) => ": the labels confirm it",
        Some(false) => ": the labels do not confirm it",
        None => "",
    };
    Some(format!("estimated before labels: {}{verdict}", with_interval(told, &shown, "")))
}

/// "0.874 (95% 0.861 to 0.887)".
fn with_interval(value: &MetricValue, shown: &dyn Fn(&MetricValue) -> String, level: &str) -> String {
    match value.interval {
        Some([low, high]) => {
            let ends = [low, high].map(|end| shown(&MetricValue::exact(end)));
            format!("{} ({level}{} to {})", shown(value), ends[0], ends[1])
        }
        None => shown(value),
    }
}

/// "country=IT (0.912) and country=DE (0.784)".
fn between(gap: &SegmentGap, shown: &dyn Fn(&MetricValue) -> String) -> String {
    let [highest, lowest] =
        [&gap.highest, &gap.lowest].map(|group| format!("{} ({})", group.segment, shown(&group.value)));
    format!("{highest} and {lowest}")
}

/// Three decimals, which part figures of performance; larger numbers as other numbers are.
pub fn figure(value: f64) -> String {
    match value.abs() {
        size if size == 0.0 || (0.0005..10.0).contains(&size) => format!("{value:.3}"),
        _ => number(value),
    }
}
