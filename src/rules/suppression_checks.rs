//! What `inhibit` and `silences` get wrong together with the rules and models that they name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::checks::Placed;
use super::compile::{FileProblem, Rule};
use super::suppression::mutes;
use crate::config::diagnostic::Problem;
use crate::config::glob;
use crate::config::model::Model;
use crate::config::nearest::suggest;
use crate::config::rules::{GroupKey, Inhibition, Matcher, RuleFile, Silence};
use crate::config::silences::SilenceTime;

pub(super) fn problems(files: &[&RuleFile], placed: &[Placed], models: &[Arc<Model>]) -> Vec<FileProblem> {
    let mut problems = Vec::new();
    // Those whose own text is wrong are not among `placed`: their names are known all the same.
    let names: BTreeSet<&str> = files.iter().flat_map(|file| &file.rules).map(|rule| rule.name.as_str()).collect();
    let rules: BTreeMap<&str, &Rule> = placed.iter().map(|(.., rule)| (rule.name.as_str(), rule)).collect();
    let mut edges = Edges::default();
    for (file, content) in files.iter().enumerate() {
        for (index, inhibition) in content.inhibit.iter().enumerate() {
            let pointer = format!("/inhibit/{index}");
            let mut found = Vec::new();
            inhibition_problems(inhibition, &pointer, &names, &mut found);
            if found.is_empty() {
                in_common(inhibition, &pointer, &rules, models, &mut found);
                found.extend(edges.add(inhibition, &pointer, &names));
            }
            problems.extend(found.into_iter().map(|problem| FileProblem { file, problem }));
        }
        for (index, silence) in content.silences.iter().enumerate() {
            let found = silence_problems(silence, &format!("/silences/{index}"), &rules, &names, models);
            problems.extend(found.into_iter().map(|problem| FileProblem { file, problem }));
        }
    }
    problems
}

/// Silences that hold once: when each is over, epoch milliseconds, and what is to be said of it then.
pub fn ends_of_silences(file: &RuleFile) -> Vec<(i64, Problem)> {
    let problem = |(index, silence): (usize, &Silence)| {
        let Ok(SilenceTime::Once(stretch)) = SilenceTime::of(silence) else { return None };
        let message = format!("this silence ended at {}", silence.until.as_deref().unwrap_or_default());
        let help = "take it out, unless windows of that time are still to be replayed";
        let problem = Problem::warning("past-silence", format!("/silences/{index}/until"), message).help(help);
        Some((stretch.until_ms, problem))
    };
    file.silences.iter().enumerate().filter_map(problem).collect()
}

fn inhibition_problems(inhibition: &Inhibition, pointer: &str, names: &BTreeSet<&str>, found: &mut Vec<Problem>) {
    let Inhibition { if_, mute, same } = inhibition;
    if !names.contains(if_.as_str()) {
        let message = format!("there is no rule `{if_}`");
        let help = suggest(if_, names.iter().copied());
        found.push(Problem::error("unknown-rule", format!("{pointer}/if"), message).help_if(help));
    }
    if mute.is_empty() {
        let problem = Problem::error("empty-list", format!("{pointer}/mute"), "this inhibition mutes nothing").key();
        found.push(problem.help("name rules, or globs of them: `[feature-drift, \"score-*\"]`"));
    }
    for (index, pattern) in mute.iter().enumerate() {
        let place = format!("{pointer}/mute/{index}");
        let matched = names.iter().any(|name| name != if_ && glob::matches(pattern, name));
        if pattern == if_ {
            let message = format!("`{if_}` cannot mute itself");
            found.push(Problem::error("inhibits-itself", place, message).help("name the rules that it explains"));
        } else if !matched {
            let message = match glob::is_glob(pattern) {
                true => format!("no other rule matches `{pattern}`: this mutes nothing"),
                false => format!("there is no rule `{pattern}`: this mutes nothing"),
            };
            let help = suggest(pattern, names.iter().copied().filter(|name| name != if_).collect::<Vec<_>>());
            found.push(Problem::error("unknown-rule", place, message).help_if(help));
        }
    }
    if !same.contains(&GroupKey::Model) {
        let message = "rules of one model cannot inhibit those of another: different processes may watch them";
        let keys: Vec<&str> = std::iter::once("model").chain(same.iter().map(|key| word(*key))).collect();
        let help = format!("write `same: [{}]`", keys.join(", "));
        found.push(Problem::error("inhibits-across-models", format!("{pointer}/same"), message).key().help(help));
    }
}

fn word(key: GroupKey) -> &'static str {
    match key {
        GroupKey::Model => "model",
        GroupKey::Version => "version",
        GroupKey::Segment => "segment",
        GroupKey::Feature => "feature",
    }
}

/// Whether `same` can hold for each rule that is muted by its own name.
fn in_common(
    inhibition: &Inhibition,
    pointer: &str,
    rules: &BTreeMap<&str, &Rule>,
    models: &[Arc<Model>],
    found: &mut Vec<Problem>,
) {
    let Some(inhibitor) = rules.get(inhibition.if_.as_str()) else { return };
    for (index, name) in inhibition.mute.iter().enumerate() {
        let Some(muted) = rules.get(name.as_str()) else { continue };
        let different = inhibition.same.iter().find(|key| are_apart(**key, inhibitor, muted, models));
        if let Some(key) = different {
            let (one, key) = (&inhibitor.name, word(*key));
            let message = format!("`{one}` and `{name}` never have the {key} in common: this mutes nothing");
            let place = format!("{pointer}/mute/{index}");
            let help = format!("take `{name}` out, or let both rules look at the same {key}");
            found.push(Problem::error("never-in-common", place, message).help(help));
        }
    }
}

fn are_apart(key: GroupKey, one: &Rule, other: &Rule, models: &[Arc<Model>]) -> bool {
    let by = |rule: &Rule| rule.group_by.contains(&key) && rule.absent.is_none();
    match key {
        GroupKey::Model => {
            let both = |model: &Arc<Model>| one.matches_model(&model.model) && other.matches_model(&model.model);
            !models.is_empty() && !models.iter().any(both)
        }
        GroupKey::Version => {
            let named = |rule: &Rule| by(rule) && !glob::is_glob(&rule.version_glob);
            named(one) && named(other) && one.version_glob != other.version_glob
        }
        GroupKey::Feature => {
            let both = |model: &Arc<Model>| {
                let mut signals = model.watched_signals().into_iter();
                signals.any(|signal| one.selects(&signal.name) && other.selects(&signal.name))
            };
            by(one) && by(other) && !models.is_empty() && !models.iter().any(both)
        }
        // All events are in common with every segment.
        GroupKey::Segment => false,
    }
}

/// Which rule mutes which, as far as it has been read.
#[derive(Default)]
struct Edges {
    mutes: BTreeMap<String, BTreeSet<String>>,
}

impl Edges {
    /// The first inhibition that closes a circle is the one that is reported.
    fn add(&mut self, inhibition: &Inhibition, pointer: &str, names: &BTreeSet<&str>) -> Option<Problem> {
        let muted: Vec<&str> = names.iter().copied().filter(|name| mutes(inhibition, name)).collect();
        let path = muted.iter().find_map(|name| self.path(name, &inhibition.if_));
        if let Some(path) = path {
            let circle: Vec<String> =
                std::iter::once(&inhibition.if_).chain(&path).map(|name| format!("`{name}`")).collect();
            let message = format!("rules mute each other in a circle: {}", circle.join(" mutes "));
            let problem = Problem::error("inhibition-cycle", format!("{pointer}/if"), message);
            return Some(problem.help("keep the direction from the cause to what it explains"));
        }
        self.mutes.entry(inhibition.if_.clone()).or_default().extend(muted.iter().map(ToString::to_string));
        None
    }

    /// From one rule to another along what each mutes, both included.
    fn path(&self, from: &str, to: &str) -> Option<Vec<String>> {
        let mut seen = BTreeSet::from([from.to_string()]);
        let mut paths = vec![vec![from.to_string()]];
        while let Some(path) = paths.pop() {
            let last = path.last()?;
            if last == to {
                return Some(path);
            }
            for next in self.mutes.get(last).into_iter().flatten() {
                if seen.insert(next.clone()) {
                    paths.push(path.iter().cloned().chain([next.clone()]).collect());
                }
            }
        }
        None
    }
}

fn silence_problems(
    silence: &Silence,
    pointer: &str,
    rules: &BTreeMap<&str, &Rule>,
    names: &BTreeSet<&str>,
    models: &[Arc<Model>],
) -> Vec<Problem> {
    let mut found = Vec::new();
    if let Err(error) = SilenceTime::of(silence) {
        let place = if error.key.is_empty() { pointer.to_string() } else { format!("{pointer}/{}", error.key) };
        let problem = Problem::error("bad-silence", place, error.message).help(error.help);
        found.push(if error.key.is_empty() { problem } else { problem.within(error.within) });
    }
    if silence.reason.trim().is_empty() {
        let message = "a silence without a reason is a riddle to whoever finds it";
        let problem = Problem::error("empty-text", format!("{pointer}/reason"), message);
        found.push(problem.help("say why, such as `reason: weekly backfill`"));
    }
    let place = format!("{pointer}/match");
    if silence.matcher.is_empty() {
        let message = "this silence matches every alert";
        let problem = Problem::error("match-all", place, message).key();
        found.push(problem.help("say which: `match: {model: fraud@*, severity: warn}`"));
        return found;
    }
    let Matcher { rule, feature, .. } = &silence.matcher;
    if let Some(rule) = rule.as_deref().filter(|rule| !names.iter().any(|name| glob::matches(rule, name))) {
        let help = suggest(rule, names.iter().copied());
        let message = format!("no rule matches `{rule}`: this silence is never asked");
        found.push(Problem::error("unknown-rule", format!("{place}/rule"), message).help_if(help));
    } else if let Some(feature) = feature.as_deref().filter(|feature| !is_watched(feature, models)) {
        let known: BTreeSet<&str> = models.iter().flat_map(|model| model.features.keys()).map(String::as_str).collect();
        let message = format!("no model has a feature that matches `{feature}`");
        let help = suggest(feature, known.iter().copied());
        found.push(Problem::error("unknown-feature", format!("{place}/feature"), message).help_if(help));
    } else if rules.len() == names.len() && !rules.values().any(|rule| may_cover(&silence.matcher, rule, models)) {
        let message = "no rule has alerts that this silence matches";
        let problem = Problem::warning("unmatched-silence", place, message).key();
        found.push(problem.help("loosen `match`, or take the silence out"));
    }
    found
}

fn is_watched(feature: &str, models: &[Arc<Model>]) -> bool {
    let mut signals = models.iter().flat_map(|model| model.watched_signals());
    models.is_empty() || signals.any(|signal| glob::matches(feature, &signal.name))
}

fn may_cover(matcher: &Matcher, rule: &Rule, models: &[Arc<Model>]) -> bool {
    let model_glob = matcher.model.as_deref().map(|pattern| pattern.split('@').next().unwrap_or_default());
    let of_model = |pattern: &str| {
        let both = |model: &Arc<Model>| glob::matches(pattern, &model.model) && rule.matches_model(&model.model);
        models.is_empty() || models.iter().any(both)
    };
    matcher.rule.as_deref().is_none_or(|pattern| glob::matches(pattern, &rule.name))
        && matcher.severity.is_none_or(|severity| rule.severities().contains(&severity))
        && model_glob.is_none_or(of_model)
}
