//! What people read: subject, text and HTML of a notification. Pure; names come from events, so nothing is
//! trusted: control characters are blanked everywhere and HTML is escaped.

use super::receiver::Telling;
use super::telling;

use crate::config::rules::Severity;
use crate::rules::episode::{EpisodeStatus, Finding, Notification};
use crate::rules::explanation::Moved;
use crate::rules::metrics;
use crate::rules::performance::PerformanceFinding;

mod mail;
mod wording;

pub use mail::{Shown, html};
pub(super) use wording::{clean, time, window};

use wording::{SMALLEST_P, grouped, metric_title, number, p_value};

/// Findings shown in full; more would not be read. The next ones are named, the page has them all.
pub(super) const MAX_FINDINGS: usize = 5;
const MAX_NAMED: usize = 10;
const MAX_SUBJECT_CHARS: usize = 180;

/// `[critical] fraud@3: amount drifted (feature-drift)`, or `[resolved] ...`.
pub fn subject(notification: &Notification) -> String {
    let subject = format!("[{}] {} ({})", state_word(notification), headline(notification), clean(&notification.rule));
    subject.chars().take(MAX_SUBJECT_CHARS).collect()
}

/// The same for every message of an episode, since mail clients put messages of one subject into one thread: `fraud@3:
/// feature-drift`. What happened stands first in the text, which they show beside it.
pub fn thread_subject(notification: &Notification, telling: &Telling) -> String {
    if !telling::is_of_an_alert(telling) {
        let subject = match telling {
            Telling::Heartbeat { .. } => "Driftline works".to_string(),
            _ => format!("Driftline: {}", clean(&notification.summary)),
        };
        return subject.chars().take(MAX_SUBJECT_CHARS).collect();
    }
    let subject = format!("{}: {}", who(notification), clean(&notification.rule));
    subject.chars().take(MAX_SUBJECT_CHARS).collect()
}

/// `CRITICAL`, `CRITICAL, reminder 2`.
pub(super) fn state(notification: &Notification, telling: &Telling) -> String {
    let word = match telling {
        Telling::Heartbeat { .. } => "HEARTBEAT".to_string(),
        _ => state_word(notification).to_uppercase(),
    };
    telling::tag(telling).map_or(word.clone(), |tag| format!("{word}, {tag}"))
}

/// What it is about, in a few words; where it is not about a model, its summary.
pub(super) fn title(notification: &Notification, telling: &Telling) -> String {
    match telling::is_of_an_alert(telling) {
        true => headline(notification),
        false => clean(&notification.summary),
    }
}

/// The sentences below the title: the summary, why this comes, and what the rule says of itself.
pub(super) fn sentences(notification: &Notification, telling: &Telling) -> Vec<String> {
    let summary = telling::is_of_an_alert(telling).then(|| clean(&notification.summary));
    let note = telling::note(telling, notification);
    let description = notification.description.as_deref().map(clean);
    summary.into_iter().chain(note).chain(description).collect()
}

/// Plain text, for the first part of a mail. `url`: the alert's own page.
pub fn text(notification: &Notification, url: &str, telling: &Telling) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line(format!("{}  {}", state(notification, telling), title(notification, telling)));
    sentences(notification, telling).into_iter().for_each(&mut line);
    line(String::new());
    for (name, value) in facts(notification, telling) {
        line(format!("{name:<11}{value}"));
    }
    line(format!("{:<11}{url}", "Page"));
    if let Some(runbook) = &notification.runbook {
        line(format!("{:<11}{}", "Runbook", clean(runbook)));
    }

    let findings = worst_first(notification);
    if !findings.is_empty() {
        line(String::new());
        line(findings_title(notification).into());
    }
    for (place, finding) in findings.iter().take(MAX_FINDINGS).enumerate() {
        line(format!("{:>3}. {}", place + 1, clean(&finding.reason)));
        if finding.value.value.is_some() {
            line(format!("     {} {}; {}", subject_of(finding), measured(finding), evidence(finding)));
        }
        for sentence in explained(finding) {
            line(format!("     {sentence}"));
        }
    }
    if let Some(more) = more(&findings) {
        line(format!("     {more}"));
    }

    line(String::new());
    line("What to do next".into());
    for (place, step) in next_steps(notification, telling).iter().enumerate() {
        line(format!("{:>3}. {step}", place + 1));
    }
    line(String::new());
    line(footer(notification));
    out
}

pub(super) fn colour(notification: &Notification, telling: &Telling) -> &'static str {
    match (telling, notification.status, notification.severity) {
        (Telling::Heartbeat { .. }, ..) | (_, EpisodeStatus::Resolved, _) => "#1a7f37",
        (_, EpisodeStatus::Firing, Severity::Warn) => "#9a6700",
        (_, EpisodeStatus::Firing, Severity::Critical) => "#b3261e",
    }
}

/// What the link to the page is called.
pub(super) fn open_words(telling: &Telling) -> &'static str {
    if telling::is_of_an_alert(telling) { "Open the alert" } else { "Open Driftline" }
}

/// Whether a text may be a link: a rule's runbook is a template, and what fills it came from events.
pub(super) fn is_link(text: &str) -> bool {
    let address = reqwest::Url::parse(text);
    address.is_ok_and(|address| matches!(address.scheme(), "http" | "https") && address.has_host())
}

pub(super) fn state_word(notification: &Notification) -> &'static str {
    match notification.status {
        EpisodeStatus::Resolved => "resolved",
        EpisodeStatus::Firing => severity_word(notification.severity),
    }
}

fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Warn => "warn",
        Severity::Critical => "critical",
    }
}

/// `fraud@3: amount drifted`, `fraud@3 country=DE: amount and 2 more drifted`, `fraud@3: back to normal`.
pub(super) fn headline(notification: &Notification) -> String {
    let findings = worst_first(notification);
    let mut features: Vec<String> = Vec::new();
    for feature in
        findings.iter().filter_map(|finding| finding.feature.as_deref()).chain(notification.feature.as_deref())
    {
        let feature = clean(feature);
        if !features.contains(&feature) {
            features.push(feature);
        }
    }
    let what = match (notification.status, features.as_slice(), findings.first()) {
        (EpisodeStatus::Resolved, [feature], _) => format!("{feature} back to normal"),
        (EpisodeStatus::Resolved, _, _) => "back to normal".into(),
        (EpisodeStatus::Firing, [], Some(finding)) => whole_window(finding),
        (EpisodeStatus::Firing, [], None) => "needs a look".into(),
        (EpisodeStatus::Firing, [feature], Some(finding)) => format!("{feature} {}", verb(&finding.metric)),
        (EpisodeStatus::Firing, [feature, rest @ ..], Some(finding)) if !rest.is_empty() => {
            format!("{feature} and {} more {}", rest.len(), verb(&finding.metric))
        }
        (EpisodeStatus::Firing, [feature, ..], _) => format!("{feature} out of bounds"),
    };
    format!("{}: {what}", who(notification))
}

/// `fraud@3`; `fraud` where no version is meant.
pub(super) fn who_only(notification: &Notification) -> String {
    match notification.version.as_str() {
        "" => clean(&notification.model),
        version => format!("{}@{}", clean(&notification.model), clean(version)),
    }
}

/// The same with the segment: `fraud@3 country=DE`.
fn who(notification: &Notification) -> String {
    let mut who = who_only(notification);
    if !notification.segment.is_all() {
        who.push_str(&format!(" {}", clean(&notification.segment.to_string())));
    }
    who
}

fn verb(metric: &str) -> &'static str {
    match metric {
        // What exceeds a distance of two distributions has drifted.
        metric if metrics::find(metric).is_some_and(|metric| metric.distribution) => "drifted",
        "null_rate" | "null_rate_change" => "missing more or less often",
        "unseen_rate" => "with unseen categories",
        _ => "out of bounds",
    }
}

/// Findings about how many events there are, not what is in them.
fn is_about_volume(metric: &str) -> bool {
    matches!(metric, "absent" | "no_data" | "no-data" | "row_count")
}

/// A finding about the window as a whole.
fn whole_window(finding: &Finding) -> String {
    match (finding.metric.as_str(), finding.value.value) {
        (metric, None) if is_about_volume(metric) => "no events".into(),
        (metric, Some(value)) => format!("{} {}", metric_title(metric), number(value)),
        (metric, None) => format!("{} out of bounds", metric_title(metric)),
    }
}

/// What, since when, how sure, in rows.
pub(super) fn facts(notification: &Notification, telling: &Telling) -> Vec<(&'static str, String)> {
    if !telling::is_of_an_alert(telling) {
        return vec![("At", time(notification.at_ms))];
    }
    let mut facts = vec![("Model", who_only(notification)), ("Rule", clean(&notification.rule))];
    if !notification.segment.is_all() {
        facts.push(("Segment", clean(&notification.segment.to_string())));
    }
    facts.push(("Since", format!("{} (first window)", window(notification.first_window))));
    facts.push(("Window", format!("{}, {} events", window(notification.window), grouped(notification.rows))));
    if notification.windows_considered > 0 {
        let (breached, considered) = (notification.windows_breached, notification.windows_considered);
        facts.push(("Breached", format!("{breached} of {considered} windows")));
    }
    if !notification.reference.is_empty() {
        facts.push(("Reference", clean(&notification.reference)));
    }
    facts.push(("Closed", format!("{}, notification {}", time(notification.at_ms), notification.sequence + 1)));
    if !notification.actions.is_empty() {
        let actions: Vec<String> = notification.actions.iter().map(|action| clean(action)).collect();
        facts.push(("Actions", actions.join(", ")));
    }
    facts
}

pub(super) fn findings_title(notification: &Notification) -> &'static str {
    match notification.status {
        EpisodeStatus::Firing => "How sure, worst first",
        EpisodeStatus::Resolved => "Where it stands now",
    }
}

/// By severity, then by value, times importance where that is known; equal ones keep the order of the rule.
pub(super) fn worst_first(notification: &Notification) -> Vec<&Finding> {
    let mut findings: Vec<&Finding> = notification.findings.iter().collect();
    findings.sort_by(|a, b| {
        let value = |finding: &Finding| finding.weight().unwrap_or(f64::NEG_INFINITY);
        b.severity.cmp(&a.severity).then(value(b).total_cmp(&value(a)))
    });
    findings
}

pub(super) fn subject_of(finding: &Finding) -> String {
    let feature = finding.feature.as_deref().map_or("whole window".into(), clean);
    if finding.segment.is_all() { feature } else { format!("{feature}, {}", clean(&finding.segment.to_string())) }
}

pub(super) fn measured(finding: &Finding) -> String {
    format!("{} {} ({})", metric_title(&finding.metric), value_of(finding), clean(&finding.condition))
}

pub(super) fn evidence(finding: &Finding) -> String {
    if let Some(performance) = &finding.performance {
        let (labelled, predictions) = (grouped(performance.labelled), grouped(performance.predictions));
        return format!("{labelled} labels of {predictions} predictions");
    }
    let counts = format!("n {}, N {}", grouped(finding.n), grouped(finding.n_reference));
    match finding.p_adjusted {
        Some(p) if p < SMALLEST_P => format!("adjusted p {}, {counts}", p_value(p)),
        Some(p) => format!("adjusted p = {}, {counts}", p_value(p)),
        None => counts,
    }
}

fn value_of(finding: &Finding) -> String {
    finding.value.value.map_or("-".into(), number)
}

/// What moved, one line each, then how the middle moved and where it is worst.
pub(super) fn explained(finding: &Finding) -> Vec<String> {
    let moved = finding.moved.iter().map(Moved::sentence);
    moved.chain(finding.explanation.sentences()).map(|sentence| clean(&sentence)).collect()
}

/// `and 12 more on the page: amount, age`; `None`: all are shown in full.
pub(super) fn more(findings: &[&Finding]) -> Option<String> {
    let rest = findings.get(MAX_FINDINGS..).filter(|rest| !rest.is_empty())?;
    let names: Vec<String> = rest.iter().take(MAX_NAMED).map(|finding| subject_of(finding)).collect();
    let further = if rest.len() > MAX_NAMED { ", ..." } else { "" };
    Some(format!("and {} more on the page: {}{further}", rest.len(), names.join(", ")))
}

/// Nothing here is new to a person on call at noon; it is written for the night.
pub(super) fn next_steps(notification: &Notification, telling: &Telling) -> Vec<&'static str> {
    if !telling::is_of_an_alert(telling) {
        return telling::next_steps(telling, notification.status);
    }
    if notification.status == EpisodeStatus::Resolved {
        return vec![
            "Nothing at once: the rule no longer holds.",
            "Note on the page what it was, if you know; a cause that was not found tends to return.",
        ];
    }
    let worst = worst_first(notification);
    if let Some(performance) = worst.first().and_then(|finding| finding.performance.as_ref()) {
        return steps_of_performance(performance);
    }
    let first = worst.first().map_or(String::new(), |finding| finding.metric.clone());
    let check = match first.as_str() {
        metric if is_about_volume(metric) => {
            "Check that the model still serves and its producer still writes to the topic: deployment, credentials, \
             broker."
        }
        "null_rate" | "null_rate_change" => {
            "Check the join or feature store that fills the feature: missing values are a broken source more often \
             than a changed world."
        }
        "unseen_rate" => "Check for new or renamed categories upstream: encoding, spelling, a new market.",
        _ => {
            "Check what changed upstream of the worst feature when it began: unit, encoding, default value, traffic \
             mix, a deployment."
        }
    };
    let mut steps = vec!["Open the page: is it one feature or many, one window or a trend, one segment or all?", check];
    if !is_about_volume(&first) {
        steps.push(
            "If the change is real and here to stay, retrain on data after it began, and build the reference anew.",
        );
    }
    steps
}

/// What helps where the model itself is worse, or is thought to be.
fn steps_of_performance(performance: &PerformanceFinding) -> Vec<&'static str> {
    let of_whom = "Open the page: is it every segment or one, and did features or scores drift when it began?";
    if performance.estimated {
        return vec![
            of_whom,
            "This is an estimate from the scores: it sees inputs that moved to where the model is unsure, and not that \
             the same inputs have got other outcomes. This alert says again what the labels make of it.",
            "Until then, weigh what a wrong decision costs: a fallback or a stricter threshold needs no labels.",
        ];
    }
    vec![
        of_whom,
        "Check that the labels are right and of a fair share of the predictions: those that come first may be the easy or \
         the bad ones.",
        "If inputs and labels are sound, retrain on data with the new labels, or roll back if a new version began it.",
    ]
}

pub(super) fn footer(notification: &Notification) -> String {
    format!("Driftline, episode {}, notification {}", clean(&notification.episode_id), clean(&notification.id))
}
