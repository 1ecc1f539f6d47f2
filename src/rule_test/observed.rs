//! Where every alert stands at the times that a test asks about, from what the machines of production left behind.

use std::collections::{BTreeMap, BTreeSet};

use crate::backtest::Trail;
use crate::config::rule_tests::ExpectedStatus;
use crate::config::rules::Severity;
use crate::rules::RuleSet;
use crate::rules::compile::Rule;
use crate::rules::episode::{EpisodeStatus, Finding, Notification};
use crate::rules::state::{Phase, RuleState};
use crate::windows::result::{ClosedWindow, Window};

/// One of the windows that the test lists, and the instant at which it is asked about: its end and the time for which
/// windows wait for stragglers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    pub window: Window,
    pub at_ms: i64,
}

/// Everything that can be expected at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Moment {
    pub asked: Asked,
    pub alerts: Vec<Alert>,
    /// What each rule said of the windows that closed since the time asked about before.
    pub said: Vec<String>,
    /// Messages by receiver, up to then.
    pub messages: BTreeMap<String, u32>,
}

/// One alert: a rule on one group.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    pub rule: String,
    pub severity: Option<Severity>,
    pub status: ExpectedStatus,
    /// `None`: of all versions.
    pub version: Option<String>,
    pub segment: String,
    pub features: BTreeSet<String>,
    pub summary: String,
    pub description: String,
    pub runbook: String,
    pub receivers: BTreeSet<String>,
    pub actions: BTreeSet<String>,
    pub notifications: u32,
    pub suppressed_by: Option<String>,
}

/// The moments of a test, one for each of `asked`.
pub fn moments(trail: &Trail, rules: &RuleSet, asked: &[Asked]) -> Vec<Moment> {
    let mut before_ms = i64::MIN;
    asked
        .iter()
        .map(|asked| {
            let moment = Moment {
                asked: *asked,
                alerts: alerts(trail, rules, asked.at_ms),
                said: said(trail, rules, before_ms, asked.at_ms),
                messages: messages(trail, asked.at_ms),
            };
            before_ms = asked.at_ms;
            moment
        })
        .collect()
}

fn messages(trail: &Trail, at_ms: i64) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for message in trail.messages.iter().filter(|message| message.at_ms <= at_ms) {
        *counts.entry(message.receiver.clone()).or_default() += 1;
    }
    counts
}

fn alerts(trail: &Trail, rules: &RuleSet, at_ms: i64) -> Vec<Alert> {
    let mut states: BTreeMap<&str, &RuleState> = BTreeMap::new();
    for change in trail.states.iter().filter(|change| change.at_ms <= at_ms) {
        match &change.state {
            Some(state) => drop(states.insert(&change.key, state)),
            None => drop(states.remove(change.key.as_str())),
        }
    }
    let of_rule = |name: &str| rules.rules().iter().find(|rule| rule.name == name);
    let alerts = states.values().filter_map(|state| alert(trail, of_rule(&state.rule)?, state, at_ms));
    alerts.collect()
}

fn alert(trail: &Trail, rule: &Rule, state: &RuleState, at_ms: i64) -> Option<Alert> {
    let standing = state.standing(rule.persistence);
    let told = state.told.as_ref();
    let of_episode = |episode_id: &str| -> Vec<&Notification> {
        let of_it = trail.notifications.iter().filter(|told| told.at_ms <= at_ms);
        of_it.filter(|told| told.episode_id == episode_id).collect()
    };
    let news = told.map_or_else(Vec::new, |told| of_episode(&told.episode_id));
    let heard: Vec<&&Notification> = news.iter().filter(|told| told.suppressed.is_none()).collect();
    let open = told.filter(|told| told.firing);
    let status = match (open, standing.phase) {
        (Some(_), _) if heard.is_empty() => ExpectedStatus::Suppressed,
        (Some(_), _) => ExpectedStatus::Firing,
        (None, Phase::Pending) => ExpectedStatus::Pending,
        (None, _) if told.is_some() => ExpectedStatus::Resolved,
        (None, _) => return None,
    };
    let is_open = status != ExpectedStatus::Pending;
    // What people read last of its being wrong; how it ended is told by the status.
    let last = news.iter().rev().filter(|_| is_open).find(|told| told.status == EpisodeStatus::Firing);
    let last = last.or(news.last().filter(|_| is_open));
    let found = |findings: &[Finding]| findings.iter().filter_map(|finding| finding.feature.clone()).collect();
    let pending = || standing.members.iter().filter_map(|pair| pair.feature.clone()).collect();
    let text = |text: Option<&String>| text.cloned().unwrap_or_default();
    let requests = trail.action_requests.iter().filter(|request| request.at_ms <= at_ms);
    let requests = requests.filter(|request| is_open && told.is_some_and(|told| told.episode_id == request.episode_id));
    Some(Alert {
        rule: state.rule.clone(),
        severity: told.filter(|_| is_open).map(|told| told.severity),
        status,
        version: state.version.clone(),
        segment: state.segment.to_string(),
        features: last.map_or_else(pending, |told| found(&told.findings)),
        summary: news.last().filter(|_| is_open).map(|told| told.summary.clone()).unwrap_or_default(),
        description: text(last.and_then(|told| told.description.as_ref())),
        runbook: text(last.and_then(|told| told.runbook.as_ref())),
        receivers: heard.iter().filter(|_| is_open).flat_map(|told| told.receivers.iter().cloned()).collect(),
        actions: requests.map(|request| request.action.clone()).collect(),
        notifications: if is_open { heard.len() as u32 } else { 0 },
        suppressed_by: state.suppressed.as_ref().filter(|_| is_open).map(|suppression| suppression.name.clone()),
    })
}

/// At most so many features of a window are named with their values.
const MOST_VALUES: usize = 3;

fn said(trail: &Trail, rules: &RuleSet, after_ms: i64, until_ms: i64) -> Vec<String> {
    let mut lines = Vec::new();
    for said in &trail.evaluations {
        let closed = trail.windows.iter().rfind(|closed| {
            closed.window == said.window && closed.version == said.version && closed.revision == said.revision
        });
        let is_now = said.window.end_ms > after_ms && said.window.end_ms <= until_ms;
        let Some(rule) = rules.rules().iter().find(|rule| rule.name == said.rule).filter(|_| is_now) else { continue };
        let outcomes: Vec<String> = said.outcomes.iter().map(|(word, groups)| counted(word, *groups)).collect();
        let values = closed.map(|closed| values(rule, closed)).unwrap_or_default();
        let values = if values.is_empty() { values } else { format!("; {values}") };
        let version = match said.version.as_str() {
            "" | crate::event::UNVERSIONED => String::new(),
            version => format!(" (version {version})"),
        };
        lines.push(format!("{}{version}: {}{values}", said.rule, outcomes.join(", ")));
    }
    lines
}

fn counted(word: &str, groups: u32) -> String {
    let word = word.replace('_', " ");
    if groups == 1 { word } else { format!("{word} in {groups} groups") }
}

/// The figures that a rule asks for, of the features where they are largest.
fn values(rule: &Rule, closed: &ClosedWindow) -> String {
    let names: BTreeSet<&'static str> = rule.metric_names().collect();
    let of_rule = |result: &&crate::windows::result::WindowResult| {
        result.segment.is_all() && result.performance.is_some() == rule.performance.is_some()
    };
    let Some(result) = closed
        .results
        .iter()
        .filter(of_rule)
        .find(|result| result.reference == rule.reference)
        .or_else(|| closed.results.iter().find(of_rule))
    else {
        return String::new();
    };
    let mut parts = vec![format!("{} rows", result.rows)];
    for name in names {
        if let Some(value) = result.window_metric(name).and_then(|value| value.value) {
            if name != "row_count" {
                parts.push(format!("{name} {}", short(value)));
            }
            continue;
        }
        let mut found: Vec<(&str, f64)> = rule
            .selected(result)
            .into_iter()
            .filter_map(|(feature, stats)| Some((feature, stats.metrics.get(name)?.value?)))
            .collect();
        found.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        let more = found.len().saturating_sub(MOST_VALUES);
        let shown: Vec<String> =
            found.iter().take(MOST_VALUES).map(|(feature, value)| format!("{feature} {}", short(*value))).collect();
        if !shown.is_empty() {
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            parts.push(format!("{name} of {}{more}", shown.join(", ")));
        }
    }
    parts.join("; ")
}

/// Four significant digits.
fn short(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let magnitude = value.abs().log10().floor() as i32;
    if !(-5..9).contains(&magnitude) {
        return format!("{value:.2e}");
    }
    let text = format!("{value:.*}", (3 - magnitude).max(0) as usize);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
}
