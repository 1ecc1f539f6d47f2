//! Label events: which prediction they are about, what came true, and when that was known.
//!
//! A label event is read along the same tree of keys as a prediction event, by the rules of the table in `event`. What
//! differs is the label itself:
//!
//! | found | outcome |
//! |---|---|
//! | no prediction id or label, or null, or an empty text for one | `missing_field` |
//! | text, number or boolean for a class | its text, as of a categorical feature; the text NaN `non_finite` |
//! | a number for the label of a regression | the nearest f64; `1e999` `non_finite`, text and boolean `wrong_type` |
//! | an array of numbers from 0 upward for the label of a ranked list | each to the nearest f32 |
//! | an empty array, or one with anything else; any other label of a ranked list | `wrong_type`; NaN and numbers beyond f32 `non_finite` |
//! | no timestamp, or null | a label without one |
//! | more than `MAX_LABEL_BYTES` | `oversized`, unread |

use std::sync::Arc;

use super::json::{LoneSurrogate, RawText, Reader, SyntaxError, Value};
use super::mapping::{DecoderError, Mapping, NodeId, ROOT, Target};
use super::reason::{Fault, Reason, excerpt};
use super::row::{beyond_single, describe, document_fault, non_finite_word};
use super::time::event_time_ms;
use crate::config::model::{Model, TimestampUnit};
use crate::config::performance::Task;

/// Largest label event: it waits with its label, and fits a dead letter whole.
pub const MAX_LABEL_BYTES: u64 = super::MAX_PAYLOAD_BYTES as u64;

/// One label, for one model.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedLabel {
    /// Index in the slice given to `Decoder::new`.
    pub model_index: usize,
    /// Index of the record in the slab.
    pub record: usize,
    pub prediction_id: String,
    pub value: LabelValue,
    /// When the label was given, by its event; epoch milliseconds.
    pub given_ms: Option<i64>,
}

/// What came true.
#[derive(Debug, Clone, PartialEq)]
pub enum LabelValue {
    /// A class, as a categorical feature would have it.
    Class(String),
    Number(f64),
    /// Relevance of each item of a ranked list.
    Relevance(Vec<f32>),
}

/// How one model's label events are read.
#[derive(Debug)]
pub(super) struct LabelDecoder {
    pub name: Arc<str>,
    pub topics: Vec<String>,
    pub mapping: Mapping,
    task: Task,
    timestamp_unit: TimestampUnit,
    max_future_ms: i64,
    /// Larger events are refused unread.
    pub max_bytes: u64,
    /// Events met so far.
    events: u64,
}

impl LabelDecoder {
    /// `None` where the model's labels have no topic.
    pub fn compile(model: &Model) -> Result<Option<Self>, DecoderError> {
        let Some(performance) = &model.performance else { return Ok(None) };
        let Some(labels) = &performance.labels else { return Ok(None) };
        let fields = &labels.fields;
        let paths = [
            (Some(&fields.prediction_id), Target::PredictionId),
            (Some(&fields.label), Target::Label),
            (fields.timestamp.as_ref(), Target::EventTime),
            (fields.model.as_ref(), Target::ModelName),
        ];
        let paths = paths.into_iter().filter_map(|(path, target)| Some((path?.as_str(), target)));
        let mapping = Mapping::of_paths(paths, fields.model.as_deref())
            .map_err(|problem| DecoderError { model: model.model.clone(), problem: format!("labels: {problem}") })?;
        Ok(Some(Self {
            name: model.model.as_str().into(),
            topics: labels.topics.clone(),
            mapping,
            task: performance.task,
            timestamp_unit: fields.timestamp_unit,
            max_future_ms: model.max_future.ms,
            max_bytes: model.max_event_bytes.min(MAX_LABEL_BYTES),
            events: 0,
        }))
    }

    /// Prediction id, label and when it was given.
    pub fn decode(
        &mut self,
        text: &str,
        now_ms: i64,
        scratch: &mut String,
    ) -> Result<(String, LabelValue, Option<i64>), Fault> {
        if text.len() as u64 > self.max_bytes {
            return Err(Fault { of_document: false, ..super::oversized(text.len(), self.max_bytes) });
        }
        self.events += 1;
        let mut event = LabelEvent {
            reader: Reader::new(text),
            decoder: self,
            scratch,
            prediction_id: None,
            value: None,
            given_ms: None,
            fault: None,
        };
        event.members(ROOT, 0)?;
        event.reader.finish().map_err(document_fault)?;
        event.outcome(now_ms)
    }
}

/// One event being read.
struct LabelEvent<'a, 'd> {
    reader: Reader<'a>,
    decoder: &'d mut LabelDecoder,
    scratch: &'d mut String,
    prediction_id: Option<String>,
    value: Option<LabelValue>,
    given_ms: Option<i64>,
    /// The first one met.
    fault: Option<Fault>,
}

impl<'a> LabelEvent<'a, '_> {
    fn outcome(self, now_ms: i64) -> Result<(String, LabelValue, Option<i64>), Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let missing = |target: Target, what: &str| {
            let node = self.decoder.mapping.nodes.iter().find(|node| node.targets.contains(&target));
            let path = node.map_or("", |node| node.path.as_str());
            Fault::of_field(Reason::MissingField, format!("`{path}`: the {what} is missing, null or empty"))
        };
        let prediction_id = self.prediction_id.ok_or_else(|| missing(Target::PredictionId, "prediction id"))?;
        let value = self.value.ok_or_else(|| missing(Target::Label, "label"))?;
        let ahead_ms = self.given_ms.map_or(0, |given_ms| given_ms.saturating_sub(now_ms));
        if ahead_ms > self.decoder.max_future_ms {
            let allowed_ms = self.decoder.max_future_ms;
            let detail = format!("the label is {ahead_ms} ms ahead of the clock, {allowed_ms} ms are allowed");
            return Err(Fault::of_field(Reason::Future, detail));
        }
        Ok((prediction_id, value, self.given_ms))
    }

    /// Reads the object of `node`. Recursion is bounded by the depth of the mapping.
    fn members(&mut self, node: NodeId, depth: usize) -> Result<(), Fault> {
        let mut more = self.reader.open_object().map_err(document_fault)?;
        while more {
            let raw = self.reader.key().map_err(document_fault)?;
            let children = &self.decoder.mapping.nodes[node as usize].children;
            let child = raw.unescape(self.scratch).ok().and_then(|key| children.get(key)).copied();
            match child {
                None => self.reader.skip(depth + 1).map_err(document_fault)?,
                Some(child) => self.member(child, depth + 1)?,
            }
            more = self.reader.next_member().map_err(document_fault)?;
        }
        Ok(())
    }

    fn member(&mut self, id: NodeId, depth: usize) -> Result<(), Fault> {
        let event = self.decoder.events;
        let node = &mut self.decoder.mapping.nodes[id as usize];
        if node.seen_in_event == event {
            let detail = format!("`{}` stands twice in the event", node.path);
            self.note(Reason::DuplicateKey, detail);
            return self.reader.skip(depth).map_err(document_fault);
        }
        node.seen_in_event = event;
        let targets = node.targets.clone();
        let value = self.reader.value().map_err(|error| self.fault_at(id, error))?;
        if value == Value::Array && targets == [Target::Label] && self.decoder.task == Task::Ranking {
            return self.relevance(id, depth);
        }
        match (targets.is_empty(), value) {
            (true, Value::Object) => return self.members(id, depth),
            (true, Value::Null) => {}
            (true, other) => self.wrong_type(id, "an object", other),
            (false, _) => targets.into_iter().for_each(|target| self.set(id, target, value)),
        }
        match value {
            Value::Object | Value::Array => self.reader.skip(depth).map_err(|error| self.fault_at(id, error)),
            _ => Ok(()),
        }
    }

    fn set(&mut self, id: NodeId, target: Target, value: Value<'a>) {
        match (target, value) {
            (Target::ModelName, _) | (_, Value::Null) => {}
            (Target::EventTime, Value::Text(raw)) => self.set_given(id, raw.raw, true),
            (Target::EventTime, Value::Number(number)) => self.set_given(id, number.text, false),
            (Target::EventTime, other) => self.wrong_type(id, "a time", other),
            (Target::PredictionId, other) => self.prediction_id = self.text(id, other),
            (_, other) => self.set_label(id, other),
        }
    }

    fn set_given(&mut self, id: NodeId, text: &str, is_text: bool) {
        match event_time_ms(text, is_text, self.decoder.timestamp_unit) {
            Ok(given_ms) => self.given_ms = Some(given_ms),
            Err(expected) => {
                let detail = format!("`{}`: expected {expected}, found {}", self.path(id), excerpt(text));
                self.note(Reason::BadTimestamp, detail);
            }
        }
    }

    fn set_label(&mut self, id: NodeId, value: Value<'a>) {
        let word = if let Value::Text(raw) = value { non_finite_word(raw.raw) } else { None };
        match (self.decoder.task, value) {
            (Task::Binary | Task::Multiclass, Value::Text(raw)) if is_not_a_number(raw.raw) => self.no_number(id, raw),
            (Task::Binary | Task::Multiclass, _) => self.value = self.text(id, value).map(LabelValue::Class),
            (Task::Regression, Value::Number(number)) => match number.to_f64() {
                Some(number) => self.value = Some(LabelValue::Number(number)),
                None => {
                    let found = excerpt(number.text);
                    let detail = format!("`{}`: {found} is beyond the largest double-precision number", self.path(id));
                    self.note(Reason::NonFinite, detail);
                }
            },
            (Task::Regression, Value::Text(raw)) if word.is_some() => self.no_number(id, raw),
            (Task::Regression, other) => self.wrong_type(id, "a number", other),
            (Task::Ranking, other) => self.wrong_type(id, "an array of relevances", other),
        }
    }

    #[cold]
    fn no_number(&mut self, id: NodeId, found: RawText<'_>) {
        let detail = format!("`{}`: expected a label, found {:?}", self.path(id), found.raw);
        self.note(Reason::NonFinite, detail);
    }

    /// What a categorical feature would have; `None` for the empty text, and after a fault.
    fn text(&mut self, id: NodeId, value: Value<'a>) -> Option<String> {
        match value {
            Value::Text(raw) => match raw.unescape(self.scratch) {
                Ok(text) => return Some(text.to_string()).filter(|text| !text.is_empty()),
                Err(LoneSurrogate) => {
                    let detail = format!("`{}`: half of a surrogate pair in the text", self.path(id));
                    self.note(Reason::NotUtf8, detail);
                }
            },
            Value::Bool(value) => return Some(if value { "True" } else { "False" }.to_string()),
            Value::Number(number) => {
                let mut text = String::new();
                if number.write_text(&mut text).is_some() {
                    return Some(text);
                }
                let found = excerpt(number.text);
                let detail = format!("`{}`: {found} is beyond the largest double-precision number", self.path(id));
                self.note(Reason::NonFinite, detail);
            }
            other => self.wrong_type(id, "a text, number or boolean", other),
        }
        None
    }

    /// Reads the relevances of a ranked list; the first fault counts, and the array is read to its end.
    fn relevance(&mut self, id: NodeId, depth: usize) -> Result<(), Fault> {
        let mut items = Vec::new();
        let mut more = self.reader.open_array().map_err(|error| self.fault_at(id, error))?;
        let is_empty = !more;
        while more {
            let value = self.reader.value().map_err(|error| self.fault_at(id, error))?;
            let place = format!("`{}[{}]`", self.path(id), items.len());
            match value {
                Value::Number(number) => match number.to_f64().map(|value| value as f32) {
                    Some(item) if item.is_finite() && item >= 0.0 => items.push(item),
                    Some(item) if item.is_finite() => {
                        self.note(Reason::WrongType, format!("{place}: a relevance is 0 or more, not {item}"));
                    }
                    _ => self.note(Reason::NonFinite, format!("{place}: {}", beyond_single(number.text))),
                },
                Value::Text(raw) if non_finite_word(raw.raw).is_some() => {
                    self.note(Reason::NonFinite, format!("{place}: expected a finite number, found {:?}", raw.raw));
                }
                other => self.note(Reason::WrongType, format!("{place}: expected a number, found {}", describe(other))),
            }
            if matches!(value, Value::Object | Value::Array) {
                self.reader.skip(depth + 1).map_err(|error| self.fault_at(id, error))?;
            }
            more = self.reader.next_element().map_err(|error| self.fault_at(id, error))?;
        }
        if is_empty {
            let detail = format!("`{}`: expected the relevance of at least one item, found none", self.path(id));
            self.note(Reason::WrongType, detail);
        }
        self.value = Some(LabelValue::Relevance(items));
        Ok(())
    }

    fn path(&self, id: NodeId) -> &str {
        &self.decoder.mapping.nodes[id as usize].path
    }

    #[cold]
    fn note(&mut self, reason: Reason, detail: String) {
        self.fault.get_or_insert_with(|| Fault::of_field(reason, detail));
    }

    #[cold]
    fn wrong_type(&mut self, id: NodeId, expected: &str, found: Value<'_>) {
        let detail = format!("`{}`: expected {expected}, found {}", self.path(id), describe(found));
        self.note(Reason::WrongType, detail);
    }

    /// A bare `NaN` or `Infinity` cannot be a label: the event is no JSON, and says where.
    #[cold]
    fn fault_at(&self, id: NodeId, error: SyntaxError) -> Fault {
        let fault = document_fault(error);
        Fault { detail: format!("`{}`: {}", self.path(id), fault.detail), ..fault }
    }
}

/// What pandas and Python write for a label that is not there. A class may well be called `Inf`.
fn is_not_a_number(text: &str) -> bool {
    text.strip_prefix(['-', '+']).unwrap_or(text).eq_ignore_ascii_case("nan")
}
