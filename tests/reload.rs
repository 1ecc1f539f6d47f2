//! A running process takes up another configuration whole or not at all, and loses and doubles nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use driftline::cli::host::{Host, Parts};
use driftline::cli::loaded::{self, Loaded};
use driftline::cli::sample::Sampler;
use driftline::cli::service::Roles;
use driftline::log::embedded::EmbeddedLog;
use driftline::log::topics::Topics;
use driftline::log::{Log, OutRecord, TopicSpec, read_to_end};
use driftline::telemetry::Metrics;
use driftline::windows::result::WindowResult;
use support::{Workspace, create_topic, http_get, wait_until};

const MINUTE_MS: i64 = 60_000;
/// 2026-01-01T00:00:00Z
const START_MS: i64 = 1_767_225_600_000;
const TOPIC: &str = "predictions";

const MODEL: &str = "version: 1
model: fraud
topics: [predictions]
fields: {timestamp: timestamp, model: model, version: version, prediction_id: id, features: features.*}
features:
  amount: {type: numeric, required: true}
  age_days: numeric
  merchant_category: categorical
  country: categorical
score: {path: score, type: numeric}
references: {training: {path: ../training.jsonl}}
windows: {size: 1m, watermark_delay: 0s, allowed_lateness: 10m, idle_after: 1s}
";

fn rules(names: &[&str]) -> String {
    let rule = |name: &&str| {
        format!("  - {{name: {name}, model: fraud@*, min_samples: 50, when: {{critical: psi > 0.25}}}}\n")
    };
    let rules: String = names.iter().map(rule).collect();
    format!(
        "version: 1\nrules:\n{rules}routes:\n  - {{match: {{}}, to: [hook]}}\nreceivers:\n  hook: {{webhook: {{url: \"http://127.0.0.1:1/\", allow_private: true}}}}\n"
    )
}

struct World {
    workspace: Workspace,
    log: EmbeddedLog,
    metrics: Metrics,
    host: Option<Host>,
    runtime: tokio::runtime::Runtime,
}

impl World {
    fn new() -> Self {
        let extra = "ingest: {flush_interval: 20ms}\n";
        let workspace = Workspace::on_broker("localhost:1", "reload", MODEL, &rules(&["drift"]), extra);
        let rows = workspace.must(&["produce-sample", "--reference", "5000"]);
        std::fs::write(workspace.dir.join("training.jsonl"), rows).unwrap();
        workspace.must(&["reference", "build"]);
        let log = EmbeddedLog::new();
        log.create_topics(&Topics::new("reload").specs(2, -1)).unwrap();
        let spec = TopicSpec { name: TOPIC.into(), partitions: 2, replication: -1, config: vec![] };
        log.create_topics(&[spec]).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let metrics = Metrics::new().unwrap();
        let shared: Arc<dyn Log> = Arc::new(log.clone());
        let loaded = Loaded::of(loaded::files(Some(&workspace.dir.join("driftline.yaml"))).unwrap(), &shared).unwrap();
        let parts =
            Parts { log: shared, roles: Roles::ALL, metrics: metrics.clone(), runtime: runtime.handle().clone() };
        let (sender, _) = tokio::sync::mpsc::channel(1);
        let bind = format!("127.0.0.1:{}", workspace.http_port);
        let listener = runtime.block_on(tokio::net::TcpListener::bind(bind)).unwrap();
        let host = Some(Host::start(parts, loaded, Some(listener), sender).unwrap());
        Self { workspace, log, metrics, host, runtime }
    }

    fn reload(&mut self) -> Result<driftline::http::write::Reloaded, String> {
        let path = self.workspace.dir.join("driftline.yaml");
        self.host.as_mut().unwrap().reload(Some(&path))
    }

    fn write_rules(&self, text: &str) {
        std::fs::write(self.workspace.dir.join("rules/rules.yaml"), text).unwrap();
    }

    fn append(&self, events: impl Iterator<Item = String>) {
        append(&self.log, events);
    }

    /// The last revision of each window over all events.
    fn windows(&self) -> BTreeMap<i64, WindowResult> {
        let mut windows: BTreeMap<i64, WindowResult> = BTreeMap::new();
        for partition in 0..2 {
            read_to_end(&self.log, "reload.results", partition, |_, value| {
                let result: WindowResult = serde_json::from_slice(value.unwrap()).unwrap();
                let newer = windows.get(&result.window.start_ms).is_none_or(|held| held.revision <= result.revision);
                if result.segment.is_all() && newer {
                    windows.insert(result.window.start_ms, result);
                }
            })
            .unwrap();
        }
        windows
    }

    fn end(mut self) {
        self.host.take().unwrap().join().unwrap();
        self.runtime.shutdown_background();
    }
}

fn append(log: &EmbeddedLog, events: impl Iterator<Item = String>) {
    let record = |(index, event): (usize, String)| OutRecord {
        topic: TOPIC.into(),
        partition: Some((index % 2) as i32),
        value: Some(event.into_bytes()),
        ..OutRecord::default()
    };
    log.append(events.enumerate().map(record).collect()).unwrap();
}

fn batch(sampler: &mut Sampler, at_ms: i64, events: usize) -> Vec<String> {
    (0..events).map(|_| sampler.event(at_ms, false).to_string()).collect()
}

#[test]
fn ten_reloads_under_load_lose_and_double_no_event() {
    let mut world = World::new();
    let (stop, next_ms) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(START_MS)));
    let producer = {
        let (log, stop, next_ms) = (world.log.clone(), stop.clone(), next_ms.clone());
        std::thread::spawn(move || {
            let mut sampler = Sampler::new(3);
            let mut sent: BTreeMap<i64, u64> = BTreeMap::new();
            while !stop.load(Ordering::SeqCst) {
                let at_ms = next_ms.fetch_add(2_000, Ordering::SeqCst);
                append(&log, batch(&mut sampler, at_ms, 40).into_iter());
                *sent.entry(at_ms - at_ms.rem_euclid(MINUTE_MS)).or_default() += 40;
                std::thread::sleep(Duration::from_millis(10));
            }
            sent
        })
    };
    for round in 0..10 {
        std::thread::sleep(Duration::from_millis(150));
        let names: &[&str] = if round % 2 == 0 { &["drift", "second"] } else { &["drift"] };
        world.write_rules(&rules(names));
        assert_eq!(world.reload().unwrap().rules, names.len());
        let page = http_get(world.workspace.http_port, "/-/healthy").expect("the pages stay");
        assert_eq!(page.0, 200);
    }
    std::thread::sleep(Duration::from_millis(200));
    stop.store(true, Ordering::SeqCst);
    let sent = producer.join().unwrap();
    let end_ms = next_ms.load(Ordering::SeqCst) + 5 * MINUTE_MS;
    world.append(batch(&mut Sampler::new(4), end_ms, 2).into_iter());
    let counted = |world: &World| -> BTreeMap<i64, u64> {
        let windows = world.windows();
        sent.keys().filter_map(|start_ms| Some((*start_ms, windows.get(start_ms)?.rows))).collect()
    };
    wait_until("every window to have every event once", Duration::from_secs(60), || counted(&world) == sent);
    let windows = world.windows();
    assert!(windows.values().all(|result| result.complete), "no reload leaves a gap");
    world.end();
}

#[test]
fn a_wrong_configuration_leaves_everything_as_it_was() {
    let mut world = World::new();
    let successful = |world: &World| world.metrics.config_last_reload_successful.get();
    assert_eq!(successful(&world), 1);
    let since = world.metrics.config_last_reload_success_seconds.get();
    world.write_rules(&rules(&["drift"]).replace("psi > 0.25", "pis > 0.25"));
    let refused = world.reload().unwrap_err();
    assert!(refused.contains("rules.yaml:3:") && refused.contains("did you mean"), "{refused}");
    assert_eq!((successful(&world), world.metrics.config_last_reload_success_seconds.get()), (0, since));
    world.append(batch(&mut Sampler::new(5), START_MS, 100).into_iter());
    world.append(batch(&mut Sampler::new(6), START_MS + 3 * MINUTE_MS, 2).into_iter());
    wait_until("the earlier rules to go on", Duration::from_secs(60), || {
        world.windows().get(&START_MS).is_some_and(|result| result.rows == 100)
    });
    let text = std::fs::read_to_string(world.workspace.dir.join("driftline.yaml")).unwrap();
    std::fs::write(world.workspace.dir.join("driftline.yaml"), text.replace("app: reload", "app: other")).unwrap();
    world.write_rules(&rules(&["drift"]));
    let refused = world.reload().unwrap_err();
    assert!(refused.contains("`app` has changed") && refused.contains("restart it"), "{refused}");
    std::fs::write(world.workspace.dir.join("driftline.yaml"), &text).unwrap();
    assert_eq!(world.reload().unwrap().rules, 1);
    assert_eq!(successful(&world), 1);
    assert!(world.metrics.config_last_reload_success_seconds.get() > since);
    world.end();
}

#[test]
fn a_promoted_reference_and_a_new_model_take_effect() {
    let mut world = World::new();
    let before = world.workspace.must(&["reference", "list", "--format", "json"]);
    let rows = world.workspace.must(&["produce-sample", "--reference", "4000"]);
    std::fs::write(world.workspace.dir.join("training.jsonl"), rows).unwrap();
    world.workspace.must(&["reference", "build"]);
    let id_in_force = |text: &str| -> String {
        let listed: serde_json::Value = serde_json::from_str(text).unwrap();
        let one = listed.as_array().unwrap().iter().find(|one| one["in_force"] == true).unwrap();
        one["id"].as_str().unwrap().to_string()
    };
    let after = id_in_force(&world.workspace.must(&["reference", "list", "--format", "json"]));
    assert_ne!(id_in_force(&before), after);
    let close = |world: &World, minute: i64| {
        world.append(batch(&mut Sampler::new(7), START_MS + minute * MINUTE_MS, 100).into_iter());
        world.append(batch(&mut Sampler::new(8), START_MS + (minute + 2) * MINUTE_MS, 2).into_iter());
        let start_ms = START_MS + minute * MINUTE_MS;
        wait_until("the window", Duration::from_secs(60), || world.windows().contains_key(&start_ms));
        world.windows()[&start_ms].reference_id.clone()
    };
    assert_eq!(close(&world, 0), id_in_force(&before));
    let other = MODEL.replace("model: fraud\n", "model: fraud2\n").replace("model: model, ", "");
    let other = other.replace("topics: [predictions]", "topics: [others]");
    std::fs::write(world.workspace.dir.join("models/other.yaml"), other).unwrap();
    let refused = world.reload().unwrap_err();
    assert!(refused.contains("driftline reference build --model fraud2"), "{refused}");
    world.workspace.must(&["reference", "build", "--model", "fraud2"]);
    let refused = world.reload().unwrap_err();
    assert!(refused.contains("topic `others` of model `fraud2` does not exist"), "{refused}");
    create_topic(&world.log, "others", 1);
    assert_eq!(world.reload().unwrap().models, 2);
    let seen: BTreeSet<String> = (10..13).map(|minute| close(&world, minute)).collect();
    assert!(seen.contains(&after), "{seen:?} has no {after}");
    let (_, models) = http_get(world.workspace.http_port, "/api/v1/models").unwrap();
    assert!(models.contains("fraud2"), "pages know of it: {models}");
    world.end();
}
