//! The OpenAPI document, from the types that the API reads and answers with. A test asks every operation here and
//! compares, and looks for routes that are missing here.
//!
//! To add an operation: a row in `OPERATIONS`, beside its route in `server`.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::api::{EpisodeDetail, EpisodeItem, EpisodesQuery, Listing, ModelItem, Problem, WindowsQuery};
use super::api_actions::{ActionsQuery, RunDetail, RunItem};
use super::write::{AcknowledgeRequest, Reloaded, RetryRequest, SilenceItem, SilenceRequest, SilencesQuery};
use super::write_actions::{DenyRequest, ReportRequest};
use crate::config::service::Role;
use crate::dispatch::actions::manifest::Manifest;
use crate::dispatch::control::ControlRecord;
use crate::windows::result::WindowResult;

pub(crate) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// One method of one path.
pub struct Operation {
    pub method: &'static str,
    pub path: &'static str,
    pub summary: &'static str,
    pub role: Role,
    /// Parameters of the query.
    pub(crate) query: Option<SchemaOf>,
    pub(crate) body: Option<SchemaOf>,
    /// Status and body of success.
    pub status: u16,
    pub(crate) answer: Option<SchemaOf>,
    /// Status of problems that are its own, beside those of access and of a body that cannot be read.
    pub(crate) problems: &'static [u16],
}

pub(crate) fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// A type's properties in place, for parameters.
pub(crate) fn inline<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    T::json_schema(generator)
}

pub(crate) const fn read(
    path: &'static str,
    summary: &'static str,
    query: Option<SchemaOf>,
    answer: SchemaOf,
) -> Operation {
    Operation {
        method: "get",
        path,
        summary,
        role: Role::Read,
        query,
        body: None,
        status: 200,
        answer: Some(answer),
        problems: &[],
    }
}

pub(crate) const fn write(
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    body: Option<SchemaOf>,
    (status, answer): (u16, SchemaOf),
    problems: &'static [u16],
) -> Operation {
    let answer = Some(answer);
    Operation { method, path, summary, role: Role::Operate, query: None, body, status, answer, problems }
}

/// Everything under `/api`, and the reload.
pub const OPERATIONS: [Operation; 19] = [
    read("/api/v1/models", "Models, with their versions and newest windows", None, of::<Listing<ModelItem>>),
    Operation {
        problems: &[400, 404],
        ..read(
            "/api/v1/windows",
            "Closed windows of one model, newest first",
            Some(inline::<WindowsQuery>),
            of::<Listing<WindowResult>>,
        )
    },
    Operation {
        problems: &[400, 404],
        ..read(
            "/api/v1/performance",
            "Windows of one model's performance, newest first",
            Some(inline::<WindowsQuery>),
            of::<Listing<WindowResult>>,
        )
    },
    Operation {
        problems: &[400],
        ..read(
            "/api/v1/episodes",
            "Alerts, the newest change first",
            Some(inline::<EpisodesQuery>),
            of::<Listing<EpisodeItem>>,
        )
    },
    Operation {
        problems: &[404],
        ..read(
            "/api/v1/episodes/{episode_id}",
            "One alert with its notifications and their deliveries",
            None,
            of::<EpisodeDetail>,
        )
    },
    write(
        "post",
        "/api/v1/episodes/{episode_id}/acknowledge",
        "Say who works on an alert: no reminders until it ends, gets worse, or the time is over",
        Some(of::<AcknowledgeRequest>),
        (201, of::<ControlRecord>),
        &[404, 409, 503],
    ),
    write(
        "delete",
        "/api/v1/episodes/{episode_id}/acknowledge",
        "Take an acknowledgement back",
        None,
        (200, of::<ControlRecord>),
        &[404, 503],
    ),
    Operation {
        problems: &[400],
        ..read(
            "/api/v1/silences",
            "Silences that were commanded, the newest first",
            Some(inline::<SilencesQuery>),
            of::<Listing<SilenceItem>>,
        )
    },
    write(
        "post",
        "/api/v1/silences",
        "Hold back what matches until a time",
        Some(of::<SilenceRequest>),
        (201, of::<ControlRecord>),
        &[503],
    ),
    write(
        "delete",
        "/api/v1/silences/{silence_id}",
        "End a silence now",
        None,
        (200, of::<ControlRecord>),
        &[404, 409, 503],
    ),
    write(
        "post",
        "/api/v1/deliveries/{notification_id}/retry",
        "Have a notification sent again",
        Some(of::<RetryRequest>),
        (202, of::<Vec<ControlRecord>>),
        &[404, 409, 503],
    ),
    Operation {
        problems: &[400],
        ..read(
            "/api/v1/actions",
            "Runs of actions, the newest change first",
            Some(inline::<ActionsQuery>),
            of::<Listing<RunItem>>,
        )
    },
    Operation {
        problems: &[404],
        ..read("/api/v1/actions/{run}", "One run with what became of it", None, of::<RunDetail>)
    },
    Operation {
        problems: &[404],
        ..read("/api/v1/actions/{run}/manifest", "What a training job is given", None, of::<Manifest>)
    },
    write(
        "post",
        "/api/v1/actions/{run}/approve",
        "Let a run go ahead that asks, or call again what its target refused",
        None,
        (202, of::<ControlRecord>),
        &[404, 409, 503],
    ),
    write(
        "post",
        "/api/v1/actions/{run}/deny",
        "End a run that has not gone ahead",
        Some(of::<DenyRequest>),
        (202, of::<ControlRecord>),
        &[404, 409, 503],
    ),
    write(
        "post",
        "/api/v1/actions/{run}/report",
        "Say how a run ended",
        Some(of::<ReportRequest>),
        (202, of::<ControlRecord>),
        &[404, 409, 503],
    ),
    read("/api/v1/openapi.json", "This document", None, of::<Value>),
    Operation {
        role: Role::Admin,
        ..write(
            "post",
            "/-/reload",
            "Read the configuration again, whole or not at all",
            None,
            (200, of::<Reloaded>),
            &[409, 422, 503],
        )
    },
];

/// Which API is described.
pub(crate) struct About {
    pub(crate) title: &'static str,
    pub(crate) description: &'static str,
    /// The key of the configuration that holds its tokens.
    pub(crate) tokens: &'static str,
}

/// OpenAPI 3.1.
pub fn document() -> Value {
    let description = "Windows, alerts and what people do about them. Lists are paged by `cursor`; errors are RFC 9457 problems. Times are epoch milliseconds unless they say otherwise.";
    document_of(&OPERATIONS, &About { title: "Driftline", description, tokens: "http.tokens" })
}

/// The document of these operations.
pub(crate) fn document_of(operations: &[Operation], about: &About) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations {
        let described = describe(operation, &mut generator);
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method] = described;
    }
    let problem = of::<Problem>(&mut generator);
    let problem = json!({"description": "What is wrong", "content": {"application/problem+json": {"schema": problem}}});
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": about.title,
            "version": env!("CARGO_PKG_VERSION"),
            "description": about.description,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"bearer": []}, {"basic": []}],
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "responses": {"Problem": problem},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": format!("A token of `{}`", about.tokens)},
                "basic": {"type": "http", "scheme": "basic", "description": "Any user name, and the token as password"},
            },
        },
    })
}

fn describe(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let role = match operation.role {
        Role::Read => "read",
        Role::Operate => "operate",
        Role::Admin => "admin",
    };
    let problem = json!({"$ref": "#/components/responses/Problem"});
    let mut responses = Map::new();
    let mut success = json!({"description": "Done"});
    if let Some(answer) = operation.answer {
        success["content"] = json!({"application/json": {"schema": answer(generator)}});
    }
    responses.insert(operation.status.to_string(), success);
    let of_body: &[u16] = if operation.body.is_some() { &[400, 413, 415, 422] } else { &[] };
    for status in [401, 403].iter().chain(of_body).chain(operation.problems) {
        responses.insert(status.to_string(), problem.clone());
    }
    let mut parameters = path_parameters(operation.path);
    parameters.extend(operation.query.into_iter().flat_map(|query| query_parameters(&query(generator))));
    let mut described = json!({
        "summary": operation.summary,
        "description": format!("Needs the role `{role}`, where tokens are configured."),
        "operationId": operation_id(operation),
        "responses": responses,
    });
    if !parameters.is_empty() {
        described["parameters"] = Value::Array(parameters);
    }
    if let Some(body) = operation.body {
        described["requestBody"] =
            json!({"required": true, "content": {"application/json": {"schema": body(generator)}}});
    }
    described
}

/// `post_episodes_acknowledge`.
fn operation_id(operation: &Operation) -> String {
    let parts = operation.path.split('/').filter(|part| {
        let is_name = !part.is_empty() && !part.starts_with('{');
        is_name && !["api", "admin", "v1", "v2", "-"].contains(part)
    });
    let named: Vec<String> = parts.map(|part| part.replace('.', "_")).collect();
    let one = if operation.path.ends_with('}') { "_one" } else { "" };
    format!("{}_{}{one}", operation.method, named.join("_"))
}

fn path_parameters(path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    names.map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})).collect()
}

fn query_parameters(schema: &Schema) -> Vec<Value> {
    let properties = schema.get("properties").and_then(Value::as_object);
    let parameter = |(name, property): (&String, &Value)| {
        let mut parameter = json!({"name": name, "in": "query", "schema": {"type": "string"}});
        if let Some(description) = property.get("description") {
            parameter["description"] = description.clone();
        }
        parameter
    };
    properties.into_iter().flatten().map(parameter).collect()
}
