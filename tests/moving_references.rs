//! Windows against earlier windows, the same hour of other weeks, and other versions: what they are compared with,
//! when there is too little of it, and that neither a restart nor a promotion mixes anything up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use driftline::config::model::Model;
use driftline::config::{parse_model_str, parse_rules_str};
use driftline::ingest::partial::{FlushHeader, PartialRow, SourceProgress};
use driftline::reference::{Reference, Source};
use driftline::rules::RuleSet;
use driftline::rules::judge::RulesJudge;
use driftline::stats::categorical_profile::CategoricalProfile;
use driftline::stats::layout::Layout;
use driftline::stats::numeric_profile::NumericProfile;
use driftline::stats::profile::Profile;
use driftline::telemetry::Metrics;
use driftline::windows::pane::PaneKey;
use driftline::windows::result::WindowResult;
use driftline::windows::state::{Effect, PartitionState, References};

const HOUR_MS: i64 = 3_600_000;
/// A Thursday, midnight UTC.
const START_MS: i64 = 1_767_225_600_000;

const MODEL: &str = "
version: 1
model: fraud
topics: [predictions]
fields: {version: version}
features: {amount: numeric, country: categorical}
segments: [country]
references: {training: {path: training.csv}}
windows: {size: 1h, watermark_delay: 0s, allowed_lateness: 2h, idle_after: 10d}
";

struct Known(Vec<Arc<Reference>>);

impl References for Known {
    fn find(&self, model: &str, id: &str) -> Option<Arc<Reference>> {
        self.0.iter().find(|known| known.model == model && known.id == id).cloned()
    }
}

fn model() -> Arc<Model> {
    Arc::new(parse_model_str("model.yaml", MODEL).unwrap().value)
}

fn reference(model: &Model, shift: f64) -> Arc<Reference> {
    // Mixed, so that one stretch of rows is like the next: what differs between them is taken for chance.
    let amounts: Vec<f64> = (0..5_000).map(|i| f64::from(i * 389 % 1_000) + shift).collect();
    let countries: Vec<&str> = (0..5_000).map(|i| ["DE", "FR"][i % 2]).collect();
    let columns: Vec<(&str, ArrayRef)> =
        vec![("amount", Arc::new(Float64Array::from(amounts))), ("country", Arc::new(StringArray::from(countries)))];
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    Arc::new(Reference::build(model, "training", &[rows], &BTreeMap::new(), Source::default(), 0).unwrap())
}

fn rules(model: &Arc<Model>, rules: &str) -> Arc<RuleSet> {
    let text = format!(
        "version: 1\nrules:\n{rules}\nroutes: [{{match: {{}}, to: [hook]}}]\n\
         receivers: {{hook: {{webhook: {{url: 'https://hook.example.com'}}}}}}\n"
    );
    let file = parse_rules_str("rules.yaml", &text).unwrap_or_else(|errors| panic!("{}", errors.text(false))).value;
    Arc::new(RuleSet::compile(&[("rules.yaml".into(), file)], std::slice::from_ref(model)).unwrap())
}

/// The windows of one partition, fed hour by hour.
struct Stream {
    model: Arc<Model>,
    rules: Arc<RuleSet>,
    references: Vec<Arc<Reference>>,
    state: PartitionState,
    stored: BTreeMap<String, Vec<u8>>,
    results: Vec<WindowResult>,
    notified: usize,
    offset: i64,
}

impl Stream {
    fn new(rules_yaml: &str) -> Self {
        let model = model();
        let references = vec![reference(&model, 0.0)];
        let rules = rules(&model, rules_yaml);
        let state = Self::state(&model, &rules, &references);
        Self { model, rules, references, state, stored: BTreeMap::new(), results: Vec::new(), notified: 0, offset: 0 }
    }

    fn state(model: &Arc<Model>, rules: &Arc<RuleSet>, references: &[Arc<Reference>]) -> PartitionState {
        let judge = RulesJudge::new(rules.clone(), Metrics::new().unwrap());
        let known = Known(references.to_vec());
        PartitionState::new(Arc::new(vec![rules.watched(model)]), Arc::new(known), Box::new(judge))
    }

    /// Events of these versions in one hour, each with `rows` amounts that start at `shift`; half of them in DE.
    fn hour(&mut self, hour: i64, events: &[(&str, i32, f64)]) {
        self.flush(hour, events, 0);
    }

    /// As `hour`, after `skipped` offsets that nobody read.
    fn flush(&mut self, hour: i64, events: &[(&str, i32, f64)], skipped: i64) {
        let start_ms = START_MS + hour * HOUR_MS;
        let reference = self.references.last().unwrap().clone();
        let mut partial = Vec::new();
        for (version, rows, shift) in events {
            for (column, value, part) in [("", "", 1), ("country", "DE", 2), ("country", "FR", 2)] {
                partial.extend(partial_rows(&reference, version, start_ms, (column, value), rows / part, *shift));
            }
        }
        let from = self.offset + skipped;
        self.offset = from + 10;
        let header = FlushHeader {
            instance: "0".into(),
            at_ms: start_ms + HOUR_MS,
            next_by_ms: start_ms + 3 * HOUR_MS,
            sources: vec![SourceProgress {
                topic: "predictions".into(),
                partition: 0,
                from,
                to: self.offset,
                // The clock stands at the start of the next hour, so the window of this one closes.
                clock_ms: Some(start_ms + HOUR_MS),
                quiet_since_ms: None,
                joined_ms: BTreeMap::new(),
            }],
            topics: BTreeMap::from([("predictions".into(), 1)]),
            rows: BTreeMap::from([("fraud".into(), 1)]),
            part: 0,
            parts: 1,
        };
        for effect in self.state.apply(&header, partial) {
            match effect {
                Effect::Result(result) => self.results.push(*result),
                Effect::Verdict(driftline::windows::judge::Verdict::Notify { .. }) => self.notified += 1,
                Effect::Damaged(message) => panic!("{message}"),
                _ => {}
            }
        }
        for change in self.state.take_pane_changes() {
            let key = serde_json::to_string(&change.key).unwrap();
            match change.value {
                Some(value) => drop(self.stored.insert(key, value)),
                None => drop(self.stored.remove(&key)),
            }
        }
    }

    /// As after kill -9: what was stored, and nothing else.
    fn restart(&mut self) {
        let progress = self.state.progress().clone();
        self.state = Self::state(&self.model, &self.rules, &self.references);
        self.state.restore_progress(progress);
        for (key, value) in &self.stored {
            let key: PaneKey = serde_json::from_str(key).unwrap();
            self.state.restore_pane(key, value).unwrap();
        }
    }

    /// Results of one hour against one reference, over all events.
    fn result(&self, hour: i64, version: &str, reference: &str) -> &WindowResult {
        let start_ms = START_MS + hour * HOUR_MS;
        let mut found = self.results.iter().filter(|result| {
            result.window.start_ms == start_ms
                && result.version == version
                && result.reference == reference
                && result.segment.is_all()
        });
        found.next_back().unwrap_or_else(|| panic!("no result of {version} in hour {hour} against {reference}"))
    }
}

fn partial_rows(
    reference: &Reference,
    version: &str,
    start_ms: i64,
    (column, value): (&str, &str),
    rows: i32,
    shift: f64,
) -> Vec<PartialRow> {
    let row = PartialRow {
        model: "fraud".into(),
        version: version.into(),
        segment_column: column.into(),
        segment_value: value.into(),
        reference_id: reference.id.clone(),
        pane_start_ms: start_ms,
        pane_ms: HOUR_MS,
        feature: String::new(),
        rows: rows as u64,
        state: Vec::new(),
    };
    let mut all = vec![row.clone()];
    for (name, feature) in &reference.features {
        let profile = match &feature.layout {
            Layout::Numeric(layout) => {
                let mut profile = NumericProfile::new(layout);
                (0..rows).for_each(|i| profile.add(f64::from(i * 7 % 1_000) + shift, layout));
                Profile::Numeric(Box::new(profile))
            }
            Layout::Categorical(layout) => {
                let mut profile = CategoricalProfile::new(layout);
                (0..rows).for_each(|i| {
                    profile.add(if value.is_empty() { ["DE", "FR"][i as usize % 2] } else { value }, layout);
                });
                Profile::Categorical(profile)
            }
            Layout::Vector(_) => panic!("no feature of this model is a vector"),
        };
        all.push(PartialRow { feature: name.clone(), state: profile.encode(), ..row.clone() });
    }
    all
}

fn psi(result: &WindowResult) -> f64 {
    result.features["amount"].metrics["psi"].value.unwrap()
}

const DAY_RULE: &str =
    "  - {name: drift, model: fraud, reference: {trailing: 1d}, segments: [country], when: {critical: psi > 0.25}}";

#[test]
fn a_trailing_reference_is_the_windows_before_and_never_the_window_itself() {
    let mut stream = Stream::new(DAY_RULE);
    for hour in 0..24 {
        stream.hour(hour, &[("1", 1_000, 0.0)]);
    }
    // All of the last day is shifted against training, the window of hour 24 against the day before it.
    stream.hour(24, &[("1", 1_000, 300.0)]);
    let moved = stream.result(24, "1", "trailing 1d");
    let baseline = moved.baseline.as_ref().unwrap();
    assert_eq!((baseline.rows, baseline.panes, baseline.panes_expected), (24_000, 24, 24));
    assert_eq!((baseline.reach.start_ms, baseline.reach.end_ms), (START_MS, START_MS + 24 * HOUR_MS));
    assert_eq!(moved.features["amount"].n_reference, 24_000);
    assert!(psi(moved) > 0.25, "psi {}", psi(moved));
    assert_eq!(stream.notified, 3, "the whole and both countries");
    // After a day of the new, it is the reference: no drift any more against it, still drift against training.
    for hour in 25..50 {
        stream.hour(hour, &[("1", 1_000, 300.0)]);
    }
    assert!(psi(stream.result(49, "1", "trailing 1d")) < 1e-9);
    assert!(psi(stream.result(49, "1", "training")) > 0.25);
    // A day, the window and the lateness are kept; whole and two segments each.
    assert!(stream.state.history().len() <= 3 * 28, "{} panes", stream.state.history().len());
}

#[test]
fn too_little_history_is_no_reference_and_no_alert() {
    let mut stream = Stream::new(DAY_RULE);
    for hour in 0..12 {
        stream.hour(hour, &[("1", 1_000, f64::from(hour as i32) * 80.0)]);
        let result = stream.result(hour, "1", "trailing 1d");
        let wanting = result.baseline.as_ref().unwrap().wanting.as_deref().unwrap();
        assert_eq!(wanting, format!("{hour} of 24 panes are known, at least half of them are needed"));
        assert!(result.features.is_empty());
    }
    assert_eq!(stream.notified, 0);
    stream.hour(12, &[("1", 1_000, 2_000.0)]);
    assert!(stream.result(12, "1", "trailing 1d").baseline.as_ref().unwrap().wanting.is_none());
    assert_eq!(stream.notified, 3);
    let mut small = Stream::new(DAY_RULE);
    for hour in 0..24 {
        small.hour(hour, &[("1", 10, 0.0)]);
    }
    small.hour(24, &[("1", 1_000, 2_000.0)]);
    let wanting = small.result(24, "1", "trailing 1d").baseline.as_ref().unwrap().wanting.as_deref().unwrap();
    assert_eq!(wanting, "240 events, at least 500 are needed");
}

#[test]
fn a_gap_is_left_out_of_the_baseline() {
    let mut stream = Stream::new(DAY_RULE);
    for hour in 0..10 {
        stream.hour(hour, &[("1", 1_000, 0.0)]);
    }
    stream.flush(10, &[("1", 1_000, 0.0)], 5);
    for hour in 11..24 {
        stream.hour(hour, &[("1", 1_000, 0.0)]);
    }
    stream.hour(24, &[("1", 1_000, 0.0)]);
    let baseline = stream.result(24, "1", "trailing 1d").baseline.clone().unwrap();
    // The gap is between the last event before it, at the start of hour 10, and the first after it, that of 11.
    assert_eq!((baseline.panes, baseline.panes_expected, baseline.rows), (22, 24, 22_000));
}

#[test]
fn the_same_hour_of_the_week_sees_no_drift_in_a_daily_rhythm() {
    let rule = "  - {name: drift, model: fraud, reference: {trailing: 14d, same: hour_of_week}, when: {critical: psi > 0.25}}\n  - {name: day, model: fraud, reference: {trailing: 3d, same: hour_of_day}, when: {critical: psi > 0.25}}\n  - {name: before, model: fraud, reference: previous, when: {warn: psi > 0.25}}";
    let mut stream = Stream::new(rule);
    let daily = |hour: i64| f64::from((hour % 24) as i32) * 40.0;
    let weekly = 7 * 24;
    for hour in 0..=2 * weekly {
        stream.hour(hour, &[("1", 500, daily(hour))]);
    }
    let by_week = stream.result(2 * weekly, "1", "trailing 14d same hour_of_week");
    let baseline = by_week.baseline.as_ref().unwrap();
    assert_eq!((baseline.panes, baseline.panes_expected, baseline.rows), (2, 2, 1_000));
    assert!(psi(by_week) < 1e-9 && psi(stream.result(2 * weekly, "1", "trailing 3d same hour_of_day")) < 1e-9);
    let before = stream.result(2 * weekly, "1", "previous");
    assert_eq!(before.baseline.as_ref().unwrap().rows, 500);
    assert!(psi(before) > 0.25, "midnight differs from the hour before it: {}", psi(before));
}

#[test]
fn a_canary_is_compared_with_the_stable_version_in_the_same_window() {
    let rule = "  - {name: canary, model: 'fraud@*', reference: {version: '3'}, when: {critical: psi > 0.25}}";
    let mut stream = Stream::new(rule);
    // Both are shifted against training by the same: only their difference counts.
    stream.hour(0, &[("3", 2_000, 500.0), ("4", 1_000, 500.0)]);
    let canary = stream.result(0, "4", "version 3");
    assert!(psi(canary) < 1e-9 && psi(stream.result(0, "4", "training")) > 0.25);
    assert_eq!(canary.features["amount"].n_reference, 2_000);
    let stable = stream.results.iter().filter(|result| result.version == "3" && result.reference == "version 3");
    assert_eq!(stable.count(), 0, "the stable version is not compared with itself");
    stream.hour(1, &[("3", 2_000, 500.0), ("4", 1_000, 900.0)]);
    assert!(psi(stream.result(1, "4", "version 3")) > 0.25);
    assert_eq!(stream.notified, 1);
    stream.hour(2, &[("4", 1_000, 900.0)]);
    let alone = stream.result(2, "4", "version 3").baseline.clone().unwrap();
    assert_eq!(alone.wanting.as_deref(), Some("0 events, at least 500 are needed"));
}

#[test]
fn restarts_change_no_result() {
    let rule = "  - {name: day, model: fraud, reference: {trailing: 1d}, segments: [country], when: {critical: psi > 0.25}}\n  - {name: season, model: fraud, reference: {trailing: 2d, same: hour_of_day}, features: {include: [amount]}, when: {critical: psi > 0.25}}";
    let run = |restart_every: i64| {
        let mut stream = Stream::new(rule);
        for hour in 0..60 {
            let shift = f64::from((hour * 37 % 11) as i32) * 20.0;
            stream.hour(hour, &[("1", 600, shift), ("2", 600, shift + 10.0)]);
            if hour % restart_every == restart_every - 1 {
                stream.restart();
            }
        }
        let keys = stream.stored.len();
        let json: Vec<String> = stream.results.iter().map(|result| serde_json::to_string(result).unwrap()).collect();
        (json, keys)
    };
    let (undisturbed, kept) = run(i64::MAX);
    assert!(undisturbed.iter().any(|result| result.contains("trailing 2d same hour_of_day")));
    for restart_every in [1, 7] {
        let (results, still_kept) = run(restart_every);
        assert_eq!(results, undisturbed, "restarts every {restart_every} hours");
        assert_eq!(still_kept, kept, "records in the panes topic");
    }
}

#[test]
fn a_reference_of_many_panes_is_the_sum_of_all_of_them() {
    let rule = "  - {name: r, model: fraud, reference: {trailing: 6d}, features: {include: [amount]}, when: {warn: psi > 0.25}}";
    let rows = |hour: i64| 10 + (hour * 13 % 7) as i32;
    let reach = 6 * 24;
    let run = |restarts: bool| {
        let mut stream = Stream::new(rule);
        for hour in 0..reach + 70 {
            stream.hour(hour, &[("1", rows(hour), f64::from((hour % 5) as i32))]);
            if restarts && hour % 11 == 0 {
                stream.restart();
            }
        }
        stream
    };
    let stream = run(false);
    for hour in reach..reach + 70 {
        let result = stream.result(hour, "1", "trailing 6d");
        let expected: i32 = (hour - reach..hour).map(rows).sum();
        let baseline = result.baseline.as_ref().unwrap();
        assert_eq!((baseline.rows, baseline.panes), (expected as u64, reach as u32), "hour {hour}");
        assert_eq!(result.features["amount"].n_reference, expected as u64, "hour {hour}");
    }
    // After a restart other sums of panes are remembered; the results are the same to the bit.
    assert_eq!(run(true).results, stream.results);
}

#[test]
fn after_a_promotion_the_baseline_starts_again() {
    let mut stream = Stream::new(DAY_RULE);
    for hour in 0..24 {
        stream.hour(hour, &[("1", 1_000, 0.0)]);
    }
    let promoted = reference(&stream.model, 50.0);
    stream.references.push(promoted.clone());
    stream.restart();
    stream.hour(24, &[("1", 1_000, 0.0)]);
    let first = stream.result(24, "1", "trailing 1d");
    assert_eq!(first.reference_id, format!("{}+trailing 1d", promoted.id));
    assert_eq!(first.baseline.as_ref().unwrap().rows, 0);
    assert!(first.is_wanting());
    for hour in 25..37 {
        stream.hour(hour, &[("1", 1_000, 0.0)]);
    }
    let later = stream.result(36, "1", "trailing 1d");
    assert_eq!((later.is_wanting(), later.baseline.as_ref().unwrap().rows), (false, 12_000));
}

#[test]
fn a_late_event_revises_its_own_window_only() {
    let mut stream = Stream::new(DAY_RULE);
    for hour in 0..24 {
        stream.hour(hour, &[("1", 1_000, 0.0)]);
    }
    let before = stream.results.len();
    // Hour 22 is within the lateness of two hours; the clock stays where it is.
    let late = START_MS + 22 * HOUR_MS;
    stream.flush_late(late);
    let revised: Vec<(i64, u32)> = stream.results[before..]
        .iter()
        .filter(|result| result.reference == "trailing 1d" && result.segment.is_all())
        .map(|result| ((result.window.start_ms - START_MS) / HOUR_MS, result.revision))
        .collect();
    assert_eq!(revised, [(22, 1)], "hour 23 has hour 22 in its reference and is not revised");
}

impl Stream {
    /// More events of an hour that has closed.
    fn flush_late(&mut self, start_ms: i64) {
        let reference = self.references.last().unwrap().clone();
        let rows = partial_rows(&reference, "1", start_ms, ("", ""), 100, 0.0);
        let (from, clock_ms) = (self.offset, START_MS + 24 * HOUR_MS);
        self.offset = from + 10;
        let header = FlushHeader {
            instance: "0".into(),
            at_ms: clock_ms,
            next_by_ms: clock_ms + HOUR_MS,
            sources: vec![SourceProgress {
                topic: "predictions".into(),
                partition: 0,
                from,
                to: self.offset,
                clock_ms: Some(start_ms),
                quiet_since_ms: None,
                joined_ms: BTreeMap::new(),
            }],
            topics: BTreeMap::from([("predictions".into(), 1)]),
            rows: BTreeMap::from([("fraud".into(), 1)]),
            part: 0,
            parts: 1,
        };
        for effect in self.state.apply(&header, rows) {
            if let Effect::Result(result) = effect {
                self.results.push(*result);
            }
        }
    }
}
