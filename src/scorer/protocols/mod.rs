//! Wire protocols: each turns bytes into a `ScoreRequest` and a `ScoreResponse` into bytes, and knows nothing of models.
//!
//! `elements` reads and writes the elements of a tensor as JSON, `binary` as bytes; the protocols share them. `oip` is the
//! Open Inference Protocol over HTTP; `rows` what KServe V1, TensorFlow Serving and TorchServe have in common. Nothing here
//! does input or output, and no input may make it panic or ask for memory that its length does not warrant:
//! `tests/scorer_hostile` holds it to that.
//!
//! To add a protocol: a file with its decoder and encoder, and routes in `serve::http::route`.

pub mod binary;
pub mod capped;
pub mod elements;
pub mod grpc;
pub mod oip;
pub mod rows;

/// Bytes that are no request: 400 with this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(pub String);

impl DecodeError {
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// A text from a request as an error may repeat it: short, and without control characters.
pub fn shown(text: &str) -> String {
    const MOST: usize = 40;
    let mut shown: String = text.chars().take(MOST).flat_map(char::escape_debug).collect();
    if text.chars().nth(MOST).is_some() {
        shown.push_str("...");
    }
    shown
}

/// What the JSON reader has to say, without the text of the request that it may repeat at any length.
pub fn told(error: &serde_json::Error) -> String {
    const MOST: usize = 160;
    let whole = error.to_string();
    let mut told: String = whole.chars().take(MOST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if whole.chars().nth(MOST).is_some() {
        told.push_str(&format!("... at line {} column {}", error.line(), error.column()));
    }
    told
}
