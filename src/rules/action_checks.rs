//! What actions get wrong together with the rules that ask for them and the models that these watch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::compile::{FileProblem, label_delay_ms};
use crate::config::actions::Action;
use crate::config::diagnostic::Problem;
use crate::config::glob;
use crate::config::model::Model;
use crate::config::nearest::suggest;
use crate::config::rules::{Rule, RuleFile};
use crate::config::units::Span;
use crate::config::yaml::child;

/// The actions of all files, and everything wrong or doubtful about them.
pub fn actions(files: &[&RuleFile], models: &[Arc<Model>]) -> (BTreeMap<String, Action>, Vec<FileProblem>) {
    let mut known: BTreeMap<String, Action> = BTreeMap::new();
    let mut problems = Vec::new();
    for (file, content) in files.iter().enumerate() {
        for (name, action) in &content.actions {
            if known.insert(name.clone(), action.clone()).is_some() {
                let message = format!("action `{name}` is in another file too");
                let problem = Problem::error("duplicate-action", child("/actions", name), message).key();
                problems.push(FileProblem { file, problem });
            }
        }
    }
    let mut used = BTreeSet::new();
    for (file, content) in files.iter().enumerate() {
        for (index, rule) in content.rules.iter().enumerate() {
            let found = of_rule(rule, &format!("/rules/{index}/actions"), &known, &mut used);
            problems.extend(found.into_iter().map(|problem| FileProblem { file, problem }));
        }
    }
    let rules: Vec<&Rule> = files.iter().flat_map(|file| &file.rules).collect();
    for (file, content) in files.iter().enumerate() {
        for (name, action) in &content.actions {
            let pointer = child("/actions", name);
            let mut found = Vec::new();
            if !used.contains(name.as_str()) {
                let message = format!("no rule asks for action `{name}`");
                let help = format!("add `actions: [{name}]` to a rule");
                found.push(Problem::warning("unused-action", &pointer, message).key().help(help));
            }
            quiet_rules(name, action, &pointer, &rules, &mut found);
            let asking: Vec<&Rule> = rules.iter().copied().filter(|rule| rule.actions.contains(name)).collect();
            labels(action, &pointer, &asking, models, &mut found);
            problems.extend(found.into_iter().map(|problem| FileProblem { file, problem }));
        }
    }
    (known, problems)
}

fn of_rule<'a>(
    rule: &'a Rule,
    pointer: &str,
    known: &BTreeMap<String, Action>,
    used: &mut BTreeSet<&'a str>,
) -> Vec<Problem> {
    let mut found = Vec::new();
    for (index, name) in rule.actions.iter().enumerate() {
        let place = format!("{pointer}/{index}");
        used.insert(name);
        let Some(action) = known.get(name) else {
            let help = suggest(name, known.keys().map(String::as_str));
            let help = help.unwrap_or_else(|| "define it under `actions:`".into());
            found.push(Problem::error("unknown-action", place, format!("there is no action `{name}`")).help(help));
            continue;
        };
        if rule.actions[..index].contains(name) {
            found.push(Problem::error("duplicate", &place, format!("action `{name}` stands here twice")));
        }
        if rule.absent.is_some() && action.rollback.is_none() {
            let message = format!("`{name}` would train on data that do not come");
            let help =
                "ask for it in a rule about drift or performance; name this rule in its `guard: {no_alerts: [...]}`";
            found.push(Problem::error("retraining-on-no-data", place, message).help(help));
        }
    }
    found
}

/// Rules that must not fire for the action to run.
fn quiet_rules(name: &str, action: &Action, pointer: &str, rules: &[&Rule], found: &mut Vec<Problem>) {
    for (index, quiet) in action.guard.no_alerts.iter().enumerate() {
        let place = format!("{pointer}/guard/no_alerts/{index}");
        let Some(rule) = rules.iter().find(|rule| rule.name == *quiet) else {
            let help = suggest(quiet, rules.iter().map(|rule| rule.name.as_str()));
            found.push(Problem::error("unknown-rule", place, format!("there is no rule `{quiet}`")).help_if(help));
            continue;
        };
        if rule.actions.iter().any(|asked| asked == name) {
            let message =
                format!("rule `{quiet}` asks for `{name}` while it fires, and this lets it run only while it does not");
            found.push(Problem::error("never-runs", place, message).help("take it out of one of the two"));
        }
    }
}

/// A training that comes before the labels of the last one's predictions can tell whether that helped.
fn labels(action: &Action, pointer: &str, asking: &[&Rule], models: &[Arc<Model>], found: &mut Vec<Problem>) {
    let watches =
        |rule: &Rule, model: &Model| glob::matches(rule.model.split('@').next().unwrap_or_default(), &model.model);
    let concerned: Vec<&Model> =
        models.iter().map(Arc::as_ref).filter(|model| asking.iter().any(|rule| watches(rule, model))).collect();
    if action.rollback.is_some() || concerned.is_empty() {
        return;
    }
    let longest = concerned.iter().map(|model| (label_delay_ms(model), *model)).max_by_key(|(delay_ms, _)| *delay_ms);
    if let (Some((delay_ms, model)), Some(cooldown)) = (longest, action.cooldown)
        && (1..delay_ms).contains(&cooldown.ms)
    {
        let delay = Span::from_ms(delay_ms);
        let message =
            format!("the next run would come before the labels of `{}`, which take up to {delay}", model.model);
        let problem = Problem::error("short-cooldown", format!("{pointer}/cooldown"), message);
        found.push(problem.help(format!("write `{delay}` or more, so that it is known whether the last run helped")));
    }
    if action.guard.label_coverage.is_some() && concerned.iter().all(|model| label_delay_ms(model) == 0) {
        let message = "no model of the rules that ask for it has labels on a topic of their own";
        let problem = Problem::error("no-labels", format!("{pointer}/guard/label_coverage"), message).key();
        found.push(
            problem.help("add `performance: {labels: {topics: [...], delay: 48h}}` to the model file, or leave it out"),
        );
    }
}
