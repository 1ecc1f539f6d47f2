//! A rule that was renamed loses its alerts: they belong to the name. Seen by comparing rules files with what they were
//! before; `formerly:` takes the alerts along.

use std::collections::BTreeSet;

use super::compile::FileProblem;
use crate::config::diagnostic::Problem;
use crate::config::rules::{Rule, RuleFile};

/// Rules of `current` that are rules of `previous` under another name and do not say so.
pub fn renames(previous: &[&RuleFile], current: &[&RuleFile]) -> Vec<FileProblem> {
    let before: Vec<&Rule> = previous.iter().flat_map(|file| &file.rules).collect();
    let now: Vec<(usize, usize, &Rule)> = current
        .iter()
        .enumerate()
        .flat_map(|(file, content)| content.rules.iter().enumerate().map(move |(index, rule)| (file, index, rule)))
        .collect();
    let names_before: BTreeSet<&str> = before.iter().map(|rule| rule.name.as_str()).collect();
    let names_now: BTreeSet<&str> = now.iter().map(|(_, _, rule)| rule.name.as_str()).collect();
    let claimed: BTreeSet<&str> = now.iter().filter_map(|(_, _, rule)| rule.formerly.as_deref()).collect();
    let mut gone: Vec<&Rule> = before.into_iter().filter(|rule| !names_now.contains(rule.name.as_str())).collect();
    gone.retain(|rule| !claimed.contains(rule.name.as_str()));
    let mut problems = Vec::new();
    for (file, index, rule) in now {
        if names_before.contains(rule.name.as_str()) || rule.formerly.is_some() {
            continue;
        }
        let same = gone.iter().position(|old| without_words(old) == without_words(rule));
        let alike =
            || gone.iter().position(|old| old.model == rule.model && old.when == rule.when && old.when.is_some());
        let Some(found) = same.or_else(alike) else { continue };
        let old = gone.remove(found);
        let message = format!("`{}` was `{}` before: its alerts that still fire would be lost", rule.name, old.name);
        let problem = Problem::error("rename", format!("/rules/{index}/name"), message);
        problems.push(FileProblem { file, problem: problem.help(format!("add `formerly: {}`", old.name)) });
    }
    problems
}

/// What a rule watches, whatever it is called and says to people.
fn without_words(rule: &Rule) -> Rule {
    Rule { name: String::new(), formerly: None, summary: None, description: None, runbook: None, ..rule.clone() }
}
