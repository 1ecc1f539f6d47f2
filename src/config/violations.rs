//! What of a file breaks its schema, in words people use, with what to type instead.
//!
//! One mistake is one message: a misspelt key that is needed is not reported as missing, too.

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use serde_json::Value;

use super::diagnostic::Problem;
use super::habits::{habit, shorthand};
use super::nearest::{nearest, suggest};
use super::units::{DURATION_PATTERN, SHARE_PATTERN, Share, Span};
use super::yaml::{Document, child};

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

impl Reader<'_> {
    fn problems(&self, error: &ValidationError<'_>) -> Vec<Problem> {
        let pointer = error.instance_path().as_str().to_string();
        match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                unexpected.iter().map(|key| self.unknown_key(error, &pointer, key)).collect()
            }
            ValidationErrorKind::Required { property } => {
                self.missing_key(error, pointer, property.as_str().unwrap_or_default()).into_iter().collect()
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
                let (needed, found) =
                    (count(*limit, "value"), if found == 0 { "none".into() } else { found.to_string() });
                vec![
                    Problem::error("out-of-range", pointer, format!("{needed} are needed here, not {found}"))
                        .help(format!("write {needed}")),
                ]
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

    /// `None` where an unknown key beside it was meant to be this one: that one's message says so.
    fn missing_key(&self, error: &ValidationError<'_>, pointer: String, key: &str) -> Option<Problem> {
        let known = self.known_keys(error.schema_path().as_str());
        let meant = |present: &&str| {
            !known.iter().any(|name| name == present) && meant(present, &known).is_some_and(|meant| meant == key)
        };
        if self.keys_at(&pointer).iter().any(meant) {
            return None;
        }
        let message = format!("{} has no `{key}`", self.owner(&pointer));
        Some(Problem::error("missing-key", pointer, message).key().help(format!("add `{key}:`")))
    }

    fn unknown_key(&self, error: &ValidationError<'_>, pointer: &str, key: &str) -> Problem {
        let known = self.known_keys(error.schema_path().as_str());
        let help = habit(key, &known)
            .map(|habit| habit.help.to_string())
            .or_else(|| self.misplaced(error, pointer, key))
            .or_else(|| suggest(key, known.iter().map(String::as_str)));
        let message = format!("unknown key `{key}` in {}", self.owner(pointer));
        Problem::error("unknown-key", child(pointer, key), message).key().help_if(help)
    }

    /// Where a key belongs that is none here: in a mapping beside it, or further out.
    fn misplaced(&self, error: &ValidationError<'_>, pointer: &str, key: &str) -> Option<String> {
        let parent = parent_of(error.schema_path().as_str());
        let beside = self.schema.pointer(&format!("{parent}/properties")).and_then(Value::as_object);
        let takes = |node: &&Value| node.pointer("/properties").is_some_and(|keys| keys.get(key).is_some());
        let within = |node: &&Value| self.branches(node).iter().any(takes);
        let owners: Vec<&String> =
            beside.into_iter().flatten().filter(|(_, node)| within(node)).map(|(name, _)| name).collect();
        match owners.as_slice() {
            [] => {}
            [owner] => return Some(format!("`{key}` stands under `{owner}`: `{owner}: {{{key}: ...}}`")),
            many => {
                let names: Vec<String> = many.iter().map(|name| format!("`{name}`")).collect();
                return Some(format!("`{key}` stands under {}", names.join(", ")));
            }
        }
        let mut outer = pointer;
        while let Some((parent, _)) = outer.rsplit_once('/') {
            outer = parent;
            let takes = |node: &&Value| node.pointer("/properties").is_some_and(|keys| keys.get(key).is_some());
            if self.schemas_at(outer).iter().any(takes) {
                return Some(match outer.is_empty() {
                    true => format!("`{key}` stands at the top of the file"),
                    false => format!("`{key}` belongs to {}: move it out", self.owner(outer)),
                });
            }
        }
        None
    }

    fn resolve<'v>(&'v self, node: &'v Value) -> &'v Value {
        let target = node.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
        target.and_then(|pointer| self.schema.pointer(pointer)).unwrap_or(node)
    }

    /// Every schema that applies to the value at `pointer`.
    fn schemas_at(&self, pointer: &str) -> Vec<&Value> {
        let mut nodes = vec![self.schema];
        for part in pointer.split('/').skip(1) {
            let mut next = Vec::new();
            for node in nodes.iter().flat_map(|node| self.branches(node)) {
                let key = part.replace("~1", "/").replace("~0", "~");
                let property = node.get("properties").and_then(|properties| properties.get(&key));
                let other = || node.get("additionalProperties").filter(|other| other.is_object());
                let item = || node.get("items").filter(|_| part.parse::<usize>().is_ok());
                next.extend(property.or_else(other).or_else(item));
            }
            nodes = next;
        }
        nodes.iter().flat_map(|node| self.branches(node)).collect()
    }

    /// The node itself, or what it may be instead.
    fn branches<'v>(&'v self, node: &'v Value) -> Vec<&'v Value> {
        let node = self.resolve(node);
        let alternatives = ["anyOf", "oneOf"].into_iter().find_map(|word| node.get(word)).and_then(Value::as_array);
        match alternatives {
            Some(alternatives) => alternatives.iter().map(|node| self.resolve(node)).collect(),
            None => vec![node],
        }
    }

    /// Keys that the schema allows where an `additionalProperties` or `required` failed.
    fn known_keys(&self, schema_path: &str) -> Vec<String> {
        let properties = self.schema.pointer(&format!("{}/properties", parent_of(schema_path)));
        let properties = properties.and_then(Value::as_object);
        properties.map(|properties| properties.keys().cloned().collect()).unwrap_or_default()
    }

    fn keys_at(&self, pointer: &str) -> Vec<&str> {
        let object = self.document.value.pointer(pointer).and_then(Value::as_object);
        object.map(|object| object.keys().map(String::as_str).collect()).unwrap_or_default()
    }

    fn wrong_type(&self, error: &ValidationError<'_>, pointer: String) -> Problem {
        let instance = error.instance();
        let expected = match error.kind() {
            ValidationErrorKind::Type { kind: TypeKind::Single(kind) } => kind.to_string(),
            _ => String::new(),
        };
        let name = last_name(&pointer).unwrap_or("the file").to_string();
        let node = self.schema.pointer(parent_of(error.schema_path().as_str()));
        if instance.is_string() && node.is_some_and(is_secret) {
            let message = format!("`{name}` holds the secret itself");
            return Problem::error("literal-secret", pointer, message).help(LITERAL_SECRET);
        }
        if instance.is_null() {
            let message = format!("`{name}` has no value");
            return Problem::error("no-value", pointer, message).help("give it one, or leave the key out").key();
        }
        let help = self.type_help(&expected, instance, &pointer, node);
        let message = format!("{} must be {}, not {}", named(&pointer), in_words(&expected), value_in_words(instance));
        Problem::error("wrong-type", pointer, message).help_if(help)
    }

    /// What to write instead of a value of the wrong type.
    fn type_help(&self, expected: &str, instance: &Value, pointer: &str, node: Option<&Value>) -> Option<String> {
        let pattern = node.and_then(|node| node.get("pattern")).and_then(Value::as_str);
        let written = || self.document.places.value(pointer).and_then(|range| self.text.get(range)).map(str::trim_end);
        match (expected, instance) {
            ("integer" | "number", Value::String(text)) => {
                let plain = text.replace(['_', ','], "");
                plain.parse::<f64>().ok().map(|_| format!("write {plain}, without quotes or separators"))
            }
            ("integer", Value::Number(number)) => {
                number.as_f64().map(|number| format!("write {}", number.round().clamp(0.0, 1e15)))
            }
            ("boolean", Value::String(text)) => match text.to_lowercase().as_str() {
                "yes" | "on" | "true" => Some("write `true`".to_string()),
                "no" | "off" | "false" => Some("write `false`".to_string()),
                _ => None,
            },
            ("string", Value::Number(number)) if pattern == Some(SHARE_PATTERN) => {
                let number = number.as_f64().unwrap_or_default();
                let percent = if (0.0..=1.0).contains(&number) { (number * 1e4).round() / 100.0 } else { number };
                Some(format!("write a percentage: `{percent}%`"))
            }
            ("string", Value::Number(number)) if pattern == Some(DURATION_PATTERN) => {
                Some(format!("a duration has a unit: `{number}s`, `{number}m` or `{number}h`"))
            }
            ("string", Value::Number(_) | Value::Bool(_)) => {
                written().map(|written| format!("put it in quotes: \"{written}\""))
            }
            ("array", Value::String(text)) => Some(format!("write a list: [{text}]")),
            ("array", Value::Object(_)) => Some("begin each entry with `- `".to_string()),
            ("object", Value::String(text)) => shorthand(last_name(pointer)?, text),
            ("object", Value::Array(_)) => Some("write `key: value` pairs, without `- ` before them".to_string()),
            _ => None,
        }
    }

    fn not_an_option(&self, error: &ValidationError<'_>, pointer: String, options: &Value) -> Problem {
        let options: Vec<&str> = options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let listed: Vec<String> = options.iter().map(|option| format!("`{option}`")).collect();
        let name = last_name(&pointer).unwrap_or("the value").to_string();
        if error.instance().is_null() {
            return Problem::error("no-value", pointer, format!("`{name}` has no value"))
                .help(format!("write one of {}", listed.join(", ")))
                .key();
        }
        let written = error.instance().as_str().map_or_else(|| error.instance().to_string(), str::to_string);
        let begins = || options.iter().copied().find(|option| written.len() >= 3 && option.starts_with(&written));
        let is_not = match options.len() {
            1 => format!("`{written}` is not the one value of `{name}`"),
            _ => format!("`{written}` is not one of the values of `{name}`"),
        };
        let help =
            match nearest(&written, options.iter().copied()).or_else(|| synonym(&written, &options)).or_else(begins) {
                Some(option) => format!("did you mean `{option}`?"),
                None => format!("write {}", one_of(&options)),
            };
        Problem::error("unknown-value", pointer, format!("{is_not}: {}", listed.join(", "))).help(help)
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
        if let Some(errors) = branch {
            return errors.iter().flat_map(|branch_error| self.problems(branch_error)).collect();
        }
        let name = last_name(&pointer).unwrap_or("the file").to_string();
        let instance = error.instance();
        if instance.is_null() {
            let problem = Problem::error("no-value", pointer, format!("`{name}` has no value"));
            return vec![problem.help("give it one, or leave the key out").key()];
        }
        let alternatives = self.schema.pointer(error.schema_path().as_str()).and_then(Value::as_array);
        let mut forms: Vec<String> = Vec::new();
        for branch in alternatives.into_iter().flatten() {
            let branch = self.resolve(branch);
            let kind = match branch.get("enum").and_then(Value::as_array) {
                Some(options) => one_of(&options.iter().filter_map(Value::as_str).collect::<Vec<_>>()),
                None => branch.get("type").and_then(Value::as_str).map_or("another value", in_words).to_string(),
            };
            if !forms.contains(&kind) {
                forms.push(kind);
            }
        }
        let forms_in_words = match forms.as_slice() {
            [rest @ .., last] if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            _ => forms.join(""),
        };
        let message = format!("{} must be {forms_in_words}, not {}", named(&pointer), value_in_words(instance));
        let written = self.document.places.value(&pointer).and_then(|range| self.text.get(range)).map(str::trim_end);
        let is_plain = (instance.is_number() || instance.is_boolean()) && forms.iter().any(|form| form == "text");
        let quoted = written.filter(|_| is_plain).map(|written| format!("put it in quotes: \"{written}\""));
        let known_words = alternatives.into_iter().flatten().find_map(|branch| self.resolve(branch).get("enum"));
        let words = known_words.and_then(Value::as_array).map(|words| {
            let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
            format!("write {}", one_of(&words))
        });
        vec![Problem::error("wrong-type", pointer, message).help_if(words.or(quoted))]
    }

    /// What a mapping is, for people: "the file", "rule `drift`", "`webhook`".
    fn owner(&self, pointer: &str) -> String {
        let name = self.document.value.pointer(&format!("{pointer}/name")).and_then(Value::as_str);
        let is_item = pointer.rsplit('/').next().is_some_and(|part| part.parse::<usize>().is_ok());
        let singular = |list: &str| match list {
            "rules" => Some("rule"),
            "routes" => Some("route"),
            "silences" => Some("silence"),
            "inhibit" => Some("inhibition"),
            "tests" => Some("test"),
            "windows" => Some("window"),
            "expect" => Some("expectation"),
            _ => None,
        };
        match (last_name(pointer), name) {
            (None, _) => "the file".into(),
            (Some(list), name) if is_item => match (singular(list), name) {
                (Some(what), Some(name)) => format!("{what} `{name}`"),
                (Some(what), None) => format!("this {what}"),
                (None, _) => format!("an entry of `{list}`"),
            },
            (Some(key), _) => format!("`{key}`"),
        }
    }
}

pub(super) const LITERAL_SECRET: &str =
    "write `{env: NAME}` or `{file: PATH}`, and change the secret if this file was ever shared";

/// The schema of `{env: NAME}` or `{file: PATH}`.
fn is_secret(node: &Value) -> bool {
    let keys = node.get("properties").and_then(Value::as_object);
    keys.is_some_and(|keys| keys.len() == 2 && keys.contains_key("env") && keys.contains_key("file"))
}

fn parent_of(schema_path: &str) -> &str {
    schema_path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// The key of `known` that was meant by `key`.
fn meant<'a>(key: &str, known: &'a [String]) -> Option<&'a str> {
    match habit(key, known) {
        Some(habit) => known.iter().map(String::as_str).find(|name| *name == habit.meant),
        None => nearest(key, known.iter().map(String::as_str)),
    }
}

/// Words of other tools for the values of Driftline.
fn synonym<'a>(written: &str, options: &[&'a str]) -> Option<&'a str> {
    let meant = match written.to_lowercase().as_str() {
        "warning" | "minor" | "low" => "warn",
        "page" | "error" | "fatal" | "major" | "high" | "crit" => "critical",
        "float" | "double" | "number" | "int" | "integer" | "real" | "numerical" => "numeric",
        "string" | "text" | "category" | "bool" | "boolean" | "enum" | "str" => "categorical",
        "embedding" | "array" | "list" => "vector",
        "bh" | "fdr" | "fdr_bh" => "benjamini-hochberg",
        "drop" | "reject" => "dead_letter",
        _ => return None,
    };
    options.iter().copied().find(|option| *option == meant)
}

fn one_of(options: &[&str]) -> String {
    match options {
        [] => "another value".to_string(),
        [only] => format!("`{only}`"),
        [rest @ .., last] => {
            let rest: Vec<String> = rest.iter().map(|option| format!("`{option}`")).collect();
            format!("{} or `{last}`", rest.join(", "))
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

/// A value as messages begin with it.
fn named(pointer: &str) -> String {
    last_name(pointer).map_or("the file".to_string(), |name| format!("`{name}`"))
}

/// The last component that is a name, not an index.
fn last_name(pointer: &str) -> Option<&str> {
    pointer.rsplit('/').find(|part| !part.is_empty() && part.parse::<usize>().is_err())
}

fn count(number: u64, word: &str) -> String {
    if number == 1 { format!("1 {word}") } else { format!("{number} {word}s") }
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
