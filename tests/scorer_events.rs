//! Prediction events: nothing of them is felt by a request, each is accounted for, and the monitor reads them without a
//! mapping.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use driftline::event::{Decoded, Decoder};
use driftline::log::Records;
use driftline::scorer::engine::{Signature, TensorSpec};
use driftline::scorer::events::memory::{KeptRecord, MemoryTransport};
use driftline::scorer::events::{
    EventCollector, EventCounts, EventLayout, EventLimits, EventQueue, EventSink, EventWriter, LayoutOptions,
    ScoredEvent,
};
use driftline::scorer::score::Arm;
use driftline::scorer::tensor::{DataType, Tensor, TensorData, TensorLimits};
use serde_json::{Value, json};

const NOW_MS: i64 = 1_767_225_600_000;

fn tensor(name: &str, shape: &[usize], data: TensorData) -> Tensor {
    Tensor::new(name, shape.to_vec(), data, &TensorLimits::default()).unwrap()
}

fn spec(name: &str, datatype: DataType, shape: &[Option<usize>]) -> TensorSpec {
    TensorSpec { name: name.into(), datatype, shape: shape.to_vec() }
}

/// Three named columns; a classifier's outputs as skl2onnx writes them.
fn signature() -> Signature {
    Signature {
        inputs: vec![spec("input", DataType::Fp32, &[None, Some(3)])],
        outputs: vec![spec("label", DataType::Int64, &[None]), spec("probabilities", DataType::Fp32, &[None, Some(2)])],
        batches: true,
    }
}

fn layout() -> Arc<EventLayout> {
    let options = LayoutOptions {
        feature_names: ["amount", "age", "night"].map(String::from).to_vec(),
        ..LayoutOptions::default()
    };
    EventLayout::new("fraud", "7", Some(&signature()), options).unwrap()
}

fn event(layout: &Arc<EventLayout>, id: &str, rows: usize) -> ScoredEvent {
    let inputs = (0..rows * 3).map(|index| 0.1 + index as f32).collect();
    let probabilities = (0..rows).flat_map(|row| [0.9 - row as f32 / 8.0, 0.1 + row as f32 / 8.0]).collect();
    ScoredEvent {
        layout: layout.clone(),
        arm: Arm::Production,
        request_id: id.into(),
        entity: None,
        inputs: vec![tensor("input", &[rows, 3], TensorData::Fp32(inputs))],
        outputs: vec![
            tensor("label", &[rows], TensorData::Int64(vec![0; rows])),
            tensor("probabilities", &[rows, 2], TensorData::Fp32(probabilities)),
        ],
        engine: "onnxruntime-cpu",
        latency: Duration::from_micros(123),
        event_time_ms: NOW_MS,
    }
}

/// What comes out of the writer for these events.
fn written(events: Vec<ScoredEvent>) -> Vec<KeptRecord> {
    let transport = MemoryTransport::default();
    let queue = Arc::new(EventQueue::new(EventLimits::default()));
    let writer = EventWriter::start(queue.clone(), Box::new(transport.clone())).unwrap();
    for event in events {
        queue.offer(event);
    }
    let counts = writer.close(Duration::from_secs(10));
    assert_eq!((counts.in_flight, counts.failed, counts.dropped), (0, 0, 0));
    transport.with(|state| std::mem::take(&mut state.delivered))
}

fn parsed(records: &[KeptRecord]) -> Vec<Value> {
    records.iter().map(|record| serde_json::from_slice(&record.value).unwrap()).collect()
}

fn schema_accepts(event: &Value) {
    let text = include_str!("../schemas/events/prediction.schema.json");
    let schema = jsonschema::validator_for(&serde_json::from_str(text).unwrap()).unwrap();
    let errors: Vec<_> = schema.iter_errors(event).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{event}: {errors:?}");
}

#[test]
fn an_event_has_every_field_under_its_name() {
    let layout = layout();
    let one = ScoredEvent { entity: Some("card \"1\"".into()), ..event(&layout, "r-1", 1) };
    let records = written(vec![one, event(&layout, "r-2", 2)]);
    let events = parsed(&records);
    let expected = json!({
        "timestamp": NOW_MS, "model": "fraud", "version": "7", "prediction_id": "r-1",
        "features": {"amount": 0.1, "age": 1.1, "night": 2.1}, "prediction": 0, "score": 0.1,
        "arm": "production", "engine": "onnxruntime-cpu", "latency_us": 123,
        "schema_id": layout.schema_id().unwrap(), "entity": "card \"1\"", "request_id": "r-1",
    });
    assert_eq!(events[0], expected);
    assert_eq!(records[0].key, b"card \"1\"", "an entity's events stay in order");
    let ids: Vec<_> = events.iter().map(|event| event["prediction_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["r-1", "r-2-0", "r-2-1"]);
    assert_eq!(records[1].key, b"r-2");
    assert_eq!(events[2]["features"], json!({"amount": 3.1, "age": 4.1, "night": 5.1}));
    assert_eq!(events[2]["score"], json!(0.225));
    assert!(events.iter().all(|event| event.get("request_id").is_some()));
    events.iter().for_each(schema_accepts);
}

#[test]
fn values_of_every_type_are_written_as_they_are() {
    let names = ["b", "u", "i", "half", "f", "d", "t", "nan", "inf"];
    let data = [
        TensorData::Bool(vec![true]),
        TensorData::Uint64(vec![u64::MAX]),
        TensorData::Int64(vec![i64::MIN]),
        TensorData::Fp16(vec![0x3c00]),
        TensorData::Fp32(vec![16_777_216.0]),
        TensorData::Fp64(vec![5e-324]),
        TensorData::Bytes(vec!["é\n".into()]),
        TensorData::Fp64(vec![f64::NAN]),
        TensorData::Fp32(vec![f32::NEG_INFINITY]),
    ];
    let specs = names.iter().zip(&data).map(|(name, data)| spec(name, data.datatype(), &[None, Some(1)]));
    let signature = Signature {
        inputs: specs.chain([spec("embedding", DataType::Fp32, &[None, Some(2)])]).collect(),
        outputs: vec![spec("y", DataType::Fp64, &[None])],
        batches: true,
    };
    let layout = EventLayout::new("m", "1", Some(&signature), LayoutOptions::default()).unwrap();
    let mut inputs: Vec<_> = names.iter().zip(data).map(|(name, data)| tensor(name, &[1, 1], data)).collect();
    inputs.push(tensor("embedding", &[1, 2], TensorData::Fp32(vec![0.5, -1.0])));
    inputs.reverse();
    let outputs = vec![tensor("y", &[1], TensorData::Fp64(vec![0.1 + 0.2]))];
    let events = parsed(&written(vec![ScoredEvent { inputs, outputs, ..event(&layout, "r", 1) }]));
    let features = json!({
        "b": true, "u": u64::MAX, "i": i64::MIN, "half": 1.0, "f": 16_777_216.0, "d": 5e-324, "t": "é\n", "nan": null,
        "inf": "-Infinity", "embedding": [0.5, -1.0],
    });
    assert_eq!(events[0]["features"], features);
    assert_eq!(events[0]["score"].as_f64(), Some(0.1 + 0.2), "the only output is the score, to the bit");
    assert_eq!(events[0].get("prediction"), None);
}

#[test]
fn settings_that_do_not_fit_the_model_are_said_before_anything_is_served() {
    let wrong = |options: LayoutOptions| EventLayout::new("fraud", "7", Some(&signature()), options).unwrap_err();
    let score = |text: &str| LayoutOptions { score: Some(text.into()), ..LayoutOptions::default() };
    let shown = wrong(score("probability")).to_string();
    assert_eq!(
        shown,
        "`events.score` names output `probability`, which fraud does not have: it has `label`, `probabilities`"
    );
    let shown = wrong(score("probabilities:2")).to_string();
    assert_eq!(shown, "`events.score` asks for column 2 of output `probabilities`, which has 2");
    let names = LayoutOptions { feature_names: vec!["a".into()], ..LayoutOptions::default() };
    assert_eq!(wrong(names).to_string(), "`events.features` of fraud names 1 features, the inputs have 3 columns");
    let first = EventLayout::new("fraud", "7", Some(&signature()), score("probabilities:0")).unwrap();
    assert_eq!(parsed(&written(vec![event(&first, "r", 1)]))[0]["score"], json!(0.9));
}

#[test]
fn a_model_of_unknown_signature_is_described_by_its_first_event() {
    let layout = EventLayout::new("fraud", "7", None, LayoutOptions::default()).unwrap();
    let events = parsed(&written(vec![event(&layout, "r", 1)]));
    assert_eq!(events[0]["features"], json!({"input": [0.1, 1.1, 2.1]}));
    assert_eq!(events[0]["score"], json!(0.1));
}

#[test]
fn the_shadow_has_ids_or_a_topic_of_its_own() {
    let shadow = |options: LayoutOptions| {
        let layout = EventLayout::new("fraud", "8", Some(&signature()), options).unwrap();
        let records = written(vec![ScoredEvent { arm: Arm::Shadow, ..event(&layout, "r", 1) }]);
        (records[0].topic.clone(), parsed(&records)[0]["prediction_id"].clone())
    };
    assert_eq!(shadow(LayoutOptions::default()), ("predictions".into(), json!("r.shadow-8")));
    let apart = LayoutOptions { shadow_topic: Some("shadow".into()), ..LayoutOptions::default() };
    assert_eq!(shadow(apart), ("shadow".into(), json!("r")));
}

#[test]
fn a_sample_takes_whole_requests_and_the_same_ones_each_time() {
    let options = LayoutOptions { sample: 0.25, ..LayoutOptions::default() };
    let layout = EventLayout::new("fraud", "7", Some(&signature()), options).unwrap();
    let ids = || {
        let events = (0..2_000).map(|index| event(&layout, &format!("r{index}"), 2)).collect();
        let ids = parsed(&written(events)).into_iter().map(|event| event["request_id"].to_string());
        ids.collect::<Vec<_>>()
    };
    let first = ids();
    assert_eq!(first, ids());
    let requests: BTreeSet<_> = first.iter().collect();
    assert_eq!(first.len(), 2 * requests.len());
    // Binomial of 2 000 at a quarter: 5 standard deviations are 97.
    assert!((403..=597).contains(&requests.len()), "{} of 2000, expected about 500", requests.len());
}

/// Offers from several threads while the broker goes away and comes back; every look at the counts must add up.
#[test]
fn counts_add_up_at_any_moment_and_nothing_waits() {
    let transport = MemoryTransport::default();
    transport.with(|state| (state.is_away, state.room) = (true, 300));
    let limits = EventLimits { max_rows: 1_000, max_bytes: 1 << 20 };
    let queue = Arc::new(EventQueue::new(limits));
    let writer = EventWriter::start(queue.clone(), Box::new(transport.clone())).unwrap();
    let layout = layout();
    let is_done = AtomicBool::new(false);
    let slowest = std::thread::scope(|scope| {
        let looks = scope.spawn(|| {
            let mut looks = 0_u64;
            while !is_done.load(Ordering::Relaxed) {
                let counts = queue.counts();
                assert!(counts.add_up(), "{counts:?}");
                assert!(counts.in_flight <= 1_000, "{counts:?}");
                looks += 1;
            }
            looks
        });
        let offers: Vec<_> = (0..4)
            .map(|thread| {
                let (queue, layout, transport) = (&queue, &layout, &transport);
                scope.spawn(move || {
                    let mut slowest = Duration::ZERO;
                    for index in 0..2_000 {
                        if thread == 0 && index % 500 == 250 {
                            transport.with(|state| state.is_away = !state.is_away);
                        }
                        let event = event(layout, &format!("{thread}-{index}"), 1 + index % 3);
                        let started = Instant::now();
                        queue.offer(event);
                        slowest = slowest.max(started.elapsed());
                    }
                    slowest
                })
            })
            .collect();
        let slowest = offers.into_iter().map(|offer| offer.join().unwrap()).max().unwrap();
        is_done.store(true, Ordering::Relaxed);
        assert!(looks.join().unwrap() > 0);
        slowest
    });
    transport.with(|state| state.is_away = false);
    let counts = writer.close(Duration::from_secs(20));
    let delivered = transport.with(|state| state.delivered.len() as u64);
    let offered = 4 * (0..2_000).map(|index| 1 + index % 3).sum::<u64>();
    assert_eq!(counts.offered, offered);
    assert!(counts.dropped > 0, "the queue of 1 000 was never full: {counts:?}");
    assert_eq!(counts.sent, delivered);
    assert_eq!(counts.sent + counts.failed + counts.dropped, offered, "{counts:?}");
    assert_eq!((counts.in_flight, queue.bytes()), (0, 0));
    // Nothing in an offer waits for anybody; what is left is the scheduler of a machine with more threads than cores.
    assert!(slowest < Duration::from_millis(500), "an offer took {slowest:?}");
}

#[test]
fn closing_waits_no_longer_than_it_was_told_and_counts_what_is_lost() {
    let transport = MemoryTransport::default();
    transport.with(|state| (state.is_away, state.room) = (true, 5));
    let queue = Arc::new(EventQueue::new(EventLimits::default()));
    let writer = EventWriter::start(queue.clone(), Box::new(transport.clone())).unwrap();
    let layout = layout();
    (0..20).for_each(|index| queue.offer(event(&layout, &index.to_string(), 1)));
    let started = Instant::now();
    let counts = writer.close(Duration::from_millis(300));
    let took = started.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    let expected = EventCounts { offered: 20, enqueued: 20, failed: 20, ..EventCounts::default() };
    assert_eq!(counts, expected);
    queue.offer(event(&layout, "late", 1));
    assert_eq!(queue.counts().dropped, 1, "what comes after the end is dropped, and counted");
}

#[test]
fn the_metrics_of_one_scrape_add_up() {
    let queue = Arc::new(EventQueue::new(EventLimits { max_rows: 2, max_bytes: 1 << 20 }));
    let registry = prometheus::Registry::new();
    registry.register(Box::new(EventCollector::new(queue.clone()).unwrap())).unwrap();
    let layout = layout();
    (0..3).for_each(|index| queue.offer(event(&layout, &index.to_string(), 1)));
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    for line in [
        "driftline_scorer_events_offered_total{model=\"fraud\"} 3",
        "driftline_scorer_events_enqueued_total{model=\"fraud\"} 2",
        "driftline_scorer_events_dropped_total{model=\"fraud\"} 1",
        "driftline_scorer_events_sent_total{model=\"fraud\"} 0",
        "driftline_scorer_events_in_flight{model=\"fraud\"} 2",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    for name in EventCollector::names() {
        assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
    }
}

fn decoded(model: &str, records: &[KeptRecord]) -> Decoded {
    let model = driftline::config::parse_model_str("model.yaml", model).unwrap_or_else(|error| panic!("{error:?}"));
    let mut slab = Records::default();
    for (offset, record) in records.iter().enumerate() {
        slab.push(&record.topic, 0, offset as i64, record.event_time_ms, Some(&record.key), Some(&record.value));
    }
    Decoder::new(&[Arc::new(model.value)]).unwrap().decode(&slab, NOW_MS).unwrap()
}

#[test]
fn the_monitor_reads_events_with_no_mapping_and_splits_them_by_arm() {
    let layout = layout();
    let canary = ScoredEvent { arm: Arm::Canary, ..event(&layout, "c", 2) };
    let records = written(vec![event(&layout, "p", 1), canary]);
    let model = "version: 1\nmodel: fraud\ntopics: [predictions]\n\
                 features: {amount: numeric, age: numeric, night: numeric, arm: {type: categorical, path: arm}}\n\
                 score: {path: score, type: numeric}\nprediction: {path: prediction, type: categorical}\nsegments: [arm]\n";
    let decoded = decoded(model, &records);
    assert!(decoded.rejected.is_empty(), "{:?}", decoded.rejected);
    assert_eq!(decoded.row_count(), 3);
    let batch = &decoded.batches[0].batch;
    let text = |column: &str| format!("{:?}", batch.column_by_name(column).unwrap());
    assert!(text("arm").contains("canary") && text("arm").contains("production"), "{}", text("arm"));
    assert!(text("amount").contains("0.1") && text("prediction.score").contains("0.225"), "{batch:?}");
}

#[test]
fn one_word_says_where_model_version_and_id_stand() {
    let layout = layout();
    let records = written(vec![event(&layout, "p", 2)]);
    let of = |name: &str| {
        format!(
            "version: 1\nmodel: {name}\ntopics: [predictions]\nformat: prediction_event\n\
             features: {{amount: numeric, age: numeric, night: numeric}}\nscore: {{path: score, type: numeric}}\n"
        )
    };
    let own = decoded(&of("fraud"), &records);
    assert!(own.rejected.is_empty(), "{:?}", own.rejected);
    let batch = &own.batches[0].batch;
    let text = |column: &str| format!("{:?}", batch.column_by_name(column).unwrap());
    assert!(text(driftline::event::VERSION).contains('7'), "{}", text(driftline::event::VERSION));
    assert!(text(driftline::event::PREDICTION_ID).contains("p-1"), "{}", text(driftline::event::PREDICTION_ID));
    let other = decoded(&of("churn"), &records);
    assert_eq!(
        (other.row_count(), other.unrouted),
        (0, 2),
        "events of another model on the same topic are not its own"
    );
}
