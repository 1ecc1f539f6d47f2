//! Files by themselves: what each is, and what is wrong with them together.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::diagnostic::{Diagnostics, Problem};
use crate::config::gate::parse_gate_str;
use crate::config::kind::Kind;
use crate::config::load::{self, Loaded, Outcome, open_model_str, open_rules_str, parse, parse_rule_tests};
use crate::config::meaning;
use crate::config::model::Model;
use crate::config::rules::RuleFile;
use crate::config::scorer::parse_scorer_str;
use crate::config::service::Service;
use crate::rules::RuleSet;
use crate::rules::cascade::{Damage, without_consequences};
use crate::rules::checks::model_problems;
use crate::rules::compile::string_problems;
use crate::rules::rename_checks::renames;
use crate::rules::suppression_checks::ends_of_silences;

use super::{count, tests};

#[derive(Default)]
struct Files {
    found: Diagnostics,
    models: Vec<Arc<Model>>,
    rules: Vec<Loaded<RuleFile>>,
    tests: Vec<tests::Read>,
    /// Parts of files that could not be read: what names them would seem unknown.
    damage: Damage,
}

/// Rules files as they were before, and what is wrong with them.
pub fn previous(paths: &[PathBuf]) -> (Vec<Loaded<RuleFile>>, Diagnostics) {
    let mut found = Diagnostics::default();
    let mut files = Vec::new();
    for path in paths {
        // What was wrong in them before is of no interest now.
        match load::open_rules(path, &load::shown(path), |_| Vec::new()) {
            Outcome { loaded: Some(file), .. } => files.push(file),
            Outcome { loaded: None, found: unreadable } => found.extend(unreadable),
        }
    }
    (files, found)
}

/// Rules that were renamed since `previous` without saying so.
pub fn renamed(previous: &[Loaded<RuleFile>], current: &[Loaded<RuleFile>]) -> Diagnostics {
    let contents = |files: &[Loaded<RuleFile>]| files.iter().map(|file| file.value.clone()).collect::<Vec<_>>();
    let (before, now) = (contents(previous), contents(current));
    let problems = renames(&before.iter().collect::<Vec<_>>(), &now.iter().collect::<Vec<_>>());
    let located = problems.into_iter().map(|found| current[found.file].locate(found.problem));
    Diagnostics { items: located.collect() }
}

/// Silences that hold once and are over.
pub fn past_silences(files: &[Loaded<RuleFile>]) -> Diagnostics {
    let now_ms = chrono::Utc::now().timestamp_millis();
    let over = |file: &Loaded<RuleFile>| {
        let ends = ends_of_silences(&file.value).into_iter().filter(|(until_ms, _)| *until_ms <= now_ms);
        ends.map(|(_, problem)| file.locate(problem)).collect::<Vec<_>>()
    };
    Diagnostics { items: files.iter().flat_map(over).collect() }
}

/// Findings, and what was checked.
pub fn check(paths: &[PathBuf], previous: &[Loaded<RuleFile>]) -> (Diagnostics, String) {
    let mut files = Files::default();
    paths.iter().for_each(|path| files.read(path));
    let contents: Vec<&RuleFile> = files.rules.iter().map(|file| &file.value).collect();
    let (_, problems) = RuleSet::analyse(&contents, &files.models);
    // Without models at hand nothing can be said about the names of theirs.
    let judged = |problem: &Problem| !files.models.is_empty() || problem.code != "unknown-model";
    for found in without_consequences(problems, files.damage) {
        let file = &files.rules[found.file];
        if judged(&found.problem) && !file.is_damaged(&found.problem) {
            files.found.push(file.locate(found.problem));
        }
    }
    files.found.extend(renamed(previous, &files.rules));
    files.found.extend(past_silences(&files.rules));
    let subjects = tests::Subjects { models: &files.models, rule_files: &files.rules, damage: files.damage };
    files.found.extend(tests::problems(std::mem::take(&mut files.tests), subjects));
    files.found.sort();
    (files.found, count(paths.len(), "file"))
}

impl Files {
    fn read(&mut self, path: &Path) {
        let text = match load::read(path) {
            Ok(text) => text,
            Err(found) => {
                self.damage = Damage::ALL;
                return self.found.extend(found);
            }
        };
        let name = load::shown(path);
        let is_test = path.to_string_lossy().ends_with(".test.yaml");
        let kind = if is_test { Some(Kind::RuleTests) } else { Kind::of(&text) };
        match kind {
            Some(Kind::Rules) => {
                let outcome = open_rules_str(&name, &text, string_problems);
                self.damage = self.damage.of_rules(&outcome);
                self.found.extend(outcome.found);
                self.rules.extend(outcome.loaded);
            }
            Some(Kind::Service) => {
                self.found.extend(parse::<Service>(&name, &text, |_| Vec::new(), meaning::service).found);
            }
            Some(Kind::Scorer) => self.found.extend(parse_scorer_str(&name, &text).found),
            Some(Kind::Gate) => self.found.extend(parse_gate_str(&name, &text).found),
            Some(Kind::RuleTests) => self.tests.push((path.to_path_buf(), parse_rule_tests(&name, &text))),
            Some(Kind::Model) => {
                let outcome = open_model_str(&name, &text, model_problems);
                self.damage.models |= !outcome.is_whole();
                self.found.extend(outcome.found);
                self.models.extend(outcome.loaded.map(|model| Arc::new(model.value)));
            }
            None => self.unknown(&name, &text),
        }
    }

    /// A text that is none of the files: an error of its own, unless it is no YAML at all.
    fn unknown(&mut self, name: &str, text: &str) {
        self.damage = Damage::ALL;
        let outcome = parse::<serde_json::Value>(name, text, |_| Vec::new(), |_| Vec::new());
        if outcome.found.errors() > 0 {
            return self.found.extend(outcome.found);
        }
        let message =
            "none of the keys of a service file, a model, rules, rule tests, settings of the scorer or a gate";
        let help =
            "a model has `model:` and `topics:`, rules have `rules:`; docs/models.md and docs/rules.md list the keys";
        let problem = Problem::error("unknown-file", "", message).help(help);
        self.found
            .extend(outcome.loaded.map(|file| Diagnostics { items: vec![file.locate(problem)] }).unwrap_or_default());
    }
}
