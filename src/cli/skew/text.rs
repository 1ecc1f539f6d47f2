//! The report for people: what was matched, a line a feature, worst first, and examples.

use std::fmt::Write;

use super::matching::{Matching, Plan};
use super::side::Side;
use super::{FeatureReport, Report};
use crate::cli::report::{counted, instant, short};
use crate::config::units::Span;
use crate::stats::skew::Outcome;

const ALARM: &str = "\x1b[1;31m";
const RESET: &str = "\x1b[0m";

pub fn text(report: &Report, colour: bool) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write_all(&mut out, report, colour);
    out
}

fn write_all(out: &mut String, report: &Report, colour: bool) -> std::fmt::Result {
    let ((online, online_rows), (offline, offline_rows)) = (&report.online, &report.offline);
    writeln!(out, "online   {}  {}", online.display(), counted(*online_rows, "row"))?;
    writeln!(out, "offline  {}  {}", offline.display(), counted(*offline_rows, "row"))?;
    let matched = counted(report.counts.matched, "pair");
    writeln!(out, "matched  {matched}, {}", matched_by(&report.plan))?;
    for (count, what) in unmatched(report) {
        if count > 0 {
            writeln!(out, "         {what}")?;
        }
    }
    write_table(out, report, colour)?;
    for feature in report.features.iter().filter(|feature| feature.skew.mismatches() > 0) {
        write_examples(out, feature)?;
    }
    let above = report.features.iter().filter(|feature| feature.is_above(report.max_rate)).count();
    if let Some(most) = report.max_rate {
        let features = counted(report.features.len(), "feature");
        writeln!(out, "\n{above} of {features} above the allowed rate of {}", percent(most))?;
    }
    for note in &report.notes {
        writeln!(out, "note: {note}")?;
    }
    Ok(())
}

fn matched_by(plan: &Plan) -> String {
    let keys: Vec<String> = plan
        .keys
        .iter()
        .map(|(online, offline)| match online == offline {
            true => format!("`{online}`"),
            false => format!("`{online}` = `{offline}`"),
        })
        .collect();
    let keys = keys.join(", ");
    match &plan.time {
        None => format!("by {keys}"),
        Some(time) => {
            let age = time.max_age_ms.map(|ms| format!(", at most {} older", Span::from_ms(ms))).unwrap_or_default();
            format!("by {keys} and the latest `{}` at or before `{}`{age}", time.offline, time.online)
        }
    }
}

/// Rows without a partner, with the sentence that says so.
fn unmatched(report: &Report) -> Vec<(usize, String)> {
    let counts = &report.counts;
    let replaced = match report.plan.time {
        Some(_) => "followed by one of the same key and time, which counts instead",
        None => "followed by one of the same key, which counts instead",
    };
    let mut lines = Vec::new();
    let mut add = |count: usize, side: &str, what: &str| {
        lines.push((count, format!("{} {what}", counted(count, &format!("{side} row")))));
    };
    add(counts.online_unmatched, "online", "without a row on the offline side");
    add(counts.online_outside_max_age, "online", "whose offline rows are all too old");
    add(counts.online_duplicates, "online", replaced);
    add(counts.offline_duplicates, "offline", replaced);
    add(counts.online_without_key, "online", "without a key");
    add(counts.offline_without_key, "offline", "without a key");
    add(counts.online_without_time, "online", "without a time");
    add(counts.offline_without_time, "offline", "without a time");
    let keys = counted(counts.offline_keys, "key");
    lines.push((
        counts.offline_unmatched_keys,
        format!("{} of {keys} of the offline side not seen online", counts.offline_unmatched_keys),
    ));
    lines
}

fn write_table(out: &mut String, report: &Report, colour: bool) -> std::fmt::Result {
    let width = report.features.iter().map(|feature| feature.name.chars().count()).max().unwrap_or(0).max(7);
    writeln!(
        out,
        "\n{:width$}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}  mismatches (95%)",
        "feature", "equal", "close", "different", "no online", "no offl.", "neither", "largest"
    )?;
    for feature in &report.features {
        let skew = &feature.skew;
        let rate = match (skew.mismatch_rate(), skew.mismatch_interval()) {
            (Some(rate), Some([low, high])) => format!("{} ({} to {})", percent(rate), percent(low), percent(high)),
            _ => "no pairs".to_string(),
        };
        let (alarm, reset) = if colour && feature.is_above(report.max_rate) { (ALARM, RESET) } else { ("", "") };
        writeln!(
            out,
            "{:width$}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}  {alarm}{rate}{reset}",
            feature.name,
            skew.count(Outcome::Equal),
            skew.count(Outcome::WithinTolerance),
            skew.count(Outcome::Different),
            skew.count(Outcome::MissingOnline),
            skew.count(Outcome::MissingOffline),
            skew.count(Outcome::BothMissing),
            skew.largest_absolute_difference().map_or_else(|| "-".to_string(), short),
        )?;
    }
    Ok(())
}

fn write_examples(out: &mut String, feature: &FeatureReport) -> std::fmt::Result {
    let skew = &feature.skew;
    writeln!(out, "\n{}", feature.name)?;
    if let (Some(absolute), Some(relative)) = (skew.mean_absolute_difference(), skew.mean_relative_difference()) {
        let largest = skew.largest_relative_difference().unwrap_or(0.0);
        let (absolute, relative) = (short(absolute), percent(relative));
        writeln!(out, "  mean difference {absolute}, {relative} of the value; largest {} of it", percent(largest))?;
    }
    let reasons: Vec<String> =
        skew.missing_reasons().iter().map(|(reason, count)| format!("{count} {}", reason.as_str())).collect();
    if !reasons.is_empty() {
        writeln!(out, "  missing online: {}", reasons.join(", "))?;
    }
    if let Some((older, dated)) = skew.older_online().filter(|(older, _)| *older > 0) {
        writeln!(out, "  {older} of {dated} values online are older than the offline row: the online store lagged")?;
    }
    for example in skew.examples().iter() {
        let at = example.time_ms.map(|time| format!(" at {}", instant(time))).unwrap_or_default();
        writeln!(out, "  {}{at}: online {}, offline {}", example.key, example.online, example.offline)?;
    }
    Ok(())
}

/// Small shares keep two digits: `0.012%`.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 0.1 { format!("{}%", short(percent)) } else { format!("{percent:.1}%") }
}

/// Why nothing was compared, with a key of each side, so that a difference in writing shows.
pub fn nothing_matched(plan: &Plan, matching: &Matching, online: &Side, offline: &Side) -> String {
    let first = |side: &Side, name: &str| {
        let (codes, index) = side.texts(name).ok()?;
        codes.iter().find_map(|code| index.names().get(*code as usize).cloned())
    };
    let mut sides = Vec::new();
    for (online_name, offline_name) in &plan.keys {
        let key = |side, name| first(side, name).map_or_else(|| "nothing".to_string(), |key| format!("`{key}`"));
        sides.push(format!(
            "`{online_name}` begins with {} online and {} offline",
            key(online, online_name),
            key(offline, offline_name)
        ));
    }
    let counts = &matching.counts;
    let old = match counts.online_outside_max_age {
        0 => String::new(),
        old => format!("; {old} are outside --max-age"),
    };
    let time = match &plan.time {
        Some(time) => format!(" whose `{}` is at or before `{}`", time.offline, time.online),
        None => String::new(),
    };
    format!("no online row has an offline row of the same key{time}{old}: nothing compared ({})", sides.join("; "))
}
