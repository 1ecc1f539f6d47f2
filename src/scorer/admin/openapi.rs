//! The OpenAPI document of the admin API, from the types that it reads and answers with.

use serde_json::Value;

use super::changes::{CanaryRequest, ChangeAnswer, ClearQuery, PromoteRequest, RollbackRequest, ShadowRequest};
use super::models::{AuditQuery, Items, ModelItem, VersionItem};
use super::repository::{IndexItem, IndexRequest};
use super::trial::{LabelAnswer, LabelRequest, TrialItem};
use crate::config::service::Role;
use crate::http::openapi::{About, Operation, SchemaOf, document_of, inline, of, read, write};
use crate::scorer::registry::audit::AuditEntry;
use crate::scorer::traffic::experiment::ExperimentResult;

const fn change(path: &'static str, summary: &'static str, body: SchemaOf) -> Operation {
    write("post", path, summary, Some(body), (200, of::<ChangeAnswer>), &[404, 409, 503])
}

const fn clear(path: &'static str, summary: &'static str, query: Option<SchemaOf>) -> Operation {
    Operation { query, ..write("delete", path, summary, None, (200, of::<ChangeAnswer>), &[404, 409, 503]) }
}

/// Everything under `/admin`, and the protocol's repository extension.
pub const OPERATIONS: [Operation; 18] = [
    Operation {
        problems: &[503],
        ..read("/admin/v1/models", "Models, and which of their versions serve", None, of::<Items<ModelItem>>)
    },
    Operation {
        problems: &[404, 422, 503],
        ..read("/admin/v1/models/{model}", "Which versions of one model serve", None, of::<ModelItem>)
    },
    Operation {
        problems: &[404, 422, 503],
        ..read("/admin/v1/models/{model}/versions", "Versions of one model", None, of::<Items<VersionItem>>)
    },
    Operation {
        problems: &[404, 422, 503],
        ..read("/admin/v1/models/{model}/versions/{version}", "One version", None, of::<VersionItem>)
    },
    Operation {
        problems: &[400, 404, 422, 503],
        ..read(
            "/admin/v1/models/{model}/audit",
            "Who changed what, when and why, newest first",
            Some(inline::<AuditQuery>),
            of::<Items<AuditEntry>>,
        )
    },
    Operation {
        problems: &[404, 422, 503],
        ..read(
            "/admin/v1/models/{model}/trial",
            "The canary's trial that runs or ran last, and why it decides as it does",
            None,
            of::<TrialItem>,
        )
    },
    write(
        "post",
        "/admin/v1/models/{model}/trial/labels",
        "Report a metric over labels of both sides of the trial",
        Some(of::<LabelRequest>),
        (200, of::<LabelAnswer>),
        &[404, 409, 503],
    ),
    Operation {
        problems: &[404, 422, 503],
        ..read(
            "/admin/v1/models/{model}/experiments",
            "What each arm of each experiment came to",
            None,
            of::<Items<ExperimentResult>>,
        )
    },
    change("/admin/v1/models/{model}/promote", "Put a version into production", of::<PromoteRequest>),
    change("/admin/v1/models/{model}/rollback", "Put an earlier version back into production", of::<RollbackRequest>),
    change("/admin/v1/models/{model}/canary", "Give a version a share of the traffic", of::<CanaryRequest>),
    clear("/admin/v1/models/{model}/canary", "End the canary", Some(inline::<ClearQuery>)),
    change("/admin/v1/models/{model}/shadow", "Score a version beside production", of::<ShadowRequest>),
    clear("/admin/v1/models/{model}/shadow", "End the shadow", None),
    read("/admin/v1/openapi.json", "This document", None, of::<Value>),
    Operation {
        role: Role::Read,
        ..write(
            "post",
            "/v2/repository/index",
            "Versions and whether they answer, as the Open Inference Protocol asks for it",
            Some(of::<IndexRequest>),
            (200, of::<Vec<IndexItem>>),
            &[503],
        )
    },
    Operation {
        answer: None,
        ..write(
            "post",
            "/v2/repository/models/{model}/load",
            "Serve a model again that was unloaded",
            None,
            (200, of::<Value>),
            &[404, 422, 503],
        )
    },
    Operation {
        answer: None,
        ..write(
            "post",
            "/v2/repository/models/{model}/unload",
            "Stop serving a model until it is loaded",
            None,
            (200, of::<Value>),
            &[404, 503],
        )
    },
];

/// OpenAPI 3.1.
pub fn document() -> Value {
    let about = About {
        title: "Driftline scorer",
        description: "Which versions of models serve, and changing that. Errors are RFC 9457 problems. Times are epoch milliseconds.",
        tokens: "admin.tokens",
    };
    document_of(&OPERATIONS, &about)
}
