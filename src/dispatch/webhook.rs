//! Webhooks by Standard Webhooks: a signed POST of one JSON document, the same document at every attempt.

use async_trait::async_trait;
use chrono::{DateTime, SecondsFormat};
use reqwest::header::{HeaderMap, HeaderValue, InvalidHeaderValue};
use schemars::JsonSchema;
use serde::Serialize;

use super::http_sender::{ConnectionConfig, HttpSender, now_ms};
use super::receiver::{DeliveryContext, Outcome, ReceiverError, Transport};
use super::secret;
use super::signature::{SigningKey, signature_header};
use crate::config::receivers::WebhookReceiver;
use crate::rules::episode::{EpisodeStatus, Notification};

/// The body of the POST. `schemas/webhook-notification.schema.json` is generated from it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(title = "Driftline webhook notification")]
pub struct WebhookPayload<'a> {
    /// What happened: the event's type.
    #[serde(rename = "type")]
    pub kind: WebhookType,
    /// When the window closed that caused the notification: RFC 3339, UTC. The time of the attempt is in the
    /// header `webhook-timestamp`.
    pub timestamp: String,
    pub data: WebhookData<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub enum WebhookType {
    /// An episode started, or its severity changed.
    #[serde(rename = "alert.firing")]
    Firing,
    /// An episode ended.
    #[serde(rename = "alert.resolved")]
    Resolved,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct WebhookData<'a> {
    pub notification: &'a Notification,
    /// The alert's own page.
    pub url: String,
}

impl<'a> WebhookPayload<'a> {
    pub fn new(notification: &'a Notification, url: String) -> Self {
        let kind = match notification.status {
            EpisodeStatus::Firing => WebhookType::Firing,
            EpisodeStatus::Resolved => WebhookType::Resolved,
        };
        let timestamp = DateTime::from_timestamp_millis(notification.at_ms)
            .unwrap_or_default()
            .to_rfc3339_opts(SecondsFormat::Millis, true);
        Self { kind, timestamp, data: WebhookData { notification, url } }
    }
}

/// The JSON Schema of the body, as it stands in `schemas/`.
pub fn payload_schema() -> schemars::Schema {
    schemars::schema_for!(WebhookPayload<'static>)
}

pub struct WebhookTransport {
    url: reqwest::Url,
    keys: Vec<SigningKey>,
    sender: HttpSender,
}

impl WebhookTransport {
    pub fn new(receiver: &str, config: &WebhookReceiver) -> Result<Self, ReceiverError> {
        let secret_error = |error| ReceiverError::Secret { receiver: receiver.to_string(), error };
        let WebhookReceiver { allow_private, timeout, .. } = *config;
        let sender = HttpSender::new(receiver, ConnectionConfig { allow_private, timeout, throttled_ms: None })?;
        let url = sender.address(receiver, &secret::resolve_text(&config.url).map_err(secret_error)?)?;
        let mut keys = Vec::new();
        for secret in [&config.secret, &config.previous_secret].into_iter().flatten() {
            let text = secret::resolve(secret).map_err(secret_error)?;
            keys.push(SigningKey::parse(&text).map_err(|error| ReceiverError::Invalid {
                receiver: receiver.to_string(),
                reason: error.to_string(),
            })?);
        }
        Ok(Self { url, keys, sender })
    }

    /// The headers of Standard Webhooks, made anew for each attempt.
    fn headers(&self, id: &str, body: &[u8]) -> Result<HeaderMap, InvalidHeaderValue> {
        let timestamp_s = now_ms() / 1_000;
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", HeaderValue::from_str(id)?);
        headers.insert("webhook-timestamp", HeaderValue::from(timestamp_s));
        if !self.keys.is_empty() {
            let signatures = signature_header(&self.keys, id, timestamp_s, body);
            headers.insert("webhook-signature", HeaderValue::from_str(&signatures)?);
        }
        Ok(headers)
    }
}

#[async_trait]
impl Transport for WebhookTransport {
    async fn deliver(&self, notification: &Notification, context: &DeliveryContext) -> Outcome {
        let payload = WebhookPayload::new(notification, context.episode_url(notification));
        let body = match serde_json::to_vec(&payload) {
            Ok(body) => body,
            Err(error) => return Outcome::permanent(format!("cannot write the notification as json: {error}")),
        };
        match self.headers(&notification.id, &body) {
            Ok(headers) => self.sender.post(&self.url, body, headers).await,
            Err(_) => Outcome::permanent("the notification's id does not fit into a header"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_schema_is_the_codes() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/webhook-notification.schema.json");
        let generated = format!("{}\n", serde_json::to_string_pretty(&payload_schema()).unwrap());
        if std::env::var_os("DRIFTLINE_WRITE_SCHEMAS").is_some() {
            std::fs::create_dir_all(std::path::Path::new(path).parent().unwrap()).unwrap();
            std::fs::write(path, &generated).unwrap();
        }
        let published = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(published, generated, "run this test with DRIFTLINE_WRITE_SCHEMAS=1");
    }
}
