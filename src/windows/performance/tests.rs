use std::sync::{LazyLock, Mutex};

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};

use super::super::baseline::Comparison;
use super::super::judge::{ModelActivity, NoJudge};
use super::super::progress::Progress;
use super::super::state::PartitionState;
use super::super::watched::WatchedPerformance;
use super::*;
use crate::config::model::Model;
use crate::ingest::partial::{PartialRow, SourceProgress};
use crate::ingest::signals::SignalValue;
use crate::reference::moving::{MovingReference, ReferenceTime};
use crate::reference::{Reference, Source};
use crate::stats::performance::profile::{Label, PerformanceLayout, PerformanceProfile, Prediction};

mod judging;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const START_MS: i64 = 1_000 * HOUR_MS;

const WITH_LABEL_TOPIC: &str = "labels: {topics: [l], delay: 2h, revise_every: 10m}";

fn model(labels: &str) -> Arc<Model> {
    let yaml = format!(
        "version: 1\nmodel: m\ntopics: [t]\nfeatures: {{country: categorical}}\nsegments: [country]\n\
         fields: {{prediction_id: id}}\nscore: {{path: score, type: numeric}}\nperformance: {{task: binary, {labels}}}\n\
         change_detectors: [{{signal: performance.error, method: adwin, clock: 1}}]\n\
         windows: {{size: 1h, watermark_delay: 0s, allowed_lateness: 10m}}\n\
         references: {{training: {{path: t.csv}}}}\n"
    );
    Arc::new(crate::config::parse_model_str("model.yaml", &yaml).unwrap().value)
}

/// Rows whose label is as likely as their score says.
fn reference(model: &Model) -> Arc<Reference> {
    let scores: Vec<f64> = (0..4_000).map(|row| f64::from(row * 37 % 1_009) / 1_009.0).collect();
    let label = |(row, score): (usize, &f64)| i64::from(((row * 7_919) % 1_013) as f64 / 1_013.0 < *score);
    let labels: Vec<i64> = scores.iter().enumerate().map(label).collect();
    let countries: Vec<&str> = (0..4_000).map(|row| ["de", "fr"][row % 2]).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("country", Arc::new(StringArray::from(countries))),
        ("score", Arc::new(Float64Array::from(scores))),
        ("label", Arc::new(Int64Array::from(labels))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let (columns, source) = (BTreeMap::new(), Source::default());
    Arc::new(Reference::build(model, "training", &[batch], &columns, source, 0).unwrap())
}

#[derive(Clone)]
struct World {
    watched: Arc<Vec<WatchedModel>>,
    reference: Arc<Reference>,
    layout: Arc<PerformanceLayout>,
}

impl References for World {
    fn find(&self, _: &str, id: &str) -> Option<Arc<Reference>> {
        (self.reference.id == id).then(|| self.reference.clone())
    }
}

fn world_with(labels: &str, comparisons: Vec<Comparison>) -> World {
    let model = model(labels);
    let reference = reference(&model);
    let layout = reference.performance_layout(&model).unwrap();
    let specs = vec![WindowSpec::tumbling(HOUR_MS)];
    let performance = WatchedPerformance { specs: specs.clone(), thresholds: vec![0.7], comparisons };
    let (selection, comparisons) = (Default::default(), Vec::new());
    let watched = WatchedModel { model, specs, selection, comparisons, performance, sql: Vec::new() };
    World { watched: Arc::new(vec![watched]), reference, layout }
}

static WORLD: LazyLock<World> = LazyLock::new(|| world_with(WITH_LABEL_TOPIC, Vec::new()));

/// One prediction of the stream, and its label.
#[derive(Clone)]
struct Row {
    version: &'static str,
    at_ms: i64,
    score: f64,
    positive: bool,
    country: &'static str,
    /// After the prediction; `None`: it never comes.
    label_after_ms: Option<i64>,
}

/// One a minute over some hours. From the third hour on the model is wrong more often than its scores say.
fn rows(hours: i64) -> Vec<Row> {
    let row = |minute: i64| {
        let score = (minute * 61 % 199) as f64 / 199.0;
        let chance = (minute * 83 % 211) as f64 / 211.0;
        let positive = if minute >= 120 && minute % 3 == 0 { score < 0.5 } else { chance < score };
        Row {
            version: "1",
            at_ms: START_MS + minute * MINUTE_MS + minute * 7 % 60_000,
            score,
            positive,
            country: ["de", "fr", "it"][(minute % 3) as usize],
            label_after_ms: (minute % 10 != 9).then_some(minute * 47 % 120 * MINUTE_MS),
        }
    };
    (0..hours * 60).map(row).collect()
}

type Step = (FlushHeader, Vec<PartialRow>);

/// What a process flushes for the rows: every one counted where `of(row)` says so.
fn partials(
    world: &World,
    rows: &[Row],
    of: impl Fn(&Row, &PerformanceLayout, &mut PerformanceProfile) -> bool,
) -> Vec<PartialRow> {
    let mut profiles: BTreeMap<(&str, i64, Segment), (PerformanceProfile, u64)> = BTreeMap::new();
    for row in rows {
        let pane_ms = row.at_ms.div_euclid(HOUR_MS) * HOUR_MS;
        let country = Segment { column: "country".into(), value: row.country.into() };
        for segment in [Segment::default(), country] {
            let empty = || (PerformanceProfile::new(&world.layout), 0);
            let mut into = empty();
            if of(row, &world.layout, &mut into.0) {
                let (profile, count) = profiles.entry((row.version, pane_ms, segment)).or_insert_with(empty);
                profile.merge(&into.0);
                *count += 1;
            }
        }
    }
    let partial = |((version, pane_start_ms, segment), (profile, rows)): (_, (PerformanceProfile, u64))| {
        let (version, Segment { column, value }): (&str, Segment) = (version, segment);
        PartialRow {
            model: "m".into(),
            version: version.into(),
            segment_column: column,
            segment_value: value,
            reference_id: world.reference.id.clone(),
            pane_start_ms,
            pane_ms: HOUR_MS,
            feature: PERFORMANCE_FEATURE.into(),
            rows,
            state: profile.encode(),
        }
    };
    profiles.into_iter().map(partial).collect()
}

fn prediction(row: &Row) -> Prediction {
    Prediction { score: row.score, ..Prediction::default() }
}

fn label(row: &Row) -> Label {
    Label::Class(u32::from(row.positive))
}

fn header(at_ms: i64, source: SourceProgress) -> FlushHeader {
    FlushHeader {
        instance: source.topic.clone(),
        at_ms,
        next_by_ms: at_ms + HOUR_MS,
        topics: BTreeMap::from([(source.topic.clone(), 1)]),
        sources: vec![source],
        rows: BTreeMap::new(),
        part: 0,
        parts: 1,
    }
}

/// A flush of ingest up to each multiple of `step_ms`, each followed by one of the join, which is `behind_ms` behind.
fn stream(world: &World, rows: &[Row], hours: i64, step_ms: i64, behind_ms: i64) -> Vec<Step> {
    let mut steps = Vec::new();
    let (mut offset, mut now_ms) = (0, START_MS);
    while now_ms < START_MS + hours * HOUR_MS {
        let within = |time_ms: i64, end_ms: i64| time_ms >= end_ms - step_ms && time_ms < end_ms;
        now_ms += step_ms;
        offset += 1;
        let source =
            |topic: &str| SourceProgress { topic: topic.into(), from: offset - 1, to: offset, ..Default::default() };
        let added = partials(world, rows, |row, layout, profile| {
            let is_new = within(row.at_ms, now_ms);
            is_new.then(|| profile.add_prediction(layout, &prediction(row))).is_some()
        });
        steps.push((header(now_ms, SourceProgress { clock_ms: Some(now_ms), ..source("t") }), added));
        let joined_ms = now_ms - behind_ms;
        let met = partials(world, rows, |row, layout, profile| {
            let predicted = within(row.at_ms, joined_ms);
            let labelled = row.label_after_ms.is_some_and(|after_ms| within(row.at_ms + after_ms, joined_ms));
            if predicted {
                profile.sample_prediction();
            }
            if labelled {
                profile.add_labelled(layout, &prediction(row), &label(row));
            }
            predicted || labelled
        });
        let joined = BTreeMap::from([("m".to_string(), joined_ms)]);
        steps.push((header(now_ms, SourceProgress { joined_ms: joined, ..source("joins") }), met));
    }
    steps
}

/// Everything that a restart reads.
#[derive(Default, Clone)]
struct Stored {
    progress: Progress,
    records: BTreeMap<PerformanceKey, Vec<u8>>,
}

impl Stored {
    fn checkpoint(&mut self, state: &mut PartitionState) {
        assert!(state.between_flushes());
        for change in state.take_unstored_performance().unwrap() {
            let json = serde_json::to_vec(&change.key).unwrap();
            assert!(
                serde_json::from_slice::<PaneKey>(&json).is_err()
                    && serde_json::from_slice::<ChangesKey>(&json).is_err()
            );
            match change.value {
                Some(value) => drop(self.records.insert(serde_json::from_slice(&json).unwrap(), value)),
                None => drop(self.records.remove(&change.key)),
            }
        }
        self.progress = serde_json::from_slice(&serde_json::to_vec(state.progress()).unwrap()).unwrap();
    }

    fn restore(&self, world: &World) -> PartitionState {
        let mut state = PartitionState::new(world.watched.clone(), Arc::new(world.clone()), Box::new(NoJudge));
        state.restore_progress(self.progress.clone());
        for (key, value) in &self.records {
            assert!(state.restore_performance(key.clone(), value), "{key:?}");
        }
        state
    }
}

fn results(effects: Vec<Effect>) -> Vec<WindowResult> {
    let result = |effect| match effect {
        Effect::Result(result) => Some(*result),
        Effect::Damaged(reason) => panic!("{reason}"),
        Effect::Gap { topic } => panic!("gap in {topic}"),
        Effect::Verdict(_) | Effect::Late(_) | Effect::Duplicate => None,
    };
    effects.into_iter().filter_map(result).collect()
}

/// Results of an uninterrupted run.
fn run(world: &World, steps: &[Step]) -> Vec<WindowResult> {
    let mut state = Stored::default().restore(world);
    steps.iter().flat_map(|(header, rows)| results(state.apply(header, rows.clone()))).collect()
}

/// The last revision of every result by key.
fn last(results: Vec<WindowResult>) -> BTreeMap<String, WindowResult> {
    results.into_iter().map(|result| (result.key(), result)).collect()
}

fn whole(results: &[WindowResult], hour: i64) -> Vec<&WindowResult> {
    let of_hour = |result: &&WindowResult| {
        result.segment.is_all() && result.baseline.is_none() && result.window.start_ms == START_MS + hour * HOUR_MS
    };
    results.iter().filter(of_hour).collect()
}

fn performance(result: &WindowResult) -> &crate::windows::result::WindowPerformance {
    result.performance.as_ref().unwrap()
}

/// The profile of all rows of an hour, as a batch would count them.
fn batch(world: &World, rows: &[Row], hour: i64, country: Option<&str>) -> PerformanceProfile {
    let mut profile = PerformanceProfile::new(&world.layout);
    let of_hour = |row: &&Row| (row.at_ms - START_MS).div_euclid(HOUR_MS) == hour;
    for row in rows.iter().filter(of_hour).filter(|row| country.is_none_or(|country| country == row.country)) {
        profile.add_prediction(&world.layout, &prediction(row));
        profile.sample_prediction();
        if row.label_after_ms.is_some() {
            profile.add_labelled(&world.layout, &prediction(row), &label(row));
        }
    }
    profile
}

#[test]
fn a_window_is_told_at_once_revised_as_labels_come_and_final_once_none_can() {
    let (world, rows) = (&*WORLD, rows(2));
    let told = run(world, &stream(world, &rows, 8, 5 * MINUTE_MS, 0));
    let revisions = whole(&told, 0);
    let first = revisions[0];
    assert_eq!((first.revision, first.rows, first.complete), (0, 60, true));
    assert_eq!((first.n_labelled(), performance(first).is_final), (performance(first).labelled, false));
    assert!(performance(first).labelled < 30, "{first:?}");
    assert!(first.features[PERFORMANCE_FEATURE].metrics["est_roc_auc"].value.is_some());
    for (index, pair) in revisions.windows(2).enumerate() {
        assert_eq!(pair[1].revision as usize, index + 1);
        assert!(performance(pair[0]).labelled <= performance(pair[1]).labelled);
        assert!(!performance(pair[0]).is_final);
    }
    let last = revisions.last().unwrap();
    assert!(performance(last).is_final);
    assert_eq!((performance(last).predictions, performance(last).labelled), (60, 54));
    assert_eq!(performance(last).label_coverage, 0.9);
    // Labels come in every five minutes for two hours and are told at most every ten.
    assert!((8..=14).contains(&revisions.len()), "{} revisions", revisions.len());
    let metrics = &last.features[PERFORMANCE_FEATURE].metrics;
    let expected = batch(world, &rows, 0, None);
    for (name, value) in expected.metrics(&world.layout) {
        assert_eq!(metrics[&name], value, "{name}");
    }
    assert_eq!(performance(last).confusion, expected.confusion(&world.layout));
    assert_eq!(performance(last).confusion.iter().map(|cell| cell.rows).sum::<u64>(), 54);
    assert_eq!(metrics["recall@0.7"], expected.metrics_at(&world.layout, 0.7)["recall"]);
    assert!(
        performance(last).baseline["roc_auc"].value.is_some()
            && performance(last).baseline["recall@0.7"].value.is_some()
    );
    assert_eq!(last.features[PERFORMANCE_FEATURE].n_reference, 4_000);
    let german = told.iter().rfind(|result| result.segment.value == "de" && result.window == last.window).unwrap();
    assert_eq!(
        german.features[PERFORMANCE_FEATURE].metrics["f1"],
        batch(world, &rows, 0, Some("de")).metrics(&world.layout)["f1"]
    );
    assert_eq!(german.key(), format!("m|1|country=de|{START_MS}|{}|performance", START_MS + HOUR_MS));
}

impl WindowResult {
    fn n_labelled(&self) -> u64 {
        self.features[PERFORMANCE_FEATURE].n
    }
}

#[test]
fn before_any_label_only_estimates_are_told() {
    let world = &*WORLD;
    let mut rows = rows(1);
    rows.iter_mut().for_each(|row| row.label_after_ms = row.label_after_ms.map(|_| 100 * MINUTE_MS));
    let told = run(world, &stream(world, &rows, 2, 5 * MINUTE_MS, 0));
    let first = whole(&told, 0)[0];
    let stats = &first.features[PERFORMANCE_FEATURE];
    // The join follows ingest: it has not heard of the last five minutes yet.
    assert_eq!((first.rows, stats.n, stats.missing, performance(first).label_coverage), (60, 0, 55, 0.0));
    assert!(
        stats.metrics.keys().filter(|name| !name.starts_with("e") && *name != CHANGE_POINTS).count() == 0,
        "{:?}",
        stats.metrics.keys()
    );
}

#[test]
fn the_last_revision_is_that_of_the_batch_however_labels_come() {
    let (world, rows) = (&*WORLD, rows(4));
    let expected: Vec<_> = (0..4).map(|hour| batch(world, &rows, hour, None).metrics(&world.layout)).collect();
    for (step_minutes, behind_minutes) in [(5, 0), (1, 3), (60, 0), (15, 45), (480, 0)] {
        let (step_ms, behind_ms) = (step_minutes * MINUTE_MS, behind_minutes * MINUTE_MS);
        let told = run(world, &stream(world, &rows, 8, step_ms, behind_ms));
        for (hour, expected) in expected.iter().enumerate() {
            let revisions = whole(&told, hour as i64);
            let last = revisions.last().unwrap();
            assert!(performance(last).is_final, "steps of {step_minutes} min, hour {hour}");
            assert_eq!(revisions.iter().filter(|result| performance(result).is_final).count(), 1);
            for (name, value) in expected {
                let told = &last.features[PERFORMANCE_FEATURE].metrics[name];
                assert_eq!(told, value, "steps of {step_minutes} min, hour {hour}, {name}");
            }
        }
    }
}

#[test]
fn a_restart_at_any_checkpoint_changes_nothing() {
    let (world, rows) = (&*WORLD, rows(3));
    let steps = stream(world, &rows, 7, 10 * MINUTE_MS, 10 * MINUTE_MS);
    let expected = run(world, &steps);
    for every in [1, 3, 8] {
        let mut stored = Stored::default();
        let mut state = stored.restore(world);
        let mut told = Vec::new();
        let (mut since, mut untold) = (0, Vec::new());
        for (index, (header, rows)) in steps.iter().enumerate() {
            untold.extend(results(state.apply(header, rows.clone())));
            if (index + 1) % every == 0 {
                stored.checkpoint(&mut state);
                told.append(&mut untold);
                since = index + 1;
            }
            if index % 5 == 4 {
                // Killed: what was not in a checkpoint is read again.
                state = stored.restore(world);
                untold.clear();
                for (header, rows) in &steps[since..=index] {
                    untold.extend(results(state.apply(header, rows.clone())));
                }
            }
        }
        told.append(&mut untold);
        assert_eq!(told.len(), expected.len(), "a checkpoint every {every} flushes");
        for (told, expected) in told.iter().zip(&expected) {
            assert_eq!(told, expected, "a checkpoint every {every} flushes");
        }
        stored.checkpoint(&mut state);
        let kinds = |wanted: fn(&PerformanceKey) -> bool| stored.records.keys().filter(|key| wanted(key)).count();
        // The last windows with predictions ended four hours ago: past the delay and the lateness.
        assert_eq!(kinds(|key| matches!(key, PerformanceKey::Pane(_))), 0);
        assert_eq!(kinds(|key| matches!(key, PerformanceKey::Window(_))), 0);
        assert_eq!(state.performance().pane_count(), 0);
    }
}

#[test]
fn a_flush_that_comes_twice_changes_nothing() {
    let (world, rows) = (&*WORLD, rows(2));
    let steps = stream(world, &rows, 6, 10 * MINUTE_MS, 0);
    let twice: Vec<Step> = steps.iter().flat_map(|step| [step.clone(), step.clone()]).collect();
    assert_eq!(last(run(world, &twice)), last(run(world, &steps)));
}

#[test]
fn labels_that_come_with_their_prediction_are_final_at_once() {
    let world = world_with("label: {path: label, type: categorical}", Vec::new());
    let rows = rows(2);
    let step = |from: i64, to: i64, now: i64, offset: i64| {
        let added = partials(&world, &rows, |row, layout, profile| {
            let minute = (row.at_ms - START_MS) / MINUTE_MS;
            if minute < from || minute >= to {
                return false;
            }
            profile.add_prediction(layout, &prediction(row));
            profile.sample_prediction();
            profile.add_labelled(layout, &prediction(row), &label(row));
            true
        });
        let clock_ms = Some(START_MS + now * MINUTE_MS);
        let (topic, from, to) = ("t".to_string(), offset, offset + 1);
        (header(START_MS + now * MINUTE_MS, SourceProgress { topic, from, to, clock_ms, ..Default::default() }), added)
    };
    // Ten events are late, and come within the allowed lateness.
    let told = run(&world, &[step(0, 50, 61, 0), step(50, 60, 62, 1), step(60, 120, 121, 2)]);
    let of_hour = whole(&told, 0);
    let said: Vec<(u32, u64, bool)> = of_hour
        .iter()
        .map(|result| (result.revision, performance(result).labelled, performance(result).is_final))
        .collect();
    assert_eq!(said, [(0, 50, true), (1, 60, true)]);
}

#[test]
fn what_comes_after_the_delay_is_counted_and_not_lost_silently() {
    let (world, rows) = (&*WORLD, rows(1));
    let mut steps = stream(world, &rows, 6, 10 * MINUTE_MS, 0);
    let labelled = partials(world, &rows, |row, layout, profile| {
        profile.add_labelled(layout, &prediction(row), &label(row));
        true
    });
    let end_ms = START_MS + 6 * HOUR_MS;
    let source = SourceProgress { topic: "joins".into(), from: 36, to: 37, ..Default::default() };
    steps.push((header(end_ms, source), labelled));
    let mut state = Stored::default().restore(world);
    let effects: Vec<Effect> = steps.iter().flat_map(|(header, rows)| state.apply(header, rows.clone())).collect();
    let late = effects.iter().filter_map(|effect| match effect {
        Effect::Late(late) => Some((late.rows, late.performance, late.pane.start_ms)),
        _ => None,
    });
    assert_eq!(late.collect::<Vec<_>>(), [(60, true, START_MS)]);
    assert_eq!(state.performance().pane_count(), 0);
}
