//! Changing which versions serve.
//!
//! A version is loaded and warmed before it is put into its place, so that one that cannot be loaded changes nothing,
//! and one that can takes over without a pause. A header `idempotency-key` makes a second call harmless.

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Admin, on_disk};
use crate::config::service::Role;
use crate::http::access::Caller;
use crate::http::problem::Problem;
use crate::scorer::registry::audit::Served;
use crate::scorer::registry::change::ALL_BUCKETS;
use crate::scorer::registry::{Change, ChangeRequest, Changed, Preview, RollbackTo};

/// What must hold for a change to be made; otherwise 409.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Expected {
    pub production: Option<String>,
    pub generation: Option<u64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PromoteRequest {
    pub version: String,
    /// Even if it was rolled back before.
    #[serde(default)]
    pub force: bool,
    #[serde(default)]
    pub expected: Expected,
    #[serde(default)]
    pub reason: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// `last_good`, the version before; or a version.
    #[serde(default = "last_good")]
    pub to: String,
    /// `production` is required: a rollback is of one version and never of another.
    pub expected: Expected,
    #[serde(default)]
    pub reason: String,
    /// The monitor's run that asks.
    #[serde(default)]
    pub run: Option<String>,
}

fn last_good() -> String {
    "last_good".into()
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CanaryRequest {
    pub version: String,
    /// Its share of the traffic in steps of 1/10 000.
    pub buckets: u32,
    /// Deals entities to versions anew; default: that of the canary that runs, else the version's name.
    #[serde(default)]
    pub salt: Option<String>,
    /// First step of a progressive rollout, which goes on by itself; without it the share stays.
    #[serde(default)]
    pub step: Option<u32>,
    /// Even if it was rolled back before.
    #[serde(default)]
    pub force: bool,
    #[serde(default)]
    pub expected: Expected,
    #[serde(default)]
    pub reason: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShadowRequest {
    pub version: String,
    #[serde(default)]
    pub expected: Expected,
    #[serde(default)]
    pub reason: String,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClearQuery {
    /// Refuse if another version is the canary.
    pub version: Option<String>,
    /// The canary has failed: it is not promoted any more without force.
    pub reject: bool,
    /// Refuse if the state has another generation.
    pub generation: Option<u64>,
    pub reason: String,
}

/// What serves after a change.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ChangeAnswer {
    #[serde(flatten)]
    pub served: Served,
    pub generation: u64,
    /// It was done before under this idempotency key, and this is what came of it then.
    pub done_before: bool,
}

pub async fn promote(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Path(model): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<ChangeAnswer>, Problem> {
    let asked: PromoteRequest = read(&caller, &body)?;
    let change = Change::Promote { version: asked.version, force: asked.force };
    let wish = Wish { change, expected: asked.expected, reason: asked.reason, key: key(&headers)? };
    make(&admin, &caller, model, wish).await
}

pub async fn roll_back(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Path(model): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<ChangeAnswer>, Problem> {
    let asked: RollbackRequest = read(&caller, &body)?;
    let Some(production) = asked.expected.production.clone() else {
        return Err(Problem::unprocessable(
            "`expected.production` is missing: a rollback is of one version and no other",
        ));
    };
    let change = Change::Rollback { to: RollbackTo::parse(&asked.to), production };
    let wish = Wish { change, expected: asked.expected, reason: asked.reason, key: key(&headers)?.or(asked.run) };
    make(&admin, &caller, model, wish).await
}

pub async fn set_canary(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Path(model): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<ChangeAnswer>, Problem> {
    let CanaryRequest { version, buckets, salt, step, force, expected, reason } = read(&caller, &body)?;
    if buckets == 0 || buckets > ALL_BUCKETS {
        return Err(Problem::unprocessable(format!("`buckets` is {buckets}: 1 to {ALL_BUCKETS} can be had")));
    }
    let change = Change::SetCanary { version, buckets, salt, step, force };
    make(&admin, &caller, model, Wish { change, expected, reason, key: key(&headers)? }).await
}

pub async fn clear_canary(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Path(model): Path<String>,
    headers: HeaderMap,
    query: Result<Query<ClearQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<ChangeAnswer>, Problem> {
    let Query(asked) = query.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    caller.must(Role::Operate)?;
    let change = Change::ClearCanary { version: asked.version, reject: asked.reject };
    let expected = Expected { generation: asked.generation, production: None };
    make(&admin, &caller, model, Wish { change, expected, reason: asked.reason, key: key(&headers)? }).await
}

pub async fn set_shadow(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Path(model): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<ChangeAnswer>, Problem> {
    let ShadowRequest { version, expected, reason } = read(&caller, &body)?;
    let change = Change::SetShadow { version };
    make(&admin, &caller, model, Wish { change, expected, reason, key: key(&headers)? }).await
}

pub async fn clear_shadow(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Path(model): Path<String>,
    headers: HeaderMap,
) -> Result<Json<ChangeAnswer>, Problem> {
    caller.must(Role::Operate)?;
    let wish =
        Wish { change: Change::ClearShadow, expected: Expected::default(), reason: String::new(), key: key(&headers)? };
    make(&admin, &caller, model, wish).await
}

struct Wish {
    change: Change,
    expected: Expected,
    reason: String,
    /// The caller's idempotency key.
    key: Option<String>,
}

async fn make(admin: &Admin, caller: &Caller, model: String, wish: Wish) -> Result<Json<ChangeAnswer>, Problem> {
    let request = ChangeRequest {
        change: wish.change,
        expected_generation: wish.expected.generation,
        expected_production: wish.expected.production,
        by: caller.by(None),
        reason: wish.reason,
        request_id: wish.key,
    };
    let now_ms = (admin.now_ms)();
    let (name, asked) = (model.clone(), request.clone());
    let preview = on_disk(admin, move |registry| registry.preview(&name, &asked, now_ms)).await?;
    let version = match preview {
        Preview::Unchanged(unchanged) => return Ok(Json(answer(unchanged))),
        Preview::Change { version } => version,
    };
    if let Some(version) = version {
        // Its bytes are checked first: what is told of a version that is not whole is that, and not what an engine makes of it.
        let (name, checked) = (model.clone(), version.clone());
        on_disk(admin, move |registry| registry.open_version(&name, &checked).map(drop)).await?;
        admin.serving.prepare(&model, &version).await.map_err(|reason| {
            Problem::unprocessable(format!(
                "version {version} of {model} cannot be served, so nothing was changed: {reason}"
            ))
        })?;
    }
    let name = model.clone();
    let changed = on_disk(admin, move |registry| registry.change(&name, &request, now_ms)).await?;
    admin.serving.changed(&model);
    Ok(Json(answer(changed)))
}

fn answer(changed: Changed) -> ChangeAnswer {
    match changed.done_before {
        Some(entry) => ChangeAnswer { served: entry.to, generation: entry.generation, done_before: true },
        None => ChangeAnswer {
            served: Served::from(&changed.state),
            generation: changed.state.generation,
            done_before: false,
        },
    }
}

/// Who may not change anything is told so before what is wrong with the body.
pub(super) fn read<T: DeserializeOwned>(caller: &Caller, body: &[u8]) -> Result<T, Problem> {
    caller.must(Role::Operate)?;
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => Problem::unprocessable(format!("the body does not fit: {error}")),
        _ => Problem::bad_request(format!("the body is no JSON: {error}")),
    })
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    match value.to_str() {
        Ok(text) if !text.is_empty() && text.len() <= 256 => Ok(Some(text.to_string())),
        _ => Err(Problem::bad_request("`idempotency-key` must have 1 to 256 visible ASCII characters".into())),
    }
}
