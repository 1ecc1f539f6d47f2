//! A POST of the manifest, signed as Standard Webhooks says. Whoever takes it reports how the run went.

use async_trait::async_trait;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;

use super::http_call::HttpCall;
use super::manifest::Manifest;
use super::run::{External, RunRecord};
use super::target::{CallOutcome, Target, TargetError};
use crate::config::actions::WebhookAction;
use crate::dispatch::http_sender::now_ms;
use crate::dispatch::secret::{resolve, resolve_text};
use crate::dispatch::signature::{SigningKey, signature_header};

/// The body of the POST.
#[derive(Debug, Serialize)]
struct Payload<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    /// When the run was decided; the time of the call is in the header `webhook-timestamp`.
    timestamp: &'a str,
    data: &'a Manifest,
}

pub struct WebhookTarget {
    api: HttpCall,
    keys: Vec<SigningKey>,
    headers: HeaderMap,
}

impl WebhookTarget {
    pub fn new(action: &str, config: &WebhookAction) -> Result<Self, TargetError> {
        let wrong = |reason: String| TargetError::new(action, reason);
        let api = HttpCall::new(action, &config.url, config.allow_private, None)?;
        let mut keys = Vec::new();
        for secret in [&config.secret, &config.previous_secret].into_iter().flatten() {
            let text = resolve(secret).map_err(|error| wrong(error.to_string()))?;
            keys.push(SigningKey::parse(&text).map_err(|error| wrong(error.to_string()))?);
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            let unfit = || wrong(format!("header `{name}` cannot be sent"));
            let text = resolve_text(value).map_err(|error| wrong(error.to_string()))?;
            let mut value = HeaderValue::from_str(&text).map_err(|_| unfit())?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|_| unfit())?, value);
        }
        Ok(Self { api, keys, headers })
    }

    async fn try_call(&self, run: &RunRecord) -> Result<CallOutcome, CallOutcome> {
        let Some(manifest) = &run.manifest else { return Err(CallOutcome::permanent("the run has no manifest")) };
        let payload = Payload { kind: "action.requested", timestamp: &manifest.created_at, data: manifest };
        let body = serde_json::to_vec(&payload)
            .map_err(|error| CallOutcome::permanent(format!("cannot write the manifest as json: {error}")))?;
        let id = run.name();
        let timestamp_s = now_ms() / 1_000;
        let fits = |text: &str| {
            HeaderValue::from_str(text).map_err(|_| CallOutcome::permanent("the run's name does not fit into a header"))
        };
        let mut headers = self.headers.clone();
        headers.insert("webhook-id", fits(&id)?);
        headers.insert("webhook-timestamp", HeaderValue::from(timestamp_s));
        if !self.keys.is_empty() {
            headers.insert("webhook-signature", fits(&signature_header(&self.keys, &id, timestamp_s, &body))?);
        }
        let answer = self.api.post_bytes(self.api.base(), headers, body).await?;
        Ok(match answer.status {
            200..=299 => CallOutcome::Accepted { external: External::default() },
            _ => answer.failure(),
        })
    }
}

#[async_trait]
impl Target for WebhookTarget {
    async fn call(&self, run: &RunRecord) -> CallOutcome {
        self.try_call(run).await.unwrap_or_else(|failed| failed)
    }
}
