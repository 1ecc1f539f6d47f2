//! Airflow 3, by its REST API v2: one run of a DAG, named after the run, with the manifest in its configuration.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::http_call::{HttpCall, bearer, bearer_of_call, bearer_of_question, text_at};
use super::run::{External, RunRecord};
use super::target::{CallOutcome, Progress, Target, TargetError};
use crate::config::actions::AirflowAction;
use crate::config::receivers::Secret;

pub struct AirflowTarget {
    api: HttpCall,
    dag: String,
    token: Secret,
}

impl AirflowTarget {
    pub fn new(action: &str, config: &AirflowAction) -> Result<Self, TargetError> {
        bearer(&config.token).map_err(|reason| TargetError::new(action, reason))?;
        let api = HttpCall::new(action, &config.url, config.allow_private, None)?;
        Ok(Self { api, dag: config.dag.clone(), token: config.token.clone() })
    }

    async fn try_call(&self, run: &RunRecord) -> Result<CallOutcome, CallOutcome> {
        let headers = bearer_of_call(&self.token)?;
        let body = json!({
            "dag_run_id": run.name(),
            // Required, and null for a run that belongs to no schedule.
            "logical_date": Value::Null,
            "conf": {"driftline": run.manifest},
        });
        let answer = self.api.post(self.api.url(&["api", "v2", "dags", &self.dag, "dagRuns"]), headers, &body).await?;
        Ok(match answer.status {
            // A conflict: a run of this name is there already, from an earlier call.
            200 | 201 | 409 => CallOutcome::Accepted {
                external: External {
                    id: Some(run.name()),
                    url: Some(self.api.url(&["dags", &self.dag, "runs", &run.name()]).to_string()),
                },
            },
            _ => answer.failure(),
        })
    }

    async fn try_progress(&self, run: &RunRecord) -> Result<Progress, Progress> {
        let headers = bearer_of_question(&self.token)?;
        let url = self.api.url(&["api", "v2", "dags", &self.dag, "dagRuns", &run.name()]);
        let body = self.api.get(url, headers).await?;
        Ok(match text_at(&body, "/state") {
            Some("success") => Progress::Succeeded { message: "the DAG run succeeded".into() },
            Some("failed") => Progress::Failed { reason: "the DAG run failed".into() },
            Some(_) => Progress::Running,
            None => Progress::Unknown { reason: "the DAG run has no state".into() },
        })
    }
}

#[async_trait]
impl Target for AirflowTarget {
    async fn call(&self, run: &RunRecord) -> CallOutcome {
        self.try_call(run).await.unwrap_or_else(|failed| failed)
    }

    async fn progress(&self, run: &RunRecord) -> Progress {
        self.try_progress(run).await.unwrap_or_else(|unknown| unknown)
    }
}
