//! Canaries on trial, and experiments: what they came to so far, and labels that come later.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::changes::read;
use super::models::Items;
use super::{Admin, on_disk};
use crate::http::access::Caller;
use crate::http::problem::Problem;
use crate::scorer::registry::RegistryError;
use crate::scorer::traffic::experiment::{ExperimentResult, results};
use crate::scorer::traffic::trial::evidence::{LabelReport, LabelSide};
use crate::scorer::traffic::trial::keeper::Keeper;
use crate::scorer::traffic::trial::machine::{Decision, Outcome, Trial};

/// A canary's trial.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TrialItem {
    pub canary: String,
    /// What it is compared with.
    pub production: String,
    pub started_at_ms: i64,
    /// Index of the step.
    pub step: u32,
    /// None while it runs.
    pub outcome: Option<Outcome>,
    /// The newest decision, with the numbers that it comes from.
    pub last: Option<Decision>,
    /// Decisions that changed something, oldest first.
    pub history: Vec<Decision>,
}

impl From<Trial> for TrialItem {
    fn from(trial: Trial) -> Self {
        let Trial { canary, production, started_at_ms, step, outcome, last, history, .. } = trial;
        Self { canary, production, started_at_ms, step, outcome, last, history }
    }
}

/// A metric over labels, by version: of all predictions since the trial began. A newer report replaces it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelRequest {
    /// As the guard `label_metric` names it.
    pub metric: String,
    /// Of the canary and of the version in production, by their names.
    pub versions: BTreeMap<String, LabelSide>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct LabelAnswer {
    /// Labels of the canary and of production, as they were taken.
    pub canary_labels: u64,
    pub production_labels: u64,
}

pub async fn trial(State(admin): State<Admin>, Path(model): Path<String>) -> Result<Json<TrialItem>, Problem> {
    let keeper = Keeper::new(admin.registry.clone());
    let trial = on_disk(&admin, move |_| {
        let trial = keeper.read(&model)?;
        trial.ok_or_else(|| RegistryError::NotFound(format!("model {model} has had no trial")))
    });
    Ok(Json(trial.await?.into()))
}

pub async fn report_labels(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Path(model): Path<String>,
    body: Bytes,
) -> Result<Json<LabelAnswer>, Problem> {
    let asked: LabelRequest = read(&caller, &body)?;
    let keeper = Keeper::new(admin.registry.clone());
    let at_ms = (admin.now_ms)();
    let answer = on_disk(&admin, move |_| {
        let running = keeper.read(&model)?.filter(|trial| trial.outcome.is_none());
        let Some(trial) = running else {
            return Err(RegistryError::Conflict(format!("no trial of model {model} runs")));
        };
        let side = |version: &str| {
            let side = asked.versions.get(version).ok_or_else(|| {
                RegistryError::Conflict(format!("`versions` lacks {version}, which is in the trial of model {model}"))
            })?;
            side.moments().map_err(|reason| RegistryError::Invalid(format!("`versions.{version}`: {reason}")))
        };
        let (canary, production) = (side(&trial.canary)?, side(&trial.production)?);
        let report = LabelReport { metric: asked.metric.clone(), canary, production, at_ms };
        keeper.report_labels(&model, (&trial.canary, &trial.production), report)?;
        Ok(LabelAnswer { canary_labels: canary.n, production_labels: production.n })
    });
    Ok(Json(answer.await?))
}

pub async fn experiments(
    State(admin): State<Admin>,
    Path(model): Path<String>,
) -> Result<Json<Items<ExperimentResult>>, Problem> {
    let keeper = Keeper::new(admin.registry.clone());
    let counts = on_disk(&admin, move |registry| {
        registry.state(&model)?;
        keeper.experiment(&model)
    });
    Ok(Json(Items { items: results(&counts.await?) }))
}
