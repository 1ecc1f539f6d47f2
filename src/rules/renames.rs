//! `formerly`: a rule that was renamed goes on where the old one stood. Its states move to the new name, and the ids of
//! episodes that began under the old one stay as they are, so that whoever was told of their beginning is told of their
//! end.

use std::collections::BTreeMap;

use super::compile::{FileProblem, RuleSet};
use super::engine::Effect;
use super::state::RuleStates;
use crate::config::diagnostic::Problem;
use crate::config::rules::RuleFile;

impl RuleSet {
    /// Moves states of old names to the new ones. A state that stands under the new name already is kept, unless the old
    /// one has an episode that is still open.
    pub fn rename(&self, states: &mut RuleStates) -> Vec<Effect> {
        let names: BTreeMap<&str, &str> =
            self.rules.iter().filter_map(|rule| Some((rule.formerly.as_deref()?, rule.name.as_str()))).collect();
        let is_open = |states: &RuleStates, key: &str| {
            let told = states.by_key.get(key).and_then(|state| state.told.as_ref());
            told.is_some_and(|told| told.firing)
        };
        let old: Vec<(String, String)> = states
            .by_key
            .iter()
            .filter_map(|(key, state)| Some((key.clone(), names.get(state.rule.as_str())?.to_string())))
            .collect();
        let mut effects = Vec::new();
        for (old_key, name) in old {
            let was_open = is_open(states, &old_key);
            let Some(mut state) = states.by_key.remove(&old_key) else { continue };
            effects.push(Effect::StateChanged { key: old_key, state: None });
            state.rule = name;
            let key = state.key();
            if !states.by_key.contains_key(&key) || (was_open && !is_open(states, &key)) {
                effects.push(Effect::StateChanged { key: key.clone(), state: Some(state.clone()) });
                states.by_key.insert(key, state);
            }
        }
        effects
    }
}

/// A name that is still used, or that two rules claim, belongs to neither.
pub(super) fn problems(files: &[&RuleFile]) -> Vec<FileProblem> {
    let rules = || {
        let of_file = |(file, content): (usize, &'_ &RuleFile)| {
            let rules = content.rules.clone();
            rules.into_iter().enumerate().map(move |(index, rule)| (file, index, rule)).collect::<Vec<_>>()
        };
        files.iter().enumerate().flat_map(of_file)
    };
    let mut claimed: BTreeMap<String, String> = BTreeMap::new();
    let mut problems = Vec::new();
    for (file, index, rule) in rules() {
        let Some(formerly) = &rule.formerly else { continue };
        let pointer = format!("/rules/{index}/formerly");
        let found = if *formerly == rule.name {
            let help = "write the name it had before, or take `formerly` out";
            Some(Problem::error("bad-rename", &pointer, format!("`{formerly}` is this rule's name now")).help(help))
        } else if rules().any(|(.., other)| other.name == *formerly) {
            let message = format!("there still is a rule `{formerly}`: its alerts are its own");
            let help = format!("take `formerly` out, or remove rule `{formerly}`");
            Some(Problem::error("bad-rename", &pointer, message).help(help))
        } else {
            claimed.get(formerly).map(|other| {
                let message = format!("`{other}` was `{formerly}` too: only one rule can go on with its alerts");
                Problem::error("bad-rename", &pointer, message).help("keep `formerly` at one of the two")
            })
        };
        claimed.entry(formerly.clone()).or_insert_with(|| rule.name.clone());
        problems.extend(found.map(|problem| FileProblem { file, problem }));
    }
    problems
}
