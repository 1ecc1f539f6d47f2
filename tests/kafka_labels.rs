//! Labels on a real broker, through the real binary: three data sets with labels at random delays, shuffled, twice and
//! corrected, equal the oracle's realised performance; `kill -9` at random moments changes nothing. Needs a broker and the
//! oracle's data; `.ci/run` provides them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod join_support;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use driftline::config::parse_model_str;
use driftline::log::{Log, OutRecord};
use driftline::reference::table::TableFile;
use driftline::stats::performance::PERFORMANCE_FEATURE;
use driftline::stats::performance::profile::PerformanceLayout;
use driftline::windows::result::WindowResult;
use join_support::{Figures, Place, Random, figures, labelled, profiles};
use serde_json::{Value, json};
use support::{Workspace, create_topic, free_port, kafka_log, required, unique, wait_until};

const START_MS: i64 = 1_767_000_000_000;
const BETWEEN_MS: i64 = 100;
const HOUR_MS: i64 = 3_600_000;
const KILLS: usize = 20;
/// Of the user's topics.
const PARTITIONS: u64 = 3;
const UNKNOWN: usize = 200;

/// One data set, and how its model file reads.
struct DataSet {
    name: &'static str,
    /// Rows of a window of the oracle.
    window: i64,
    label: &'static str,
    numeric: &'static [&'static str],
    categorical: &'static [&'static str],
    signals: &'static str,
    task: &'static str,
    /// Metrics that must be compared.
    metrics: usize,
}

const CAR_LOAN: DataSet = DataSet {
    name: "nml_car_loan",
    window: 5_000,
    label: "repaid",
    numeric: &["car_value", "y_pred", "y_pred_proba"],
    categorical: &["salary_range"],
    signals: "prediction: {path: y_pred, type: categorical}\nscore: {path: y_pred_proba, type: numeric}\nsegments: \
              [salary_range]\nfeatures: {car_value: numeric, salary_range: categorical}\n",
    task: "task: binary",
    metrics: 20,
};

const CREDIT: DataSet = DataSet {
    name: "nml_credit_multiclass",
    window: 6_000,
    label: "y_true",
    numeric: &[
        "stated_income",
        "y_pred_proba_prepaid_card",
        "y_pred_proba_highstreet_card",
        "y_pred_proba_upmarket_card",
    ],
    categorical: &["y_pred"],
    signals: "prediction: {path: y_pred, type: categorical}\nfeatures: {stated_income: numeric}\n",
    task: "task: multiclass\n  class_scores: {prepaid_card: y_pred_proba_prepaid_card, highstreet_card: \
           y_pred_proba_highstreet_card, upmarket_card: y_pred_proba_upmarket_card}",
    metrics: 12,
};

const CAR_PRICE: DataSet = DataSet {
    name: "nml_car_price_reg",
    window: 6_000,
    label: "y_true",
    numeric: &["km_driven", "y_pred"],
    categorical: &["fuel"],
    signals: "prediction: {path: y_pred, type: numeric}\nfeatures: {km_driven: numeric, fuel: categorical}\n",
    task: "task: regression",
    metrics: 10,
};

impl DataSet {
    fn file(&self, which: &str) -> PathBuf {
        Path::new(&required("DRIFTLINE_ORACLE_DIR")).join(format!("data/{}/{which}.parquet", self.name))
    }

    fn window_ms(&self) -> i64 {
        self.window * BETWEEN_MS
    }

    fn model_yaml(&self, topics: &SourceTopics) -> String {
        format!(
            "version: 1\nmodel: judged\ntopics: [{}]\nfields: {{timestamp: at, prediction_id: id, features: \"*\"}}\n{}\
             unknown_features: ignore\nperformance:\n  {}\n  label_column: {}\n  labels:\n    topics: [{}]\n    \
             fields: {{prediction_id: id, label: outcome, timestamp: given}}\n    delay: 6h\n\
             references: {{training: {{path: {}}}}}\nwindows: {{size: {}s, watermark_delay: 0s, idle_after: 2s}}\n",
            topics.predictions,
            self.signals,
            self.task,
            self.label,
            topics.labels,
            self.file("reference").display(),
            self.window_ms() / 1_000,
        )
    }

    /// One prediction event a row.
    fn predictions(&self) -> Vec<Value> {
        let table = TableFile::open(&self.file("current")).unwrap().all().unwrap();
        let rows = table.num_rows();
        let mut events: Vec<serde_json::Map<String, Value>> = (0..rows)
            .map(|row| {
                let at_ms = START_MS + row as i64 * BETWEEN_MS;
                json!({"at": at_ms, "id": format!("{}-{row}", self.name)}).as_object().unwrap().clone()
            })
            .collect();
        for name in self.numeric {
            for (event, value) in events.iter_mut().zip(table.numeric(name).unwrap()) {
                event.insert((*name).into(), number(value));
            }
        }
        for name in self.categorical {
            for (event, value) in events.iter_mut().zip(table.categories(name).unwrap()) {
                event.insert((*name).into(), value.into());
            }
        }
        events.into_iter().map(Value::Object).collect()
    }

    /// The label of each row.
    fn labels(&self) -> Vec<Value> {
        let table = TableFile::open(&self.file("current")).unwrap().all().unwrap();
        match table.numeric(self.label) {
            Ok(numbers) => numbers.into_iter().map(number).collect(),
            Err(_) => table.categories(self.label).unwrap().into_iter().map(Value::from).collect(),
        }
    }

    /// Labels at random delays in any order: some twice, some wrong at first, some for nothing.
    fn label_events(&self, random: &mut Random) -> Vec<Value> {
        let labels = self.labels();
        let mut events = Vec::new();
        for (row, label) in labels.iter().enumerate() {
            let id = format!("{}-{row}", self.name);
            let given_ms = START_MS + row as i64 * BETWEEN_MS + random.ms(HOUR_MS);
            let last = json!({"id": id, "outcome": label, "given": given_ms});
            if random.below(20) == 0 {
                let other = &labels[random.below(labels.len() as u64) as usize];
                events.push(json!({"id": id, "outcome": other, "given": given_ms - 1}));
            }
            if random.below(10) == 0 {
                events.push(last.clone());
            }
            events.push(last);
        }
        for (index, label) in labels.iter().take(UNKNOWN).enumerate() {
            let given_ms = START_MS + random.ms(HOUR_MS);
            events.push(json!({"id": format!("unknown-{index}"), "outcome": label, "given": given_ms}));
        }
        random.shuffle(&mut events);
        events
    }

    fn oracle(&self) -> Vec<Value> {
        let path = Path::new(&required("DRIFTLINE_ORACLE_DIR")).join(format!("oracle/expected/{}.json", self.name));
        let expected: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        expected["windows"].as_array().unwrap().iter().map(|window| window["performance"].clone()).collect()
    }
}

fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 { json!(value as i64) } else { json!(value) }
}

struct SourceTopics {
    predictions: String,
    labels: String,
}

fn append(log: &dyn Log, topic: &str, events: &[Value], random: &mut Random) {
    let records = events.iter().map(|event| OutRecord {
        topic: topic.into(),
        partition: Some(random.below(PARTITIONS) as i32),
        value: Some(event.to_string().into_bytes()),
        ..OutRecord::default()
    });
    log.append(records.collect()).unwrap();
}

/// Feeds a data set to the service, which is killed `kills` times meanwhile; what every pane says in the end.
fn stream(set: &DataSet, kills: usize, seed: u64) -> BTreeMap<Place, Figures> {
    let log = kafka_log();
    let topics = SourceTopics { predictions: unique("predictions"), labels: unique("labels") };
    create_topic(&*log, &topics.predictions, PARTITIONS as i32);
    create_topic(&*log, &topics.labels, PARTITIONS as i32);
    let yaml = set.model_yaml(&topics);
    let rules = format!(
        "version: 1\nrules:\n  - name: drift\n    model: judged@*\n    window: {}s\n    when: {{warn: psi > 0.5}}\nroutes: [{{match: {{}}, to: [hook]}}]\n\
         receivers: {{hook: {{webhook: {{url: \"http://127.0.0.1:{}/\", allow_private: true}}}}}}\n",
        set.window_ms() / 1_000,
        free_port()
    );
    let workspace = Workspace::new(&unique("labels"), &yaml, &rules, "ingest: {flush_interval: 200ms}\n");
    workspace.must(&["reference", "build"]);
    workspace.must(&["check"]);
    let model = Arc::new(parse_model_str("model.yaml", &yaml).unwrap().value);
    let mut classes: Vec<String> = set.labels().iter().filter_map(|label| Some(label.as_str()?.to_string())).collect();
    classes.sort();
    classes.dedup();
    let layout = PerformanceLayout::of(&model, &classes).unwrap();

    let mut random = Random(seed);
    let predictions = set.predictions();
    let labels = set.label_events(&mut random);
    let mut service = workspace.start();
    service.wait_ready(Duration::from_secs(120));
    let started = Instant::now();
    let pieces = kills + 1;
    let piece = |len: usize, index: usize| len * index / pieces..len * (index + 1) / pieces;
    for index in 0..pieces {
        append(&*log, &topics.labels, &labels[piece(labels.len(), index)], &mut random);
        append(&*log, &topics.predictions, &predictions[piece(predictions.len(), index)], &mut random);
        if index < kills {
            // From before the process is up to well into its work.
            std::thread::sleep(Duration::from_millis(random.below(4_000)));
            service.kill_nine();
            service = workspace.start();
        }
    }
    let met = || labelled(&profiles(&*log, &format!("{}.partials", workspace.app), &layout));
    let mut last = 0;
    wait_until("all labels meet their predictions", Duration::from_secs(300), || {
        last = met();
        std::thread::sleep(Duration::from_millis(500));
        last == predictions.len() as u64
    });
    eprintln!("{}: {last} labels met in {:.1} s, {kills} kills", set.name, started.elapsed().as_secs_f64());
    // Time goes on in every partition: what met nothing is given up.
    for hours in [8, 16] {
        for partition in 0..PARTITIONS as i32 {
            let mut event = predictions[0].clone();
            event["at"] = json!(START_MS + hours * HOUR_MS);
            event["id"] = json!(format!("later-{hours}-{partition}"));
            let value = Some(event.to_string().into_bytes());
            let topic = topics.predictions.as_str().into();
            log.append(vec![OutRecord { topic, partition: Some(partition), value, ..OutRecord::default() }]).unwrap();
        }
    }
    let letters = || -> Vec<Value> { workspace.read(&*log, "dead-letter") };
    wait_until("labels without prediction are given up", Duration::from_secs(120), || letters().len() >= UNKNOWN);
    std::thread::sleep(Duration::from_secs(2));
    let letters = letters();
    let ids: BTreeSet<String> = letters.iter().map(|letter| letter["payload"].to_string()).collect();
    assert_eq!((letters.len(), ids.len()), (UNKNOWN, UNKNOWN), "each label without prediction is given up once");
    let reasons: BTreeSet<&str> = letters.iter().map(|letter| letter["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, BTreeSet::from(["label_without_prediction"]));
    let mut found = figures(&profiles(&*log, &format!("{}.partials", workspace.app), &layout), &layout);
    found.retain(|(.., start_ms), _| *start_ms < START_MS + 7 * HOUR_MS);
    let whole = || found.iter().filter(|((_, column, ..), _)| column.is_empty());
    let mut last = BTreeMap::new();
    wait_until("the windows are final", Duration::from_secs(120), || {
        last = last_results(&workspace, &*log);
        let is_final = |start_ms: &i64| last.get(start_ms).is_some_and(is_final);
        whole().all(|((.., start_ms), _)| is_final(start_ms))
    });
    for ((.., start_ms), figures) in whole() {
        let told = &last[start_ms].features[PERFORMANCE_FEATURE].metrics;
        for (name, expected) in &figures.metrics {
            assert_eq!(told.get(name).map(|told| told.value), Some(expected.value), "{name} of window {start_ms}");
        }
    }
    drop(service);
    found
}

/// The last revision of each window's performance, of all events against the stored reference.
fn last_results(workspace: &Workspace, log: &dyn Log) -> BTreeMap<i64, WindowResult> {
    let mut last: BTreeMap<i64, WindowResult> = BTreeMap::new();
    for result in workspace.results(log) {
        if result.performance.is_some() && result.segment.is_all() && result.baseline.is_none() {
            last.insert(result.window.start_ms, result);
        }
    }
    last
}

fn is_final(result: &WindowResult) -> bool {
    result.performance.as_ref().is_some_and(|performance| performance.is_final)
}

fn assert_equals_oracle(set: &DataSet, found: &BTreeMap<Place, Figures>) {
    let whole: Vec<(i64, &Figures)> = found
        .iter()
        .filter(|((_, column, ..), _)| column.is_empty())
        .map(|((.., start_ms), figures)| (*start_ms, figures))
        .collect();
    let windows = set.oracle();
    assert_eq!(whole.len(), windows.len(), "windows of {}", set.name);
    let mut worst: BTreeMap<String, f64> = BTreeMap::new();
    for (index, ((start_ms, figures), expected)) in whole.into_iter().zip(&windows).enumerate() {
        assert_eq!(start_ms, START_MS + index as i64 * set.window_ms());
        assert_eq!(Some(figures.labelled), expected["n"].as_u64(), "labels of window {index} of {}", set.name);
        let mut compared = 0;
        for (name, expected) in expected.as_object().unwrap() {
            let (Some(expected), Some(ours)) = (expected.as_f64(), figures.metrics.get(name)) else { continue };
            let value = ours.value.unwrap_or(f64::NAN);
            let difference = (value - expected).abs();
            // Exact up to a number of different values, and within the stated bound beyond.
            let tolerance = ours.bound.unwrap_or(0.0) + 1e-9 * expected.abs().max(1.0);
            assert!(
                difference <= tolerance,
                "{name} of window {index} of {}: {value} here, {expected} by the oracle, {difference:e} apart",
                set.name
            );
            let entry = worst.entry(name.clone()).or_default();
            *entry = entry.max(difference);
            compared += 1;
        }
        assert!(compared >= set.metrics, "only {compared} metrics of {} compared", set.name);
    }
    eprintln!("{}: largest differences {worst:?}", set.name);
}

#[test]
#[ignore = "needs a Kafka broker and the oracle's data: DRIFTLINE_TEST_KAFKA, DRIFTLINE_ORACLE_DIR"]
fn late_labels_equal_the_oracle_and_kill_nine_changes_nothing() {
    for set in [&CREDIT, &CAR_PRICE] {
        assert_equals_oracle(set, &stream(set, 0, 1));
    }
    let undisturbed = stream(&CAR_LOAN, 0, 2);
    assert_equals_oracle(&CAR_LOAN, &undisturbed);
    let killed = stream(&CAR_LOAN, KILLS, 3);
    assert_eq!(killed.len(), undisturbed.len(), "panes and segments");
    assert!(undisturbed.len() > 20, "segments too: {}", undisturbed.len());
    for (place, expected) in &undisturbed {
        assert_eq!(killed.get(place), Some(expected), "{place:?} after {KILLS} kills");
    }
}
