//! The JSON Schema of each file, and what breaks it in words people use.

use std::ops::Range;

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind;
use schemars::JsonSchema;
use serde_json::Value;

use super::diagnostic::Problem;
use super::nearest::suggest;
use super::units::{SHARE_PATTERN, Share, Span};
use super::yaml::{Document, child};

/// The schema of `T`, without `null` alternatives: a key that is there has a value.
pub fn of<T: JsonSchema>() -> Value {
    let mut schema = schemars::schema_for!(T).to_value();
    strip_null(&mut schema);
    schema
}

/// Optional Rust fields become "this or null" in schemars; in a file an empty value is a mistake. Alternatives of
/// constants become one `enum`, so that an error can list them.
fn strip_null(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(strip_null),
        Value::Object(object) => {
            if object.get("default").is_some_and(Value::is_null) {
                object.remove("default");
            }
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".into(), only);
                }
            }
            if let Some(Value::Array(options)) = object.get_mut("enum") {
                options.retain(|option| !option.is_null());
            }
            if let Some(Value::Array(mut branches)) = object.remove("anyOf") {
                branches.retain(|branch| branch.get("type").is_none_or(|kind| kind != "null"));
                match branches.as_slice() {
                    [Value::Object(only)] => {
                        object.extend(only.clone());
                    }
                    _ => {
                        object.insert("anyOf".into(), Value::Array(branches));
                    }
                }
            }
            if let Some(constants) = object.get("oneOf").and_then(constants) {
                object.remove("oneOf");
                object.insert("type".into(), "string".into());
                object.insert("enum".into(), Value::Array(constants));
            }
            object.values_mut().for_each(strip_null);
        }
        _ => {}
    }
}

/// All values of a `oneOf` whose branches are constants or enumerations.
fn constants(branches: &Value) -> Option<Vec<Value>> {
    let mut values = Vec::new();
    for branch in branches.as_array()? {
        match (branch.get("const"), branch.get("enum")) {
            (Some(constant), _) => values.push(constant.clone()),
            (None, Some(Value::Array(options))) => values.extend(options.iter().cloned()),
            _ => return None,
        }
    }
    Some(values)
}

/// Everything in `document` that `schema` does not allow. `text` is the file's, to tell `"5"` from `5`.
pub fn violations(schema: &Value, document: &Document, text: &str) -> Vec<Problem> {
    let validator = match jsonschema::validator_for(schema) {
        Ok(validator) => validator,
        Err(error) => return vec![Problem::error("schema", "", format!("the schema itself is wrong: {error}"))],
    };
    let reader = Reader { schema, document, text };
    validator.iter_errors(&document.value).flat_map(|error| reader.problems(&error)).collect()
}

struct Reader<'a> {
    schema: &'a Value,
    document: &'a Document,
    text: &'a str,
}

/// Keys that hold secrets, whatever the file.
const SECRET_KEYS: [&str; 9] = [
    "secret",
    "previous_secret",
    "password",
    "routing_key",
    "authorization",
    "token",
    "access_key_id",
    "secret_access_key",
    "session_token",
];
/// Kinds of receivers whose `url` is itself what lets one post.
const SECRET_URLS: [&str; 2] = ["/slack/url", "/teams/url"];

fn is_secret(pointer: &str) -> bool {
    last_name(pointer).is_some_and(|name| SECRET_KEYS.contains(&name))
        || SECRET_URLS.iter().any(|end| pointer.ends_with(end))
}

impl Reader<'_> {
    fn problems(&self, error: &ValidationError<'_>) -> Vec<Problem> {
        let pointer = error.instance_path().as_str().to_string();
        match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                unexpected.iter().map(|key| self.unknown_key(error, &pointer, key)).collect()
            }
            ValidationErrorKind::Required { property } => {
                let key = property.as_str().unwrap_or_default();
                let message = format!("{} has no `{key}`", self.owner(&pointer));
                let present: Vec<&str> = self.keys_at(&pointer);
                let help = match suggest_present(key, &present) {
                    Some(similar) => format!("did you mean `{key}` by `{similar}`?"),
                    None => format!("add `{key}:`"),
                };
                vec![Problem::error("missing-key", pointer, message).key().help(help)]
            }
            ValidationErrorKind::Type { .. } => vec![self.wrong_type(error, pointer)],
            ValidationErrorKind::Enum { options } => vec![self.not_an_option(error, pointer, options)],
            ValidationErrorKind::Pattern { pattern } => {
                let text = error.instance().as_str().unwrap_or_default().to_string();
                vec![bad_pattern(pattern, pointer, &text)]
            }
            ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
                self.nearest_branch(error, pointer, context)
            }
            ValidationErrorKind::MinItems { limit } | ValidationErrorKind::MaxItems { limit } => {
                let found = error.instance().as_array().map_or(0, Vec::len);
                vec![Problem::error("out-of-range", pointer, format!("{limit} items are needed here, not {found}"))]
            }
            ValidationErrorKind::Minimum { limit } => {
                let message = format!("`{}` is too small: at least {limit}", error.instance());
                vec![Problem::error("out-of-range", pointer, message)]
            }
            ValidationErrorKind::Maximum { limit } => {
                let message = format!("`{}` is too large: at most {limit}", error.instance());
                vec![Problem::error("out-of-range", pointer, message)]
            }
            _ => vec![Problem::error("invalid", pointer, error.masked().to_string())],
        }
    }

    fn unknown_key(&self, error: &ValidationError<'_>, pointer: &str, key: &str) -> Problem {
        let known = self.known_keys(error.schema_path().as_str());
        let help = habit(key, &known).map(str::to_string).or_else(|| {
            let at_root = self.schema.pointer(&format!("/properties/{key}")).is_some();
            match at_root && !pointer.is_empty() {
                true => Some(format!("`{key}` stands at the top of the file")),
                false => suggest(key, known.iter().map(String::as_str)),
            }
        });
        let message = format!("unknown key `{key}` in {}", self.owner(pointer));
        Problem::error("unknown-key", child(pointer, key), message).key().help_if(help)
    }

    /// Keys that the schema allows where an `additionalProperties` failed.
    fn known_keys(&self, schema_path: &str) -> Vec<String> {
        let parent = schema_path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let properties = self.schema.pointer(&format!("{parent}/properties")).and_then(Value::as_object);
        properties.map(|properties| properties.keys().cloned().collect()).unwrap_or_default()
    }

    /// Whether the schema whose `type` failed is that of a percentage.
    fn is_share(&self, schema_path: &str) -> bool {
        let parent = schema_path.rsplit_once('/').map_or("", |(parent, _)| parent);
        self.schema.pointer(&format!("{parent}/pattern")).and_then(Value::as_str) == Some(SHARE_PATTERN)
    }

    fn keys_at(&self, pointer: &str) -> Vec<&str> {
        let object = self.document.value.pointer(pointer).and_then(Value::as_object);
        object.map(|object| object.keys().map(String::as_str).collect()).unwrap_or_default()
    }

    fn wrong_type(&self, error: &ValidationError<'_>, pointer: String) -> Problem {
        let instance = error.instance();
        let expected = match error.kind() {
            ValidationErrorKind::Type { kind: jsonschema::error::TypeKind::Single(kind) } => kind.to_string(),
            _ => String::new(),
        };
        let name = last_name(&pointer).unwrap_or("the file").to_string();
        if is_secret(&pointer) && instance.is_string() {
            let message = format!("`{name}` holds the secret itself");
            return Problem::error("literal-secret", pointer, message)
                .help("write `{env: NAME}` or `{file: PATH}`, and change the secret if this file was ever shared");
        }
        if instance.is_null() {
            let message = format!("`{name}` has no value");
            return Problem::error("no-value", pointer, message).help("give it one, or leave the key out").key();
        }
        let written = instance.as_str();
        let help = match (expected.as_str(), &**instance) {
            ("integer" | "number", Value::String(text)) if text.parse::<f64>().is_ok() => {
                Some(format!("write {text} without quotes"))
            }
            ("boolean", Value::String(_)) => match written.map(str::to_lowercase).as_deref() {
                Some("yes" | "on") => Some("write `true`".to_string()),
                Some("no" | "off") => Some("write `false`".to_string()),
                _ => None,
            },
            ("string", Value::Number(number)) if self.is_share(error.schema_path().as_str()) => {
                let share = number.as_f64().filter(|share| (0.0..=1.0).contains(share)).unwrap_or(0.8);
                Some(format!("write a percentage: `{}%`", share * 100.0))
            }
            ("string", Value::Number(_) | Value::Bool(_)) => {
                let source = self.document.places.value(&pointer).and_then(|range| self.text.get(range));
                source.map(|source| format!("put it in quotes: \"{source}\""))
            }
            ("array", Value::String(text)) => Some(format!("write a list: [{text}]")),
            _ => None,
        };
        let message = format!("`{name}` must be {}, not {}", in_words(&expected), value_in_words(instance));
        Problem::error("wrong-type", pointer, message).help_if(help)
    }

    fn not_an_option(&self, error: &ValidationError<'_>, pointer: String, options: &Value) -> Problem {
        let options: Vec<&str> = options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let listed: Vec<String> = options.iter().map(|option| format!("`{option}`")).collect();
        let name = last_name(&pointer).unwrap_or("the value").to_string();
        let written = error.instance().as_str().map_or_else(|| error.instance().to_string(), str::to_string);
        let message = format!("`{written}` is not one of the values of `{name}`: {}", listed.join(", "));
        let close = super::nearest::nearest(&written, options.iter().copied());
        let help = close.map(|option| format!("did you mean `{option}`?"));
        Problem::error("unknown-value", pointer, message).help_if(help)
    }

    /// Of the forms a value may take, the one it resembles: its errors are worth more than "none matches".
    fn nearest_branch(
        &self,
        error: &ValidationError<'_>,
        pointer: String,
        context: &[Vec<ValidationError<'static>>],
    ) -> Vec<Problem> {
        let at_root = |branch_error: &ValidationError<'static>| {
            branch_error.instance_path().as_str() == pointer
                && match branch_error.kind() {
                    ValidationErrorKind::Type { .. } => true,
                    ValidationErrorKind::Enum { .. } => !branch_error.instance().is_string(),
                    _ => false,
                }
        };
        let branch = context.iter().find(|errors| !errors.iter().any(at_root));
        match branch {
            Some(errors) => errors.iter().flat_map(|branch_error| self.problems(branch_error)).collect(),
            None => {
                let name = last_name(&pointer).unwrap_or("the file").to_string();
                let message = format!("`{name}` cannot be {}", value_in_words(error.instance()));
                vec![Problem::error("wrong-type", pointer, message)]
            }
        }
    }

    /// What a mapping is, for people: "the file", "rule `drift`", "`webhook`".
    fn owner(&self, pointer: &str) -> String {
        let name = self.document.value.pointer(&format!("{pointer}/name")).and_then(Value::as_str);
        match (last_name(pointer), name) {
            (None, _) => "the file".into(),
            (Some("rules"), Some(name)) => format!("rule `{name}`"),
            (Some("rules"), None) => "this rule".into(),
            (Some("routes"), _) => "this route".into(),
            (Some(key), _) => format!("`{key}`"),
        }
    }
}

fn bad_pattern(pattern: &str, pointer: String, text: &str) -> Problem {
    let (code, read) = match pattern == SHARE_PATTERN {
        true => ("bad-percentage", Share::parse(text).map(drop)),
        false => ("bad-duration", Span::parse(text).map(drop)),
    };
    let Err(message) = read else {
        return Problem::error("invalid", pointer, format!("`{text}` has not the form that is needed"));
    };
    let (message, help) = match message.split_once("; ") {
        Some((message, help)) => (message.to_string(), Some(help.to_string())),
        None => (message, None),
    };
    Problem::error(code, pointer, message).help_if(help)
}

/// The last component that is a name, not an index.
fn last_name(pointer: &str) -> Option<&str> {
    pointer.rsplit('/').find(|part| !part.is_empty() && part.parse::<usize>().is_err())
}

fn suggest_present<'a>(missing: &str, present: &[&'a str]) -> Option<&'a str> {
    super::nearest::nearest(missing, present.iter().copied())
}

/// Habits of other tools, and of YAML 1.1.
fn habit(key: &str, known: &[String]) -> Option<&'static str> {
    let hint = match key {
        "expr" | "expression" | "condition" | "threshold" => {
            ("when", "write `when: {warn: psi > 0.1, critical: psi > 0.25}`")
        }
        "alert" | "id" | "title" => ("name", "the key is `name`"),
        "annotations" => ("when", "a rule has no annotations; the alert says what it found"),
        "severity" | "team" if known.iter().any(|name| name == "min_coverage") => {
            ("min_coverage", "`labels` are those of predictions; routes match severity, model and rule")
        }
        "severity" => ("when", "severities are the keys of `when`: `when: {warn: ..., critical: ...}`"),
        "on" | "true" | "metric" | "column" => {
            ("signal", "the key is `signal`; YAML 1.1 readers take a bare `on` for true")
        }
        "keep_firing_for" | "resolve" => ("recover", "the key is `recover`: `recover: psi < 0.08`"),
        "groups" => ("rules", "rules stand in one list: `rules:`"),
        "receiver" => ("to", "the key is `to`, a list of receivers' names"),
        "matchers" | "match_re" => ("match", "the key is `match`: `match: {severity: critical}`"),
        _ => return None,
    };
    known.iter().any(|name| name == hint.0).then_some(hint.1)
}

fn in_words(kind: &str) -> &str {
    match kind {
        "integer" => "a whole number",
        "number" => "a number",
        "string" => "text",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a mapping of keys",
        _ => "of another type",
    }
}

fn value_in_words(value: &Value) -> String {
    match value {
        Value::Null => "empty".into(),
        Value::Bool(boolean) => format!("{boolean}"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) if text.chars().count() <= 40 => format!("the text `{text}`"),
        Value::String(_) => "a text".into(),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "a mapping of keys".into(),
    }
}

/// Where in the file a part of a text value stands: `within` counts from the start of the value, the file may
/// have quotes around it, or fold it over several lines. White space is what folding changes, so places are found
/// by counting the rest.
pub fn inside(text: &str, place: &Range<usize>, value: &str, within: &Range<usize>) -> Range<usize> {
    let written = text.get(place.clone()).unwrap_or_default();
    let solid = |text: &str| text.chars().filter(|c| !c.is_whitespace()).count();
    let quotes = usize::from(written.starts_with(['"', '\'']));
    if solid(written) != solid(value) + 2 * quotes {
        return place.clone();
    }
    let byte_after = |solid_before: usize| {
        let mut solids = written.char_indices().filter(|(_, c)| !c.is_whitespace());
        solids.nth(solid_before + quotes).map_or(written.len(), |(offset, _)| offset)
    };
    let start = byte_after(solid(value.get(..within.start).unwrap_or_default()));
    let length = within.end.saturating_sub(within.start);
    let end_of_value = written.trim_end().len() - quotes;
    let start = start.min(end_of_value);
    place.start + start..place.start + (start + length).min(end_of_value.max(start))
}
