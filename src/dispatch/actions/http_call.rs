//! A request to the API of a target, for every target that is spoken to over HTTP: who may be connected to, how long an
//! answer may take, and what it means for the next call. The rules are those of receivers: no redirects, no proxy, and
//! private addresses only with leave.

use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Certificate, Method, Url};
use serde::Serialize;
use serde_json::Value;

use super::target::{CallOutcome, Progress, TargetError};
use crate::config::receivers::{Secret, TextOrSecret};
use crate::dispatch::address_guard::check_literal;
use crate::dispatch::http_sender::{classify_error, client_builder, now_ms, retry_after};
use crate::dispatch::receiver::Outcome;
use crate::dispatch::secret::{resolve, resolve_text};

const TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of an answer that are read; a longer one is an error.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// Characters of an answer that are shown.
const MAX_ANSWER_SHOWN: usize = 200;

/// The API at one address.
pub struct HttpCall {
    client: reqwest::Client,
    base: Url,
}

/// An answer of any status.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// Null if the body is not JSON.
    pub body: Value,
    /// The beginning of the body, on one line.
    shown: String,
}

impl HttpCall {
    /// `base`: the API's address up to its paths. `authority`: PEM of the certificates that alone are trusted.
    pub fn new(
        action: &str,
        base: &TextOrSecret,
        allow_private: bool,
        authority: Option<&[u8]>,
    ) -> Result<Self, TargetError> {
        let wrong = |reason: String| TargetError::new(action, reason);
        let text = resolve_text(base).map_err(|error| wrong(error.to_string()))?;
        // The text is in no error: a URL may carry a token.
        let base = Url::parse(&text).map_err(|error| wrong(format!("`url` is not a URL: {error}")))?;
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            return Err(wrong(format!("`url` must start with http or https, not {}", base.scheme())));
        }
        if !allow_private {
            check_literal(base.host_str().unwrap_or_default()).map_err(|error| wrong(error.to_string()))?;
        }
        let mut builder = client_builder(allow_private, TIMEOUT);
        if let Some(pem) = authority {
            let certificates = Certificate::from_pem_bundle(pem)
                .map_err(|error| wrong(format!("the certificate authority cannot be read: {error}")))?;
            builder = builder.tls_certs_only(certificates);
        }
        let client = builder.build().map_err(|error| wrong(format!("cannot set up the HTTP client: {error}")))?;
        Ok(Self { client, base })
    }

    /// The address as it is configured.
    pub fn base(&self) -> Url {
        self.base.clone()
    }

    /// The base with these parts added to its path, each of them one part whatever it holds.
    pub fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    pub async fn post(&self, url: Url, headers: HeaderMap, body: &impl Serialize) -> Result<Answer, CallOutcome> {
        let body = serde_json::to_vec(body)
            .map_err(|error| CallOutcome::permanent(format!("cannot write the request as json: {error}")))?;
        self.post_bytes(url, headers, body).await
    }

    /// Sends `body`, which is JSON unless `headers` say otherwise.
    pub async fn post_bytes(&self, url: Url, mut headers: HeaderMap, body: Vec<u8>) -> Result<Answer, CallOutcome> {
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        self.send(Method::POST, url, headers, Some(body)).await
    }

    /// Asks before a call, whose outcome it is if there is no answer.
    pub async fn look(&self, url: Url, headers: HeaderMap) -> Result<Answer, CallOutcome> {
        self.send(Method::GET, url, headers, None).await
    }

    /// Asks how something goes. What is not an answer of status 200 is not known.
    pub async fn get(&self, url: Url, headers: HeaderMap) -> Result<Value, Progress> {
        match self.send(Method::GET, url, headers, None).await {
            Ok(answer) if answer.status == 200 => Ok(answer.body),
            Ok(answer) => Err(Progress::Unknown { reason: answer.describe() }),
            Err(CallOutcome::Retry { reason, .. } | CallOutcome::Permanent { reason }) => {
                Err(Progress::Unknown { reason })
            }
            Err(_) => Err(Progress::Unknown { reason: "no answer".into() }),
        }
    }

    async fn send(
        &self,
        method: Method,
        url: Url,
        mut headers: HeaderMap,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, CallOutcome> {
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("application/json"));
        let mut request = self.client.request(method, url).headers(headers);
        if let Some(body) = body {
            request = request.body(body);
        }
        let failed = |error| match classify_error(error) {
            Outcome::Permanent { reason } => CallOutcome::Permanent { reason },
            Outcome::Retry { reason, after_ms } => CallOutcome::Retry { reason, after_ms },
            Outcome::Delivered { .. } => CallOutcome::Retry { reason: "no answer".into(), after_ms: None },
        };
        let mut response = request.send().await.map_err(failed)?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut read = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            read.extend_from_slice(&chunk);
            if read.len() > MAX_ANSWER_BYTES {
                let reason = format!("http status {status} with more than {MAX_ANSWER_BYTES} bytes");
                return Err(CallOutcome::Retry { reason, after_ms: None });
            }
        }
        let text = String::from_utf8_lossy(&read);
        let shown = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_ANSWER_SHOWN);
        let shown = shown.collect::<String>().trim().to_string();
        Ok(Answer { status, headers, body: serde_json::from_slice(&read).unwrap_or(Value::Null), shown })
    }
}

impl Answer {
    pub fn describe(&self) -> String {
        match self.shown.as_str() {
            "" => format!("http status {}", self.status),
            shown => format!("http status {}: {shown}", self.status),
        }
    }

    /// What an answer that is no success means, by its status. A redirect is refused: following it could lead anywhere.
    pub fn failure(&self) -> CallOutcome {
        match self.status {
            408 | 425 | 429 | 500..=599 => self.try_again(),
            _ => CallOutcome::Permanent { reason: self.describe() },
        }
    }

    /// To be called again, when the answer says.
    pub fn try_again(&self) -> CallOutcome {
        CallOutcome::Retry { reason: self.describe(), after_ms: retry_after(&self.headers, now_ms()) }
    }

    /// A text of the body, by JSON pointer.
    pub fn text(&self, pointer: &str) -> Option<&str> {
        text_at(&self.body, pointer)
    }
}

pub fn text_at<'a>(body: &'a Value, pointer: &str) -> Option<&'a str> {
    body.pointer(pointer).and_then(Value::as_str)
}

/// Headers with `Authorization: Bearer ...`. The token is read anew: one that is mounted as a file is replaced by and by.
pub fn bearer(token: &Secret) -> Result<HeaderMap, String> {
    let token = resolve(token).map_err(|error| error.to_string())?;
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| "the token does not fit into a header".to_string())?;
    value.set_sensitive(true);
    Ok(HeaderMap::from_iter([(AUTHORIZATION, value)]))
}

/// As `bearer`, for a call.
pub fn bearer_of_call(token: &Secret) -> Result<HeaderMap, CallOutcome> {
    bearer(token).map_err(|reason| CallOutcome::Retry { reason, after_ms: None })
}

/// As `bearer`, for a question.
pub fn bearer_of_question(token: &Secret) -> Result<HeaderMap, Progress> {
    bearer(token).map_err(|reason| Progress::Unknown { reason })
}

/// The manifest that a run goes ahead with, as one text.
pub fn manifest_text(run: &super::run::RunRecord) -> Result<String, CallOutcome> {
    let Some(manifest) = &run.manifest else { return Err(CallOutcome::permanent("the run has no manifest")) };
    serde_json::to_string(manifest)
        .map_err(|error| CallOutcome::permanent(format!("cannot write the manifest as json: {error}")))
}
