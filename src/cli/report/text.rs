//! The report for people: per window what drifted, worst first, then the sum of it.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::Report;
use super::explain::{probability, what_moved};
use super::verdict::{Cause, Drift, WindowVerdict};
use crate::config::model::Kind;

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
    }
    writeln!(out)?;
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

fn write_drift(out: &mut impl Write, report: &Report, index: usize, drift: &Drift, width: usize) -> io::Result<()> {
    let feature = &report.features[drift.feature];
    let values = &feature.windows[index];
    let metric = |key| values.metric(key).unwrap_or(f64::NAN);
    let statistic = match (drift.cause, feature.kind) {
        (Cause::Missing, _) => "missing".to_string(),
        (Cause::Distribution, Kind::Numeric) => format!("KS {:.3}", metric("ks")),
        (Cause::Distribution, Kind::Categorical) => format!("chi2 {:.1}", metric("chi2")),
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

fn counted(count: usize, noun: &str) -> String {
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
