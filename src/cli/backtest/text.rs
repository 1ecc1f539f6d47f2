//! The report for people.

use std::fmt::Write as _;

use super::report::{Report, RuleReport};
use crate::backtest::Episode;
use crate::backtest::compare::Comparison;
use crate::backtest::incidents::Score;
use crate::backtest::suggest::Suggestion;
use crate::config::rules::Severity;
use crate::config::units::Span;
use crate::http::wording;

pub fn of(report: &Report<'_>) -> String {
    let mut out = String::new();
    // Writing to a text cannot fail.
    let _ = history(&mut out, report);
    let _ = episodes(&mut out, report);
    let _ = messages(&mut out, report);
    let _ = rules(&mut out, &report.rules);
    if let Some(comparison) = &report.comparison {
        let _ = compared(&mut out, comparison);
    }
    if let Some(score) = &report.score {
        let _ = scored(&mut out, score);
    }
    if let Some(suggestions) = &report.suggestions {
        let _ = suggested(&mut out, suggestions);
    }
    out
}

/// `1 episode`, `2 episodes`.
pub(super) fn counted(number: u64, word: &str) -> String {
    format!("{} {word}{}", wording::count(number), if number == 1 { "" } else { "s" })
}

fn history(out: &mut String, report: &Report<'_>) -> std::fmt::Result {
    let trail = &report.tried.trail;
    for (model, read) in &report.tried.reads {
        let of = |counts: &std::collections::BTreeMap<String, u64>| counts.get(model).copied().unwrap_or(0);
        let (rows, windows, late) = (of(&trail.rows), of(&trail.windows_closed), of(&trail.late));
        let time = trail.spans.get(model).map_or_else(String::new, |(first_ms, last_ms)| {
            format!(" from {} to {}", wording::minute(*first_ms), wording::minute(*last_ms))
        });
        writeln!(out, "{model}: {}{time}, {}", counted(rows, "row"), counted(windows, "window"))?;
        if !read.in_order {
            writeln!(out, "  rows were not in the order of their event time; they were sorted")?;
        }
        if late > 0 {
            writeln!(out, "  {} came too late for their window and do not count", counted(late, "row"))?;
        }
        read.notes.iter().try_for_each(|note| writeln!(out, "  note: {note}"))?;
    }
    if !trail.rejected.is_empty() {
        let reasons: Vec<String> =
            trail.rejected.iter().map(|(reason, count)| format!("{} {reason}", wording::count(*count))).collect();
        writeln!(out, "rows that could not be used: {}", reasons.join(", "))?;
    }
    if trail.unrouted > 0 {
        writeln!(out, "events of other models: {}", wording::count(trail.unrouted))?;
    }
    trail.problems.iter().try_for_each(|problem| writeln!(out, "problem: {problem}"))?;
    writeln!(out)
}

pub(super) fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Warn => "warn",
        Severity::Critical => "critical",
    }
}

/// `2026-01-03 00:00 to 2026-01-09 00:00`, or `since ...` of what still fires.
pub(super) fn fired(episode: &Episode) -> String {
    match episode.resolved_ms {
        Some(until_ms) => format!("{} to {}", wording::minute(episode.fired_ms), wording::minute(until_ms)),
        None => format!("{}, still firing at the end", wording::minute(episode.fired_ms)),
    }
}

fn line(out: &mut String, episode: &Episode) -> std::fmt::Result {
    writeln!(out, "  {:8}  {}  {}", severity(episode.severity), fired(episode), episode.summary)
}

fn episodes(out: &mut String, report: &Report<'_>) -> std::fmt::Result {
    let episodes = &report.tried.trail.episodes;
    writeln!(out, "{}", counted(episodes.len() as u64, "episode"))?;
    for episode in episodes {
        line(out, episode)?;
        let to: Vec<&str> = episode.receivers.iter().map(String::as_str).collect();
        let to = match (&episode.quiet, to.is_empty()) {
            (Some(quiet), _) => format!("nobody: kept quiet by {quiet}"),
            (None, true) => "nobody: no route matches".to_string(),
            (None, false) => to.join(", "),
        };
        writeln!(
            out,
            "            id {}, {} to {to}",
            episode.id,
            counted(episode.notifications.len() as u64, "notification")
        )?;
    }
    writeln!(out)
}

fn messages(out: &mut String, report: &Report<'_>) -> std::fmt::Result {
    let total: u64 = report.receivers.iter().map(|receiver| receiver.messages).sum();
    writeln!(out, "{} would have been sent", counted(total, "message"))?;
    for receiver in &report.receivers {
        let parts = [(receiver.news, "news"), (receiver.reminders, "reminders"), (receiver.digests, "digests")];
        let parts: Vec<String> = parts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{} {what}", wording::count(count)))
            .collect();
        writeln!(out, "  {}: {}", receiver.receiver, parts.join(", "))?;
    }
    let runs = &report.tried.trail.runs;
    if !runs.is_empty() {
        let started = runs.iter().filter(|run| run.started_ms.is_some()).count() as u64;
        writeln!(
            out,
            "\n{} of actions, {} of which would have gone ahead",
            counted(runs.len() as u64, "run"),
            started
        )?;
        for run in runs {
            let at = wording::minute(run.started_ms.unwrap_or(run.requested_ms));
            let why = if run.reason.is_empty() { String::new() } else { format!(": {}", run.reason) };
            writeln!(out, "  {} of {} at {at}, {}{why}", run.action, run.model, run.state.replace('_', " "))?;
            writeln!(out, "    asked for by {}, episode {}", run.rule, run.episode_id)?;
        }
    }
    writeln!(out)
}

fn rules(out: &mut String, rules: &[RuleReport]) -> std::fmt::Result {
    let width = rules.iter().map(|rule| rule.rule.chars().count()).max().unwrap_or(0).max(4);
    writeln!(
        out,
        "{:width$}  episodes  windows  judged  breached  chance windows expected at most, before `for`",
        "rule"
    )?;
    for rule in rules {
        if rule.asks_for_absence {
            writeln!(out, "{:width$}  {:>8}  asks how long nothing has arrived", rule.rule, rule.episodes)?;
            continue;
        }
        let chance = rule.chance_windows.map_or_else(|| "no test".to_string(), |expected| format!("{expected:.2}"));
        writeln!(
            out,
            "{:width$}  {:>8}  {:>7}  {:>6}  {:>8}  {chance}",
            rule.rule, rule.episodes, rule.windows, rule.judged, rule.breached
        )?;
        if !rule.not_judged.is_empty() {
            let reasons: Vec<String> =
                rule.not_judged.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
            writeln!(out, "{:width$}  not judged: {}", "", reasons.join(", "))?;
        }
    }
    Ok(())
}

fn compared(out: &mut String, comparison: &Comparison) -> std::fmt::Result {
    writeln!(out, "\ncompared with the other rules: {} the same", counted(comparison.same, "episode"))?;
    for (title, episodes) in
        [("only with the other rules", &comparison.only_old), ("only with these rules", &comparison.only_new)]
    {
        writeln!(out, "{title}: {}", episodes.len())?;
        episodes.iter().try_for_each(|episode| line(out, episode))?;
    }
    writeln!(out, "changed: {}", comparison.changed.len())?;
    for change in &comparison.changed {
        writeln!(out, "  {} of {}: {}", change.new.rule, change.new.model, change.differences.join(", "))?;
        writeln!(out, "    other  {:8}  {}", severity(change.old.severity), fired(&change.old))?;
        writeln!(out, "    these  {:8}  {}", severity(change.new.severity), fired(&change.new))?;
    }
    Ok(())
}

/// A length of time as people say it, to the minute.
pub(super) fn length(ms: i64) -> String {
    let minutes = (ms.abs() + 30_000) / 60_000;
    Span::from_ms(minutes * 60_000).to_string()
}

fn scored(out: &mut String, score: &Score) -> std::fmt::Result {
    let precision = score.precision.map_or_else(|| "no alerts".to_string(), wording::share);
    writeln!(out, "\nagainst the incidents: precision {precision}, recall {}", wording::share(score.recall))?;
    writeln!(out, "  {} alerts of incidents, {} of none", score.true_alerts, score.false_alerts)?;
    if let Some(delay_ms) = score.median_delay_ms {
        writeln!(out, "  median delay {}", delay(delay_ms))?;
    }
    for incident in &score.incidents {
        match incident.delay_ms {
            Some(delay_ms) => writeln!(out, "  {}: told after {}", incident.name, delay(delay_ms))?,
            None => writeln!(out, "  {}: missed", incident.name)?,
        }
    }
    Ok(())
}

pub(super) fn delay(ms: i64) -> String {
    if ms < 0 { format!("-{} (before it began)", length(ms)) } else { length(ms) }
}

fn suggested(out: &mut String, suggestions: &[Suggestion]) -> std::fmt::Result {
    let allowed = suggestions.first().map_or(0, |suggestion| suggestion.allowed);
    writeln!(
        out,
        "\nthresholds under which at most {} of each rule would have begun in this history:",
        counted(allowed, "episode")
    )?;
    for suggestion in suggestions {
        let now = format!("`{}` has {}", suggestion.now, suggestion.episodes_now);
        let then = match (&suggestion.instead, suggestion.episodes_then, &suggestion.note) {
            (Some(instead), Some(episodes), _) => format!("{now}, `{instead}` would have {episodes}"),
            (_, _, Some(note)) => format!("{now}: {note}"),
            _ => now,
        };
        writeln!(out, "  {} {}: {then}", suggestion.rule, severity(suggestion.severity))?;
    }
    let yaml = suggested_yaml(suggestions);
    if !yaml.is_empty() {
        writeln!(out, "\n{yaml}")?;
    }
    Ok(())
}

/// What to put into the rules.
pub(super) fn suggested_yaml(suggestions: &[Suggestion]) -> String {
    let mut rules: Vec<(&str, Vec<String>)> = Vec::new();
    for suggestion in suggestions {
        let Some(instead) = &suggestion.instead else { continue };
        let part = format!("{}: {instead}", severity(suggestion.severity));
        match rules.last_mut().filter(|(rule, _)| *rule == suggestion.rule) {
            Some((_, parts)) => parts.push(part),
            None => rules.push((&suggestion.rule, vec![part])),
        }
    }
    let lines = rules.iter().map(|(rule, parts)| format!("  - name: {rule}\n    when: {{{}}}", parts.join(", ")));
    let lines: Vec<String> = lines.collect();
    if lines.is_empty() { String::new() } else { format!("rules:\n{}", lines.join("\n")) }
}
