//! Promise: what is wrong with the data itself is found, in the window where it happened and nowhere else, whether
//! events are kept or rejected; and killed processes change nothing of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use driftline::config::model::Model;
use driftline::config::service::Ingest;
use driftline::config::units::Span;
use driftline::config::{parse_model_str, parse_rules_str};
use driftline::event::{Decoder, QUALITY_FEATURE, schema};
use driftline::ingest::aggregate::ModelPlan;
use driftline::ingest::partial::{FlushHeader, PartialRow, SourceProgress};
use driftline::ingest::role::{IngestModel, IngestRole};
use driftline::log::embedded::EmbeddedLog;
use driftline::log::topics::Topics;
use driftline::log::{Log, OutRecord, Records, StartOffset, TopicSpec};
use driftline::reference::{Reference, Source};
use driftline::rules::RuleSet;
use driftline::rules::judge::RulesJudge;
use driftline::stats::quality::QualityProfile;
use driftline::telemetry::Metrics;
use driftline::windows::judge::NoJudge;
use driftline::windows::result::WindowResult;
use driftline::windows::role::{WindowsRole, read_to_end};
use driftline::windows::state::{Effect, PartitionState, References, WatchedModel, WindowSpec, pane_width_ms};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const MODEL: &str = "
version: 1
model: loans
topics: [loans]
fields: {timestamp: at, version: version, prediction_id: id, features: features.*}
features:
  amount: {type: numeric, range: [0, 1000]}
  age: numeric
  risk: {type: numeric, on_invalid: missing}
  country: categorical
  device: {type: categorical, on_invalid: missing}
references: {training: {path: training.jsonl}}
windows: {size: 1m, watermark_delay: 0s, allowed_lateness: 0s, idle_after: 100ms}
";

const RULES: &str = "
version: 1
defaults: {min_samples: 100}
rules:
  - {name: nulls, model: loans, features: {include: [country]}, when: {warn: null_rate > 5%}}
  - {name: nan, model: loans, when: {warn: nan_rate > 1%}}
  - {name: infinite, model: loans, when: {warn: infinite_rate > 1%}}
  - {name: type-mismatch, model: loans, when: {warn: type_mismatch_rate > 1%}}
  - {name: out-of-range, model: loans, when: {warn: out_of_range_rate > 1%}}
  - {name: unseen, model: loans, when: {warn: unseen_rate > 1%}}
  - {name: constant, model: loans, when: {warn: constant == 1}}
  - {name: absent, model: loans, when: {warn: absent_rate > 1%}}
  - {name: rejected, model: loans, when: {warn: rejected_rate > 5%}}
  - {name: duplicates, model: loans, when: {warn: duplicate_rate > 1%}}
  - {name: volume, model: loans, when: {warn: row_count not between 50% and 150% of expected}}
  - {name: volume-of-late, model: loans, reference: {trailing: 3m}, when: {warn: row_count < 50% of expected}}
  - {name: new-feature, model: loans, when: {warn: new_features > 0}}
  - {name: vanished-feature, model: loans, when: {warn: vanished_features > 0}}
routes: [{match: {}, to: [hook]}]
receivers: {hook: {webhook: {url: 'http://127.0.0.1:1/', allow_private: true}}}
";

const MINUTES: i64 = 22;
const EVENTS_PER_MINUTE: i64 = 200;
const PARTITIONS: i32 = 3;
const START_MS: i64 = 1_767_225_600_000;

/// Which rule must fire in which minute, and no other.
const FAULTS: [(i64, &[&str]); 15] = [
    (4, &["nan"]),
    (5, &["infinite"]),
    (6, &["rejected", "type-mismatch"]),
    (8, &["out-of-range"]),
    (9, &["unseen"]),
    (10, &["constant"]),
    (11, &["duplicates"]),
    (12, &["volume", "volume-of-late"]),
    (13, &["new-feature", "rejected"]),
    (14, &["absent", "vanished-feature"]),
    (15, &["nulls"]),
    (16, &["absent"]),
    (17, &["rejected", "type-mismatch", "volume", "volume-of-late"]),
    (19, &["nan", "rejected"]),
    (20, &["type-mismatch"]),
];

fn healthy(index: i64) -> Value {
    // A fixed walk through a grid: no value of it is outside of the reference.
    let step = |multiplier: i64, modulus: i64| (index * multiplier + index / 7) % modulus;
    let country = ["de", "fr", "it"][step(5, 3) as usize];
    let device = ["phone", "web"][step(3, 2) as usize];
    json!({
        "at": START_MS + index * 60_000 / EVENTS_PER_MINUTE,
        "version": "1",
        "id": format!("p-{index}"),
        "features": {
            "amount": step(37, 1_000) as f64 + 0.5,
            "age": 18 + step(11, 60),
            "risk": step(101, 500) as f64 / 500.0,
            "country": country,
            "device": device,
        },
    })
}

/// The event of this index, with the fault of its minute in every tenth event.
fn payloads(index: i64) -> Vec<String> {
    let event = healthy(index);
    let tenth = index % 10 == 0;
    let with = |feature: &str, value: Value| {
        let mut changed = event.clone();
        changed["features"][feature] = value;
        changed.to_string()
    };
    let without = |feature: &str| {
        let mut changed = event.clone();
        changed["features"].as_object_mut().unwrap().remove(feature);
        changed.to_string()
    };
    let bare = |feature: &str, word: &str| with(feature, json!("@@")).replace("\"@@\"", word);
    match index / EVENTS_PER_MINUTE {
        4 if tenth => vec![bare("risk", "NaN")],
        5 if tenth => vec![bare("risk", if index % 20 == 0 { "-Infinity" } else { "1e999" })],
        6 if tenth => vec![with("age", json!("forty"))],
        20 if tenth => vec![with("device", json!({"kind": "phone"}))],
        8 if tenth => vec![with("amount", json!(if index % 20 == 0 { 1_000.25 } else { -0.25 }))],
        9 if tenth => vec![with("country", json!("zz"))],
        10 => vec![with("risk", json!(0.5))],
        11 if tenth => vec![event.to_string(), event.to_string()],
        12 if index % 3 > 0 => vec![],
        13 if tenth => vec![with("coupon", json!("SAVE10"))],
        14 => vec![without("age")],
        15 if tenth => vec![with("country", Value::Null)],
        16 if tenth => vec![without("device")],
        17 => vec![with("age", json!([40]))],
        19 if tenth => vec![bare("age", "NaN")],
        _ => vec![event.to_string()],
    }
}

struct OneReference(Arc<Reference>);

impl References for OneReference {
    fn find(&self, model: &str, id: &str) -> Option<Arc<Reference>> {
        (self.0.model == model && self.0.id == id).then(|| self.0.clone())
    }
}

struct World {
    model: Arc<Model>,
    rules: Arc<RuleSet>,
    reference: Arc<Reference>,
}

fn world() -> World {
    world_with(RULES)
}

fn world_with(rules: &str) -> World {
    let model = Arc::new(parse_model_str("model.yaml", MODEL).unwrap().value);
    let rules = parse_rules_str("rules.yaml", rules).unwrap().value;
    let rules = RuleSet::compile(&[("rules.yaml".to_string(), rules)], std::slice::from_ref(&model)).unwrap();
    let mut records = Records::default();
    for index in 0..6_000 {
        records.push("loans", 0, index, 0, None, Some(healthy(index).to_string().as_bytes()));
    }
    let decoded = Decoder::new(std::slice::from_ref(&model)).unwrap().decode(&records, START_MS * 2).unwrap();
    let batches: Vec<_> = decoded.batches.into_iter().map(|decoded| decoded.batch).collect();
    let reference = Reference::build(&model, "training", &batches, &BTreeMap::new(), Source::default(), 0).unwrap();
    World { model, rules: Arc::new(rules), reference: Arc::new(reference) }
}

fn fill(log: &EmbeddedLog) {
    let spec = TopicSpec { name: "loans".into(), partitions: PARTITIONS, replication: 1, config: vec![] };
    log.create_topics(&[spec]).unwrap();
    log.create_topics(&Topics::new("quality").specs(2, 1)).unwrap();
    let payloads = (0..MINUTES * EVENTS_PER_MINUTE).flat_map(payloads);
    // Round robin: a repeated event lies on another partition than the first one.
    let record = |(index, payload): (usize, String)| OutRecord {
        topic: "loans".into(),
        partition: Some((index % PARTITIONS as usize) as i32),
        value: Some(payload.into_bytes()),
        ..OutRecord::default()
    };
    log.append(payloads.enumerate().map(record).collect()).unwrap();
}

fn ingest(world: &World) -> IngestRole {
    IngestRole {
        app: "quality".into(),
        instance: "0".into(),
        topics: Topics::new("quality"),
        models: vec![IngestModel {
            model: world.model.clone(),
            reference: world.reference.clone(),
            pane_ms: pane_width_ms(&world.rules.window_specs(&world.model)),
            sql: Vec::new(),
        }],
        start: StartOffset::Earliest,
        settings: Ingest { flush_interval: Span::from_ms(10), flush_rows: 250 },
        clock: Arc::new(|| chrono::Utc::now().timestamp_millis()),
        metrics: Metrics::new().unwrap(),
        status: Arc::new(|_| {}),
    }
}

fn windows(world: &World) -> WindowsRole {
    let (rules, metrics) = (world.rules.clone(), Metrics::new().unwrap());
    let judge_metrics = metrics.clone();
    WindowsRole {
        app: "quality".into(),
        instance: "0".into(),
        topics: Topics::new("quality"),
        watched: Arc::new(vec![rules.watched(&world.model)]),
        references: Arc::new(OneReference(world.reference.clone())),
        judge: Arc::new(move || Box::new(RulesJudge::new(rules.clone(), judge_metrics.clone()))),
        checkpoint_interval: Duration::from_millis(50),
        metrics,
        status: Arc::new(|_| {}),
    }
}

fn read(log: &EmbeddedLog, stem: &str) -> Vec<String> {
    let topic = format!("quality.{stem}");
    let mut records = Vec::new();
    for partition in 0..log.partition_count(&topic).unwrap().unwrap() {
        read_to_end(log, &topic, partition, |_, value| {
            records.push(String::from_utf8_lossy(value.unwrap_or_default()).into_owned());
        })
        .unwrap();
    }
    records
}

/// Runs both roles until every window has closed, against either reference; a process dies after the number of calls that `deaths` gives, and
/// another takes over.
fn run(world: &World, mut deaths: impl FnMut() -> Option<u64>) -> (EmbeddedLog, u32) {
    let log = EmbeddedLog::new();
    fill(&log);
    let started = Instant::now();
    let mut killed = 0;
    std::thread::scope(|scope| {
        let stop = CancellationToken::new();
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
        let mut processes: Vec<_> = (0..2).map(|role| start(role, &mut deaths)).collect();
        let references = 1 + world.rules.watched(&world.model).comparisons.len();
        while read(&log, "results").len() < references * MINUTES as usize {
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

/// Results by minute, without what is read off the wall clock.
fn results(log: &EmbeddedLog) -> BTreeMap<i64, WindowResult> {
    let mut by_minute = BTreeMap::new();
    for text in read(log, "results") {
        let mut result: WindowResult = serde_json::from_str(&text).unwrap();
        if result.baseline.is_some() {
            continue;
        }
        let quality = result.quality.as_mut().unwrap();
        let minute = (result.window.start_ms - START_MS) / 60_000;
        // Of accepted events only: there are none in the minute in which all are rejected.
        assert_eq!(
            (quality.freshness_seconds.is_some(), quality.delay_seconds.is_some()),
            (minute != 17, minute != 17)
        );
        (quality.freshness_seconds, quality.delay_seconds) = (None, None);
        assert!(by_minute.insert(minute, result).is_none(), "minute {minute} closed twice");
    }
    by_minute
}

/// Rules that fired, by minute, and the sentence of each.
fn fired(log: &EmbeddedLog) -> BTreeMap<(i64, String), String> {
    let mut fired = BTreeMap::new();
    for text in read(log, "outbox") {
        let notification: Value = serde_json::from_str(&text).unwrap();
        if notification["status"] == "firing" {
            let minute = (notification["window"]["start_ms"].as_i64().unwrap() - START_MS) / 60_000;
            let reason = notification["findings"][0]["reason"].as_str().unwrap().to_string();
            let rule = notification["rule"].as_str().unwrap().to_string();
            assert!(fired.insert((minute, rule), reason).is_none(), "told twice: {text}");
        }
    }
    fired
}

#[test]
fn every_fault_is_found_where_it_happened_and_nothing_else_is() {
    let world = world();
    let (log, _) = run(&world, || None);
    let fired = fired(&log);
    let found: BTreeSet<(i64, &str)> = fired.keys().map(|(minute, rule)| (*minute, rule.as_str())).collect();
    let expected: BTreeSet<(i64, &str)> =
        FAULTS.iter().flat_map(|(minute, rules)| rules.iter().map(|rule| (*minute, *rule))).collect();
    assert_eq!(found, expected);
    let reason = |minute: i64, rule: &str| fired[&(minute, rule.to_string())].clone();
    let starts = |minute: i64, rule: &str, text: &str| {
        let reason = reason(minute, rule);
        assert!(reason.starts_with(text), "{reason:?} does not start with {text:?}");
    };
    starts(4, "nan", "`risk`: NaN rate 10%, ");
    starts(6, "type-mismatch", "`age`: type mismatch rate 10%, ");
    starts(8, "out-of-range", "`amount`: out-of-range rate 10%, ");
    starts(10, "constant", "`risk`: one value in every event, ");
    starts(11, "duplicates", "all events: duplicate rate 9.09%, ");
    starts(13, "new-feature", "all events: new features 1 (`coupon`), ");
    starts(14, "vanished-feature", "all events: vanished features 1 (`age`), ");
    starts(17, "rejected", "all events: rejected rate 100%, ");
}

#[test]
fn the_rules_to_start_with_find_them_too_and_are_quiet_on_healthy_minutes() {
    // Windows of 200 events, where a service would have more.
    let starter = include_str!("../rules/starter.yaml").replace("min_samples: 500", "min_samples: 100");
    // This model has no score.
    let starter = starter.replace("signal: prediction.score", "signal: amount");
    let (log, _) = run(&world_with(&starter), || None);
    let mut found: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
    for (minute, rule) in fired(&log).into_keys() {
        found.entry(minute).or_default().insert(rule);
    }
    for (minute, rule) in [
        (4, "invalid-values"),
        (6, "rejected-events"),
        (8, "out-of-range"),
        (9, "unseen-categories"),
        (10, "stuck-feature"),
        (13, "schema-change"),
        (14, "nulls-jump"),
        (17, "rejected-events"),
        (19, "invalid-values"),
    ] {
        assert!(found.get(&minute).is_some_and(|rules| rules.contains(rule)), "{rule} in minute {minute}: {found:?}");
    }
    for minute in [0, 1, 2, 3, 18, 21] {
        assert_eq!(found.get(&minute), None, "minute {minute} is healthy");
    }
}

#[test]
fn a_range_that_the_reference_was_not_built_with_is_an_error_at_the_start() {
    let world = world();
    let model = parse_model_str("model.yaml", &MODEL.replace("[0, 1000]", "[0, 2000]")).unwrap().value;
    let plan = ModelPlan::new(&model, world.reference.clone(), &schema(&model), 60_000);
    let error = plan.err().unwrap().to_string();
    for part in ["`amount` has the range [0, 2000]", "was built with the range [0, 1000]", "build it again"] {
        assert!(error.contains(part), "`{part}` is not in {error}");
    }
}

#[test]
fn rates_have_exact_counts_behind_them() {
    let (log, _) = run(&world(), || None);
    let results = results(&log);
    let rate = |minute: i64, feature: &str, metric: &str| {
        results[&minute].features[feature].metrics.get(metric).and_then(|metric| metric.value)
    };
    let quality = |minute: i64| results[&minute].quality.clone().unwrap();
    for (minute, feature, metric, value) in [
        (4, "risk", "nan_rate", 0.1),
        (4, "risk", "null_rate", 0.1),
        (5, "risk", "infinite_rate", 0.1),
        (6, "age", "type_mismatch_rate", 0.1),
        (20, "device", "type_mismatch_rate", 0.1),
        (8, "amount", "out_of_range_rate", 0.1),
        (9, "country", "unseen_rate", 0.1),
        (10, "risk", "constant", 1.0),
        (14, "age", "absent_rate", 1.0),
        (15, "country", "null_rate", 0.1),
        (16, "device", "absent_rate", 0.1),
        (17, "age", "type_mismatch_rate", 1.0),
        (19, "age", "nan_rate", 0.1),
    ] {
        assert_eq!(rate(minute, feature, metric), Some(value), "{metric} of {feature} in minute {minute}");
    }
    assert_eq!(rate(15, "country", "absent_rate"), None, "a null is not an absent key");
    assert_eq!(rate(16, "device", "type_mismatch_rate"), None);
    let rows = |minute: i64| (results[&minute].rows, quality(minute).rejected);
    let reasons = |reason: &str, count: u64| BTreeMap::from([(reason.to_string(), count)]);
    assert_eq!(rows(3), (200, BTreeMap::new()));
    assert_eq!(rows(4), (200, BTreeMap::new()), "kept: nothing is rejected");
    assert_eq!(rows(6), (180, reasons("wrong_type", 20)));
    assert_eq!(rows(13), (180, reasons("unknown_feature", 20)));
    assert_eq!(rows(17), (0, reasons("wrong_type", 200)));
    assert_eq!(rows(19), (180, reasons("non_finite", 20)));
    let duplicates = quality(11).duplicate_rate.unwrap();
    assert_eq!((duplicates.value, duplicates.bound), (Some(20.0 / 220.0), None));
    assert_eq!(quality(3).duplicate_rate.unwrap().value, Some(0.0));
    assert_eq!(quality(13).schema_added, reasons("coupon", 20));
    assert_eq!(quality(14).schema_missing, ["age"]);
    assert_eq!((quality(2).expected_rows, quality(3).expected_rows), (None, Some(200.0)));
    assert_eq!(read(&log, "dead-letter").len(), 20 + 20 + 200 + 20, "what is kept is not in the dead letter");
}

/// A flush at second `at` with the events of these seconds, of which the newest also is the clock of the source.
fn flush(world: &World, at: i64, offsets: (i64, i64), event_seconds: &[i64]) -> (FlushHeader, Vec<PartialRow>) {
    let ms = |second: i64| START_MS + second * 1_000;
    let source = SourceProgress {
        topic: "loans".into(),
        partition: 0,
        from: offsets.0,
        to: offsets.1,
        clock_ms: event_seconds.iter().max().map(|second| ms(*second)),
        quiet_since_ms: None,
        joined_ms: BTreeMap::new(),
    };
    let header = FlushHeader {
        instance: "0".into(),
        at_ms: ms(at),
        next_by_ms: ms(at + 10),
        sources: vec![source],
        topics: BTreeMap::from([("loans".to_string(), 1)]),
        rows: BTreeMap::new(),
        part: 0,
        parts: 1,
    };
    let mut panes: BTreeMap<i64, (u64, QualityProfile)> = BTreeMap::new();
    for second in event_seconds {
        let (rows, quality) = panes.entry(second.div_euclid(60)).or_default();
        *rows += 1;
        quality.add_event(ms(*second), ms(second + 2));
    }
    let rows = panes.into_iter().flat_map(|(minute, (rows, quality))| {
        let row = |feature: &str, rows: u64, state: Vec<u8>| PartialRow {
            model: "loans".into(),
            version: "1".into(),
            segment_column: String::new(),
            segment_value: String::new(),
            reference_id: world.reference.id.clone(),
            pane_start_ms: ms(60 * minute),
            pane_ms: 60_000,
            feature: feature.into(),
            rows,
            state,
        };
        [row("", rows, Vec::new()), row(QUALITY_FEATURE, 0, quality.encode())]
    });
    (header, rows.collect())
}

#[test]
fn freshness_is_that_of_the_first_close_whenever_a_window_is_revised() {
    let mut world = world();
    let lateness = MODEL.replace("allowed_lateness: 0s", "allowed_lateness: 1h");
    world.model = Arc::new(parse_model_str("model.yaml", &lateness).unwrap().value);
    let watched = Arc::new(vec![WatchedModel {
        model: world.model.clone(),
        specs: vec![WindowSpec::tumbling(60_000)],
        selection: Default::default(),
        comparisons: Vec::new(),
        performance: Default::default(),
        sql: Vec::new(),
    }]);
    let references = Arc::new(OneReference(world.reference.clone()));
    let mut state = PartitionState::new(watched, references, Box::new(NoJudge));
    let mut closed = |at: i64, offsets: (i64, i64), event_seconds: &[i64]| {
        let (header, rows) = flush(&world, at, offsets, event_seconds);
        let effects = state.apply(&header, rows).into_iter();
        let results = effects.filter_map(|effect| match effect {
            Effect::Result(result) => Some(*result),
            _ => None,
        });
        let told = results.map(|result| {
            let quality = result.quality.unwrap();
            (result.revision, result.rows, quality.freshness_seconds, quality.delay_seconds)
        });
        told.collect::<Vec<_>>()
    };
    assert_eq!(closed(50, (0, 2), &[10, 40]), []);
    // The clock of the source reaches the next minute: the first one closes, at second 75 of the wall clock.
    assert_eq!(closed(75, (2, 3), &[70]), [(0, 2, Some(35.0), Some(2.0))]);
    assert_eq!(closed(500, (3, 4), &[55]), [(1, 3, Some(20.0), Some(2.0))], "a late event, 55 s old at second 75");
}

#[test]
fn killed_processes_change_no_count() {
    let world = world();
    let (quiet, _) = run(&world, || None);
    let (expected, told) = (results(&quiet), fired(&quiet));
    let mut random = 7_u64;
    for seed in 0..3 {
        let mut left = 20;
        let (log, killed) = run(&world, || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407 + seed);
            left -= 1;
            (left > 0).then_some(10 + (random >> 33) % 90)
        });
        assert!(killed >= 4, "only {killed} processes were killed");
        let found = results(&log);
        for (minute, result) in &expected {
            assert_eq!(found[minute], *result, "minute {minute} after {killed} kills, seed {seed}");
        }
        assert_eq!(fired(&log), told, "notifications after {killed} kills, seed {seed}");
    }
}
