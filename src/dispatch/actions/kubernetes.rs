//! A Kubernetes Job of a fixed name; every container of it gets the manifest in its environment.
//!
//! Without an address it is the cluster that Driftline runs in, with the token and the authority of its service account.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::http_call::{HttpCall, bearer, bearer_of_call, bearer_of_question, manifest_text, text_at};
use super::run::{External, RunRecord};
use super::target::{CallOutcome, Progress, Target, TargetError};
use crate::config::actions::KubernetesAction;
use crate::config::receivers::{Secret, TextOrSecret};

const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

pub struct KubernetesTarget {
    api: HttpCall,
    namespace: String,
    job: Value,
    token: Secret,
}

impl KubernetesTarget {
    pub fn new(action: &str, config: &KubernetesAction) -> Result<Self, TargetError> {
        let token = config.token.clone();
        let token = token.unwrap_or_else(|| Secret { env: None, file: Some(format!("{ACCOUNT}/token")) });
        bearer(&token).map_err(|reason| TargetError::new(action, reason))?;
        let own = TextOrSecret::Text("https://kubernetes.default.svc".into());
        // The API of one's own cluster is always at a private address.
        let allow_private = config.allow_private || config.url.is_none();
        let own_authority = config.url.is_none().then(|| format!("{ACCOUNT}/ca.crt"));
        let authority = match config.ca_file.clone().or(own_authority) {
            None => None,
            Some(path) => Some(
                std::fs::read(&path)
                    .map_err(|error| TargetError::new(action, format!("cannot read `{path}`: {error}")))?,
            ),
        };
        let base = config.url.as_ref().unwrap_or(&own);
        let api = HttpCall::new(action, base, allow_private, authority.as_deref())?;
        Ok(Self { api, namespace: config.namespace.clone(), job: config.job.clone(), token })
    }

    async fn try_call(&self, run: &RunRecord) -> Result<CallOutcome, CallOutcome> {
        let headers = bearer_of_call(&self.token)?;
        let spec = with_environment(
            self.job.clone(),
            &[("DRIFTLINE_RUN", run.run.clone()), ("DRIFTLINE_MANIFEST", manifest_text(run)?)],
        );
        let body = json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": run.name(),
                "namespace": self.namespace,
                "labels": {"app.kubernetes.io/managed-by": "driftline", "driftline.run": run.run},
            },
            "spec": spec,
        });
        let url = self.api.url(&["apis", "batch", "v1", "namespaces", &self.namespace, "jobs"]);
        let answer = self.api.post(url, headers, &body).await?;
        let accepted = CallOutcome::Accepted { external: External { id: Some(run.name()), url: None } };
        Ok(match (answer.status, answer.text("/reason")) {
            (200..=202, _) => accepted,
            // There already, from an earlier call. Another conflict (of a quota that is being counted) heals by itself.
            (409, Some("AlreadyExists")) => accepted,
            (409, _) => answer.try_again(),
            _ => answer.failure(),
        })
    }

    async fn try_progress(&self, run: &RunRecord) -> Result<Progress, Progress> {
        let headers = bearer_of_question(&self.token)?;
        let name = run.name();
        let url = self.api.url(&["apis", "batch", "v1", "namespaces", &self.namespace, "jobs", &name]);
        let body = self.api.get(url, headers).await?;
        let conditions = body.pointer("/status/conditions").and_then(Value::as_array);
        for condition in conditions.into_iter().flatten() {
            if text_at(condition, "/status") != Some("True") {
                continue;
            }
            let message = text_at(condition, "/message").unwrap_or_default();
            match text_at(condition, "/type") {
                Some("Complete") => return Ok(Progress::Succeeded { message: "the job is complete".into() }),
                Some("Failed") => return Ok(Progress::Failed { reason: format!("the job failed: {message}") }),
                _ => {}
            }
        }
        Ok(Progress::Running)
    }
}

/// The Job's `spec` with these variables in every container; one of the same name is replaced.
fn with_environment(mut spec: Value, variables: &[(&str, String)]) -> Value {
    for kind in ["containers", "initContainers"] {
        let containers = spec.pointer_mut(&format!("/template/spec/{kind}")).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let Some(container) = container.as_object_mut() else { continue };
            let environment = container.entry("env").or_insert_with(|| json!([]));
            let Some(environment) = environment.as_array_mut() else { continue };
            for (name, value) in variables {
                environment.retain(|variable| text_at(variable, "/name") != Some(name));
                environment.push(json!({"name": name, "value": value}));
            }
        }
    }
    spec
}

#[async_trait]
impl Target for KubernetesTarget {
    async fn call(&self, run: &RunRecord) -> CallOutcome {
        self.try_call(run).await.unwrap_or_else(|failed| failed)
    }

    async fn progress(&self, run: &RunRecord) -> Progress {
        self.try_progress(run).await.unwrap_or_else(|unknown| unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_container_gets_the_variables_and_keeps_its_own() {
        let spec = json!({"template": {"spec": {
            "containers": [{"name": "a", "env": [{"name": "X", "value": "1"}, {"name": "RUN", "value": "old"}]}, {"name": "b"}],
            "initContainers": [{"name": "c"}],
        }}});
        let changed = with_environment(spec, &[("RUN", "new".into())]);
        let names = |pointer: &str| changed.pointer(pointer).unwrap().to_string();
        assert_eq!(
            names("/template/spec/containers/0/env"),
            r#"[{"name":"X","value":"1"},{"name":"RUN","value":"new"}]"#
        );
        assert_eq!(names("/template/spec/containers/1/env"), r#"[{"name":"RUN","value":"new"}]"#);
        assert_eq!(names("/template/spec/initContainers/0/env"), r#"[{"name":"RUN","value":"new"}]"#);
    }
}
