//! What rules get wrong together with the models, routes and receivers they name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::chance;
use super::change_detectors;
use super::compile::{DEFAULT_REFERENCE, FileProblem, Rule};
use super::delivery_checks;
use super::metrics::{self, METRICS, Subject};
use super::performance_checks;
use super::sql;
use super::threshold_checks;
use super::value_expression;
use crate::config::diagnostic::Problem;
use crate::config::glob;
use crate::config::model::{ALL_METRICS, JOINT_SIGNAL, Kind, MetricNames, Model, PREDICTION_SIGNAL, SCORE_SIGNAL};
use crate::config::nearest::suggest;
use crate::config::performance::PERFORMANCE_SIGNAL;
use crate::config::receivers::Receiver;
use crate::config::rules::{Include, Route, RuleFile, Severity, SignificanceTest};
use crate::config::segment;
use crate::config::units::Span;
use crate::config::yaml::child;
use crate::event::UNVERSIONED;
use crate::reference::moving::MovingReference;

/// A compiled rule, the index of its file and its place there.
pub type Placed = (usize, String, Rule);

pub fn rules(placed: &[Placed], models: &[Arc<Model>]) -> Vec<FileProblem> {
    let mut problems = Vec::new();
    let mut names: BTreeSet<&str> = BTreeSet::new();
    for (file, pointer, rule) in placed {
        let mut found = Vec::new();
        if !names.insert(&rule.name) {
            let message = format!("another rule is named `{}`", rule.name);
            let problem = Problem::error("duplicate-rule", format!("{pointer}/name"), message);
            found.push(problem.help("the name is part of every alert: make it unique"));
        }
        conditions(rule, pointer, &mut found);
        timing(rule, pointer, models, &mut found);
        let matching: Vec<&Model> =
            models.iter().map(Arc::as_ref).filter(|model| rule.matches_model(&model.model)).collect();
        if matching.is_empty() {
            let message = format!("no model matches `{}`", rule.model_glob);
            let help = suggest(&rule.model_glob, models.iter().map(|model| model.model.as_str()));
            found.push(Problem::error("unknown-model", format!("{pointer}/model"), message).help_if(help));
        } else {
            version(rule, pointer, &matching, &mut found);
            if rule.absent.is_none() {
                subjects(rule, pointer, &matching, &mut found);
                // An estimate from a level that is wrong itself would only mislead.
                found.extend(chance::problem(rule, pointer, &matching).filter(|_| found.is_empty()));
            }
        }
        if rule.performance.is_none() {
            performance_checks::misplaced(rule, pointer, &mut found);
        }
        problems.extend(found.into_iter().map(|problem| FileProblem { file: *file, problem }));
    }
    problems
}

/// A version that is asked for and never told.
fn version(rule: &Rule, pointer: &str, models: &[&Model], found: &mut Vec<Problem>) {
    let is_told = models.iter().any(|model| model.fields.version.is_some());
    if is_told || glob::matches(&rule.version_glob, UNVERSIONED) {
        return;
    }
    let message = format!("no model of this rule tells versions apart: there is no version `{}`", rule.version_glob);
    let help = format!("write `{}`, or add `fields: {{version: ...}}` to the model file", rule.model_glob);
    found.push(Problem::error("unknown-version", format!("{pointer}/model"), message).help(help));
}

/// What a model file gets wrong about metrics and change detectors.
pub fn model_problems(model: &Model) -> Vec<Problem> {
    let names: Vec<(String, &String)> = match &model.metrics {
        None => Vec::new(),
        Some(MetricNames::Word(word)) if word == ALL_METRICS => Vec::new(),
        Some(MetricNames::Word(word)) => vec![("/metrics".into(), word)],
        Some(MetricNames::Names(names)) => {
            names.iter().enumerate().map(|(index, name)| (format!("/metrics/{index}"), name)).collect()
        }
    };
    let mut found = Vec::new();
    for (pointer, name) in names {
        match metrics::find(name) {
            None => {
                let (what, help) = match metrics::needs_rows(name) {
                    Some(help) => ("needs the rows", help),
                    None => {
                        let known = METRICS.iter().map(|metric| metric.name).chain([ALL_METRICS]);
                        let listed = || "docs/rules.md lists them; `all` is every one".into();
                        ("is not a metric", suggest(name, known).unwrap_or_else(listed))
                    }
                };
                found.push(Problem::error("unknown-metric", pointer, format!("`{name}` {what}")).help(help));
            }
            Some(metric) if !model.watched_signals().iter().any(|signal| metric.suits(signal.kind)) => {
                let message = format!("no feature of this model has `{name}`");
                found.push(Problem::error("unsuited-metric", pointer, message));
            }
            Some(_) => {}
        }
    }
    found.extend(change_detectors::model_problems(model));
    found.extend(value_expression::model_problems(model));
    found.extend(sql::model_problems(model));
    found
}

fn conditions(rule: &Rule, pointer: &str, found: &mut Vec<Problem>) {
    let name = &rule.name;
    let judged = rule.warn.is_some() || rule.critical.is_some();
    match (&rule.absent, judged) {
        (None, false) => {
            let problem =
                Problem::error("no-condition", pointer, format!("rule `{name}` never fires: it has no condition"));
            found.push(
                problem.key().help("add `when: {warn: psi > 0.1, critical: psi > 0.25}` or `absent: {after: 15m}`"),
            );
        }
        (Some(_), true) => {
            let message = format!("rule `{name}` has both `when` and `absent`");
            found.push(
                Problem::error("two-conditions", format!("{pointer}/absent"), message)
                    .key()
                    .help("make two rules of it"),
            );
        }
        (Some(absent), false) if absent.after.ms == 0 => {
            let message = "nothing is absent at once: `after` must be longer than nothing";
            found.push(Problem::error("out-of-range", format!("{pointer}/absent/after"), message));
        }
        _ => {}
    }
    significance(rule, pointer, found);
    threshold_checks::problems(rule, pointer, found);
}

fn significance(rule: &Rule, pointer: &str, found: &mut Vec<Problem>) {
    let pointer = format!("{pointer}/significance");
    let significance = &rule.significance;
    if let Some(alpha) = significance.alpha.filter(|alpha| !(*alpha > 0.0 && *alpha < 1.0)) {
        let message = format!("alpha is a probability between 0 and 1, not {alpha}");
        found.push(Problem::error("out-of-range", format!("{pointer}/alpha"), message).help("write 0.01"));
    }
    if let Some(budget) = significance.budget {
        let place = format!("{pointer}/budget");
        if significance.alpha.is_some() {
            let message = "`alpha` and `budget` both say how many false alarms there may be";
            found.push(Problem::error("two-levels", &place, message).key().help("keep one of them"));
        }
        if !(budget.false_alarms > 0.0 && budget.false_alarms.is_finite()) {
            let message = format!("a budget of {} false alarms can never be kept", budget.false_alarms);
            found.push(Problem::error("out-of-range", format!("{place}/false_alarms"), message).help("write 1"));
        } else if budget.per.ms == 0 {
            let message = "a budget is for a stretch of time longer than nothing";
            found.push(Problem::error("out-of-range", format!("{place}/per"), message).help("write 30d"));
        } else if let Some(slide) = rule.slide.or(rule.window).filter(|slide| significance.alpha(slide.ms) >= 1.0) {
            let message = format!("this budget is a false alarm in every window of {slide}");
            found.push(Problem::error("out-of-range", &place, message).help("lengthen `per`"));
        }
    }
    for (expression, key) in [(&rule.warn, "when/warn"), (&rule.critical, "when/critical"), (&rule.recover, "recover")]
    {
        let Some(expression) = expression.as_ref().filter(|expression| expression.condition.has_auto()) else {
            continue;
        };
        let place = pointer.replace("/significance", &format!("/{key}"));
        if key == "recover" {
            let message = "`auto` is a threshold of `when`: without `recover`, an alert ends once it is passed no more";
            found.push(Problem::error("auto-threshold", place, message).help("leave `recover` out"));
        } else if significance.test == SignificanceTest::None {
            let message =
                format!("`{}` needs a test, and this rule has `significance: {{test: none}}`", expression.text);
            found.push(Problem::error("auto-threshold", place, message).help("leave `test` out, or name a threshold"));
        }
    }
}

fn timing(rule: &Rule, pointer: &str, models: &[Arc<Model>], found: &mut Vec<Problem>) {
    if rule.window.is_some_and(|window| window.ms == 0) {
        found.push(Problem::error("out-of-range", format!("{pointer}/window"), "a window must be longer than nothing"));
        return;
    }
    let Some(slide) = rule.slide else { return };
    let model_size = || models.iter().find(|model| rule.matches_model(&model.model)).map(|model| model.windows.size);
    let Some(window) = rule.window.or_else(model_size) else { return };
    let slide_pointer = format!("{pointer}/slide");
    if slide.ms == 0 {
        found.push(Problem::error("out-of-range", slide_pointer, "windows must move on"));
    } else if window.ms % slide.ms != 0 {
        let message = format!("a window of {window} is not a whole number of slides of {slide}");
        found.push(Problem::error("bad-slide", slide_pointer, message).help("choose a slide that divides the window"));
    }
}

fn subjects(rule: &Rule, pointer: &str, models: &[&Model], found: &mut Vec<Problem>) {
    segments(rule, pointer, models, found);
    references(rule, pointer, models, found);
    if rule.performance.is_some() {
        performance_checks::rule_problems(rule, pointer, models, found);
    } else if rule.sql.is_none() {
        selectors(rule, pointer, models, found);
        metrics_of_features(rule, pointer, models, found);
        change_detectors::rule_problems(rule, pointer, models, found);
    }
}

fn references(rule: &Rule, pointer: &str, models: &[&Model], found: &mut Vec<Problem>) {
    let references: BTreeSet<&str> =
        models.iter().flat_map(|model| model.references.keys()).map(String::as_str).collect();
    if let Some(moving) = &rule.moving {
        moving_reference(rule, moving, pointer, models, found);
    } else if rule.counts_rows_only || rule.reference == DEFAULT_REFERENCE {
        // It may be built from a file given on the command line, or from the stream: `run` asks for it.
    } else if !references.contains(rule.reference.as_str()) {
        let message = format!("no model of this rule has a reference `{}`", rule.reference);
        let help = suggest(&rule.reference, references.iter().copied());
        let help = help.unwrap_or_else(|| "add it under `references:` in the model file".into());
        found.push(Problem::error("unknown-reference", format!("{pointer}/reference"), message).key().help(help));
    } else {
        let message =
            format!("rules compare with `{DEFAULT_REFERENCE}` in this version, not with `{}`", rule.reference);
        let help = format!(
            "leave `reference` out, or name the data `{DEFAULT_REFERENCE}` under `references:` in the model file"
        );
        found.push(Problem::error("unsupported-reference", format!("{pointer}/reference"), message).key().help(help));
    }
}

fn metrics_of_features(rule: &Rule, pointer: &str, models: &[&Model], found: &mut Vec<Problem>) {
    for (expression, key) in [(&rule.warn, "when/warn"), (&rule.critical, "when/critical"), (&rule.recover, "recover")]
    {
        let Some(expression) = expression else { continue };
        let of_features = expression.metrics.iter().filter(|(metric, _)| metric.subject != Subject::Performance);
        for (metric, at) in of_features {
            if metric.name == "duplicate_rate" && models.iter().all(|model| model.fields.prediction_id.is_none()) {
                let message = "no model of this rule says where its prediction ids stand";
                let problem = Problem::error("unsuited-metric", format!("{pointer}/{key}"), message).within(at.clone());
                found.push(problem.help("add `fields: {prediction_id: ...}` to the model file"));
                continue;
            }
            let signals =
                || models.iter().flat_map(|model| model.watched_signals()).filter(|signal| rule.selects(&signal.name));
            let suits = signals().any(|signal| metric.suits(signal.kind));
            let unsuited = signals().find(|signal| !metric.suits(signal.kind) && names_exactly(rule, &signal.name));
            let of_vector = unsuited.as_ref().is_some_and(|signal| signal.kind == Kind::Vector);
            let message = match (suits, unsuited) {
                (_, Some(signal)) => {
                    format!("`{}` is {}: it has no `{}`", signal.name, signal.kind.predicate(), metric.name)
                }
                (false, None) if signals().next().is_some() => {
                    format!("no feature of this rule has `{}`", metric.name)
                }
                _ => continue,
            };
            let help = metrics::needs_rows(metric.name);
            let message = if help.is_some() { format!("{message} without its rows") } else { message };
            let problem = Problem::error("unsuited-metric", format!("{pointer}/{key}"), message).within(at.clone());
            let help = help.map(|help| format!("of numeric features, {help}"));
            let otherwise = match of_vector {
                _ if metric.subject == Subject::Vector => {
                    "vector features have it, and `signal: joint`, with `joint: {features: all}` in the model file"
                }
                true => "`mmd2`, `pca_reconstruction_shift`, `mean_cosine_distance` and `classifier_auc` suit vectors",
                false => "`psi`, `js` and `null_rate` suit any feature",
            };
            found.push(problem.help(help.unwrap_or_else(|| otherwise.into())));
        }
    }
}

/// A moving reference must be a union of whole windows.
fn moving_reference(rule: &Rule, moving: &MovingReference, pointer: &str, models: &[&Model], found: &mut Vec<Problem>) {
    let misfit = models.iter().find_map(|model| {
        let spec = rule.window_spec(model.windows.size.ms);
        moving.misfit(Span::from_ms(spec.size_ms), Span::from_ms(spec.slide_ms))
    });
    if let Some(misfit) = misfit {
        let place = format!("{pointer}/reference/{}", misfit.key);
        found.push(Problem::error("bad-reference", place, misfit.message).help(misfit.help));
    }
    let versioned = models.iter().any(|model| model.fields.version.is_some());
    if moving.version.is_some() && !versioned {
        let place = format!("{pointer}/reference/version");
        let problem = Problem::error("bad-reference", place, "no model of this rule tells versions apart");
        found.push(problem.help("say where the version stands: `fields: {version: ...}` in the model file"));
    }
}

/// Whether the rule names this feature itself, not by a glob or `all`.
fn names_exactly(rule: &Rule, name: &str) -> bool {
    rule.signal.as_deref() == Some(name)
        || match &rule.features.include {
            Include::Word(word) => word == name,
            Include::Names(names) => names.iter().any(|included| included == name),
        }
}

fn selectors(rule: &Rule, pointer: &str, models: &[&Model], found: &mut Vec<Problem>) {
    let features: BTreeSet<&str> = models.iter().flat_map(|model| model.features.keys()).map(String::as_str).collect();
    if let Some(signal) = &rule.signal {
        let known: BTreeSet<String> =
            models.iter().flat_map(|model| model.watched_signals()).map(|signal| signal.name).collect();
        if !known.contains(signal) {
            let message = format!("no model of this rule has a signal `{signal}`");
            let help = match signal.as_str() {
                PREDICTION_SIGNAL => Some("add `prediction: {path: ..., type: ...}` to the model file".to_string()),
                JOINT_SIGNAL => Some("add `joint: {features: all}` to the model file".to_string()),
                SCORE_SIGNAL => Some("add `score: {path: ..., type: numeric}` to the model file".to_string()),
                _ => suggest(
                    signal,
                    [PREDICTION_SIGNAL, SCORE_SIGNAL, JOINT_SIGNAL, PERFORMANCE_SIGNAL]
                        .into_iter()
                        .chain(features.iter().copied()),
                ),
            };
            found.push(Problem::error("unknown-signal", format!("{pointer}/signal"), message).help_if(help));
        }
    }
    let unknown = |pattern: &str| match glob::is_glob(pattern) {
        true => (!features.iter().any(|name| glob::matches(pattern, name)))
            .then(|| format!("no feature matches `{pattern}`")),
        false => (!features.contains(pattern)).then(|| format!("no model of this rule has a feature `{pattern}`")),
    };
    let included: Vec<(String, &String)> = match &rule.features.include {
        Include::Word(word) if word == "all" => Vec::new(),
        Include::Word(word) => vec![(format!("{pointer}/features/include"), word)],
        Include::Names(names) => names
            .iter()
            .enumerate()
            .map(|(index, name)| (format!("{pointer}/features/include/{index}"), name))
            .collect(),
    };
    for (place, pattern) in included {
        if let Some(message) = unknown(pattern) {
            let help = suggest(pattern, features.iter().copied());
            found.push(Problem::error("unknown-feature", place, message).help_if(help));
        }
    }
    for (index, pattern) in rule.features.exclude.iter().enumerate() {
        if let Some(message) = unknown(pattern) {
            let place = format!("{pointer}/features/exclude/{index}");
            found.push(
                Problem::warning("unknown-feature", place, message).help_if(suggest(pattern, features.iter().copied())),
            );
        }
    }
}

fn segments(rule: &Rule, pointer: &str, models: &[&Model], found: &mut Vec<Problem>) {
    for (index, name) in rule.segments.iter().enumerate() {
        if models.iter().any(|model| model.has_segment(name)) {
            continue;
        }
        let (segment, columns) = match segment::split(name) {
            Some((first, second)) => (format!("[{first}, {second}]"), vec![first, second]),
            None => (name.clone(), vec![name.clone()]),
        };
        let kind =
            |column: &String| models.iter().find_map(|model| model.features.get(column)).map(|found| found.kind());
        let kinds: Vec<Option<Kind>> = columns.iter().map(kind).collect();
        let other = kinds.iter().flatten().find(|kind| **kind != Kind::Categorical);
        let (code, message, help) = if let Some(kind) = other {
            ("segment-not-categorical", format!("segment `{segment}` is {}", kind.predicate()), None)
        } else if kinds.iter().all(Option::is_some) {
            let help = format!("add `{segment}` to `segments:` in the model file");
            let message = match columns.as_slice() {
                [_] => format!("`{segment}` is a feature but not a segment of the model"),
                _ => format!("`{segment}` is not a segment of the model"),
            };
            ("unknown-segment", message, Some(help))
        } else {
            let known: BTreeSet<String> =
                models.iter().flat_map(|model| &model.segments).map(ToString::to_string).collect();
            let help = suggest(&segment, known.iter().map(String::as_str));
            ("unknown-segment", format!("no model of this rule has a segment `{segment}`"), help)
        };
        found.push(Problem::error(code, format!("{pointer}/segments/{index}"), message).help_if(help));
    }
}

pub fn route_matches(route: &Route, rule: &str, model: &str, severity: Severity) -> bool {
    let matcher = &route.matcher;
    matcher.severity.is_none_or(|wanted| wanted == severity)
        && matcher.rule.as_deref().is_none_or(|pattern| glob::matches(pattern, rule))
        && matcher.model.as_deref().is_none_or(|pattern| glob::matches(model_part(pattern), model))
}

/// `fraud@*` in a route means the model: an episode may span versions.
fn model_part(pattern: &str) -> &str {
    pattern.split('@').next().unwrap_or_default()
}

pub fn routing(files: &[&RuleFile], placed: &[Placed], receivers: &BTreeMap<String, Receiver>) -> Vec<FileProblem> {
    let mut problems = Vec::new();
    let mut report = |file: usize, problem: Problem| problems.push(FileProblem { file, problem });
    let mut used: BTreeSet<&str> = delivery_checks::used_otherwise(files);
    let any_severity = |rule: &Rule, route: &Route| {
        let model = &rule.model_glob;
        let by_name = |severity| route_matches(route, &rule.name, model, severity);
        // A glob against a glob: assume that they meet.
        let by_glob = |severity| glob::is_glob(model) && route_matches_but_model(route, &rule.name, severity);
        rule.severities().into_iter().any(|severity| by_name(severity) || by_glob(severity))
    };
    for (file_index, file) in files.iter().enumerate() {
        for (index, route) in file.routes.iter().enumerate() {
            let pointer = format!("/routes/{index}");
            if route.to.is_empty() {
                report(
                    file_index,
                    Problem::error("empty-list", format!("{pointer}/to"), "this route leads nowhere").key(),
                );
            }
            for (to_index, name) in route.to.iter().enumerate() {
                used.insert(name);
                if !receivers.contains_key(name) {
                    let message = format!("there is no receiver `{name}`");
                    let help = suggest(name, receivers.keys().map(String::as_str));
                    let help = help.unwrap_or_else(|| "define it under `receivers:`".into());
                    report(
                        file_index,
                        Problem::error("unknown-receiver", format!("{pointer}/to/{to_index}"), message).help(help),
                    );
                }
            }
            if !placed.is_empty() && !placed.iter().any(|(_, _, rule)| any_severity(rule, route)) {
                report(
                    file_index,
                    Problem::warning("unreached-route", format!("{pointer}/match"), "no rule reaches this route").key(),
                );
            }
        }
    }
    for (file_index, file) in files.iter().enumerate() {
        for name in file.receivers.keys().filter(|name| !used.contains(name.as_str())) {
            let message = format!("no route leads to receiver `{name}`");
            report(file_index, Problem::warning("unused-receiver", child("/receivers", name), message).key());
        }
    }
    let routes: Vec<&Route> = files.iter().flat_map(|file| &file.routes).collect();
    for (file, pointer, rule) in placed {
        for severity in rule.severities() {
            let reached = routes.iter().any(|route| {
                route_matches(route, &rule.name, &rule.model_glob, severity)
                    || (glob::is_glob(&rule.model_glob) && route_matches_but_model(route, &rule.name, severity))
            });
            if !reached {
                let word = if severity == Severity::Warn { "warn" } else { "critical" };
                let message = format!("nobody hears of `{}` at {word}: no route matches", rule.name);
                let problem = Problem::error("no-route", format!("{pointer}/name"), message);
                report(*file, problem.help(format!("add `routes: [{{match: {{severity: {word}}}, to: [...]}}]`")));
            }
        }
    }
    problems
}

fn route_matches_but_model(route: &Route, rule: &str, severity: Severity) -> bool {
    let matcher = &route.matcher;
    matcher.severity.is_none_or(|wanted| wanted == severity)
        && matcher.rule.as_deref().is_none_or(|pattern| glob::matches(pattern, rule))
}
