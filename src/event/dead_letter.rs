//! The record written to the dead-letter topic for an event that was not counted.
//!
//! Its JSON is `schemas/events/dead-letter.schema.json`. The original bytes can be had back: from `payload`, or
//! from `payload_base64`, unless the payload was longer than `MAX_PAYLOAD_BYTES` and `truncated` says so; then
//! topic, partition and offset tell where the whole of it is.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::reason::Rejected;
use crate::log::{OutRecord, RecordRef};

/// Longer payloads are cut, so that a dead letter never exceeds a broker's default of 1 MiB a message.
pub const MAX_PAYLOAD_BYTES: usize = 256 * 1024;
/// Longer keys are cut in the same way, and are not used as the dead letter's own key.
pub const MAX_KEY_BYTES: usize = 16 * 1024;

#[derive(Serialize)]
struct DeadLetter<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
    rejected_at_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    reason: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    key_truncated: bool,
    /// Absent for a tombstone.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    /// `null` for a tombstone.
    payload_bytes: Option<usize>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

/// The dead letter of `record`; its topic is left for the caller to set. Its key is the record's, so that one
/// entity's events stay in order, or `topic-partition-offset`.
pub fn dead_letter(record: RecordRef<'_>, rejected: &Rejected, at_ms: i64) -> Result<OutRecord, serde_json::Error> {
    let payload = record.value.map(|value| &value[..value.len().min(MAX_PAYLOAD_BYTES)]);
    let truncated = record.value.is_some_and(|value| value.len() > MAX_PAYLOAD_BYTES);
    let text = payload.and_then(|payload| readable(payload, truncated));
    let usable_key = record.key.filter(|key| key.len() <= MAX_KEY_BYTES);
    let letter = DeadLetter {
        topic: record.topic,
        partition: record.partition,
        offset: record.offset,
        timestamp_ms: record.timestamp_ms,
        rejected_at_ms: at_ms,
        model: rejected.model.as_deref(),
        reason: rejected.reason.as_str(),
        detail: &rejected.detail,
        key_base64: record.key.map(|key| STANDARD.encode(&key[..key.len().min(MAX_KEY_BYTES)])),
        key_truncated: record.key.is_some() && usable_key.is_none(),
        payload: text,
        payload_base64: payload.filter(|_| text.is_none()).map(|payload| STANDARD.encode(payload)),
        payload_bytes: record.value.map(<[u8]>::len),
        truncated,
    };
    let key = match usable_key {
        Some(key) => key.to_vec(),
        None => format!("{}-{}-{}", record.topic, record.partition, record.offset).into_bytes(),
    };
    Ok(OutRecord { key: Some(key), value: Some(serde_json::to_vec(&letter)?), ..OutRecord::default() })
}

/// The payload as text if it is UTF-8 (up to a character cut in two by us) and JSON would not blow it up by
/// escaping control characters six to one.
fn readable(payload: &[u8], truncated: bool) -> Option<&str> {
    let text = match std::str::from_utf8(payload) {
        Ok(text) => text,
        Err(error) if truncated && error.error_len().is_none() => {
            std::str::from_utf8(&payload[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let plain = |byte: u8| byte >= 0x20 || matches!(byte, b'\t' | b'\n' | b'\r');
    text.bytes().all(plain).then_some(text)
}
