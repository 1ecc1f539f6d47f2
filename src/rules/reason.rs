//! Findings in sentences that people read.

use std::cmp::Ordering;

use chrono::{DateTime, SecondsFormat};

use super::compile::Rule;
use super::episode::{EpisodeStatus, Finding};
use super::evaluate::{Decider, Judgement, decider};
use super::explanation::{self, Explanation};
use super::performance_reason;
use super::state::Pair;
use crate::config::performance::ERROR_SIGNAL;
use crate::config::rules::Severity;
use crate::stats::change::CHANGE_POINTS;
use crate::stats::metric::{FeatureStats, MetricValue};
use crate::windows::result::{Change, Segment, Window, WindowResult};

/// Narrow no-break space: groups of thousands stay on one line.
const THIN_SPACE: char = '\u{202f}';

/// At most this many findings stand in one notification, the gravest first.
pub const MAX_FINDINGS: usize = 50;

/// At most this many names stand in one sentence.
const MAX_NAMES: usize = 20;

/// How often the group breached, for sentences.
#[derive(Debug, Clone, Copy)]
pub struct Persisted {
    pub breached: u32,
    pub considered: u32,
}

/// Findings of the window at hand that belong to a firing episode, the gravest first.
/// `was_estimate`: what was told of the episode so far rests on estimates.
pub fn breaches(rule: &Rule, judgements: &[&Judgement<'_>], persisted: Persisted, was_estimate: bool) -> Vec<Finding> {
    let mut findings: Vec<Finding> = judgements
        .iter()
        .filter_map(|judgement| {
            let breach = judgement.breach.as_ref()?;
            let decider = judged(&breach.decider, was_estimate.then_some(true));
            let mut reason = opening(rule, judgement, &decider);
            reason.push_str(&format!(", {}", windows(persisted)));
            reason.push_str(&events(judgement, &decider));
            if let Some(p) = breach.p_adjusted {
                reason.push_str(&format!(", adjusted p {}", probability(p)));
            }
            reason.push_str(&closing(&decider));
            let found = finding(judgement, breach.severity, &decider, &breach.condition, reason);
            Some(Finding { p_value: breach.p_value, p_adjusted: breach.p_adjusted, ..found })
        })
        .collect();
    weigh(&mut findings);
    findings.sort_by(graver);
    findings.truncate(MAX_FINDINGS);
    findings
}

/// The decider with what labels say of an estimate that people were told, if they say it by now.
fn judged(decider: &Decider, confirmed: Option<bool>) -> Decider {
    let mut decider = decider.clone();
    if let Some(performance) = decider.performance.as_mut().filter(|performance| !performance.estimated) {
        performance.confirmed = confirmed;
    }
    decider
}

/// What is said last of a figure of performance: "; estimated before labels: 0.881 (0.870 to 0.892)".
fn closing(decider: &Decider) -> String {
    let said = decider.performance.as_ref().and_then(|performance| performance_reason::estimate(performance));
    said.map_or_else(String::new, |said| format!("; {said}"))
}

/// How an episode ended.
pub struct Ended<'e, 'a> {
    /// Everything that the rule looks at in the window at hand.
    pub family: &'e [&'a WindowResult],
    pub severity: Severity,
    /// What was told of the episode rests on estimates.
    pub was_estimate: bool,
}

/// Where the pairs of an episode stand now that it has ended.
pub fn recoveries<'p, 'a>(
    rule: &Rule,
    judgements: &[&Judgement<'a>],
    members: impl Iterator<Item = &'p Pair>,
    ended: &Ended<'_, 'a>,
) -> Vec<Finding> {
    let condition = match (&rule.recover, &rule.warn, &rule.critical) {
        (Some(recover), _, _) => recover.text.clone(),
        (None, Some(when), _) | (None, None, Some(when)) => format!("not ({})", when.text),
        (None, None, None) => String::new(),
    };
    let of_member = |pair: &Pair| judgements.iter().find(|judgement| judgement.pair == *pair);
    members
        .filter_map(|pair| {
            let judgement = of_member(pair)?;
            let decider = judged(&decider(rule, judgement, ended.family)?, ended.was_estimate.then_some(false));
            let mut reason = opening(rule, judgement, &decider);
            reason.push_str(&events(judgement, &decider));
            reason.push_str(&closing(&decider));
            Some(finding(judgement, ended.severity, &decider, &condition, reason))
        })
        .take(MAX_FINDINGS)
        .collect()
}

fn finding(
    judgement: &Judgement<'_>,
    severity: Severity,
    decider: &Decider,
    condition: &str,
    reason: String,
) -> Finding {
    let stats = judgement.stats;
    Finding {
        feature: judgement.pair.feature.clone(),
        segment: judgement.pair.segment.clone(),
        severity,
        metric: decider.name.clone(),
        value: decider.value,
        condition: condition.to_string(),
        threshold: decider.threshold.map(|threshold| threshold.value),
        effect_psi: effect_psi(decider, stats),
        p_value: None,
        p_adjusted: None,
        inflation: stats.and_then(|stats| stats.inflation),
        n: stats.map_or(judgement.result.rows, |stats| stats.n),
        n_reference: stats.map_or(0, |stats| stats.n_reference),
        performance: decider.performance.as_deref().cloned(),
        moved: stats.map(explanation::moved).unwrap_or_default(),
        explanation: Explanation {
            location: stats.and_then(|stats| stats.location),
            importance: stats.and_then(|stats| stats.importance),
            ..Explanation::default()
        },
        reason,
    }
}

/// PSI, where another metric of the distribution decided.
fn effect_psi(decider: &Decider, stats: Option<&FeatureStats>) -> Option<f64> {
    let decided = decider.metric.filter(|metric| metric.distribution && metric.name != "psi")?;
    let psi = stats?.metrics.get("psi").and_then(|psi| psi.value);
    psi.filter(|_| !decided.name.starts_with("psi_"))
}

/// Multiplies each value, or the PSI beside it, by the feature's importance. A feature whose importance is not known counts as the most
/// important one: nothing says that its drift can wait.
fn weigh(findings: &mut [Finding]) {
    let largest = findings.iter().filter_map(|finding| finding.explanation.importance).reduce(f64::max);
    let Some(largest) = largest else { return };
    for finding in findings {
        let importance = finding.explanation.importance.unwrap_or(largest);
        let drift = finding.effect_psi.or(finding.value.value);
        finding.explanation.priority = drift.map(|drift| drift.abs() * importance);
    }
}

/// By severity, then by drift times importance.
fn graver(left: &Finding, right: &Finding) -> Ordering {
    let p = |finding: &Finding| finding.p_adjusted.unwrap_or(0.0);
    let value = |finding: &Finding| finding.weight().unwrap_or(0.0).abs();
    right
        .severity
        .cmp(&left.severity)
        .then_with(|| value(right).total_cmp(&value(left)))
        .then_with(|| p(left).total_cmp(&p(right)))
        .then_with(|| left.segment.cmp(&right.segment))
        .then_with(|| left.feature.cmp(&right.feature))
}

/// "`amount` where `country` is `DE`: PSI 0.41 against training".
fn opening(rule: &Rule, judgement: &Judgement<'_>, decider: &Decider) -> String {
    let segment = &judgement.pair.segment;
    let place = place(segment);
    let subject = match judgement.pair.feature.as_ref().filter(|_| rule.sql.is_none()) {
        Some(feature) => format!("`{feature}`{place}"),
        None if rule.performance.is_some() && segment.is_all() => "all predictions".to_string(),
        None if rule.performance.is_some() => format!("predictions{place}"),
        None if segment.is_all() => "all events".to_string(),
        None => format!("events{place}"),
    };
    let measured = match &decider.performance {
        Some(performance) => performance_reason::measured(decider, performance, &rule.reference),
        None => measured(decider, judgement.stats, &rule.reference),
    };
    let mut opening = format!("{subject}: {measured}");
    opening.push_str(&names(judgement.result, &decider.name));
    opening
}

/// Which features are new or vanished: " (`a`, `b`)".
fn names(result: &WindowResult, metric: &str) -> String {
    let Some(quality) = &result.quality else { return String::new() };
    let names: Vec<&String> = match metric {
        "new_features" => quality.schema_added.keys().collect(),
        "vanished_features" => quality.schema_missing.iter().collect(),
        _ => return String::new(),
    };
    let shown: Vec<String> = names.iter().take(MAX_NAMES).map(|name| format!("`{name}`")).collect();
    let more = names.len() > MAX_NAMES || (metric == "new_features" && quality.schema_added_rest > 0);
    match shown.is_empty() {
        true => String::new(),
        false => format!(" ({}{})", shown.join(", "), if more { ", and others" } else { "" }),
    }
}

/// "PSI 0.41 against training", "null rate 20% (training 1%)", "row count 120".
fn measured(decider: &Decider, stats: Option<&FeatureStats>, reference: &str) -> String {
    let Some(metric) = decider.metric else {
        let value = match decider.name.starts_with("share") {
            true => optional(decider.value, percent),
            false => optional(decider.value, number),
        };
        return format!("{} is {value}", decider.name);
    };
    if let ("constant", Some(value)) = (metric.name, decider.value.value) {
        return if value > 0.0 { "one value in every event".into() } else { "more than one value".into() };
    }
    let value = optional(decider.value, if metric.share { percent } else { number });
    let threshold = decider.threshold.map_or_else(String::new, |threshold| {
        let limit = if metric.share { percent(threshold.value) } else { number(threshold.value) };
        format!(", threshold {limit} at a false-alarm rate of {} a window", percent(threshold.rate))
    });
    if metric.distribution {
        let effect = effect_psi(decider, stats).map_or_else(String::new, |psi| format!(" (PSI {})", number(psi)));
        return format!("{} {value}{effect} against {reference}{threshold}", metric.label);
    }
    let in_reference = match (metric.name, stats) {
        ("null_rate", Some(stats)) => {
            let change = stats.metrics.get("null_rate_change").and_then(|change| change.value);
            decider.value.value.zip(change).map(|(rate, change)| (rate - change).max(0.0))
        }
        _ => None,
    };
    match in_reference {
        Some(before) => format!("{} {value} ({reference} {})", metric.label, percent(before)),
        None => format!("{} {value}{threshold}", metric.label),
    }
}

fn optional(value: MetricValue, format: fn(f64) -> String) -> String {
    value.value.map_or_else(|| "undefined".into(), format)
}

fn windows(persisted: Persisted) -> String {
    let plural = if persisted.considered == 1 { "window" } else { "windows" };
    format!("{} of {} {plural}", persisted.breached, persisted.considered)
}

fn events(judgement: &Judgement<'_>, decider: &Decider) -> String {
    match decider.name.as_str() {
        _ if decider.performance.is_some() => String::new(),
        "row_count" | "row_count_ratio" => String::new(),
        CHANGE_POINTS => format!("{}, {} events", first_change(judgement), grouped(judgement.result.rows)),
        _ => format!(", {} events", grouped(judgement.result.rows)),
    }
}

/// ", the first seen by adwin at 2026-01-31T08:00:00Z (predictions[2] offset 4711)".
fn first_change(judgement: &Judgement<'_>) -> String {
    // Rules on performance look at no feature: the changes are those of the errors.
    let signal = judgement.pair.feature.as_deref().unwrap_or(ERROR_SIGNAL);
    let of_signal = |change: &&Change| change.signal == signal;
    let Some(change) = judgement.result.changes.iter().find(of_signal) else { return String::new() };
    let Change { detector, topic, partition, offset, .. } = change;
    let time = DateTime::from_timestamp_millis(change.event_time_ms).map_or_else(
        || format!("{} ms", change.event_time_ms),
        |time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true),
    );
    format!(", the first seen by {detector} at {time} ({topic}[{partition}] offset {offset})")
}

/// One line: "feature-drift critical: fraud@3, `amount` PSI 0.41".
pub fn summary(rule: &Rule, who: &str, status: EpisodeStatus, severity: Severity, findings: &[Finding]) -> String {
    let state = match (status, severity) {
        (EpisodeStatus::Resolved, _) => "resolved",
        (EpisodeStatus::Firing, Severity::Warn) => "warn",
        (EpisodeStatus::Firing, Severity::Critical) => "critical",
    };
    let mut line = format!("{} {state}: {who}", rule.name);
    if let Some(first) = findings.first() {
        let metric = super::metrics::find(&first.metric).filter(|_| rule.sql.is_none());
        let label = metric.map_or(first.metric.as_str(), |metric| metric.label);
        let share = metric.map_or(first.metric.starts_with("share"), |metric| metric.share);
        let format = match &first.performance {
            _ if share => percent,
            Some(_) => performance_reason::figure,
            None => number,
        };
        let value = optional(first.value, format);
        match first.feature.as_ref().filter(|_| rule.sql.is_none()) {
            Some(feature) => line.push_str(&format!(", `{feature}` {label} {value}")),
            None => line.push_str(&format!(", {label} {value}")),
        }
        if findings.len() > 1 {
            line.push_str(&format!(" and {} more", findings.len() - 1));
        }
    }
    line
}

/// Thousands in groups: 10 240.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(THIN_SPACE);
        }
        text.push(digit);
    }
    text
}

/// As many digits as a person compares.
pub fn number(value: f64) -> String {
    let size = value.abs();
    let sign = if value < 0.0 { "-" } else { "" };
    match size {
        _ if size == 0.0 => "0".into(),
        _ if size >= 1e15 => format!("{value:.2e}"),
        _ if size >= 1_000.0 || (size >= 10.0 && size.fract() == 0.0) => {
            format!("{sign}{}", grouped(size.round() as u64))
        }
        _ if (1.0..10.0).contains(&size) && size.fract() == 0.0 => format!("{value}"),
        _ if size >= 10.0 => format!("{value:.1}"),
        _ if size >= 0.1 => format!("{value:.2}"),
        _ if size >= 0.001 => format!("{value:.3}"),
        _ => format!("{value:.1e}"),
    }
}

/// 0.2 as 20%.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let decimals = match percent.abs() {
        size if size >= 10.0 => 1,
        size if size >= 0.1 => 2,
        _ => 3,
    };
    let text = format!("{percent:.decimals$}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{}%", if text.is_empty() || text == "-0" || text == "-" { "0" } else { text })
}

/// `< 1e-6`, `2e-5`, `0.003`.
pub fn probability(p: f64) -> String {
    match p {
        p if p < 1e-6 => "< 1e-6".into(),
        p if p < 1e-3 => format!("{p:.0e}"),
        p => format!("{p:.3}"),
    }
}

/// "fraud@3", "fraud@3 where `country` is `DE`".
pub fn who(model: &str, version: &str, segment: &Segment) -> String {
    let name = if version.is_empty() { model.to_string() } else { format!("{model}@{version}") };
    format!("{name}{}", place(segment))
}

/// " where `country` is `DE`", " where `country` is `IT` and `device` is `phone`"; nothing for all events.
fn place(segment: &Segment) -> String {
    let parts: Vec<String> = segment.parts().iter().map(|(column, value)| format!("`{column}` is `{value}`")).collect();
    if parts.is_empty() { String::new() } else { format!(" where {}", parts.join(" and ")) }
}

/// Minutes are enough for people: "2026-11-23 14:00 UTC".
pub fn instant(ms: i64) -> String {
    match chrono::DateTime::from_timestamp_millis(ms) {
        Some(time) => time.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
        None => format!("{ms} ms"),
    }
}

/// The windows of an absence have no fixed length.
pub fn absence(after: &str, window: Window) -> String {
    format!("no events for {after}; the last one arrived {}", instant(window.start_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_compare_them() {
        for (value, expected) in [
            (0.41327, "0.41"),
            (0.0, "0"),
            (12.345, "12.3"),
            (3.0, "3"),
            (0.0123, "0.012"),
            (10240.0, "10\u{202f}240"),
            (2e-5, "2.0e-5"),
        ] {
            assert_eq!(number(value), expected);
        }
        for (value, expected) in [(0.2, "20%"), (0.0105, "1.05%"), (0.0, "0%"), (1.0, "100%"), (0.0005, "0.05%")] {
            assert_eq!(percent(value), expected);
        }
        for (value, expected) in [(1e-9, "< 1e-6"), (0.0, "< 1e-6"), (0.003, "0.003"), (2e-5, "2e-5")] {
            assert_eq!(probability(value), expected);
        }
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(grouped(999), "999");
    }
}
