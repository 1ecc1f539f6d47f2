//! The report for people: per window what drifted, worst first, then the sum of it.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::Report;
use super::changes::SignalChanges;
use super::compute::short;
use super::explain::{probability, what_moved};
use super::performance::headline;
use super::verdict::{Cause, Drift, WindowVerdict};
use super::windows::instant;
use crate::config::model::Kind;
use crate::stats::rows::numeric::Metrics;

/// Changes written out per signal and detector.
const SHOWN_CHANGES: usize = 20;

struct Style {
    alarm: &'static str,
    caution: &'static str,
    faint: &'static str,
    reset: &'static str,
}

const COLOURS: Style = Style { alarm: "\x1b[1;31m", caution: "\x1b[33m", faint: "\x1b[2m", reset: "\x1b[0m" };
const PLAIN: Style = Style { alarm: "", caution: "", faint: "", reset: "" };

pub fn write(out: &mut impl Write, report: &Report, colour: bool) -> io::Result<()> {
    let style = if colour { &COLOURS } else { &PLAIN };
    let (reference, current) = (&report.reference, &report.current);
    writeln!(out, "reference  {}  {}", reference.path.display(), counted(reference.rows, "row"))?;
    writeln!(out, "current    {}  {}", current.path.display(), counted(current.rows, "row"))?;
    let windows = counted(report.windows.len(), "window");
    writeln!(out, "compared   {} in {windows} ({})", counted(report.features.len(), "feature"), report.spec)?;
    writeln!(out)?;
    for index in 0..report.windows.len() {
        write_window(out, report, index, style)?;
        write_joint(out, report, index)?;
        write_performance(out, report, index)?;
    }
    writeln!(out)?;
    if !report.changes.is_empty() {
        for found in &report.changes {
            write_changes(out, found, style)?;
        }
        writeln!(out)?;
    }
    write_summary(out, report, style)?;
    for note in &report.notes {
        writeln!(out, "{}note: {note}{}", style.faint, style.reset)?;
    }
    Ok(())
}

fn write_window(out: &mut impl Write, report: &Report, index: usize, style: &Style) -> io::Result<()> {
    let (window, verdict) = (&report.windows[index], &report.verdicts[index]);
    let Style { alarm, caution, faint, reset } = style;
    let head = format!("window {index}  {}  {}", window.label, counted(window.rows, "row"));
    if verdict.judged == 0 {
        let needed = report.thresholds.min_samples;
        return writeln!(out, "{head}: {caution}too small to judge{reset} (under {needed} rows on one side)");
    }
    let too_small = match verdict.too_small.len() {
        0 => String::new(),
        few => format!(", {caution}{} too small to judge{reset}", counted(few, "feature")),
    };
    if !verdict.has_drift() {
        return writeln!(out, "{faint}{head}: no drift{reset}{too_small}");
    }
    let drifted = format!("{} of {} drifted", names_drifted(report, verdict).len(), counted(verdict.judged, "feature"));
    writeln!(out, "{head}: {alarm}{drifted}{reset}{too_small}")?;
    let width = verdict.drifted.iter().map(|drift| report.features[drift.feature].name.chars().count()).max();
    for drift in &verdict.drifted {
        write_drift(out, report, index, drift, width.unwrap_or(0))?;
    }
    Ok(())
}

/// How well the model did, beside the reference; what it should have done, where labels are not needed for it.
fn write_performance(out: &mut impl Write, report: &Report, index: usize) -> io::Result<()> {
    let Some(performance) = &report.performance else { return Ok(()) };
    let metrics = &performance.windows[index];
    let labels = value(metrics, "n").unwrap_or(0.0) as usize;
    let realised = headline(performance.task).into_iter().filter_map(|key| {
        let beside = value(&performance.reference, key).map(|value| format!(" (reference {})", short(value)));
        Some(format!("{key} {}{}", short(value(metrics, key)?), beside.unwrap_or_default()))
    });
    let realised: Vec<String> = realised.collect();
    let realised = if realised.is_empty() { String::new() } else { format!(": {}", realised.join(", ")) };
    writeln!(out, "  performance on {}{realised}", counted(labels, "label"))?;
    let estimates = ["est_accuracy", "est_f1", "est_roc_auc"].into_iter();
    let estimated: Vec<String> = estimates
        .filter_map(|key| Some(format!("{} {}", key.trim_start_matches("est_"), short(value(metrics, key)?))))
        .collect();
    if !estimated.is_empty() {
        writeln!(out, "  estimated by its scores: {}", estimated.join(", "))?;
    }
    Ok(())
}

fn write_joint(out: &mut impl Write, report: &Report, index: usize) -> io::Result<()> {
    match report.joint.get(index).and_then(|metrics| value(metrics, "mmd2_unbiased")) {
        Some(discrepancy) => writeln!(out, "  all numeric features together: MMD^2 {}", short(discrepancy)),
        None => Ok(()),
    }
}

fn value(metrics: &Metrics, key: &str) -> Option<f64> {
    metrics.iter().find(|(name, _)| *name == key).and_then(|(_, value)| *value)
}

/// Changes of one signal as one detector saw them.
fn write_changes(out: &mut impl Write, found: &SignalChanges, style: &Style) -> io::Result<()> {
    let Style { alarm, faint, reset, .. } = style;
    let head = format!("{} by {}", found.signal, found.method);
    let values = counted(found.values, "value");
    if found.changes.is_empty() {
        return writeln!(out, "{faint}{head}: no change in {values}{reset}");
    }
    writeln!(out, "{head}: {alarm}{}{reset} in {values}", counted(found.changes.len(), "change"))?;
    for change in found.changes.iter().take(SHOWN_CHANGES) {
        let at = change.event_time_ms.map(|ms| format!("  {}", instant(ms))).unwrap_or_default();
        let window = change.window.map(|window| format!("  window {window}")).unwrap_or_default();
        writeln!(out, "  seen at row {}{at}{window}", change.row)?;
    }
    match found.changes.len().saturating_sub(SHOWN_CHANGES) {
        0 => Ok(()),
        more => writeln!(out, "  and {more} more (--format jsonl gives all)"),
    }
}

fn write_drift(out: &mut impl Write, report: &Report, index: usize, drift: &Drift, width: usize) -> io::Result<()> {
    let feature = &report.features[drift.feature];
    let values = &feature.windows[index];
    let metric = |key| values.metric(key).unwrap_or(f64::NAN);
    let statistic = match (drift.cause, feature.kind) {
        (Cause::Missing, _) => "missing".to_string(),
        (Cause::Distribution, Kind::Numeric) => format!("KS {:.3}", metric("ks")),
        (Cause::Distribution, Kind::Categorical) => format!("chi2 {:.1}", metric("chi2")),
        (Cause::Distribution, Kind::Vector) => String::new(),
    };
    writeln!(
        out,
        "  {:width$}  PSI {:<6}  {statistic:<12}  p {:<7}  {}",
        feature.name,
        format!("{:.3}", drift.psi),
        probability(drift.adjusted_p),
        what_moved(feature, index, drift.cause)
    )
}

fn write_summary(out: &mut impl Write, report: &Report, style: &Style) -> io::Result<()> {
    let judged = report.verdicts.iter().filter(|verdict| verdict.judged > 0).count();
    let drifted = report.verdicts.iter().filter(|verdict| verdict.has_drift()).count();
    let thresholds = &report.thresholds;
    let rule = format!(
        "PSI > {} and adjusted p < {} (Benjamini-Hochberg over the tests of a window)",
        thresholds.psi_above, thresholds.significance
    );
    if judged == 0 {
        writeln!(out, "{}nothing was judged{}: every window is too small", style.caution, style.reset)?;
        return writeln!(out, "--min-samples N judges windows of N rows and more; it is {}", thresholds.min_samples);
    }
    let unjudged = match report.windows.len() - judged {
        0 => String::new(),
        some => format!("; {} too small to judge", counted(some, "window")),
    };
    if drifted == 0 {
        writeln!(out, "nothing drifted in {}{unjudged}", counted(judged, "window"))?;
    } else {
        let mut windows_of: BTreeMap<&str, usize> = BTreeMap::new();
        for verdict in &report.verdicts {
            for name in names_drifted(report, verdict) {
                *windows_of.entry(name).or_default() += 1;
            }
        }
        let mut ranked: Vec<(usize, &str)> = windows_of.into_iter().map(|(name, count)| (count, name)).collect();
        ranked.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
        let most: Vec<String> = ranked.iter().take(5).map(|(count, name)| format!("{name} ({count})")).collect();
        let more = if ranked.len() > 5 { format!(" and {} more", ranked.len() - 5) } else { String::new() };
        let (alarm, reset) = (style.alarm, style.reset);
        let windows = counted(report.windows.len(), "window");
        writeln!(
            out,
            "{alarm}{drifted} of {windows} drifted{reset}{unjudged}; windows by feature: {}{more}",
            most.join(", ")
        )?;
    }
    writeln!(out, "drift means {rule}")
}

/// Each feature once, though both its values and its missing values may have drifted.
fn names_drifted<'a>(report: &'a Report, verdict: &WindowVerdict) -> Vec<&'a str> {
    let mut positions: Vec<usize> = verdict.drifted.iter().map(|drift| drift.feature).collect();
    positions.sort_unstable();
    positions.dedup();
    positions.into_iter().map(|position| report.features[position].name.as_str()).collect()
}

pub fn counted(count: usize, noun: &str) -> String {
    let digits = count.to_string();
    let mut grouped = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    format!("{grouped} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped_and_agree() {
        assert_eq!(counted(1, "row"), "1 row");
        assert_eq!(counted(1_234_567, "row"), "1 234 567 rows");
        assert_eq!(counted(500, "window"), "500 windows");
    }
}
