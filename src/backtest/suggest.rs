//! Thresholds under which at most so many episodes would have begun.
//!
//! A rule is asked again about the windows that have closed, with other thresholds of its own metric: no row is read for
//! it, and persistence, hysteresis, significance and grouping count as they do in production. Candidates are the values
//! that the metric took in those windows.

use std::sync::Arc;

use serde::Serialize;

use super::trail::Trail;
use crate::config::model::Model;
use crate::config::rules::{RuleFile, Severity};
use crate::config::units::Span;
use crate::rules::compile::Rule;
use crate::rules::episode::EpisodeStatus;
use crate::rules::expression::{Comparison, Condition, Expression, Quantity};
use crate::rules::{Effect, RuleSet, RuleStates};
use crate::windows::result::ClosedWindow;

/// Candidates that are tried at most for one threshold.
const MOST_CANDIDATES: usize = 200;

/// `3/week`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AlertBudget {
    pub alerts: f64,
    pub per_ms: i64,
}

impl AlertBudget {
    /// `3/week`, `1/day`, `10/30d`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no number of alerts in a time; write `3/week`, `1/day` or `10/30d`");
        let (alerts, per) = text.split_once('/').ok_or_else(wrong)?;
        let alerts: f64 = alerts.trim().parse().map_err(|_| wrong())?;
        let per_ms = match per.trim() {
            "hour" => 3_600_000,
            "day" => 86_400_000,
            "week" => 7 * 86_400_000,
            "month" => 30 * 86_400_000,
            span => Span::parse(span).map_err(|_| wrong())?.ms,
        };
        if !alerts.is_finite() || alerts < 0.0 || per_ms <= 0 {
            return Err(wrong());
        }
        Ok(Self { alerts, per_ms })
    }

    /// Whole alerts in a stretch of time.
    pub fn within(&self, span_ms: i64) -> u64 {
        (self.alerts * span_ms.max(0) as f64 / self.per_ms as f64).floor() as u64
    }
}

/// What is proposed for one threshold of one rule.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Suggestion {
    pub rule: String,
    pub severity: Severity,
    /// As it is: `psi > 0.1`.
    pub now: String,
    /// Episodes that reached this severity with it.
    pub episodes_now: u64,
    /// Instead; absent where no value of the metric would do, or why nothing can be said stands in `note`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instead: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub episodes_then: Option<u64>,
    /// Episodes that are allowed over this history.
    pub allowed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What one threshold compares: `metric > level`.
struct Threshold<'a> {
    metric: &'a str,
    comparison: Comparison,
}

/// `files` are those that the trail's rules were compiled from; the trail must hold its windows.
pub fn suggest(files: &[RuleFile], models: &[Arc<Model>], trail: &Trail, budget: AlertBudget) -> Vec<Suggestion> {
    let (first, last) =
        trail.spans.values().fold((i64::MAX, i64::MIN), |(first, last), span| (first.min(span.0), last.max(span.1)));
    let allowed = budget.within(last.saturating_sub(first));
    let mut suggestions = Vec::new();
    for file in files {
        for index in 0..file.rules.len() {
            let mut alone = file.clone();
            alone.rules = vec![file.rules[index].clone()];
            // Receivers and actions are shared by all files.
            for other in files {
                alone.receivers.extend(other.receivers.clone());
                alone.actions.extend(other.actions.clone());
            }
            let Some(set) = compiled(&alone, models) else { continue };
            let Some(rule) = set.rules().first() else { continue };
            for (severity, expression) in [(Severity::Warn, &rule.warn), (Severity::Critical, &rule.critical)] {
                if let Some(expression) = expression {
                    suggestions.push(of_threshold(&alone, models, rule, (severity, expression), trail, allowed));
                }
            }
        }
    }
    suggestions
}

/// A rule by itself: whom it inhibits, what it asks for and where it came from do not count.
fn compiled(file: &RuleFile, models: &[Arc<Model>]) -> Option<RuleSet> {
    let mut file = file.clone();
    file.inhibit.clear();
    for rule in &mut file.rules {
        rule.actions.clear();
    }
    RuleSet::compile(&[("suggestion".into(), file)], models).ok()
}

fn of_threshold(
    file: &RuleFile,
    models: &[Arc<Model>],
    rule: &Rule,
    (severity, expression): (Severity, &Expression),
    trail: &Trail,
    allowed: u64,
) -> Suggestion {
    let count = |file: &RuleFile| compiled(file, models).map(|set| episodes(&set, &trail.windows, severity));
    let mut suggestion = Suggestion {
        rule: rule.name.clone(),
        severity,
        now: expression.text.clone(),
        episodes_now: count(file).unwrap_or(0),
        instead: None,
        episodes_then: None,
        allowed,
        note: None,
    };
    if suggestion.episodes_now <= allowed {
        suggestion.note = Some("as it is".into());
        return suggestion;
    }
    let Some(threshold) = plain(&expression.condition) else {
        suggestion.note = Some("not a plain comparison of a metric with a number".into());
        return suggestion;
    };
    // From the least strict one: the first that keeps to the budget is the one that sees most.
    let candidates = candidates(rule, &threshold, &trail.windows);
    for level in candidates {
        let text = format!("{} {} {}", threshold.metric, sign(threshold.comparison), short(level));
        let mut changed = file.clone();
        for when in changed.rules.iter_mut().filter_map(|rule| rule.when.as_mut()) {
            match severity {
                Severity::Warn => when.warn = Some(text.clone()),
                Severity::Critical => when.critical = Some(text.clone()),
            }
            // The other severity does not count here, and its threshold may now lie on the wrong side.
            match severity {
                Severity::Warn => when.critical = None,
                Severity::Critical => when.warn = None,
            }
        }
        // Hysteresis stays where it is unless the threshold has moved past it.
        let then = count(&changed).or_else(|| {
            changed.rules.iter_mut().for_each(|rule| rule.recover = None);
            count(&changed)
        });
        if let Some(then) = then.filter(|then| *then <= allowed) {
            suggestion.instead = Some(text);
            suggestion.episodes_then = Some(then);
            return suggestion;
        }
    }
    suggestion.note = Some("no value of the metric would do".into());
    suggestion
}

/// Episodes that reached a severity.
fn episodes(set: &RuleSet, windows: &[ClosedWindow], severity: Severity) -> u64 {
    let mut states = RuleStates::default();
    let mut reached = std::collections::BTreeSet::new();
    for closed in windows {
        for effect in set.on_window(&mut states, closed, closed.window.end_ms) {
            if let Effect::Notify(told) = effect
                && told.status == EpisodeStatus::Firing
                && told.severity >= severity
                && told.suppressed.is_none()
            {
                reached.insert(told.episode_id);
            }
        }
    }
    reached.len() as u64
}

fn plain(condition: &Condition) -> Option<Threshold<'_>> {
    match condition {
        Condition::Compare { left: Quantity::Metric(metric), comparison, right: Quantity::Number(_) }
            if !matches!(comparison, Comparison::Equal | Comparison::NotEqual) =>
        {
            Some(Threshold { metric: metric.name, comparison: *comparison })
        }
        _ => None,
    }
}

fn sign(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Equal => "==",
        Comparison::NotEqual => "!=",
    }
}

/// Values of the metric in the rule's windows, the least strict first, each once, thinned out evenly where there are many.
fn candidates(rule: &Rule, threshold: &Threshold<'_>, windows: &[ClosedWindow]) -> Vec<f64> {
    let mut values: Vec<f64> = Vec::new();
    for closed in windows.iter().filter(|closed| rule.matches(&closed.model, &closed.version)) {
        for result in closed.results.iter().filter(|result| result.reference == rule.reference || rule.counts_rows_only)
        {
            let of_features =
                rule.selected(result).into_iter().filter_map(|(_, stats)| stats.metrics.get(threshold.metric)?.value);
            values.extend(of_features);
            values.extend(result.window_metric(threshold.metric).and_then(|value| value.value));
        }
    }
    values.retain(|value| value.is_finite());
    // Rounded towards strictness, to the digits that are shown.
    let is_upper = matches!(threshold.comparison, Comparison::Greater | Comparison::GreaterOrEqual);
    for value in &mut values {
        *value = rounded(*value, is_upper);
    }
    values.sort_by(f64::total_cmp);
    values.dedup();
    if !is_upper {
        values.reverse();
    }
    let (total, step) = (values.len(), values.len().div_ceil(MOST_CANDIDATES).max(1));
    values
        .into_iter()
        .enumerate()
        .filter(|(index, _)| index % step == 0 || index + 1 == total)
        .map(|(_, value)| value)
        .collect()
}

/// Three significant digits, away from what the metric was: up for an upper threshold.
fn rounded(value: f64, up: bool) -> f64 {
    if value == 0.0 {
        return 0.0;
    }
    let unit = 10_f64.powi(value.abs().log10().floor() as i32 - 2);
    let steps = if up { (value / unit).ceil() } else { (value / unit).floor() };
    let text = format!("{:.12}", steps * unit);
    text.parse().unwrap_or(steps * unit)
}

fn short(value: f64) -> String {
    let text = format!("{value:.12}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_a_number_in_a_time() {
        let week = AlertBudget::parse("3/week").unwrap();
        assert_eq!((week.within(7 * 86_400_000), week.within(86_400_000), week.within(14 * 86_400_000)), (3, 0, 6));
        assert_eq!(AlertBudget::parse("10/30d").unwrap().per_ms, 30 * 86_400_000);
        for wrong in ["3", "x/week", "3/fortnight", "-1/day", "/week", "3/"] {
            assert!(AlertBudget::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn thresholds_are_rounded_to_the_strict_side() {
        assert_eq!(rounded(0.123_41, true), 0.124);
        assert_eq!(rounded(0.123_41, false), 0.123);
        assert_eq!(rounded(1_234.0, true), 1_240.0);
        assert_eq!((short(0.124), short(1_240.0), short(2.0)), ("0.124".into(), "1240".into(), "2".into()));
    }
}
