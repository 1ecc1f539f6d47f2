//! The seam to whoever retrains or rolls back: what a target can do, what a call answers, and building targets from the
//! configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::airflow::AirflowTarget;
use super::argo::ArgoTarget;
use super::github::GitHubTarget;
use super::guard::Registry;
use super::kafka::KafkaTarget;
use super::kubernetes::KubernetesTarget;
use super::rollback::RollbackTarget;
use super::run::{External, RunRecord};
use super::sagemaker::SageMakerTarget;
use super::webhook::WebhookTarget;
use crate::config::actions::{Action, ActionKind};
use crate::log::Log;
use crate::log::topics::Topics;

/// Targets by the names of their actions.
pub type Targets = BTreeMap<String, Box<dyn Target>>;

/// How a call ended, by what happens next.
#[derive(Debug, Clone, PartialEq)]
pub enum CallOutcome {
    /// The target has taken the run and works on it. With an id in `external` it is asked how it goes.
    Accepted { external: External },
    /// The target has done it: nothing is left to wait for.
    Done { message: String },
    /// Call again, at the earliest after `after_ms` if the target said so.
    Retry { reason: String, after_ms: Option<i64> },
    /// Calling again would not help.
    Permanent { reason: String },
}

impl CallOutcome {
    pub fn permanent(reason: impl Into<String>) -> Self {
        CallOutcome::Permanent { reason: reason.into() }
    }

    /// The value of the metric label `outcome`.
    pub fn label(&self) -> &'static str {
        match self {
            CallOutcome::Accepted { .. } | CallOutcome::Done { .. } => "accepted",
            CallOutcome::Retry { .. } => "retry",
            CallOutcome::Permanent { .. } => "permanent",
        }
    }
}

/// How a run goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    Running,
    Succeeded {
        message: String,
    },
    Failed {
        reason: String,
    },
    /// No answer, or none that says it: ask again later.
    Unknown {
        reason: String,
    },
}

/// One kind of target. Each function makes its request once, within a bounded time; it neither retries nor panics.
#[async_trait]
pub trait Target: Send + Sync {
    /// Starts the run, with its name as idempotency key.
    async fn call(&self, run: &RunRecord) -> CallOutcome;

    /// How an accepted run goes. Of a target that cannot say, runs have no id, and nobody asks.
    async fn progress(&self, _run: &RunRecord) -> Progress {
        Progress::Running
    }

    /// What is in production, before a rollback is decided.
    async fn registry(&self, _run: &RunRecord) -> Result<Registry, String> {
        Err("this action has no registry".into())
    }
}

/// Why an action cannot be used as it is configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("action `{action}`: {reason}")]
pub struct TargetError {
    pub action: String,
    pub reason: String,
}

impl TargetError {
    pub fn new(action: &str, reason: impl Into<String>) -> Self {
        Self { action: action.to_string(), reason: reason.into() }
    }
}

/// What some kinds of targets need of the service.
#[derive(Clone, Copy, Default)]
pub struct Means<'a> {
    /// The log that the service runs on, and the prefix of its own topics there.
    pub log: Option<(&'a Arc<dyn Log>, &'a str)>,
}

/// The target of every action, or everything that is wrong with them.
pub fn build_all(actions: &BTreeMap<String, Action>, means: Means<'_>) -> Result<Targets, Vec<TargetError>> {
    let mut targets = Targets::new();
    let mut errors = Vec::new();
    for (name, action) in actions {
        match build(name, action, means) {
            Ok(target) => drop(targets.insert(name.clone(), target)),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(targets) } else { Err(errors) }
}

/// Resolves the secrets of one action and checks what can be checked without connecting.
pub fn build(name: &str, action: &Action, means: Means<'_>) -> Result<Box<dyn Target>, TargetError> {
    match action.kinds().as_slice() {
        [ActionKind::Webhook(webhook)] => Ok(Box::new(WebhookTarget::new(name, webhook)?)),
        [ActionKind::Kafka(kafka)] => {
            let Some((log, app)) = means.log else {
                return Err(TargetError::new(name, "a topic needs the log that the service runs on"));
            };
            if Topics::new(app).specs(1, 1).iter().any(|own| own.name == kafka.topic) {
                let reason = format!("topic `{}` is Driftline's own; name another", kafka.topic);
                return Err(TargetError::new(name, reason));
            }
            Ok(Box::new(KafkaTarget::new(log.clone(), app, &kafka.topic)))
        }
        [ActionKind::Airflow(airflow)] => Ok(Box::new(AirflowTarget::new(name, airflow)?)),
        [ActionKind::Argo(argo)] => Ok(Box::new(ArgoTarget::new(name, argo)?)),
        [ActionKind::SageMaker(sagemaker)] => Ok(Box::new(SageMakerTarget::new(name, sagemaker)?)),
        [ActionKind::GitHub(github)] => Ok(Box::new(GitHubTarget::new(name, github)?)),
        [ActionKind::Kubernetes(kubernetes)] => Ok(Box::new(KubernetesTarget::new(name, kubernetes)?)),
        [ActionKind::Rollback(rollback)] => Ok(Box::new(RollbackTarget::new(name, rollback)?)),
        _ => Err(TargetError::new(name, format!("exactly one of {} is needed", Action::KINDS))),
    }
}
