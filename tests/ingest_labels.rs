//! Promise: ingest counts every prediction once, hands predictions and labels to the join once, and says how far it has
//! read of both; killed processes change nothing of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use driftline::config::model::Model;
use driftline::config::parse_model_str;
use driftline::config::performance::ERROR_SIGNAL;
use driftline::config::service::Ingest;
use driftline::config::units::Span;
use driftline::event::Decoder;
use driftline::ingest::clocks::{Pace, SourceClocks};
use driftline::ingest::joins::{JoinLabel, JoinPrediction, decode_joins, is_sampled, join_id, partition_of_id};
use driftline::ingest::partial::{FlushHeader, PartialRow, decode_flush};
use driftline::ingest::role::{IngestModel, IngestRole};
use driftline::ingest::signals::SignalRun;
use driftline::log::embedded::EmbeddedLog;
use driftline::log::topics::Topics;
use driftline::log::{ConsumerEvent, ConsumerOptions, Log, OutRecord, Records, StartOffset, TopicPartition, TopicSpec};
use driftline::reference::{Reference, Source};
use driftline::stats::performance::PERFORMANCE_FEATURE;
use driftline::stats::performance::profile::{Label, PerformanceLayout, PerformanceProfile, Prediction};
use driftline::telemetry::Metrics;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Labels come on two topics, one of which never has any.
const FRAUD: &str = "
version: 1
model: fraud
topics: [payments]
fields: {timestamp: at, version: version, prediction_id: id}
features: {amount: numeric, country: categorical}
score: {path: score, type: numeric}
segments: [country]
max_segments: 2
performance:
  task: binary
  labels: {topics: [verdicts, appeals], fields: {prediction_id: about, label: fraud, timestamp: given}, sample: 0.5}
references: {training: {path: training.jsonl}}
";

/// The label stands in the event, where it is known at once.
const PRICE: &str = "
version: 1
model: price
topics: [offers]
fields: {timestamp: at}
features: {size: numeric}
prediction: {path: predicted, type: numeric}
performance: {task: regression, label: {path: sold_for, type: numeric}}
change_detectors: [{signal: performance.error, method: adwin}]
references: {training: {path: training.jsonl}}
";

const START_MS: i64 = 1_767_225_600_000;
const PANE_MS: i64 = 60_000;
const PAYMENTS: i64 = 1_500;
const OFFERS: i64 = 400;
const PARTITIONS: i32 = 3;

fn payment(index: i64) -> Value {
    let country = match index % 10 {
        0..4 => json!("DE"),
        4..7 => json!("FR"),
        7 => Value::Null,
        rare => json!(format!("rare-{rare}")),
    };
    let mut event = json!({
        "at": START_MS + index * 200,
        "version": if index % 5 == 0 { "2" } else { "1" },
        "features": {"amount": index % 97, "country": country},
        "score": (index % 101) as f64 / 100.0,
    });
    // One in ten cannot be told from others, and no label can name it.
    if index % 10 != 9 {
        event["id"] = json!(format!("p-{index}"));
    }
    event
}

fn is_fraud(index: i64) -> bool {
    index % 101 > 70 && index % 3 != 0
}

fn offer(index: i64) -> Value {
    let sold_for = if index % 4 == 0 { Value::Null } else { json!(100 + index % 13) };
    json!({"at": START_MS + index * 100, "features": {"size": index % 31}, "predicted": 100 + index % 7, "sold_for": sold_for})
}

/// Labels of every second payment, one in twenty of them no label at all.
fn verdict(index: i64) -> String {
    match index % 20 {
        3 => json!({"about": format!("p-{index}"), "fraud": null}).to_string(),
        13 => format!(r#"{{"about": "p-{index}", "fraud": NaN}}"#),
        _ => json!({"about": format!("p-{index}"), "fraud": is_fraud(index), "given": START_MS + index * 200 + 5_000})
            .to_string(),
    }
}

fn model(yaml: &str) -> Arc<Model> {
    Arc::new(parse_model_str("model.yaml", yaml).unwrap().value)
}

struct Watched {
    model: Arc<Model>,
    reference: Arc<Reference>,
    layout: Arc<PerformanceLayout>,
}

fn watched(yaml: &str, event: impl Fn(i64) -> Value) -> Watched {
    let model = model(yaml);
    let mut records = Records::default();
    for index in 0..1_000 {
        records.push(&model.topics[0], 0, index, 0, None, Some(event(index).to_string().as_bytes()));
    }
    let decoded = Decoder::new(std::slice::from_ref(&model)).unwrap().decode(&records, START_MS * 2).unwrap();
    let batches: Vec<_> = decoded.batches.into_iter().map(|decoded| decoded.batch).collect();
    let reference = Reference::build(&model, "training", &batches, &BTreeMap::new(), Source::default(), 0).unwrap();
    let layout = reference.performance_layout(&model).unwrap();
    Watched { model, reference: Arc::new(reference), layout }
}

fn world() -> Vec<Watched> {
    vec![watched(FRAUD, payment), watched(PRICE, offer)]
}

fn create_topics(log: &EmbeddedLog) {
    for topic in ["payments", "verdicts", "appeals", "offers"] {
        let spec = TopicSpec { name: topic.into(), partitions: PARTITIONS, replication: 1, config: vec![] };
        log.create_topics(&[spec]).unwrap();
    }
    log.create_topics(&Topics::new("labels").specs(2, 1)).unwrap();
}

/// All events, in the order in which they come.
fn events() -> Vec<OutRecord> {
    let mut records = Vec::new();
    let mut write = |topic: &str, index: i64, payload: String| {
        records.push(OutRecord {
            topic: topic.into(),
            partition: Some((index % i64::from(PARTITIONS)) as i32),
            key: Some(format!("key-{index}").into_bytes()),
            value: Some(payload.into_bytes()),
            ..OutRecord::default()
        });
    };
    for index in 0..PAYMENTS {
        write("payments", index, payment(index).to_string());
        if index % 2 == 1 {
            write("verdicts", index / 2, verdict(index));
        }
        if index < OFFERS {
            write("offers", index, offer(index).to_string());
        }
    }
    records
}

fn ingest(world: &[Watched]) -> IngestRole {
    let of = |watched: &Watched| IngestModel {
        model: watched.model.clone(),
        reference: watched.reference.clone(),
        pane_ms: PANE_MS,
        sql: Vec::new(),
    };
    IngestRole {
        app: "labels".into(),
        instance: "0".into(),
        topics: Topics::new("labels"),
        models: world.iter().map(of).collect(),
        start: StartOffset::Earliest,
        settings: Ingest { flush_interval: Span::from_ms(10), flush_rows: 150 },
        clock: Arc::new(|| chrono::Utc::now().timestamp_millis()),
        metrics: Metrics::new().unwrap(),
        status: Arc::new(|_| {}),
    }
}

/// What one run wrote.
struct Written {
    headers: Vec<FlushHeader>,
    rows: Vec<PartialRow>,
    signals: Vec<SignalRun>,
    /// With the partition.
    predictions: Vec<(i32, JoinPrediction)>,
    labels: Vec<(i32, JoinLabel)>,
    join_headers: Vec<Vec<FlushHeader>>,
    dead_letters: Vec<Value>,
}

fn read(log: &EmbeddedLog, stem: &str, mut with: impl FnMut(i32, &[u8])) {
    let topic = format!("labels.{stem}");
    for partition in 0..log.partition_count(&topic).unwrap().unwrap() {
        let place = TopicPartition::new(&topic, partition);
        let options =
            ConsumerOptions { group: None, topics: vec![], start: StartOffset::Earliest, read_committed: true };
        let mut consumer = log.consumer(options).unwrap();
        consumer.assign(&[(place, None)]).unwrap();
        let mut at_end = false;
        while !at_end {
            let polled = consumer.poll(1_000, Duration::from_millis(50)).unwrap();
            polled.records.iter().for_each(|record| with(partition, record.value.unwrap()));
            at_end = polled.events.iter().any(|event| matches!(event, ConsumerEvent::EndOfPartition { .. }));
        }
    }
}

fn written(log: &EmbeddedLog) -> Written {
    let (mut headers, mut rows, mut predictions, mut labels) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut signals = Vec::new();
    let (mut join_headers, mut dead_letters) = (vec![Vec::new(); 2], Vec::new());
    read(log, "partials", |partition, value| {
        let part = decode_flush(value).unwrap();
        rows.extend(part.rows);
        signals.extend(part.signals);
        if partition == 0 {
            headers.push(part.header);
        }
    });
    read(log, "joins", |partition, value| {
        let part = decode_joins(value).unwrap();
        predictions.extend(part.predictions.into_iter().map(|prediction| (partition, prediction)));
        labels.extend(part.labels.into_iter().map(|label| (partition, label)));
        join_headers[partition as usize].push(part.header);
    });
    read(log, "dead-letter", |_, value| dead_letters.push(serde_json::from_slice(value).unwrap()));
    Written { headers, rows, signals, predictions, labels, join_headers, dead_letters }
}

/// Runs the role until everything is read, which comes bit by bit; a process dies after the number of calls that `deaths` gives,
/// `kills` times at least.
fn run(world: &[Watched], kills: u32, mut deaths: impl FnMut() -> Option<u64>) -> (EmbeddedLog, u32) {
    let log = EmbeddedLog::new();
    create_topics(&log);
    let (started, mut killed) = (Instant::now(), 0);
    let mut coming = events();
    let all = coming.len() as i64;
    std::thread::scope(|scope| {
        let stop = CancellationToken::new();
        // A failure must not leave the role running.
        let _stopping = stop.clone().drop_guard();
        let mut start = || {
            let process = log.process();
            if let Some(calls) = deaths() {
                process.kill_after(calls);
            }
            let (stop, handle) = (stop.clone(), process.clone());
            (process, scope.spawn(move || ingest(world).run(&handle, &stop)))
        };
        let mut slot = start();
        loop {
            log.append(coming.drain(..coming.len().min(100)).collect()).unwrap();
            let mut read_up_to: BTreeMap<(String, i32), i64> = BTreeMap::new();
            read(&log, "partials", |_, value| {
                for source in decode_flush(value).unwrap().header.sources {
                    let next = read_up_to.entry((source.topic, source.partition)).or_default();
                    *next = source.to.max(*next);
                }
            });
            if read_up_to.values().sum::<i64>() >= all && killed >= kills {
                break;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "not done after 60 s and {killed} kills");
            std::thread::sleep(Duration::from_millis(5));
            if slot.1.is_finished() {
                let (process, thread) = std::mem::replace(&mut slot, start());
                assert!(process.is_killed(), "ended without being killed: {:?}", thread.join());
                killed += 1;
            }
        }
        stop.cancel();
    });
    (log, killed)
}

/// The prediction of a payment, as the model file reads it.
fn scored(index: i64) -> Prediction {
    Prediction { score: (index % 101) as f64 / 100.0, ..Prediction::default() }
}

fn segment_of(index: i64) -> &'static str {
    match index % 10 {
        0..4 => "DE",
        4..7 => "FR",
        7 => "(missing)",
        _ => "_other",
    }
}

/// Version, segment value (empty: the whole), start of the pane.
type Place = (String, String, i64);

fn merged(written: &Written, watched: &Watched) -> BTreeMap<Place, Vec<u8>> {
    let mut profiles: BTreeMap<Place, PerformanceProfile> = BTreeMap::new();
    let of_model = |row: &&PartialRow| row.model == watched.model.model && row.feature == PERFORMANCE_FEATURE;
    for row in written.rows.iter().filter(of_model) {
        assert_eq!((row.reference_id.as_str(), row.pane_ms), (watched.reference.id.as_str(), PANE_MS));
        let place = (row.version.clone(), row.segment_value.clone(), row.pane_start_ms);
        let profile = PerformanceProfile::decode(&row.state, &watched.layout).unwrap();
        let whole = profiles.entry(place).or_insert_with(|| PerformanceProfile::new(&watched.layout));
        whole.merge(&profile);
    }
    profiles.into_iter().map(|(place, profile)| (place, profile.encode())).collect()
}

fn pane_of(time_ms: i64) -> i64 {
    time_ms.div_euclid(PANE_MS) * PANE_MS
}

fn check_payments(written: &Written, fraud: &Watched) {
    let mut expected: BTreeMap<Place, PerformanceProfile> = BTreeMap::new();
    for index in 0..PAYMENTS {
        for segment in ["", segment_of(index)] {
            let version = if index % 5 == 0 { "2" } else { "1" };
            let place = (version.to_string(), segment.to_string(), pane_of(START_MS + index * 200));
            let profile = expected.entry(place).or_insert_with(|| PerformanceProfile::new(&fraud.layout));
            profile.add_prediction(&fraud.layout, &scored(index));
        }
    }
    let expected: BTreeMap<Place, Vec<u8>> =
        expected.into_iter().map(|(place, profile)| (place, profile.encode())).collect();
    assert_eq!(merged(written, fraud), expected);

    let mut waiting = BTreeSet::new();
    for (partition, made) in &written.predictions {
        let index = (made.event_time_ms - START_MS) / 200;
        assert_eq!(made.id, join_id("fraud", &format!("p-{index}")));
        assert_eq!(*partition, partition_of_id(made.id, 2));
        assert_eq!((made.model.as_str(), made.reference_id.as_str()), ("fraud", fraud.reference.id.as_str()));
        assert_eq!((made.pane_start_ms, made.pane_ms), (pane_of(made.event_time_ms), PANE_MS));
        assert_eq!(made.segments, [("country".to_string(), segment_of(index).to_string())]);
        assert_eq!(made.prediction.score, scored(index).score);
        assert!(waiting.insert(index), "p-{index} waits twice");
    }
    let id = |index: i64| join_id("fraud", &format!("p-{index}"));
    let with_id = (0..PAYMENTS).filter(|index| index % 10 != 9 && is_sampled(id(*index), 0.5));
    assert_eq!(waiting, with_id.collect::<BTreeSet<_>>());
}

fn check_verdicts(written: &Written) {
    let mut read = BTreeSet::new();
    for (partition, label) in &written.labels {
        let index: i64 = label.prediction_id.strip_prefix("p-").unwrap().parse().unwrap();
        assert_eq!((label.id, *partition), (join_id("fraud", &label.prediction_id), partition_of_id(label.id, 2)));
        assert_eq!(label.label, Label::Class(u32::from(is_fraud(index))), "{}", label.prediction_id);
        assert_eq!(label.given_ms, Some(START_MS + index * 200 + 5_000));
        assert_eq!((label.topic.as_str(), label.partition), ("verdicts", (index / 2 % 3) as i32));
        assert_eq!(label.offset, index / 2 / 3);
        assert_eq!(label.raw, verdict(index).into_bytes());
        assert_eq!(label.key, Some(format!("key-{}", index / 2).into_bytes()));
        assert!(read.insert(index), "the label of p-{index} came twice");
    }
    let is_good = |index: &i64| index % 2 == 1 && !matches!(index % 20, 3 | 13);
    let sampled = |index: &i64| is_sampled(join_id("fraud", &format!("p-{index}")), 0.5);
    assert_eq!(read, (0..PAYMENTS).filter(is_good).filter(sampled).collect::<BTreeSet<_>>());
    let reasons = |reason: &str| written.dead_letters.iter().filter(|letter| letter["reason"] == reason).count();
    let per_kind = (PAYMENTS / 20) as usize;
    assert_eq!((reasons("missing_field"), reasons("non_finite")), (per_kind, per_kind));
    assert_eq!(written.dead_letters.len(), 2 * per_kind);
    assert!(written.dead_letters.iter().all(|letter| letter["topic"] == "verdicts"));
}

fn check_offers(written: &Written, price: &Watched) {
    let mut expected: BTreeMap<Place, PerformanceProfile> = BTreeMap::new();
    for index in 0..OFFERS {
        let place = ("unversioned".to_string(), String::new(), pane_of(START_MS + index * 100));
        let profile = expected.entry(place).or_insert_with(|| PerformanceProfile::new(&price.layout));
        let mut made = [Prediction { value: (100 + index % 7) as f64, ..Prediction::default() }];
        made[0].expected_loss = written_loss(price, index);
        profile.add_prediction(&price.layout, &made[0]);
        profile.sample_prediction();
        if index % 4 != 0 {
            profile.add_labelled(&price.layout, &made[0], &Label::Number((100 + index % 13) as f64));
        }
    }
    let expected: BTreeMap<Place, Vec<u8>> =
        expected.into_iter().map(|(place, profile)| (place, profile.encode())).collect();
    assert_eq!(merged(written, price), expected);
    // The detectors hear of every error once, with its offset.
    let mut errors = BTreeMap::new();
    for run in &written.signals {
        assert_eq!((run.model.as_str(), run.signal.as_str(), run.topic.as_str()), ("price", ERROR_SIGNAL, "offers"));
        for value in &run.values {
            let index = value.offset * i64::from(PARTITIONS) + i64::from(run.partition);
            assert!(errors.insert(index, value.value).is_none(), "the error of offer {index} came twice");
        }
    }
    let labelled = (0..OFFERS).filter(|index| index % 4 != 0);
    let error = |index: i64| (index, ((100 + index % 7) - (100 + index % 13)).abs() as f64);
    assert_eq!(errors, labelled.map(error).collect());
}

/// What the reference leads to expect of an offer.
fn written_loss(price: &Watched, index: i64) -> Option<[f64; 2]> {
    let completion = driftline::reference::performance::Completion::of(&price.reference, &price.model)?;
    let mut records = Records::default();
    records.push("offers", 0, 0, 0, None, Some(offer(index).to_string().as_bytes()));
    let decoded = Decoder::new(std::slice::from_ref(&price.model)).unwrap().decode(&records, START_MS * 2).unwrap();
    let mut made = [Prediction { value: (100 + index % 7) as f64, ..Prediction::default() }];
    completion.complete(&decoded.batches[0].batch, &mut made);
    made[0].expected_loss
}

#[test]
fn every_prediction_and_label_goes_where_it_counts() {
    let world = world();
    let (log, _) = run(&world, 0, || None);
    let written = written(&log);
    check_payments(&written, &world[0]);
    check_verdicts(&written);
    check_offers(&written, &world[1]);
    // Every flush tells the join what it tells the windows.
    assert!(written.headers.len() > 5);
    let told = |headers: &[FlushHeader]| -> Vec<FlushHeader> {
        headers
            .iter()
            .filter(|header| header.part == 0)
            .map(|header| FlushHeader { parts: 1, ..header.clone() })
            .collect()
    };
    for headers in &written.join_headers {
        assert_eq!(told(headers), told(&written.headers));
    }
}

#[test]
fn label_topics_are_followed_and_hold_back_no_window() {
    let (log, _) = run(&world(), 0, || None);
    let written = written(&log);
    let mut clocks = SourceClocks::default();
    let mut at_ms = 0;
    for header in &written.headers {
        clocks.learn(header);
        for source in &header.sources {
            clocks.advance(source, header);
        }
        at_ms = header.at_ms;
    }
    let header = written.headers.last().unwrap();
    assert_eq!(header.topics["verdicts"], PARTITIONS);
    assert_eq!(header.topics["appeals"], PARTITIONS);
    let idle_after_ms = 3_600_000;
    let of = |topic: &str| clocks.slowest(&[topic.to_string()], at_ms, idle_after_ms);
    // The last three payments.
    assert_eq!(of("payments"), Pace::Clock(START_MS + (PAYMENTS - 3) * 200));
    let given = |index: i64| START_MS + index * 200 + 5_000;
    let last = |partition: i64| {
        (0..PAYMENTS).rev().find(|index| index % 2 == 1 && index / 2 % 3 == partition && !matches!(index % 20, 3 | 13))
    };
    assert_eq!(of("verdicts"), Pace::Clock((0..3).map(|partition| given(last(partition).unwrap())).min().unwrap()));
    assert_eq!(of("appeals"), Pace::Unknown, "no label has come, and it has not been quiet for an hour");
}

#[test]
fn kill_nine_at_any_call_hands_over_nothing_twice() {
    let world = world();
    let mut seed = 11_u64;
    let (log, killed) = run(&world, 2, || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Some(100 + (seed >> 33) % 100)
    });
    assert!(killed >= 2);
    let written = written(&log);
    check_payments(&written, &world[0]);
    check_verdicts(&written);
    check_offers(&written, &world[1]);
}

#[test]
fn a_model_without_label_topics_writes_nothing_to_joins() {
    let world = vec![watched(PRICE, offer)];
    let log = EmbeddedLog::new();
    create_topics(&log);
    log.append(events()).unwrap();
    let stop = CancellationToken::new();
    std::thread::scope(|scope| {
        let _stopping = stop.clone().drop_guard();
        let (process, stop_role) = (log.process(), stop.clone());
        let world = &world;
        let thread = scope.spawn(move || ingest(world).run(&process, &stop_role));
        let started = Instant::now();
        let mut rows = 0;
        while rows < OFFERS as u64 {
            assert!(started.elapsed() < Duration::from_secs(60), "{rows} rows after 60 s");
            assert!(!thread.is_finished(), "the role ended: {:?}", thread.join());
            std::thread::sleep(Duration::from_millis(5));
            rows = 0;
            read(&log, "partials", |partition, value| {
                let header = decode_flush(value).unwrap().header;
                rows +=
                    if partition == 0 && header.part == 0 { header.rows.get("price").copied().unwrap_or(0) } else { 0 };
            });
        }
    });
    let written = written(&log);
    check_offers(&written, &world[0]);
    assert!(written.join_headers.iter().all(Vec::is_empty) && written.predictions.is_empty());
    assert!(written.headers.iter().all(|header| !header.topics.contains_key("verdicts")));
}
