//! From a file to a value whose every part still knows its line.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::diagnostic::{Diagnostic, Diagnostics, Level, Problem, Source};
use super::model::Model;
use super::prune::Pruned;
use super::rule_tests::RuleTestFile;
use super::rules::RuleFile;
use super::yaml::{self, Places};
use super::{codes, literals, meaning, rule_test_checks, schema};

/// A valid file. Its warnings stand beside it; errors would have prevented it.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    pub value: T,
    pub warnings: Diagnostics,
    file: Located,
}

/// A file's text and the places of its values.
#[derive(Debug, Clone)]
struct Located {
    source: Arc<Source>,
    places: Places,
    json: Value,
    pruned: Pruned,
}

impl Located {
    fn locate(&self, problem: Problem) -> Diagnostic {
        let whole = match problem.at_key {
            true => self.places.key(&problem.pointer),
            false => self.places.value(&problem.pointer),
        };
        let value = self.json.pointer(&problem.pointer).and_then(Value::as_str);
        let span = match (whole, &problem.within, value) {
            (Some(place), Some(within), Some(value)) => Some(schema::inside(&self.source.text, &place, value, within)),
            (whole, _, _) => whole,
        };
        Diagnostic {
            level: problem.level,
            code: problem.code,
            message: problem.message,
            help: problem.help.or_else(|| codes::remedy(problem.code).map(str::to_string)),
            source: self.source.clone(),
            span,
            show_source: problem.code != "literal-secret",
        }
    }
}

impl<T> Loaded<T> {
    /// The problem at its place in this file.
    pub fn locate(&self, problem: Problem) -> Diagnostic {
        let pointer = self.file.pruned.original(&problem.pointer);
        self.file.locate(Problem { pointer, ..problem })
    }

    /// False where parts of the file were left out because their shape is wrong.
    pub fn is_whole(&self) -> bool {
        self.file.pruned.is_whole()
    }

    /// Whether the problem is about an item of which parts were left out: it may come of that alone.
    pub fn is_damaged(&self, problem: &Problem) -> bool {
        let is_emptied = problem.code == "empty-list" && self.lost(&format!("{}/", problem.pointer));
        is_emptied || self.file.pruned.is_damaged(&problem.pointer)
    }

    /// Line, from 1, of the value that the file has at `pointer`.
    pub fn line(&self, pointer: &str) -> Option<usize> {
        self.file.json.pointer(pointer)?;
        Some(self.file.locate(Problem::error("", pointer, "").key()).position().0)
    }

    /// Whether a part below `prefix` (`/routes`) was left out.
    pub fn lost(&self, prefix: &str) -> bool {
        self.file.pruned.lost(prefix)
    }

    pub fn name(&self) -> &str {
        &self.file.source.name
    }
}

pub fn load_model(path: &Path) -> Result<Loaded<Model>, Diagnostics> {
    read(path).map_or_else(Err, |text| parse_model_str(&path.display().to_string(), &text))
}

pub fn load_rules(path: &Path) -> Result<Loaded<RuleFile>, Diagnostics> {
    read(path).map_or_else(Err, |text| parse_rules_str(&path.display().to_string(), &text))
}

/// `name` stands for the file in messages. Expressions are compiled by `rules::RuleSet`, not here.
pub fn parse_model_str(name: &str, text: &str) -> Result<Loaded<Model>, Diagnostics> {
    parse_prepared(name, text, |_| Vec::new(), fill_format, meaning::model).into_result()
}

/// `name` stands for the file in messages. Expressions are compiled by `rules::RuleSet`, not here.
pub fn parse_rules_str(name: &str, text: &str) -> Result<Loaded<RuleFile>, Diagnostics> {
    parse(name, text, |_| Vec::new(), meaning::rules).into_result()
}

/// What came of a file: its value without the parts whose shape is wrong, so that checks across files can go on, and
/// everything found so far.
#[derive(Debug, Clone)]
pub struct Outcome<T> {
    pub loaded: Option<Loaded<T>>,
    pub found: Diagnostics,
}

impl<T> Outcome<T> {
    pub fn into_result(self) -> Result<Loaded<T>, Diagnostics> {
        match self.loaded {
            Some(loaded) if self.found.errors() == 0 => Ok(Loaded { warnings: self.found, ..loaded }),
            _ => Err(self.found),
        }
    }

    fn failed(found: Diagnostics) -> Self {
        Self { loaded: None, found }
    }

    /// Nothing of the file is left out.
    pub fn is_whole(&self) -> bool {
        self.loaded.as_ref().is_some_and(Loaded::is_whole)
    }
}

/// As `load_model`, keeping what can be kept; `more` checks what later stages know (the names of metrics).
pub fn open_model(path: &Path, name: &str, more: impl Fn(&Model) -> Vec<Problem>) -> Outcome<Model> {
    match read(path) {
        Ok(text) => open_model_str(name, &text, more),
        Err(found) => Outcome::failed(found),
    }
}

/// As `open_model`, of a text at hand.
pub fn open_model_str(name: &str, text: &str, more: impl Fn(&Model) -> Vec<Problem>) -> Outcome<Model> {
    let meaning = |model: &Model| [meaning::model(model), more(model)].concat();
    parse_prepared(name, text, |_| Vec::new(), fill_format, meaning)
}

/// As `load_rules`, keeping what can be kept; `strings` checks texts (expressions) even where the shape is wrong.
pub fn open_rules(path: &Path, name: &str, strings: impl Fn(&Value) -> Vec<Problem>) -> Outcome<RuleFile> {
    match read(path) {
        Ok(text) => open_rules_str(name, &text, strings),
        Err(found) => Outcome::failed(found),
    }
}

/// As `open_rules`, of a text at hand.
pub fn open_rules_str(name: &str, text: &str, strings: impl Fn(&Value) -> Vec<Problem>) -> Outcome<RuleFile> {
    parse(name, text, strings, meaning::rules)
}

/// Tests of rules; what they are about is not looked at (`rule_test_checks::against`).
pub fn parse_rule_tests(name: &str, text: &str) -> Outcome<RuleTestFile> {
    parse(name, text, |_| Vec::new(), rule_test_checks::file)
}

/// As `parse_rule_tests`, from a file.
pub fn open_rule_tests(path: &Path, name: &str) -> Outcome<RuleTestFile> {
    match read(path) {
        Ok(text) => parse_rule_tests(name, &text),
        Err(found) => Outcome::failed(found),
    }
}

/// Larger files are not configuration.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// The text of a file; `-`: of standard input.
pub fn read(path: &Path) -> Result<String, Diagnostics> {
    let name = shown(path);
    let unreadable = |error: std::io::Error| Diagnostics::file(&name, "unreadable", format!("cannot read: {error}"));
    let mut bytes = Vec::new();
    let limit = MAX_FILE_BYTES + 1;
    let read = match path == Path::new(STDIN) {
        true => std::io::stdin().lock().take(limit).read_to_end(&mut bytes),
        false => std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)),
    };
    read.map_err(unreadable)?;
    decode(&name, bytes)
}

/// Stands for standard input among file names.
pub const STDIN: &str = "-";

/// A path as messages name it.
pub fn shown(path: &Path) -> String {
    match path == Path::new(STDIN) {
        true => "stdin".to_string(),
        false => path.strip_prefix(".").unwrap_or(path).display().to_string(),
    }
}

/// Text of UTF-8; where it is none, the place of the first byte that is wrong.
fn decode(name: &str, bytes: Vec<u8>) -> Result<String, Diagnostics> {
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let message = format!("more than {} MiB: this is no configuration", MAX_FILE_BYTES >> 20);
        return Err(Diagnostics::file(name, "too-large", message));
    }
    let error = match String::from_utf8(bytes) {
        Ok(text) => return Ok(text),
        Err(error) => error,
    };
    let start = error.utf8_error().valid_up_to();
    let bytes = error.into_bytes();
    let message = match bytes.as_slice() {
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => "the file is UTF-16".to_string(),
        _ => format!("byte 0x{:02X} is not UTF-8", bytes.get(start).copied().unwrap_or_default()),
    };
    let source = Arc::new(Source::new(name, String::from_utf8_lossy(&bytes)));
    let diagnostic = Diagnostic {
        level: Level::Error,
        code: "not-utf8",
        message,
        help: Some("save the file as UTF-8".into()),
        source,
        span: Some(start..start + 1),
        show_source: false,
    };
    Err(Diagnostics { items: vec![diagnostic] })
}

/// The fields of a format whose names are given.
fn fill_format(model: &mut Value) {
    if model.get("format").and_then(Value::as_str) != Some("prediction_event") {
        return;
    }
    let Some(model) = model.as_object_mut() else { return };
    let fields = model.entry("fields").or_insert_with(|| Value::Object(serde_json::Map::new()));
    if let Some(fields) = fields.as_object_mut() {
        for name in ["model", "version", "prediction_id"] {
            fields.entry(name).or_insert_with(|| name.into());
        }
    }
}

/// All layers. Problems of the tree, of its shape and of the meaning of everything whose shape is right come together.
pub fn parse<T: DeserializeOwned + JsonSchema>(
    name: &str,
    text: &str,
    strings: impl Fn(&Value) -> Vec<Problem>,
    meaning: impl Fn(&T) -> Vec<Problem>,
) -> Outcome<T> {
    parse_prepared(name, text, strings, |_| {}, meaning)
}

/// As `parse`; `prepare` fills in what follows from other keys before the value is made.
fn parse_prepared<T: DeserializeOwned + JsonSchema>(
    name: &str,
    text: &str,
    strings: impl Fn(&Value) -> Vec<Problem>,
    prepare: impl Fn(&mut Value),
    meaning: impl Fn(&T) -> Vec<Problem>,
) -> Outcome<T> {
    let source = Arc::new(Source::new(name, text));
    let (document, tree_problems) = match yaml::parse(text) {
        Ok(parsed) => parsed,
        Err(errors) => return Outcome::failed(syntax(&source, errors)),
    };
    let schema = schema::of::<T>();
    let shape_problems = schema::violations(&schema, &document, text);
    let pruned = match shape_problems.is_empty() {
        true => Some(Pruned::whole(document.value.clone())),
        false => {
            let value = with_a_version(&schema, document.value.clone());
            jsonschema::validator_for(&schema).ok().and_then(|schema| Pruned::of(&schema, &value))
        }
    };
    let mut found = Diagnostics::default();
    let pruned_value = pruned.as_ref().map(|pruned| pruned.value.clone());
    let file = Located { source, places: document.places, json: document.value, pruned: pruned.unwrap_or_default() };
    for (span, problem) in tree_problems {
        found.push(Diagnostic { span: Some(span), ..file.locate(problem) });
    }
    let texts = [strings(&file.json), literals::problems(&file.json)].concat();
    for problem in shape_problems.into_iter().chain(texts) {
        found.push(file.locate(problem));
    }
    let mut loaded = None;
    let prepared = pruned_value.map(|mut value| {
        prepare(&mut value);
        value
    });
    match prepared.map(serde_json::from_value::<T>) {
        Some(Ok(value)) => {
            let problems = meaning(&value);
            let file = Loaded { value, warnings: Diagnostics::default(), file };
            for problem in problems.into_iter().filter(|problem| !file.is_damaged(problem)) {
                found.push(file.locate(problem));
            }
            loaded = Some(file);
        }
        // What was left out was needed: its own errors say enough.
        Some(Err(_)) if !file.pruned.is_whole() => {}
        Some(Err(error)) => found.push(file.locate(Problem::error("invalid", "", error.to_string()))),
        None => {}
    }
    found.sort();
    if found.items.len() > MAX_FINDINGS {
        let message = format!("{} findings; the first {MAX_FINDINGS} are shown", found.items.len());
        found.items.truncate(MAX_FINDINGS);
        found.extend(Diagnostics::file(name, "too-many", message));
    }
    Outcome { loaded, found }
}

/// A file whose version is missing or no number, which is told, is checked further as one of version 1.
fn with_a_version(schema: &Value, mut value: Value) -> Value {
    let has_one = schema.pointer("/properties/version").is_some();
    if let Some(file) = value.as_object_mut().filter(|file| has_one && !file.get("version").is_some_and(Value::is_u64))
    {
        file.insert("version".into(), 1.into());
    }
    value
}

/// Findings of one file that are shown; nobody mends more at once.
const MAX_FINDINGS: usize = 200;

fn syntax(source: &Arc<Source>, errors: Vec<yaml::SyntaxError>) -> Diagnostics {
    let diagnostic = |error: yaml::SyntaxError| Diagnostic {
        level: Level::Error,
        code: "yaml",
        message: error.message,
        help: error.help,
        source: source.clone(),
        span: Some(error.at),
        show_source: true,
    };
    let mut found = Diagnostics { items: errors.into_iter().map(diagnostic).collect() };
    found.sort();
    found
}
