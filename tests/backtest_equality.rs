//! Promise: a back-test tells what production tells, under the same ids. The roles run on the embedded log with a clock
//! that follows the events; the same events go through the back-test's engine, and every notification must be equal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use driftline::backtest::{Engine, EngineOptions, Trail};
use driftline::config::model::Model;
use driftline::config::service::Ingest;
use driftline::config::units::Span;
use driftline::config::{parse_model_str, parse_rules_str};
use driftline::event::Decoder;
use driftline::ingest::role::{IngestModel, IngestRole};
use driftline::log::embedded::EmbeddedLog;
use driftline::log::topics::Topics;
use driftline::log::{Log, OutRecord, Records, StartOffset, TopicSpec};
use driftline::reference::{Reference, Source};
use driftline::rules::RuleSet;
use driftline::rules::judge::RulesJudge;
use driftline::telemetry::Metrics;
use driftline::windows::progress::Progress;
use driftline::windows::role::{WindowsRole, read_to_end};
use driftline::windows::state::{References, pane_width_ms};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const MODEL: &str = "
version: 1
model: fraud
topics: [predictions]
fields: {timestamp: at, version: version, prediction_id: id}
features: {amount: numeric, age: numeric, country: categorical}
score: {path: score, type: numeric}
segments: [country]
change_detectors: [{signal: amount, method: adwin, clock: 1}]
performance: {task: binary, label: {path: fraud, type: categorical}}
references: {training: {path: training.jsonl}}
windows: {size: 1m, watermark_delay: 0s, allowed_lateness: 5m, idle_after: 20s}
";

const RULES: &str = "
version: 1
defaults: {window: 1m, min_samples: 100}
rules:
  - {name: drift, model: fraud@*, when: {warn: psi > 0.10, critical: psi > 0.25}, for: 2 of 3 windows}
  - {name: by-feature, model: fraud@*, when: {warn: psi > 0.10}, recover: psi < 0.05, group_by: [model, feature]}
  - {name: by-country, model: fraud@*, segments: [country], min_samples: 50, when: {warn: psi > 0.15}, group_by: [model, version, segment]}
  - {name: sudden, model: fraud@*, reference: {trailing: 3m}, when: {critical: psi > 0.25}}
  - {name: score-before, model: fraud@*, window: 4m, slide: 2m, signal: prediction.score, reference: previous, when: {warn: psi > 0.10}}
  - {name: worse, model: fraud@*, signal: performance, window: 2m, when: {warn: roc_auc < baseline - 0.02, critical: roc_auc < baseline - 0.1}}
  - {name: few, model: fraud@*, reference: {trailing: 4m}, when: {warn: row_count < 50% of expected}}
  - {name: changed, model: fraud@*, signal: amount, when: {warn: change_points > 0}}
  - {name: silent, model: '*', absent: {after: 90s}}
@more@
routes: [{match: {}, to: [hook]}]
receivers: {hook: {webhook: {url: 'http://127.0.0.1:1/', allow_private: true}}}
@sections@
";

const START_MS: i64 = 1_767_225_600_000;
const MINUTE_MS: i64 = 60_000;
const PARTITIONS: i32 = 2;
/// Events come until here, then from `BACK` on again.
const GONE: i64 = 16;
const BACK: i64 = 21;
const END: i64 = 26;

struct OneReference(Arc<Reference>);

impl References for OneReference {
    fn find(&self, model: &str, id: &str) -> Option<Arc<Reference>> {
        (self.0.model == model && self.0.id == id).then(|| self.0.clone())
    }
}

/// Uniform in [0, 1), by a counter.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / (1_u64 << 31) as f64
    }
}

/// Amounts move from minute 5 to 9, in Italy from 3 to 6; from 10 to 14 the score is lower and says nothing.
fn event(random: &mut Random, at_ms: i64, calm: bool) -> Value {
    let minute = (at_ms - START_MS).div_euclid(MINUTE_MS);
    let country = ["DE", "FR", "IT"][(random.next() * 3.0) as usize];
    let moved = !calm && ((5..9).contains(&minute) || (country == "IT" && (3..6).contains(&minute)));
    let amount = 100.0 + 20.0 * (random.next() + random.next() + random.next() - 1.5) + if moved { 25.0 } else { 0.0 };
    let is_lost = !calm && (10..14).contains(&minute);
    let score = random.next() * if is_lost { 0.7 } else { 1.0 };
    let truth = if is_lost { random.next() } else { score };
    json!({
        "at": at_ms, "id": format!("{}", random.0), "version": if random.next() < 0.3 { "2" } else { "1" },
        "features": {"amount": amount, "age": 20.0 + 50.0 * random.next(), "country": country},
        "score": score, "fraud": if truth > 0.6 { "1" } else { "0" },
    })
}

struct World {
    model: Arc<Model>,
    rules: Arc<RuleSet>,
    reference: Arc<Reference>,
    /// Event time and payload, in order of time.
    events: Vec<(i64, Vec<u8>)>,
}

fn world(more: &str, sections: &str) -> World {
    let model = Arc::new(parse_model_str("model.yaml", MODEL).unwrap().value);
    let text = RULES.replace("@more@", more).replace("@sections@", sections);
    let rules = parse_rules_str("rules.yaml", &text).unwrap_or_else(|errors| panic!("{}", errors.text(false))).value;
    let rules = RuleSet::compile(&[("rules.yaml".to_string(), rules)], std::slice::from_ref(&model)).unwrap();
    let mut random = Random(7);
    let mut records = Records::default();
    for offset in 0..6_000 {
        let event = event(&mut random, START_MS, true).to_string();
        records.push("predictions", 0, offset, 0, None, Some(event.as_bytes()));
    }
    let decoded = Decoder::new(std::slice::from_ref(&model)).unwrap().decode(&records, START_MS).unwrap();
    let batches: Vec<_> = decoded.batches.into_iter().map(|decoded| decoded.batch).collect();
    let reference = Reference::build(&model, "training", &batches, &BTreeMap::new(), Source::default(), 0).unwrap();
    let mut events = Vec::new();
    let mut at_ms = START_MS;
    while at_ms < START_MS + END * MINUTE_MS {
        let minute = (at_ms - START_MS) / MINUTE_MS;
        if !(GONE..BACK).contains(&minute) {
            let payload = event(&mut random, at_ms, false).to_string().into_bytes();
            // One in fifty is cut in the middle.
            let cut = if events.len() % 50 == 24 { 40 } else { payload.len() };
            events.push((at_ms, payload[..cut].to_vec()));
        }
        // Few events at the end.
        at_ms += if minute >= BACK + 2 { 500 } else { 120 };
    }
    World { model, rules: Arc::new(rules), reference: Arc::new(reference), events }
}

/// The event at `index` as production has it: partition and offset.
fn place(index: usize) -> (i32, i64) {
    ((index % PARTITIONS as usize) as i32, (index / PARTITIONS as usize) as i64)
}

fn ingest(world: &World, clock: &Arc<AtomicI64>) -> IngestRole {
    let clock = clock.clone();
    IngestRole {
        app: "sim".into(),
        instance: "0".into(),
        topics: Topics::new("sim"),
        models: vec![IngestModel {
            model: world.model.clone(),
            reference: world.reference.clone(),
            pane_ms: pane_width_ms(&world.rules.window_specs(&world.model)),
            sql: world.rules.sql_metrics(&world.model),
        }],
        start: StartOffset::Earliest,
        settings: Ingest { flush_interval: Span::from_ms(10), flush_rows: 300 },
        clock: Arc::new(move || clock.load(Ordering::SeqCst)),
        metrics: Metrics::new().unwrap(),
        status: Arc::new(|_| {}),
    }
}

fn windows(world: &World) -> WindowsRole {
    let (rules, metrics) = (world.rules.clone(), Metrics::new().unwrap());
    let judge_metrics = metrics.clone();
    WindowsRole {
        app: "sim".into(),
        instance: "0".into(),
        topics: Topics::new("sim"),
        watched: Arc::new(vec![rules.watched(&world.model)]),
        references: Arc::new(OneReference(world.reference.clone())),
        judge: Arc::new(move || Box::new(RulesJudge::new(rules.clone(), judge_metrics.clone()))),
        checkpoint_interval: Duration::from_millis(20),
        metrics,
        status: Arc::new(|_| {}),
    }
}

/// Wall clock that the windows role has seen, and the offsets that it has taken in.
fn progress(log: &EmbeddedLog) -> (i64, i64) {
    let mut known = None;
    read_to_end(log, "sim.panes", 0, |key, value| {
        if key == b"progress" {
            known = value.map(|value| serde_json::from_slice::<Progress>(value).unwrap());
        }
    })
    .unwrap();
    let Some(progress) = known else { return (0, 0) };
    let topics = serde_json::to_value(&progress.topics).unwrap();
    let next = |partition: i32| topics["predictions"][partition.to_string()]["next_offset"].as_i64().unwrap_or(0);
    (progress.at_ms, (0..PARTITIONS).map(next).sum())
}

/// What the roles write to the outbox: events in steps, the clock with them, and through the pause.
fn production(world: &World) -> Vec<Value> {
    let log = EmbeddedLog::new();
    let topics = Topics::new("sim");
    let spec = TopicSpec { name: "predictions".into(), partitions: PARTITIONS, replication: 1, config: vec![] };
    log.create_topics(&[spec]).unwrap();
    log.create_topics(&topics.specs(1, 1)).unwrap();
    // Up to the pause, the first after it, the rest.
    let first_back = world.events.iter().position(|(at_ms, _)| *at_ms >= START_MS + BACK * MINUTE_MS).unwrap();
    // The service starts with the history before the pause at hand: else it would wait for events all that time.
    let clock = Arc::new(AtomicI64::new(world.events[first_back - 1].0));
    let stop = CancellationToken::new();
    std::thread::scope(|scope| {
        let (role, other) = (ingest(world, &clock), windows(world));
        let (first, second) = (log.process(), log.process());
        let (stop, log, clock) = (&stop, &log, &clock);
        let threads = [
            scope.spawn(move || role.run(&first, stop).unwrap()),
            scope.spawn(move || other.run(&second, stop).unwrap()),
        ];
        let wait = |what: &str, at_ms: i64, read: i64| {
            let until = Instant::now() + Duration::from_secs(60);
            while progress(log) < (at_ms, read) {
                let (is_ms, has) = progress(log);
                assert!(
                    Instant::now() < until && threads.iter().all(|thread| !thread.is_finished()),
                    "{what}: the clock is {is_ms} of {at_ms}, {has} of {read} events are in"
                );
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        let mut appended = 0;
        for to in [first_back, first_back + 2, world.events.len()] {
            let now_ms = world.events[to - 1].0;
            if appended > 0 && to == first_back + 2 {
                let mut at_ms = clock.load(Ordering::SeqCst);
                while at_ms + 5_000 < world.events[to - 2].0 {
                    at_ms += 5_000;
                    clock.store(at_ms, Ordering::SeqCst);
                    wait("the pause", at_ms, appended as i64);
                }
            }
            clock.store(now_ms, Ordering::SeqCst);
            let record = |(index, (_, payload)): (usize, &(i64, Vec<u8>))| OutRecord {
                topic: "predictions".into(),
                partition: Some(place(index).0),
                value: Some(payload.clone()),
                ..OutRecord::default()
            };
            log.append(world.events.iter().enumerate().take(to).skip(appended).map(record).collect()).unwrap();
            appended = to;
            wait("events", now_ms, appended as i64);
        }
        // The last windows close as the stream goes quiet; nobody waits for it to be missed.
        let end_ms = START_MS + (END + 4) * MINUTE_MS;
        let mut at_ms = clock.load(Ordering::SeqCst);
        while at_ms < end_ms {
            at_ms += 5_000;
            clock.store(at_ms, Ordering::SeqCst);
            wait("the end", at_ms, appended as i64);
        }
        stop.cancel();
    });
    let mut outbox = Vec::new();
    read_to_end(&log, "sim.outbox", 0, |_, value| {
        outbox.push(serde_json::from_slice(value.unwrap()).unwrap());
    })
    .unwrap();
    outbox
}

fn engine(world: &World) -> Engine {
    let references = BTreeMap::from([(world.model.model.clone(), world.reference.clone())]);
    Engine::new(std::slice::from_ref(&world.model), world.rules.clone(), &references, EngineOptions::default()).unwrap()
}

/// In slabs of `slab` events, as raw events.
fn backtest(world: &World, slab: usize) -> Trail {
    let mut engine = engine(world);
    let indexed: Vec<(usize, &(i64, Vec<u8>))> = world.events.iter().enumerate().collect();
    for slab in indexed.chunks(slab) {
        let mut records = Records::default();
        for (index, (at_ms, payload)) in slab {
            let (partition, offset) = place(*index);
            records.push("predictions", partition, offset, *at_ms, None, Some(payload));
        }
        engine.push_events(&records).unwrap();
    }
    engine.advance(START_MS + (END + 4) * MINUTE_MS).unwrap();
    engine.finish().unwrap()
}

/// By id, without what is read off the wall clock.
fn by_id(told: impl Iterator<Item = Value>) -> BTreeMap<String, Value> {
    told.map(|mut told| {
        told["at_ms"] = 0.into();
        // One request for each window.
        let window = if told.get("action").is_some() { told["window"]["start_ms"].clone() } else { Value::Null };
        // A back-test reads one partition; and windows of performance are judged after all of features in a flush, of
        // which there are many in one where production catches up.
        if let Some(facts) = told.get_mut("facts") {
            facts["positions_by_day"] = Value::Null;
            facts["labels_by_day"] = Value::Null;
            facts["firing"].as_array_mut().unwrap().retain(|rule| rule != "worse");
        }
        // How long a model was silent when somebody looked.
        if told["rule"] == "silent" {
            told["findings"] = Value::Null;
            told["window"] = Value::Null;
        }
        let id = told.get("id").or(told.get("action")).and_then(Value::as_str).unwrap().to_string();
        (format!("{id} {} {window}", told["episode_id"]), told)
    })
    .collect()
}

fn assert_equal(world: &World) -> BTreeMap<String, Value> {
    let produced = by_id(production(world).into_iter());
    let trail = backtest(world, 700);
    let notifications = trail.notifications.iter().map(|told| serde_json::to_value(told).unwrap());
    let requests = trail.action_requests.iter().map(|request| serde_json::to_value(request).unwrap());
    let tried = by_id(notifications.chain(requests));
    for (id, told) in &produced {
        let summary = &told["summary"];
        let other = tried.get(id).unwrap_or_else(|| panic!("only production tells {id}: {summary}"));
        assert_eq!(other, told, "{id} differs: back-test, then production");
    }
    for (id, told) in &tried {
        assert!(produced.contains_key(id), "only the back-test tells {id}: {}", told["summary"]);
    }
    assert_eq!(trail.problems, Vec::<String>::new());
    produced
}

#[test]
fn a_backtest_tells_what_production_tells_under_the_same_ids() {
    let world = world("", "");
    let produced = assert_equal(&world);
    let rules: BTreeSet<&str> = produced.values().filter_map(|told| told["rule"].as_str()).collect();
    let all: BTreeSet<&str> = world.rules.rules().iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(rules, all, "every rule tells something, else nothing is shown");
    let segments: BTreeSet<&str> = produced.values().filter_map(|told| told["segment"]["value"].as_str()).collect();
    assert!(segments.contains("IT"), "segments have episodes of their own: {segments:?}");
}

/// Rules that keep each other quiet, silences, actions and a query of one's own.
const MORE: &str = "
  - {name: low-scores, model: fraud@*, sql: SELECT avg(score) AS value FROM events, when: {warn: value < 0.4}}
  - {name: retrains, model: fraud@*, when: {critical: psi > 0.25}, actions: [retrain]}
";
const SECTIONS: &str = "
inhibit:
  - {if: by-country, mute: [by-feature], same: [model]}
  - {if: silent, mute: [few, worse]}
silences:
  - {match: {rule: sudden}, from: '2026-01-01T00:05:00Z', until: '2026-01-01T00:07:00Z', reason: works}
  - {match: {rule: by-country}, every: 'daily 00:03-00:05 UTC', reason: nightly}
actions:
  retrain: {kafka: {topic: retraining}, cooldown: 1h}
";

#[test]
fn what_is_kept_quiet_and_what_is_asked_for_are_those_of_production() {
    let world = world(MORE, SECTIONS);
    let produced = assert_equal(&world);
    let quiet: BTreeSet<(&str, &str)> = produced
        .values()
        .filter_map(|told| Some((told["suppressed"]["by"].as_str()?, told["rule"].as_str()?)))
        .collect();
    for wanted in [("inhibition", "by-feature"), ("silence", "sudden"), ("silence", "by-country")] {
        assert!(quiet.contains(&wanted), "{wanted:?} is kept quiet: {quiet:?}");
    }
    let rules: BTreeSet<&str> = produced.values().filter_map(|told| told["rule"].as_str()).collect();
    assert!(rules.contains("low-scores"), "the query tells something: {rules:?}");
    let requests = produced.values().filter(|told| told.get("action").is_some()).count();
    assert!(requests > 1, "{requests} requests");
}

#[test]
fn a_run_goes_ahead_once_and_the_next_is_held_back_by_its_cooldown() {
    let trail = backtest(&world(MORE, SECTIONS), 700);
    let started: Vec<_> = trail.runs.iter().filter(|run| run.started_ms.is_some()).collect();
    assert_eq!(started.len(), 1, "{:?}", trail.runs);
    assert_eq!((started[0].action.as_str(), started[0].state.as_str()), ("retrain", "succeeded"));
    for run in trail.runs.iter().filter(|run| run.started_ms.is_none()) {
        assert!(run.reason.contains("cooldown"), "{run:?}");
    }
}

#[test]
fn a_backtest_does_not_depend_on_how_history_is_cut() {
    let world = world("", "");
    let told = |trail: Trail| -> Vec<Value> {
        trail.notifications.iter().map(|told| serde_json::to_value(told).unwrap()).collect()
    };
    let whole = told(backtest(&world, usize::MAX));
    assert!(whole.len() > 10, "{} notifications", whole.len());
    for slab in [37, 4_096] {
        assert_eq!(told(backtest(&world, slab)), whole, "slabs of {slab}");
    }
}
