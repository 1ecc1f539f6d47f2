//! From a drift in the events to a training job and its end, through the whole service on the embedded log.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod action_support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use action_support::{DAY_MS, HOUR_MS, START_MS, Service as Api};
use driftline::cli::service::{Assembly, Roles, Running};
use driftline::cli::watched;
use driftline::config::service::{Ingest, Service};
use driftline::config::units::Span;
use driftline::config::{parse_model_str, parse_rules_str};
use driftline::dispatch::actions::restore::read_runs;
use driftline::dispatch::actions::run::{RunRecord, RunState};
use driftline::dispatch::actions::target;
use driftline::dispatch::control::{Command, ControlRecord};
use driftline::dispatch::receiver::Receivers;
use driftline::log::embedded::EmbeddedLog;
use driftline::log::topics::Topics;
use driftline::log::{Log, OutRecord, TopicSpec};
use driftline::reference::table::Table;
use driftline::reference::{Reference, Source};
use driftline::rules::RuleSet;
use driftline::telemetry::Metrics;

const ROWS: i64 = 600;

const MODEL: &str = "
version: 1
model: fraud
topics: [tx]
fields: {timestamp: at, version: version, features: '*'}
features: {amount: numeric}
references: {training: {path: reference.jsonl}}
windows: {size: 1h, watermark_delay: 0s, allowed_lateness: 0s, idle_after: 1d}
";

const RULES: &str = "
version: 1
rules:
  - name: feature-drift
    model: fraud
    when: {warn: psi > 0.1, critical: psi > 0.25}
    actions: [retrain-fraud]
routes: [{to: [bus]}]
receivers: {bus: {kafka: {topic: alerts}}}
actions:
  retrain-fraud:
    webhook: {url: '{url}/retrain', allow_private: true}
    guard: {new_rows: '>= 4000'}
    cooldown: 72h
";

/// Values of a calm hour; `shift` is what drifts.
fn amount(row: i64, shift: f64) -> f64 {
    // A permutation of 0..600, spread evenly: the same distribution in every hour.
    ((row * 7_919) % ROWS) as f64 / ROWS as f64 + shift
}

struct World {
    log: EmbeddedLog,
    topics: Topics,
    running: Running,
    // Outlives the threads that call.
    runtime: tokio::runtime::Runtime,
}

fn start(api: &Api) -> World {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let url = runtime.block_on(api.start());
    let model = Arc::new(parse_model_str("fraud.yaml", MODEL).map_err(|errors| errors.text(false)).unwrap().value);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reference.jsonl");
    let lines: Vec<String> =
        (0..5 * ROWS).map(|row| serde_json::json!({"amount": amount(row, 0.0)}).to_string()).collect();
    std::fs::write(&path, lines.join("\n")).unwrap();
    let table = Table::read(&path).unwrap();
    let reference =
        Reference::build(&model, "training", &table.batches, &BTreeMap::new(), Source::default(), 0).unwrap();
    let rules = parse_rules_str("rules.yaml", &RULES.replace("{url}", &url)).map_err(|errors| errors.text(false));
    let rules = RuleSet::compile(&[("rules.yaml".into(), rules.unwrap().value)], std::slice::from_ref(&model)).unwrap();
    let log = EmbeddedLog::new();
    log.create_topics(&[TopicSpec { name: "tx".into(), partitions: 1, replication: 1, config: vec![] }]).unwrap();
    let service = Service {
        app: "fraud".into(),
        ingest: Ingest { flush_interval: Span::from_ms(50), ..Ingest::default() },
        ..Service::default()
    };
    let topics = Topics::new(&service.app);
    log.create_topics(&topics.specs(2, 1)).unwrap();
    let shared: Arc<dyn Log> = Arc::new(log.clone());
    let means = target::Means { log: Some((&shared, "fraud")) };
    let models = vec![model];
    let assembly = Assembly {
        log: shared.clone(),
        roles: Roles::of(&["ingest", "windows", "dispatch"].map(String::from)).unwrap(),
        watched: watched::of(&models, &rules),
        models,
        targets: target::build_all(rules.actions(), means).map_err(|errors| errors[0].to_string()).unwrap(),
        rules: Arc::new(rules),
        references: BTreeMap::from([("fraud".to_string(), Arc::new(reference))]),
        store: None,
        receivers: Receivers::default(),
        metrics: Metrics::new().unwrap(),
        service,
    };
    let running = assembly.start(runtime.handle(), None).unwrap();
    World { log, topics, running, runtime }
}

impl World {
    /// One hour of events, and one of the next, which closes it.
    fn hour(&self, number: i64, shift: f64) {
        let event = |row: i64| {
            let at = START_MS + number * HOUR_MS + row * HOUR_MS / ROWS;
            let value = serde_json::json!({"at": at, "version": "3", "amount": amount(row, shift)}).to_string();
            OutRecord {
                topic: "tx".into(),
                partition: Some(0),
                value: Some(value.into_bytes()),
                ..OutRecord::default()
            }
        };
        self.log.append((0..ROWS).map(event).collect()).unwrap();
    }

    fn wait_for(&self, what: &str, is_so: impl Fn(&RunRecord) -> bool) -> RunRecord {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let runs = read_runs(&self.log, &self.topics.actions).unwrap();
            assert!(runs.len() <= 1, "one alert, one run: {runs:#?}");
            if let Some(run) = runs.into_iter().find(|run| is_so(run)) {
                return run;
            }
            assert!(Instant::now() < deadline, "{what}: {:#?}", read_runs(&self.log, &self.topics.actions));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn command(&self, command: Command) {
        let record = ControlRecord { id: "00c0ffee00c0ffee".into(), at_ms: 0, by: "trainer".into(), command };
        let (key, value) = record.encode().unwrap();
        let topic = self.topics.control.as_str().into();
        let record = OutRecord { topic, key: Some(key), value: Some(value), ..OutRecord::default() };
        self.log.append(vec![record]).unwrap();
    }
}

#[test]
fn a_drift_becomes_a_training_job_once_there_are_events_enough_and_its_end_is_known() {
    let api = Api::default();
    api.answer(503, "");
    api.answer(202, "");
    let world = start(&api);
    for hour in 0..4 {
        world.hour(hour, 0.0);
    }
    world.hour(4, 0.5);
    world.hour(5, 0.5); // closes the first hour that drifted
    let blocked = world.wait_for("the guard holds it back", |run| run.state == RunState::Blocked);
    assert_eq!(blocked.reason(), "new_rows is 3000, wanted >= 4000");
    world.hour(6, 0.5);
    world.hour(7, 0.5);
    let accepted = world.wait_for("it goes ahead with a later window", |run| run.state == RunState::Accepted);
    assert_eq!(accepted.attempts, 2, "the first call was answered with 503");

    let requests = api.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].body, requests[1].body, "the same manifest at every call");
    assert_eq!(requests[1].header("webhook-id"), accepted.name());
    let manifest = &requests[1].json()["data"];
    assert_eq!((manifest["model"].as_str(), manifest["model_version"].as_str()), (Some("fraud"), Some("3")));
    assert_eq!(manifest["cause"]["rule"], "feature-drift");
    let until_ms = manifest["cause"]["window"]["end_ms"].as_i64().unwrap();
    assert_eq!((until_ms - START_MS) % HOUR_MS, 0);
    let until = manifest["data"]["until"].as_str().unwrap();
    assert_eq!(chrono::DateTime::parse_from_rfc3339(until).unwrap().timestamp_millis(), until_ms);
    let from = chrono::DateTime::parse_from_rfc3339(manifest["data"]["from"].as_str().unwrap()).unwrap();
    assert_eq!(from.timestamp_millis(), until_ms - 30 * DAY_MS);
    let range = &manifest["data"]["offsets"][0];
    assert_eq!((range["topic"].as_str(), range["partition"].as_i64()), (Some("tx"), Some(0)));
    let until_offset = range["until_offset"].as_i64().unwrap();
    let rows_of_windows = (until_ms - START_MS) / HOUR_MS * ROWS;
    assert!(
        until_offset >= rows_of_windows,
        "{until_offset} does not hold the {rows_of_windows} events of the windows"
    );

    world.command(Command::Report { run: accepted.run.clone(), succeeded: true, message: "psi 0.01".into() });
    let ended = world.wait_for("its end is reported", |run| run.state == RunState::Succeeded);
    assert_eq!(ended.reason(), "reported by trainer: psi 0.01");
    world.hour(8, 0.5);
    world.hour(9, 0.0);
    world.hour(10, 0.0);
    world.wait_for("the end of the alert is known", |run| run.episode_ended_at_ms.is_some());
    assert_eq!(api.requests().len(), 2, "an alert that goes on asks for nothing new");
    world.running.stop.cancel();
    world.running.join().unwrap();
    drop(world.runtime);
}
