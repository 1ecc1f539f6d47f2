//! The part of a model's page on how well the model does: figure by figure what labels say, what was expected without
//! them, and what the reference had; then by version and by segment. The charts stand on alerts' pages too.

use std::collections::BTreeSet;
use std::ops::Range;

use maud::{Markup, html};

use super::{Context, encode, time};
use crate::config::units::Span;
use crate::http::chart::{self, PerformancePoint};
use crate::http::performance::{
    PastError, baseline, behind, confusion, estimate, figures, label, last_realised, past_error, realised,
    shift_p_value, standing,
};
use crate::http::view::{Series, SeriesKey, View, slots};
use crate::http::wording;
use crate::stats::metric::MetricValue;
use crate::windows::result::{Gap, WindowPerformance, WindowResult};

const WINDOWS: usize = 168;
/// Charts of more figures would make the page heavy; the table has all.
const CHARTED: usize = 8;
/// Charts that are open at first.
const OPEN: usize = 2;
/// Figures that segments and versions are compared by.
const COMPARED: usize = 3;
const SEGMENTS: usize = 50;
const GAPS: usize = 12;
/// Classes of a confusion matrix that still fits a page.
const CLASSES: usize = 20;

/// Nothing where the model's performance is not watched.
pub fn render(view: &View, context: &Context<'_>, model: &str, version: &str, size_ms: i64) -> Markup {
    let whole = || view.performance_of(model).filter(|(key, _)| key.segment.is_all() && key.version == version);
    let chosen = whole().find(|(key, _)| key.size_ms == size_ms).or_else(|| whole().next());
    let Some((key, series)) = chosen else { return Markup::default() };
    let names = in_order(context, model, figures(series.values()));
    html! {
        h2 { "Performance" }
        (facts(context, key, series))
        @if names.is_empty() {
            p.empty { "No figure is known yet: no label has met its prediction, and the reference gives no estimate." }
        }
        @for (index, name) in names.iter().take(CHARTED).enumerate() {
            details.feature open[index < OPEN] {
                summary { b { (label(name)) } " " (summary(series, name)) }
                figure { (chart_of(context, model, series, name, WINDOWS, 0..0)) }
                @if let Some(error) = past_error(series, name) { p.muted { "Past estimates were " (measured(&error)) "." } }
            }
        }
        @if names.len() > CHARTED { (table(series, &names[CHARTED..])) }
        @if let Some(last) = names.first().and_then(|name| last_realised(series, name)) {
            @if let Some(performance) = behind(last) { (confusion_table(last, performance)) }
        }
        (versions(view, key, &names))
        (segments(view, key, series, &names))
    }
}

/// What rules watch comes first.
fn in_order(context: &Context<'_>, model: &str, mut names: Vec<String>) -> Vec<String> {
    let watched = |name: &String| {
        let rules = context.watched.rules.iter().filter(|rule| rule.models.iter().any(|known| known == model));
        rules
            .flat_map(|rule| &rule.thresholds)
            .any(|(metric, _, _)| metric.strip_prefix("est_").unwrap_or(metric) == name)
    };
    names.sort_by_key(|name| !watched(name));
    names
}

/// The chart of one figure over the last windows; those that begin in `episode` are marked.
pub fn chart_of(
    context: &Context<'_>,
    model: &str,
    series: &Series,
    metric: &str,
    windows: usize,
    episode: Range<i64>,
) -> Markup {
    let value = |metric: Option<&MetricValue>| metric.and_then(|metric| metric.value);
    let interval = |metric: Option<&MetricValue>| metric.and_then(|metric| metric.interval);
    let points: Vec<PerformancePoint> = slots(series, windows)
        .into_iter()
        .map(|slot| {
            let realised = slot.result.and_then(|result| realised(result, metric));
            let estimate = slot.result.and_then(|result| estimate(result, metric));
            let performance = slot.result.and_then(behind);
            PerformancePoint {
                start_ms: slot.start_ms,
                realised: value(realised),
                realised_interval: interval(realised),
                estimate: value(estimate),
                estimate_interval: interval(estimate),
                coverage: performance.map(|performance| performance.label_coverage),
                is_final: performance.is_some_and(|performance| performance.is_final),
                marked: episode.contains(&slot.start_ms),
            }
        })
        .collect();
    let reference = series.values().rev().find_map(|result| baseline(result, metric)?.value);
    let rules = context.watched.rules.iter().filter(|rule| rule.models.iter().any(|known| known == model));
    let thresholds: Vec<f64> = rules
        .flat_map(|rule| &rule.thresholds)
        .filter(|(name, _, _)| name.strip_prefix("est_").unwrap_or(name) == metric)
        .map(|(_, _, level)| *level)
        .collect();
    let count = points.len();
    html! {
        figcaption {
            (label(metric)) " of " (count) @if count == 1 { " window" } @else { " windows" }
            ", with 95% bands; filled marks are final, of hollow ones labels may still come. Below: the share of predictions whose label is known"
            @if !thresholds.is_empty() { "; dotted: thresholds of rules" } "."
        }
        (chart::performance(&points, reference, &thresholds, &format!("{} by window, realised and estimated", label(metric))))
    }
}

fn facts(context: &Context<'_>, key: &SeriesKey, series: &Series) -> Markup {
    let labelled = standing(series).filter(|result| behind(result).is_some_and(|performance| performance.labelled > 0));
    let open = series.values().filter(|result| behind(result).is_some_and(|performance| !performance.is_final)).count();
    html! {
        dl.facts {
            @if let Some(last) = series.values().next_back() {
                div { dt { "Last window" } dd { (time(last.window.start_ms)) " · " (Span::from_ms(key.size_ms).to_string()) } }
                @if let Some(performance) = behind(last) { div { dt { "Its labels" } dd { (labels(performance)) } } }
            }
            @match labelled {
                Some(result) => {
                    div { dt { "Window with enough labels" } dd {
                        (time(result.window.start_ms)) " · " (wording::ago(result.window.end_ms, context.now_ms))
                        @if let Some(performance) = behind(result) { " · " (labels(performance)) }
                    } }
                }
                None => { div { dt { "Window with enough labels" } dd { "none yet" } } }
            }
            div { dt { "Not final" } dd { (open) " of " (series.len()) " windows" } }
        }
    }
}

fn labels(performance: &WindowPerformance) -> Markup {
    html! {
        (wording::share(performance.label_coverage)) " of " (wording::count(performance.predictions))
        @if performance.is_final { ", final" } @else { ", not final" }
    }
}

/// `off by 0.012 on average over 28 windows, 26 of 28 within the band`.
fn measured(error: &PastError) -> Markup {
    html! {
        "off by " (wording::figure(error.mean)) " on average over " (wording::count(error.windows))
        @if error.windows == 1 { " window" } @else { " windows" }
        @if error.with_band > 0 { ", " (error.within) " of " (error.with_band) " within the band" }
    }
}

/// `0.712 (0.700 to 0.724)`.
pub(super) fn with_interval(metric: &MetricValue) -> Markup {
    html! {
        (metric.value.map_or_else(|| "undefined".to_string(), wording::figure))
        @if let Some([least, most]) = metric.interval { " (" (wording::figure(least)) " to " (wording::figure(most)) ")" }
    }
}

/// The newest figure of each kind.
fn summary(series: &Series, name: &str) -> Markup {
    let last = last_realised(series, name);
    let newest_estimate = series.values().next_back().and_then(|result| estimate(result, name));
    let reference = series.values().rev().find_map(|result| baseline(result, name));
    html! {
        span.figures {
            @if let Some(value) = last.and_then(|result| realised(result, name)) { span { "realised " b { (with_interval(value)) } } }
            @if let Some(value) = newest_estimate { span { "estimate " b { (with_interval(value)) } } }
            @if let Some(value) = reference.and_then(|value| value.value) { span { "baseline " (wording::figure(value)) } }
        }
    }
}

/// Figures without a chart.
fn table(series: &Series, names: &[String]) -> Markup {
    let cell = |metric: Option<&MetricValue>| html! { @if let Some(metric) = metric { (with_interval(metric)) } };
    html! {
        div.scroll { table.list {
            thead { tr { th { "Figure" } th.number { "Realised (95%)" } th.number { "Estimate (95%)" } th.number { "Baseline" } } }
            tbody {
                @for name in names {
                    @let last = last_realised(series, name).and_then(|result| realised(result, name));
                    @let newest = series.values().next_back();
                    tr {
                        td { @if label(name) == name { code { (name) } } @else { (label(name)) } }
                        td.number { (cell(last)) }
                        td.number { (cell(newest.and_then(|result| estimate(result, name)))) }
                        td.number { (cell(series.values().rev().find_map(|result| baseline(result, name)))) }
                    }
                }
            }
        } }
    }
}

/// Labels by row, predicted classes by column; nothing for a model without classes, or with too many.
fn table_of_classes(last: &WindowResult, performance: &WindowPerformance) -> Markup {
    let cells = &performance.confusion;
    let classes: BTreeSet<&str> = cells.iter().flat_map(|cell| [&*cell.label, &*cell.prediction]).collect();
    if classes.is_empty() || classes.len() > CLASSES {
        return Markup::default();
    }
    let rows_of = |label: &str, prediction: &str| {
        let cell = cells.iter().find(|cell| cell.label == label && cell.prediction == prediction);
        cell.map_or(0, |cell| cell.rows)
    };
    let labelled = |label: &str| cells.iter().filter(|cell| cell.label == label).map(|cell| cell.rows).sum::<u64>();
    html! {
        h3 { "Confusion matrix of the window of " (time(last.window.start_ms)) @if !performance.is_final { ", not final" } }
        div.scroll { table.list.narrow {
            thead { tr { th { "" } @for class in &classes { th.number { "Predicted " (class) } } th.number { "Labels" } } }
            tbody {
                @for label in &classes {
                    tr {
                        th scope="row" { (label) }
                        @for class in &classes { td.number { (wording::count(rows_of(label, class))) } }
                        td.number { (wording::count(labelled(label))) }
                    }
                }
            }
        } }
    }
}

fn confusion_table(last: &WindowResult, performance: &WindowPerformance) -> Markup {
    let Some([true_positives, false_positives, false_negatives, true_negatives]) = confusion(last) else {
        return table_of_classes(last, performance);
    };
    let row = |name: &str, cells: [u64; 2]| {
        let all = cells[0] + cells[1];
        html! {
            tr {
                th scope="row" { (name) }
                @for count in cells {
                    td.number { (wording::count(count)) @if all > 0 { span.muted { " " (wording::share(count as f64 / all as f64)) } } }
                }
                td.number { (wording::count(all)) }
            }
        }
    };
    html! {
        h3 { "Confusion matrix of the window of " (time(last.window.start_ms)) @if !performance.is_final { ", not final" } }
        div.scroll { table.list.narrow {
            thead { tr { th { "" } th.number { "Predicted positive" } th.number { "Predicted negative" } th.number { "Labels" } } }
            tbody {
                (row("Positive", [true_positives, false_negatives]))
                (row("Negative", [false_positives, true_negatives]))
            }
        } }
    }
}

/// The newest figures of every version.
fn versions(view: &View, shown: &SeriesKey, names: &[String]) -> Markup {
    let same = |key: &SeriesKey| key.segment.is_all() && key.size_ms == shown.size_ms;
    let versions: Vec<(&SeriesKey, &Series)> = view.performance_of(&shown.model).filter(|(key, _)| same(key)).collect();
    let Some(first) = names.first().filter(|_| versions.len() > 1) else { return Markup::default() };
    let compared = &names[..names.len().min(COMPARED)];
    html! {
        h3 { "Versions, in their last window with enough labels" }
        div.scroll { table.list {
            thead { tr { th { "Version" } th { "Window" } th.number { "Labels" } @for name in compared { th.number { (label(name)) } } } }
            tbody {
                @for (key, series) in versions {
                    @let last = last_realised(series, first).or_else(|| series.values().next_back());
                    tr {
                        td {
                            @if key == shown { b { (key.version) } }
                            @else { a href={ "/models/" (encode(&key.model)) "?version=" (encode(&key.version)) } { (key.version) } }
                        }
                        @if let Some(result) = last {
                            td { (time(result.window.start_ms)) }
                            td.number { @if let Some(performance) = behind(result) { (labels(performance)) } }
                            @for name in compared { td.number { (figure_or_estimate(result, name)) } }
                        }
                    }
                }
            }
        } }
    }
}

fn figure_or_estimate(result: &WindowResult, name: &str) -> Markup {
    html! {
        @match (realised(result, name), estimate(result, name)) {
            (Some(value), _) => { (with_interval(value)) }
            (None, Some(value)) => { span.muted { "expected " (with_interval(value)) } }
            (None, None) => {}
        }
    }
}

/// Segments of the last window with labels, by the first figure.
fn segments(view: &View, shown: &SeriesKey, series: &Series, names: &[String]) -> Markup {
    let Some(first) = names.first() else { return Markup::default() };
    let Some(last) = last_realised(series, first).or_else(|| series.values().next_back()) else {
        return Markup::default();
    };
    let same = |key: &SeriesKey| !key.segment.is_all() && key.version == shown.version && key.size_ms == shown.size_ms;
    let mut rows: Vec<&WindowResult> = view
        .performance_of(&shown.model)
        .filter(|(key, _)| same(key))
        .filter_map(|(_, series)| series.get(&last.window.start_ms))
        .collect();
    rows.sort_by_key(|result| {
        (result.segment.column.clone(), std::cmp::Reverse(result.rows), result.segment.value.clone())
    });
    let compared = &names[..names.len().min(COMPARED)];
    let has_shift = rows.iter().any(|result| shift_p_value(result).is_some());
    html! {
        @if !rows.is_empty() {
            h3 { "Segments in the window of " (time(last.window.start_ms)) }
            div.scroll { table.list {
                thead { tr {
                    th { "Segment" } th.number { "Labels" }
                    @for name in compared { th.number { (label(name)) } }
                    @if has_shift { th.number { "p of calibration shift" } }
                } }
                tbody {
                    @for result in rows.iter().take(SEGMENTS) {
                        tr {
                            td { (result.segment.to_string()) }
                            td.number { @if let Some(performance) = behind(result) { (labels(performance)) } }
                            @for name in compared { td.number { (figure_or_estimate(result, name)) } }
                            @if has_shift { td.number { @if let Some(p) = shift_p_value(result) { (wording::probability(p)) } } }
                        }
                    }
                }
            } }
            @if rows.len() > SEGMENTS { p.muted { (rows.len() - SEGMENTS) " more segments are left out." } }
        }
        (gaps(last, names))
    }
}

/// How far groups of a segment column lie apart, of the figures that people ask for first.
fn gaps(last: &WindowResult, names: &[String]) -> Markup {
    let place = |metric: &str| names.iter().position(|name| name == metric).unwrap_or(usize::MAX);
    let mut gaps: Vec<&Gap> = behind(last).map_or(Vec::new(), |performance| performance.gaps.iter().collect());
    gaps.retain(|gap| gap.gap.value.is_some() && place(&gap.metric) < usize::MAX);
    gaps.sort_by_key(|gap| (place(&gap.metric), gap.column.clone()));
    html! {
        @if !gaps.is_empty() {
            h3 { "Gaps between groups in the window of " (time(last.window.start_ms)) }
            div.scroll { table.list {
                thead { tr {
                    th { "Figure" } th { "Column" } th.number { "Gap (95%)" } th { "Highest" } th { "Lowest" }
                } }
                tbody {
                    @for gap in gaps.iter().take(GAPS) {
                        tr {
                            td { (label(&gap.metric)) }
                            td { (gap.column) }
                            td.number { (with_interval(&gap.gap)) }
                            @for side in [&gap.highest, &gap.lowest] { td { (side.group) " " (with_interval(&side.value)) } }
                        }
                    }
                }
            } }
            p.muted { "The interval allows for the two groups having been picked among all of the column." }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_classes_have_a_table_by_label_and_prediction() {
        let cell = |label: &str, prediction: &str, rows: u64| serde_json::json!({"label": label, "prediction": prediction, "rows": rows});
        let result: WindowResult = serde_json::from_value(serde_json::json!({
            "model": "digits", "version": "1", "window": {"start_ms": 0, "end_ms": 3_600_000}, "revision": 0,
            "reference": "training", "reference_id": "abc", "rows": 20, "complete": true, "features": {},
            "performance": {
                "predictions": 20, "labelled": 16, "label_coverage": 0.8, "final": true,
                "confusion": [cell("one", "one", 7), cell("one", "two", 2), cell("two", "(unknown)", 4), cell("two", "two", 3)],
            },
        }))
        .unwrap();
        let page = confusion_table(&result, result.performance.as_ref().unwrap()).into_string();
        let text: String = page.split('<').filter_map(|part| part.split('>').nth(1)).collect::<Vec<_>>().join(" ");
        let words: Vec<&str> = text.split_whitespace().collect();
        let table = words.join(" ");
        for row in ["Predicted (unknown) Predicted one Predicted two Labels", "one 0 7 2 9", "two 4 0 3 7"] {
            assert!(table.contains(row), "{row} is not in {table}");
        }
        assert!(!table.contains("not final"));
    }
}
