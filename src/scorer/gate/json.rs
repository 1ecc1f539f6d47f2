//! The report for programs: every verdict, and every number that it rests on.

use super::verdict::GateReport;

/// One document.
///
/// # Errors
/// None that a report of this code can bring about; serde's signature has one.
pub fn json(report: &GateReport) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(report).map(|text| text + "\n")
}
