//! Changes that detectors saw in the signals of one model version, newest first.

use maud::{Markup, html};

use crate::http::view::Series;
use crate::http::wording;
use crate::windows::result::Change;

/// Older ones are left to the API.
const SHOWN: usize = 50;

/// Nothing where none was seen.
pub fn render(series: &Series) -> Markup {
    let mut changes: Vec<&Change> = series.values().flat_map(|result| &result.changes).collect();
    changes.sort_by(|left, right| right.cmp(left));
    // Sliding windows tell a change more than once.
    changes.dedup();
    html! {
        @if !changes.is_empty() {
            h2 { "Changes" }
            div.scroll { table.list {
                thead { tr { th { "Event time" } th { "Signal" } th { "Seen by" } th { "Source" } } }
                tbody {
                    @for change in changes.iter().take(SHOWN) {
                        tr {
                            td { (wording::rfc3339(change.event_time_ms)) }
                            td { code { (change.signal) } }
                            td { code { (change.detector) } }
                            td { (change.topic) "[" (change.partition) "] offset " (change.offset) }
                        }
                    }
                }
            } }
            @if changes.len() > SHOWN { p.muted { (changes.len() - SHOWN) " earlier ones are left out." } }
        }
    }
}
