//! GitHub Actions, by `workflow_dispatch`: the manifest comes as input `manifest`, the run's name as input `key`.
//!
//! The API knows no idempotency key: each call would start the workflow once more. So every call looks first whether a
//! run bears the name already, which it does where the workflow says `run-name: ${{ inputs.key }}`; then that one is
//! taken. What remains is a call that is lost and made again before GitHub lists its run; a workflow with
//! `concurrency: {group: ${{ inputs.key }}}` runs those two one after the other, and can tell the second.

use async_trait::async_trait;
use chrono::DateTime;
use reqwest::Url;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::http_call::{Answer, HttpCall, bearer, bearer_of_call, bearer_of_question, manifest_text, text_at};
use super::run::{External, RunRecord};
use super::target::{CallOutcome, Progress, Target, TargetError};
use crate::config::actions::GitHubAction;
use crate::config::receivers::{Secret, TextOrSecret};
use crate::dispatch::http_sender::now_ms;

const DEFAULT_URL: &str = "https://api.github.com";
/// Runs of the workflow that are looked through, newest first; as many as the API lists at once.
const LOOKED_THROUGH: usize = 100;
/// A run is not older than the decision that asked for it, by two clocks that may differ by this much.
const CLOCKS_DIFFER_MS: i64 = 3_600_000;

pub struct GitHubTarget {
    api: HttpCall,
    owner: String,
    name: String,
    workflow: String,
    reference: String,
    token: Secret,
}

impl GitHubTarget {
    pub fn new(action: &str, config: &GitHubAction) -> Result<Self, TargetError> {
        bearer(&config.token).map_err(|reason| TargetError::new(action, reason))?;
        let default = TextOrSecret::Text(DEFAULT_URL.into());
        let api = HttpCall::new(action, config.url.as_ref().unwrap_or(&default), config.allow_private, None)?;
        let Some((owner, name)) = config.repository.split_once('/') else {
            return Err(TargetError::new(action, format!("`{}` is not `owner/name`", config.repository)));
        };
        Ok(Self {
            api,
            owner: owner.to_string(),
            name: name.to_string(),
            workflow: config.workflow.clone(),
            reference: config.ref_.clone(),
            token: config.token.clone(),
        })
    }

    async fn try_call(&self, run: &RunRecord) -> Result<CallOutcome, CallOutcome> {
        let headers = with_version(bearer_of_call(&self.token)?);
        let body = json!({
            "ref": self.reference,
            "inputs": {"key": run.name(), "manifest": manifest_text(run)?},
            "return_run_details": true,
        });
        if let Some(external) = self.find(run, headers.clone()).await? {
            return Ok(CallOutcome::Accepted { external });
        }
        let answer = self.api.post(self.of_workflow("dispatches"), headers, &body).await?;
        Ok(match answer.status {
            200 | 204 => CallOutcome::Accepted {
                external: External {
                    id: answer.body.get("workflow_run_id").and_then(Value::as_u64).map(|id| id.to_string()),
                    url: answer.text("/html_url").map(str::to_string),
                },
            },
            _ => refused(&answer),
        })
    }

    /// The workflow run that an earlier call started, if it bears the name.
    async fn find(&self, run: &RunRecord, headers: HeaderMap) -> Result<Option<External>, CallOutcome> {
        let since_ms = run.started_at_ms.unwrap_or(run.request.at_ms).saturating_sub(CLOCKS_DIFFER_MS);
        let since = DateTime::from_timestamp_millis(since_ms).unwrap_or_default().format("%Y-%m-%dT%H:%M:%SZ");
        let mut url = self.of_workflow("runs");
        url.query_pairs_mut()
            .append_pair("event", "workflow_dispatch")
            .append_pair("created", &format!(">={since}"))
            .append_pair("per_page", &LOOKED_THROUGH.to_string());
        let answer = self.api.look(url, headers).await?;
        if answer.status != 200 {
            return Err(refused(&answer));
        }
        let Some(runs) = answer.body.get("workflow_runs").and_then(Value::as_array) else {
            let reason = format!("the list of workflow runs cannot be read: {}", answer.describe());
            return Err(CallOutcome::Retry { reason, after_ms: None });
        };
        let name = run.name();
        let found =
            runs.iter().find(|listed| text_at(listed, "/display_title").is_some_and(|title| title.contains(&name)));
        Ok(found.map(|listed| External {
            id: listed.get("id").and_then(Value::as_u64).map(|id| id.to_string()),
            url: text_at(listed, "/html_url").map(str::to_string),
        }))
    }

    fn of_workflow(&self, what: &str) -> Url {
        self.api.url(&["repos", &self.owner, &self.name, "actions", "workflows", &self.workflow, what])
    }

    async fn try_progress(&self, run: &RunRecord) -> Result<Progress, Progress> {
        let Some(id) = run.external.as_ref().and_then(|external| external.id.as_deref()) else {
            return Ok(Progress::Running);
        };
        let headers = with_version(bearer_of_question(&self.token)?);
        let url = self.api.url(&["repos", &self.owner, &self.name, "actions", "runs", id]);
        let body = self.api.get(url, headers).await?;
        Ok(match (text_at(&body, "/status"), text_at(&body, "/conclusion")) {
            (Some("completed"), Some("success")) => {
                Progress::Succeeded { message: "the workflow run succeeded".into() }
            }
            (Some("completed"), conclusion) => {
                let conclusion = conclusion.unwrap_or("without a conclusion");
                Progress::Failed { reason: format!("the workflow run ended: {conclusion}") }
            }
            _ => Progress::Running,
        })
    }
}

fn with_version(mut headers: HeaderMap) -> HeaderMap {
    headers.insert(ACCEPT, HeaderValue::from_static("application/vnd.github+json"));
    headers.insert("x-github-api-version", HeaderValue::from_static("2022-11-28"));
    headers
}

/// What an answer that is no success means. A 403 is either a token without the permission, or one of the two rate
/// limits.
fn refused(answer: &Answer) -> CallOutcome {
    if answer.status != 403 {
        return answer.failure();
    }
    let number = |name: &str| answer.headers.get(name)?.to_str().ok()?.parse::<i64>().ok();
    match answer.try_again() {
        CallOutcome::Retry { reason, after_ms: Some(after_ms) } => {
            CallOutcome::Retry { reason, after_ms: Some(after_ms) }
        }
        CallOutcome::Retry { reason, .. } if number("x-ratelimit-remaining") == Some(0) => {
            let reset_ms = number("x-ratelimit-reset").and_then(|at_s| DateTime::from_timestamp(at_s, 0));
            let after_ms = reset_ms.map(|at| (at.timestamp_millis() - now_ms()).max(0));
            CallOutcome::Retry { reason, after_ms }
        }
        _ => answer.failure(),
    }
}

#[async_trait]
impl Target for GitHubTarget {
    async fn call(&self, run: &RunRecord) -> CallOutcome {
        self.try_call(run).await.unwrap_or_else(|failed| failed)
    }

    async fn progress(&self, run: &RunRecord) -> Progress {
        self.try_progress(run).await.unwrap_or_else(|unknown| unknown)
    }
}
