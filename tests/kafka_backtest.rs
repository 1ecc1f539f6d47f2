//! Promise: what a back-test tells of taxi rides and of Elec2 is what production tells over a real broker, under the same
//! ids, although the service is killed on the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use driftline::log::{Log, OutRecord};
use driftline::reference::table::Table;
use serde_json::{Map, Value};
use support::{Workspace, create_topic, kafka_log, required, unique, wait_until};

/// One of the examples and its data.
struct Example {
    name: &'static str,
    data: &'static str,
    /// What the rows happened at.
    start: &'static str,
    start_ms: i64,
    every: &'static str,
    every_ms: i64,
    /// Key of the features in an event.
    features: &'static str,
    /// Columns that stand beside them.
    beside: &'static [&'static str],
    windows: usize,
}

const TAXI: Example = Example {
    name: "taxi",
    data: "nyc_taxi",
    start: "2026-01-01",
    start_ms: 1_767_225_600_000,
    every: "8640ms",
    every_ms: 8_640,
    features: "ride",
    beside: &["pred_fare"],
    windows: 24,
};

const ELEC2: Example = Example {
    name: "elec2",
    data: "elec2",
    start: "1996-12-29",
    start_ms: 851_817_600_000,
    every: "30m",
    every_ms: 1_800_000,
    features: "market",
    beside: &["score", "prediction", "class"],
    windows: 26,
};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

impl Example {
    fn data(&self, file: &str) -> PathBuf {
        Path::new(&required("DRIFTLINE_ORACLE_DIR")).join("data").join(self.data).join(file)
    }

    fn file(&self, folder: &str) -> String {
        let path = root().join("examples").join(self.name).join(folder).join(format!("{}.yaml", self.name));
        std::fs::read_to_string(path).unwrap()
    }

    /// The example's model, on a topic of the test's own.
    fn model(&self, topic: &str) -> String {
        let model = self.file("models");
        let topics = model.lines().find(|line| line.starts_with("topics:")).unwrap().to_string();
        let idle = model.lines().find(|line| line.starts_with("windows:")).unwrap().to_string();
        let quick = idle.split("idle_after: ").nth(1).unwrap().split([',', '}']).next().unwrap().to_string();
        model
            .replace(&topics, &format!("topics: [{topic}]"))
            .replace(&format!("idle_after: {quick}"), "idle_after: 3s")
            .replace("../data/reference.parquet", &self.data("reference.parquet").display().to_string())
    }

    /// The example's rules; nobody is to be told of a test.
    fn rules(&self) -> String {
        let rules = self.file("rules");
        let (rules, _) = rules.split_once("receivers:").unwrap();
        format!(
            "{rules}receivers:\n  pager: {{webhook: {{url: 'http://127.0.0.1:9/', allow_private: true}}}}\n  \
             analysts: {{webhook: {{url: 'http://127.0.0.1:9/', allow_private: true}}}}\n"
        )
    }

    /// Rows of the history as events, in order.
    fn events(&self) -> Vec<Vec<u8>> {
        let table = Table::read(&self.data("current.parquet")).unwrap();
        let names: Vec<String> = table.schema.fields().iter().map(|field| field.name().clone()).collect();
        let columns: Vec<(String, Vec<Value>)> = names
            .into_iter()
            .map(|name| {
                let values = match table.numeric(&name) {
                    Ok(numbers) => numbers.into_iter().map(Value::from).collect(),
                    Err(_) => table.categories(&name).unwrap().into_iter().map(Value::from).collect(),
                };
                (name, values)
            })
            .collect();
        let model = self.file("models");
        let is_feature = |name: &str| model.contains(&format!("\n  {name}: "));
        let is_category = |name: &str| model.contains(&format!("\n  {name}: categorical"));
        let event = |row: usize| {
            let mut event =
                Map::from_iter([("at".to_string(), Value::from(self.start_ms + row as i64 * self.every_ms))]);
            let mut features = Map::new();
            // What the model does not list would cost the event.
            let is_known = |name: &str| is_feature(name) || self.beside.contains(&name);
            for (name, values) in columns.iter().filter(|(name, _)| is_known(name)) {
                let into = if self.beside.contains(&name.as_str()) { &mut event } else { &mut features };
                let value = match (&values[row], is_category(name)) {
                    // Categories of whole numbers stand in events as whole numbers.
                    (Value::Number(number), true) => number
                        .as_f64()
                        .filter(|number| number.fract() == 0.0)
                        .map_or(values[row].clone(), |number| (number as i64).into()),
                    (value, _) => value.clone(),
                };
                into.insert(name.clone(), value);
            }
            event.insert(self.features.to_string(), Value::Object(features));
            Value::Object(event).to_string().into_bytes()
        };
        (0..table.num_rows()).map(event).collect()
    }
}

/// Ids of notifications, with what they are of.
fn told_by_backtest(document: &Value) -> BTreeSet<String> {
    let episodes = document["episodes"].as_array().unwrap();
    let of = |episode: &Value| {
        let rule = episode["rule"].as_str().unwrap().to_string();
        let ids = episode["notifications"].as_array().unwrap().clone();
        ids.into_iter().map(move |id| format!("{rule} {}", id.as_str().unwrap())).collect::<Vec<_>>()
    };
    episodes.iter().flat_map(of).collect()
}

fn production_tells_what_the_backtest_tells(example: &Example) {
    let log = kafka_log();
    let topic = unique(example.name);
    create_topic(&*log, &topic, 4);
    let workspace = Workspace::new(&unique(example.name), &example.model(&topic), &example.rules(), "");
    workspace.must(&["reference", "build"]);
    let history = example.data("current.parquet").display().to_string();
    let tried = workspace
        .command(&[
            "backtest",
            "--from-store",
            "--format",
            "json",
            "--start",
            example.start,
            "--every",
            example.every,
            &history,
        ])
        .output()
        .unwrap();
    assert!(tried.status.success(), "{}", String::from_utf8_lossy(&tried.stderr));
    let document: Value = serde_json::from_slice(&tried.stdout).unwrap();
    let expected = told_by_backtest(&document);
    assert!(expected.len() > 5, "{expected:?}");

    let events = example.events();
    let record = |(index, event): (usize, &Vec<u8>)| OutRecord {
        topic: topic.as_str().into(),
        partition: Some((index % 4) as i32),
        value: Some(event.clone()),
        ..OutRecord::default()
    };
    let own_windows = || {
        workspace
            .results(&*log)
            .iter()
            .filter(|result| result.performance.is_none() && result.baseline.is_none())
            .map(|result| (result.window.start_ms, result.window.end_ms))
            .collect::<BTreeSet<_>>()
    };
    let half = events.len() / 2;
    log.append(events[..half].iter().enumerate().map(record).collect()).unwrap();
    let mut service = workspace.start();
    service.wait_ready(Duration::from_secs(60));
    wait_until("some windows close", Duration::from_secs(120), || own_windows().len() > example.windows / 4);
    service.kill_nine();
    log.append(events.iter().enumerate().skip(half).map(record).collect()).unwrap();
    let mut service = workspace.start();
    service.wait_ready(Duration::from_secs(60));
    let told = || -> BTreeSet<String> {
        workspace.outbox(&*log).iter().map(|told| format!("{} {}", told.rule, told.id)).collect()
    };
    let until = std::time::Instant::now() + Duration::from_secs(180);
    while told() != expected && std::time::Instant::now() < until {
        std::thread::sleep(Duration::from_millis(500));
    }
    let produced = told();
    let only = |left: &BTreeSet<String>, right: &BTreeSet<String>| left.difference(right).cloned().collect::<Vec<_>>();
    assert_eq!(
        (only(&expected, &produced), only(&produced, &expected)),
        (Vec::new(), Vec::new()),
        "only the back-test tells, only production tells; {}",
        service.log()
    );

    // The range in Kafka says the same as the file.
    let replayed = workspace.command(&["replay", "--from-store", "--format", "json"]).output().unwrap();
    assert!(replayed.status.success(), "{}", String::from_utf8_lossy(&replayed.stderr));
    let replayed: Value = serde_json::from_slice(&replayed.stdout).unwrap();
    assert_eq!(told_by_backtest(&replayed), expected, "replayed from the topic");
    assert_eq!(replayed["history"][0]["rows_used"].as_u64(), Some(events.len() as u64));
    eprintln!(
        "{}: {} notifications of {} episodes are the same",
        example.name,
        expected.len(),
        document["episodes"].as_array().unwrap().len()
    );
    assert!(service.terminate().success());
}

#[test]
#[ignore = "needs a Kafka broker and the taxi rides: DRIFTLINE_TEST_KAFKA, DRIFTLINE_ORACLE_DIR"]
fn taxi_rides_page_as_the_backtest_says() {
    production_tells_what_the_backtest_tells(&TAXI);
}

#[test]
#[ignore = "needs a Kafka broker and Elec2: DRIFTLINE_TEST_KAFKA, DRIFTLINE_ORACLE_DIR"]
fn elec2_pages_as_the_backtest_says() {
    production_tells_what_the_backtest_tells(&ELEC2);
}
