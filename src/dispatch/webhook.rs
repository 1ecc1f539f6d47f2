//! Webhooks by Standard Webhooks: a signed POST of one JSON document, the same document at every attempt.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use chrono::{DateTime, SecondsFormat};
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use schemars::JsonSchema;
use serde::Serialize;

use super::address_guard::{PublicResolver, RefusedAddress, check_literal};
use super::receiver::{DeliveryContext, Outcome, ReceiverError, Transport};
use super::secret;
use super::signature::{SigningKey, signature_header};
use crate::config::rules::WebhookReceiver;
use crate::rules::episode::{EpisodeStatus, Notification};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer's body that are read, for the log; the rest is left unread.
const MAX_ANSWER_BYTES: usize = 4_096;
/// Characters of an answer's body that are shown in an error.
const MAX_ANSWER_SHOWN: usize = 200;

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
    client: reqwest::Client,
}

impl WebhookTransport {
    pub fn new(receiver: &str, config: &WebhookReceiver) -> Result<Self, ReceiverError> {
        let invalid = |reason: String| ReceiverError::Invalid { receiver: receiver.to_string(), reason };
        let secret_error = |error| ReceiverError::Secret { receiver: receiver.to_string(), error };

        let url_text = secret::resolve_text(&config.url).map_err(secret_error)?;
        // The text is not shown: a URL may carry a token.
        let url = reqwest::Url::parse(&url_text).map_err(|error| invalid(format!("`url` is not a URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid(format!("`url` must start with http or https, not {}", url.scheme())));
        }
        let mut keys = Vec::new();
        for secret in [&config.secret, &config.previous_secret].into_iter().flatten() {
            let text = secret::resolve(secret).map_err(secret_error)?;
            keys.push(SigningKey::parse(&text).map_err(|error| invalid(error.to_string()))?);
        }
        if !config.allow_private {
            check_literal(url.host_str().unwrap_or_default()).map_err(|error| invalid(error.to_string()))?;
        }
        let timeout = config.timeout.map_or(DEFAULT_TIMEOUT, |span| span.to_std());
        let client = client(config.allow_private, timeout)
            .map_err(|error| invalid(format!("cannot set up the HTTP client: {error}")))?;
        Ok(Self { url, keys, client })
    }
}

fn client(allow_private: bool, timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
    // reqwest brings no TLS provider of its own. An error means that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .user_agent(concat!("driftline/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        // A proxy would resolve the name itself, out of the guard's sight.
        .no_proxy()
        .timeout(timeout)
        .pool_max_idle_per_host(1);
    if allow_private { builder.build() } else { builder.dns_resolver(PublicResolver).build() }
}

#[async_trait]
impl Transport for WebhookTransport {
    async fn deliver(&self, notification: &Notification, context: &DeliveryContext) -> Outcome {
        let payload = WebhookPayload::new(notification, context.episode_url(notification));
        let body = match serde_json::to_vec(&payload) {
            Ok(body) => body,
            Err(error) => return Outcome::permanent(format!("cannot write the notification as json: {error}")),
        };
        let sent_at_ms = now_ms();
        let timestamp_s = sent_at_ms / 1_000;
        let mut request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &notification.id)
            .header("webhook-timestamp", timestamp_s.to_string());
        if !self.keys.is_empty() {
            let signatures = signature_header(&self.keys, &notification.id, timestamp_s, &body);
            request = request.header("webhook-signature", signatures);
        }
        match request.body(body).send().await {
            Ok(response) => {
                let status = response.status().as_u16();
                let retry_after_ms = retry_after(response.headers(), now_ms());
                match classify(status) {
                    Answer::Accepted => Outcome::Delivered { remark: None },
                    Answer::TryAgain => {
                        let reason = describe(status, &beginning_of_body(response).await);
                        Outcome::Retry { reason, after_ms: retry_after_ms }
                    }
                    Answer::Refused => Outcome::permanent(describe(status, &beginning_of_body(response).await)),
                }
            }
            Err(error) => classify_error(error),
        }
    }
}

enum Answer {
    Accepted,
    TryAgain,
    Refused,
}

/// By HTTP status. A redirect is refused: following it could lead anywhere.
fn classify(status: u16) -> Answer {
    match status {
        200..=299 => Answer::Accepted,
        408 | 425 | 429 | 500..=599 => Answer::TryAgain,
        _ => Answer::Refused,
    }
}

/// No answer came. Everything but an address that may not be used heals by itself.
fn classify_error(error: reqwest::Error) -> Outcome {
    let error = error.without_url(); // the path or query of a webhook is often its password
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        if let Some(refused) = cause.downcast_ref::<RefusedAddress>() {
            return Outcome::permanent(refused.to_string());
        }
        reason = format!("{reason}: {cause}");
        source = cause.source();
    }
    if error.is_builder() { Outcome::permanent(reason) } else { Outcome::retry(reason) }
}

/// Milliseconds to wait by `Retry-After`, which is seconds or an HTTP date (RFC 9110, 10.2.3).
pub fn retry_after(headers: &HeaderMap, now_ms: i64) -> Option<i64> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(i64::from(seconds) * 1_000);
    }
    let at = DateTime::parse_from_rfc2822(text).ok()?;
    Some((at.timestamp_millis() - now_ms).max(0))
}

fn describe(status: u16, body: &str) -> String {
    if body.is_empty() { format!("http status {status}") } else { format!("http status {status}: {body}") }
}

/// What an answer says first, on one line. Never more than a few chunks are read of a body of any length.
async fn beginning_of_body(mut response: reqwest::Response) -> String {
    let mut read = Vec::new();
    while read.len() < MAX_ANSWER_BYTES {
        match response.chunk().await {
            Ok(Some(chunk)) => read.extend_from_slice(&chunk),
            _ => break,
        }
    }
    let text = String::from_utf8_lossy(&read);
    let shown = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_ANSWER_SHOWN);
    shown.collect::<String>().trim().to_string()
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let headers = |value: &str| HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
        let now_ms = 784_111_777_000; // Sun, 06 Nov 1994 08:49:37 GMT
        assert_eq!(retry_after(&headers("120"), now_ms), Some(120_000));
        assert_eq!(retry_after(&headers("Sun, 06 Nov 1994 08:50:37 GMT"), now_ms), Some(60_000));
        assert_eq!(retry_after(&headers("Sun, 06 Nov 1994 08:00:00 GMT"), now_ms), Some(0));
        assert_eq!(retry_after(&headers("soon"), now_ms), None);
        assert_eq!(retry_after(&HeaderMap::new(), now_ms), None);
    }

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
