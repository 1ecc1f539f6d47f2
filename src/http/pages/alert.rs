//! `/alerts/{episode_id}`: what is wrong, since when, how sure, who was told. Every notification links here.

use maud::{Markup, html};

use super::{Context, Refresh, acknowledge, actions, encode, layout, performance, sentence, status_chip, time};
use crate::http::chart::{self, Point};
use crate::http::metrics::severity_name;
use crate::http::view::{Delivery, DeliveryStatus, Episode, View, is_on_performance, slots};
use crate::http::wording;
use crate::rules::episode::{EpisodeStatus, Finding, Notification};
use crate::rules::explanation::Moved;
use crate::rules::performance::PerformanceFinding;
use crate::stats::metric::{BinShare, MetricValue};

/// Findings with charts; further ones are told in a sentence each.
const CHARTED_FINDINGS: usize = 12;
const CHART_WINDOWS: usize = 48;

/// `None`: no such episode is held.
pub fn render(view: &View, context: &Context<'_>, id: &str) -> Option<Markup> {
    let episode = view.episode(id)?;
    let (first, last) = (episode.first()?, episode.last()?);
    let evidence = episode.last_with_findings().unwrap_or(last);
    let refresh = if episode.is_firing() { Refresh::Seconds(30) } else { Refresh::Never };
    let title = format!("{} · {}", last.rule, last.model);
    let content = html! {
        p.crumb { a href="/" { "Models" } " / " a href={ "/models/" (encode(&last.model)) } { (last.model) } " / alert" }
        h1 { (last.rule) " " (status_chip(episode)) }
        p.lead { (sentence(&evidence.summary)) }
        (acknowledge::state(view, context, id, episode))
        (facts(context, first, last, evidence))
        h2 { "What was found" }
        @if evidence.findings.is_empty() { p.empty { "This rule reports no single feature; the summary above says it all." } }
        @for (index, finding) in evidence.findings.iter().enumerate() {
            (finding_card(view, context, episode, evidence, finding, index < CHARTED_FINDINGS))
        }
        (actions::of_episode(view, context, id))
        h2 { "What happened" }
        (timeline(view, episode))
        p.muted { "Episode " code { (id) } " · " a href={ "/api/v1/episodes/" (encode(id)) } { "as JSON" } }
    };
    Some(layout(&title, context, refresh, &content))
}

fn facts(context: &Context<'_>, first: &Notification, last: &Notification, evidence: &Notification) -> Markup {
    let resolved = last.status == EpisodeStatus::Resolved;
    html! {
        dl.facts {
            div { dt { "Model" } dd { (last.model) "@" (last.version) @if !last.segment.is_all() { " · " (last.segment.to_string()) } } }
            div { dt { "Since" } dd { (time(first.first_window.start_ms)) } }
            div {
                dt { @if resolved { "Resolved" } @else { "Last change" } }
                dd { (time(last.at_ms)) " · " (wording::ago(last.at_ms, context.now_ms)) }
            }
            div { dt { "Window judged" } dd { (wording::window(evidence.window.start_ms, evidence.window.end_ms)) } }
            div { dt { "Breached" } dd { (evidence.windows_breached) " of " (evidence.windows_considered) " windows" } }
            div { dt { "Events" } dd { (wording::count(evidence.rows)) } }
            div { dt { "Compared with" } dd { (evidence.reference) " " code.id title=(evidence.reference_id) {
                (evidence.reference_id.chars().take(12).collect::<String>())
            } } }
        }
    }
}

fn finding_card(
    view: &View,
    context: &Context<'_>,
    episode: &Episode,
    notification: &Notification,
    finding: &Finding,
    charted: bool,
) -> Markup {
    html! {
        section.card.finding {
            p.reason {
                span class={ "chip " (severity_name(finding.severity)) } { (severity_name(finding.severity)) }
                " " (sentence(&finding.reason))
            }
            (explanation(finding))
            (certainty(finding))
            @if charted {
                div.charts {
                    (history(view, context, episode, notification, finding))
                    (distribution(view, notification, finding))
                }
            }
        }
    }
}

/// What moved and by how much, and where it is worst.
fn explanation(finding: &Finding) -> Markup {
    let sentences: Vec<String> =
        finding.moved.iter().map(Moved::sentence).chain(finding.explanation.sentences()).collect();
    html! {
        @if !sentences.is_empty() { ul.explanation { @for text in &sentences { li { (sentence(text)) } } } }
    }
}

/// The numbers behind the sentence: value and its bound, condition, p, sample sizes.
fn certainty(finding: &Finding) -> Markup {
    html! {
        dl.facts.small {
            div { dt { (finding.metric) } dd {
                (finding.value.value.map_or_else(|| "undefined".to_string(), wording::figure))
                @if let Some(bound) = finding.value.bound { " ± " (wording::figure(bound)) }
                @if let Some([least, most]) = finding.value.interval { " (95% " (wording::figure(least)) " to " (wording::figure(most)) ")" }
            } }
            div { dt { "Condition" } dd { code { (finding.condition) } } }
            @match &finding.performance {
                Some(performance) => (performance_facts(performance)),
                None => {
                    div { dt { "Chance of this without drift" } dd {
                        @match finding.p_adjusted {
                            Some(p) => { (wording::probability(p)) " (adjusted for all features looked at)" }
                            None => "not tested"
                        }
                    } }
                    div { dt { "Values compared" } dd {
                        (wording::count(finding.n)) " with " (wording::count(finding.n_reference)) " of the reference"
                    } }
                }
            }
            @if !finding.segment.is_all() { div { dt { "Segment" } dd { (finding.segment.to_string()) } } }
        }
    }
}

/// What a figure of performance rests on, and what it is compared with.
fn performance_facts(performance: &PerformanceFinding) -> Markup {
    let fact = |name: &str, value: &Option<MetricValue>| {
        html! { @if let Some(value) = value { div { dt { (name) } dd { (performance::with_interval(value)) } } } }
    };
    html! {
        (fact("Baseline", &performance.baseline))
        (fact("Difference from it (95%)", &performance.difference))
        (fact("Estimated before labels (95%)", &performance.estimate))
        @match (performance.estimated, performance.confirmed) {
            (true, _) => { div { dt { "Estimate" } dd { "not yet confirmed by labels" } } }
            (false, Some(true)) => { div { dt { "Estimate" } dd { "confirmed by labels" } } }
            (false, Some(false)) => { div { dt { "Estimate" } dd { "not confirmed by labels" } } }
            (false, None) => {}
        }
        div { dt { "Labels known" } dd { (wording::share(performance.label_coverage)) " of " (wording::count(performance.predictions)) } }
    }
}

/// The deciding metric along the last windows, those of the episode marked.
fn history(
    view: &View,
    context: &Context<'_>,
    episode: &Episode,
    notification: &Notification,
    finding: &Finding,
) -> Markup {
    let series = view.series_of(notification, finding);
    let (Some(series), Some(feature)) = (series, finding.feature.as_deref()) else { return Markup::default() };
    let ended_ms = episode.last().filter(|_| !episode.is_firing()).map_or(i64::MAX, |last| last.window.start_ms);
    let in_episode = notification.first_window.start_ms..ended_ms;
    if is_on_performance(finding) {
        // An estimate and its realised figure are one chart.
        let metric = finding.metric.strip_prefix("est_").unwrap_or(&finding.metric);
        return html! {
            figure { (performance::chart_of(context, &notification.model, series, metric, CHART_WINDOWS, in_episode)) }
        };
    }
    let points: Vec<Point> = slots(series, CHART_WINDOWS)
        .into_iter()
        .map(|slot| {
            let stats = slot.result.and_then(|result| result.features.get(feature));
            let value = stats.and_then(|stats| stats.metrics.get(&finding.metric)?.value);
            Point { start_ms: slot.start_ms, value, marked: in_episode.contains(&slot.start_ms) }
        })
        .collect();
    if points.iter().all(|point| point.value.is_none()) {
        return Markup::default();
    }
    let rules = context.watched.rules.iter().filter(|rule| rule.name == notification.rule);
    let levels = rules.flat_map(|rule| &rule.thresholds).filter(|(metric, _, _)| *metric == finding.metric);
    let thresholds: Vec<f64> = levels.map(|(_, _, level)| *level).collect();
    html! {
        figure {
            figcaption { code { (finding.metric) } " by window; large marks: since the alert began"
                @if !thresholds.is_empty() { "; dashed: the rule's thresholds" } }
            (chart::timeline(&points, &thresholds, &format!("{} of {feature} by window", finding.metric)))
        }
    }
}

/// Every bin while the window is held; the bins that moved most, from the notification, after that.
fn distribution(view: &View, notification: &Notification, finding: &Finding) -> Markup {
    let series = view.series_of(notification, finding);
    let result = series.and_then(|series| series.get(&notification.window.start_ms));
    let stats = result.zip(finding.feature.as_deref()).and_then(|(result, feature)| result.features.get(feature));
    let all: Option<&[BinShare]> = stats.map(|stats| stats.bins.as_slice()).filter(|bins| !bins.is_empty());
    let moved: Vec<BinShare> = finding.moved.iter().map(Moved::bin).collect();
    let bins = all.unwrap_or(&moved);
    let name = finding.feature.as_deref().unwrap_or("the window");
    html! {
        @if !bins.is_empty() {
            figure {
                figcaption {
                    "Share of values in the reference and in the window judged"
                    @if all.is_none() { " (what moved most)" }
                }
                (chart::shares(bins, &format!("shares of {name} in reference and window")))
            }
        }
    }
}

/// Notifications, newest first, and how each was delivered.
fn timeline(view: &View, episode: &Episode) -> Markup {
    html! {
        ol.timeline {
            @for notification in episode.notifications().rev() {
                @let deliveries: Vec<&Delivery> = view.deliveries(&notification.id).collect();
                li {
                    div.when { (time(notification.at_ms)) }
                    div {
                        p { b { (event_name(notification)) } ": " (sentence(&notification.summary)) }
                        @if deliveries.is_empty() { p.muted { (not_sent(notification)) } }
                        @else { (delivery_table(&deliveries)) }
                    }
                }
            }
        }
    }
}

fn event_name(notification: &Notification) -> String {
    match (notification.status, notification.sequence) {
        (EpisodeStatus::Resolved, _) => "Resolved".into(),
        (EpisodeStatus::Firing, 0) => format!("Fired, {}", severity_name(notification.severity)),
        (EpisodeStatus::Firing, _) => format!("Now {}", severity_name(notification.severity)),
    }
}

fn not_sent(notification: &Notification) -> String {
    if let Some(quiet) = &notification.suppressed {
        return format!("Sent to no one: kept quiet by {} \u{201c}{}\u{201d}.", quiet.by.word(), quiet.name);
    }
    if notification.receivers.is_empty() {
        return "Sent to no one: no route matches this alert.".into();
    }
    format!("To {}: nothing is known of the delivery yet.", notification.receivers.join(", "))
}

fn delivery_table(deliveries: &[&Delivery]) -> Markup {
    html! {
        div.scroll { table.list.deliveries {
            thead { tr { th { "Receiver" } th { "Delivery" } th.number { "Attempts" } th { "Last attempt" } } }
            tbody {
                @for delivery in deliveries {
                    tr {
                        td { (delivery.receiver) }
                        td {
                            @match delivery.status {
                                DeliveryStatus::Delivered => span.chip.resolved { "delivered" }
                                DeliveryStatus::Retrying => span.chip.warn { "being retried" }
                                DeliveryStatus::Failed => span.chip.critical { "given up" }
                                DeliveryStatus::Held => span.chip { "held back" }
                                DeliveryStatus::Superseded => span.chip { "told with another" }
                            }
                            @if let Some(error) = &delivery.last_error {
                                div.reason { @if delivery.status == DeliveryStatus::Delivered { "note: " } (error) }
                            }
                        }
                        td.number { (delivery.attempts) }
                        td { (time(delivery.at_ms)) }
                    }
                }
            }
        } }
    }
}
