//! What came of a try, put together for people and programs.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::load::Failure;
use super::{Format, OutputArgs, document, page, text};
use crate::backtest::compare::{Comparison, compare};
use crate::backtest::history::Read;
use crate::backtest::incidents::{self, IncidentFile, Score};
use crate::backtest::suggest::{Suggestion, suggest};
use crate::backtest::{MessageKind, Trail};
use crate::cli::check::{OK, UNDECIDED};
use crate::config::diagnostic::Diagnostics;
use crate::config::load::parse;
use crate::config::model::Model;
use crate::config::rules::{RuleFile, SignificanceTest};
use crate::rules::RuleSet;
use crate::rules::compile::Rule;

/// A try, with what it was made of.
pub struct Tried {
    pub trail: Trail,
    /// The same history under the rules that are compared with.
    pub old: Option<Trail>,
    pub models: Vec<Arc<Model>>,
    pub rules: Arc<RuleSet>,
    pub rule_files: Vec<RuleFile>,
    pub incidents: Option<IncidentFile>,
    /// By model.
    pub reads: Vec<(String, Read)>,
}

/// What is written, in either form.
pub struct Report<'a> {
    pub tried: &'a Tried,
    pub rules: Vec<RuleReport>,
    pub receivers: Vec<ReceiverReport>,
    pub comparison: Option<Comparison>,
    pub score: Option<Score>,
    pub suggestions: Option<Vec<Suggestion>>,
}

/// What one rule said of its windows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RuleReport {
    pub rule: String,
    pub episodes: u64,
    /// It asks how long nothing has arrived, not about windows.
    pub asks_for_absence: bool,
    /// Windows of a model version that it was asked about, the last revision of each counting.
    pub windows: u64,
    /// Those in which it could judge all events, a segment or a feature.
    pub judged: u64,
    pub breached: u64,
    /// Windows that it could not judge, by the reason.
    pub not_judged: BTreeMap<String, u64>,
    /// Windows with a chance finding that must be expected at most, before `for`; absent where the rule asks for no test.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chance_windows: Option<f64>,
}

/// What one receiver would have been sent.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ReceiverReport {
    pub receiver: String,
    pub messages: u64,
    pub news: u64,
    pub reminders: u64,
    pub digests: u64,
}

/// Writes the report and returns the exit code: 4 where no rule could judge any window.
pub fn write(tried: &Tried, args: &OutputArgs) -> Result<u8, Failure> {
    let report = put_together(tried, args);
    let written = match args.format {
        Format::Text => text::of(&report),
        Format::Json => document::of(&report).map_err(Failure::undecided)?,
    };
    match std::io::stdout().lock().write_all(written.as_bytes()) {
        // The reader has seen enough (`| head`).
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        other => other.map_err(|error| Failure::undecided(format!("cannot write the report: {error}")))?,
    }
    if let Some(path) = &args.html {
        let html = page::render(&report).into_string();
        std::fs::write(path, html)
            .map_err(|error| Failure::undecided(format!("{}: cannot write: {error}", path.display())))?;
    }
    if report.rules.iter().all(|rule| rule.judged == 0) && tried.trail.episodes.is_empty() {
        eprintln!(
            "no rule could judge any window: see why above; a longer history or a smaller `min_samples` may help"
        );
        return Ok(UNDECIDED);
    }
    Ok(OK)
}

fn put_together<'a>(tried: &'a Tried, args: &OutputArgs) -> Report<'a> {
    let trail = &tried.trail;
    let tolerance_ms = args.tolerance.ms;
    Report {
        rules: rule_reports(tried),
        receivers: receiver_reports(trail),
        comparison: tried.old.as_ref().map(|old| compare(&old.episodes, &trail.episodes)),
        score: tried.incidents.as_ref().map(|file| incidents::score(file, &trail.episodes, tolerance_ms)),
        suggestions: args.suggest.then(|| suggest(&tried.rule_files, &tried.models, trail, args.max_alerts)),
        tried,
    }
}

/// Read before anything is tried, so that a mistake in it costs no time.
pub fn incidents(args: &OutputArgs) -> Result<Option<IncidentFile>, Failure> {
    args.labels.as_deref().map(read_incidents).transpose()
}

fn read_incidents(path: &Path) -> Result<IncidentFile, Failure> {
    let name = path.display().to_string();
    let read = std::fs::read_to_string(path);
    let content = read.map_err(|error| Failure::undecided(format!("{name}: cannot be read: {error}")))?;
    let outcome = parse::<IncidentFile>(&name, &content, |_| Vec::new(), incidents::problems);
    let found = |errors: Diagnostics| Failure::files(&errors);
    outcome.into_result().map(|loaded| loaded.value).map_err(found)
}

const JUDGED: [&str; 4] = ["breached", "quiet", "insignificant", "suppressed"];

fn rule_reports(tried: &Tried) -> Vec<RuleReport> {
    let applies = |rule: &&Rule| tried.models.iter().any(|model| rule.matches_model(&model.model));
    tried.rules.rules().iter().filter(applies).map(|rule| rule_report(tried, rule)).collect()
}

fn rule_report(tried: &Tried, rule: &Rule) -> RuleReport {
    // The last revision of a window is what stands.
    let mut windows = BTreeMap::new();
    for evaluation in tried.trail.evaluations.iter().filter(|evaluation| evaluation.rule == rule.name) {
        let key = (&evaluation.model, &evaluation.version, evaluation.window);
        let known = windows.entry(key).or_insert(evaluation);
        if evaluation.revision >= known.revision {
            *known = evaluation;
        }
    }
    let said = |words: &[&str]| {
        let any = |outcomes: &BTreeMap<String, u32>| words.iter().any(|word| outcomes.contains_key(*word));
        windows.values().filter(|evaluation| any(&evaluation.outcomes)).count() as u64
    };
    let judged = said(&JUDGED);
    let mut not_judged: BTreeMap<String, u64> = BTreeMap::new();
    for evaluation in
        windows.values().filter(|evaluation| !JUDGED.iter().any(|word| evaluation.outcomes.contains_key(*word)))
    {
        for word in evaluation.outcomes.keys() {
            *not_judged.entry(word.clone()).or_default() += 1;
        }
    }
    let of_window =
        |end_minus_start_ms: i64| rule.significance.alpha(rule.slide.map_or(end_minus_start_ms, |slide| slide.ms));
    let tests = rule.significance.test == SignificanceTest::Auto && has_test(rule);
    let expected: f64 = windows
        .iter()
        .filter(|(_, evaluation)| JUDGED.iter().any(|word| evaluation.outcomes.contains_key(*word)))
        .map(|((_, _, window), _)| of_window(window.end_ms - window.start_ms))
        .sum();
    RuleReport {
        rule: rule.name.clone(),
        episodes: tried.trail.episodes.iter().filter(|episode| episode.rule == rule.name).count() as u64,
        asks_for_absence: rule.absent.is_some(),
        windows: windows.len() as u64,
        judged,
        breached: said(&["breached"]),
        not_judged,
        chance_windows: (tests && judged > 0).then_some(expected),
    }
}

/// Whether the rule asks about distributions: of performance the condition itself says how sure it must be.
fn has_test(rule: &Rule) -> bool {
    rule.absent.is_none() && rule.performance.is_none() && rule.sql.is_none() && !rule.counts_rows_only
}

fn receiver_reports(trail: &Trail) -> Vec<ReceiverReport> {
    let mut receivers: BTreeMap<&str, ReceiverReport> = BTreeMap::new();
    for message in &trail.messages {
        let report = receivers
            .entry(&message.receiver)
            .or_insert_with(|| ReceiverReport { receiver: message.receiver.clone(), ..ReceiverReport::default() });
        report.messages += 1;
        match message.kind {
            MessageKind::News => report.news += 1,
            MessageKind::Reminder => report.reminders += 1,
            MessageKind::Digest => report.digests += 1,
        }
    }
    receivers.into_values().collect()
}
