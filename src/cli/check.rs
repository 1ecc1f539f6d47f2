//! `driftline check`: everything wrong with a service, its models and rules, in one pass.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use crate::config::diagnostic::{Diagnostics, Level, Problem};
use crate::config::load::{Loaded, Outcome, open_model, open_rule_tests, open_rules, parse};
use crate::config::model::Model;
use crate::config::rule_test_checks::against;
use crate::config::rule_tests::RuleTestFile;
use crate::config::rules::RuleFile;
use crate::config::service::Service;
use crate::config::{layers, meaning};
use crate::reference::{ReferenceStore, StoreError};
use crate::rule_test::suite::{Origin, Suite};
use crate::rules::checks::model_problems;
use crate::rules::compile::{DEFAULT_REFERENCE, string_problems};
use crate::rules::{RuleSet, Workspace};

/// Exit codes of every subcommand.
pub const OK: u8 = 0;
pub const FAILED: u8 = 1;
pub const WARNINGS_DENIED: u8 = 3;
pub const UNDECIDED: u8 = 4;

#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// The service file; default: driftline.yaml here.
    #[arg(long, value_name = "FILE", env = "DRIFTLINE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Check only these model and rules files, against each other and not against the service.
    #[arg(value_name = "FILES")]
    pub files: Vec<PathBuf>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Exit with 3 if there are warnings.
    #[arg(long)]
    pub deny_warnings: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

pub fn run(args: &CheckArgs) -> ExitCode {
    let stdout = std::io::stdout();
    let colour = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    ExitCode::from(check(args, &layers::variables(), colour, &mut stdout.lock()))
}

/// Prints the findings and returns the exit code: 0 valid, 1 errors, 3 warnings under `--deny-warnings`, 4 a file
/// could not be read.
pub fn check(args: &CheckArgs, variables: &BTreeMap<String, String>, colour: bool, out: &mut dyn Write) -> u8 {
    let (found, checked) = match args.files.is_empty() {
        true => service(args.config.as_deref(), variables),
        false => files(&args.files),
    };
    let printed = match args.format {
        Format::Text => writeln!(out, "{}", text(&found, &checked, colour)),
        Format::Json => writeln!(out, "{:#}", found.json()),
    };
    if printed.is_err() || found.unreadable() {
        UNDECIDED
    } else if found.errors() > 0 {
        FAILED
    } else if args.deny_warnings && found.warnings() > 0 {
        WARNINGS_DENIED
    } else {
        OK
    }
}

fn text(found: &Diagnostics, checked: &str, colour: bool) -> String {
    let totals = format!("{}, {}", count(found.errors(), "error"), count(found.warnings(), "warning"));
    let separator = if found.is_empty() { "" } else { "\n" };
    format!("{}{separator}{checked}: {totals}", found.text(colour))
}

fn count(number: usize, word: &str) -> String {
    match number {
        0 => format!("no {word}s"),
        1 => format!("1 {word}"),
        _ => format!("{number} {word}s"),
    }
}

fn service(config: Option<&Path>, variables: &BTreeMap<String, String>) -> (Diagnostics, String) {
    match Workspace::load_with(config, variables) {
        Ok(workspace) => {
            let checked =
                format!("{}, {}", count(workspace.models.len(), "model"), count(workspace.rules.rules().len(), "rule"));
            let in_force = references(&workspace);
            let mut found = workspace.warnings;
            found.extend(in_force);
            (found, checked)
        }
        Err(found) => (found, "checked".into()),
    }
}

/// What is wrong with the references in force, and which of them are weak. One that is not built yet is no mistake of
/// the files; `run` asks for it.
fn references(workspace: &Workspace) -> Diagnostics {
    let mut found = Diagnostics::default();
    let directory = workspace.base_dir.join(&workspace.service.references);
    if !directory.is_dir() {
        return found;
    }
    let store = match ReferenceStore::open(&directory) {
        Ok(store) => store,
        Err(error) => return Diagnostics::file(&directory.display().to_string(), "unreadable", error.to_string()),
    };
    for model in &workspace.models {
        let place = directory.join(&model.model).join(DEFAULT_REFERENCE).display().to_string();
        match store.load(&model.model, DEFAULT_REFERENCE, "current") {
            Ok(reference) => {
                for warning in reference.warnings() {
                    let mut weak = Diagnostics::file(&place, "weak-reference", warning);
                    weak.items.iter_mut().for_each(|item| item.level = Level::Warning);
                    found.extend(weak);
                }
            }
            Err(StoreError::Missing { .. }) => {}
            Err(error) => {
                let mut damaged = Diagnostics::file(&place, "damaged-reference", error.to_string());
                let help = format!("build it again: driftline reference build --model {}", model.model);
                damaged.items.iter_mut().for_each(|item| item.help = Some(help.clone()));
                found.extend(damaged);
            }
        }
    }
    found
}

/// What a file is, told by its keys.
enum Content {
    Model(Box<Outcome<Model>>),
    Rules(Box<Outcome<RuleFile>>),
    Tests(Box<Outcome<RuleTestFile>>),
    Service(Diagnostics),
}

fn open(path: &Path) -> Content {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let has_key = |keys: &[&str]| {
        text.lines().any(|line| keys.iter().any(|key| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':'))))
    };
    if has_key(&["tests"]) {
        return Content::Tests(Box::new(open_rule_tests(path, &name)));
    }
    if has_key(&["rules", "routes", "receivers", "groups"]) && !has_key(&["kafka", "models"]) {
        return Content::Rules(Box::new(open_rules(path, &name, string_problems)));
    }
    if has_key(&["kafka", "models", "http", "smtp", "app"]) {
        return Content::Service(parse::<Service>(&name, &text, |_| Vec::new(), meaning::service).found);
    }
    Content::Model(Box::new(open_model(path, &name, model_problems)))
}

/// Tests of rules, against the rules at hand; where none are, against those that the file is about.
fn tests(
    path: &Path,
    outcome: Outcome<RuleTestFile>,
    models: &[Arc<Model>],
    rule_files: &[Loaded<RuleFile>],
) -> Diagnostics {
    if rule_files.is_empty() {
        let name = path.display().to_string();
        let origin = Origin { name: &name, path: Some(path), service_models: models };
        return Suite::of(outcome, &origin).map_or_else(|found| found, |suite| suite.warnings);
    }
    let mut found = outcome.found;
    if let Some(loaded) = outcome.loaded {
        let models: Vec<&Model> = models.iter().map(AsRef::as_ref).collect();
        let rules: Vec<&RuleFile> = rule_files.iter().map(|file| &file.value).collect();
        against(&loaded.value, &models, &rules).into_iter().for_each(|problem| found.push(loaded.locate(problem)));
    }
    found
}

fn files(paths: &[PathBuf]) -> (Diagnostics, String) {
    let mut found = Diagnostics::default();
    let mut models: Vec<Arc<Model>> = Vec::new();
    let mut rule_files: Vec<Loaded<RuleFile>> = Vec::new();
    let mut test_files: Vec<(&PathBuf, Outcome<RuleTestFile>)> = Vec::new();
    for path in paths {
        match open(path) {
            Content::Model(outcome) => {
                found.extend(outcome.found);
                models.extend(outcome.loaded.map(|model| Arc::new(model.value)));
            }
            Content::Rules(outcome) => {
                found.extend(outcome.found);
                rule_files.extend(outcome.loaded);
            }
            Content::Tests(outcome) => test_files.push((path, *outcome)),
            Content::Service(service_found) => found.extend(service_found),
        }
    }
    for (path, outcome) in test_files {
        found.extend(tests(path, outcome, &models, &rule_files));
    }
    let contents: Vec<&RuleFile> = rule_files.iter().map(|file| &file.value).collect();
    let (_, problems) = RuleSet::analyse(&contents, &models);
    // Without models at hand nothing can be said about the names of theirs.
    let judged = |problem: &Problem| !models.is_empty() || problem.code != "unknown-model";
    for problem in problems.into_iter().filter(|found| judged(&found.problem)) {
        found.push(rule_files[problem.file].locate(problem.problem));
    }
    found.sort();
    (found, count(paths.len(), "file"))
}
