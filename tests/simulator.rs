//! The pipeline on the embedded log, with processes that die at chosen calls: whatever is killed whenever, the
//! results and the notifications are those of an undisturbed run, to the byte.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::Float64Type;
use driftline::cli::sample::Sampler;
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
use driftline::stats::change::{Detector, Method};
use driftline::telemetry::Metrics;
use driftline::windows::result::WindowResult;
use driftline::windows::role::{WindowsRole, read_to_end};
use driftline::windows::state::{References, pane_width_ms};
use tokio_util::sync::CancellationToken;

const MODEL: &str = "
version: 1
model: fraud
topics: [predictions]
fields: {timestamp: timestamp, model: model, version: version, prediction_id: id, features: features.*}
features: {amount: numeric, age_days: numeric, merchant_category: categorical, country: categorical}
score: {path: score, type: numeric}
segments: [country, [country, merchant_category]]
max_segments: 12
change_detectors:
  - {signal: amount, method: adwin, clock: 1}
  - {signal: prediction.score, method: page_hinkley, delta: 0.001, threshold: 1}
references: {training: {path: training.jsonl}}
windows: {size: 1m, watermark_delay: 0s, allowed_lateness: 5m, idle_after: 100ms}
";

const RULES: &str = "
version: 1
defaults: {window: 1m, min_samples: 100}
rules:
  - name: feature-drift
    model: fraud@*
    when: {warn: psi > 0.10, critical: psi > 0.25}
    for: 2 of 3 windows
    actions: [retrain]
  - name: slow-drift
    model: fraud@*
    window: 4m
    slide: 2m
    when: {warn: psi > 0.10}
  - name: sudden
    model: fraud@*
    segments: [country]
    reference: {trailing: 3m}
    when: {critical: psi > 0.25}
  - name: against-before
    model: fraud@*
    window: 4m
    slide: 2m
    signal: prediction.score
    reference: previous
    when: {warn: psi > 0.10}
  - name: amount-changed
    model: fraud@*
    signal: amount
    when: {warn: change_points > 0}
  - name: pair-drift
    model: fraud@*
    window: 4m
    segments: [[merchant_category, country]]
    min_samples: 50
    when: {warn: psi > 0.10}
    group_by: [model, segment, feature]
  - name: small-amounts
    model: fraud@*
    sql: SELECT sum(amount) / count(amount) AS value FROM events WHERE age_days >= 0
    when: {warn: value > 1}
  - name: amounts-by-country
    model: fraud@*
    window: 4m
    slide: 2m
    min_samples: 20
    reference: {trailing: 4m}
    sql: SELECT approx_percentile_cont(amount, 0.9) AS value FROM events GROUP BY country
    when: {warn: value > 110% of baseline}
inhibit: [{if: feature-drift, mute: [against-before]}]
silences:
  - {match: {rule: feature-drift}, from: '2026-01-01T00:04:00Z', until: '2026-01-01T00:07:00Z', reason: backfill}
actions: {retrain: {webhook: {url: 'http://127.0.0.1:1/', secret: {env: SECRET}, allow_private: true}, cooldown: 1h}}
routes: [{match: {}, to: [hook]}]
receivers: {hook: {webhook: {url: 'http://127.0.0.1:1/', allow_private: true}}}
";

const MINUTES: i64 = 12;
const EVENTS_PER_MINUTE: i64 = 400;
const PARTITIONS: i32 = 3;
const START_MS: i64 = 1_767_225_600_000;

struct OneReference(Arc<Reference>);

impl References for OneReference {
    fn find(&self, model: &str, id: &str) -> Option<Arc<Reference>> {
        (self.0.model == model && self.0.id == id).then(|| self.0.clone())
    }
}

/// Everything but the log: the same for every run.
struct World {
    model: Arc<Model>,
    rules: Arc<RuleSet>,
    reference: Arc<Reference>,
    payloads: Vec<Vec<u8>>,
}

fn world() -> World {
    let model = Arc::new(parse_model_str("model.yaml", MODEL).unwrap().value);
    let rules = parse_rules_str("rules.yaml", RULES).unwrap().value;
    let rules = RuleSet::compile(&[("rules.yaml".to_string(), rules)], std::slice::from_ref(&model)).unwrap();
    let mut records = Records::default();
    let mut healthy = Sampler::new(1);
    for offset in 0..5_000 {
        records.push("predictions", 0, offset, 0, None, Some(healthy.event(START_MS, false).to_string().as_bytes()));
    }
    let decoded = Decoder::new(std::slice::from_ref(&model)).unwrap().decode(&records, START_MS).unwrap();
    let batches: Vec<_> = decoded.batches.into_iter().map(|decoded| decoded.batch).collect();
    let reference = Reference::build(&model, "training", &batches, &BTreeMap::new(), Source::default(), 0).unwrap();
    let mut sampler = Sampler::new(2);
    let mut payloads = Vec::new();
    for index in 0..MINUTES * EVENTS_PER_MINUTE {
        let event_time = START_MS + index * 60_000 / EVENTS_PER_MINUTE;
        let drifted = (4..8).contains(&((event_time - START_MS) / 60_000));
        let event = sampler.event(event_time, drifted).to_string();
        // One in fifty is cut in the middle.
        payloads.push(if index % 50 == 49 { event.as_bytes()[..40].to_vec() } else { event.into_bytes() });
    }
    World { model, rules: Arc::new(rules), reference: Arc::new(reference), payloads }
}

fn fill(log: &EmbeddedLog, world: &World) {
    let topics = Topics::new("sim");
    let spec = TopicSpec { name: "predictions".into(), partitions: PARTITIONS, replication: 1, config: vec![] };
    log.create_topics(&[spec]).unwrap();
    log.create_topics(&topics.specs(2, 1)).unwrap();
    let record = |(index, payload): (usize, &Vec<u8>)| OutRecord {
        topic: "predictions".into(),
        partition: Some((index % PARTITIONS as usize) as i32),
        value: Some(payload.clone()),
        ..OutRecord::default()
    };
    log.append(world.payloads.iter().enumerate().map(record).collect()).unwrap();
}

fn ingest(world: &World) -> IngestRole {
    let specs = world.rules.window_specs(&world.model);
    IngestRole {
        app: "sim".into(),
        instance: "0".into(),
        topics: Topics::new("sim"),
        models: vec![IngestModel {
            model: world.model.clone(),
            reference: world.reference.clone(),
            pane_ms: pane_width_ms(&specs),
            sql: world.rules.sql_metrics(&world.model),
        }],
        start: StartOffset::Earliest,
        settings: Ingest { flush_interval: Span::from_ms(10), flush_rows: 300 },
        clock: Arc::new(|| chrono::Utc::now().timestamp_millis()),
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
        checkpoint_interval: Duration::from_millis(50),
        metrics,
        status: Arc::new(|_| {}),
    }
}

fn read(log: &EmbeddedLog, stem: &str) -> Vec<(String, String)> {
    let topic = format!("sim.{stem}");
    let mut records = Vec::new();
    for partition in 0..log.partition_count(&topic).unwrap().unwrap() {
        read_to_end(log, &topic, partition, |key, value| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            records.push((text(key), text(value.unwrap_or_default())));
        })
        .unwrap();
    }
    records
}

/// Keys of results against moving references have one more part.
fn is_moving(key: &str) -> bool {
    key.split('|').count() > 5
}

/// Windows of one minute and of four, over all events.
fn is_done(log: &EmbeddedLog) -> bool {
    let results = read(log, "results");
    let closed: BTreeSet<&str> =
        results.iter().map(|(key, _)| key.as_str()).filter(|key| key.contains("|all|") && !is_moving(key)).collect();
    // 12 windows of one minute; those of four minutes start every two, the first and last hold two minutes.
    closed.len() == MINUTES as usize + MINUTES as usize / 2 + 1
}

/// Runs both roles until everything has closed; each process dies after the number of calls that `deaths` gives,
/// and is started again.
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
                _ => windows(world).run(&handle, &stop),
            });
            (role, process, thread)
        };
        for role in 0..2 {
            processes.push(start(role, &mut deaths));
        }
        while !is_done(&log) {
            assert!(started.elapsed() < Duration::from_secs(60), "not done after 60 s and {killed} kills");
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

/// Results by key, without what is read off the wall clock: how far events lie behind it.
fn sorted(records: Vec<(String, String)>) -> BTreeMap<String, Vec<String>> {
    let mut by_key: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, value) in records {
        let mut result: serde_json::Value = serde_json::from_str(&value).unwrap();
        if let Some(quality) = result.get_mut("quality").and_then(|quality| quality.as_object_mut()) {
            assert!(quality.remove("freshness_seconds").is_some() && quality.remove("delay_seconds").is_some());
        }
        by_key.entry(key).or_default().push(result.to_string());
    }
    by_key
}

fn is_request(value: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(value).unwrap().get("action").is_some()
}

/// Requests for actions by episode and window, without the wall clock and how far the sources had been read by it.
fn asked(log: &EmbeddedLog) -> BTreeMap<(String, i64), serde_json::Value> {
    let parse = |(key, value): (String, String)| {
        let mut request: serde_json::Value = serde_json::from_str(&value).unwrap();
        request["at_ms"] = 0.into();
        let days = request["facts"]["positions_by_day"].take().as_array().map(Vec::len);
        assert_eq!(days, Some(2), "of the day's first window, and of now");
        ((key, request["window"]["end_ms"].as_i64().unwrap()), request)
    };
    let records: Vec<_> = read(log, "outbox").into_iter().filter(|(_, value)| is_request(value)).collect();
    let count = records.len();
    let asked: BTreeMap<_, _> = records.into_iter().map(parse).collect();
    assert_eq!(asked.len(), count, "nothing is asked twice of one window");
    asked
}

/// Notifications by id, without the wall clock at which they were derived.
fn told(log: &EmbeddedLog) -> BTreeMap<String, serde_json::Value> {
    let parse = |(_, value): (String, String)| {
        let mut notification: serde_json::Value = serde_json::from_str(&value).unwrap();
        notification["at_ms"] = 0.into();
        (notification["id"].as_str().unwrap().to_string(), notification)
    };
    let records: Vec<_> = read(log, "outbox").into_iter().filter(|(_, value)| !is_request(value)).collect();
    let count = records.len();
    let told: BTreeMap<_, _> = records.into_iter().map(parse).collect();
    assert_eq!(told.len(), count, "no notification is in the outbox twice");
    told
}

/// Changes as a detector sees them that reads one partition from its start: signal, partition and offset.
fn changes_of_each_partition(world: &World) -> BTreeSet<(String, i32, i64)> {
    let mut decoder = Decoder::new(std::slice::from_ref(&world.model)).unwrap();
    let mut changes = BTreeSet::new();
    for partition in 0..PARTITIONS {
        let mut records = Records::default();
        let mine = world.payloads.iter().skip(partition as usize).step_by(PARTITIONS as usize);
        for (offset, payload) in mine.enumerate() {
            records.push("predictions", partition, offset as i64, 0, None, Some(payload));
        }
        let decoded = decoder.decode(&records, START_MS + 60_000 * MINUTES).unwrap();
        for configured in &world.model.change_detectors {
            // One for each version.
            let mut detectors: BTreeMap<String, Detector> = BTreeMap::new();
            for batch in &decoded.batches {
                let versions = batch.batch.column_by_name("version").unwrap().as_string::<i32>();
                let values = batch.batch.column_by_name(&configured.signal).unwrap().as_primitive::<Float64Type>();
                for (row, record) in batch.record_indices.iter().enumerate() {
                    let method = Method::configured(configured).unwrap();
                    let version = versions.value(row).to_string();
                    let detector = detectors.entry(version).or_insert_with(|| Detector::new(&method));
                    let verdict = values.is_valid(row).then(|| detector.observe(values.value(row))).flatten();
                    if verdict.is_some_and(|verdict| verdict.change) {
                        let offset = records.get(*record as usize).unwrap().offset;
                        changes.insert((configured.signal.clone(), partition, offset));
                    }
                }
            }
        }
    }
    changes
}

#[test]
fn changes_are_those_of_each_partition_read_by_itself() {
    let world = world();
    let expected = changes_of_each_partition(&world);
    let signals: BTreeSet<&str> = expected.iter().map(|(signal, ..)| signal.as_str()).collect();
    assert!(signals.len() == 2, "both signals change: {expected:?}");
    let (log, _) = run(&world, || None);
    let mut told = BTreeSet::new();
    let mut counted = 0;
    for (key, value) in read(&log, "results") {
        let result: WindowResult = serde_json::from_str(&value).unwrap();
        if result.window.end_ms - result.window.start_ms != 60_000 {
            continue;
        }
        let of_all = result.segment.is_all() && result.baseline.is_none();
        assert!(of_all || result.changes.is_empty(), "{key} is not of all events against the stored reference");
        for change in result.changes {
            assert!(
                (result.window.start_ms..result.window.end_ms).contains(&change.event_time_ms),
                "{key}: {change:?}"
            );
            told.insert((change.signal, change.partition, change.offset));
        }
        let count = |signal: &str| result.features[signal].metrics.get("change_points").and_then(|count| count.value);
        if of_all {
            counted += (count("amount").unwrap() + count("prediction.score").unwrap()) as usize;
        }
    }
    assert_eq!(told, expected);
    assert_eq!(counted, expected.len(), "the metric counts what the field lists");
    let rules: BTreeSet<String> =
        self::told(&log).into_values().map(|told| told["rule"].as_str().unwrap().to_string()).collect();
    assert!(rules.contains("amount-changed"), "{rules:?}");
}

/// What is held back while a silence lasts is told when it is over, and only then asks for its action.
fn silences_end(
    notifications: &BTreeMap<String, serde_json::Value>,
    asked: &BTreeMap<(String, i64), serde_json::Value>,
) {
    let minute = |value: &serde_json::Value| (value["window"]["end_ms"].as_i64().unwrap() - START_MS) / 60_000;
    let mut drift: Vec<&serde_json::Value> =
        notifications.values().filter(|one| one["rule"] == "feature-drift").collect();
    drift.sort_by_key(|one| one["sequence"].as_u64());
    let outline: Vec<(i64, &str, bool)> = drift
        .iter()
        .map(|one| (minute(one), one["status"].as_str().unwrap(), one["receivers"].as_array().unwrap().is_empty()))
        .collect();
    let (first, told) = (outline[0], outline.iter().find(|(.., quiet)| !quiet).unwrap());
    assert_eq!(first, (6, "firing", true), "{outline:?}");
    assert_eq!(*told, (8, "firing", false), "the first window behind the silence: {outline:?}");
    let last = outline.last().unwrap();
    assert_eq!((last.1, last.2), ("resolved", false), "{outline:?}");
    assert_eq!(drift[0]["suppressed"]["by"], "silence");
    let asked: Vec<i64> = asked.values().map(minute).collect();
    assert!(asked.first().is_some_and(|first| *first >= 8), "asked after windows that end at minutes {asked:?}");
    let inhibited = notifications.values().filter(|one| one["suppressed"]["by"] == "inhibition");
    assert!(inhibited.count() > 0, "the drift explains what is compared with the time before it");
}

fn pairs_add_up_to_the_whole(results: &BTreeMap<String, Vec<String>>) {
    let mut rows: BTreeMap<(i64, i64), BTreeMap<String, u64>> = BTreeMap::new();
    for result in results.values().flatten() {
        let result: WindowResult = serde_json::from_str(result).unwrap();
        if result.reference != "training" {
            continue;
        }
        let window = (result.window.start_ms, result.window.end_ms);
        *rows.entry(window).or_default().entry(result.segment.column).or_default() += result.rows;
    }
    for (window, by_column) in rows {
        let whole = by_column[""];
        let expected: BTreeMap<String, u64> =
            ["", "country", "country,merchant_category"].map(|column| (column.to_string(), whole)).into();
        assert_eq!(by_column, expected, "window {window:?}");
    }
}

#[test]
fn killed_processes_change_no_result_and_no_notification() {
    let world = world();
    let (quiet, _) = run(&world, || None);
    let results = sorted(read(&quiet, "results"));
    let notifications = told(&quiet);
    let dead_letters = read(&quiet, "dead-letter").len();
    assert!(!notifications.is_empty(), "the drift is told");
    assert_eq!(dead_letters as i64, MINUTES * EVENTS_PER_MINUTE / 50, "each broken event is in the dead letter once");
    assert!(results.values().all(|revisions| revisions.len() == 1), "each window has one result");
    let compared = results.iter().filter(|(key, values)| is_moving(key) && !values[0].contains("\"wanting\""));
    let compared = compared.count();
    assert!(compared >= 15, "{compared} windows are compared with those before them");
    assert!(notifications.values().any(|told| told["rule"] == "sudden"), "and the drift is told against these too");
    let requests = asked(&quiet);
    silences_end(&notifications, &requests);
    pairs_add_up_to_the_whole(&results);
    let of_pairs = notifications.values().filter(|one| one["rule"] == "pair-drift");
    let columns: BTreeSet<&str> = of_pairs.filter_map(|one| one["segment"]["column"].as_str()).collect();
    assert!(columns.contains("country,merchant_category"), "a pair of segments drifts too: {columns:?}");

    let mut random = 42_u64;
    for seed in 0..4 {
        let mut left = 25;
        let (log, killed) = run(&world, || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407 + seed);
            left -= 1;
            // A life of 10 to 130 calls of the log, then one without end.
            (left > 0).then_some(10 + (random >> 33) % 120)
        });
        assert!(killed >= 5, "only {killed} processes were killed");
        assert_eq!(sorted(read(&log, "results")), results, "results after {killed} kills, seed {seed}");
        assert_eq!(told(&log), notifications, "notifications after {killed} kills, seed {seed}");
        assert_eq!(asked(&log), requests, "requests for actions after {killed} kills, seed {seed}");
        assert_eq!(read(&log, "dead-letter").len(), dead_letters, "dead letters after {killed} kills, seed {seed}");
    }
}
