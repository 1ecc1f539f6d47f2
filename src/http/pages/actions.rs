//! `/actions`: what rules asked to have done, and what became of it; `/actions/{run}`: one run.

use maud::{Markup, html};

use super::{Context, Refresh, encode, layout, sentence, time};
use crate::dispatch::actions::run::{RunRecord, RunState};
use crate::http::view::View;
use crate::http::wording;

const RUNS: usize = 100;

pub fn render(view: &View, context: &Context<'_>) -> Markup {
    let runs = view.runs().newest();
    let (open, ended): (Vec<&RunRecord>, Vec<&RunRecord>) = runs.into_iter().partition(|run| !run.state.is_final());
    let content = html! {
        h1 { "Actions" }
        p.lead { "What rules asked to have done, retraining and rollback, and what became of it." }
        @if open.is_empty() && ended.is_empty() {
            p.empty { "Nothing has been asked for. A rule asks with " code { "actions: [NAME]" } " once it fires at its gravest severity." }
        }
        @if !open.is_empty() { section { h2 { "Under way" } (table(&open, context)) } }
        @if !ended.is_empty() { section { h2 { "Ended" } (table(&ended[..ended.len().min(RUNS)], context)) } }
        @if ended.len() > RUNS { p.muted { (ended.len() - RUNS) " older ones: " a href="/api/v1/actions" { "API" } "." } }
    };
    layout("Actions", context, Refresh::Seconds(15), &content)
}

/// `None`: no such run is held.
pub fn render_one(view: &View, context: &Context<'_>, run: &str) -> Option<Markup> {
    let run = view.runs().get(run)?;
    let request = &run.request;
    let refresh = if run.state.is_final() { Refresh::Never } else { Refresh::Seconds(15) };
    let content = html! {
        p.crumb { a href="/actions" { "Actions" } " / run" }
        h1 { (run.action) " " (chip(run)) }
        p.lead { (sentence(&request.summary)) }
        dl.facts {
            div { dt { "Model" } dd { a href={ "/models/" (encode(&request.model)) } { (request.model) } "@" (request.version)
                @if !request.segment.is_all() { " · " (request.segment.to_string()) } } }
            div { dt { "Asked for by" } dd { a href={ "/alerts/" (encode(&request.episode_id)) } { (request.rule) } } }
            div { dt { "Asked for at" } dd { (time(run.requested_at_ms())) } }
            @if let Some(started_ms) = run.started_at_ms { div { dt { "Went ahead" } dd { (time(started_ms)) } } }
            @if let Some(by) = &run.approved_by { div { dt { "Approved by" } dd { (by) } } }
            @if let Some(external) = &run.external { (elsewhere(external)) }
            @if run.attempts > 0 { div { dt { "Calls" } dd { (run.attempts) } } }
            @if let Some(helped) = run.helped { div { dt { "Helped" } dd { (if helped { "yes" } else { "no" }) } } }
            @if let Some(expected) = &run.expected {
                div { dt { "In production before" } dd { (expected.production) ", generation " (expected.generation) } }
            }
        }
        @if !run.unmet.is_empty() { (unmet(run)) }
        @if let Some(error) = run.last_error.as_ref().filter(|_| !run.state.is_final()) {
            p.reason { "Last answer: " (error) }
        }
        h2 { "What happened" }
        ol.timeline {
            @for transition in run.history.iter().rev() {
                li {
                    div.when { (time(transition.at_ms)) }
                    div { p { b { (words(transition.state)) } @if !transition.reason.is_empty() { ": " (transition.reason) } } }
                }
            }
        }
        @if let Some(manifest) = &run.manifest {
            h2 { "Data to train on" }
            p { (manifest.data.from) " to " (manifest.data.until) ", seed " (manifest.seed) }
            @if !manifest.data.offsets.is_empty() { (offsets(&manifest.data.offsets)) }
            p.muted { a href={ "/api/v1/actions/" (run.run) "/manifest" } { "The manifest as JSON" } }
        }
        p.muted { "Run " code { (run.run) } " · " a href={ "/api/v1/actions/" (run.run) } { "as JSON" } }
    };
    Some(layout(&format!("{} · {}", run.action, request.model), context, refresh, &content))
}

/// Runs that one alert asked for.
pub fn of_episode(view: &View, context: &Context<'_>, episode_id: &str) -> Markup {
    let mut runs: Vec<&RunRecord> = view.runs().of_episode(episode_id).collect();
    runs.sort_by_key(|run| (run.requested_at_ms(), &run.run));
    html! { @if !runs.is_empty() { h2 { "Actions" } (table(&runs, context)) } }
}

fn table(runs: &[&RunRecord], context: &Context<'_>) -> Markup {
    html! {
        div.scroll { table.list {
            thead { tr { th { "State" } th { "Action" } th { "Model" } th { "Asked for by" } th { "Since" } } }
            tbody {
                @for run in runs {
                    tr {
                        td { (chip(run)) }
                        td.what {
                            a href={ "/actions/" (run.run) } { (run.action) }
                            @if run.dry_run { " · dry run" }
                            @if !run.reason().is_empty() { div.reason { (run.reason()) } }
                        }
                        td { (run.request.model) "@" (run.request.version) }
                        td { a href={ "/alerts/" (encode(&run.request.episode_id)) } { (run.request.rule) } }
                        td { (time(run.since_ms())) div.muted { (wording::ago(run.since_ms(), context.now_ms)) } }
                    }
                }
            }
        } }
    }
}

/// Everything that holds a run back, with what is wanted and what there is.
fn unmet(run: &RunRecord) -> Markup {
    html! {
        h2 { "What holds it back" }
        div.scroll { table.list {
            thead { tr { th { "Guard" } th { "Wanted" } th { "Found" } } }
            tbody {
                @for unmet in &run.unmet {
                    tr { td { code { (unmet.guard) } } td { (unmet.wanted) } td { (unmet.found) } }
                }
            }
        } }
        p.muted { "It goes ahead by itself once nothing does, while the alert fires." }
    }
}

fn offsets(ranges: &[crate::dispatch::actions::manifest::OffsetRange]) -> Markup {
    html! {
        div.scroll { table.list {
            thead { tr { th { "Topic" } th.number { "Partition" } th.number { "From offset" } th.number { "Until offset" } } }
            tbody {
                @for range in ranges {
                    tr {
                        td { (range.topic) } td.number { (range.partition) }
                        td.number { @match range.from_offset { Some(offset) => (offset), None => "earliest" } }
                        td.number { (range.until_offset) }
                    }
                }
            }
        } }
    }
}

/// Links lead only to where a browser can safely go.
fn elsewhere(external: &crate::dispatch::actions::run::External) -> Markup {
    let url = external.url.as_deref().filter(|url| url.starts_with("https://") || url.starts_with("http://"));
    let Some(name) = external.id.as_deref().or(url) else { return Markup::default() };
    html! {
        div { dt { "Runs as" } dd {
            @match url {
                Some(url) => a href=(url) rel="noreferrer" { (name) },
                None => (name),
            }
        } }
    }
}

/// A colour never stands alone: the word is the state.
fn chip(run: &RunRecord) -> Markup {
    let class = match run.state {
        RunState::Succeeded => "chip resolved",
        RunState::Failed | RunState::Suspended => "chip critical",
        RunState::Blocked | RunState::AwaitingConfirmation => "chip warn",
        RunState::Requested
        | RunState::Calling
        | RunState::Accepted
        | RunState::DryRun
        | RunState::Denied
        | RunState::Lapsed => "chip",
    };
    html! { span class=(class) { (words(run.state)) } }
}

fn words(state: RunState) -> String {
    state.word().replace('_', " ")
}
