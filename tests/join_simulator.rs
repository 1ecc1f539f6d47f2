//! Ingest and the join on the embedded log, with processes that die at chosen calls: labels late, shuffled, twice,
//! corrected, never or for nothing. Whatever is killed whenever, every pane says what a batch over all events says, and
//! each label without prediction is in the dead letter once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod join_support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use driftline::config::model::Model;
use driftline::config::parse_model_str;
use driftline::config::service::Ingest;
use driftline::config::units::Span;
use driftline::event::Decoder;
use driftline::ingest::role::{IngestModel, IngestRole};
use driftline::join::model::JoinModel;
use driftline::join::role::JoinRole;
use driftline::log::embedded::EmbeddedLog;
use driftline::log::topics::Topics;
use driftline::log::{Log, OutRecord, Records, StartOffset, TopicSpec};
use driftline::reference::{Reference, Source};
use driftline::stats::performance::profile::{Label, PerformanceLayout, PerformanceProfile, Prediction};
use driftline::telemetry::Metrics;
use join_support::{Figures, Place, Random, figures, labelled, profiles, values};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const MODEL: &str = "
version: 1
model: loan
topics: [predictions]
fields: {timestamp: at, version: version, prediction_id: id, features: features.*}
features: {country: categorical}
score: {path: score, type: numeric}
segments: [country]
performance:
  task: binary
  labels:
    topics: [labels]
    fields: {prediction_id: id, label: repaid, timestamp: given}
    delay: 2h
references: {training: {path: training.jsonl}}
windows: {size: 1m, watermark_delay: 0s, idle_after: 100ms}
";

const START_MS: i64 = 1_767_225_600_000;
const MINUTE_MS: i64 = 60_000;
const PREDICTIONS: i64 = 1_500;
const UNKNOWN: i64 = 120;
const PARTITIONS: u64 = 3;
/// Of Driftline's topics.
const OWN_PARTITIONS: i32 = 2;

struct World {
    model: Arc<Model>,
    reference: Arc<Reference>,
    layout: Arc<PerformanceLayout>,
    /// Topic, partition and event, in the order in which they are written.
    events: Vec<(&'static str, i32, Value)>,
    expected: BTreeMap<Place, Figures>,
    labelled: u64,
}

fn prediction_event(index: i64, at_ms: i64, random: &mut Random) -> Value {
    let version = ["1", "2"][random.below(2) as usize];
    let score = random.below(1_000) as f64 / 1_000.0;
    let country = ["DE", "FR", "PL"][random.below(3) as usize];
    json!({"at": at_ms, "id": format!("p{index}"), "version": version, "score": score, "features": {"country": country}})
}

fn world(seed: u64) -> World {
    let model = Arc::new(parse_model_str("model.yaml", MODEL).unwrap().value);
    let mut random = Random(seed);
    let mut records = Records::default();
    for offset in 0..300 {
        let event = prediction_event(offset, START_MS, &mut random).to_string();
        records.push("predictions", 0, offset, 0, None, Some(event.as_bytes()));
    }
    let decoded = Decoder::new(std::slice::from_ref(&model)).unwrap().decode(&records, START_MS).unwrap();
    let batches: Vec<_> = decoded.batches.into_iter().map(|decoded| decoded.batch).collect();
    let reference = Reference::build(&model, "training", &batches, &BTreeMap::new(), Source::default(), 0).unwrap();
    let layout = reference.performance_layout(&model).unwrap();

    let mut batch: BTreeMap<Place, PerformanceProfile> = BTreeMap::new();
    let (mut predictions, mut labels, mut met) = (Vec::new(), Vec::new(), 0);
    for index in 0..PREDICTIONS {
        let at_ms = START_MS + index * 12 * MINUTE_MS / PREDICTIONS;
        let event = prediction_event(index, at_ms, &mut random);
        // Some have none, some one, some several: the one given last counts.
        let mut given_ms = at_ms;
        let mut last = None;
        for _ in 0..random.below(4).saturating_sub(1) {
            given_ms += 1 + random.ms(10 * MINUTE_MS);
            let repaid = random.below(2);
            let label = json!({"id": format!("p{index}"), "repaid": repaid, "given": given_ms});
            let copies = if random.below(4) == 0 { 2 } else { 1 };
            labels.extend(std::iter::repeat_n(label, copies));
            last = Some(Label::Class(repaid as u32));
        }
        met += u64::from(last.is_some());
        let made = Prediction { score: event["score"].as_f64().unwrap(), ..Prediction::default() };
        let version = event["version"].as_str().unwrap();
        let country = event["features"]["country"].as_str().unwrap();
        for (column, value) in [("", ""), ("country", country)] {
            let start_ms = at_ms.div_euclid(MINUTE_MS) * MINUTE_MS;
            let place = (version.to_string(), column.to_string(), value.to_string(), start_ms);
            let profile = batch.entry(place).or_insert_with(|| PerformanceProfile::new(&layout));
            profile.sample_prediction();
            if let Some(last) = &last {
                profile.add_labelled(&layout, &made, last);
            }
        }
        let copies = if random.below(10) == 0 { 2 } else { 1 };
        predictions.extend(std::iter::repeat_n(event, copies));
    }
    for index in 0..UNKNOWN {
        labels.push(json!({"id": format!("u{index}"), "repaid": 1, "given": START_MS + random.ms(20 * MINUTE_MS)}));
    }
    random.shuffle(&mut labels);
    let mut events = Vec::new();
    let mut place = |topic: &'static str, event: Value| (topic, random.below(PARTITIONS) as i32, event);
    // Each topic in its order, one into the other at random.
    events.extend(predictions.into_iter().map(|event| place("predictions", event)));
    events.extend(labels.into_iter().map(|event| place("labels", event)));
    // Every partition goes on long enough for each label without prediction to be given up.
    let mut random = Random(seed ^ 1);
    for hours in [4, 9] {
        for partition in 0..PARTITIONS as i32 {
            let index = 10_000 + hours * 10 + i64::from(partition);
            let event = prediction_event(index, START_MS + hours * 60 * MINUTE_MS, &mut random);
            let event = json!({"version": "later", "score": 0.5, "at": event["at"], "id": event["id"], "features": {}});
            events.push(("predictions", partition, event));
        }
    }
    let expected = figures(&batch, &layout);
    World { model, reference: Arc::new(reference), layout, events, expected, labelled: met }
}

fn fill(log: &EmbeddedLog, world: &World) {
    let topics = Topics::new("sim");
    let spec =
        |name: &str| TopicSpec { name: name.into(), partitions: PARTITIONS as i32, replication: 1, config: vec![] };
    log.create_topics(&[spec("predictions"), spec("labels")]).unwrap();
    log.create_topics(&topics.specs(OWN_PARTITIONS, 1)).unwrap();
    let record = |(topic, partition, event): &(&'static str, i32, Value)| OutRecord {
        topic: (*topic).into(),
        partition: Some(*partition),
        value: Some(event.to_string().into_bytes()),
        ..OutRecord::default()
    };
    log.append(world.events.iter().map(record).collect()).unwrap();
}

fn ingest(world: &World) -> IngestRole {
    IngestRole {
        app: "sim".into(),
        instance: "0".into(),
        topics: Topics::new("sim"),
        models: vec![IngestModel {
            model: world.model.clone(),
            reference: world.reference.clone(),
            pane_ms: MINUTE_MS,
            sql: Vec::new(),
        }],
        start: StartOffset::Earliest,
        settings: Ingest { flush_interval: Span::from_ms(10), flush_rows: 200 },
        clock: Arc::new(|| chrono::Utc::now().timestamp_millis()),
        metrics: Metrics::new().unwrap(),
        status: Arc::new(|_| {}),
    }
}

fn join(world: &World, instance: &str) -> JoinRole {
    JoinRole {
        app: "sim".into(),
        instance: instance.into(),
        topics: Topics::new("sim"),
        joined: Arc::new(vec![JoinModel { model: world.model.clone(), layout: world.layout.clone() }]),
        settings: Ingest { flush_interval: Span::from_ms(10), flush_rows: 100 },
        clock: Arc::new(|| chrono::Utc::now().timestamp_millis()),
        metrics: Metrics::new().unwrap(),
        status: Arc::new(|_| {}),
    }
}

fn is_done(log: &EmbeddedLog, world: &World) -> bool {
    values(log, "sim.dead-letter").len() as i64 >= UNKNOWN
        && labelled(&profiles(log, "sim.partials", &world.layout)) >= world.labelled
}

/// Runs ingest and two processes of the join until everything has met; each process dies after the number of calls that
/// `deaths` gives, and is started again.
fn run(world: &World, mut deaths: impl FnMut() -> Option<u64>) -> (EmbeddedLog, u32) {
    let log = EmbeddedLog::new();
    fill(&log, world);
    let started = Instant::now();
    let mut killed = 0;
    std::thread::scope(|scope| {
        let stop = CancellationToken::new();
        let mut processes = Vec::new();
        let start = |role: usize, deaths: &mut dyn FnMut() -> Option<u64>| {
            let process = log.process();
            if let Some(calls) = deaths() {
                process.kill_after(calls);
            }
            let (stop, handle) = (stop.clone(), process.clone());
            let thread = scope.spawn(move || match role {
                0 => ingest(world).run(&handle, &stop),
                1 => join(world, "0").run(&handle, &stop),
                _ => join(world, "1").run(&handle, &stop),
            });
            (role, process, thread)
        };
        for role in 0..3 {
            processes.push(start(role, &mut deaths));
        }
        let mut looked = Instant::now();
        while looked.elapsed() < Duration::from_millis(50) || !is_done(&log, world) {
            if looked.elapsed() >= Duration::from_millis(50) {
                looked = Instant::now();
            }
            if started.elapsed() > Duration::from_secs(90) {
                let met = labelled(&profiles(&log, "sim.partials", &world.layout));
                let letters = values(&log, "sim.dead-letter").len();
                stop.cancel();
                panic!("not done after 90 s and {killed} kills: {met} of {} met, {letters} letters", world.labelled);
            }
            std::thread::sleep(Duration::from_millis(5));
            for slot in &mut processes {
                if slot.2.is_finished() {
                    assert!(slot.1.is_killed(), "role {} ended without being killed", slot.0);
                    killed += 1;
                    *slot = start(slot.0, &mut deaths);
                }
            }
        }
        stop.cancel();
    });
    (log, killed)
}

fn assert_equals_batch(log: &EmbeddedLog, world: &World, what: &str) {
    let mut found = figures(&profiles(log, "sim.partials", &world.layout), &world.layout);
    found.retain(|(version, ..), _| version != "later");
    assert_eq!(found.len(), world.expected.len(), "panes, {what}");
    for (place, expected) in &world.expected {
        assert_eq!(found.get(place), Some(expected), "{place:?}, {what}");
    }
    let mut given_up: Vec<(String, String)> = Vec::new();
    for letter in values(log, "sim.dead-letter") {
        let letter: Value = serde_json::from_slice(&letter).unwrap();
        let event: Value = serde_json::from_str(letter["payload"].as_str().unwrap()).unwrap();
        let reason = letter["reason"].as_str().unwrap().to_string();
        given_up.push((event["id"].as_str().unwrap().to_string(), reason));
    }
    given_up.sort();
    let mut expected: Vec<(String, String)> =
        (0..UNKNOWN).map(|index| (format!("u{index}"), "label_without_prediction".to_string())).collect();
    expected.sort();
    assert_eq!(given_up, expected, "labels without prediction, {what}");
}

#[test]
fn killed_processes_lose_no_label_and_count_none_twice() {
    let quiet = world(7);
    assert!(quiet.labelled > 500 && quiet.expected.len() > 60, "{} of {}", quiet.labelled, quiet.expected.len());
    let (log, _) = run(&quiet, || None);
    assert_equals_batch(&log, &quiet, "undisturbed");

    let mut random = Random(42);
    for seed in 0..4 {
        let world = world(100 + seed);
        let mut left = 30;
        let (log, killed) = run(&world, || {
            left -= 1;
            // A life of 10 to 130 calls of the log, then one without end.
            (left > 0).then(|| 10 + random.below(120))
        });
        assert!(killed >= 8, "only {killed} processes were killed");
        assert_equals_batch(&log, &world, &format!("seed {seed}, {killed} kills"));
        eprintln!("seed {seed}: {killed} kills");
    }
}
