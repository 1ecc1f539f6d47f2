//! The gRPC server: the Open Inference Protocol's service, and TensorFlow Serving's.
//!
//! `server` listens, `connections` and `limits` keep clients within bounds, `oip` and `tensorflow` answer. Entity,
//! version, priority and time limit stand in a call's metadata under the names of the HTTP headers.
//!
//! To add a service: its messages in `protocols::grpc`, a file here, a line in `server`, its name in `limits`, and its
//! row in docs/scorer-proxy.md.

mod connections;
mod limits;
mod oip;
pub mod server;
mod tensorflow;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::http::{Context, headers};
use crate::http::access::Access;
use crate::scorer::admin::Serving;
use crate::scorer::protocols::DecodeError;
use crate::scorer::score::ScoreError;

/// What every call sees.
#[derive(Clone)]
pub struct Calls {
    pub context: Arc<Context>,
    /// Who may load and unload.
    pub access: Arc<Access>,
    pub serving: Arc<dyn Serving>,
}

impl From<ScoreError> for Status {
    fn from(error: ScoreError) -> Self {
        let code = match &error {
            ScoreError::NotFound(_) => Code::NotFound,
            ScoreError::Invalid(_) => Code::InvalidArgument,
            ScoreError::QueueFull { .. } => Code::ResourceExhausted,
            ScoreError::Unavailable(_) => Code::Unavailable,
            ScoreError::Expired => Code::DeadlineExceeded,
            ScoreError::Failed(_) => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

impl From<DecodeError> for Status {
    fn from(error: DecodeError) -> Self {
        Self::invalid_argument(error.0)
    }
}

/// # Errors
/// A value is not what it should be.
fn overrides(metadata: &MetadataMap) -> Result<headers::Overrides, Status> {
    headers::overrides(metadata.as_ref()).map_err(|refusal| Status::invalid_argument(refusal.message))
}

/// When a call is to be given up: the soonest of what its message, its metadata and gRPC's own time limit say, but no
/// later than the server's.
fn deadline(context: &Context, metadata: &MetadataMap, asked: Option<Duration>) -> Option<Instant> {
    let own = metadata.get("grpc-timeout").and_then(|value| timeout(value.to_str().ok()?));
    let soonest = [asked, own].into_iter().flatten().min();
    headers::deadline(context, Instant::now(), soonest)
}

/// Up to eight digits and a unit, as gRPC writes a time limit.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_limits_of_grpc_are_read() {
        assert_eq!(timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for wrong in ["", "m", "1", "-1S", "123456789S", "1x", "1ä"] {
            assert_eq!(timeout(wrong), None, "{wrong}");
        }
    }
}
