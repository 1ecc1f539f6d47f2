//! `/models/{model}`: one version and window size over all that is held, feature by feature, then segments.

use maud::{Markup, html};
use serde::Deserialize;

use super::changes;
use super::heatmap::{self, Extent};
use super::home::facts;
use super::{Context, Refresh, encode, episode_table, layout, main_series};
use super::{performance, quality, queries};
use crate::config::units::Span;
use crate::http::chart::{self, Point};
use crate::http::view::{Episode, Series, SeriesKey, View, drift, slots, worst_features};
use crate::http::wording;
use crate::stats::metric::FeatureStats;
use crate::windows::result::WindowResult;

const EXTENT: Extent = Extent { windows: 168, features: 200 };
/// Charts of more features would make the page heavy; the table has all.
const CHARTED_FEATURES: usize = 40;
const SEGMENTS: usize = 50;

/// What the address asks for: `?version=3&window=1h`. Anything unknown means the default.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Choice {
    pub version: Option<String>,
    pub window: Option<String>,
}

/// `None`: nothing is known of such a model.
pub fn render(view: &View, context: &Context<'_>, model: &str, choice: &Choice) -> Option<Markup> {
    let configured = context.watched.models.iter().any(|known| known.name == model);
    if !configured && !view.models().iter().any(|known| known == model) {
        return None;
    }
    let episodes: Vec<(&str, &Episode)> = view
        .episodes()
        .into_iter()
        .filter(|(_, episode)| episode.last().is_some_and(|last| last.model == model))
        .collect();
    let chosen = chosen_series(view, context, model, choice);
    Some(layout(
        model,
        context,
        Refresh::Never,
        &html! {
            h1 { (model) }
            @match chosen {
                None => { p.empty { "No window has closed yet." } }
                Some((key, series)) => {
                    (choices(view, key))
                    (facts(view, context, key, series))
                    (performance::render(view, context, model, &key.version, key.size_ms))
                    h2 { "Drift by window" }
                    (heatmap::render(series, key.size_ms, EXTENT))
                    (changes::render(series))
                    @if let Some(last) = series.values().next_back() {
                        (quality::render(last))
                        h2 { "Features in the last window" }
                        (features(context, key, series, last))
                        (segments(view, last))
                        (queries::render(view, last))
                    }
                }
            }
            h2 { "Alerts" }
            @if episodes.is_empty() { p.empty { "No rule has fired for this model." } }
            @else { (episode_table(&episodes, context)) }
        },
    ))
}

fn chosen_series<'a>(
    view: &'a View,
    context: &Context<'_>,
    model: &'a str,
    choice: &Choice,
) -> Option<(&'a SeriesKey, &'a Series)> {
    let (main, series) = main_series(view, context, model)?;
    let size_ms = choice.window.as_deref().and_then(|text| Span::parse(text).ok()).map_or(main.size_ms, |span| span.ms);
    let version = choice.version.as_deref().unwrap_or(&main.version);
    let asked = view.whole(model).find(|(key, _)| key.version == version && key.size_ms == size_ms);
    let same_version = || view.whole(model).find(|(key, _)| key.version == version);
    asked.or_else(same_version).or(Some((main, series)))
}

/// Links to the other versions and window sizes.
fn choices(view: &View, shown: &SeriesKey) -> Markup {
    let keys: Vec<&SeriesKey> = view.whole(&shown.model).map(|(key, _)| key).collect();
    html! {
        @if keys.len() > 1 {
            nav.choices aria-label="Version and window" {
                @for key in keys {
                    @let size = Span::from_ms(key.size_ms).to_string();
                    @let name = format!("{} · {size}", key.version);
                    @if key == shown { strong { (name) } }
                    @else {
                        a href={ "/models/" (encode(&key.model)) "?version=" (encode(&key.version)) "&window=" (size) } { (name) }
                    }
                }
            }
        }
    }
}

fn features(context: &Context<'_>, key: &SeriesKey, series: &Series, last: &WindowResult) -> Markup {
    html! {
        @for (index, name) in worst_features(&[last]).into_iter().enumerate() {
            @if let Some(stats) = last.features.get(name) {
                details.feature open[index == 0] {
                    summary { code { (name) } " " (figures(stats)) }
                    @if index < CHARTED_FEATURES { (charts(context, key, series, name, stats)) }
                }
            }
        }
    }
}

/// `PSI 0.41, KS 0.2, p < 1e-6, 10 240 values, 2.1% missing`.
fn figures(stats: &FeatureStats) -> Markup {
    let value = |name: &str| stats.metrics.get(name).and_then(|metric| metric.value);
    let rows = stats.n + stats.missing;
    html! {
        span.figures {
            @for (name, label) in [("psi", "PSI"), ("ks", "KS"), ("js", "JS"), ("cramers_v", "Cramér's V"), ("mean", "mean")] {
                @if let Some(value) = value(name) { span { (label) " " b { (wording::figure(value)) } } }
            }
            @if let Some(p_value) = stats.metrics.get("psi").and_then(|metric| metric.p_value) {
                span { "p of PSI " b { (wording::probability(p_value)) } }
            }
            span { (wording::count(stats.n)) " values" }
            @if rows > 0 && stats.missing > 0 { span { (wording::share(stats.missing as f64 / rows as f64)) " missing" } }
            @if let Some(unseen) = value("unseen_rate").filter(|share| *share > 0.0) { span { (wording::share(unseen)) " unseen" } }
        }
    }
}

fn charts(context: &Context<'_>, key: &SeriesKey, series: &Series, name: &str, stats: &FeatureStats) -> Markup {
    let points: Vec<Point> = slots(series, EXTENT.windows)
        .into_iter()
        .map(|slot| Point { start_ms: slot.start_ms, value: psi(slot.result, name), marked: false })
        .collect();
    let rules = context.watched.rules.iter().filter(|rule| rule.models.contains(&key.model));
    let thresholds: Vec<f64> = rules
        .flat_map(|rule| &rule.thresholds)
        .filter(|(metric, _, _)| metric == "psi")
        .map(|(_, _, level)| *level)
        .collect();
    html! {
        div.charts {
            figure {
                figcaption { "PSI over " (points.len()) " windows" @if !thresholds.is_empty() { "; dashed: thresholds of rules" } }
                (chart::timeline(&points, &thresholds, &format!("PSI of {name} by window")))
            }
            @if !stats.bins.is_empty() {
                figure {
                    figcaption { "Reference and last window" }
                    (chart::shares(&stats.bins, &format!("shares of {name} in reference and window")))
                }
            }
        }
    }
}

fn psi(result: Option<&WindowResult>, feature: &str) -> Option<f64> {
    result?.features.get(feature)?.metrics.get("psi")?.value
}

/// Segments of the last window, worst first.
fn segments(view: &View, last: &WindowResult) -> Markup {
    let size_ms = last.window.end_ms - last.window.start_ms;
    let mut rows: Vec<(String, u64, String, f64)> = view
        .series()
        .filter(|(key, _)| key.model == last.model && key.version == last.version && key.size_ms == size_ms)
        .filter(|(key, _)| !key.segment.is_all())
        .filter_map(|(key, series)| {
            let result = series.get(&last.window.start_ms)?;
            let feature = worst_features(&[result]).into_iter().next()?;
            Some((key.segment.to_string(), result.rows, feature.to_string(), drift(result, feature)))
        })
        .collect();
    rows.sort_by(|left, right| right.3.total_cmp(&left.3).then_with(|| left.0.cmp(&right.0)));
    html! {
        @if !rows.is_empty() {
            h2 { "Segments in the last window" }
            div.scroll { table.list {
                thead { tr { th { "Segment" } th.number { "Events" } th { "Worst feature" } th.number { "PSI" } } }
                tbody {
                    @for (segment, events, feature, psi) in rows.iter().take(SEGMENTS) {
                        tr {
                            td { (segment) }
                            td.number { (wording::count(*events)) }
                            td { code { (feature) } }
                            td.number { (wording::figure(*psi)) }
                        }
                    }
                }
            } }
            @if rows.len() > SEGMENTS { p.muted { (rows.len() - SEGMENTS) " more segments drifted less." } }
        }
    }
}
