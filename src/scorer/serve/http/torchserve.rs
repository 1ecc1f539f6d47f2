//! Requests of TorchServe's inference API. What a body of `/predictions` holds is a handler's own matter there; here it is
//! JSON: a list of rows, or what KServe V1 and TensorFlow Serving take. The answer is the list of predictions.

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde_json::{Value, json};

use super::answer::{self, Answer, Refusal};
use super::route::{Target, TorchServeRoute};
use super::{Context, body, rows};
use crate::scorer::protocols::rows as codec;

pub async fn answer(context: &Context, route: TorchServeRoute<'_>, request: Request<Incoming>) -> Answer {
    let outcome = match route {
        TorchServeRoute::Ping => Ok(ping(context)),
        TorchServeRoute::List => {
            let table = context.scorer.table();
            let models: Vec<Value> =
                table.models.keys().map(|name| json!({"modelName": name, "modelUrl": ""})).collect();
            Ok(answer::json(StatusCode::OK, &json!({"models": models})))
        }
        TorchServeRoute::Describe(target) => describe(context, &target),
        TorchServeRoute::Predict(target) => predict(context, &target, request).await,
    };
    outcome.unwrap_or_else(|refusal| {
        let kind = match refusal.status {
            StatusCode::NOT_FOUND => "ModelNotFoundException",
            StatusCode::BAD_REQUEST => "BadRequestException",
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => "ServiceUnavailableException",
            _ => "InternalServerException",
        };
        let body = json!({"code": refusal.status.as_u16(), "type": kind, "message": refusal.message});
        refusal.with_body(&body)
    })
}

fn ping(context: &Context) -> Answer {
    match context.scorer.table().ready() {
        Ok(()) => answer::json(StatusCode::OK, &json!({"status": "Healthy"})),
        Err(_) => answer::json(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": "Unhealthy"})),
    }
}

fn describe(context: &Context, target: &Target<'_>) -> Result<Answer, Refusal> {
    let model = context.scorer.model(&target.model)?;
    if let Some(version) = &target.version {
        model.version(version)?;
    }
    let versions = model.versions.values();
    let asked = versions.filter(|version| target.version.as_deref().is_none_or(|asked| asked == version.version));
    let described: Vec<Value> = asked
        .map(|version| {
            let status = if version.backend.ready() { "READY" } else { "LOADING" };
            json!({
                "modelName": model.name,
                "modelVersion": version.version,
                "runtime": version.backend.engine(),
                "workers": [{"id": "0", "status": status}],
            })
        })
        .collect();
    Ok(answer::json(StatusCode::OK, &Value::Array(described)))
}

async fn predict(context: &Context, target: &Target<'_>, request: Request<Incoming>) -> Result<Answer, Refusal> {
    let (parts, incoming) = request.into_parts();
    let body = body::read(&parts.headers, incoming, context).await?;
    // A list by itself is `instances`.
    let wrapped = match body.bytes.trim_ascii_start().starts_with(b"[") {
        true => [b"{\"instances\":".as_slice(), &body.bytes, b"}"].concat(),
        false => body.bytes.to_vec(),
    };
    let (_, response) = rows::predict(context, target, &parts.headers, &wrapped).await?;
    let mut out = Vec::with_capacity(256);
    codec::predictions(&response.outputs, &mut out).map_err(Refusal::bad)?;
    Ok(answer::scored(&response, out))
}
