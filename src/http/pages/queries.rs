//! Values of rules' queries in the last window: of all events, then of segments.

use maud::{Markup, html};

use crate::http::view::View;
use crate::http::wording;
use crate::stats::metric::FeatureStats;
use crate::stats::sql::state::NoValue;
use crate::stats::sql::{VALUE, rule_of};
use crate::windows::result::WindowResult;

/// More rows would make the page heavy; the API has all.
const MOST_ROWS: usize = 100;

struct Row<'a> {
    rule: &'a str,
    segment: String,
    stats: &'a FeatureStats,
}

pub fn render(view: &View, last: &WindowResult) -> Markup {
    let size_ms = last.window.end_ms - last.window.start_ms;
    let of_window = view
        .series()
        .filter(|(key, _)| key.model == last.model && key.version == last.version && key.size_ms == size_ms)
        .filter_map(|(_, series)| series.get(&last.window.start_ms));
    let mut rows: Vec<Row<'_>> = of_window
        .flat_map(|result| result.features.iter().map(move |(name, stats)| (result, name, stats)))
        .filter_map(|(result, name, stats)| {
            Some(Row { rule: rule_of(name)?, segment: result.segment.to_string(), stats })
        })
        .collect();
    rows.sort_by(|left, right| (left.rule, &left.segment).cmp(&(right.rule, &right.segment)));
    html! {
        @if !rows.is_empty() {
            h2 { "Queries of rules in the last window" }
            div.scroll { table.list {
                thead { tr { th { "Rule" } th { "Segment" } th.number { "Value" } th.number { "Events asked" } } }
                tbody {
                    @for row in rows.iter().take(MOST_ROWS) {
                        tr {
                            td { (row.rule) }
                            td { (row.segment) }
                            td.number { (value(row.stats)) }
                            td.number { (wording::count(row.stats.n)) }
                        }
                    }
                }
            } }
            @if rows.len() > MOST_ROWS { p.muted { (rows.len() - MOST_ROWS) " more." } }
        }
    }
}

fn value(stats: &FeatureStats) -> String {
    if let Some(value) = stats.metrics.get(VALUE).and_then(|value| value.value) {
        return wording::figure(value);
    }
    let reason = match stats.no_value {
        Some(NoValue::NotCollected) => "the rule is newer than some events",
        Some(NoValue::QueryFailed) => "the query failed on an event",
        Some(NoValue::StateTooLarge) => "too many distinct values",
        Some(NoValue::Undefined) | None => "none",
    };
    reason.to_string()
}
