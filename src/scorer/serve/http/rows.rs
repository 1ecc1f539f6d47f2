//! Requests of KServe V1 and of TensorFlow Serving's REST API. Their paths are the same, and so are their requests and
//! answers as far as both have them; what describes a model has the keys of both.

use std::time::Instant;

use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Request, StatusCode};
use serde_json::{Value, json};

use super::answer::{self, Answer, Refusal};
use super::route::{RowsRoute, Target};
use super::{Context, body, headers};
use crate::scorer::engine::TensorSpec;
use crate::scorer::protocols::rows::{self, Form};
use crate::scorer::score::{ScoreRequest, ScoreResponse};

pub async fn answer(context: &Context, route: RowsRoute<'_>, request: Request<Incoming>) -> Result<Answer, Refusal> {
    match route {
        RowsRoute::List => {
            let table = context.scorer.table();
            let names: Vec<&String> = table.models.keys().collect();
            Ok(answer::json(StatusCode::OK, &json!({"models": names})))
        }
        RowsRoute::Model(target) => {
            let model = context.scorer.model(&target.model)?;
            let statuses: Vec<Value> = model
                .versions
                .values()
                .filter(|version| target.version.as_deref().is_none_or(|asked| asked == version.version))
                .map(|version| {
                    let state = if version.backend.ready() { "AVAILABLE" } else { "START" };
                    let status = json!({"error_code": "OK", "error_message": ""});
                    json!({"version": version.version, "state": state, "status": status})
                })
                .collect();
            if let Some(version) = &target.version {
                model.version(version)?;
            }
            let ready = model.ready().is_ok();
            let body = json!({"name": model.name, "ready": ready, "model_version_status": statuses});
            Ok(answer::json(StatusCode::OK, &body))
        }
        RowsRoute::Metadata(target) => metadata(context, &target),
        RowsRoute::Predict(target) => {
            let (parts, incoming) = request.into_parts();
            let body = body::read(&parts.headers, incoming, context).await?;
            let (form, response) = predict(context, &target, &parts.headers, &body.bytes).await?;
            let body = rows::encode(form, &response.outputs).map_err(Refusal::bad)?;
            Ok(answer::scored(&response, body))
        }
        RowsRoute::Unsupported(verb) => {
            Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, format!("`:{verb}` is not supported; use `:predict`")))
        }
    }
}

/// Scores a body of rows or columns; TorchServe's JSON is read by the same.
pub async fn predict(
    context: &Context,
    target: &Target<'_>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(Form, ScoreResponse), Refusal> {
    let now = Instant::now();
    let overrides = headers::overrides(headers)?;
    let version = target.version.as_deref().map(str::to_string).or(overrides.version);
    let model = context.scorer.model(&target.model)?;
    let described = match &version {
        Some(version) => model.version(version)?,
        None => model.production()?,
    };
    let signature = described.backend.signature().ok_or_else(|| {
        Refusal::new(
            StatusCode::NOT_IMPLEMENTED,
            "the inputs of this model are not known; use the Open Inference Protocol",
        )
    })?;
    let (form, inputs) = rows::decode(body, &signature, &context.limits)?;
    let response = context
        .scorer
        .score(ScoreRequest {
            model: target.model.to_string(),
            version,
            arm: overrides.arm,
            id: overrides.id,
            entity: overrides.entity,
            inputs,
            outputs: Vec::new(),
            priority: overrides.priority.unwrap_or_default(),
            deadline: headers::deadline(context, now, overrides.timeout),
        })
        .await?;
    Ok((form, response))
}

/// As TensorFlow Serving has it, with the signature that `:predict` takes.
fn metadata(context: &Context, target: &Target<'_>) -> Result<Answer, Refusal> {
    let model = context.scorer.model(&target.model)?;
    let version = match &target.version {
        Some(version) => model.version(version)?,
        None => model.production()?,
    };
    let signature = version.backend.signature();
    let tensors = |specs: &[TensorSpec]| {
        let one = |spec: &TensorSpec| {
            let sizes = spec.shape.iter().map(|size| size.map_or("-1".to_string(), |size| size.to_string()));
            let dims: Vec<Value> = sizes.map(|size| json!({"size": size, "name": ""})).collect();
            let shape = json!({"dim": dims, "unknown_rank": false});
            (spec.name.clone(), json!({"name": spec.name, "dtype": dtype(spec), "tensor_shape": shape}))
        };
        specs.iter().map(one).collect::<serde_json::Map<_, _>>()
    };
    let definition = signature.map(|signature| {
        json!({
            "inputs": tensors(&signature.inputs),
            "outputs": tensors(&signature.outputs),
            "method_name": "tensorflow/serving/predict",
        })
    });
    let body = json!({
        "model_spec": {"name": model.name, "signature_name": "", "version": version.version},
        "metadata": {"signature_def": {"signature_def": {"serving_default": definition}}},
    });
    Ok(answer::json(StatusCode::OK, &body))
}

fn dtype(spec: &TensorSpec) -> &'static str {
    match spec.datatype.name() {
        "FP16" => "DT_HALF",
        "FP32" => "DT_FLOAT",
        "FP64" => "DT_DOUBLE",
        "BYTES" => "DT_STRING",
        "BOOL" => "DT_BOOL",
        "INT8" => "DT_INT8",
        "INT16" => "DT_INT16",
        "INT32" => "DT_INT32",
        "INT64" => "DT_INT64",
        "UINT8" => "DT_UINT8",
        "UINT16" => "DT_UINT16",
        "UINT32" => "DT_UINT32",
        _ => "DT_UINT64",
    }
}
