//! From a file to a value whose every part still knows its line.

use std::path::Path;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::diagnostic::{Diagnostic, Diagnostics, Level, Problem, Source};
use super::model::Model;
use super::rule_tests::RuleTestFile;
use super::rules::RuleFile;
use super::yaml::{self, Places};
use super::{meaning, rule_test_checks, schema};

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
            help: problem.help,
            source: self.source.clone(),
            span,
            show_source: problem.code != "literal-secret",
        }
    }
}

impl<T> Loaded<T> {
    /// The problem at its place in this file.
    pub fn locate(&self, problem: Problem) -> Diagnostic {
        self.file.locate(problem)
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
    parse(name, text, |_| Vec::new(), meaning::model).into_result()
}

/// `name` stands for the file in messages. Expressions are compiled by `rules::RuleSet`, not here.
pub fn parse_rules_str(name: &str, text: &str) -> Result<Loaded<RuleFile>, Diagnostics> {
    parse(name, text, |_| Vec::new(), meaning::rules).into_result()
}

/// What came of a file: its value wherever its shape is right, so that checks across files can go on, and
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
}

/// As `load_model`, keeping what can be kept; `more` checks what later stages know (the names of metrics).
pub fn open_model(path: &Path, name: &str, more: impl Fn(&Model) -> Vec<Problem>) -> Outcome<Model> {
    let meaning = |model: &Model| [meaning::model(model), more(model)].concat();
    match read(path) {
        Ok(text) => parse(name, &text, |_| Vec::new(), meaning),
        Err(found) => Outcome::failed(found),
    }
}

/// As `load_rules`, keeping what can be kept; `strings` checks texts (expressions) even where the shape is wrong.
pub fn open_rules(path: &Path, name: &str, strings: impl Fn(&Value) -> Vec<Problem>) -> Outcome<RuleFile> {
    match read(path) {
        Ok(text) => parse(name, &text, strings, meaning::rules),
        Err(found) => Outcome::failed(found),
    }
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

pub(super) fn read(path: &Path) -> Result<String, Diagnostics> {
    let name = path.display().to_string();
    let unreadable = |error: std::io::Error| Diagnostics::file(&name, "unreadable", format!("cannot read: {error}"));
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > MAX_FILE_BYTES {
        return Err(Diagnostics::file(&name, "too-large", format!("{size} bytes; at most {MAX_FILE_BYTES}")));
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

/// All layers. Problems of the tree, of its shape and (where the shape is right) of its meaning come together.
pub fn parse<T: DeserializeOwned + JsonSchema>(
    name: &str,
    text: &str,
    strings: impl Fn(&Value) -> Vec<Problem>,
    meaning: impl Fn(&T) -> Vec<Problem>,
) -> Outcome<T> {
    let source = Arc::new(Source { name: name.to_string(), text: text.to_string() });
    let mut found = Diagnostics::default();
    let (document, tree_problems) = match yaml::parse(text) {
        Ok(parsed) => parsed,
        Err(error) => {
            found.push(Diagnostic {
                level: Level::Error,
                code: "yaml",
                message: error.message,
                help: error.help,
                source,
                span: Some(error.at),
                show_source: true,
            });
            return Outcome::failed(found);
        }
    };
    let shape_problems = schema::violations(&schema::of::<T>(), &document, text);
    let file = Located { source, places: document.places, json: document.value };
    for (span, problem) in tree_problems {
        found.push(Diagnostic { span: Some(span), ..file.locate(problem) });
    }
    let shape_is_right = shape_problems.is_empty();
    for problem in shape_problems.into_iter().chain(strings(&file.json)) {
        found.push(file.locate(problem));
    }
    let mut loaded = None;
    match shape_is_right.then(|| serde_json::from_value::<T>(file.json.clone())) {
        Some(Ok(value)) => {
            meaning(&value).into_iter().for_each(|problem| found.push(file.locate(problem)));
            loaded = Some(Loaded { value, warnings: Diagnostics::default(), file });
        }
        Some(Err(error)) => found.push(file.locate(Problem::error("invalid", "", error.to_string()))),
        None => {}
    }
    found.sort();
    Outcome { loaded, found }
}
