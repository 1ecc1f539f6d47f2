//! Runs one test: its events through the machines of production, window by window, with event time as the clock.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::events::{self, Place};
use super::expect::{Failure, failures};
use super::implied;
use super::observed::{Asked, Moment, moments};
use super::suite::Suite;
use crate::backtest::{Engine, EngineOptions};
use crate::config::distribution::Drawn;
use crate::config::model::Model;
use crate::config::performance::Labels;
use crate::config::rule_test_checks::name_and_version;
use crate::config::rule_tests::{Given, GivenReference, GivenRows, RuleTest};
use crate::config::rules::RuleFile;
use crate::event::Decoder;
use crate::log::Records;
use crate::reference::table::Table;
use crate::reference::{Reference, Source};
use crate::rules::RuleSet;
use crate::rules::compile::DEFAULT_REFERENCE;
use crate::windows::result::Window;

/// When the first window begins unless the test says otherwise: 2026-01-05T00:00:00Z, a Monday.
const START_MS: i64 = 1_767_571_200_000;
const REFERENCE_ROWS: u64 = 10_000;
/// Version of events of a model that has some, where the test names none.
const VERSION: &str = "1";

/// A test that ran.
#[derive(Debug, Clone, PartialEq)]
pub struct Ran {
    pub failures: Vec<Failure>,
    /// What a person should know though nothing failed because of it: events that were rejected.
    pub notes: Vec<String>,
}

/// Why a test could not run, with what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CannotRun(pub String);

/// References that were built, by what they are made of: tests of a file mostly share one.
#[derive(Default)]
pub struct References {
    built: BTreeMap<String, Arc<Reference>>,
}

/// Runs a test of a valid suite.
pub fn run(suite: &Suite, test: &RuleTest, references: &mut References) -> Result<Ran, CannotRun> {
    let world = World::of(suite, test)?;
    let reference = references.find_or_build(&world)?;
    let (moments, notes) = world.observe(reference)?;
    Ok(Ran { failures: failures(test, &moments), notes })
}

struct World<'t> {
    suite: &'t Suite,
    test: &'t RuleTest,
    given: &'t Given,
    reference: Option<&'t GivenReference>,
    model: Arc<Model>,
    version: Option<&'t str>,
    rules: Arc<RuleSet>,
    start_ms: i64,
    size_ms: i64,
}

impl<'t> World<'t> {
    fn of(suite: &'t Suite, test: &'t RuleTest) -> Result<Self, CannotRun> {
        let (given, defaults) = (&test.given, &suite.file.defaults);
        let named = given.model.as_ref().or(defaults.model.as_ref());
        let named = named.ok_or_else(|| CannotRun("the test names no model".into()))?;
        let (name, version) = name_and_version(named);
        let reference = given.reference.as_ref().or(defaults.reference.as_ref());
        let window = given.window.or(defaults.window);
        let with_window = Given { window, ..given.clone() };
        let known = suite.models.iter().find(|model| model.model == name).cloned();
        let model = known.unwrap_or_else(|| Arc::new(implied::model(named, &with_window, reference, &suite.rules)));
        let contents: Vec<&RuleFile> = suite.rules.iter().collect();
        let (rules, _) = RuleSet::analyse(&contents, std::slice::from_ref(&model));
        let start = given.start.as_ref().or(defaults.start.as_ref());
        let start_ms = start.and_then(|start| chrono::DateTime::parse_from_rfc3339(start).ok());
        let size_ms = window.unwrap_or(model.windows.size).ms.max(1);
        let has_versions = model.fields.version.is_some();
        Ok(Self {
            suite,
            test,
            given,
            reference,
            version: version.or(has_versions.then_some(VERSION)),
            rules: Arc::new(rules),
            // Windows of any size begin at multiples of it, from 1970 on.
            start_ms: start_ms.map_or(START_MS.div_euclid(size_ms) * size_ms, |start| start.timestamp_millis()),
            size_ms,
            model,
        })
    }

    /// Windows with their repetitions, in order.
    fn windows(&self) -> impl Iterator<Item = (&'t crate::config::rule_tests::GivenWindow, Asked)> + '_ {
        self.given.expanded().into_iter().enumerate().map(|(index, given)| {
            let start_ms = self.start_ms + index as i64 * self.size_ms;
            let window = Window { start_ms, end_ms: start_ms + self.size_ms };
            (given, Asked { window, at_ms: window.end_ms + self.model.windows.watermark_delay.ms })
        })
    }

    fn observe(&self, reference: Arc<Reference>) -> Result<(Vec<Moment>, Vec<String>), CannotRun> {
        let failed = |error: &dyn std::fmt::Display| CannotRun(error.to_string());
        let models = std::slice::from_ref(&self.model);
        let references = BTreeMap::from([(self.model.model.clone(), reference)]);
        let options = EngineOptions { keep_windows: true, keep_states: true, ..EngineOptions::default() };
        let mut engine =
            Engine::new(models, self.rules.clone(), &references, options).map_err(|error| failed(&error))?;
        let mut feed = Feed { model: &self.model, offset: 0, labels: Vec::new() };
        let mut asked = Vec::new();
        for (index, (given, at)) in self.windows().enumerate() {
            let records = self.records(given, at.window, index, &mut feed)?;
            engine.push_events(&records).map_err(|error| failed(&error))?;
            engine.advance(at.at_ms).map_err(|error| failed(&error))?;
            asked.push(at);
        }
        if let Some(last) = asked.last() {
            // Windows that only the end of history closes are no part of the test.
            engine.advance(last.at_ms + 1).map_err(|error| failed(&error))?;
        }
        let trail = engine.finish().map_err(|error| failed(&error))?;
        let mut notes: Vec<String> =
            trail.rejected.iter().map(|(reason, events)| format!("{events} events were rejected: {reason}")).collect();
        notes.extend(trail.late.values().filter(|late| **late > 0).map(|late| format!("{late} events came too late")));
        notes.extend(trail.problems.iter().cloned());
        Ok((moments(&trail, &self.rules, &asked), notes))
    }

    /// Events of one window in the order in which they come, and labels that are due by its end.
    fn records(
        &self,
        given: &crate::config::rule_tests::GivenWindow,
        window: Window,
        index: usize,
        feed: &mut Feed<'_>,
    ) -> Result<Records, CannotRun> {
        let mut arrivals: Vec<(i64, &'static str, Map<String, Value>)> = Vec::new();
        let drawn_from = self.reference.map(|reference| &reference.features);
        let nothing = BTreeMap::new();
        let number = index.to_string();
        let groups = std::iter::once(&given.rows).chain(&given.also);
        for (group, rows) in groups.enumerate() {
            let late_ms = rows.late_by.map_or(0, |late_by| late_by.ms);
            let group = group.to_string();
            let place = Place {
                version: rows.version.as_deref().or(self.version),
                start_ms: window.start_ms - late_ms,
                end_ms: window.end_ms - late_ms,
                stream: &[&self.test.name, &number, &group],
            };
            let tested = events::as_tested(&self.model);
            let mut drawn = events::drawn(&tested, rows, drawn_from.unwrap_or(&nothing), &place);
            drawn.extend(self.literal(rows, &place)?);
            let count = drawn.len() as f64;
            for (row, mut event) in drawn.into_iter().enumerate() {
                let arrives_ms = window.start_ms + ((row as f64 + 0.5) / count * self.size_ms as f64) as i64;
                let delay_ms = rows.label_delay.map_or(0, |delay| delay.ms);
                let given_ms = arrives_ms - late_ms + delay_ms;
                if let Some(label) = feed.label(&mut event, given_ms) {
                    feed.labels.push((given_ms, label));
                }
                arrivals.push((arrives_ms, "", event));
            }
        }
        let labels = std::mem::take(&mut feed.labels);
        let (due, later) = labels.into_iter().partition(|(at_ms, _)| *at_ms < window.end_ms);
        feed.labels = later;
        arrivals.extend(due.into_iter().map(|(at_ms, label)| (at_ms, "label", label)));
        // Stable: a label comes after its prediction.
        arrivals.sort_by_key(|(arrives_ms, ..)| *arrives_ms);
        let mut records = Records::default();
        for (arrives_ms, kind, event) in arrivals {
            feed.push(&mut records, arrives_ms, kind == "label", &Value::from(event));
        }
        Ok(records)
    }

    /// Events that stand in the test or in a file.
    fn literal(&self, rows: &GivenRows, place: &Place<'_>) -> Result<Vec<Map<String, Value>>, CannotRun> {
        let mut events = rows.events.clone();
        if let Some(name) = &rows.file {
            events.extend(read_events(&self.suite.folder.join(name))?);
        }
        let count = events.len() as f64;
        let size_ms = (place.end_ms - place.start_ms) as f64;
        for (index, event) in events.iter_mut().enumerate() {
            let time_ms = place.start_ms + ((index as f64 + 0.5) / count * size_ms) as i64;
            let id = format!("{}-event-{index}", place.stream.join("-"));
            events::complete(&self.model, event, place.version, time_ms, &id);
        }
        Ok(events)
    }
}

fn read_events(path: &Path) -> Result<Vec<Map<String, Value>>, CannotRun> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| CannotRun(format!("{} cannot be read: {error}", path.display())))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            serde_json::from_str(line)
                .map_err(|error| CannotRun(format!("{}:{}: not a JSON object: {error}", path.display(), index + 1)))
        })
        .collect()
}

/// The topics of the model as they fill.
struct Feed<'m> {
    model: &'m Model,
    offset: i64,
    /// Labels that are still to come, with their time.
    labels: Vec<(i64, Map<String, Value>)>,
}

impl Feed<'_> {
    fn labels(&self) -> Option<&Labels> {
        self.model.performance.as_ref()?.labels.as_ref()
    }

    /// Takes the label out of an event whose model has them on a topic of their own.
    fn label(&self, event: &mut Map<String, Value>, given_ms: i64) -> Option<Map<String, Value>> {
        let labels = self.labels()?;
        let mut label = events::take_label(self.model, labels, event)?;
        events::date_label(labels, &mut label, given_ms);
        Some(label)
    }

    fn push(&mut self, records: &mut Records, at_ms: i64, is_label: bool, event: &Value) {
        let predictions = self.model.topics.first();
        let topic = match is_label {
            true => self.labels().and_then(|labels| labels.topics.first()),
            false => predictions,
        };
        let Some(topic) = topic else { return };
        records.push(topic, 0, self.offset, at_ms, None, Some(event.to_string().as_bytes()));
        self.offset += 1;
    }
}

impl References {
    fn find_or_build(&mut self, world: &World<'_>) -> Result<Arc<Reference>, CannotRun> {
        let key = serde_json::to_string(&(&*world.model, world.reference))
            .map_err(|error| CannotRun(format!("the reference: {error}")))?;
        if let Some(built) = self.built.get(&key) {
            return Ok(built.clone());
        }
        let built = Arc::new(build(world)?);
        self.built.insert(key, built.clone());
        Ok(built)
    }
}

fn build(world: &World<'_>) -> Result<Reference, CannotRun> {
    let model = &world.model;
    let failed = |error: &dyn std::fmt::Display| CannotRun(format!("the reference: {error}"));
    let built = |batches: &[datafusion::arrow::array::RecordBatch], columns: &BTreeMap<String, String>| {
        let built = Reference::build(model, DEFAULT_REFERENCE, batches, columns, Source::default(), 0);
        built.map_err(|error| failed(&error))
    };
    if let Some(file) = world.reference.and_then(|reference| reference.file.as_ref()) {
        let table = Table::read(&world.suite.folder.join(file)).map_err(|error| failed(&error))?;
        let columns = model.references.get(DEFAULT_REFERENCE).map(|source| source.columns.clone());
        return built(&table.batches, &columns.unwrap_or_default());
    }
    let rows = world.reference.and_then(|reference| reference.rows).unwrap_or(REFERENCE_ROWS);
    let given = GivenRows { rows: Some(rows), ..GivenRows::default() };
    let nothing: BTreeMap<String, Drawn> = BTreeMap::new();
    let features = world.reference.map_or(&nothing, |reference| &reference.features);
    let tested = Arc::new(events::as_tested(model));
    // The day before the test; the same rows for every test of a file.
    let place =
        Place { version: world.version, start_ms: START_MS - 86_400_000, end_ms: START_MS, stream: &["reference"] };
    let mut records = Records::default();
    let topic = tested.topics.first().map_or("", String::as_str);
    // A reference has every row: values that are to be spoilt are null.
    for (offset, event) in events::drawn(&tested, &given, features, &place).into_iter().enumerate() {
        records.push(topic, 0, offset as i64, 0, None, Some(Value::from(event).to_string().as_bytes()));
    }
    let mut decoder = Decoder::new(std::slice::from_ref(&tested)).map_err(|error| failed(&error))?;
    let decoded = decoder.decode(&records, i64::MAX / 4).map_err(|error| failed(&error))?;
    if let Some(rejected) = decoded.rejected.first() {
        return Err(failed(&format!("{}: {}", rejected.reason, rejected.detail)));
    }
    let batches: Vec<_> = decoded.batches.into_iter().map(|decoded| decoded.batch).collect();
    built(&batches, &BTreeMap::new())
}
