//! Sends requests to a peer over kept connections, within limits, and says what went wrong by what it means.

use std::fmt;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, Url};

use super::protocol::{Body, Came, Protocol};
use crate::config::scorer::ProxySettings;
use crate::config::secret::resolve_text;
use crate::scorer::protocols::oip::HEADER_LENGTH;
use crate::scorer::protocols::shown;

/// First pause before a connection is tried again; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// Longest text of a peer's error that is told on, characters.
const MAX_ERROR_CHARS: usize = 300;
/// A question about health or metadata may take as long as the pause between two of them, but at least that long.
const SHORTEST_QUESTION: Duration = Duration::from_secs(1);
/// Largest answer to a question about health or metadata, bytes.
const MAX_METADATA_BYTES: usize = 1 << 20;

pub struct Client {
    client: reqwest::Client,
    base: Url,
    headers: HeaderMap,
    connect_retries: u32,
    max_answer_bytes: usize,
    /// For a question about health or metadata.
    question_timeout: Duration,
}

/// An answer of 200.
pub struct Answer {
    bytes: Vec<u8>,
    header_length: Option<usize>,
}

impl Answer {
    pub fn as_protocol(&self) -> Came<'_> {
        Came { bytes: &self.bytes, header_length: self.header_length }
    }
}

/// Why there is no answer of 200.
#[derive(Debug)]
pub enum Failure {
    /// No connection, after every retry.
    NotReached(String),
    /// The connection broke on the way: the request may have been computed. Not sent again.
    Broken(String),
    Slow(Duration),
    /// 429.
    Busy(Option<Duration>),
    Refused {
        status: u16,
        text: String,
    },
    TooLarge(usize),
    /// No answer of the protocol.
    Nonsense(String),
}

impl Failure {
    /// For metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NotReached(_) => "not_reached",
            Self::Broken(_) => "broken",
            Self::Slow(_) => "slow",
            Self::Busy(_) => "busy",
            Self::Refused { .. } => "refused",
            Self::TooLarge(_) | Self::Nonsense(_) => "nonsense",
        }
    }

    /// Whether it says that the server is in trouble, and not this one request.
    pub fn is_trouble(&self, protocol: &dyn Protocol) -> bool {
        match self {
            Self::NotReached(_) | Self::Broken(_) | Self::Slow(_) => true,
            Self::Refused { status, .. } => protocol.is_trouble(*status),
            Self::Busy(_) | Self::TooLarge(_) | Self::Nonsense(_) => false,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReached(reason) => write!(formatter, "cannot be reached: {reason}"),
            Self::Broken(reason) => write!(formatter, "broke the connection off: {reason}"),
            Self::Slow(after) => write!(formatter, "did not answer within {} ms", after.as_millis()),
            Self::Busy(_) => write!(formatter, "is busy"),
            Self::Refused { status: status @ 300..400, .. } => {
                write!(formatter, "answered with a redirect ({status}), which is not followed")
            }
            Self::Refused { status, text } if text.is_empty() => write!(formatter, "answered {status}"),
            Self::Refused { status, text } => write!(formatter, "answered {status}: {text}"),
            Self::TooLarge(most) => write!(formatter, "answered with more than {most} bytes"),
            Self::Nonsense(reason) => write!(formatter, "gave an answer that cannot be read: {reason}"),
        }
    }
}

impl Client {
    /// # Errors
    /// A secret is missing, or the settings cannot be; the reason.
    pub fn new(settings: &ProxySettings) -> Result<Self, String> {
        // reqwest brings no TLS provider of its own. An error means that one is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut base = Url::parse(&settings.url).map_err(|error| format!("`proxy.url`: {error}"))?;
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &settings.headers {
            let value = resolve_text(value).map_err(|error| format!("`proxy.headers.{name}`: {error}"))?;
            let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is no header"))?;
            let mut value = HeaderValue::from_str(&value).map_err(|_| format!("`{name}` has no header's value"))?;
            value.set_sensitive(true);
            headers.insert(header, value);
        }
        let client = reqwest::Client::builder()
            .user_agent(concat!("driftline-scorer/", env!("CARGO_PKG_VERSION")))
            // Only the server of the settings is ever asked.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(settings.connect_timeout.to_std())
            .pool_max_idle_per_host(settings.max_concurrent)
            .tcp_nodelay(true)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            client,
            base,
            headers,
            connect_retries: settings.connect_retries,
            max_answer_bytes: settings.max_answer_bytes,
            question_timeout: settings.timeout.to_std().min(settings.health_interval.to_std().max(SHORTEST_QUESTION)),
        })
    }

    pub fn base(&self) -> &str {
        self.base.as_str()
    }

    /// # Errors
    /// There is no answer of 200.
    pub async fn get(&self, path: &str) -> Result<Vec<u8>, Failure> {
        let request = self.client.get(self.url(path)?).headers(self.headers.clone()).timeout(self.question_timeout);
        let response = request.send().await.map_err(failure)?;
        Ok(accepted(response, MAX_METADATA_BYTES).await?.bytes)
    }

    /// Sends a body. A connection that cannot be made is tried again, since nothing was sent yet; nothing else is.
    ///
    /// # Errors
    /// There is no answer of 200.
    pub async fn post(&self, path: &str, body: Body) -> Result<Answer, Failure> {
        let url = self.url(path)?;
        // Cheap to send again: the bytes are shared.
        let bytes = bytes::Bytes::from(body.bytes);
        let mut tries = 0;
        loop {
            let request = self.client.post(url.clone()).headers(self.headers.clone());
            let request = with_type(request, body.header_length).body(bytes.clone());
            match request.send().await {
                Ok(response) => return accepted(response, self.max_answer_bytes).await,
                Err(error) if error.is_connect() && tries < self.connect_retries => {
                    tokio::time::sleep(FIRST_PAUSE * (1 << tries)).await;
                    tries += 1;
                }
                Err(error) => return Err(failure(error)),
            }
        }
    }

    fn url(&self, path: &str) -> Result<Url, Failure> {
        self.base.join(path).map_err(|error| Failure::Nonsense(error.to_string()))
    }
}

fn with_type(request: RequestBuilder, header_length: Option<usize>) -> RequestBuilder {
    match header_length {
        Some(length) => request.header(HEADER_LENGTH, length).header(CONTENT_TYPE, "application/octet-stream"),
        None => request.header(CONTENT_TYPE, "application/json"),
    }
}

async fn accepted(response: Response, max_bytes: usize) -> Result<Answer, Failure> {
    let status = response.status().as_u16();
    let number = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    match status {
        200 => {
            let header_length = number(HEADER_LENGTH);
            Ok(Answer { bytes: body(response, max_bytes).await?, header_length })
        }
        429 => {
            let seconds = number(RETRY_AFTER.as_str()).and_then(|seconds| u64::try_from(seconds).ok());
            Err(Failure::Busy(seconds.map(Duration::from_secs)))
        }
        status => {
            let text = body(response, MAX_METADATA_BYTES).await.unwrap_or_default();
            Err(Failure::Refused { status, text: told(&text) })
        }
    }
}

/// Never more than the limit, whatever the length that the peer promises.
async fn body(mut response: Response, max_bytes: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failure)? {
        if bytes.len() + chunk.len() > max_bytes {
            return Err(Failure::TooLarge(max_bytes));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// What a peer's error says, without what could break a log line: `{"error": ...}`, `{"message": ...}`, or the beginning.
fn told(body: &[u8]) -> String {
    let json = serde_json::from_slice::<serde_json::Value>(body).ok();
    let said = json.as_ref().and_then(|json| json.get("error").or_else(|| json.get("message"))?.as_str());
    let text = said.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_string);
    let mut told = String::new();
    for word in text.split_whitespace() {
        if !told.is_empty() {
            told.push(' ');
        }
        told.extend(word.chars().flat_map(char::escape_debug));
        if told.chars().count() > MAX_ERROR_CHARS {
            return told.chars().take(MAX_ERROR_CHARS).collect::<String>() + "...";
        }
    }
    told
}

fn failure(error: reqwest::Error) -> Failure {
    let error = error.without_url();
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        reason = format!("{reason}: {cause}");
        source = cause.source();
    }
    if error.is_timeout() && !error.is_connect() {
        return Failure::Broken("it took too long".into());
    }
    if error.is_connect() { Failure::NotReached(reason) } else { Failure::Broken(shown_reason(&reason)) }
}

fn shown_reason(reason: &str) -> String {
    // Errors of HTTP may repeat what the peer sent.
    if reason.is_ascii() && !reason.chars().any(char::is_control) { reason.to_string() } else { shown(reason) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_error_is_told_in_one_short_line() {
        assert_eq!(told(br#"{"error": "unexpected shape\nfor input"}"#), "unexpected shape for input");
        assert_eq!(told(br#"{"code": 503, "message": "Prediction failed"}"#), "Prediction failed");
        assert_eq!(told(b"<html>\x1b[31m"), "<html>\\u{1b}[31m");
        assert!(told(&[b'a'; 10_000]).len() < 400);
        assert_eq!(told(b""), "");
    }
}
