//! Webhooks by Standard Webhooks: a signed POST of one JSON document, the same document at every attempt. It is
//! Driftline's own, or one from the rules file for a service that wants another, such as OpsGenie.

use async_trait::async_trait;
use chrono::{DateTime, SecondsFormat};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue};
use schemars::JsonSchema;
use serde::Serialize;

use super::body_template::{BodyTemplate, value_of};
use super::digest::Digest;
use super::http_sender::{ConnectionConfig, HttpSender, now_ms};
use super::receiver::{DeliveryContext, Outcome, ReceiverError, Telling, Transport};
use super::secret;
use super::signature::{SigningKey, signature_header};
use crate::config::receivers::{TextOrSecret, WebhookReceiver};
use crate::config::template::Template;
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
    /// How it comes to be sent; absent: it is news.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub telling: Option<&'a Telling>,
}

/// The body of the POST with what a route with `digest` collected. `schemas/webhook-digest.schema.json` is generated from
/// it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(title = "Driftline webhook digest")]
pub struct DigestPayload<'a> {
    #[serde(rename = "type")]
    pub kind: DigestType,
    /// The end of the time that it covers: RFC 3339, UTC.
    pub timestamp: String,
    pub data: &'a Digest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub enum DigestType {
    #[serde(rename = "alert.digest")]
    Digest,
}

impl<'a> DigestPayload<'a> {
    pub fn new(digest: &'a Digest) -> Self {
        Self { kind: DigestType::Digest, timestamp: instant(digest.until_ms), data: digest }
    }
}

/// The JSON Schema of a digest's body, as it stands in `schemas/`.
pub fn digest_schema() -> schemars::Schema {
    schemars::schema_for!(DigestPayload<'static>)
}

fn instant(at_ms: i64) -> String {
    DateTime::from_timestamp_millis(at_ms).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
}

impl<'a> WebhookPayload<'a> {
    pub fn new(notification: &'a Notification, context: &'a DeliveryContext) -> Self {
        let kind = match notification.status {
            EpisodeStatus::Firing => WebhookType::Firing,
            EpisodeStatus::Resolved => WebhookType::Resolved,
        };
        let url = context.episode_url(notification);
        let telling = Some(&context.telling).filter(|telling| **telling != Telling::News);
        Self { kind, timestamp: instant(notification.at_ms), data: WebhookData { notification, url, telling } }
    }
}

/// The JSON Schema of the body, as it stands in `schemas/`.
pub fn payload_schema() -> schemars::Schema {
    schemars::schema_for!(WebhookPayload<'static>)
}

/// Where the notifications of one status go, and as what.
struct Target {
    url: Template,
    /// Parts of the URL's path, whatever the placeholders in it stand for.
    path_segments: usize,
    /// It holds no placeholders.
    is_fixed: bool,
    /// `None`: Driftline's own document.
    body: Option<BodyTemplate>,
}

pub struct WebhookTransport {
    firing: Target,
    resolved: Target,
    keys: Vec<SigningKey>,
    headers: HeaderMap,
    sender: HttpSender,
}

impl WebhookTransport {
    pub fn new(receiver: &str, config: &WebhookReceiver) -> Result<Self, ReceiverError> {
        let secret_error = |error| ReceiverError::Secret { receiver: receiver.to_string(), error };
        let invalid = |reason: String| ReceiverError::Invalid { receiver: receiver.to_string(), reason };
        let WebhookReceiver { allow_private, timeout, .. } = *config;
        let sender = HttpSender::new(receiver, ConnectionConfig { allow_private, timeout, throttled_ms: None })?;
        let mut keys = Vec::new();
        for secret in [&config.secret, &config.previous_secret].into_iter().flatten() {
            let text = secret::resolve(secret).map_err(secret_error)?;
            keys.push(SigningKey::parse(&text).map_err(|error| invalid(error.to_string()))?);
        }
        let target = |url: &TextOrSecret, body: Option<&serde_json::Value>| {
            let text = secret::resolve_text(url).map_err(secret_error)?;
            let (url, path_segments) = url_template(receiver, &sender, &text)?;
            let body = body.map(BodyTemplate::parse).transpose();
            let is_fixed = url.fill(|_| "1".into()) == url.fill(|_| "2".into());
            Ok(Target {
                url,
                path_segments,
                is_fixed,
                body: body.map_err(|error| invalid(format!("`body`: {error}")))?,
            })
        };
        let firing = target(&config.url, config.body.as_ref())?;
        let ends = config.resolved.clone().unwrap_or_default();
        let resolved = target(ends.url.as_ref().unwrap_or(&config.url), ends.body.as_ref().or(config.body.as_ref()))?;
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            let unfit = || invalid(format!("header `{name}` cannot be sent"));
            let text = secret::resolve_text(value).map_err(secret_error)?;
            let mut value = HeaderValue::from_str(&text).map_err(|_| unfit())?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|_| unfit())?, value);
        }
        Ok(Self { firing, resolved, keys, headers, sender })
    }

    async fn send(&self, url: &reqwest::Url, id: &str, body: serde_json::Result<Vec<u8>>) -> Outcome {
        let body = match body {
            Ok(body) => body,
            Err(error) => return Outcome::permanent(format!("cannot write the notification as json: {error}")),
        };
        match self.headers(id, &body) {
            Ok(headers) => self.sender.post(url, body, headers).await,
            Err(_) => Outcome::permanent("the notification's id does not fit into a header"),
        }
    }

    /// The headers of Standard Webhooks, made anew for each attempt, beside those of the configuration.
    fn headers(&self, id: &str, body: &[u8]) -> Result<HeaderMap, InvalidHeaderValue> {
        let timestamp_s = now_ms() / 1_000;
        let mut headers = self.headers.clone();
        headers.insert("webhook-id", HeaderValue::from_str(id)?);
        headers.insert("webhook-timestamp", HeaderValue::from(timestamp_s));
        if !self.keys.is_empty() {
            let signatures = signature_header(&self.keys, id, timestamp_s, body);
            headers.insert("webhook-signature", HeaderValue::from_str(&signatures)?);
        }
        Ok(headers)
    }
}

/// A URL with placeholders, none of them in what is connected to, and the parts of its path. The text is in no error: a
/// URL may carry a token.
fn url_template(receiver: &str, sender: &HttpSender, text: &str) -> Result<(Template, usize), ReceiverError> {
    let invalid = |reason: String| ReceiverError::Invalid { receiver: receiver.to_string(), reason };
    let template = Template::parse(text).map_err(|error| invalid(format!("`url`: {error}")))?;
    let one = sender.address(receiver, &template.fill(|_| "1".into()))?;
    let other = sender.address(receiver, &template.fill(|_| "2".into()))?;
    if one.origin() != other.origin() || one.authority() != other.authority() {
        return Err(invalid("placeholders may stand in the path and the query of `url` only".into()));
    }
    Ok((template, path_segments(&one)))
}

fn path_segments(url: &reqwest::Url) -> usize {
    url.path_segments().map_or(0, Iterator::count)
}

#[async_trait]
impl Transport for WebhookTransport {
    async fn deliver(&self, notification: &Notification, context: &DeliveryContext) -> Outcome {
        let target = match notification.status {
            EpisodeStatus::Firing => &self.firing,
            EpisodeStatus::Resolved => &self.resolved,
        };
        let value = |placeholder| value_of(placeholder, notification, context);
        let filled = target.url.fill_encoded(value, |value| percent_encode(&value));
        // A value of `..` would step up in the path.
        let url = reqwest::Url::parse(&filled).ok().filter(|url| path_segments(url) == target.path_segments);
        let Some(url) = url else {
            return Outcome::permanent("`url` is no longer the same once its placeholders are filled in");
        };
        let body = match &target.body {
            Some(template) => serde_json::to_vec(&template.fill(notification, context)),
            None => serde_json::to_vec(&WebhookPayload::new(notification, context)),
        };
        self.send(&url, &notification.id, body).await
    }

    async fn deliver_digest(&self, digest: &Digest, context: &DeliveryContext) -> Outcome {
        // A body or an address of its own is that of one alert.
        let plain = reqwest::Url::parse(&self.firing.url.fill(|_| String::new()));
        let Some(url) = plain.ok().filter(|_| self.firing.body.is_none() && self.firing.is_fixed) else {
            for notification in &digest.notifications {
                match self.deliver(notification, context).await {
                    Outcome::Delivered { .. } => {}
                    failed => return failed,
                }
            }
            return Outcome::Delivered { remark: None };
        };
        self.send(&url, &digest.id, serde_json::to_vec(&DigestPayload::new(digest))).await
    }

    /// A body of one's own is for a service that keeps alerts, where nothing can be closed that was not opened.
    fn takes_an_end_alone(&self) -> bool {
        self.firing.body.is_none() && self.resolved.body.is_none()
    }
}

/// All but the unreserved characters of RFC 3986 as `%XX`, so that a value stays within its part of the path or query.
fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stays_within_its_part_of_the_url() {
        assert_eq!(percent_encode("a/../b?c=d&e#f g"), "a%2F..%2Fb%3Fc%3Dd%26e%23f%20g");
        assert_eq!(percent_encode("\u{e9}~-._"), "%C3%A9~-._");
    }

    #[test]
    fn the_published_schemas_are_the_codes() {
        for (name, schema) in [("notification", payload_schema()), ("digest", digest_schema())] {
            let path = format!("{}/schemas/webhook-{name}.schema.json", env!("CARGO_MANIFEST_DIR"));
            let generated = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
            if std::env::var_os("DRIFTLINE_WRITE_SCHEMAS").is_some() {
                std::fs::write(&path, &generated).unwrap();
            }
            let published = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(published, generated, "run this test with DRIFTLINE_WRITE_SCHEMAS=1");
        }
    }
}
