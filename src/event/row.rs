//! One event into one row, in one pass over its text.
//!
//! A fault of a field does not end the pass: the rest of the document is still checked, so that a broken document
//! is `not_json` whatever else is wrong with it, and the reason does not depend on the order of keys.

use super::columns::Columns;
use super::flaw::Flaw;
use super::json::{LoneSurrogate, MAX_DEPTH, RawText, Reader, SyntaxError, SyntaxKind, Value};
use super::mapping::{Mapping, NONE, NodeId, ROOT, Target};
use super::reason::{Fault, Reason, excerpt};
use super::time::event_time_ms;
use crate::config::model::{TimestampUnit, UnknownFeatures};

/// What does not change from one event of a slab to the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub timestamp_unit: TimestampUnit,
    pub now_ms: i64,
    pub max_future_ms: i64,
}

/// An event that is not counted.
pub(super) struct Rejection {
    pub fault: Fault,
    /// Where the document is sound, the time is there and not ahead of the clock.
    pub event_time_ms: Option<i64>,
}

pub(super) struct RowDecoder<'a, 'd> {
    reader: Reader<'a>,
    mapping: &'d mut Mapping,
    columns: &'d mut Columns,
    scratch: &'d mut String,
    event: u64,
    limits: Limits,
    event_time_ms: Option<i64>,
    /// The first one met.
    fault: Option<Fault>,
}

impl<'a, 'd> RowDecoder<'a, 'd> {
    /// `event` must differ from that of every earlier event of this mapping.
    pub fn new(
        text: &'a str,
        mapping: &'d mut Mapping,
        columns: &'d mut Columns,
        scratch: &'d mut String,
        event: u64,
        limits: Limits,
    ) -> Self {
        let reader = Reader::new(text);
        Self { reader, mapping, columns, scratch, event, limits, event_time_ms: None, fault: None }
    }

    /// Fills the open row and returns the event time; after a fault the row must be rolled back.
    pub fn decode(mut self) -> Result<i64, Rejection> {
        let broken = |fault| Rejection { fault, event_time_ms: None };
        self.members(ROOT, 0).map_err(broken)?;
        self.reader.finish().map_err(|error| broken(document_fault(error)))?;
        let checked = match self.fault.take() {
            Some(fault) => Err(fault),
            None => self.check_row(),
        };
        checked.map_err(|fault| self.reject(fault))
    }

    /// Notes, beside what was met, which keys are not there, and when the event happened if that can be believed.
    #[cold]
    fn reject(self, fault: Fault) -> Rejection {
        for (signal, node) in self.mapping.signals.iter().enumerate() {
            if self.mapping.nodes[*node as usize].seen_in_event != self.event {
                self.columns.note_flaw(signal, Flaw::Absent);
            }
        }
        let latest_ms = self.limits.now_ms.saturating_add(self.limits.max_future_ms);
        Rejection { fault, event_time_ms: self.event_time_ms.filter(|event_time_ms| *event_time_ms <= latest_ms) }
    }

    fn check_row(&self) -> Result<i64, Fault> {
        let path = |node: NodeId| &self.mapping.nodes[node as usize].path;
        let Some(event_time_ms) = self.event_time_ms else {
            let detail = format!("`{}`: the event time is missing or null", path(self.mapping.event_time));
            return Err(Fault::of_field(Reason::MissingField, detail));
        };
        if let Some((_, node)) = self.mapping.required.iter().find(|(signal, _)| !self.columns.is_set(*signal)) {
            let detail = format!("`{}`: required, and missing or null", path(*node));
            return Err(Fault::of_field(Reason::MissingField, detail));
        }
        let ahead_ms = event_time_ms.saturating_sub(self.limits.now_ms);
        if ahead_ms > self.limits.max_future_ms {
            let detail = format!(
                "`{}`: {ahead_ms} ms ahead of the clock, {} ms are allowed",
                path(self.mapping.event_time),
                self.limits.max_future_ms
            );
            return Err(Fault::of_field(Reason::Future, detail));
        }
        Ok(event_time_ms)
    }

    /// Reads the object of `node`. Recursion is bounded by the depth of the mapping.
    fn members(&mut self, node: NodeId, depth: usize) -> Result<(), Fault> {
        let mut more = self.reader.open_object().map_err(document_fault)?;
        let mut expected = self.mapping.nodes[node as usize].first_child;
        let mut previous = NONE;
        while more {
            let predicted = match self.mapping.nodes.get(expected as usize) {
                Some(expected) => self.reader.take_key(&expected.quoted).map_err(document_fault)?,
                None => false,
            };
            let child = if predicted { expected } else { self.look_up_key(node, previous)? };
            if child == NONE {
                self.reader.skip(depth + 1).map_err(document_fault)?;
            } else {
                previous = child;
                expected = self.mapping.nodes[child as usize].next_sibling;
                self.member(child, depth + 1)?;
            }
            more = self.reader.next_member().map_err(document_fault)?;
        }
        Ok(())
    }

    /// The child of `node` with the next key, or `NONE`; and remembers that it follows `previous`.
    #[cold]
    fn look_up_key(&mut self, node: NodeId, previous: NodeId) -> Result<NodeId, Fault> {
        let raw = self.reader.key().map_err(document_fault)?;
        let parent = &self.mapping.nodes[node as usize];
        let Ok(key) = raw.unescape(self.scratch) else {
            return Ok(NONE);
        };
        let Some(child) = parent.children.get(key).copied() else {
            if parent.unlisted != UnknownFeatures::Ignore {
                self.columns.note_unlisted(key);
            }
            if parent.unlisted == UnknownFeatures::DeadLetter {
                let place = if parent.path.is_empty() { "the event" } else { &parent.path };
                let detail = format!("`{place}` has {}, which the model does not list", excerpt(key));
                self.note(Reason::UnknownFeature, detail);
            }
            return Ok(NONE);
        };
        match self.mapping.nodes.get_mut(previous as usize) {
            Some(previous) => previous.next_sibling = child,
            None => self.mapping.nodes[node as usize].first_child = child,
        }
        Ok(child)
    }

    fn member(&mut self, id: NodeId, depth: usize) -> Result<(), Fault> {
        let node = &mut self.mapping.nodes[id as usize];
        if node.seen_in_event == self.event {
            let detail = format!("`{}` stands twice in the event", node.path);
            self.note(Reason::DuplicateKey, detail);
            return self.reader.skip(depth).map_err(document_fault);
        }
        node.seen_in_event = self.event;
        // Most values of most events: kept in registers, where a `Value` goes through memory: a fifth of the decode time.
        if let [Target::Number(signal)] = node.targets[..]
            && let Some(b'0'..=b'9' | b'-') = self.reader.peek()
        {
            let number = match self.reader.number() {
                Ok(number) => number,
                Err(error) => return self.bare_word(id, error),
            };
            match number.to_f64() {
                Some(value) => self.columns.set_number(signal, value),
                None => self.too_large(id, signal, number.text),
            }
            return Ok(());
        }
        if let [Target::Vector(signal)] = node.targets[..]
            && self.reader.peek() == Some(b'[')
        {
            return self.vector(id, signal, depth);
        }
        if let [Target::List(signal)] = node.targets[..]
            && self.reader.peek() == Some(b'[')
        {
            return self.list(id, signal, depth);
        }
        let inner = node.targets.is_empty();
        let value = match self.reader.value() {
            Ok(value) => value,
            Err(error) => return self.bare_word(id, error),
        };
        if inner {
            match value {
                Value::Object => return self.members(id, depth),
                Value::Null => {}
                other => self.wrong_type(id, "an object", other),
            }
        } else {
            for index in 0..self.mapping.nodes[id as usize].targets.len() {
                let target = self.mapping.nodes[id as usize].targets[index];
                self.set(id, target, value);
            }
        }
        match value {
            Value::Object | Value::Array => self.reader.skip(depth).map_err(|error| self.fault_at(id, error)),
            _ => Ok(()),
        }
    }

    /// Reads an array of as many numbers as the vector has. The first flaw counts, and makes the whole vector invalid;
    /// the array is read to its end.
    fn vector(&mut self, id: NodeId, signal: usize, depth: usize) -> Result<(), Fault> {
        let dimension = self.columns.dimension(signal);
        let mut values = std::mem::take(&mut self.mapping.vector);
        values.clear();
        let mut length = 0;
        let mut invalid: Option<InvalidEntry> = None;
        let mut more = self.reader.open_array().map_err(|error| self.fault_at(id, error))?;
        while more {
            match self.entry(id, depth + 1)? {
                // Beyond the dimension numbers are counted only.
                Ok(value) if length < dimension => values.push(value),
                Ok(_) => {}
                Err(entry) => {
                    invalid.get_or_insert(InvalidEntry { found: format!("[{length}]`: {}", entry.found), ..entry });
                }
            }
            length += 1;
            more = self.reader.next_element().map_err(|error| self.fault_at(id, error))?;
        }
        if length != dimension {
            let found = format!("`: expected {dimension} numbers, found {length}");
            invalid.get_or_insert(InvalidEntry { reason: Reason::WrongType, flaw: Flaw::TypeMismatch, found });
        }
        match invalid {
            None => self.columns.set_vector(signal, &values),
            Some(entry) if self.keep_invalid(signal, entry.flaw) => {}
            Some(entry) => {
                let detail = format!("`{}{}", self.path(id), entry.found);
                self.note(entry.reason, detail);
            }
        }
        self.mapping.vector = values;
        Ok(())
    }

    /// Reads an array of numbers from 0 upward, of any length but none.
    fn list(&mut self, id: NodeId, signal: usize, depth: usize) -> Result<(), Fault> {
        let mut values = std::mem::take(&mut self.mapping.vector);
        values.clear();
        let mut length = 0;
        let mut invalid: Option<InvalidEntry> = None;
        let mut more = self.reader.open_array().map_err(|error| self.fault_at(id, error))?;
        let mismatch = |found: String| InvalidEntry { reason: Reason::WrongType, flaw: Flaw::TypeMismatch, found };
        while more {
            match self.entry(id, depth + 1)? {
                Ok(value) if value >= 0.0 => values.push(value),
                Ok(value) => {
                    invalid
                        .get_or_insert_with(|| mismatch(format!("[{length}]`: a relevance is 0 or more, not {value}")));
                }
                Err(entry) => {
                    invalid.get_or_insert(InvalidEntry { found: format!("[{length}]`: {}", entry.found), ..entry });
                }
            }
            length += 1;
            more = self.reader.next_element().map_err(|error| self.fault_at(id, error))?;
        }
        if length == 0 {
            let found = "`: expected the relevance of at least one item, found none".to_string();
            invalid.get_or_insert_with(|| mismatch(found));
        }
        match invalid {
            None => self.columns.set_list(signal, &values),
            Some(entry) if self.keep_invalid(signal, entry.flaw) => {}
            Some(entry) => {
                let detail = format!("`{}{}", self.path(id), entry.found);
                self.note(entry.reason, detail);
            }
        }
        self.mapping.vector = values;
        Ok(())
    }

    /// One entry of a vector; the inner error leaves the document readable.
    fn entry(&mut self, id: NodeId, depth: usize) -> Result<Result<f32, InvalidEntry>, Fault> {
        let value = match self.reader.value() {
            Ok(value) => value,
            Err(error) if error.kind == SyntaxKind::NonFinite => {
                let flaw = if self.reader.take_bare_word(error) { Flaw::NotANumber } else { Flaw::Infinite };
                let found = document_fault(error).detail;
                return Ok(Err(InvalidEntry { reason: Reason::NonFinite, flaw, found }));
            }
            Err(error) => return Err(self.fault_at(id, error)),
        };
        let entry = match value {
            Value::Number(number) => {
                match number.to_f64().map(|value| value as f32).filter(|value| value.is_finite()) {
                    Some(value) => Ok(value),
                    None => Err(InvalidEntry {
                        reason: Reason::NonFinite,
                        flaw: Flaw::Infinite,
                        found: beyond_single(number.text),
                    }),
                }
            }
            other => {
                let word = if let Value::Text(raw) = other { non_finite_word(raw.raw) } else { None };
                let reason = if word.is_some() { Reason::NonFinite } else { Reason::WrongType };
                let found = format!("expected a number, found {}", describe(other));
                Err(InvalidEntry { reason, flaw: word.unwrap_or(Flaw::TypeMismatch), found })
            }
        };
        if matches!(value, Value::Object | Value::Array) {
            self.reader.skip(depth).map_err(|error| self.fault_at(id, error))?;
        }
        Ok(entry)
    }

    #[inline]
    fn set(&mut self, id: NodeId, target: Target, value: Value<'a>) {
        match (target, value) {
            (Target::Number(signal), Value::Number(number)) => match number.to_f64() {
                Some(value) => self.columns.set_number(signal, value),
                None => self.too_large(id, signal, number.text),
            },
            (
                Target::Number(signal) | Target::Category(signal) | Target::Vector(signal) | Target::List(signal),
                Value::Null,
            ) => {
                self.columns.note_flaw(signal, Flaw::Null);
            }
            (Target::ModelName | Target::Label, _) | (_, Value::Null) => {}
            (Target::Number(signal), Value::Text(raw)) => self.text_for_number(id, signal, raw),
            (Target::Number(signal), other) => self.mismatch(id, signal, "a number", other),
            (Target::Vector(signal) | Target::List(signal), other) => {
                self.mismatch(id, signal, "an array of numbers", other)
            }
            (Target::EventTime, Value::Text(raw)) => self.set_event_time(id, raw.raw, true),
            (Target::EventTime, Value::Number(number)) => self.set_event_time(id, number.text, false),
            (Target::EventTime, other) => self.wrong_type(id, "a time", other),
            (target, Value::Text(raw)) => match raw.unescape(self.scratch) {
                Ok(text) => set_text(self.columns, target, text),
                Err(LoneSurrogate) => {
                    let kept =
                        matches!(target, Target::Category(signal) if self.keep_invalid(signal, Flaw::TypeMismatch));
                    if !kept {
                        let detail = format!("`{}`: half of a surrogate pair in the text", self.path(id));
                        self.note(Reason::NotUtf8, detail);
                    }
                }
            },
            // As Python and pandas name them, with which references are built.
            (target, Value::Bool(value)) => set_text(self.columns, target, if value { "True" } else { "False" }),
            (target, Value::Number(number)) => {
                self.scratch.clear();
                match number.write_text(self.scratch) {
                    Some(()) => set_text(self.columns, target, self.scratch),
                    None => match target {
                        Target::Category(signal) if self.keep_invalid(signal, Flaw::TypeMismatch) => {}
                        _ => self.beyond_doubles(id, number.text),
                    },
                }
            }
            (Target::Category(signal), other) => self.mismatch(id, signal, "a text, number or boolean", other),
            (_, other) => self.wrong_type(id, "a text, number or boolean", other),
        }
    }

    fn set_event_time(&mut self, id: NodeId, text: &str, is_text: bool) {
        match event_time_ms(text, is_text, self.limits.timestamp_unit) {
            Ok(event_time_ms) => self.event_time_ms = Some(event_time_ms),
            Err(expected) => {
                let detail = format!("`{}`: expected {expected}, found {}", self.path(id), excerpt(text));
                self.note(Reason::BadTimestamp, detail);
            }
        }
    }

    fn path(&self, id: NodeId) -> &str {
        &self.mapping.nodes[id as usize].path
    }

    #[cold]
    fn note(&mut self, reason: Reason, detail: String) {
        if self.fault.is_none() {
            self.fault = Some(Fault::of_field(reason, detail));
        }
    }

    /// Notes an invalid value of a feature; whether the event is counted all the same.
    #[cold]
    fn keep_invalid(&mut self, signal: usize, flaw: Flaw) -> bool {
        self.columns.note_flaw(signal, flaw);
        self.mapping.keeps_invalid[signal]
    }

    #[cold]
    fn text_for_number(&mut self, id: NodeId, signal: usize, text: RawText<'a>) {
        let Some(flaw) = non_finite_word(text.raw) else {
            return self.mismatch(id, signal, "a number", Value::Text(text));
        };
        if !self.keep_invalid(signal, flaw) {
            let detail = format!("`{}`: expected a finite number, found {:?}", self.path(id), text.raw);
            self.note(Reason::NonFinite, detail);
        }
    }

    #[cold]
    fn mismatch(&mut self, id: NodeId, signal: usize, expected: &str, found: Value<'_>) {
        if !self.keep_invalid(signal, Flaw::TypeMismatch) {
            self.wrong_type(id, expected, found);
        }
    }

    #[cold]
    fn too_large(&mut self, id: NodeId, signal: usize, number: &str) {
        if !self.keep_invalid(signal, Flaw::Infinite) {
            self.beyond_doubles(id, number);
        }
    }

    /// What stands here is no JSON; but a bare `NaN` or `Infinity` for a number is a value that is none, as Python
    /// writes it, and the rest of the event can be read.
    #[cold]
    fn bare_word(&mut self, id: NodeId, error: SyntaxError) -> Result<(), Fault> {
        let numbers = |target: &Target| matches!(target, Target::Number(_));
        let targets = &self.mapping.nodes[id as usize].targets;
        let for_number = error.kind == SyntaxKind::NonFinite && !targets.is_empty() && targets.iter().all(numbers);
        if !for_number {
            return Err(self.fault_at(id, error));
        }
        let flaw = if self.reader.take_bare_word(error) { Flaw::NotANumber } else { Flaw::Infinite };
        let mut kept = true;
        for index in 0..self.mapping.nodes[id as usize].targets.len() {
            if let Target::Number(signal) = self.mapping.nodes[id as usize].targets[index] {
                kept &= self.keep_invalid(signal, flaw);
            }
        }
        if !kept {
            let fault = self.fault_at(id, error);
            self.note(fault.reason, fault.detail);
        }
        Ok(())
    }

    #[cold]
    fn beyond_doubles(&mut self, id: NodeId, number: &str) {
        let detail = format!("`{}`: {} is beyond the largest double-precision number", self.path(id), excerpt(number));
        self.note(Reason::NonFinite, detail);
    }

    #[cold]
    fn wrong_type(&mut self, id: NodeId, expected: &str, found: Value<'_>) {
        let detail = format!("`{}`: expected {expected}, found {}", self.path(id), describe(found));
        self.note(Reason::WrongType, detail);
    }

    #[cold]
    fn fault_at(&self, id: NodeId, error: SyntaxError) -> Fault {
        let fault = document_fault(error);
        Fault { detail: format!("`{}`: {}", self.path(id), fault.detail), ..fault }
    }
}

/// Why a vector is none.
struct InvalidEntry {
    reason: Reason,
    flaw: Flaw,
    found: String,
}

fn set_text(columns: &mut Columns, target: Target, text: &str) {
    match target {
        Target::Version => columns.set_version(text),
        Target::PredictionId => columns.set_prediction_id(text),
        Target::Category(signal) => columns.set_category(signal, text),
        Target::EventTime
        | Target::ModelName
        | Target::Label
        | Target::Number(_)
        | Target::Vector(_)
        | Target::List(_) => {}
    }
}

pub(super) fn beyond_single(number: &str) -> String {
    format!("{} is beyond the largest single-precision number", excerpt(number))
}

pub(super) fn describe(value: Value<'_>) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => format!("the number {}", excerpt(number.text).trim_matches('"')),
        Value::Text(RawText { raw, .. }) => format!("the text {}", excerpt(raw)),
        Value::Object => "an object".into(),
        Value::Array => "an array".into(),
    }
}

/// The words that pandas, numpy, Java and JavaScript write for a number that is none.
pub(super) fn non_finite_word(text: &str) -> Option<Flaw> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_one_of = |words: &[&str]| words.iter().any(|word| unsigned.eq_ignore_ascii_case(word));
    match () {
        () if is_one_of(&["nan"]) => Some(Flaw::NotANumber),
        () if is_one_of(&["inf", "infinity"]) => Some(Flaw::Infinite),
        () => None,
    }
}

#[cold]
pub(super) fn document_fault(error: SyntaxError) -> Fault {
    let at = error.at;
    let (reason, detail) = match error.kind {
        SyntaxKind::Truncated => (Reason::NotJson, format!("the payload ends at byte {at} inside a value")),
        SyntaxKind::Expected(expected) => (Reason::NotJson, format!("expected {expected} at byte {at}")),
        SyntaxKind::NonFinite => (Reason::NonFinite, format!("a bare NaN or Infinity at byte {at}, which is not JSON")),
        SyntaxKind::TooDeep => (Reason::NotJson, format!("nested deeper than {MAX_DEPTH} levels at byte {at}")),
        SyntaxKind::Trailing(true) => (Reason::NotJson, format!("a second document starts at byte {at}")),
        SyntaxKind::Trailing(false) => (Reason::NotJson, format!("text after the end of the document at byte {at}")),
    };
    Fault::of_document(reason, detail)
}
