//! What the join costs: events a second of ingest alone and with predictions meeting their labels, in one run; what a
//! waiting prediction takes in memory, by the allocator's count; and the time of one prediction and one label.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use driftline::config::model::Model;
use driftline::config::parse_model_str;
use driftline::config::service::Ingest;
use driftline::event::Decoder;
use driftline::ingest::joins::{JoinLabel, JoinPart, JoinPrediction, join_id};
use driftline::ingest::partial::FlushHeader;
use driftline::ingest::role::{IngestModel, IngestRole};
use driftline::join::model::JoinModel;
use driftline::join::role::JoinRole;
use driftline::join::state::JoinState;
use driftline::log::embedded::EmbeddedLog;
use driftline::log::topics::Topics;
use driftline::log::{Log, OutRecord, Records, StartOffset, TopicSpec};
use driftline::reference::{Reference, Source};
use driftline::stats::performance::profile::{Label, PerformanceLayout, Prediction};
use driftline::telemetry::Metrics;
use tokio_util::sync::CancellationToken;

#[allow(dead_code)]
#[path = "scale/heap.rs"]
mod heap;
#[path = "pipeline/meter.rs"]
mod meter;

use heap::{CountingAllocator, held};
use meter::{Reading, Row, Sample, peak_mib, print_table};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const ROUNDS: usize = 5;
const EVENTS: usize = 200_000;
const PARTITIONS: i32 = 4;
const START_MS: i64 = 1_767_225_600_000;
const PENDING: usize = 1_000_000;
const PER_RECORD: usize = 10_000;

fn model(performance: &str) -> Arc<Model> {
    let features: String = (0..20).map(|index| format!("  num_{index:02}: numeric\n")).collect();
    let yaml = format!(
        "version: 1\nmodel: fraud\ntopics: [predictions]\nfields: {{timestamp: at, prediction_id: id, features: \"*\"}}\n\
         features:\n{features}score: {{path: score, type: numeric}}\n{performance}\
         references: {{training: {{path: t.csv}}}}\n"
    );
    Arc::new(parse_model_str("model.yaml", &yaml).unwrap().value)
}

const LABELS: &str = "performance: {task: binary, labels: {topics: [labels], fields: {prediction_id: id}, max_pending: \
                      100000000}}\n";

fn event(index: usize) -> String {
    let mut event = format!("{{\"at\":{},\"id\":\"prediction-{index:012}\"", START_MS + index as i64);
    for feature in 0..20 {
        let value = (index * 7_919 + feature * 104_729) % 100_003;
        event += &format!(",\"num_{feature:02}\":{}", value as f64 / 1_000.0);
    }
    event + &format!(",\"score\":{}}}", (index * 31 % 1_000) as f64 / 1_000.0)
}

fn reference(model: &Model) -> Arc<Reference> {
    let mut records = Records::default();
    for index in 0..20_000 {
        records.push("predictions", 0, index as i64, 0, None, Some(event(index).as_bytes()));
    }
    let model = Arc::new(model.clone());
    let decoded = Decoder::new(std::slice::from_ref(&model)).unwrap().decode(&records, START_MS).unwrap();
    let batches: Vec<_> = decoded.batches.into_iter().map(|decoded| decoded.batch).collect();
    Arc::new(Reference::build(&model, "training", &batches, &BTreeMap::new(), Source::default(), 0).unwrap())
}

fn filled() -> EmbeddedLog {
    let log = EmbeddedLog::new();
    let spec = |name: &str| TopicSpec { name: name.into(), partitions: PARTITIONS, replication: 1, config: vec![] };
    log.create_topics(&[spec("predictions"), spec("labels")]).unwrap();
    let record = |topic: &str, index: usize, value: String| OutRecord {
        topic: topic.into(),
        partition: Some(index as i32 % PARTITIONS),
        value: Some(value.into_bytes()),
        ..OutRecord::default()
    };
    let label = |index: usize| format!("{{\"id\":\"prediction-{index:012}\",\"label\":{}}}", index % 2);
    log.append((0..EVENTS).map(|index| record("predictions", index, event(index))).collect()).unwrap();
    log.append((0..EVENTS).map(|index| record("labels", index, label(index))).collect()).unwrap();
    log
}

/// Events until all are aggregated, and with `joined` until all have met their labels too.
fn pipeline(log: &EmbeddedLog, app: &str, model: &Arc<Model>, reference: &Arc<Reference>, joined: bool) -> Sample {
    let topics = Topics::new(app);
    log.create_topics(&topics.specs(PARTITIONS, 1)).unwrap();
    let metrics = Metrics::new().unwrap();
    let ingest = IngestRole {
        app: app.into(),
        instance: "0".into(),
        topics: topics.clone(),
        models: vec![IngestModel {
            model: model.clone(),
            reference: reference.clone(),
            pane_ms: 60_000,
            sql: Vec::new(),
        }],
        start: StartOffset::Earliest,
        settings: Ingest::default(),
        clock: Arc::new(|| chrono::Utc::now().timestamp_millis()),
        metrics: metrics.clone(),
        status: Arc::new(|_| {}),
    };
    let join = reference.performance_layout(model).filter(|_| joined).map(|layout| JoinRole {
        app: app.into(),
        instance: "0".into(),
        topics,
        joined: Arc::new(vec![JoinModel { model: model.clone(), layout }]),
        settings: Ingest::default(),
        clock: Arc::new(|| chrono::Utc::now().timestamp_millis()),
        metrics: metrics.clone(),
        status: Arc::new(|_| {}),
    });
    let stop = CancellationToken::new();
    std::thread::scope(|scope| {
        let start = Reading::now();
        scope.spawn(|| ingest.run(log, &stop).unwrap());
        if let Some(join) = &join {
            scope.spawn(|| join.run(log, &stop).unwrap());
        }
        let started = Instant::now();
        let done = || {
            let aggregated = metrics.events_ingested.with_label_values(&["fraud"]).get() as usize >= EVENTS;
            let met = metrics.join_labels.with_label_values(&["fraud", "matched"]).get() as usize >= EVENTS;
            aggregated && (met || !joined)
        };
        while !done() {
            assert!(started.elapsed() < Duration::from_secs(300), "not all events came through");
            std::thread::sleep(Duration::from_millis(2));
        }
        let sample = start.until_now(EVENTS as u64);
        stop.cancel();
        sample
    })
}

fn rates() {
    let (plain, labelled) = (model(""), model(LABELS));
    let references = (reference(&plain), reference(&labelled));
    let log = filled();
    let stages: [(&'static str, &Arc<Model>, &Arc<Reference>, bool); 3] = [
        ("no labels", &plain, &references.0, false),
        ("set aside", &labelled, &references.1, false),
        ("joined", &labelled, &references.1, true),
    ];
    let mut rows: Vec<Row> = stages.iter().map(|(name, ..)| Row { name, samples: Vec::new(), peak_mib: 0.0 }).collect();
    for round in 0..ROUNDS {
        for ((name, model, reference, joined), row) in stages.iter().zip(&mut rows) {
            let app = format!("{}-{round}", name.replace(' ', "-"));
            row.samples.push(pipeline(&log, &app, model, reference, *joined));
            if round == 0 {
                row.peak_mib = peak_mib();
            }
        }
    }
    print_table(&rows);
}

fn part(predictions: Vec<JoinPrediction>, labels: Vec<JoinLabel>) -> JoinPart {
    let header = FlushHeader {
        instance: "0".into(),
        at_ms: START_MS,
        next_by_ms: START_MS + 5_000,
        sources: Vec::new(),
        topics: BTreeMap::new(),
        rows: BTreeMap::new(),
        part: 0,
        parts: 1,
    };
    JoinPart { header, predictions, labels }
}

fn prediction(index: usize) -> JoinPrediction {
    let event_time_ms = START_MS + index as i64;
    JoinPrediction {
        model: "fraud".into(),
        version: "1".into(),
        reference_id: "reference".into(),
        id: join_id("fraud", &format!("prediction-{index:012}")),
        event_time_ms,
        pane_start_ms: event_time_ms.div_euclid(60_000) * 60_000,
        pane_ms: 60_000,
        segments: Vec::new(),
        prediction: Prediction { score: (index % 1_000) as f64 / 1_000.0, ..Prediction::default() },
    }
}

fn label(index: usize) -> JoinLabel {
    let id = format!("prediction-{index:012}");
    JoinLabel {
        model: "fraud".into(),
        id: join_id("fraud", &id),
        prediction_id: id,
        label: Label::Class(index as u32 % 2),
        given_ms: None,
        topic: "labels".into(),
        partition: 0,
        offset: index as i64,
        timestamp_ms: START_MS,
        key: None,
        raw: vec![b'x'; 48],
    }
}

/// Applies what `part` makes of each range of ten thousand; nanoseconds each. What a flush takes is part of it.
fn apply(state: &mut JoinState, offset: &mut i64, part: impl Fn(std::ops::Range<usize>) -> JoinPart) -> f64 {
    let mut busy = Duration::ZERO;
    for start in (0..PENDING).step_by(PER_RECORD) {
        let part = part(start..start + PER_RECORD);
        let started = Instant::now();
        state.apply(*offset, part);
        for (_, join) in state.models_mut() {
            std::hint::black_box((join.take_rows(), join.take_outcome()));
        }
        busy += started.elapsed();
        *offset += 1;
    }
    busy.as_nanos() as f64 / PENDING as f64
}

fn memory_and_time() {
    let model = model(LABELS);
    let layout = PerformanceLayout::of(&model, &[]).unwrap();
    let before = held();
    let mut state = JoinState::new(&[JoinModel { model, layout }], 1, 0);
    let mut offset = 0;
    let predicting = apply(&mut state, &mut offset, |range| part(range.map(prediction).collect(), Vec::new()));
    let pending = held() - before;
    let meeting = apply(&mut state, &mut offset, |range| part(Vec::new(), range.map(label).collect()));
    let labelled = held() - before;
    let held = state.models().next().unwrap().1.len();
    assert_eq!(held, PENDING, "all are kept");
    let bytes = |allocated: usize| allocated as f64 / held as f64;
    println!(
        "\n{held} binary predictions kept: {:.1} bytes each, {:.1} once labelled",
        bytes(pending),
        bytes(labelled)
    );
    println!("a prediction takes {predicting:.0} ns, a label that meets one {meeting:.0} ns");
}

fn main() {
    memory_and_time();
    rates();
}
