//! What a file of rule tests can get wrong beyond its shape: by itself, and against the models and rules it is about.

use std::collections::BTreeSet;

use chrono::DateTime;

use super::diagnostic::Problem;
use super::distribution::{Distribution, Drawn, Shape};
use super::model::{Kind, Model, PREDICTION_SIGNAL, SCORE_SIGNAL};
use super::nearest::suggest;
use super::rule_tests::{Expectation, ExpectedStatus, Given, GivenReference, GivenRows, RuleTest, RuleTestFile};
use super::rules::{Rule, RuleFile, Severity};
use super::yaml::child;

/// Key of the label among features.
pub const LABEL_KEY: &str = "label";
/// Most windows of a test, and events of one of its windows.
const MAX_WINDOWS: usize = 2_000;
const MAX_ROWS: u64 = 1_000_000;

/// The signal that a key among features stands for: `score` and `prediction` are those of the model.
pub fn signal_of<'a>(model: &Model, key: &'a str) -> &'a str {
    match key {
        "score" if !model.features.contains_key(key) => SCORE_SIGNAL,
        "prediction" if !model.features.contains_key(key) => PREDICTION_SIGNAL,
        _ => key,
    }
}

/// What the file says wrongly whatever it is about.
pub fn file(file: &RuleTestFile) -> Vec<Problem> {
    let mut problems = Vec::new();
    if file.version != 1 {
        let message = format!("version {} of this format is not known", file.version);
        problems.push(Problem::error("bad-version", "/version", message).help("write `version: 1`"));
    }
    if file.tests.is_empty() {
        let problem = Problem::error("empty-list", "/tests", "there is no test in this file");
        problems.push(problem.help("tests: [{name: ..., given: {windows: [...]}, expect: [...]}]"));
    }
    if let Some(start) = &file.defaults.start {
        instant(&mut problems, "/defaults/start", start);
    }
    if let Some(reference) = &file.defaults.reference {
        self::reference(&mut problems, "/defaults/reference", reference);
    }
    let mut names: BTreeSet<&str> = BTreeSet::new();
    for (index, test) in file.tests.iter().enumerate() {
        let pointer = format!("/tests/{index}");
        if !names.insert(&test.name) {
            let message = format!("another test is named `{}`", test.name);
            let problem = Problem::error("duplicate-test", child(&pointer, "name"), message);
            problems.push(problem.help("what is drawn depends on the name; give each test its own"));
        }
        if test.given.model.is_none() && file.defaults.model.is_none() {
            let problem = Problem::error("missing-key", child(&pointer, "given"), "the test has no `model`").key();
            problems.push(problem.help("add `model: fraud@3` under `given`, or under `defaults` for all tests"));
        }
        self::given(&mut problems, &child(&pointer, "given"), &test.given);
        expectations(&mut problems, &pointer, test);
    }
    problems
}

fn instant(problems: &mut Vec<Problem>, pointer: &str, text: &str) {
    if DateTime::parse_from_rfc3339(text).is_err() {
        let problem = Problem::error("bad-time", pointer, format!("`{text}` is no instant"));
        problems.push(problem.help("write `2026-01-05T00:00:00Z`"));
    }
}

fn given(problems: &mut Vec<Problem>, pointer: &str, given: &Given) {
    if let Some(start) = &given.start {
        instant(problems, &child(pointer, "start"), start);
    }
    if given.window.is_some_and(|window| window.ms == 0) {
        let place = child(pointer, "window");
        problems.push(Problem::error("out-of-range", place, "a window must be longer than nothing"));
    }
    if let Some(reference) = &given.reference {
        self::reference(problems, &child(pointer, "reference"), reference);
    }
    let windows = child(pointer, "windows");
    if given.windows.is_empty() {
        let problem = Problem::error("empty-list", windows.clone(), "nothing happens: there is no window");
        problems.push(problem.help("windows: [{rows: 1000}]"));
    }
    if given.window_count() > MAX_WINDOWS {
        let message = format!("{} windows; at most {MAX_WINDOWS} in one test", given.window_count());
        problems.push(Problem::error("out-of-range", windows.clone(), message));
    }
    for (place, window) in given.entries() {
        let pointer = format!("{windows}{place}");
        if window.repeat == Some(0) {
            let problem = Problem::error("out-of-range", child(&pointer, "repeat"), "0 windows are none");
            problems.push(problem.help("leave the entry out, or write `rows: 0` for a window without events"));
        }
        if window.windows.is_empty() {
            rows(problems, &pointer, &window.rows);
        } else if window.rows != GivenRows::default() || !window.also.is_empty() {
            let message = "this entry is several windows in turn, and has events of its own";
            let problem = Problem::error("contradiction", child(&pointer, "windows"), message).key();
            problems.push(problem.help("give each of the windows its `rows`"));
        }
        for (index, also) in window.also.iter().enumerate() {
            rows(problems, &format!("{pointer}/also/{index}"), also);
        }
    }
}

fn rows(problems: &mut Vec<Problem>, pointer: &str, rows: &GivenRows) {
    row_count(problems, pointer, rows.rows);
    if rows.rows.is_none() && rows.events.is_empty() && rows.file.is_none() {
        let problem = Problem::error("missing-key", pointer, "this window does not say how many events it has");
        problems.push(problem.help("add `rows: 1000`, or `rows: 0` for silence"));
    }
    distributions(problems, pointer, rows.features.iter());
}

fn row_count(problems: &mut Vec<Problem>, pointer: &str, rows: Option<u64>) {
    if let Some(rows) = rows.filter(|rows| *rows > MAX_ROWS) {
        let message = format!("{rows} rows; at most {MAX_ROWS}");
        problems.push(Problem::error("out-of-range", child(pointer, "rows"), message));
    }
}

fn reference(problems: &mut Vec<Problem>, pointer: &str, reference: &GivenReference) {
    row_count(problems, pointer, reference.rows);
    if reference.rows == Some(0) {
        problems.push(Problem::error("out-of-range", child(pointer, "rows"), "a reference without rows is none"));
    }
    if reference.file.is_some() && (reference.rows.is_some() || !reference.features.is_empty()) {
        let message = "the rows of a reference come from `file` or are drawn, not both";
        let help = "remove `file`, or `rows` and the distributions";
        problems.push(Problem::error("contradiction", child(pointer, "file"), message).key().help(help));
    }
    distributions(problems, pointer, reference.features.iter());
}

fn distributions<'a>(
    problems: &mut Vec<Problem>,
    pointer: &str,
    features: impl Iterator<Item = (&'a String, &'a Drawn)>,
) {
    for (name, drawn) in features {
        let place = child(pointer, name);
        match drawn.distribution() {
            Err(error) => {
                let problem = Problem::error("distribution", place, error.message).help_if(error.help);
                problems.push(match drawn {
                    Drawn::Text(_) => problem.within(error.within),
                    _ => problem,
                });
            }
            Ok(Distribution { shape: Shape::Calibrated | Shape::Prediction { .. }, .. }) if name != LABEL_KEY => {
                let message = "only a label follows from what was predicted";
                problems
                    .push(Problem::error("distribution", place, message).help(format!("`{LABEL_KEY}: calibrated`")));
            }
            Ok(Distribution { noise, .. }) if noise > 0.0 && name != LABEL_KEY => {
                let message = "noise is for labels; a feature is as noisy as its distribution";
                problems.push(Problem::error("distribution", place, message).help("write `with 10% nulls`"));
            }
            Ok(_) => {}
        }
    }
}

fn expectations(problems: &mut Vec<Problem>, pointer: &str, test: &RuleTest) {
    if test.expect.is_empty() {
        let problem = Problem::error("empty-list", child(pointer, "expect"), "a test that expects nothing cannot fail");
        problems.push(problem.help("expect: [{at: end, none: true}]"));
    }
    for (index, expectation) in test.expect.iter().enumerate() {
        let pointer = format!("{pointer}/expect/{index}");
        if expectation.at.is_empty() {
            let problem = Problem::error("missing-key", pointer.clone(), "this expectation has no `at`");
            problems.push(problem.help("add `at: window 6`, `at: windows 4-7` or `at: end`"));
        } else if let Err((message, help)) = expectation.windows(test.given.window_count()) {
            problems.push(Problem::error("bad-time", child(&pointer, "at"), message).help(help));
        }
        if !expectation.none && !expectation.is_of_an_alert() && expectation.messages.is_empty() {
            let problem = Problem::error("missing-key", pointer.clone(), "this expectation says nothing");
            problems.push(problem.help("add `none: true`, or what the alert should be: `rule: feature-drift`"));
        }
        if expectation.none && expectation.exactly {
            let problem = Problem::error("contradiction", child(&pointer, "exactly"), "`exactly` and `none`").key();
            problems.push(problem.help("`none: true` alone says that nothing fires"));
        }
        if expectation.suppressed_by.is_some()
            && expectation.status.is_some_and(|status| status != ExpectedStatus::Suppressed)
        {
            let message = "what is suppressed has `status: suppressed`";
            problems.push(Problem::error("contradiction", child(&pointer, "status"), message));
        }
        for (key, text) in expectation.patterns() {
            if let Err(problem) = Pattern::read(text) {
                problems.push(Problem { pointer: child(&pointer, key), ..problem });
            }
        }
        for (position, feature) in expectation.features.iter().enumerate() {
            if let Err(problem) = Pattern::read(feature) {
                problems.push(Problem { pointer: format!("{pointer}/features/{position}"), ..problem });
            }
        }
    }
}

impl Expectation {
    /// Texts that may be regular expressions, with their keys.
    fn patterns(&self) -> Vec<(&'static str, &str)> {
        let texts = [("summary", &self.summary), ("description", &self.description), ("runbook", &self.runbook)];
        texts.into_iter().filter_map(|(key, text)| Some((key, text.as_deref()?))).collect()
    }
}

/// A text to be found within another, or `/a regular expression/`.
#[derive(Debug, Clone)]
pub enum Pattern {
    Text(String),
    Regex(Box<regex::Regex>),
}

impl Pattern {
    /// The problem has no pointer yet.
    pub fn read(text: &str) -> Result<Self, Problem> {
        let inner = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')).filter(|inner| !inner.is_empty());
        match inner {
            None => Ok(Pattern::Text(text.to_string())),
            Some(inner) => match regex::Regex::new(inner) {
                Ok(regex) => Ok(Pattern::Regex(Box::new(regex))),
                Err(error) => {
                    let reason = error.to_string();
                    let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_string();
                    let message = format!("not a regular expression: {reason}");
                    let help = "put a backslash before brackets, dots and other signs that mean themselves";
                    Err(Problem::error("bad-pattern", "", message).help(help))
                }
            },
        }
    }

    /// Whether it is found in `text`.
    pub fn is_in(&self, text: &str) -> bool {
        match self {
            Pattern::Text(part) => text.contains(part.as_str()),
            Pattern::Regex(regex) => regex.is_match(text),
        }
    }

    /// Whether it is `text`; a regular expression may match a part of it.
    pub fn is(&self, text: &str) -> bool {
        match self {
            Pattern::Text(whole) => whole == text,
            Pattern::Regex(regex) => regex.is_match(text),
        }
    }
}

/// What the file says wrongly of the models and rules it is about. `models` is empty where none is known: then the tests'
/// models are made of the features that they name.
pub fn against(file: &RuleTestFile, models: &[&Model], rules: &[&RuleFile]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, test) in file.tests.iter().enumerate() {
        let pointer = format!("/tests/{index}");
        let model = model_of(&mut problems, file, test, &pointer, models);
        let own = test.given.reference.as_ref().map(|reference| (format!("{pointer}/given/reference"), reference));
        let shared = file.defaults.reference.as_ref().map(|reference| ("/defaults/reference".to_string(), reference));
        let reference = own.or(shared);
        if let Some(model) = model {
            for (place, rows) in drawn(&pointer, test) {
                features(&mut problems, &place, model, rows.features.iter());
                for (index, name) in rows.without.iter().enumerate() {
                    let place = format!("{place}/without/{index}");
                    known_feature(&mut problems, place, model, name);
                }
                for (key, names) in [("nulls", rows.nulls.keys()), ("invalid", rows.invalid.keys())] {
                    for name in names {
                        known_feature(&mut problems, child(&child(&place, key), name), model, name);
                    }
                }
            }
            if let Some((place, reference)) = &reference {
                features(&mut problems, place, model, reference.features.iter());
            }
        }
        let in_reference = reference.map(|(_, reference)| reference);
        missing_in_reference(&mut problems, &pointer, test, in_reference, model);
        for (index, expectation) in test.expect.iter().enumerate() {
            expected(&mut problems, &format!("{pointer}/expect/{index}"), expectation, model, rules);
        }
    }
    problems
}

/// Every list of rows of a test, with its place.
fn drawn<'t>(pointer: &str, test: &'t RuleTest) -> Vec<(String, &'t GivenRows)> {
    let mut found = Vec::new();
    for (place, window) in test.given.entries() {
        let place = format!("{pointer}/given/windows{place}");
        let also = window.also.iter().enumerate().map(|(also, rows)| (format!("{place}/also/{also}"), rows));
        let also: Vec<_> = also.collect();
        found.push((place, &window.rows));
        found.extend(also);
    }
    found
}

/// `model@version` in its two parts.
pub fn name_and_version(model: &str) -> (&str, Option<&str>) {
    model.split_once('@').map_or((model, None), |(name, version)| (name, Some(version)))
}

fn model_of<'m>(
    problems: &mut Vec<Problem>,
    file: &RuleTestFile,
    test: &RuleTest,
    pointer: &str,
    models: &[&'m Model],
) -> Option<&'m Model> {
    let (place, text) = match (&test.given.model, &file.defaults.model) {
        (Some(text), _) => (format!("{pointer}/given/model"), text),
        (None, Some(text)) => ("/defaults/model".to_string(), text),
        (None, None) => return None,
    };
    let (name, version) = name_and_version(text);
    if version.is_some_and(|version| version.contains(['*', '?']) || version.is_empty()) {
        let problem = Problem::error("bad-name", place.clone(), format!("`{text}` is not one version of one model"));
        problems.push(problem.help(format!("events have one version: write `{name}@3`")));
    }
    if models.is_empty() {
        return None;
    }
    let Some(model) = models.iter().find(|model| model.model == name) else {
        let help = suggest(name, models.iter().map(|model| model.model.as_str()));
        problems.push(Problem::error("unknown-model", place, format!("no model is named `{name}`")).help_if(help));
        return None;
    };
    if version.is_some() && model.fields.version.is_none() {
        let message = format!("events of `{name}` carry no version: its file has no `fields.version`");
        problems.push(Problem::error("contradiction", place, message).help(format!("write `{name}`")));
    }
    Some(model)
}

fn known_feature(problems: &mut Vec<Problem>, place: String, model: &Model, key: &str) -> Option<Kind> {
    let signal = signal_of(model, key);
    if key == LABEL_KEY && !model.features.contains_key(LABEL_KEY) {
        if model.performance.is_none() {
            let message = format!("model `{}` is not judged by labels: its file has no `performance`", model.model);
            problems.push(Problem::error("unknown-feature", place, message).key());
        }
        return None;
    }
    if let Some(signal) = model.signals().into_iter().find(|known| known.name == signal) {
        return Some(signal.kind);
    }
    let signals = model.signals();
    let known = signals.iter().map(|signal| match signal.name.as_str() {
        PREDICTION_SIGNAL => "prediction",
        SCORE_SIGNAL => "score",
        name => name,
    });
    let others = ["rows", "repeat", "version", "also", "events", "file", "nulls", "invalid", "late_by"];
    let help = suggest(key, known.clone().chain(others)).or_else(|| suggest(key, known));
    let message = format!("`{key}` is not a feature of model `{}`", model.model);
    problems.push(Problem::error("unknown-feature", place, message).key().help_if(help));
    None
}

fn features<'a>(
    problems: &mut Vec<Problem>,
    pointer: &str,
    model: &Model,
    features: impl Iterator<Item = (&'a String, &'a Drawn)>,
) {
    for (name, drawn) in features {
        let place = child(pointer, name);
        let kind = known_feature(problems, place.clone(), model, name);
        let (Some(kind), Ok(distribution)) = (kind, drawn.distribution()) else { continue };
        let problem = match (kind, distribution.shape.is_numeric()) {
            (Kind::Numeric | Kind::Vector, Some(false)) => {
                Problem::error("wrong-type", place, format!("`{name}` is {}, and this draws text", kind.predicate()))
                    .help("write a distribution of numbers such as `normal(100, 20)`")
            }
            (Kind::Categorical, Some(true))
                if !matches!(
                    distribution.shape,
                    Shape::Constant(_) | Shape::Poisson { .. } | Shape::Bernoulli { .. }
                ) =>
            {
                Problem::error("wrong-type", place, format!("`{name}` is categorical, and this draws numbers"))
                    .help("write categories and their shares: `{DE: 0.7, FR: 0.3}`")
            }
            _ => continue,
        };
        problems.push(problem);
    }
}

/// A distribution in a window says nothing without what it is compared with.
fn missing_in_reference(
    problems: &mut Vec<Problem>,
    pointer: &str,
    test: &RuleTest,
    reference: Option<&GivenReference>,
    model: Option<&Model>,
) {
    // What the model does not have is told already.
    let is_feature = |name: &str| {
        let known = |model: &Model| model.signals().iter().any(|signal| signal.name == signal_of(model, name));
        model.is_none_or(known)
    };
    if reference.is_some_and(|reference| reference.file.is_some()) {
        return;
    }
    let mut told: BTreeSet<&str> = BTreeSet::new();
    for (place, rows) in drawn(pointer, test) {
        for name in rows.features.keys().filter(|name| *name != LABEL_KEY && is_feature(name)) {
            let is_known = reference.is_some_and(|reference| reference.features.contains_key(name));
            if is_known || !told.insert(name) {
                continue;
            }
            let message = format!("`{name}` has a distribution here and none in the reference");
            let problem = Problem::error("missing-key", child(&place, name), message).key();
            problems.push(problem.help(format!("add `{name}: ...` under `reference`: what training saw")));
        }
    }
}

fn expected(
    problems: &mut Vec<Problem>,
    pointer: &str,
    expectation: &Expectation,
    model: Option<&Model>,
    rules: &[&RuleFile],
) {
    let known = || rules.iter().flat_map(|file| &file.rules);
    let rule = expectation.rule.as_deref().and_then(|name| {
        let found = known().find(|rule| rule.name == name);
        if found.is_none() {
            let help = suggest(name, known().map(|rule| rule.name.as_str()));
            let message = format!("no rule under test is named `{name}`");
            problems.push(Problem::error("unknown-rule", child(pointer, "rule"), message).help_if(help));
        }
        found
    });
    if let (Some(rule), Some(severity), false) = (rule, expectation.severity, expectation.none)
        && !severities(rule).contains(&severity)
    {
        let word = word(severity);
        let message = format!("rule `{}` is never {word}", rule.name);
        let help = severities(rule).first().map(|other| format!("it is {}", self::word(*other)));
        problems.push(Problem::error("contradiction", child(pointer, "severity"), message).help_if(help));
    }
    let receivers: Vec<&str> = rules.iter().flat_map(|file| file.receivers.keys()).map(String::as_str).collect();
    let actions: Vec<&str> = rules.iter().flat_map(|file| file.actions.keys()).map(String::as_str).collect();
    let mut named = |key: String, name: &str, kind: &str, code: &'static str, known: &[&str], at_key: bool| {
        if !known.contains(&name) {
            let help = suggest(name, known.iter().copied());
            let problem = Problem::error(code, key, format!("no {kind} is named `{name}`")).help_if(help);
            problems.push(Problem { at_key, ..problem });
        }
    };
    for (index, name) in expectation.receivers.iter().enumerate() {
        named(format!("{pointer}/receivers/{index}"), name, "receiver", "unknown-receiver", &receivers, false);
    }
    for name in expectation.messages.keys() {
        named(child(&child(pointer, "messages"), name), name, "receiver", "unknown-receiver", &receivers, true);
    }
    for (index, name) in expectation.actions.iter().enumerate() {
        named(format!("{pointer}/actions/{index}"), name, "action", "unknown-action", &actions, false);
    }
    let Some(model) = model else { return };
    for (index, feature) in expectation.features.iter().enumerate().filter(|(_, name)| !name.starts_with('/')) {
        let signals = model.watched_signals();
        if !signals.iter().any(|signal| signal.name == *feature) {
            let help = suggest(feature, signals.iter().map(|signal| signal.name.as_str()));
            let message = format!("`{feature}` is not a feature of model `{}`", model.model);
            let place = format!("{pointer}/features/{index}");
            problems.push(Problem::error("unknown-feature", place, message).help_if(help));
        }
    }
}

fn severities(rule: &Rule) -> Vec<Severity> {
    let when = rule.when.as_ref();
    let warn = when.and_then(|when| when.warn.as_ref()).map(|_| Severity::Warn);
    let critical = when.and_then(|when| when.critical.as_ref()).map(|_| Severity::Critical);
    let absent = rule.absent.as_ref().map(|absent| absent.severity);
    [warn, critical, absent].into_iter().flatten().collect()
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Warn => "warn",
        Severity::Critical => "critical",
    }
}
