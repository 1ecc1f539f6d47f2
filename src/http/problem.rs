//! Errors of the API, as RFC 9457 writes them.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

/// An error as RFC 9457 writes it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Problem {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    /// What is wrong, and what would be right.
    detail: String,
}

impl Problem {
    fn new(status: u16, title: &'static str, detail: impl Into<String>) -> Self {
        Self { kind: "about:blank", title, status, detail: detail.into() }
    }

    pub fn not_found(detail: String) -> Self {
        Self::new(404, "Not Found", detail)
    }

    pub fn bad_request(detail: String) -> Self {
        Self::new(400, "Bad Request", detail)
    }

    /// Nobody knows who is asking.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(401, "Unauthorized", detail)
    }

    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(403, "Forbidden", detail)
    }

    pub fn method_not_allowed(detail: String) -> Self {
        Self::new(405, "Method Not Allowed", detail)
    }

    /// It cannot be done to what is there.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(409, "Conflict", detail)
    }

    /// The request can be read, and makes no sense.
    pub fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(422, "Unprocessable Content", detail)
    }

    /// Later it may work.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(503, "Service Unavailable", detail)
    }

    pub fn of_status(status: StatusCode, detail: String) -> Self {
        match status.as_u16() {
            413 => Self::new(413, "Content Too Large", detail),
            415 => Self::new(415, "Unsupported Media Type", detail),
            422 => Self::unprocessable(detail),
            _ => Self::bad_request(detail),
        }
    }

    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let content_type = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut response = (status, content_type, axum::Json(self)).into_response();
        if status == StatusCode::UNAUTHORIZED {
            // Browsers ask for name and password; the token is the password.
            let challenge = HeaderValue::from_static("Basic realm=\"Driftline\", charset=\"UTF-8\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
