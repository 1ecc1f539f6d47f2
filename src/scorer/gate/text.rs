//! The report for people: what was not passed first, then every check by stage.

use std::fmt::Write;

use super::verdict::{Check, GateReport, Outcome, Stage};

/// Lines of at most the width that their numbers need; no colours, as CI keeps them.
pub fn text(report: &GateReport) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write_all(&mut out, report);
    out
}

fn write_all(out: &mut String, report: &GateReport) -> std::fmt::Result {
    let measured = &report.measurements;
    writeln!(out, "{}: {}", title(report), report.outcome.name())?;
    writeln!(out, "{} rows, {} with a label", measured.data.rows, measured.data.labelled)?;
    for stage in Stage::ALL {
        let of_stage: Vec<&Check> = report.checks.iter().filter(|check| check.stage == stage).collect();
        if of_stage.is_empty() {
            continue;
        }
        writeln!(out, "\n{}", stage.name())?;
        let names = of_stage.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
        for check in of_stage {
            let mark = match check.outcome {
                Outcome::Pass => "pass     ",
                Outcome::Undecided => "undecided",
                Outcome::Refused => "REFUSED  ",
            };
            writeln!(out, "  {mark}  {:names$}  {}  (wanted: {})", check.name, check.found, check.wanted)?;
        }
    }
    if !report.notes.is_empty() {
        writeln!(out)?;
    }
    for note in &report.notes {
        writeln!(out, "note: {note}")?;
    }
    Ok(())
}

/// `credit: version 2 against version 1`.
pub fn title(report: &GateReport) -> String {
    let measured = &report.measurements;
    let against = measured.against.as_ref().map_or(String::new(), |side| format!(" against version {}", side.version));
    format!("{}: version {}{against}", measured.model, measured.candidate.version)
}
