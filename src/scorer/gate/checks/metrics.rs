//! Metrics over all rows: limits, and the difference from the other version.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::{check, number, passes_if};
use crate::config::gate::{MetricGate, higher_is_better};
use crate::scorer::gate::measurements::{Compared, Difference, Measurements};
use crate::scorer::gate::verdict::{Check, Outcome, Stage};

/// What is asked of one metric over all rows.
pub fn checks(measurements: &Measurements, name: &str, gate: &MetricGate) -> Vec<Check> {
    let found = measurements.metrics.get(name).copied().unwrap_or_default();
    let mut checks = Vec::new();
    for (limit, is_least, word) in [(gate.min, true, "at least"), (gate.max, false, "at most")] {
        let Some(limit) = limit else { continue };
        let outcome = match (found.candidate, found.candidate_interval) {
            (Some(_), Some([low, high])) => beyond(low, high, limit, is_least),
            // A figure without interval is taken as it is.
            (Some(value), None) => passes_if(if is_least { value >= limit } else { value <= limit }),
            (None, _) => Outcome::Undecided,
        };
        checks.push(check(Stage::Model, name, outcome, figure(&found), format!("{word} {}", number(limit))));
    }
    if let (Some(margin), Some(against)) = (gate.margin, &measurements.against) {
        let margin = margin.of(found.against.unwrap_or(0.0));
        let outcome = found.difference.map_or(Outcome::Undecided, |difference| {
            let [low, high] = interval(&difference, 0.05);
            match higher_is_better(name) {
                Some(false) => beyond(low, high, margin, false),
                _ => beyond(low, high, -margin, true),
            }
        });
        let wanted = format!("at most {} worse than version {}", number(margin), against.version);
        checks.push(check(Stage::Model, format!("{name} against production"), outcome, compared(&found, 0.05), wanted));
    }
    checks
}

/// An interval against a limit.
fn beyond(low: f64, high: f64, limit: f64, is_least: bool) -> Outcome {
    let (shown, denied) = if is_least { (low >= limit, high < limit) } else { (high <= limit, low > limit) };
    match (shown, denied) {
        (true, _) => Outcome::Pass,
        (_, true) => Outcome::Refused,
        _ => Outcome::Undecided,
    }
}

/// Two-sided confidence interval of a difference: with probability `level` it misses.
pub fn interval(difference: &Difference, level: f64) -> [f64; 2] {
    let freedom = difference.groups.saturating_sub(1).max(1) as f64;
    let reach = StudentsT::new(0.0, 1.0, freedom).map_or(f64::INFINITY, |law| law.inverse_cdf(1.0 - level / 2.0));
    // 0 times infinity: equal figures are equal however unsure.
    let half = if difference.standard_error == 0.0 { 0.0 } else { reach * difference.standard_error };
    [difference.value - half, difference.value + half]
}

fn figure(found: &Compared) -> String {
    match (found.candidate, found.candidate_interval) {
        (Some(value), Some([low, high])) => format!("{} [{}, {}]", number(value), number(low), number(high)),
        (Some(value), None) => number(value),
        (None, _) => "no value".into(),
    }
}

pub(super) fn compared(found: &Compared, level: f64) -> String {
    let (Some(candidate), Some(against), Some(difference)) = (found.candidate, found.against, found.difference) else {
        return "no value".into();
    };
    let [low, high] = interval(&difference, level);
    let signed = |value: f64| if value > 0.0 { format!("+{}", number(value)) } else { number(value) };
    format!(
        "{} against {}, {} [{}, {}]",
        number(candidate),
        number(against),
        signed(difference.value),
        signed(low),
        signed(high)
    )
}
