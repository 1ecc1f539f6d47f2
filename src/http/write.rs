//! What changes something through the API: commands to the `control` topic, and the reload. Each answers once its
//! command is durable; what comes of it is decided by those who read the topic.

use axum::Extension;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::access::Caller;
use super::api::{Answer, Listing, page_of};
use super::problem::Problem;
use super::server::AppState;
use super::view::DeliveryStatus;
use crate::config::rules::Matcher;
use crate::config::service::Role;
use crate::config::units::Span;
use crate::dispatch::commands;
use crate::dispatch::control::{Command, ControlRecord, SilenceState};
use crate::log::LogError;
use crate::reference::table::parse_epoch_ms;

/// What was commanded.
pub type Given = (StatusCode, axum::Json<ControlRecord>);

pub(super) type Body<T> = Result<axum::Json<T>, JsonRejection>;

/// Writes the command and takes it into the view, so that the next page shows it.
pub async fn give(state: &AppState, by: String, command: Command) -> Result<ControlRecord, Problem> {
    let now_ms = (state.now_ms)();
    if let Some(problem) = commands::problem(&by, &command, now_ms) {
        return Err(Problem::unprocessable(problem));
    }
    let Some(operations) = state.operations.clone() else {
        return Err(Problem::conflict("this process takes no commands"));
    };
    let written =
        tokio::task::spawn_blocking(move || commands::give(&*operations.log, &operations.topics, &by, command, now_ms));
    let record = match written.await {
        Ok(Ok(record)) => record,
        Ok(Err(error)) => {
            tracing::warn!(%error, "a command could not be written");
            let reason = match error {
                LogError::Retry(reason) | LogError::Abort(reason) | LogError::Fatal(reason) => reason,
                LogError::Rebalanced => error.to_string(),
            };
            return Err(Problem::unavailable(format!("Kafka did not take it: {reason}; try again")));
        }
        Err(_) => return Err(Problem::unavailable("the command was not written; try again")),
    };
    tracing::info!(id = %record.id, by = %record.by, command = ?record.command, "a command was given");
    state.write().apply_command(&record);
    Ok(record)
}

pub(super) fn body<T: DeserializeOwned>(body: Body<T>) -> Result<T, Problem> {
    body.map(|axum::Json(value)| value)
        .map_err(|rejection| Problem::of_status(rejection.status(), rejection.body_text()))
}

/// An end that is given by its time or by how long it is away.
pub fn end_ms(until: Option<&str>, for_: Option<Span>, from_ms: i64) -> Result<Option<i64>, Problem> {
    match (until, for_) {
        (Some(_), Some(_)) => Err(Problem::unprocessable("give `until` or `for`, not both")),
        (Some(until), None) => instant("until", until).map(Some),
        (None, for_) => Ok(for_.map(|span| from_ms.saturating_add(span.ms))),
    }
}

fn instant(key: &str, text: &str) -> Result<i64, Problem> {
    let wrong =
        || Problem::unprocessable(format!("`{key}`: `{text}` is not a time; write RFC 3339 (2026-03-01T18:00:00Z)"));
    parse_epoch_ms(text).ok_or_else(wrong)
}

/// Somebody works on the alert.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AcknowledgeRequest {
    /// Who works on it; default: who asks.
    pub owner: Option<String>,
    /// RFC 3339; default: until it ends.
    pub until: Option<String>,
    /// The same, from now: `4h`.
    #[serde(rename = "for")]
    pub for_: Option<Span>,
    pub note: Option<String>,
}

pub async fn acknowledge(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Path(episode_id): Path<String>,
    request: Body<AcknowledgeRequest>,
) -> Result<Given, Problem> {
    caller.must(Role::Operate)?;
    let request = body(request)?;
    let record = acknowledge_episode(&state, &caller, &episode_id, request).await?;
    Ok((StatusCode::CREATED, axum::Json(record)))
}

pub async fn acknowledge_episode(
    state: &AppState,
    caller: &Caller,
    episode_id: &str,
    request: AcknowledgeRequest,
) -> Result<ControlRecord, Problem> {
    firing(state, episode_id)?;
    let owner = request.owner.filter(|owner| !owner.trim().is_empty());
    let by = caller.by(owner.as_deref());
    let until_ms = end_ms(request.until.as_deref(), request.for_, (state.now_ms)())?;
    let command = Command::Acknowledge {
        episode_id: episode_id.to_string(),
        owner: owner.unwrap_or_else(|| by.clone()),
        until_ms,
        note: request.note.filter(|note| !note.trim().is_empty()),
    };
    give(state, by, command).await
}

/// The alert is there and fires.
fn firing(state: &AppState, episode_id: &str) -> Result<(), Problem> {
    match state.read().episode(episode_id).map(super::view::Episode::is_firing) {
        Some(true) => Ok(()),
        Some(false) => Err(Problem::conflict(format!("alert `{episode_id}` has ended"))),
        None => Err(Problem::not_found(format!("no episode `{episode_id}` is held; /api/v1/episodes lists them"))),
    }
}

pub async fn unacknowledge(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Path(episode_id): Path<String>,
) -> Result<axum::Json<ControlRecord>, Problem> {
    caller.must(Role::Operate)?;
    unacknowledge_episode(&state, &caller, &episode_id).await.map(axum::Json)
}

pub async fn unacknowledge_episode(
    state: &AppState,
    caller: &Caller,
    episode_id: &str,
) -> Result<ControlRecord, Problem> {
    let now_ms = (state.now_ms)();
    if state.read().control().acknowledged(episode_id, now_ms).is_none() {
        return Err(Problem::not_found(format!("nobody has acknowledged alert `{episode_id}`, or the time is over")));
    }
    give(state, caller.by(None), Command::Unacknowledge { episode_id: episode_id.to_string() }).await
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct SilencesQuery {
    /// `active` (default: those that hold or are to come), or `all`.
    pub state: Option<String>,
    pub limit: Option<String>,
    pub cursor: Option<String>,
}

/// A silence, and whether it holds now.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct SilenceItem {
    #[serde(flatten)]
    silence: SilenceState,
    holds: bool,
}

pub async fn silences(
    State(state): State<AppState>,
    query: Result<Query<SilencesQuery>, axum::extract::rejection::QueryRejection>,
) -> Answer<Listing<SilenceItem>> {
    let Query(query) = query.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    let all = match query.state.as_deref() {
        None | Some("active") => false,
        Some("all") => true,
        Some(other) => return Err(Problem::bad_request(format!("`state` is `active` or `all`, not `{other}`"))),
    };
    let now_ms = (state.now_ms)();
    let view = state.read();
    let silences = view.control().silences().filter(|silence| all || silence.until_ms > now_ms);
    let mut items: Vec<SilenceItem> =
        silences.map(|silence| SilenceItem { silence: silence.clone(), holds: silence.holds(now_ms) }).collect();
    let place = |item: &SilenceItem| (-item.silence.at_ms, item.silence.id.clone());
    items.sort_by_key(place);
    page_of(items.iter().collect(), place, query.limit.as_deref(), query.cursor.as_deref())
}

/// Alerts that match are not told of for a while.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SilenceRequest {
    #[serde(rename = "match")]
    pub matcher: Matcher,
    /// RFC 3339; default: now.
    pub from: Option<String>,
    /// RFC 3339; this or `for` is required.
    pub until: Option<String>,
    /// How long, from its start: `2h`.
    #[serde(rename = "for")]
    pub for_: Option<Span>,
    /// Why; required.
    pub reason: String,
    /// Must be true where `match` would match every alert.
    pub all: bool,
    /// Who asks, where no token says so.
    pub by: Option<String>,
}

pub async fn silence(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    request: Body<SilenceRequest>,
) -> Result<Given, Problem> {
    caller.must(Role::Operate)?;
    let request = body(request)?;
    if request.matcher.is_empty() && !request.all {
        return Err(Problem::unprocessable("this would silence every alert; narrow `match`, or say `all: true`"));
    }
    let from_ms = request.from.as_deref().map_or_else(|| Ok((state.now_ms)()), |from| instant("from", from))?;
    let until_ms = end_ms(request.until.as_deref(), request.for_, from_ms)?
        .ok_or_else(|| Problem::unprocessable("a silence needs an end: `until` or `for`"))?;
    let by = caller.by(request.by.as_deref());
    let command = Command::Silence { matcher: request.matcher, from_ms, until_ms, reason: request.reason };
    let record = give(&state, by, command).await?;
    Ok((StatusCode::CREATED, axum::Json(record)))
}

pub async fn expire_silence(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<axum::Json<ControlRecord>, Problem> {
    caller.must(Role::Operate)?;
    let now_ms = (state.now_ms)();
    let until_ms = state.read().control().silences().find(|silence| silence.id == id).map(|silence| silence.until_ms);
    match until_ms {
        None => Err(Problem::not_found(format!("no silence `{id}`; /api/v1/silences lists them"))),
        Some(until_ms) if until_ms <= now_ms => Err(Problem::conflict(format!("silence `{id}` has ended already"))),
        Some(_) => give(&state, caller.by(None), Command::ExpireSilence { silence: id }).await.map(axum::Json),
    }
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryRequest {
    /// To this receiver; default: to each that gave it up.
    pub receiver: Option<String>,
}

pub async fn retry(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Path(notification_id): Path<String>,
    request: Body<RetryRequest>,
) -> Result<(StatusCode, axum::Json<Vec<ControlRecord>>), Problem> {
    caller.must(Role::Operate)?;
    let request = body(request)?;
    let receivers: Vec<String> = {
        let view = state.read();
        let of_receiver = |name: &String| request.receiver.as_ref().is_none_or(|receiver| receiver == name);
        let deliveries: Vec<_> = view.deliveries(&notification_id).filter(|one| of_receiver(&one.receiver)).collect();
        if deliveries.is_empty() {
            let to = request.receiver.as_ref().map_or_else(String::new, |receiver| format!(" to `{receiver}`"));
            return Err(Problem::not_found(format!("no delivery of a notification `{notification_id}`{to} is held")));
        }
        let wanted = |one: &&super::view::Delivery| request.receiver.is_some() || one.status == DeliveryStatus::Failed;
        deliveries.into_iter().filter(wanted).map(|one| one.receiver.clone()).collect()
    };
    if receivers.is_empty() {
        return Err(Problem::conflict(format!(
            "no delivery of `{notification_id}` was given up; name a `receiver` to have it sent again all the same"
        )));
    }
    let mut given = Vec::new();
    for receiver in receivers {
        let command = Command::Redeliver { notification_id: notification_id.clone(), receiver };
        given.push(give(&state, caller.by(None), command).await?);
    }
    Ok((StatusCode::ACCEPTED, axum::Json(given)))
}

/// What came of a reload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Reloaded {
    pub models: usize,
    pub rules: usize,
    pub receivers: usize,
    /// What `driftline check` warns of.
    pub warnings: usize,
}

/// Asks the process to read its configuration again, and waits for what comes of it.
#[derive(Debug)]
pub struct ReloadRequest {
    pub answer: tokio::sync::oneshot::Sender<Result<Reloaded, String>>,
}

pub type ReloadSender = tokio::sync::mpsc::Sender<ReloadRequest>;

pub async fn reload(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
) -> Result<axum::Json<Reloaded>, Problem> {
    caller.must(Role::Admin)?;
    let Some(sender) = &state.reload else {
        return Err(Problem::conflict("this process has no configuration to read again"));
    };
    let (answer, answered) = tokio::sync::oneshot::channel();
    let gone = || Problem::unavailable("the process is stopping");
    sender.send(ReloadRequest { answer }).await.map_err(|_| gone())?;
    match answered.await.map_err(|_| gone())? {
        Ok(reloaded) => Ok(axum::Json(reloaded)),
        Err(reason) => Err(Problem::unprocessable(reason)),
    }
}
