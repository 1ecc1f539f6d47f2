//! Tests of rules among what is checked: whether they are right, and which rules none of them covers.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::diagnostic::{Diagnostics, Problem};
use crate::config::load::{Loaded, Outcome, open_rule_tests, shown};
use crate::config::model::Model;
use crate::config::rule_test_checks::against;
use crate::config::rule_tests::RuleTestFile;
use crate::config::rules::RuleFile;
use crate::rule_test::suite::{Origin, Suite};
use crate::rules::cascade::Damage;
use crate::rules::workspace::Examined;

/// A file of tests as far as it could be read, with its path.
pub type Read = (PathBuf, Outcome<RuleTestFile>);

/// What the tests are about.
#[derive(Clone, Copy)]
pub struct Subjects<'a> {
    pub models: &'a [Arc<Model>],
    pub rule_files: &'a [Loaded<RuleFile>],
    pub damage: Damage,
}

pub fn of_service(examined: &Examined) -> Diagnostics {
    let read = |path: &PathBuf| (path.clone(), open_rule_tests(path, &shown(path)));
    let files: Vec<Read> = examined.test_files.iter().map(read).collect();
    let subjects =
        Subjects { models: &examined.workspace.models, rule_files: &examined.rule_files, damage: examined.damage };
    problems(files, subjects)
}

/// Findings of tests against the rules at hand; where none are, against those that each file is about. Where there is a test,
/// rules without one are named.
pub fn problems(files: Vec<Read>, subjects: Subjects<'_>) -> Diagnostics {
    let mut found = Diagnostics::default();
    if subjects.rule_files.is_empty() {
        for (path, outcome) in files {
            let name = shown(&path);
            let path = (path != Path::new("-")).then_some(path.as_path());
            let origin = Origin { name: &name, path, service_models: subjects.models };
            found.extend(Suite::of(outcome, &origin).map_or_else(|found| found, |suite| suite.warnings));
        }
        return found;
    }
    let models: Vec<&Model> = subjects.models.iter().map(AsRef::as_ref).collect();
    let rules: Vec<&RuleFile> = subjects.rule_files.iter().map(|file| &file.value).collect();
    let mut covered: BTreeSet<String> = BTreeSet::new();
    let mut all_read = !files.is_empty();
    for (_, outcome) in files {
        all_read &= outcome.is_whole();
        found.extend(outcome.found);
        let Some(loaded) = outcome.loaded else { continue };
        covered.extend(loaded.value.covered().map(str::to_string));
        for problem in against(&loaded.value, &models, &rules) {
            if !loaded.is_damaged(&problem) && !subjects.damage.explains(&problem) {
                found.push(loaded.locate(problem));
            }
        }
    }
    if all_read {
        found.extend(untested(subjects, &covered));
    }
    found
}

fn untested(subjects: Subjects<'_>, covered: &BTreeSet<String>) -> Diagnostics {
    let mut found = Diagnostics::default();
    for file in subjects.rule_files {
        let rules = file.value.rules.iter().enumerate();
        for (index, rule) in rules.filter(|(_, rule)| !covered.contains(&rule.name)) {
            let message = format!("no test covers `{}`", rule.name);
            let help = format!("add an expectation with `rule: {}` to a file `*.test.yaml` beside it", rule.name);
            let problem = Problem::warning("untested-rule", format!("/rules/{index}/name"), message).help(help);
            if !subjects.damage.explains(&problem) {
                found.push(file.locate(problem));
            }
        }
    }
    found
}
