//! `/`: every model with its worst features, and the alerts.

use maud::{Markup, html};

use super::heatmap::{self, Extent};
use super::{Context, Refresh, encode, episode_table, layout, main_series, time};
use crate::config::units::Span;
use crate::http::view::{Episode, Series, SeriesKey, View, drift, worst_features};
use crate::http::wording;
use crate::windows::result::WindowResult;

const EXTENT: Extent = Extent { windows: 24, features: 12 };
const EPISODES: usize = 30;

pub fn render(view: &View, context: &Context<'_>) -> Markup {
    let episodes = view.episodes();
    let (configured, others) = models(view, context);
    let (firing, resolved) = episodes.split_at(episodes.partition_point(|(_, episode)| episode.is_firing()));
    layout(
        "Models",
        context,
        Refresh::Seconds(15),
        &html! {
            h1 { "Models" }
            (headline(&episodes, configured.len()))
        @if !firing.is_empty() { section #alerts { h2 { "Firing now" } (alerts(firing, context)) } }
        @if configured.is_empty() && others.is_empty() { (nothing_configured()) }
        @for model in &configured { (model_card(view, context, model, &episodes)) }
        section id=(if firing.is_empty() { "alerts" } else { "earlier" }) {
            h2 { "Earlier alerts" }
            @if episodes.is_empty() {
                p.empty { "No rule has fired. A rule is evaluated whenever a window closes; " code { "driftline check" }
                    " tells whether the rules are in order, and " code { "driftline_rule_evaluations_total" }
                    " in " a href="/metrics" { "the metrics" } " counts what they answered." }
            } @else if resolved.is_empty() { p.empty { "Every alert held is still firing; see above." } }
            @else { (alerts(resolved, context)) }
        }
        @if !others.is_empty() {
                section {
                    h2 { "No longer configured" }
                    p { @for model in &others { a href={ "/models/" (encode(model)) } { (model) } " " } }
                }
            }
        },
    )
}

fn alerts(episodes: &[(&str, &Episode)], context: &Context<'_>) -> Markup {
    html! {
        (episode_table(&episodes[..episodes.len().min(EPISODES)], context))
        @if episodes.len() > EPISODES {
            p.muted { (episodes.len() - EPISODES) " older ones: " a href="/api/v1/episodes" { "API" } "." }
        }
    }
}

fn models(view: &View, context: &Context<'_>) -> (Vec<String>, Vec<String>) {
    let configured: Vec<String> = context.watched.models.iter().map(|model| model.name.clone()).collect();
    let others = view.models().into_iter().filter(|model| !configured.contains(model)).collect();
    (configured, others)
}

fn headline(episodes: &[(&str, &Episode)], models: usize) -> Markup {
    let firing = episodes.iter().filter(|(_, episode)| episode.is_firing()).count();
    html! {
        p.headline {
            @match firing {
                0 => { span.chip.resolved { "nothing is firing" } }
                1 => { span.chip.critical { "1 alert is firing" } }
                _ => { span.chip.critical { (firing) " alerts are firing" } }
            }
            " " (models) @if models == 1 { " model" } @else { " models" } " watched"
        }
    }
}

fn nothing_configured() -> Markup {
    html! {
        p.empty { "No model is configured. Describe one in a file that " code { "models" } " in " code { "driftline.yaml" }
            " names, build its reference with " code { "driftline reference build" } ", and start again." }
    }
}

fn model_card(view: &View, context: &Context<'_>, model: &str, episodes: &[(&str, &Episode)]) -> Markup {
    let firing_here = |episode: &Episode| episode.is_firing() && episode.last().is_some_and(|last| last.model == model);
    let firing = episodes.iter().filter(|(_, episode)| firing_here(episode)).count();
    html! {
        section.card {
            h2 {
                a href={ "/models/" (encode(model)) } { (model) }
                @if firing > 0 { " " span.chip.critical { (firing) " firing" } }
            }
            @match main_series(view, context, model) {
                Some((key, series)) => {
                    (facts(view, context, key, series))
                    (heatmap::render(series, key.size_ms, EXTENT))
                }
                None => (no_window(context, model))
            }
        }
    }
}

fn no_window(context: &Context<'_>, model: &str) -> Markup {
    let size = context.configured_size_ms(model).map_or_else(String::new, |ms| Span::from_ms(ms).to_string());
    html! {
        p.empty {
            "No window has closed yet. A window of " (size) " closes once events later than its end (and the "
            code { "watermark_delay" } ") have been read from every source partition. If " code { "driftline_events_read_total" }
            " in " a href="/metrics" { "the metrics" } " stays at zero, look at the model's " code { "topics" }
            " and at " a href="/-/ready" { "readiness" } "; if " code { "driftline_events_dead_lettered_total" }
            " grows, its " code { "fields" } " do not fit the events."
        }
    }
}

/// Facts of the newest window in one line each.
pub(super) fn facts(view: &View, context: &Context<'_>, key: &SeriesKey, series: &Series) -> Markup {
    let Some(last) = series.values().next_back() else { return Markup::default() };
    let mut others: Vec<&str> =
        view.whole(&key.model).map(|(other, _)| other.version.as_str()).filter(|name| *name != key.version).collect();
    others.dedup();
    html! {
        dl.facts {
            div { dt { "Version" } dd {
                (key.version)
                @for other in others {
                    ", " a href={ "/models/" (encode(&key.model)) "?version=" (encode(other)) } { (other) }
                }
            } }
            div { dt { "Last window" } dd {
                (time(last.window.start_ms)) " · " (Span::from_ms(key.size_ms).to_string())
                @if last.revision > 0 { " · revision " (last.revision) }
                @if !last.complete { " " span.chip.warn { "incomplete" } }
            } }
            div { dt { "Events" } dd { (wording::count(last.rows)) } }
            div { dt { "Closed for" } dd { (wording::ago(last.window.end_ms, context.now_ms)) } }
            div { dt { "Reference" } dd { (last.reference) } }
            @if let Some((segment, feature, psi)) = worst_segment(view, last) {
                div { dt { "Worst segment" } dd { (segment) ": " code { (feature) } " PSI " (wording::figure(psi)) } }
            }
        }
    }
}

/// The segment with the largest PSI in the window that `whole` sums up.
fn worst_segment(view: &View, whole: &WindowResult) -> Option<(String, String, f64)> {
    let size_ms = whole.window.end_ms - whole.window.start_ms;
    let same = |key: &SeriesKey| {
        key.model == whole.model && key.version == whole.version && key.size_ms == size_ms && !key.segment.is_all()
    };
    let segments = view.series().filter(|(key, _)| same(key));
    let worst = segments.filter_map(|(key, series)| {
        let result = series.get(&whole.window.start_ms)?;
        let feature = worst_features(&[result]).into_iter().next()?.to_string();
        let psi = drift(result, &feature);
        Some((key.segment.to_string(), feature, psi))
    });
    worst.max_by(|left, right| left.2.total_cmp(&right.2))
}
