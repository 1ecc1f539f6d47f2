//! The part of a model's page on the quality of the data itself: the window as a whole, then its features, worst first.

use maud::{Markup, html};

use crate::http::view::worst_flaw;
use crate::http::wording;
use crate::stats::metric::FeatureStats;
use crate::stats::quality::WindowQuality;
use crate::windows::result::WindowResult;

/// Features in the table; of more, the worst.
const FEATURES: usize = 30;
/// Names of a schema change that are written out.
const NAMES: usize = 20;
/// Rates below this are written as 0%, and a feature with nothing above is in order.
const LEAST_RATE: f64 = 5e-5;

/// Column heading and metric of each rate of a feature.
const RATES: [(&str, &str); 8] = [
    ("Missing", "null_rate"),
    ("Change", "null_rate_change"),
    ("No key", "absent_rate"),
    ("Wrong type", "type_mismatch_rate"),
    ("NaN", "nan_rate"),
    ("Infinite", "infinite_rate"),
    ("Out of range", "out_of_range_rate"),
    ("Unseen", "unseen_rate"),
];

pub fn render(last: &WindowResult) -> Markup {
    html! {
        h2 { "Data quality in the last window" }
        @if let Some(quality) = &last.quality { (window(last, quality)) }
        (features(last))
    }
}

fn value(stats: &FeatureStats, name: &str) -> f64 {
    let value = stats.metrics.get(name).and_then(|metric| metric.value);
    value.filter(|value| value.is_finite()).unwrap_or(0.0)
}

fn window(last: &WindowResult, quality: &WindowQuality) -> Markup {
    let metric = |name: &str| last.window_metric(name).and_then(|metric| metric.value);
    let rejected = quality.rejected_events();
    html! {
        dl.facts {
            div { dt { "Rejected events" } dd {
                (wording::count(rejected))
                @if let Some(rate) = metric("rejected_rate").filter(|_| rejected > 0) { " (" (wording::share(rate)) ")" }
                @for (reason, events) in &quality.rejected { " · " code { (reason) } " " (wording::count(*events)) }
            } }
            @if let Some((expected, ratio)) = quality.expected_rows.zip(metric("row_count_ratio")) {
                div { dt { "Events against expected" } dd {
                    (wording::count(last.rows)) " of " (wording::count(expected.round() as u64)) " (" (wording::share(ratio)) ")"
                } }
            }
            @if let Some(duplicates) = &quality.duplicate_rate {
                div { dt { "Repeated prediction ids" } dd {
                    (wording::share(duplicates.value.unwrap_or(0.0)))
                    @if let Some(bound) = duplicates.bound { " ± " (wording::share(bound)) }
                } }
            }
            @if let Some(seconds) = quality.freshness_seconds {
                div { dt { "Newest event at closing" } dd { (wording::figure(seconds)) " s old" } }
            }
            @if let Some(seconds) = quality.delay_seconds {
                div { dt { "Mean delay to the log" } dd { (wording::figure(seconds)) " s" } }
            }
            @if !quality.schema_added.is_empty() {
                div { dt { "New keys" } dd {
                    @for (index, name) in quality.schema_added.keys().enumerate() {
                        @if index > 0 { ", " } code { (name) }
                    }
                    @if quality.schema_added_rest > 0 { " and others" }
                } }
            }
            @if !quality.schema_missing.is_empty() {
                div { dt { "Vanished features" } dd {
                    @for (index, name) in quality.schema_missing.iter().take(NAMES).enumerate() {
                        @if index > 0 { ", " } code { (name) }
                    }
                    @if quality.schema_missing.len() > NAMES { " and others" }
                } }
            }
        }
    }
}

fn features(last: &WindowResult) -> Markup {
    let mut rows: Vec<(&String, &FeatureStats, f64)> =
        last.features.iter().map(|(name, stats)| (name, stats, worst_flaw(stats))).collect();
    rows.retain(|(_, _, worst)| *worst >= LEAST_RATE);
    rows.sort_by(|left, right| right.2.total_cmp(&left.2).then_with(|| left.0.cmp(right.0)));
    // A column of nothing but zeros says nothing.
    let shown =
        RATES.iter().filter(|(_, name)| rows.iter().any(|(_, stats, _)| value(stats, name).abs() >= LEAST_RATE));
    let shown: Vec<&(&str, &str)> = shown.collect();
    let rate = |stats: &FeatureStats, name: &str| match value(stats, name) {
        rate if rate.abs() < LEAST_RATE => html! { "" },
        rate => html! { (wording::share(rate)) },
    };
    html! {
        @if rows.is_empty() { p.empty { "Nothing is wrong with the values of any feature." } }
        @else {
            div.scroll { table.list {
                thead { tr { th { "Feature" } @for (heading, _) in &shown { th.number { (heading) } } th { "" } } }
                tbody {
                    @for (feature, stats, _) in rows.iter().take(FEATURES) {
                        tr {
                            td { code { (feature) } }
                            @for (_, name) in &shown { td.number { (rate(stats, name)) } }
                            td { @if value(stats, "constant") > 0.0 { "one value only" } }
                        }
                    }
                }
            } }
            @if rows.len() > FEATURES { p.muted { (rows.len() - FEATURES) " more features have less." } }
        }
    }
}
