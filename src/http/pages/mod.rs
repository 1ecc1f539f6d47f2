//! Server-rendered pages: functions from the view to HTML.
//!
//! One page, one file, with a `render(view, context, ...)`; what several pages share is here and in `heatmap`.
//! They work without JavaScript. Everything from outside is escaped by maud; a test feeds markup into each
//! name. To add a page: a file here, a route in `server`.

pub mod acknowledge;
pub mod actions;
pub mod alert;
pub mod changes;
pub mod heatmap;
pub mod home;
pub mod model;
pub mod not_found;
pub mod performance;
pub mod quality;
mod queries;
pub mod refused;

use maud::{DOCTYPE, Markup, html};

use super::metrics::{Watched, severity_name};
use super::view::{Episode, Series, SeriesKey, View};
use super::wording;

/// What a page knows besides the view.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    pub watched: &'a Watched,
    pub now_ms: i64,
    /// False while the view is still being read from the log.
    pub caught_up: bool,
    /// Whether who is asking may change something here.
    pub may_operate: bool,
}

impl Context<'_> {
    fn configured_size_ms(&self, model: &str) -> Option<i64> {
        self.watched.models.iter().find(|known| known.name == model).map(|known| known.window_size_ms)
    }
}

/// Pages that change by themselves ask to be loaded again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refresh {
    Never,
    Seconds(u32),
}

fn layout(title: &str, context: &Context<'_>, refresh: Refresh, content: &Markup) -> Markup {
    let seconds = match refresh {
        _ if !context.caught_up => Some(3),
        Refresh::Never => None,
        Refresh::Seconds(seconds) => Some(seconds),
    };
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                @if let Some(seconds) = seconds { meta http-equiv="refresh" content=(seconds); }
                title { (title) " · Driftline" }
                link rel="icon" href="/favicon.svg" type="image/svg+xml";
                link rel="stylesheet" href="/style.css";
            }
            body {
                header.top {
                    a.brand href="/" { "Driftline" }
                    nav {
                        a href="/" { "Models" }
                        a href="/#alerts" { "Alerts" }
                        a href="/actions" { "Actions" }
                        a href="/metrics" { "Metrics" }
                        a href="/api/v1/openapi.json" { "API" }
                    }
                }
                main {
                    @if !context.caught_up {
                        p.notice { "Still reading the log: what stands here is not complete yet. The page loads itself again." }
                    }
                    (content)
                }
                footer { "Times are UTC. Rendered " (time(context.now_ms)) "." }
            }
        }
    }
}

fn time(at_ms: i64) -> Markup {
    html! { time datetime=(wording::rfc3339(at_ms)) { (wording::minute(at_ms)) } }
}

/// Text whose words between backticks are names.
fn sentence(text: &str) -> Markup {
    html! {
        @for (index, part) in text.split('`').enumerate() {
            @if index % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// A colour never stands alone: the word is the status.
fn status_chip(episode: &Episode) -> Markup {
    let severity = episode.last().map_or("", |last| severity_name(last.severity));
    if episode.is_firing() {
        html! { span class={ "chip " (severity) } { "firing · " (severity) } }
    } else {
        html! { span.chip.resolved { "resolved" } }
    }
}

/// One path segment or query value of a link.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// The windows shown first: of the configured size, else of any; those of the version seen last.
fn main_series<'a>(view: &'a View, context: &Context<'_>, model: &'a str) -> Option<(&'a SeriesKey, &'a Series)> {
    let configured_ms = context.configured_size_ms(model);
    view.whole(model).max_by_key(|(key, series)| {
        let last_end_ms = series.values().next_back().map(|result| result.window.end_ms);
        (Some(key.size_ms) == configured_ms, last_end_ms)
    })
}

/// Table of episodes, in the order given.
fn episode_table(episodes: &[(&str, &Episode)], context: &Context<'_>) -> Markup {
    html! {
        div.scroll { table.list.episodes {
            thead { tr { th { "Status" } th { "What" } th { "Model" } th { "Since" } th { "Last change" } } }
            tbody {
                @for (id, episode) in episodes {
                    @if let (Some(first), Some(last)) = (episode.first(), episode.last()) {
                        tr {
                            td { (status_chip(episode)) }
                            td.what {
                                a href={ "/alerts/" (encode(id)) } { (last.rule) }
                                @if let Some(feature) = &last.feature { " · " code { (feature) } }
                                @if !last.segment.is_all() { " · " (last.segment.to_string()) }
                                div.reason { (reason(episode)) }
                            }
                            td { (last.model) "@" (last.version) }
                            td { (time(first.first_window.start_ms)) }
                            td { (time(last.at_ms)) div.muted { (wording::ago(last.at_ms, context.now_ms)) } }
                        }
                    }
                }
            }
        } }
    }
}

/// The worst finding's sentence, and how many more there are.
fn reason(episode: &Episode) -> Markup {
    let Some(notification) = episode.last_with_findings() else {
        return episode.last().map_or_else(Markup::default, |last| sentence(&last.summary));
    };
    html! {
        @if let Some(worst) = notification.findings.first() { (sentence(&worst.reason)) }
        @if notification.findings.len() > 1 { span.muted { " and " (notification.findings.len() - 1) " more" } }
    }
}
