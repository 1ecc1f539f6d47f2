//! The report as one page that stands alone: no script, nothing loaded from elsewhere.

use std::collections::BTreeMap;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::report::{Report, RuleReport};
use super::text::{counted, delay, fired, severity, suggested_yaml};
use crate::backtest::{Episode, Evaluation};
use crate::config::rules::Severity;
use crate::http::wording;
use crate::windows::result::Window;

const STYLE: &str = include_str!("page.css");

/// Width of the strips, in units of the drawing.
const WIDTH: f64 = 960.0;
const STRIP_HEIGHT: f64 = 22.0;

pub fn render(report: &Report<'_>) -> Markup {
    let trail = &report.tried.trail;
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                title { "Back-test · Driftline" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { "Back-test" }
                    (history(report))
                    h2 { "What every rule made of its windows" }
                    (strips(report))
                    h2 { (counted(trail.episodes.len() as u64, "episode")) }
                    (episodes(&trail.episodes))
                    h2 { "What would have been sent" }
                    (messages(report))
                    (comparison(report))
                    (score(report))
                    (suggestions(report))
                }
                footer { "Times are UTC. The clock of a back-test is that of the events." }
            }
        }
    }
}

fn history(report: &Report<'_>) -> Markup {
    let trail = &report.tried.trail;
    html! {
        @for (model, read) in &report.tried.reads {
            p.lead {
                strong { (model) } ": "
                (counted(trail.rows.get(model).copied().unwrap_or(0), "row")) ", "
                (counted(trail.windows_closed.get(model).copied().unwrap_or(0), "window"))
                @if let Some((first_ms, last_ms)) = trail.spans.get(model) {
                    ", " (wording::minute(*first_ms)) " to " (wording::minute(*last_ms))
                }
            }
            @if !read.in_order { p.muted { "Rows were not in the order of their event time; they were sorted." } }
            @for note in &read.notes { p.muted { "Note: " (note) } }
        }
        @if !trail.rejected.is_empty() {
            p.muted {
                "Rows that could not be used: "
                @for (index, (reason, count)) in trail.rejected.iter().enumerate() {
                    @if index > 0 { ", " } (wording::count(*count)) " " (reason)
                }
            }
        }
        @for problem in &trail.problems { p.muted { "Problem: " (problem) } }
    }
}

/// How a window looks in a strip, the most telling outcome first.
fn class(evaluation: &Evaluation) -> &'static str {
    let said = |word: &str| evaluation.outcomes.contains_key(word);
    if said("breached") {
        "breached"
    } else if said("suppressed") {
        "suppressed"
    } else if said("insignificant") {
        "insignificant"
    } else if said("quiet") {
        "quiet"
    } else {
        "unjudged"
    }
}

fn words(evaluation: &Evaluation) -> String {
    let parts = evaluation.outcomes.iter().map(|(word, count)| format!("{count} {}", word.replace('_', " ")));
    parts.collect::<Vec<_>>().join(", ")
}

fn strips(report: &Report<'_>) -> Markup {
    let trail = &report.tried.trail;
    let first_ms = trail.evaluations.iter().map(|evaluation| evaluation.window.start_ms).min().unwrap_or(0);
    let last_ms = trail.evaluations.iter().map(|evaluation| evaluation.window.end_ms).max().unwrap_or(1);
    let scale = Scale { first_ms, span_ms: (last_ms - first_ms).max(1) as f64 };
    html! {
        p.legend {
            @for (class, word) in [
                ("breached", "breached"), ("insignificant", "large, but as chance makes it"), ("quiet", "quiet"),
                ("suppressed", "kept quiet"), ("unjudged", "not judged"),
            ] {
                span.key { svg width="12" height="12" aria-hidden="true" { rect class=(class) width="12" height="12" rx="2" {} } " " (word) }
            }
            span.key { svg width="18" height="12" aria-hidden="true" { rect.episode.critical y="3" width="18" height="6" rx="3" {} } " critical" }
            span.key { svg width="18" height="12" aria-hidden="true" { rect.episode.warn y="3" width="18" height="6" rx="3" {} } " warn" }
        }
        @for rule in &report.rules {
            section.rule {
                h3 { (rule.rule) }
                p.muted { (sentence(rule)) }
                (strip(report, rule, &scale))
            }
        }
        p.axis { span { (wording::minute(first_ms)) } span { (wording::minute(last_ms)) } }
    }
}

struct Scale {
    first_ms: i64,
    span_ms: f64,
}

impl Scale {
    fn x(&self, at_ms: i64) -> f64 {
        let share = (at_ms - self.first_ms) as f64 / self.span_ms;
        (share.clamp(0.0, 1.0) * WIDTH * 100.0).round() / 100.0
    }
}

fn sentence(rule: &RuleReport) -> String {
    if rule.asks_for_absence {
        return format!(
            "{}; it asks how long nothing has arrived, not about windows",
            counted(rule.episodes, "episode")
        );
    }
    let mut text = format!(
        "{}; {} of {} judged, {} breached",
        counted(rule.episodes, "episode"),
        wording::count(rule.judged),
        counted(rule.windows, "window"),
        wording::count(rule.breached)
    );
    if let Some(expected) = rule.chance_windows {
        text += &format!("; at most {expected:.2} of them are expected by chance, before it asks for several");
    }
    for (reason, count) in &rule.not_judged {
        text += &format!("; {count} not judged: {}", reason.replace('_', " "));
    }
    text
}

/// A row for each model version, and one for the episodes.
fn strip(report: &Report<'_>, rule: &RuleReport, scale: &Scale) -> Markup {
    let trail = &report.tried.trail;
    let mut rows: BTreeMap<(&str, &str), BTreeMap<Window, &Evaluation>> = BTreeMap::new();
    for evaluation in trail.evaluations.iter().filter(|evaluation| evaluation.rule == rule.rule) {
        let row = rows.entry((&evaluation.model, &evaluation.version)).or_default();
        // The last revision comes last.
        row.insert(evaluation.window, evaluation);
    }
    let episodes: Vec<&Episode> = trail.episodes.iter().filter(|episode| episode.rule == rule.rule).collect();
    let height = STRIP_HEIGHT * rows.len() as f64 + 14.0;
    html! {
        svg.strip viewBox=(format!("0 0 {WIDTH} {height}")) role="img" preserveAspectRatio="none"
            aria-label=(format!("{}: {}", rule.rule, sentence(rule))) {
            @for (index, ((model, version), windows)) in rows.iter().enumerate() {
                @let y = STRIP_HEIGHT * index as f64;
                @for (window, evaluation) in windows {
                    @let (from, to) = (scale.x(window.start_ms), scale.x(window.end_ms));
                    rect class=(class(evaluation)) x=(from) y=(y) width=((to - from - 0.6).max(0.4)) height=(STRIP_HEIGHT - 3.0) {
                        title { (wording::window(window.start_ms, window.end_ms)) " " (model) "@" (version) ": " (words(evaluation)) }
                    }
                }
            }
            @for episode in &episodes {
                @let until_ms = episode.resolved_ms.unwrap_or(i64::MAX);
                @let (from, to) = (scale.x(episode.fired_ms), scale.x(until_ms));
                rect class=(format!("episode {}", severity(episode.severity))) x=(from) y=(height - 11.0) width=((to - from).max(3.0)) height="7" rx="3" {
                    title { (fired(episode)) ": " (episode.summary) }
                }
            }
        }
    }
}

fn chip(level: Severity) -> Markup {
    html! { span class=(format!("chip {}", severity(level))) { (severity(level)) } }
}

fn episodes(episodes: &[Episode]) -> Markup {
    html! {
        @if episodes.is_empty() { p.empty { "Nobody would have been told of anything." } }
        @if !episodes.is_empty() {
            div.scroll { table {
                thead { tr { th { "Severity" } th { "When" } th { "What" } th { "To" } } }
                tbody { @for episode in episodes { tr {
                    td { (chip(episode.severity)) }
                    td { (fired(episode)) }
                    td.what { (episode.summary) div.muted { code { (episode.id) } } }
                    td {
                        @for (index, receiver) in episode.receivers.iter().enumerate() { @if index > 0 { ", " } (receiver) }
                        @if let Some(quiet) = &episode.quiet { span.muted { "kept quiet by " (quiet) } }
                    }
                } } }
            } }
        }
    }
}

fn messages(report: &Report<'_>) -> Markup {
    html! {
        @if report.receivers.is_empty() { p.empty { "Nothing." } }
        ul {
            @for receiver in &report.receivers {
                li {
                    strong { (receiver.receiver) } ": " (counted(receiver.messages, "message"))
                    " (" (receiver.news) " news, " (receiver.reminders) " reminders, " (receiver.digests) " digests)"
                }
            }
        }
        @let runs = &report.tried.trail.runs;
        @if !runs.is_empty() {
            h3 { (counted(runs.len() as u64, "run")) " of actions" }
            ul { @for run in runs { li {
                strong { (run.action) } " of " (run.model) " at " (wording::minute(run.started_ms.unwrap_or(run.requested_ms)))
                ", " (run.state.replace('_', " ")) @if !run.reason.is_empty() { ": " (run.reason) }
                span.muted { ", asked for by " (run.rule) }
            } } }
        }
    }
}

fn comparison(report: &Report<'_>) -> Markup {
    let Some(comparison) = &report.comparison else { return html! {} };
    html! {
        h2 { "Compared with the other rules" }
        p { (counted(comparison.same, "episode")) " the same." }
        @for (title, only) in [("Only with the other rules", &comparison.only_old), ("Only with these rules", &comparison.only_new)] {
            @if !only.is_empty() { h3 { (title) ": " (only.len()) } (episodes(only)) }
        }
        @if !comparison.changed.is_empty() {
            h3 { "Changed: " (comparison.changed.len()) }
            div.scroll { table {
                thead { tr { th { "Rule" } th { "Other rules" } th { "These rules" } th { "Differs in" } } }
                tbody { @for change in &comparison.changed { tr {
                    td { (change.new.rule) }
                    td { (chip(change.old.severity)) " " (fired(&change.old)) }
                    td { (chip(change.new.severity)) " " (fired(&change.new)) }
                    td { (change.differences.join(", ")) }
                } } }
            } }
        }
    }
}

fn score(report: &Report<'_>) -> Markup {
    let Some(score) = &report.score else { return html! {} };
    html! {
        h2 { "Against the incidents" }
        p {
            "Precision " (score.precision.map_or_else(|| "undefined, there are no alerts".to_string(), wording::share))
            ", recall " (wording::share(score.recall)) ": " (score.true_alerts) " alerts of incidents, "
            (score.false_alerts) " of none."
        }
        ul { @for incident in &score.incidents { li {
            (incident.name) ": "
            @match incident.delay_ms { Some(delay_ms) => { "told after " (delay(delay_ms)) } None => { strong { "missed" } } }
        } } }
    }
}

fn suggestions(report: &Report<'_>) -> Markup {
    let Some(suggestions) = &report.suggestions else { return html! {} };
    let yaml = suggested_yaml(suggestions);
    html! {
        h2 { "Thresholds" }
        p { "Under which at most " (counted(suggestions.first().map_or(0, |suggestion| suggestion.allowed), "episode")) " of each rule would have begun in this history." }
        ul { @for suggestion in suggestions { li {
            (suggestion.rule) " " (chip(suggestion.severity)) ": " code { (suggestion.now) } " has " (suggestion.episodes_now)
            @if let (Some(instead), Some(then)) = (&suggestion.instead, suggestion.episodes_then) { ", " code { (instead) } " would have " (then) }
            @if let Some(note) = &suggestion.note { ": " (note) }
        } } }
        @if !yaml.is_empty() { pre { (yaml) } }
    }
}
