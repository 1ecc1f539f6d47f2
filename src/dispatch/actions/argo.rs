//! Argo Workflows, by its server's REST API: one workflow of a template, of a fixed name, with the manifest as its
//! parameter `manifest`.

use async_trait::async_trait;
use serde_json::json;

use super::http_call::{HttpCall, bearer, bearer_of_call, bearer_of_question, manifest_text, text_at};
use super::run::{External, RunRecord};
use super::target::{CallOutcome, Progress, Target, TargetError};
use crate::config::actions::ArgoAction;
use crate::config::receivers::Secret;

pub struct ArgoTarget {
    api: HttpCall,
    namespace: String,
    template: String,
    token: Secret,
}

impl ArgoTarget {
    pub fn new(action: &str, config: &ArgoAction) -> Result<Self, TargetError> {
        bearer(&config.token).map_err(|reason| TargetError::new(action, reason))?;
        let api = HttpCall::new(action, &config.url, config.allow_private, None)?;
        let (namespace, template) = (config.namespace.clone(), config.template.clone());
        Ok(Self { api, namespace, template, token: config.token.clone() })
    }

    async fn try_call(&self, run: &RunRecord) -> Result<CallOutcome, CallOutcome> {
        let headers = bearer_of_call(&self.token)?;
        let body = json!({
            "namespace": self.namespace,
            "resourceKind": "WorkflowTemplate",
            "resourceName": self.template,
            "submitOptions": {
                "name": run.name(),
                "parameters": [format!("manifest={}", manifest_text(run)?)],
                "labels": format!("driftline.run={}", run.run),
            },
        });
        let url = self.api.url(&["api", "v1", "workflows", &self.namespace, "submit"]);
        let answer = self.api.post(url, headers, &body).await?;
        Ok(match answer.status {
            // A conflict: a workflow of this name is there already, from an earlier call.
            200 | 409 => CallOutcome::Accepted {
                external: External {
                    id: Some(run.name()),
                    url: Some(self.api.url(&["workflows", &self.namespace, &run.name()]).to_string()),
                },
            },
            _ => answer.failure(),
        })
    }

    async fn try_progress(&self, run: &RunRecord) -> Result<Progress, Progress> {
        let headers = bearer_of_question(&self.token)?;
        let mut url = self.api.url(&["api", "v1", "workflows", &self.namespace, &run.name()]);
        // A workflow holds the state of each of its nodes: only its own is asked for.
        url.query_pairs_mut().append_pair("fields", "status.phase,status.message");
        let body = self.api.get(url, headers).await?;
        let message = text_at(&body, "/status/message").unwrap_or_default();
        Ok(match text_at(&body, "/status/phase") {
            Some("Succeeded") => Progress::Succeeded { message: "the workflow succeeded".into() },
            Some("Failed" | "Error") => Progress::Failed { reason: format!("the workflow failed: {message}") },
            _ => Progress::Running,
        })
    }
}

#[async_trait]
impl Target for ArgoTarget {
    async fn call(&self, run: &RunRecord) -> CallOutcome {
        self.try_call(run).await.unwrap_or_else(|failed| failed)
    }

    async fn progress(&self, run: &RunRecord) -> Progress {
        self.try_progress(run).await.unwrap_or_else(|unknown| unknown)
    }
}
