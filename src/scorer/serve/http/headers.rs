//! What headers say of a request, the same for every protocol.

use std::time::{Duration, Instant};

use hyper::header::{HeaderMap, HeaderName};

use super::Context;
use super::answer::{REQUEST_ID, Refusal};
use crate::scorer::names::check_name;
use crate::scorer::protocols::oip::request::{MAX_ID_BYTES, priority};
use crate::scorer::score::Priority;

const ENTITY: HeaderName = HeaderName::from_static("driftline-entity");
const ARM: HeaderName = HeaderName::from_static("driftline-arm");
const VERSION: HeaderName = HeaderName::from_static("driftline-version");
const PRIORITY: HeaderName = HeaderName::from_static("driftline-priority");
const TIMEOUT_MS: HeaderName = HeaderName::from_static("driftline-timeout-ms");

/// What stands in headers; what the path or the body says goes before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    pub id: Option<String>,
    pub entity: Option<String>,
    pub version: Option<String>,
    pub arm: Option<String>,
    pub priority: Option<Priority>,
    pub timeout: Option<Duration>,
}

/// # Errors
/// A header is not what it should be: 400.
pub fn overrides(headers: &HeaderMap) -> Result<Overrides, Refusal> {
    let version = text(headers, &VERSION)?;
    if let Some(version) = &version {
        check_name("version", version).map_err(|bad| Refusal::bad(bad.to_string()))?;
    }
    let timeout = match text(headers, &TIMEOUT_MS)? {
        None => None,
        Some(text) => {
            let ms: u64 = text
                .parse()
                .map_err(|_| Refusal::bad(format!("header `{TIMEOUT_MS}` is no whole number of milliseconds")))?;
            Some(Duration::from_millis(ms))
        }
    };
    let priority = text(headers, &PRIORITY)?.map(|text| priority(&text)).transpose()?;
    Ok(Overrides {
        id: text(headers, &REQUEST_ID)?,
        entity: text(headers, &ENTITY)?,
        version,
        arm: text(headers, &ARM)?,
        priority,
        timeout,
    })
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, Refusal> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    match std::str::from_utf8(value.as_bytes()) {
        Ok("") => Ok(None),
        Ok(text) if text.len() <= MAX_ID_BYTES => Ok(Some(text.to_string())),
        Ok(_) => Err(Refusal::bad(format!("header `{name}` is longer than {MAX_ID_BYTES} bytes"))),
        Err(_) => Err(Refusal::bad(format!("header `{name}` is not UTF-8"))),
    }
}

/// When a request is to be given up: what the caller asks for, but no later than the server's own limit.
pub fn deadline(context: &Context, now: Instant, asked: Option<Duration>) -> Option<Instant> {
    let within = asked.map_or(context.request_timeout, |asked| asked.min(context.request_timeout));
    now.checked_add(within)
}
