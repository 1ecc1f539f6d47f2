//! What goes back.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use crate::scorer::protocols::DecodeError;
use crate::scorer::score::{ScoreError, ScoreResponse};

pub type Answer = Response<Full<Bytes>>;

pub const VERSION: HeaderName = HeaderName::from_static("driftline-version");
pub const ARM: HeaderName = HeaderName::from_static("driftline-arm");
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub fn json(status: StatusCode, body: &Value) -> Answer {
    bytes(status, body.to_string().into_bytes(), JSON)
}

pub fn bytes(status: StatusCode, body: Vec<u8>, content_type: HeaderValue) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}

/// The body of a score, with what the headers say of it.
pub fn scored(response: &ScoreResponse, body: Vec<u8>) -> Answer {
    let mut answer = bytes(StatusCode::OK, body, JSON);
    let headers = answer.headers_mut();
    for (name, value) in [(VERSION, response.version.as_str()), (REQUEST_ID, response.id.as_str())] {
        // An id that is no header's value stays in the body.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    headers.insert(ARM, HeaderValue::from_static(response.arm.name()));
    answer
}

/// Why a request has no score.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    pub status: StatusCode,
    pub message: String,
    /// When to try again, whole seconds.
    pub retry_after_seconds: Option<u64>,
}

impl Refusal {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after_seconds: None }
    }

    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// `{"error": ...}`, as the Open Inference Protocol, KServe and TensorFlow Serving have it.
    pub fn into_answer(self) -> Answer {
        let body = json!({"error": self.message});
        self.with_body(&body)
    }

    /// Of another form.
    pub fn with_body(&self, body: &Value) -> Answer {
        let mut answer = json(self.status, body);
        if let Some(seconds) = self.retry_after_seconds {
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        answer
    }
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Self {
        Self::bad(error.0)
    }
}

impl From<ScoreError> for Refusal {
    fn from(error: ScoreError) -> Self {
        let status = match &error {
            ScoreError::NotFound(_) => StatusCode::NOT_FOUND,
            ScoreError::Invalid(_) => StatusCode::BAD_REQUEST,
            ScoreError::QueueFull { .. } => StatusCode::TOO_MANY_REQUESTS,
            ScoreError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            ScoreError::Expired => StatusCode::GATEWAY_TIMEOUT,
            ScoreError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let retry_after_seconds = match &error {
            ScoreError::QueueFull { retry_after, .. } => Some(retry_after.as_millis().div_ceil(1000).max(1) as u64),
            ScoreError::Unavailable(_) => Some(1),
            _ => None,
        };
        Self { status, message: error.to_string(), retry_after_seconds }
    }
}
