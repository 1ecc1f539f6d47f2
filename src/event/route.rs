//! Which models an event of a topic belongs to.

use hashbrown::HashMap;

use super::json::{Reader, Value};
use super::reason::{Fault, Reason, excerpt};
use super::row::document_fault;

/// The models that read one topic.
#[derive(Debug, Default)]
pub(super) struct TopicRoute {
    /// Models that take every event of the topic.
    everyone: Vec<usize>,
    /// Models told apart by a name in the event.
    named: Vec<NamedModels>,
    /// The largest event that any of the models accepts.
    pub max_event_bytes: u64,
}

#[derive(Debug)]
struct NamedModels {
    /// Where the name stands.
    path: Vec<String>,
    models: HashMap<String, Vec<usize>>,
}

impl TopicRoute {
    pub fn add(&mut self, model_index: usize, name: &str, name_path: Option<&[String]>, max_event_bytes: u64) {
        self.max_event_bytes = self.max_event_bytes.max(max_event_bytes);
        let Some(path) = name_path else {
            self.everyone.push(model_index);
            return;
        };
        let known = self.named.iter().position(|known| known.path == path);
        let group = known.unwrap_or_else(|| {
            self.named.push(NamedModels { path: path.to_vec(), models: HashMap::new() });
            self.named.len() - 1
        });
        self.named[group].models.entry(name.to_string()).or_default().push(model_index);
    }

    /// Writes the models of this event to `models`; none: it names a model that nobody watches.
    ///
    /// The name is read before the event is decoded, and no further than to the name: an event of a model that
    /// is not watched costs next to nothing, and need not be sound behind it.
    #[inline]
    pub fn models_of(&self, text: &str, models: &mut Vec<usize>, scratch: &mut String) -> Result<(), Fault> {
        models.clear();
        models.extend_from_slice(&self.everyone);
        if self.named.is_empty() {
            return Ok(());
        }
        let mut named = false;
        let mut missing = None;
        for group in &self.named {
            match find_name(text, &group.path, scratch)? {
                Ok(name) => {
                    named = true;
                    models.extend(group.models.get(name).into_iter().flatten());
                }
                // A name of the wrong type says more than a name that is not there.
                Err(fault) if missing.is_none() || fault.reason != Reason::MissingField => missing = Some(fault),
                Err(_) => {}
            }
        }
        match missing {
            Some(fault) if !named && models.is_empty() => Err(fault),
            _ => Ok(()),
        }
    }
}

/// The text at `path`. The outer error is the document's; the inner one says why there is no name.
fn find_name<'s>(text: &'s str, path: &[String], scratch: &'s mut String) -> Result<Result<&'s str, Fault>, Fault> {
    // Whether the words are allowed where they stand is for the model to say.
    let mut reader = Reader::lenient(text);
    let dotted = || path.join(".");
    for (depth, wanted) in path.iter().enumerate() {
        let mut more = reader.open_object().map_err(document_fault)?;
        loop {
            if !more {
                check_document(text)?;
                let detail = format!("`{}`: the name of the model is missing", dotted());
                return Ok(Err(Fault::of_field(Reason::MissingField, detail)));
            }
            let key = reader.key().map_err(document_fault)?;
            if key.unescape(scratch) == Ok(wanted) {
                break;
            }
            reader.skip(depth + 1).map_err(document_fault)?;
            more = reader.next_member().map_err(document_fault)?;
        }
        let last = depth + 1 == path.len();
        match reader.value().map_err(document_fault)? {
            Value::Object if !last => {}
            Value::Text(raw) if last => {
                if let Ok(name) = raw.unescape(scratch) {
                    return Ok(Ok(name));
                }
                check_document(text)?;
                let detail = format!("`{}`: half of a surrogate pair in the text", dotted());
                return Ok(Err(Fault::of_field(Reason::NotUtf8, detail)));
            }
            found => {
                check_document(text)?;
                let (reason, problem) = match found {
                    Value::Null => (Reason::MissingField, "is null"),
                    _ => (Reason::WrongType, "is not a text"),
                };
                let detail = format!("`{}`: the name of the model {problem}", dotted());
                return Ok(Err(Fault::of_field(reason, detail)));
            }
        }
    }
    Ok(Err(Fault::of_field(Reason::MissingField, "the path of the model's name is empty")))
}

/// Whether the whole text is one JSON document.
fn check_document(text: &str) -> Result<(), Fault> {
    let mut reader = Reader::new(text);
    reader.skip(0).and_then(|()| reader.finish()).map_err(document_fault)
}

/// The text of a payload that starts as an object does; else why it is no event at all.
#[inline]
pub(super) fn event_text(payload: &[u8]) -> Result<&str, Fault> {
    let text = match std::str::from_utf8(payload) {
        Ok(text) => text,
        Err(error) => return Err(not_utf8(payload, error)),
    };
    match Reader::new(text).peek() {
        Some(b'{') => Ok(text),
        _ => Err(not_an_object(text)),
    }
}

#[cold]
fn not_utf8(payload: &[u8], error: std::str::Utf8Error) -> Fault {
    let at = error.valid_up_to();
    match payload.get(at) {
        Some(byte) if error.error_len().is_some() => {
            Fault::of_document(Reason::NotUtf8, format!("byte {at} is 0x{byte:02x}, which is not UTF-8"))
        }
        _ => Fault::of_document(
            Reason::NotJson,
            format!("the payload ends at byte {} inside a character", payload.len()),
        ),
    }
}

#[cold]
fn not_an_object(text: &str) -> Fault {
    if text.trim().is_empty() {
        return Fault::of_document(Reason::NotJson, "the payload is empty");
    }
    if text.starts_with('\0') {
        let detail =
            "the payload starts with a zero byte, as the frame of a schema registry does; plain JSON is expected";
        return Fault::of_document(Reason::NotJson, detail);
    }
    match check_document(text) {
        Ok(()) => {
            Fault::of_document(Reason::NotAnObject, format!("expected an object, found {}", excerpt(text.trim())))
        }
        Err(fault) => fault,
    }
}
