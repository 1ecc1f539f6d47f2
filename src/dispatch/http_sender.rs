//! A POST to one address, for every receiver that is spoken to over HTTP: who may be connected to, how long an answer
//! may take, and what it means for the next attempt.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::DateTime;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use serde::Serialize;

use super::address_guard::{PublicResolver, RefusedAddress, check_literal};
use super::receiver::{Outcome, ReceiverError};
use crate::config::units::Span;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer's body that are read, for the log; the rest is left unread.
const MAX_ANSWER_BYTES: usize = 4_096;
/// Characters of an answer's body that are shown in an error.
const MAX_ANSWER_SHOWN: usize = 200;

/// What a receiver may say about its connection.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConnectionConfig {
    /// Allow loopback, private and link-local addresses.
    pub allow_private: bool,
    pub timeout: Option<Span>,
    /// How long to wait, in milliseconds, after a 429 that does not say so itself.
    pub throttled_ms: Option<i64>,
}

pub struct HttpSender {
    client: reqwest::Client,
    allow_private: bool,
    throttled_ms: Option<i64>,
}

impl HttpSender {
    pub fn new(receiver: &str, config: ConnectionConfig) -> Result<Self, ReceiverError> {
        let ConnectionConfig { allow_private, timeout, throttled_ms } = config;
        let timeout = timeout.map_or(DEFAULT_TIMEOUT, |span| span.to_std());
        let client = client_builder(allow_private, timeout).build().map_err(|error| ReceiverError::Invalid {
            receiver: receiver.to_string(),
            reason: format!("cannot set up the HTTP client: {error}"),
        })?;
        Ok(Self { client, allow_private, throttled_ms })
    }

    /// An address that this sender may be given. The text is in no error: a URL may carry a token.
    pub fn address(&self, receiver: &str, text: &str) -> Result<reqwest::Url, ReceiverError> {
        let invalid = |reason: String| ReceiverError::Invalid { receiver: receiver.to_string(), reason };
        let url = reqwest::Url::parse(text).map_err(|error| invalid(format!("`url` is not a URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid(format!("`url` must start with http or https, not {}", url.scheme())));
        }
        if !self.allow_private {
            check_literal(url.host_str().unwrap_or_default()).map_err(|error| invalid(error.to_string()))?;
        }
        Ok(url)
    }

    /// Sends `payload` as JSON.
    pub async fn post_json(&self, url: &reqwest::Url, payload: &impl Serialize) -> Outcome {
        match serde_json::to_vec(payload) {
            Ok(body) => self.post(url, body, HeaderMap::new()).await,
            Err(error) => Outcome::permanent(format!("cannot write the notification as json: {error}")),
        }
    }

    /// Sends `body`, which is JSON unless `headers` say otherwise.
    pub async fn post(&self, url: &reqwest::Url, body: Vec<u8>, mut headers: HeaderMap) -> Outcome {
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        let response = match self.client.post(url.clone()).headers(headers).body(body).send().await {
            Ok(response) => response,
            Err(error) => return classify_error(error),
        };
        let status = response.status().as_u16();
        let throttled_ms = self.throttled_ms.filter(|_| status == 429);
        let after_ms = retry_after(response.headers(), now_ms()).or(throttled_ms);
        match classify(status) {
            Answer::Accepted => Outcome::Delivered { remark: None },
            Answer::TryAgain => {
                Outcome::Retry { reason: describe(status, &beginning_of_body(response).await), after_ms }
            }
            Answer::Refused => Outcome::permanent(describe(status, &beginning_of_body(response).await)),
        }
    }
}

/// A client that follows no redirects, asks no proxy, and connects to private addresses only with leave.
pub(super) fn client_builder(allow_private: bool, timeout: Duration) -> reqwest::ClientBuilder {
    // reqwest brings no TLS provider of its own. An error means that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .user_agent(concat!("driftline/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        // A proxy would resolve the name itself, out of the guard's sight.
        .no_proxy()
        .timeout(timeout)
        .pool_max_idle_per_host(1);
    if allow_private { builder } else { builder.dns_resolver(PublicResolver) }
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
pub(super) fn classify_error(error: reqwest::Error) -> Outcome {
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

/// The time of an attempt, epoch milliseconds.
pub fn now_ms() -> i64 {
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
}
