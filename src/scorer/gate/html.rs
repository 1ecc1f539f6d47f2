//! The report as a page that stands alone: nothing is fetched, so that it can be kept beside the build that wrote it.

use maud::{DOCTYPE, html};

use super::text::title;
use super::verdict::{GateReport, Outcome, Stage};

const STYLE: &str = "
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif }
body { max-width: 64rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100%; margin-bottom: 1.5rem }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid #8885; vertical-align: top }
.pass { color: #17803d } .refused { color: #c62828; font-weight: 600 } .undecided { color: #a15c00; font-weight: 600 }
@media (prefers-color-scheme: dark) { .pass { color: #5fd38a } .refused { color: #ff8a80 } .undecided { color: #ffb74d } }
";

/// A whole document.
pub fn html(report: &GateReport) -> String {
    let title = title(report);
    let measured = &report.measurements;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) ": " (report.outcome.name()) }
                style { (maud::PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                p { "Verdict: " span class=(report.outcome.name()) { (report.outcome.name()) } ". "
                    (measured.data.rows) " rows, " (measured.data.labelled) " with a label." }
                @for outcome in [Outcome::Refused, Outcome::Undecided] {
                    @let count = report.checks.iter().filter(|check| check.outcome == outcome).count();
                    @if count > 0 { p { (count) " " span class=(outcome.name()) { (outcome.name()) } } }
                }
                @for stage in Stage::ALL {
                    @if report.checks.iter().any(|check| check.stage == stage) {
                        h2 { (stage.name()) }
                        table {
                            thead { tr { th { "check" } th { "verdict" } th { "found" } th { "wanted" } } }
                            tbody {
                                @for check in report.checks.iter().filter(|check| check.stage == stage) {
                                    tr {
                                        td { (check.name) }
                                        td class=(check.outcome.name()) { (check.outcome.name()) }
                                        td { (check.found) }
                                        td { (check.wanted) }
                                    }
                                }
                            }
                        }
                    }
                }
                @for note in &report.notes { p { "Note: " (note) } }
            }
        }
    };
    page.into_string()
}
