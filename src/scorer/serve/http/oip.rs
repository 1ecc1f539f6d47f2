//! Requests of the Open Inference Protocol.

use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, StatusCode};
use serde_json::{Value, json};

use super::answer::{self, Answer, Refusal};
use super::route::{OipRoute, Target};
use super::{Context, body, headers};
use crate::scorer::protocols::oip::{HEADER_LENGTH, metadata, raw, request, response};
use crate::scorer::score::ScoreRequest;
use crate::scorer::serve::table::{ServedModel, ServedVersion};

const HEADER_LENGTH_NAME: HeaderName = HeaderName::from_static(HEADER_LENGTH);

pub async fn answer(context: &Context, route: OipRoute<'_>, request: Request<Incoming>) -> Result<Answer, Refusal> {
    match route {
        OipRoute::Infer(target) => {
            let (parts, incoming) = request.into_parts();
            infer(context, &target, &parts.headers, incoming).await
        }
        OipRoute::Server => Ok(answer::json(StatusCode::OK, &metadata::server())),
        OipRoute::Live => Ok(answer::json(StatusCode::OK, &json!({"live": true}))),
        OipRoute::Ready => match context.scorer.table().ready() {
            Ok(()) => Ok(answer::json(StatusCode::OK, &json!({"ready": true}))),
            Err(reason) => {
                let body = json!({"ready": false, "error": reason});
                Ok(answer::json(StatusCode::SERVICE_UNAVAILABLE, &body))
            }
        },
        OipRoute::ModelReady(target) => {
            let model = context.scorer.model(&target.model)?;
            version(&model, &target)?;
            match model.ready() {
                Ok(()) => Ok(answer::json(StatusCode::OK, &json!({"name": model.name, "ready": true}))),
                Err(reason) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, reason)),
            }
        }
        OipRoute::Model(target) => described(context, &target),
        OipRoute::Config(target) => {
            let model = context.scorer.model(&target.model)?;
            let backend = &version(&model, &target)?.backend;
            let rows = model.settings.batching.max_batch_rows;
            let body = metadata::config(&model.name, backend.engine(), backend.signature().as_deref(), rows);
            Ok(answer::json(StatusCode::OK, &body))
        }
        OipRoute::Statistics(target) => statistics(context, target.as_ref()),
        OipRoute::Repository => {
            let message = "the repository is served by the admin server (`admin.bind`), with its token";
            Err(Refusal::new(StatusCode::NOT_FOUND, message))
        }
        OipRoute::SharedMemory => Err(Refusal::bad("shared memory is not supported; send the data in the request")),
    }
}

fn version<'a>(model: &'a ServedModel, target: &Target<'_>) -> Result<&'a ServedVersion, Refusal> {
    Ok(match &target.version {
        Some(version) => model.version(version)?,
        None => model.production()?,
    })
}

fn described(context: &Context, target: &Target<'_>) -> Result<Answer, Refusal> {
    let model = context.scorer.model(&target.model)?;
    let version = version(&model, target)?;
    let versions: Vec<&str> = match &target.version {
        Some(_) => vec![&version.version],
        None => model.versions.keys().map(String::as_str).collect(),
    };
    let signature = version.backend.signature();
    let body = metadata::model(&model.name, &versions, version.backend.engine(), signature.as_deref());
    Ok(answer::json(StatusCode::OK, &body))
}

/// As far as Triton's statistics have something that is counted here; `/metrics` of the admin server has the rest.
fn statistics(context: &Context, target: Option<&Target<'_>>) -> Result<Answer, Refusal> {
    let models = match target {
        Some(target) => vec![context.scorer.model(&target.model)?],
        None => context.scorer.table().models.values().cloned().collect(),
    };
    let mut statistics: Vec<Value> = Vec::new();
    for model in &models {
        for version in model.versions.values() {
            if target.and_then(|target| target.version.as_deref()).is_some_and(|asked| asked != version.version) {
                continue;
            }
            let totals = version.totals();
            let duration = |count: u64, ns: u64| json!({"count": count, "ns": ns});
            statistics.push(json!({
                "name": model.name,
                "version": version.version,
                "inference_count": totals.rows,
                "execution_count": totals.answered,
                "inference_stats": {
                    "success": duration(totals.answered, totals.answered_ns),
                    "fail": duration(totals.failed, 0),
                },
            }));
        }
    }
    if statistics.is_empty()
        && let (Some(target), Some(model)) = (target, models.first())
    {
        version(model, target)?;
    }
    Ok(answer::json(StatusCode::OK, &json!({"model_stats": statistics})))
}

async fn infer(
    context: &Context,
    target: &Target<'_>,
    headers: &HeaderMap,
    incoming: Incoming,
) -> Result<Answer, Refusal> {
    let body = body::read(headers, incoming, context).await?;
    let now = Instant::now();
    let overrides = headers::overrides(headers)?;
    let version = target.version.as_deref().map(str::to_string).or(overrides.version);
    let decoded = match header_length(headers)? {
        Some(0) => without_json(context, target, version.as_deref(), &body.bytes)?,
        length => request::decode(&body.bytes, length, &context.limits)?,
    };
    drop(body);
    let timeout = decoded.timeout_us.filter(|us| *us > 0).map(Duration::from_micros).or(overrides.timeout);
    let response = context
        .scorer
        .score(ScoreRequest {
            model: target.model.to_string(),
            version,
            arm: overrides.arm,
            id: decoded.id.or(overrides.id),
            entity: decoded.entity.or(overrides.entity),
            inputs: decoded.inputs,
            outputs: decoded.outputs.iter().map(|output| output.name.clone()).collect(),
            priority: decoded.priority.or(overrides.priority).unwrap_or_default(),
            deadline: headers::deadline(context, now, timeout),
        })
        .await?;
    let body = response::encode(&response, &decoded.outputs, decoded.binary_outputs).map_err(Refusal::bad)?;
    let mut answer = answer::scored(&response, body.bytes);
    if let Some(length) = body.header_length {
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(HEADER_LENGTH_NAME, HeaderValue::from(length));
    }
    Ok(answer)
}

/// A body without JSON: the model's signature says what it is.
fn without_json(
    context: &Context,
    target: &Target<'_>,
    asked: Option<&str>,
    body: &[u8],
) -> Result<request::InferRequest, Refusal> {
    let model = context.scorer.model(&target.model)?;
    let version = match asked {
        Some(version) => model.version(version)?,
        None => model.production()?,
    };
    let signature = version.backend.signature().ok_or_else(|| {
        Refusal::bad(format!("the inputs of this model are not known; send JSON, and its length as `{HEADER_LENGTH}`"))
    })?;
    Ok(raw::decode(body, &signature, &context.limits)?)
}

fn header_length(headers: &HeaderMap) -> Result<Option<usize>, Refusal> {
    let mut values = headers.get_all(HEADER_LENGTH_NAME).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal::bad(format!("header `{HEADER_LENGTH}` stands there twice")));
    }
    let digits = value.to_str().ok().filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.and_then(|digits| digits.parse().ok()) {
        Some(length) => Ok(Some(length)),
        None => Err(Refusal::bad(format!("header `{HEADER_LENGTH}` is no whole number of bytes"))),
    }
}
