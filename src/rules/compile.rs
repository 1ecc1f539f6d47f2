//! Rules files to a `RuleSet` that can be asked about windows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::action_checks;
use super::checks;
use super::delivery_checks;
use super::episode::Notification;
use super::expression::{Expression, Figure};
use super::metrics::{Metric, Subject};
use super::performance::{DEFAULT_MIN_COVERAGE, OnPerformance};
use super::performance_metrics::At;
use super::persistence;
use super::renames;
use super::sql::{self, OnQuery, Queries};
use super::state::Persistence;
use super::suppression::{TimedSilence, inhibitors_first};
use super::suppression_checks;
use super::texts::{self, Texts};
use super::token::ExpressionError;
use crate::config::actions::Action;
use crate::config::diagnostic::{Level, Problem};
use crate::config::glob;
use crate::config::model::{ALL_METRICS, JOINT_SIGNAL, MetricNames, Model, PREDICTION_SIGNAL, SCORE_SIGNAL};
use crate::config::performance::{PERFORMANCE_SIGNAL, Task};
use crate::config::receivers::Receiver;
use crate::config::rules::{
    Absent, FeatureSelector, GroupKey, Heartbeat, Include, Inhibition, LabelNeeds, ReferenceChoice, Route, RuleFile,
    Severity, Significance,
};
use crate::config::segment::SegmentColumns;
use crate::config::units::{Share, Span};
use crate::config::yaml::child;
use crate::reference::moving::{MovingReference, PREVIOUS};
use crate::stats::metric::FeatureStats;
use crate::stats::selection::Selection;
use crate::stats::sql::{SqlMetric, is_result_name};
use crate::windows::baseline::Comparison;
use crate::windows::result::WindowResult;
use crate::windows::state::{WatchedModel, WindowSpec};
use crate::windows::watched::WatchedPerformance;

/// A problem and the index of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileProblem {
    pub file: usize,
    pub problem: Problem,
}

/// Rows that a window needs to be judged, unless the rule or its file's defaults say otherwise.
pub const DEFAULT_MIN_SAMPLES: u64 = 500;

/// Reference that rules compare with, unless they say otherwise.
pub const DEFAULT_REFERENCE: &str = "training";

/// A rule with its defaults filled in and its expressions read.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub name: String,
    pub model_glob: String,
    pub version_glob: String,
    pub features: FeatureSelector,
    pub signal: Option<String>,
    /// `signal: performance`: the rule looks at how well the model did, and at nothing else.
    pub performance: Option<OnPerformance>,
    /// `sql`: the rule looks at the value of its query, and at nothing else.
    pub sql: Option<OnQuery>,
    /// As written.
    pub labels: Option<LabelNeeds>,
    /// Names of segment columns and pairs, as in results.
    pub segments: Vec<String>,
    /// `None`: the model's own.
    pub window: Option<Span>,
    pub slide: Option<Span>,
    /// As results name it: `training`, `trailing 7d`.
    pub reference: String,
    /// `None`: a stored reference.
    pub moving: Option<MovingReference>,
    pub warn: Option<Expression>,
    pub critical: Option<Expression>,
    pub recover: Option<Expression>,
    pub significance: Significance,
    pub persistence: Persistence,
    pub min_samples: u64,
    pub group_by: BTreeSet<GroupKey>,
    pub absent: Option<Absent>,
    /// Names of the actions that a firing episode asks for.
    pub actions: Vec<String>,
    pub texts: Texts,
    /// Its name before it was renamed.
    pub formerly: Option<String>,
    /// Conditions name metrics of the window as a whole alone: no reference is needed.
    pub counts_rows_only: bool,
    /// Rejected events belong to the sample: conditions name metrics of all events alone.
    pub counts_rejected: bool,
}

impl Rule {
    pub fn matches(&self, model: &str, version: &str) -> bool {
        self.matches_model(model) && glob::matches(&self.version_glob, version)
    }

    pub fn matches_model(&self, model: &str) -> bool {
        glob::matches(&self.model_glob, model)
    }

    /// Chance of a false alarm that this rule allows itself in the result's window.
    pub fn false_alarm_rate(&self, result: &WindowResult) -> f64 {
        let size_ms = result.window.end_ms - result.window.start_ms;
        self.significance.alpha(self.slide.map_or(size_ms, |slide| slide.ms))
    }

    pub fn window_spec(&self, model_size_ms: i64) -> WindowSpec {
        let size_ms = self.window.map_or(model_size_ms, |window| window.ms);
        WindowSpec { size_ms, slide_ms: self.slide.map_or(size_ms, |slide| slide.ms) }
    }

    /// Whether this rule looks at the feature or signal of this name.
    pub fn selects(&self, name: &str) -> bool {
        if let Some(on_query) = &self.sql {
            return on_query.feature == name;
        }
        if let Some(signal) = &self.signal {
            return signal == name;
        }
        if is_result_name(name) || [PREDICTION_SIGNAL, SCORE_SIGNAL, JOINT_SIGNAL].contains(&name) {
            return false;
        }
        let included = match &self.features.include {
            Include::Word(word) => word == "all" || glob::matches(word, name),
            Include::Names(patterns) => patterns.iter().any(|pattern| glob::matches(pattern, name)),
        };
        included && !self.features.exclude.iter().any(|pattern| glob::matches(pattern, name))
    }

    pub fn selected<'a>(&self, result: &'a WindowResult) -> Vec<(&'a str, &'a FeatureStats)> {
        let features = result.features.iter().filter(|(name, _)| self.selects(name));
        features.map(|(name, stats)| (name.as_str(), stats)).collect()
    }

    /// Metrics that its conditions name.
    pub fn metric_names(&self) -> impl Iterator<Item = &'static str> {
        let conditions = [&self.warn, &self.critical, &self.recover].into_iter().flatten();
        conditions.flat_map(|condition| condition.metrics.iter().map(|(metric, _)| metric.name))
    }

    /// Figures of performance that its conditions name.
    pub fn figures(&self) -> impl Iterator<Item = &Figure> {
        let conditions = [&self.warn, &self.critical, &self.recover].into_iter().flatten();
        conditions.flat_map(|condition| condition.figures.iter().map(|(figure, _)| figure))
    }

    /// Events that the rule judges by.
    pub fn sample(&self, result: &WindowResult) -> u64 {
        if self.counts_rejected { result.events() } else { result.rows }
    }

    pub fn severities(&self) -> Vec<Severity> {
        let mut severities = Vec::new();
        severities.extend(self.warn.as_ref().map(|_| Severity::Warn));
        severities.extend(self.critical.as_ref().map(|_| Severity::Critical));
        severities.extend(self.absent.as_ref().map(|absent| absent.severity));
        severities
    }
}

/// What evaluation needs to know of a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ModelWindows {
    pub size_ms: i64,
    pub allowed_lateness_ms: i64,
    /// How long labels may come after their prediction; 0 where they come with it, or never.
    pub label_delay_ms: i64,
}

/// All rules of a service, with routes and receivers.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleSet {
    pub(super) rules: Vec<Rule>,
    pub(super) routes: Vec<Route>,
    pub(super) receivers: BTreeMap<String, Receiver>,
    pub(super) actions: BTreeMap<String, Action>,
    pub(super) inhibitions: Vec<Inhibition>,
    pub(super) silences: Vec<TimedSilence>,
    pub(super) heartbeat: Option<Heartbeat>,
    pub(super) models: BTreeMap<String, ModelWindows>,
    /// By model.
    pub(super) sql: Queries,
}

impl RuleSet {
    /// `files` are names and contents; errors come with the index of their file, warnings are left out (see
    /// `analyse`).
    pub fn compile(files: &[(String, RuleFile)], models: &[Arc<Model>]) -> Result<Self, Vec<FileProblem>> {
        let contents: Vec<&RuleFile> = files.iter().map(|(_, file)| file).collect();
        let (set, problems) = Self::analyse(&contents, models);
        let errors: Vec<FileProblem> =
            problems.into_iter().filter(|found| found.problem.level == Level::Error).collect();
        if errors.is_empty() { Ok(set) } else { Err(errors) }
    }

    /// The set, and everything wrong or doubtful about it. A rule with an unreadable part is not in the set.
    pub fn analyse(files: &[&RuleFile], models: &[Arc<Model>]) -> (Self, Vec<FileProblem>) {
        let mut problems = Vec::new();
        let mut placed = Vec::new();
        let mut set = Self {
            rules: Vec::new(),
            routes: files.iter().flat_map(|file| file.routes.clone()).collect(),
            receivers: BTreeMap::new(),
            actions: BTreeMap::new(),
            sql: Queries::new(),
            inhibitions: files.iter().flat_map(|file| file.inhibit.clone()).collect(),
            silences: files.iter().flat_map(|file| &file.silences).filter_map(TimedSilence::of).collect(),
            heartbeat: files.iter().find_map(|file| file.heartbeat.clone()),
            models: models
                .iter()
                .map(|model| {
                    let windows = &model.windows;
                    let about = ModelWindows {
                        size_ms: windows.size.ms,
                        allowed_lateness_ms: windows.allowed_lateness.ms,
                        label_delay_ms: label_delay_ms(model),
                    };
                    (model.model.clone(), about)
                })
                .collect(),
        };
        for (file_index, file) in files.iter().enumerate() {
            let mut report = |problem| problems.push(FileProblem { file: file_index, problem });
            for (rule_index, source) in file.rules.iter().enumerate() {
                let pointer = format!("/rules/{rule_index}");
                match rule(file, source, &pointer, models) {
                    Ok(rule) => placed.push((file_index, pointer, rule)),
                    Err(found) => found.into_iter().for_each(&mut report),
                }
            }
            for (name, receiver) in &file.receivers {
                if set.receivers.insert(name.clone(), receiver.clone()).is_some() {
                    let message = format!("receiver `{name}` is in another file too");
                    report(Problem::error("duplicate-receiver", child("/receivers", name), message).key());
                }
            }
        }
        let (queries, found) = sql::plan(&mut placed, models);
        problems.extend(found);
        set.sql = queries;
        problems.extend(checks::rules(&placed, models));
        problems.extend(checks::routing(files, &placed, &set.receivers));
        problems.extend(delivery_checks::problems(files, &set.receivers));
        problems.extend(suppression_checks::problems(files, &placed, models));
        problems.extend(renames::problems(files));
        let (actions, found) = action_checks::actions(files, models);
        set.actions = actions;
        problems.extend(found);
        set.rules = inhibitors_first(placed.into_iter().map(|(_, _, rule)| rule).collect(), &set.inhibitions);
        (set, problems)
    }

    /// Every window that is needed of this model, of features and of performance: its own first, then those of rules,
    /// each once.
    pub fn window_specs(&self, model: &Model) -> Vec<WindowSpec> {
        self.specs_of(model, |_| true)
    }

    fn specs_of(&self, model: &Model, counts: impl Fn(&Rule) -> bool) -> Vec<WindowSpec> {
        let size_ms = model.windows.size.ms;
        let mut specs = vec![WindowSpec { size_ms, slide_ms: size_ms }];
        for rule in self.windowed(model).filter(|rule| counts(rule)) {
            let spec = rule.window_spec(size_ms);
            if !specs.contains(&spec) {
                specs.push(spec);
            }
        }
        specs
    }

    /// Every statistic that is needed of this model's features: the default ones, those that its rules name, and
    /// those that its own file asks for.
    pub fn selection(&self, model: &Model) -> Selection {
        let asked: &[String] = match &model.metrics {
            Some(MetricNames::Word(word)) if word == ALL_METRICS => return Selection::all(),
            Some(MetricNames::Word(name)) => std::slice::from_ref(name),
            Some(MetricNames::Names(names)) => names,
            None => &[],
        };
        let of_features = self.rules.iter().filter(|rule| rule.performance.is_none() && rule.sql.is_none());
        let named = of_features.filter(|rule| rule.matches_model(&model.model)).flat_map(Rule::metric_names);
        Selection::default().with(asked.iter().map(String::as_str)).with(named)
    }

    /// The model with every window, and every moving reference of these, that rules need of it.
    pub fn watched(&self, model: &Arc<Model>) -> WatchedModel {
        WatchedModel {
            model: model.clone(),
            specs: self.specs_of(model, |rule| rule.performance.is_none()),
            selection: self.selection(model),
            comparisons: self.comparisons(model, false),
            performance: self.watched_performance(model),
            sql: self.sql_metrics(model),
        }
    }

    /// What rules ask of this model's events by queries of their own.
    pub fn sql_metrics(&self, model: &Model) -> Vec<SqlMetric> {
        self.sql.get(&model.model).cloned().unwrap_or_default()
    }

    fn watched_performance(&self, model: &Model) -> WatchedPerformance {
        if model.performance.is_none() {
            return WatchedPerformance::default();
        }
        let figures = self.windowed(model).filter(|rule| rule.performance.is_some()).flat_map(Rule::figures);
        let of_threshold = figures.filter(|figure| figure.metric.at != At::Places);
        let mut thresholds: Vec<f64> = of_threshold.filter_map(|figure| figure.at).collect();
        let is_ranking = model.performance.as_ref().is_some_and(|performance| performance.task == Task::Ranking);
        thresholds.retain(|_| !is_ranking);
        thresholds.sort_by(f64::total_cmp);
        thresholds.dedup();
        WatchedPerformance {
            specs: self.specs_of(model, |rule| rule.performance.is_some()),
            thresholds,
            comparisons: self.comparisons(model, true),
        }
    }

    /// Rules that are asked about windows of this model.
    fn windowed(&self, model: &Model) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| rule.absent.is_none() && rule.matches_model(&model.model))
    }

    /// One comparison for each window and moving reference; rules that share both share it.
    fn comparisons(&self, model: &Model, of_performance: bool) -> Vec<Comparison> {
        let mut comparisons: BTreeMap<(WindowSpec, MovingReference), Comparison> = BTreeMap::new();
        for rule in self.windowed(model).filter(|rule| rule.performance.is_some() == of_performance) {
            let Some(reference) = &rule.moving else { continue };
            let spec = rule.window_spec(model.windows.size.ms);
            let comparison = comparisons.entry((spec, reference.clone())).or_insert_with(|| Comparison {
                reference: reference.clone(),
                spec,
                versions: BTreeSet::new(),
                segments: BTreeSet::new(),
                features: BTreeSet::new(),
            });
            comparison.versions.insert(rule.version_glob.clone());
            comparison.segments.extend(rule.segments.iter().cloned());
            // A rule about the number of rows needs no profile of the past, only its rows.
            let looks_at = |name: &String| !rule.counts_rows_only && !of_performance && rule.selects(name);
            let selected = model.signals().into_iter().map(|signal| signal.name).filter(looks_at);
            comparison.features.extend(selected);
            if let Some(on_query) = &rule.sql {
                let of_rule = self.sql.get(&model.model).into_iter().flatten();
                let of_rule = of_rule.filter(|metric| metric.feature == on_query.feature);
                comparison.features.extend(of_rule.map(|metric| metric.query.state_name.clone()));
            }
        }
        comparisons.into_values().collect()
    }

    pub fn receivers(&self) -> &BTreeMap<String, Receiver> {
        &self.receivers
    }

    pub fn actions(&self) -> &BTreeMap<String, Action> {
        &self.actions
    }

    /// In the order in which they are asked: those that inhibit others before these, otherwise that of the files.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Every route that the notification takes, in the order of the files.
    pub fn routes_of(&self, notification: &Notification) -> Vec<&Route> {
        let subject = notification.subject();
        self.routes.iter().filter(|route| route.matcher.touches(&subject)).collect()
    }
}

/// How long labels may come after their prediction.
pub(super) fn label_delay_ms(model: &Model) -> i64 {
    let labels = model.performance.as_ref().and_then(|performance| performance.labels.as_ref());
    labels.map_or(0, |labels| labels.delay.ms)
}

/// Reads `when`, `recover` and `for` of every rule of a raw file: their errors are found even where the file's
/// shape is wrong elsewhere.
pub fn string_problems(file: &serde_json::Value) -> Vec<Problem> {
    let rules = file.get("rules").and_then(serde_json::Value::as_array);
    let mut problems = Vec::new();
    for (index, rule) in rules.into_iter().flatten().enumerate() {
        let of_query = rule.get("sql").is_some();
        for key in ["when/warn", "when/critical", "recover"] {
            let text = rule.pointer(&format!("/{key}")).and_then(serde_json::Value::as_str);
            let read = text.map(|text| expression(text, of_query, &format!("/rules/{index}/{key}")));
            problems.extend(read.and_then(Result::err).into_iter().flatten());
        }
        let text = rule.get("for").and_then(serde_json::Value::as_str);
        problems.extend(text.and_then(|text| persistence::parse(text, &format!("/rules/{index}/for")).err()));
        problems.extend(texts::problems(rule, &format!("/rules/{index}")));
    }
    problems
}

fn expression(text: &str, of_query: bool, pointer: &str) -> Result<Expression, Vec<Problem>> {
    let problem = |error: ExpressionError| {
        Problem::error("expression", pointer, error.message).within(error.at).help_if(error.help)
    };
    Expression::parse_all(text, of_query).map_err(|errors| errors.into_iter().map(problem).collect())
}

/// Name of the reference of a rule, and what it is where it moves.
fn compared_with(
    file: &RuleFile,
    source: &crate::config::rules::Rule,
    pointer: &str,
) -> Result<(String, Option<MovingReference>), Problem> {
    let (choice, place) = match (&source.reference, &file.defaults.reference) {
        (Some(choice), _) => (choice, format!("{pointer}/reference")),
        (None, Some(choice)) => (choice, "/defaults/reference".to_string()),
        (None, None) => return Ok((DEFAULT_REFERENCE.to_string(), None)),
    };
    match choice {
        ReferenceChoice::Name(name) if name == PREVIOUS => Ok((PREVIOUS.to_string(), Some(MovingReference::PREVIOUS))),
        ReferenceChoice::Name(name) => Ok((name.clone(), None)),
        ReferenceChoice::Moving(choice) => {
            let moving = MovingReference::of(choice).map_err(|error| {
                let place = if error.key.is_empty() { place } else { child(&place, error.key) };
                Problem::error("bad-reference", place, error.message).help(error.help)
            })?;
            Ok((moving.to_string(), Some(moving)))
        }
    }
}

fn rule(
    file: &RuleFile,
    source: &crate::config::rules::Rule,
    pointer: &str,
    models: &[Arc<Model>],
) -> Result<Rule, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut read = |text: Option<&String>, key: &str| {
        let expression = expression(text?, source.sql.is_some(), &format!("{pointer}/{key}"));
        expression.map_err(|found| problems.extend(found)).ok()
    };
    let when = source.when.clone().unwrap_or_default();
    let warn = read(when.warn.as_ref(), "when/warn");
    let critical = read(when.critical.as_ref(), "when/critical");
    let recover = read(source.recover.as_ref(), "recover");
    let windows = (source.slide.or(source.window).or(file.defaults.window), models);
    let persistence = persistence::of(source, windows, pointer).unwrap_or_else(|problem| {
        problems.push(problem);
        Persistence { needed: 1, of: 1 }
    });
    let texts = Texts::of(source, pointer).unwrap_or_else(|found| {
        problems.extend(found);
        Texts::default()
    });
    let (reference, moving) = match compared_with(file, source, pointer) {
        Ok(compared_with) => compared_with,
        Err(problem) => {
            problems.push(problem);
            (String::new(), None)
        }
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    let sql = source.sql.as_deref().map(|text| OnQuery::of(&source.name, text));
    // `defaults` may name one that this rule does not ask for.
    let needs_reference = sql.is_none() || sql::asks_for_baseline([&warn, &critical, &recover]);
    let moving = moving.filter(|_| needs_reference);
    let reference = if needs_reference { reference } else { DEFAULT_REFERENCE.to_string() };
    let (model_glob, version_glob) = source.model.split_once('@').unwrap_or((source.model.as_str(), "*"));
    let names_only = |wanted: &dyn Fn(&Metric) -> bool| {
        let named = [&warn, &critical].into_iter().flatten().flat_map(|expression| &expression.metrics);
        named.into_iter().all(|(metric, _)| wanted(metric))
    };
    let counts_rows_only = names_only(&|metric| metric.subject == Subject::Window);
    let counts_rejected = names_only(&Metric::counts_rejected);
    // A rule about too few rows would never be asked if too few rows kept it from being asked.
    let min_samples = match source.min_samples {
        Some(min_samples) => min_samples,
        None if names_only(&Metric::suits_few_rows) => 0,
        None => file.defaults.min_samples.unwrap_or(DEFAULT_MIN_SAMPLES),
    };
    let group_by = match &source.group_by {
        Some(keys) => keys.iter().copied().collect(),
        None => BTreeSet::from([GroupKey::Model, GroupKey::Version, GroupKey::Segment]),
    };
    let rule = Rule {
        name: source.name.clone(),
        model_glob: model_glob.to_string(),
        version_glob: version_glob.to_string(),
        features: source.features.clone().unwrap_or_default(),
        signal: source.signal.clone(),
        performance: (source.signal.as_deref() == Some(PERFORMANCE_SIGNAL)).then(|| {
            let labels = source.labels.unwrap_or_default();
            let min_coverage = labels.min_coverage.map_or(DEFAULT_MIN_COVERAGE, Share::share);
            OnPerformance { min_coverage, delay_ms: labels.delay.map(|delay| delay.ms) }
        }),
        sql,
        labels: source.labels,
        segments: source.segments.iter().map(SegmentColumns::name).collect(),
        window: source.window.or(file.defaults.window),
        slide: source.slide,
        reference,
        moving,
        warn,
        critical,
        recover,
        significance: source.significance.clone().unwrap_or_default(),
        persistence,
        min_samples,
        group_by,
        absent: source.absent.clone(),
        actions: source.actions.clone(),
        texts,
        formerly: source.formerly.clone(),
        counts_rows_only,
        counts_rejected,
    };
    let found = sql::shape_problems(source, &rule, pointer);
    if found.is_empty() { Ok(rule) } else { Err(found) }
}
