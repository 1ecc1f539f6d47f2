//! Actions: what a firing rule may have done, one struct a kind. Their checks are in `action_checks`, what they call in
//! `dispatch::actions`. To add a kind: a struct here, its field in `Action` and its arm in `ActionKind`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::receivers::{KafkaReceiver, Secret, TextOrSecret};
use super::units::Span;

/// Exactly one kind, and when it may run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Action {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookAction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaReceiver>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub airflow: Option<AirflowAction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub argo: Option<ArgoAction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sagemaker: Option<SageMakerAction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub github: Option<GitHubAction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesAction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback: Option<RollbackAction>,
    /// What must hold before it runs.
    #[serde(skip_serializing_if = "Guard::is_empty")]
    pub guard: Guard,
    /// Shortest time between two runs for the same model; required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<Span>,
    /// Most runs in a stretch of time, over all models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<ActionBudget>,
    /// What tells a repeated call from a new one.
    pub idempotency_key: IdempotencyKey,
    /// `ask`: a person must approve each run (`driftline actions approve`).
    pub confirm: Confirm,
    /// Go through everything and say what would have been called, but call nothing.
    pub dry_run: bool,
    /// Suspended after this many runs in a row that did not help, until a person resumes it; default: 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend_after: Option<u32>,
    /// A run that has not ended after this long counts as failed; default: 24h.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// How far the data to train on reach back from the window that fired; default: 30d.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training_data: Option<Span>,
}

/// What must hold before an action runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Guard {
    /// Events since the last run that succeeded: `">= 50000"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_rows: Option<String>,
    /// Share of the predictions of the data to train on whose label is known: `">= 80%"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_coverage: Option<String>,
    /// Rules none of which may be firing for the model.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub no_alerts: Vec<String>,
    /// Of a rollback: `72h of promotion`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
}

impl Guard {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActionBudget {
    /// Most runs.
    pub max_runs: u32,
    /// In any stretch of this length.
    pub per: Span,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IdempotencyKey {
    /// Hash of action, model, version and episode.
    #[default]
    Auto,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Confirm {
    #[default]
    Auto,
    Ask,
}

/// What an action is, once it is known to be one thing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ActionKind<'a> {
    Webhook(&'a WebhookAction),
    Kafka(&'a KafkaReceiver),
    Airflow(&'a AirflowAction),
    Argo(&'a ArgoAction),
    SageMaker(&'a SageMakerAction),
    GitHub(&'a GitHubAction),
    Kubernetes(&'a KubernetesAction),
    Rollback(&'a RollbackAction),
}

impl Action {
    /// Its keys, for messages.
    pub const KINDS: &'static str =
        "`webhook`, `kafka`, `airflow`, `argo`, `sagemaker`, `github`, `kubernetes` and `rollback`";

    /// Every kind that is given; a right action has one.
    pub fn kinds(&self) -> Vec<ActionKind<'_>> {
        let kinds = [
            self.webhook.as_ref().map(ActionKind::Webhook),
            self.kafka.as_ref().map(ActionKind::Kafka),
            self.airflow.as_ref().map(ActionKind::Airflow),
            self.argo.as_ref().map(ActionKind::Argo),
            self.sagemaker.as_ref().map(ActionKind::SageMaker),
            self.github.as_ref().map(ActionKind::GitHub),
            self.kubernetes.as_ref().map(ActionKind::Kubernetes),
            self.rollback.as_ref().map(ActionKind::Rollback),
        ];
        kinds.into_iter().flatten().collect()
    }
}

/// A POST of the training manifest, signed as Standard Webhooks says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookAction {
    /// Where the manifest is sent.
    pub url: TextOrSecret,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_secret: Option<Secret>,
    /// Further headers by their names; one that lets in is `{env: NAME}` or `{file: PATH}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, TextOrSecret>,
    /// Allow loopback, private and link-local addresses.
    #[serde(default)]
    pub allow_private: bool,
}

/// A run of an Airflow 3 DAG, by its REST API v2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AirflowAction {
    /// Up to the path: `https://airflow.example.com`.
    pub url: TextOrSecret,
    /// Id of the DAG.
    pub dag: String,
    /// Bearer token of the API.
    pub token: Secret,
    /// Allow loopback, private and link-local addresses.
    #[serde(default)]
    pub allow_private: bool,
}

/// A workflow from a template of Argo Workflows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArgoAction {
    /// Up to the path: `https://argo.example.com:2746`.
    pub url: TextOrSecret,
    /// Namespace of the workflow.
    pub namespace: String,
    /// Name of the `WorkflowTemplate`.
    pub template: String,
    /// Bearer token of the API.
    pub token: Secret,
    /// Allow loopback, private and link-local addresses.
    #[serde(default)]
    pub allow_private: bool,
}

/// An execution of an Amazon SageMaker pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SageMakerAction {
    /// AWS region, such as `eu-west-1`.
    pub region: String,
    /// Name of the pipeline.
    pub pipeline: String,
    pub access_key_id: Secret,
    pub secret_access_key: Secret,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<Secret>,
    /// Default: `https://api.sagemaker.REGION.amazonaws.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<TextOrSecret>,
    /// Allow loopback, private and link-local addresses.
    #[serde(default)]
    pub allow_private: bool,
}

/// A run of a GitHub Actions workflow, by `workflow_dispatch`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GitHubAction {
    /// `owner/name`.
    pub repository: String,
    /// File name of the workflow, or its id.
    pub workflow: String,
    /// Branch or tag.
    #[serde(rename = "ref")]
    pub ref_: String,
    /// A token that may run the workflow.
    pub token: Secret,
    /// Default: `https://api.github.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<TextOrSecret>,
    /// Allow loopback, private and link-local addresses.
    #[serde(default)]
    pub allow_private: bool,
}

/// A Kubernetes Job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KubernetesAction {
    /// Of the API server; default: the cluster that Driftline runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<TextOrSecret>,
    /// Namespace of the Job.
    pub namespace: String,
    /// The Job's `spec`. The manifest comes in the environment variable `DRIFTLINE_MANIFEST` of every container.
    pub job: Value,
    /// Default: the service account's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// File of the certificate authority in PEM; default: the service account's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// Allow loopback, private and link-local addresses.
    #[serde(default)]
    pub allow_private: bool,
}

/// A rollback of the scorer, by its admin API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackAction {
    /// Up to the path: `http://127.0.0.1:9000`.
    pub scorer: TextOrSecret,
    /// Which version is put back.
    #[serde(default)]
    pub to: RollbackTo,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RollbackTo {
    /// The version that was in production before.
    #[default]
    LastGood,
}
