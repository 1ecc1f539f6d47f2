//! New York taxi rides of 2019 and 2020 against 2018, streamed through a real broker, a month a day: equal to the
//! oracle month by month, and the alerts that came of a new surcharge, of missing vendors and of March 2020.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use driftline::dispatch::catcher::MailCatcher;
use driftline::log::{Log, OutRecord};
use driftline::reference::table::Table;
use driftline::rules::episode::{EpisodeStatus, Notification};
use driftline::windows::result::WindowResult;
use serde_json::{Map, Value};
use support::{Workspace, create_topic, kafka_log, required, unique, wait_until};

const NUMERIC: [&str; 10] = [
    "passenger_count",
    "trip_distance",
    "fare_amount",
    "extra",
    "mta_tax",
    "tip_amount",
    "tolls_amount",
    "total_amount",
    "congestion_surcharge",
    "duration_min",
];
const CATEGORICAL: [&str; 8] = [
    "vendor_id",
    "rate_code_id",
    "store_and_fwd_flag",
    "pickup_location_id",
    "dropoff_location_id",
    "payment_type",
    "hour",
    "weekday",
];
const DAY_MS: i64 = 86_400_000;
/// 2026-01-01T00:00:00Z: month i of the rides becomes day i after it.
const START_MS: i64 = 1_767_225_600_000;

fn data() -> PathBuf {
    Path::new(&required("DRIFTLINE_ORACLE_DIR")).join("data/nyc_taxi")
}

fn model_yaml(topic: &str) -> String {
    let mut yaml = format!(
        "version: 1\nmodel: taxi-fare\ntopics: [{topic}]\nfields: {{timestamp: at, features: ride.*}}\nreferences: {{training: {{path: {}}}}}\nwindows: {{size: 1d, watermark_delay: 0s, idle_after: 3s}}\nfeatures:\n",
        data().join("reference.parquet").display()
    );
    for name in NUMERIC {
        yaml += &format!("  {name}: numeric\n");
    }
    for name in CATEGORICAL {
        yaml += &format!("  {name}: categorical\n");
    }
    yaml
}

const RULES: &str = r#"
version: 1
defaults: {window: 1d, min_samples: 500}
rules:
  - name: feature-drift
    model: taxi-fare@*
    when: {warn: psi > 0.10, critical: psi > 0.25}
    recover: psi < 0.08
    for: 2 of 3 windows
    group_by: [model, version, feature]
  - name: missing-values
    model: taxi-fare@*
    when: {critical: null_rate_change > 5%}
routes: [{match: {}, to: [analysts]}]
receivers: {analysts: {email: {to: [analysts@example.com]}}}
"#;

/// Every ride as an event, in order of its month, spread over the month's day.
fn events() -> Vec<Vec<u8>> {
    let table = Table::read(&data().join("current.parquet")).unwrap();
    let months = table.categories("month").unwrap();
    let distinct: BTreeSet<&String> = months.iter().flatten().collect();
    let order: BTreeMap<&String, i64> = distinct.into_iter().zip(0..).collect();
    let numbers: Vec<Vec<f64>> = NUMERIC.iter().map(|name| table.numeric(name).unwrap()).collect();
    let categories: Vec<Vec<Option<String>>> = CATEGORICAL.iter().map(|name| table.categories(name).unwrap()).collect();
    let mut seen: BTreeMap<i64, i64> = BTreeMap::new();
    let mut events: Vec<(i64, Vec<u8>)> = Vec::new();
    for (row, month) in months.iter().enumerate() {
        let day = order[month.as_ref().unwrap()];
        let position = seen.entry(day).or_default();
        let at = START_MS + day * DAY_MS + *position * 8_000;
        *position += 1;
        let mut ride = Map::new();
        for (name, values) in NUMERIC.iter().zip(&numbers) {
            ride.insert(name.to_string(), serde_json::Number::from_f64(values[row]).map_or(Value::Null, Value::Number));
        }
        for (name, values) in CATEGORICAL.iter().zip(&categories) {
            ride.insert(name.to_string(), values[row].clone().map_or(Value::Null, Value::String));
        }
        let event = serde_json::json!({"at": at, "ride": ride});
        events.push((at, event.to_string().into_bytes()));
    }
    events.sort_by_key(|(at, _)| *at);
    events.into_iter().map(|(_, event)| event).collect()
}

fn assert_equals_oracle(results: &[WindowResult]) {
    let path = Path::new(&required("DRIFTLINE_ORACLE_DIR")).join("oracle/expected/nyc_taxi.json");
    let oracle: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut compared = 0;
    for window in oracle["windows"].as_array().unwrap() {
        let start_ms = START_MS + window["index"].as_i64().unwrap() * DAY_MS;
        let result = results.iter().find(|result| result.window.start_ms == start_ms).expect("a result per month");
        assert_eq!(result.rows, window["rows"].as_u64().unwrap(), "rows of {}", window["key"]);
        for (feature, expected) in window["features"].as_object().unwrap() {
            let keys = [("psi", "psi_q10"), ("psi", "psi"), ("chi_square", "chi2"), ("null_rate", "missing_rate")];
            for (metric, key) in keys {
                let (Some(ours), Some(oracle)) = (result.features[feature].metrics.get(metric), expected.get(key))
                else {
                    continue;
                };
                let (ours, oracle) = (ours.value, oracle.as_f64());
                let close = match (ours, oracle) {
                    (Some(ours), Some(oracle)) => (ours - oracle).abs() <= 1e-9 * oracle.abs().max(1.0),
                    (ours, oracle) => ours == oracle,
                };
                assert!(close, "{metric} of {feature} in {}: {ours:?} here, {oracle:?} by the oracle", window["key"]);
                compared += 1;
            }
            if let (Some(ours), Some(oracle)) = (result.features[feature].metrics.get("ks"), expected["ks"].as_f64()) {
                let difference = (ours.value.unwrap() - oracle).abs();
                assert!(difference <= 1e-3, "ks of {feature} in {}: {difference} off", window["key"]);
                compared += 1;
            }
        }
    }
    eprintln!("{compared} values equal the oracle's");
}

#[test]
#[ignore = "needs a Kafka broker and the taxi rides: DRIFTLINE_TEST_KAFKA, DRIFTLINE_ORACLE_DIR"]
fn taxi_rides_drift_when_the_city_changes() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let log = kafka_log();
    let topic = unique("rides");
    create_topic(&*log, &topic, 4);
    let kept = std::env::var_os("DRIFTLINE_KEEP_MAILS").map(PathBuf::from);
    let mail = runtime.block_on(MailCatcher::start(0, kept.as_deref())).unwrap();
    let smtp = format!("smtp: {{url: \"{}\", from: driftline@example.com}}\n", mail.url());
    let workspace = Workspace::new(&unique("taxi"), &model_yaml(&topic), RULES, &smtp);
    workspace.must(&["reference", "build"]);
    workspace.must(&["check"]);
    let events = events();
    let record = |(index, event): (usize, &Vec<u8>)| OutRecord {
        topic: topic.as_str().into(),
        partition: Some((index % 4) as i32),
        value: Some(event.clone()),
        ..OutRecord::default()
    };
    log.append(events.iter().enumerate().map(record).collect()).unwrap();
    let mut service = workspace.start();
    service.wait_ready(Duration::from_secs(60));
    wait_until("24 months close", Duration::from_secs(120), || workspace.results(&*log).len() == 24);
    assert_equals_oracle(&workspace.results(&*log));

    let outbox = workspace.outbox(&*log);
    let firing = |rule: &str| -> Vec<&Notification> {
        outbox.iter().filter(|told| told.rule == rule && told.status == EpisodeStatus::Firing).collect()
    };
    for told in &outbox {
        eprintln!("{:?} {} day {}", told.status, told.summary, (told.window.start_ms - START_MS) / DAY_MS);
    }
    let names = |told: &Notification| -> BTreeSet<String> {
        told.findings.iter().filter_map(|finding| finding.feature.clone()).collect()
    };
    // Day 14 is March 2020: by then, or with the month after, pick-ups, fares and payment have changed.
    let pandemic: BTreeSet<String> = firing("feature-drift")
        .into_iter()
        .filter(|told| told.window.start_ms >= START_MS + 14 * DAY_MS)
        .flat_map(names)
        .collect();
    for feature in ["pickup_location_id", "dropoff_location_id", "hour"] {
        assert!(pandemic.contains(feature), "`{feature}` drifts with the pandemic: {pandemic:?}");
    }
    let missing: BTreeSet<String> = firing("missing-values").into_iter().flat_map(names).collect();
    assert!(missing.contains("vendor_id") && missing.contains("passenger_count"), "missing in 2020: {missing:?}");
    wait_until("every mail arrives", Duration::from_secs(60), || mail.mails().len() == outbox.len());
    if std::env::var_os("DRIFTLINE_KEEP_MAILS").is_some() {
        // For a look at the pages with a browser.
        std::thread::sleep(Duration::from_secs(60));
    }
    assert!(service.terminate().success());
}
