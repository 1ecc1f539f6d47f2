//! An execution of an Amazon SageMaker pipeline, by its API, signed by Signature Version 4.
//!
//! A parameter of a pipeline has at most 1 024 characters, so that the manifest's address is sent, not the manifest.

use std::time::SystemTime;

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::http_call::{Answer, HttpCall, text_at};
use super::run::{External, RunRecord};
use super::target::{CallOutcome, Progress, Target, TargetError};
use crate::config::actions::SageMakerAction;
use crate::config::receivers::{Secret, TextOrSecret};
use crate::dispatch::secret::resolve;

const SERVICE: &str = "sagemaker";
const JSON: &str = "application/x-amz-json-1.1";

pub struct SageMakerTarget {
    api: HttpCall,
    region: String,
    pipeline: String,
    access_key_id: Secret,
    secret_access_key: Secret,
    session_token: Option<Secret>,
}

impl SageMakerTarget {
    pub fn new(action: &str, config: &SageMakerAction) -> Result<Self, TargetError> {
        let default = TextOrSecret::Text(format!("https://api.sagemaker.{}.amazonaws.com", config.region));
        let api = HttpCall::new(action, config.url.as_ref().unwrap_or(&default), config.allow_private, None)?;
        let target = Self {
            api,
            region: config.region.clone(),
            pipeline: config.pipeline.clone(),
            access_key_id: config.access_key_id.clone(),
            secret_access_key: config.secret_access_key.clone(),
            session_token: config.session_token.clone(),
        };
        target.credentials().map_err(|reason| TargetError::new(action, reason))?;
        Ok(target)
    }

    /// Read anew for each request: temporary credentials are replaced by and by.
    fn credentials(&self) -> Result<Credentials, String> {
        let read = |secret: &Secret| resolve(secret).map_err(|error| error.to_string());
        let session_token = self.session_token.as_ref().map(read).transpose()?;
        Ok(Credentials::new(
            read(&self.access_key_id)?,
            read(&self.secret_access_key)?,
            session_token,
            None,
            "driftline",
        ))
    }

    /// One operation of the API.
    async fn operate(&self, operation: &str, body: &Value) -> Result<Answer, CallOutcome> {
        let body = serde_json::to_vec(body)
            .map_err(|error| CallOutcome::permanent(format!("cannot write the request as json: {error}")))?;
        let credentials = self.credentials().map_err(|reason| CallOutcome::Retry { reason, after_ms: None })?;
        let url = self.api.base();
        let target = format!("SageMaker.{operation}");
        let headers = signed_headers(&url, &target, &body, credentials, &self.region, SystemTime::now())
            .map_err(CallOutcome::permanent)?;
        self.api.post_bytes(url, headers, body).await
    }

    async fn try_call(&self, run: &RunRecord) -> Result<CallOutcome, CallOutcome> {
        let Some(manifest) = &run.manifest else { return Err(CallOutcome::permanent("the run has no manifest")) };
        let body = json!({
            "PipelineName": self.pipeline,
            "ClientRequestToken": run.name(),
            "PipelineExecutionDisplayName": run.name(),
            "PipelineParameters": [
                {"Name": "DriftlineRun", "Value": run.run},
                {"Name": "DriftlineManifestUrl", "Value": manifest.address()},
            ],
        });
        let answer = self.operate("StartPipelineExecution", &body).await?;
        Ok(match answer.status {
            200 => CallOutcome::Accepted {
                external: External { id: answer.text("/PipelineExecutionArn").map(str::to_string), url: None },
            },
            // The API answers throttling with status 400.
            400 if is_throttled(&answer) => answer.try_again(),
            _ => answer.failure(),
        })
    }

    async fn try_progress(&self, run: &RunRecord) -> Result<Progress, CallOutcome> {
        let Some(arn) = run.external.as_ref().and_then(|external| external.id.as_deref()) else {
            return Ok(Progress::Running);
        };
        let answer = self.operate("DescribePipelineExecution", &json!({"PipelineExecutionArn": arn})).await?;
        if answer.status != 200 {
            return Ok(Progress::Unknown { reason: answer.describe() });
        }
        let why = text_at(&answer.body, "/FailureReason").unwrap_or_default();
        Ok(match answer.text("/PipelineExecutionStatus") {
            Some("Succeeded") => Progress::Succeeded { message: "the pipeline execution succeeded".into() },
            Some("Failed") => Progress::Failed { reason: format!("the pipeline execution failed: {why}") },
            Some("Stopped") => Progress::Failed { reason: "the pipeline execution was stopped".into() },
            _ => Progress::Running,
        })
    }
}

/// Errors of AWS's JSON protocols are named in `__type`, with a namespace before a `#`.
fn is_throttled(answer: &Answer) -> bool {
    let name = answer.text("/__type").unwrap_or_default();
    matches!(name.rsplit('#').next(), Some("ThrottlingException" | "TooManyRequestsException"))
}

/// The headers of one signed request, `Authorization` among them.
fn signed_headers(
    url: &Url,
    target: &str,
    body: &[u8],
    credentials: Credentials,
    region: &str,
    time: SystemTime,
) -> Result<HeaderMap, String> {
    let fits = |text: &str| HeaderValue::from_str(text).map_err(|_| "a value does not fit into a header".to_string());
    let host = match (url.host_str().unwrap_or_default(), url.port()) {
        (host, Some(port)) => format!("{host}:{port}"),
        (host, None) => host.to_string(),
    };
    let signed = [("host", host.as_str()), ("content-type", JSON), ("x-amz-target", target)];
    let identity = credentials.into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(SERVICE)
        .time(time)
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| format!("cannot sign the request: {error}"))?
        .into();
    let request = SignableRequest::new("POST", url.as_str(), signed.into_iter(), SignableBody::Bytes(body))
        .map_err(|error| format!("cannot sign the request: {error}"))?;
    let (instructions, _) =
        sign(request, &params).map_err(|error| format!("cannot sign the request: {error}"))?.into_parts();
    let mut headers = HeaderMap::new();
    headers.insert(HOST, fits(&host)?);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    headers.insert("x-amz-target", fits(target)?);
    for (name, value) in instructions.headers() {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| "a header's name is unfit".to_string())?;
        let mut value = fits(value)?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

#[async_trait]
impl Target for SageMakerTarget {
    async fn call(&self, run: &RunRecord) -> CallOutcome {
        self.try_call(run).await.unwrap_or_else(|failed| failed)
    }

    async fn progress(&self, run: &RunRecord) -> Progress {
        match self.try_progress(run).await {
            Ok(progress) => progress,
            Err(CallOutcome::Retry { reason, .. } | CallOutcome::Permanent { reason }) => Progress::Unknown { reason },
            Err(_) => Progress::Unknown { reason: "no answer".into() },
        }
    }
}
