//! Why a record was not counted: one stable name per cause, used in metrics, logs and the dead letter.

use std::sync::Arc;

use super::flaw::Flaw;

/// The cause of a rejection. `as_str` is a public name: dashboards and consumers of the dead-letter topic match it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    NotJson,
    NotUtf8,
    NotAnObject,
    MissingField,
    WrongType,
    NonFinite,
    UnknownFeature,
    BadTimestamp,
    Future,
    Oversized,
    DuplicateKey,
    /// No prediction with the label's id came within the label delay.
    LabelWithoutPrediction,
    /// The label came when its prediction was past the label delay.
    LabelTooLate,
}

impl Reason {
    pub const ALL: [Reason; 13] = [
        Reason::NotJson,
        Reason::NotUtf8,
        Reason::NotAnObject,
        Reason::MissingField,
        Reason::WrongType,
        Reason::NonFinite,
        Reason::UnknownFeature,
        Reason::BadTimestamp,
        Reason::Future,
        Reason::Oversized,
        Reason::DuplicateKey,
        Reason::LabelWithoutPrediction,
        Reason::LabelTooLate,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Reason::NotJson => "not_json",
            Reason::NotUtf8 => "not_utf8",
            Reason::NotAnObject => "not_an_object",
            Reason::MissingField => "missing_field",
            Reason::WrongType => "wrong_type",
            Reason::NonFinite => "non_finite",
            Reason::UnknownFeature => "unknown_feature",
            Reason::BadTimestamp => "bad_timestamp",
            Reason::Future => "future",
            Reason::Oversized => "oversized",
            Reason::DuplicateKey => "duplicate_key",
            Reason::LabelWithoutPrediction => "label_without_prediction",
            Reason::LabelTooLate => "label_too_late",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// One record that was not counted, by one model or by all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Index of the record in its slab.
    pub record: usize,
    /// Name of the model that could not use it; `None` where the fault is the record's own, whoever reads it.
    pub model: Option<Arc<str>>,
    pub reason: Reason,
    /// For a person: where it stands, what was found, what was expected. At most a few hundred bytes.
    pub detail: String,
    /// Where it would have been counted; `None` where that is not known: a broken document, no event time, or one ahead
    /// of the clock.
    pub place: Option<Box<RejectedPlace>>,
}

/// Where a rejected event would have been counted, and what is known of its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedPlace {
    /// Index in the slice given to `Decoder::new`.
    pub model_index: usize,
    /// Epoch milliseconds.
    pub event_time_ms: i64,
    pub version: String,
    /// Signal and flaw, for every signal without a usable value.
    pub flaws: Vec<(u32, Flaw)>,
    /// Keys beside the features that the model does not list.
    pub unlisted: Vec<String>,
}

/// A fault met while decoding one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub reason: Reason,
    pub detail: String,
    /// The document itself is broken: no model can read it, and it is rejected once.
    pub of_document: bool,
}

impl Fault {
    pub fn of_document(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), of_document: true }
    }

    pub fn of_field(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), of_document: false }
    }
}

/// `text` in quotes, cut at 80 characters: details must not grow with the input.
pub(super) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}
