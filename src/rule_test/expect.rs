//! What was expected against what happened.

use super::observed::{Alert, Moment};
use crate::config::rule_test_checks::Pattern;
use crate::config::rule_tests::{Expectation, ExpectedStatus, RuleTest};
use crate::config::rules::Severity;

/// An expectation that did not come true. Both sides are lines, equal where they agree.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The window, from 1, and its time.
    pub window: usize,
    pub at: super::observed::Asked,
    pub expected: Vec<String>,
    pub got: Vec<String>,
    /// Every alert there was then, a line each.
    pub alerts: Vec<String>,
    /// What the rules said of the windows.
    pub said: Vec<String>,
}

/// Everything that did not come true. `moments` are the windows of the test in order.
pub fn failures(test: &RuleTest, moments: &[Moment]) -> Vec<Failure> {
    let mut failures = Vec::new();
    for expectation in &test.expect {
        // What is wrong about the time was found before the test ran.
        let Ok((first, last)) = expectation.windows(moments.len()) else { continue };
        for window in first..=last {
            let Some(moment) = moments.get(window - 1) else { continue };
            let sides = match expectation.none {
                true => unwanted(expectation, moment),
                false => missing(expectation, moment),
            };
            let others = || others(test, expectation, window, moments.len(), moment);
            if let Some((expected, got)) = sides.or_else(others) {
                failures.push(Failure {
                    window,
                    at: moment.asked,
                    expected,
                    got,
                    alerts: moment.alerts.iter().map(line).collect(),
                    said: moment.said.clone(),
                });
            }
        }
    }
    failures
}

/// Expected and got.
type Sides = (Vec<String>, Vec<String>);

/// Alerts that should not be there.
fn unwanted(expectation: &Expectation, moment: &Moment) -> Option<Sides> {
    let found: Vec<String> =
        moment.alerts.iter().filter(|alert| differences(expectation, alert) == 0).map(line).collect();
    let what: Vec<String> = keys(expectation).iter().filter_map(|key| key.wanted(expectation)).collect();
    let wanted = if what.is_empty() { "no alert".into() } else { format!("no alert with {}", what.join(", ")) };
    let messages = messages(expectation, moment);
    match (found.is_empty(), messages) {
        (true, messages) => messages,
        (false, _) => Some((vec![wanted], found)),
    }
}

/// The alert that should be there, beside the one that comes nearest to it.
fn missing(expectation: &Expectation, moment: &Moment) -> Option<Sides> {
    if !expectation.is_of_an_alert() && !expectation.exactly {
        return messages(expectation, moment);
    }
    let nearest = moment.alerts.iter().min_by_key(|alert| {
        let is_another_rule = expectation.rule.as_ref().is_some_and(|rule| *rule != alert.rule);
        (is_another_rule, differences(expectation, alert))
    });
    let keys = keys(expectation);
    let Some(alert) = nearest.filter(|alert| expectation.rule.as_ref().is_none_or(|rule| *rule == alert.rule)) else {
        let wanted = keys.iter().filter_map(|key| key.wanted(expectation)).collect();
        let which = expectation.rule.as_ref().map_or("no alert".to_string(), |rule| format!("no alert of {rule}"));
        return Some((wanted, vec![which]));
    };
    let (mut wanted, mut got) = (Vec::new(), Vec::new());
    let mut differs = false;
    for key in keys {
        let Some(line) = key.wanted(expectation) else { continue };
        match key.holds(expectation, alert) {
            true => got.push(line.clone()),
            false => got.push(key.found(alert)),
        }
        differs |= !key.holds(expectation, alert);
        wanted.push(line);
    }
    match differs {
        true => Some((wanted, got)),
        false => messages(expectation, moment),
    }
}

fn messages(expectation: &Expectation, moment: &Moment) -> Option<Sides> {
    let count = |receiver: &String| moment.messages.get(receiver).copied().unwrap_or(0);
    if expectation.messages.iter().all(|(receiver, wanted)| count(receiver) == *wanted) {
        return None;
    }
    let lines = |number: &dyn Fn(&String, u32) -> u32| {
        let lines = expectation.messages.iter().map(|(receiver, wanted)| {
            let number = number(receiver, *wanted);
            format!("messages to {receiver}: {number}")
        });
        lines.collect()
    };
    Some((lines(&|_, wanted| wanted), lines(&|receiver, _| count(receiver))))
}

/// With `exactly`: alerts that fire and that no expectation of this time is about.
fn others(test: &RuleTest, expectation: &Expectation, window: usize, windows: usize, moment: &Moment) -> Option<Sides> {
    if !expectation.exactly {
        return None;
    }
    let at_the_time = test.expect.iter().filter(|other| {
        let range = other.windows(windows);
        !other.none && other.is_of_an_alert() && range.is_ok_and(|(first, last)| (first..=last).contains(&window))
    });
    let at_the_time: Vec<&Expectation> = at_the_time.collect();
    let is_expected = |alert: &Alert| at_the_time.iter().any(|expected| differences(expected, alert) == 0);
    let firing = moment.alerts.iter().filter(|alert| alert.status == ExpectedStatus::Firing);
    let others: Vec<String> = firing.filter(|alert| !is_expected(alert)).map(line).collect();
    if others.is_empty() { None } else { Some((vec!["no other alert".into()], others)) }
}

/// One key of an expectation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Rule,
    Severity,
    Status,
    Version,
    Segment,
    Features,
    Summary,
    Description,
    Runbook,
    Receivers,
    Actions,
    Notifications,
    SuppressedBy,
}

const KEYS: [Key; 13] = [
    Key::Rule,
    Key::Severity,
    Key::Status,
    Key::Version,
    Key::Segment,
    Key::Features,
    Key::Summary,
    Key::Description,
    Key::Runbook,
    Key::Receivers,
    Key::Actions,
    Key::Notifications,
    Key::SuppressedBy,
];

/// Those that the expectation gives; the status always counts.
fn keys(expectation: &Expectation) -> Vec<Key> {
    KEYS.into_iter().filter(|key| key.wanted(expectation).is_some()).collect()
}

/// Keys in which an alert is not as expected.
fn differences(expectation: &Expectation, alert: &Alert) -> usize {
    KEYS.into_iter().filter(|key| !key.holds(expectation, alert)).count()
}

impl Key {
    fn name(self) -> &'static str {
        match self {
            Key::Rule => "rule",
            Key::Severity => "severity",
            Key::Status => "status",
            Key::Version => "version",
            Key::Segment => "segment",
            Key::Features => "features",
            Key::Summary => "summary",
            Key::Description => "description",
            Key::Runbook => "runbook",
            Key::Receivers => "receivers",
            Key::Actions => "actions",
            Key::Notifications => "notifications",
            Key::SuppressedBy => "suppressed_by",
        }
    }

    /// `rule: feature-drift`; `None`: the expectation does not say.
    fn wanted(self, expectation: &Expectation) -> Option<String> {
        let list = |names: &[String]| (!names.is_empty()).then(|| format!("[{}]", names.join(", ")));
        let value = match self {
            Key::Rule => expectation.rule.clone(),
            Key::Severity => expectation.severity.map(|severity| word(severity).to_string()),
            Key::Status => expectation.status.map(|status| status.word().to_string()),
            Key::Version => expectation.version.clone(),
            Key::Segment => expectation.segment.clone(),
            Key::Features => list(&expectation.features),
            Key::Summary => expectation.summary.clone(),
            Key::Description => expectation.description.clone(),
            Key::Runbook => expectation.runbook.clone(),
            Key::Receivers => list(&expectation.receivers),
            Key::Actions => list(&expectation.actions),
            Key::Notifications => expectation.notifications.map(|count| count.to_string()),
            Key::SuppressedBy => expectation.suppressed_by.clone(),
        };
        let value =
            value.or_else(|| (self == Key::Status && !expectation.none).then(|| status(expectation).word().into()));
        Some(format!("{}: {}", self.name(), value?))
    }

    fn found(self, alert: &Alert) -> String {
        let list = |names: Vec<&String>| {
            let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
            format!("[{}]", names.join(", "))
        };
        let none = || "none".to_string();
        let value = match self {
            Key::Rule => alert.rule.clone(),
            Key::Severity => alert.severity.map_or_else(none, |severity| word(severity).into()),
            Key::Status => alert.status.word().into(),
            Key::Version => alert.version.clone().unwrap_or_else(|| "of all versions".into()),
            Key::Segment => alert.segment.clone(),
            Key::Features => list(alert.features.iter().collect()),
            Key::Summary => alert.summary.clone(),
            Key::Description => alert.description.clone(),
            Key::Runbook => alert.runbook.clone(),
            Key::Receivers => list(alert.receivers.iter().collect()),
            Key::Actions => list(alert.actions.iter().collect()),
            Key::Notifications => alert.notifications.to_string(),
            Key::SuppressedBy => alert.suppressed_by.clone().unwrap_or_else(none),
        };
        let value = if value.is_empty() { none() } else { value };
        format!("{}: {value}", self.name())
    }

    /// Whether the alert is as expected in this key; one that the expectation does not give is.
    fn holds(self, expectation: &Expectation, alert: &Alert) -> bool {
        let equal = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        let says = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| Pattern::read(wanted).is_ok_and(|pattern| pattern.is_in(found)))
        };
        let all = |wanted: &[String], found: &dyn Fn(&Pattern) -> bool| {
            wanted.iter().all(|wanted| Pattern::read(wanted).is_ok_and(|pattern| found(&pattern)))
        };
        match self {
            Key::Rule => equal(&expectation.rule, &alert.rule),
            Key::Severity => expectation.severity.is_none_or(|severity| alert.severity == Some(severity)),
            Key::Status => status(expectation) == alert.status,
            Key::Version => expectation.version.is_none() || expectation.version == alert.version,
            Key::Segment => equal(&expectation.segment, &alert.segment),
            Key::Features => {
                all(&expectation.features, &|pattern| alert.features.iter().any(|feature| pattern.is(feature)))
            }
            Key::Summary => says(&expectation.summary, &alert.summary),
            Key::Description => says(&expectation.description, &alert.description),
            Key::Runbook => says(&expectation.runbook, &alert.runbook),
            Key::Receivers => expectation.receivers.iter().all(|receiver| alert.receivers.contains(receiver)),
            Key::Actions => expectation.actions.iter().all(|action| alert.actions.contains(action)),
            Key::Notifications => expectation.notifications.is_none_or(|count| count == alert.notifications),
            Key::SuppressedBy => {
                expectation.suppressed_by.is_none() || expectation.suppressed_by == alert.suppressed_by
            }
        }
    }
}

/// Who says what suppresses an alert means one that is.
fn status(expectation: &Expectation) -> ExpectedStatus {
    expectation.status.unwrap_or(match expectation.suppressed_by {
        Some(_) => ExpectedStatus::Suppressed,
        None => ExpectedStatus::Firing,
    })
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Warn => "warn",
        Severity::Critical => "critical",
    }
}

/// `feature-drift critical, firing: amount; country=IT; to [hook]`.
fn line(alert: &Alert) -> String {
    let mut line = alert.rule.clone();
    if let Some(severity) = alert.severity {
        line.push_str(&format!(" {}", word(severity)));
    }
    line.push_str(&format!(", {}", alert.status.word()));
    let mut parts = Vec::new();
    if !alert.features.is_empty() {
        parts.push(alert.features.iter().map(String::as_str).collect::<Vec<_>>().join(", "));
    }
    if alert.segment != "all" {
        parts.push(alert.segment.clone());
    }
    if let Some(by) = &alert.suppressed_by {
        parts.push(format!("suppressed by {by}"));
    }
    if !alert.receivers.is_empty() {
        parts.push(format!("told {}", alert.receivers.iter().map(String::as_str).collect::<Vec<_>>().join(", ")));
    }
    if parts.is_empty() { line } else { format!("{line}: {}", parts.join("; ")) }
}
