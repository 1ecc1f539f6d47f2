//! Runs of actions in the JSON API.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::api::{Answer, Listing, Problem, page_of};
use super::view::View;
use crate::dispatch::actions::manifest::Manifest;
use crate::dispatch::actions::run::{Expected, External, RunRecord, RunState, Transition, Unmet};

/// Numbers are text here, so that a wrong one is a problem document and not a bare 400.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct ActionsQuery {
    pub action: Option<String>,
    pub model: Option<String>,
    /// A state: `blocked`, `accepted`.
    pub state: Option<String>,
    /// Runs that this episode asked for.
    pub episode: Option<String>,
    pub limit: Option<String>,
    pub cursor: Option<String>,
}

/// One run, without what it was decided on. Times are epoch milliseconds.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct RunItem {
    run: String,
    action: String,
    state: RunState,
    /// When it came into this state, and why.
    since_ms: i64,
    reason: String,
    model: String,
    version: String,
    rule: String,
    episode_id: String,
    requested_at_ms: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unmet: Vec<Unmet>,
    dry_run: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    approved_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at_ms: Option<i64>,
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external: Option<External>,
    #[serde(skip_serializing_if = "Option::is_none")]
    helped: Option<bool>,
}

impl RunItem {
    fn of(run: &RunRecord) -> Self {
        Self {
            run: run.run.clone(),
            action: run.action.clone(),
            state: run.state,
            since_ms: run.since_ms(),
            reason: run.reason().to_string(),
            model: run.request.model.clone(),
            version: run.request.version.clone(),
            rule: run.request.rule.clone(),
            episode_id: run.request.episode_id.clone(),
            requested_at_ms: run.requested_at_ms(),
            unmet: run.unmet.clone(),
            dry_run: run.dry_run,
            approved_by: run.approved_by.clone(),
            started_at_ms: run.started_at_ms,
            ended_at_ms: run.ended_at_ms,
            attempts: run.attempts,
            last_error: run.last_error.clone(),
            external: run.external.clone(),
            helped: run.helped,
        }
    }
}

/// Newest change first.
pub fn actions(view: &View, query: &ActionsQuery) -> Answer<Listing<RunItem>> {
    let state = match query.state.as_deref() {
        None => None,
        Some(word) => Some(RunState::ALL.into_iter().find(|state| state.word() == word).ok_or_else(|| {
            let words: Vec<&str> = RunState::ALL.iter().map(|state| state.word()).collect();
            Problem::bad_request(format!("`state` is one of {}, not `{word}`", words.join(", ")))
        })?),
    };
    let is_asked = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
    let runs = view.runs().newest();
    let items: Vec<RunItem> = runs
        .into_iter()
        .filter(|run| state.is_none_or(|state| run.state == state))
        .filter(|run| is_asked(&query.action, &run.action) && is_asked(&query.model, &run.request.model))
        .filter(|run| is_asked(&query.episode, &run.request.episode_id))
        .map(RunItem::of)
        .collect();
    let place = |item: &RunItem| (-item.since_ms, item.run.clone());
    page_of(items.iter().collect(), place, query.limit.as_deref(), query.cursor.as_deref())
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct RunDetail {
    #[serde(flatten)]
    item: RunItem,
    /// Oldest first.
    history: Vec<Transition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<Manifest>,
    /// Of a rollback: what the scorer had in production.
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<Expected>,
}

pub fn action(view: &View, run: &str) -> Answer<RunDetail> {
    let run = held(view, run)?;
    Ok(axum::Json(RunDetail {
        item: RunItem::of(run),
        history: run.history.clone(),
        manifest: run.manifest.clone(),
        expected: run.expected.clone(),
    }))
}

/// What a training job is given, by itself.
pub fn manifest(view: &View, run: &str) -> Answer<Manifest> {
    let found = held(view, run)?;
    let missing =
        || Problem::not_found(format!("run `{run}` has no manifest: it has not gone ahead, or trains nothing"));
    found.manifest.clone().map(axum::Json).ok_or_else(missing)
}

fn held<'a>(view: &'a View, run: &str) -> Result<&'a RunRecord, Problem> {
    let missing = || Problem::not_found(format!("no run `{run}` is held; /api/v1/actions lists them"));
    view.runs().get(run).ok_or_else(missing)
}
