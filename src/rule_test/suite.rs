//! A file of tests with the rules and models that it is about.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::diagnostic::{Diagnostics, Level, Problem};
use crate::config::load::{Loaded, Outcome, open_model, open_rules};
use crate::config::model::Model;
use crate::config::rule_test_checks::against;
use crate::config::rule_tests::{RuleTestFile, TEST_FILE_ENDING};
use crate::config::rules::RuleFile;
use crate::rules::RuleSet;
use crate::rules::checks::model_problems;
use crate::rules::compile::string_problems;

/// Everything that the tests of a file need. Valid: no error was found in any of its files.
#[derive(Debug, Clone)]
pub struct Suite {
    /// As the user knows the file.
    pub name: String,
    /// Paths in the file start here.
    pub folder: PathBuf,
    pub file: RuleTestFile,
    pub rules: Vec<RuleFile>,
    /// Empty where none is known: then a test's model is made of the features that it names.
    pub models: Vec<Arc<Model>>,
    pub warnings: Diagnostics,
}

/// Where a file of tests stands, for the paths in it.
pub struct Origin<'a> {
    /// In messages.
    pub name: &'a str,
    /// `None`: it came from standard input, and paths start in the working directory.
    pub path: Option<&'a Path>,
    /// Models of the service, where the file names none.
    pub service_models: &'a [Arc<Model>],
}

impl Suite {
    /// Reads rules and models of the tests in `outcome` and checks all of it against each other.
    pub fn of(outcome: Outcome<RuleTestFile>, origin: &Origin<'_>) -> Result<Self, Diagnostics> {
        let mut found = outcome.found;
        let Some(loaded) = outcome.loaded else { return Err(found) };
        let folder = origin.path.and_then(Path::parent).unwrap_or(Path::new("")).to_path_buf();
        let (mut reader, file) = (Reader { found: Diagnostics::default(), tests: &loaded }, &loaded.value);
        let rules = reader.rules(origin.path, &folder);
        let models = match file.models.is_empty() {
            true => origin.service_models.to_vec(),
            false => reader.models(&folder),
        };
        let is_whole = reader.found.errors() == 0;
        found.extend(reader.found);
        let contents: Vec<&RuleFile> = rules.iter().map(|rules| &rules.value).collect();
        // What could not be read would seem unknown.
        if is_whole {
            let known: Vec<&Model> = models.iter().map(AsRef::as_ref).collect();
            against(file, &known, &contents).into_iter().for_each(|problem| found.push(loaded.locate(problem)));
            for problem in rule_problems(&contents, &models) {
                found.push(rules[problem.file].locate(problem.problem));
            }
        }
        found.sort();
        if found.errors() > 0 {
            return Err(found);
        }
        Ok(Self {
            name: origin.name.to_string(),
            folder,
            file: loaded.value,
            rules: rules.into_iter().map(|rules| rules.value).collect(),
            models,
            warnings: found,
        })
    }
}

/// Errors that keep rules from being tried at all. What is doubtful, or about models that the tests are not about, is the
/// business of `check`.
fn rule_problems(rules: &[&RuleFile], models: &[Arc<Model>]) -> Vec<crate::rules::compile::FileProblem> {
    let (_, problems) = RuleSet::analyse(rules, models);
    let counts = |problem: &Problem| {
        problem.level == Level::Error
            && !["unknown-model", "no-route"].contains(&problem.code)
            && (!models.is_empty() || is_of_text(problem))
    };
    problems.into_iter().filter(|found| counts(&found.problem)).collect()
}

/// Whether the mistake is in the words of the rule, whatever model it is about.
fn is_of_text(problem: &Problem) -> bool {
    ["expression", "bad-for", "bad-reference", "duplicate-rule", "unknown-receiver", "unknown-action"]
        .contains(&problem.code)
}

struct Reader<'t> {
    found: Diagnostics,
    tests: &'t Loaded<RuleTestFile>,
}

impl Reader<'_> {
    fn rules(&mut self, path: Option<&Path>, folder: &Path) -> Vec<Loaded<RuleFile>> {
        let file = &self.tests.value;
        if path.is_none() && file.rules.is_empty() {
            let problem = Problem::error("no-file", "", "standard input has no rules file beside it");
            self.found.push(self.tests.locate(problem.help("name it: `rules: [rules/starter.yaml]`")));
            return Vec::new();
        }
        let beside = path.unwrap_or(Path::new(""));
        let mut rules = Vec::new();
        for (index, path) in file.rule_files(beside).iter().enumerate() {
            let pointer = if file.rules.is_empty() { String::new() } else { format!("/rules/{index}") };
            if self.is_there(path, pointer, folder, "rules") {
                let outcome = open_rules(path, &shown(path), string_problems);
                self.errors(outcome.found);
                rules.extend(outcome.loaded);
            }
        }
        rules
    }

    fn models(&mut self, folder: &Path) -> Vec<Arc<Model>> {
        let mut models = Vec::new();
        for (index, name) in self.tests.value.models.iter().enumerate() {
            let path = folder.join(name);
            if self.is_there(&path, format!("/models/{index}"), folder, "models") {
                let outcome = open_model(&path, &shown(&path), model_problems);
                self.errors(outcome.found);
                models.extend(outcome.loaded.map(|model| Arc::new(model.value)));
            }
        }
        models
    }

    fn errors(&mut self, found: Diagnostics) {
        found.items.into_iter().filter(|item| item.level == Level::Error).for_each(|item| self.found.push(item));
    }

    fn is_there(&mut self, path: &Path, pointer: String, folder: &Path, key: &str) -> bool {
        if path.is_file() {
            return true;
        }
        let message = format!("there is no file {}", shown(path));
        let help = match pointer.is_empty() {
            true => format!("name the {key} files under test: `{key}: [../{key}/starter.yaml]`"),
            false => {
                let folder = if folder == Path::new("") { "here".into() } else { format!("in {}", folder.display()) };
                format!("paths start {folder}, where the tests stand")
            }
        };
        self.found.push(self.tests.locate(Problem::error("no-file", pointer, message).help(help)));
        false
    }
}

/// A path as the user would write it.
fn shown(path: &Path) -> String {
    path.strip_prefix(".").unwrap_or(path).display().to_string()
}

/// Every file of tests in a folder and those below it, in order; hidden ones are passed over.
pub fn files_below(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            found.extend(files_below(&path)?);
        } else if name.ends_with(TEST_FILE_ENDING) {
            found.push(path);
        }
    }
    Ok(found)
}
