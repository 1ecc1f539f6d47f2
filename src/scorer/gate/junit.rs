//! The report as the XML that CI systems show: a suite for each stage, a case for each check. What is undecided counts as
//! an error, as it is neither right nor wrong.

use super::text::title;
use super::verdict::{Check, GateReport, Outcome, Stage};
use crate::rule_test::report::escape;

/// A whole document.
pub fn junit(report: &GateReport) -> String {
    let all: Vec<&Check> = report.checks.iter().collect();
    let name = escape(&title(report));
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    xml.push_str(&format!("<testsuites name=\"driftline gate, {name}\" {}>\n", counts(&all)));
    for stage in Stage::ALL {
        let of_stage: Vec<&Check> = all.iter().copied().filter(|check| check.stage == stage).collect();
        if of_stage.is_empty() {
            continue;
        }
        xml.push_str(&format!("  <testsuite name=\"{}\" {}>\n", stage.name(), counts(&of_stage)));
        of_stage.iter().for_each(|check| xml.push_str(&case(check)));
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

fn counts(checks: &[&Check]) -> String {
    let of = |outcome| checks.iter().filter(|check| check.outcome == outcome).count();
    format!("tests=\"{}\" failures=\"{}\" errors=\"{}\"", checks.len(), of(Outcome::Refused), of(Outcome::Undecided))
}

fn case(check: &Check) -> String {
    let head = format!("    <testcase classname=\"{}\" name=\"{}\"", check.stage.name(), escape(&check.name));
    let said = escape(&format!("{} (wanted: {})", check.found, check.wanted));
    match check.outcome {
        Outcome::Pass => format!("{head}><system-out>{said}</system-out></testcase>\n"),
        Outcome::Refused => format!("{head}><failure message=\"{said}\"/></testcase>\n"),
        Outcome::Undecided => format!("{head}><error message=\"{said}\"/></testcase>\n"),
    }
}
