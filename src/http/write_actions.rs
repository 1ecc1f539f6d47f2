//! What people and training jobs say to runs of actions, through the API.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::access::Caller;
use super::problem::Problem;
use super::server::AppState;
use super::write::{Body, Given, body, give};
use crate::config::service::Role;
use crate::dispatch::actions::run::{RunRecord, RunState};
use crate::dispatch::control::Command;

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DenyRequest {
    /// Why, for those who read it.
    pub reason: String,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportRequest {
    pub succeeded: bool,
    /// What people should know of it.
    #[serde(default)]
    pub message: String,
}

pub async fn approve(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Path(run): Path<String>,
) -> Result<Given, Problem> {
    caller.must(Role::Operate)?;
    let may = |run: &RunRecord| {
        run.state == RunState::AwaitingConfirmation || (run.state == RunState::Failed && run.external.is_none())
    };
    said(&state, &caller, Command::Approve { run }, may, "awaits confirmation, or that its target refused").await
}

pub async fn deny(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Path(run): Path<String>,
    request: Body<DenyRequest>,
) -> Result<Given, Problem> {
    caller.must(Role::Operate)?;
    let DenyRequest { reason } = body(request)?;
    said(&state, &caller, Command::Deny { run, reason }, |run| run.state.is_waiting(), "has not gone ahead").await
}

pub async fn report(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Path(run): Path<String>,
    request: Body<ReportRequest>,
) -> Result<Given, Problem> {
    caller.must(Role::Operate)?;
    let ReportRequest { succeeded, message } = body(request)?;
    let may = |run: &RunRecord| matches!(run.state, RunState::Calling | RunState::Accepted);
    said(&state, &caller, Command::Report { run, succeeded, message }, may, "is under way").await
}

/// Gives a command about a run that is held and that it suits.
async fn said(
    state: &AppState,
    caller: &Caller,
    command: Command,
    may: impl Fn(&RunRecord) -> bool,
    suits: &str,
) -> Result<Given, Problem> {
    let (Command::Approve { run } | Command::Deny { run, .. } | Command::Report { run, .. }) = &command else {
        return Err(Problem::bad_request("this is not about a run".into()));
    };
    {
        let view = state.read();
        let missing = || Problem::not_found(format!("no run `{run}` is held; /api/v1/actions lists them"));
        let held = view.runs().get(run).ok_or_else(missing)?;
        if !may(held) {
            let word = held.state.word();
            return Err(Problem::conflict(format!("run `{run}` is {word}; this is for one that {suits}")));
        }
    }
    Ok((StatusCode::ACCEPTED, axum::Json(give(state, caller.by(None), command).await?)))
}
