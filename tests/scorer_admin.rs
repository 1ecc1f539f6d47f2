//! The admin API over a socket, and the monitor's rollback through it, from the events to the registry on disk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scorer_support;
mod scorer_traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use driftline::cli::service::{Assembly, Roles, Running};
use driftline::cli::watched;
use driftline::config::receivers::Secret;
use driftline::config::scorer::{EventSettings, ScorerConfig};
use driftline::config::service::{Ingest, Role, Service, Token};
use driftline::config::units::Span;
use driftline::config::{parse_model_str, parse_rules_str};
use driftline::dispatch::actions::restore::read_runs;
use driftline::dispatch::actions::run::{RunRecord, RunState};
use driftline::dispatch::actions::target;
use driftline::dispatch::receiver::Receivers;
use driftline::http::access::Access;
use driftline::log::embedded::EmbeddedLog;
use driftline::log::topics::Topics;
use driftline::log::{Log, OutRecord, TopicSpec};
use driftline::reference::table::Table;
use driftline::reference::{Reference, Source};
use driftline::rules::RuleSet;
use driftline::scorer::admin::openapi::OPERATIONS;
use driftline::scorer::admin::{Admin, LoadedVersion, Serving, router};
use driftline::scorer::metrics::Metrics as ScorerMetrics;
use driftline::scorer::registry::manifest::MODEL_FILE;
use driftline::scorer::registry::register::Registration;
use driftline::scorer::registry::signing::{SigningKey, Trust};
use driftline::scorer::registry::{Change, ChangeRequest, Registry};
use driftline::scorer::score::{Priority, ScoreRequest};
use driftline::scorer::serve::Scorer;
use driftline::scorer::serve::follow::Follower;
use driftline::scorer::serve::source::RegistrySource;
use driftline::telemetry::Metrics;
use scorer_support::{FakeEngine, features, scores};
use serde_json::{Value, json};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const READ_TOKEN: &str = "fedcba9876543210fedcba9876543210";

/// A process that loads everything but what is broken.
#[derive(Default)]
struct Fake {
    broken: BTreeSet<&'static str>,
    prepared: Mutex<Vec<String>>,
    changes_told: Mutex<usize>,
}

#[async_trait]
impl Serving for Fake {
    async fn prepare(&self, _model: &str, version: &str) -> Result<(), String> {
        if self.broken.contains(version) {
            return Err("no model of ONNX".into());
        }
        self.prepared.lock().unwrap().push(version.into());
        Ok(())
    }

    fn changed(&self, _model: &str) {
        *self.changes_told.lock().unwrap() += 1;
    }

    fn loaded(&self, _model: &str) -> Vec<LoadedVersion> {
        vec![
            LoadedVersion { version: "2".into(), ready: Ok(()) },
            LoadedVersion { version: "3".into(), ready: Err("warming".into()) },
        ]
    }

    async fn load(&self, model: &str) -> Result<(), String> {
        if model == "fraud" { Ok(()) } else { Err("no such".into()) }
    }

    async fn unload(&self, model: &str) -> Result<(), String> {
        self.load(model).await
    }
}

struct World {
    folder: tempfile::TempDir,
    registry: Arc<Registry>,
    serving: Arc<Fake>,
    url: String,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

/// What happens once, between a question to the API and its first call of a rollback.
type Between = Arc<Mutex<Option<Box<dyn FnOnce(&Registry) + Send>>>>;

async fn meddle(
    State((between, registry)): State<(Between, Arc<Registry>)>,
    request: Request,
    next: Next,
) -> axum::response::Response {
    if request.uri().path().ends_with("/rollback") {
        let act = between.lock().unwrap().take();
        if let Some(act) = act {
            act(&registry);
        }
    }
    next.run(request).await
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_millis() as i64
}

fn change(registry: &Registry, change: Change) {
    let (by, reason) = ("tester".into(), String::new());
    let request =
        ChangeRequest { change, expected_generation: None, expected_production: None, by, reason, request_id: None };
    registry.change("fraud", &request, now_ms()).unwrap();
}

fn promote(registry: &Registry, version: &str) {
    change(registry, Change::Promote { version: version.into(), force: false });
}

/// Versions 1 to 4; 2 and then 3 are promoted.
fn world(serving: Fake, between: impl FnOnce(&Registry) + Send + 'static) -> World {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let registry = Arc::new(Registry::open(folder.path()).unwrap());
    for number in 1..=4_u8 {
        let files = BTreeMap::from([(MODEL_FILE.to_string(), vec![number; 64])]);
        let registration = Registration { model: "fraud".into(), files, ..Registration::default() };
        registry.register(&registration, None, now_ms()).unwrap();
    }
    promote(&registry, "2");
    promote(&registry, "3");
    let token = |name: &str, role, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        Token { name: name.into(), role, token: Secret { env: None, file: Some(path.display().to_string()) } }
    };
    let tokens = [token("monitor", Role::Operate, TOKEN), token("reader", Role::Read, READ_TOKEN)];
    let access = Access::at("127.0.0.1:0", &tokens).unwrap_or_else(|errors| panic!("{errors:?}"));
    let serving = Arc::new(serving);
    let admin = Admin { registry: registry.clone(), serving: serving.clone(), access: Arc::new(access), now_ms };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let between: Between = Arc::new(Mutex::new(Some(Box::new(between))));
    let app = router(admin).layer(from_fn_with_state((between, registry.clone()), meddle));
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    runtime.spawn(async move { axum::serve(listener, app).await });
    World { folder, registry, serving, url, client: reqwest::Client::new(), runtime }
}

impl World {
    fn ask(&self, method: &str, path: &str, body: Option<Value>, headers: &[(&str, &str)]) -> (u16, Value) {
        self.ask_as(Some(TOKEN), method, path, body.map(|body| body.to_string()), headers)
    }

    fn ask_as(
        &self,
        token: Option<&str>,
        method: &str,
        path: &str,
        body: Option<String>,
        headers: &[(&str, &str)],
    ) -> (u16, Value) {
        let method = reqwest::Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        self.runtime.block_on(async {
            let answer = request.send().await.unwrap();
            let status = answer.status().as_u16();
            let text = answer.text().await.unwrap();
            (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
        })
    }

    fn production(&self) -> String {
        self.registry.state("fraud").unwrap().production.unwrap()
    }
}

fn rollback_body(production: &str, generation: u64) -> Option<Value> {
    let expected = json!({"production": production, "generation": generation});
    Some(json!({"to": "last_good", "expected": expected, "reason": "psi 0.4", "run": "run-1"}))
}

const ROLLBACK: &str = "/admin/v1/models/fraud/rollback";

#[test]
fn the_two_requests_of_a_rollback_are_answered_as_they_are_documented() {
    let world = world(Fake::default(), |_| {});
    let (status, state) = world.ask("get", "/admin/v1/models/fraud", None, &[]);
    assert_eq!(status, 200);
    for (key, value) in [
        ("production", json!("3")),
        ("previous", json!("2")),
        ("canary", Value::Null),
        ("shadow", Value::Null),
        ("generation", json!(2)),
    ] {
        assert_eq!(state[key], value, "{key}");
    }
    assert!((now_ms() - state["promoted_at_ms"].as_i64().unwrap()) < 60_000);
    let key = [("idempotency-key", "driftline-1")];
    let (status, done) = world.ask("post", ROLLBACK, rollback_body("3", 2), &key);
    assert_eq!(status, 200, "{done}");
    assert_eq!((&done["production"], &done["previous"], &done["generation"]), (&json!("2"), &json!("3"), &json!(3)));
    let (status, again) = world.ask("post", ROLLBACK, rollback_body("3", 2), &key);
    assert_eq!((status, &again["generation"], &again["done_before"]), (200, &json!(3), &json!(true)));
    assert_eq!(world.registry.state("fraud").unwrap().generation, 3);
    let entry = world.registry.audit("fraud").unwrap().pop().unwrap();
    assert_eq!((entry.by.as_str(), entry.reason.as_str()), ("monitor", "psi 0.4"));
    assert_eq!(entry.request_id.as_deref(), Some("driftline-1"));
    assert_eq!(*world.serving.prepared.lock().unwrap(), ["2"], "loaded before it took over");
    assert_eq!(*world.serving.changes_told.lock().unwrap(), 1);
}

#[test]
fn a_rollback_of_another_version_or_generation_changes_nothing() {
    let world = world(Fake::default(), |_| {});
    let keyed = [("idempotency-key", "driftline-1")];
    for (production, generation) in [("2", 2), ("3", 1), ("4", 2)] {
        let (status, problem) = world.ask("post", ROLLBACK, rollback_body(production, generation), &keyed);
        assert_eq!(status, 409, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("nothing"), "{problem}");
    }
    assert_eq!(world.registry.state("fraud").unwrap().generation, 2);
    assert_eq!(world.ask("post", ROLLBACK, rollback_body("3", 2), &keyed).0, 200);
    let (status, problem) = world.ask("post", ROLLBACK, rollback_body("2", 3), &keyed);
    assert_eq!(status, 409, "one key, one version: {problem}");
    assert_eq!(world.production(), "2");
}

#[test]
fn a_version_that_cannot_be_loaded_or_was_changed_does_not_serve() {
    let world = world(Fake { broken: BTreeSet::from(["4"]), ..Fake::default() }, |_| {});
    let promote =
        |version: &str| world.ask("post", "/admin/v1/models/fraud/promote", Some(json!({"version": version})), &[]);
    let (status, problem) = promote("4");
    assert_eq!(status, 422);
    assert!(problem["detail"].as_str().unwrap().contains("nothing was changed: no model of ONNX"), "{problem}");
    let model = world.folder.path().join("models/fraud/versions/1/model.onnx");
    std::fs::remove_file(&model).unwrap();
    std::fs::write(&model, [1; 63]).unwrap();
    let (status, problem) = promote("1");
    assert_eq!(status, 422);
    assert!(problem["detail"].as_str().unwrap().contains("it was cut off or changed"), "{problem}");
    assert_eq!(promote("9").0, 404);
    assert_eq!(promote("..").0, 422);
    assert_eq!((world.production().as_str(), world.registry.state("fraud").unwrap().generation), ("3", 2));
}

#[test]
fn canary_and_shadow_come_and_go_and_the_audit_tells_of_them() {
    let world = world(Fake::default(), |_| {});
    let canary = json!({"version": "4", "buckets": 500, "step": 0, "reason": "trial"});
    let (status, answer) = world.ask("post", "/admin/v1/models/fraud/canary", Some(canary), &[]);
    assert_eq!((status, &answer["canary"], &answer["canary_buckets"]), (200, &json!("4"), &json!(500)), "{answer}");
    assert_eq!(world.ask("post", "/admin/v1/models/fraud/shadow", Some(json!({"version": "4"})), &[]).0, 409);
    assert_eq!(world.ask("post", "/admin/v1/models/fraud/shadow", Some(json!({"version": "1"})), &[]).0, 200);
    assert_eq!(world.ask("delete", "/admin/v1/models/fraud/canary?version=2", None, &[]).0, 409);
    assert_eq!(world.ask("delete", "/admin/v1/models/fraud/canary?version=4&reject=true", None, &[]).0, 200);
    assert_eq!(world.ask("delete", "/admin/v1/models/fraud/shadow", None, &[]).0, 200);
    assert_eq!(world.ask("post", "/admin/v1/models/fraud/promote", Some(json!({"version": "4"})), &[]).0, 409);
    let (_, audit) = world.ask("get", "/admin/v1/models/fraud/audit?limit=4", None, &[]);
    let what: Vec<&str> =
        audit["items"].as_array().unwrap().iter().map(|entry| entry["what"]["change"].as_str().unwrap()).collect();
    assert_eq!(what, ["clear_shadow", "clear_canary", "set_shadow", "set_canary"]);
    let (_, versions) = world.ask("get", "/admin/v1/models/fraud/versions", None, &[]);
    assert_eq!(versions["items"][3]["roles"], json!(["rejected"]));
}

#[test]
fn nothing_is_told_or_changed_without_a_token_of_the_right_role() {
    let world = world(Fake::default(), |_| {});
    for operation in &OPERATIONS {
        let path = operation.path.replace("{model}", "fraud").replace("{version}", "2");
        for token in [None, Some("0123456789abcdef0123456789abcdeX"), Some("")] {
            let (status, _) = world.ask_as(token, operation.method, &path, Some("{}".into()), &[]);
            assert_eq!(status, 401, "{} {path}", operation.method);
        }
        let (status, answer) = world.ask_as(Some(READ_TOKEN), operation.method, &path, Some("{}".into()), &[]);
        // No trial runs: what is asked of one is not found.
        let wanted: &[u16] = if operation.role == Role::Read { &[200, 404] } else { &[403] };
        assert!(wanted.contains(&status), "{} {path}: {status} {answer}", operation.method);
    }
    assert_eq!(world.registry.state("fraud").unwrap().generation, 2);
}

#[test]
fn what_cannot_be_read_gets_a_clear_refusal() {
    let world = world(Fake::default(), |_| {});
    let post = |body: &str| world.ask_as(Some(TOKEN), "post", ROLLBACK, Some(body.into()), &[]);
    for (body, status) in [
        ("", 400),
        ("{", 400),
        ("[]", 422),
        ("{}", 422),
        (r#"{"expected": {}}"#, 422),
        (r#"{"expected": {"production": 3}}"#, 422),
        (r#"{"expected": {"production": "3", "generation": -1}}"#, 422),
        (r#"{"expected": {"production": "3"}, "to": "../../etc"}"#, 422),
        (r#"{"expected": {"production": "3"}, "unknown": 1}"#, 422),
        (r#"{"expected": {"production": "3"}, "to": "3"}"#, 422),
    ] {
        let (found, problem) = post(body);
        assert_eq!(found, status, "{body}: {problem}");
        assert!(problem["detail"].as_str().unwrap().len() > 10, "{body}: {problem}");
    }
    assert_eq!(post(&" ".repeat(1 << 20)).0, 413);
    for path in ["/admin/v1/models/..%2f..", "/admin/v1/models/%2e%2e/versions", "/admin/v1/models/a%00b"] {
        let (status, problem) = world.ask("get", path, None, &[]);
        assert!([404, 422].contains(&status), "{path}: {status} {problem}");
    }
    assert_eq!(world.ask("put", "/admin/v1/models/fraud", None, &[]).0, 405);
    let (status, _) = world.ask("post", ROLLBACK, rollback_body("3", 2), &[("idempotency-key", "")]);
    assert_eq!(status, 400);
    assert_eq!(world.registry.state("fraud").unwrap().generation, 2);
}

#[test]
fn the_repository_extension_lists_loads_and_unloads() {
    let world = world(Fake::default(), |_| {});
    let (status, index) = world.ask("post", "/v2/repository/index", None, &[]);
    assert_eq!(status, 200);
    let states: Vec<(&str, &str)> = index
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (item["version"].as_str().unwrap(), item["state"].as_str().unwrap()))
        .collect();
    assert_eq!(states, [("1", "UNAVAILABLE"), ("2", "READY"), ("3", "UNAVAILABLE"), ("4", "UNAVAILABLE")]);
    assert_eq!(index[2]["reason"], "warming");
    let (_, ready) = world.ask("post", "/v2/repository/index", Some(json!({"ready": true})), &[]);
    assert_eq!(ready.as_array().unwrap().len(), 1);
    assert_eq!(world.ask("post", "/v2/repository/models/fraud/unload", None, &[]).0, 200);
    assert_eq!(world.ask("post", "/v2/repository/models/fraud/load", Some(json!({"parameters": {}})), &[]).0, 200);
    assert_eq!(world.ask("post", "/v2/repository/models/other/load", None, &[]).0, 404);
}

#[test]
fn the_document_has_every_operation() {
    let document = driftline::scorer::admin::openapi::document();
    assert_eq!(document["openapi"], "3.1.0");
    for operation in &OPERATIONS {
        assert!(document["paths"][operation.path][operation.method].is_object(), "{}", operation.path);
    }
    let text = document.to_string();
    for name in ["ChangeAnswer", "RollbackRequest", "AuditEntry", "Manifest"] {
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
    assert!(!text.contains("http.tokens"), "the monitor's key stands in the scorer's document");
}

// From here on: the monitor.

const HOUR_MS: i64 = 3_600_000;
/// 2026-03-01T00:00:00Z.
const START_MS: i64 = 1_772_323_200_000;
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
    model: fraud@*
    when: {warn: psi > 0.1, critical: psi > 0.25}
    actions: [rollback-fraud]
routes: [{to: [bus]}]
receivers: {bus: {kafka: {topic: alerts}}}
actions:
  rollback-fraud:
    rollback: {scorer: '{url}', to: last_good, token: {file: '{token}'}}
    guard: {within: 72h of promotion}
    cooldown: 6h
";

fn amount(row: i64, shift: f64) -> f64 {
    // A permutation of 0..600, spread evenly: the same distribution in every hour.
    ((row * 7_919) % ROWS) as f64 / ROWS as f64 + shift
}

struct Monitor {
    log: EmbeddedLog,
    topics: Topics,
    running: Running,
}

fn monitor(world: &World) -> Monitor {
    let model = Arc::new(parse_model_str("fraud.yaml", MODEL).map_err(|errors| errors.text(false)).unwrap().value);
    let reference = reference(&model, world.folder.path());
    let token = world.folder.path().join("monitor").display().to_string();
    let rules = RULES.replace("{url}", &world.url).replace("{token}", &token);
    let rules = parse_rules_str("rules.yaml", &rules).map_err(|errors| errors.text(false)).unwrap().value;
    let rules = RuleSet::compile(&[("rules.yaml".into(), rules)], std::slice::from_ref(&model)).unwrap();
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
    let running = assembly.start(world.runtime.handle(), None).unwrap();
    Monitor { log, topics, running }
}

fn reference(model: &driftline::config::model::Model, folder: &Path) -> Reference {
    let path = folder.join("reference.jsonl");
    let lines: Vec<String> = (0..5 * ROWS).map(|row| json!({"amount": amount(row, 0.0)}).to_string()).collect();
    std::fs::write(&path, lines.join("\n")).unwrap();
    let table = Table::read(&path).unwrap();
    Reference::build(model, "training", &table.batches, &BTreeMap::new(), Source::default(), 0).unwrap()
}

impl Monitor {
    fn hour(&self, number: i64, version: &str, shift: f64) {
        let event = |row: i64| {
            let at = START_MS + number * HOUR_MS + row * HOUR_MS / ROWS;
            let value = json!({"at": at, "version": version, "amount": amount(row, shift)}).to_string();
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
        let deadline = Instant::now() + Duration::from_secs(90);
        loop {
            let runs = read_runs(&self.log, &self.topics.actions).unwrap();
            if let Some(run) = runs.iter().find(|run| is_so(run)) {
                return run.clone();
            }
            assert!(Instant::now() < deadline, "{what}: {runs:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn stop(self) {
        self.running.stop.cancel();
        self.running.join().unwrap();
    }
}

#[test]
fn an_alert_about_the_version_in_production_rolls_it_back() {
    let world = world(Fake::default(), |_| {});
    let monitor = monitor(&world);
    for (hour, shift) in [(0, 0.0), (1, 0.5), (2, 0.5)] {
        monitor.hour(hour, "3", shift);
    }
    let run = monitor.wait_for("it is rolled back", |run| run.state == RunState::Succeeded);
    let state = world.registry.state("fraud").unwrap();
    assert_eq!((state.production.as_deref(), state.previous.as_deref()), (Some("2"), Some("3")));
    assert_eq!((state.generation, state.rejected), (3, vec!["3".to_string()]));
    assert_eq!(run.reason(), "2 is in production, not 3");
    let entry = world.registry.audit("fraud").unwrap().pop().unwrap();
    assert_eq!((entry.by.as_str(), entry.request_id), ("monitor", Some(run.name())));
    monitor.stop();
}

#[test]
fn an_alert_about_an_old_version_never_rolls_back_the_one_in_production() {
    let world = world(Fake::default(), |_| {});
    let monitor = monitor(&world);
    for hour in 0..6 {
        monitor.hour(hour, "2", if hour == 0 { 0.0 } else { 0.5 });
        let _ = hour;
    }
    let run = monitor.wait_for("it is held back", |run| run.state == RunState::Blocked);
    assert!(run.reason().contains('3'), "the version in production is named: {}", run.reason());
    monitor.hour(6, "2", 0.5);
    std::thread::sleep(Duration::from_secs(2));
    let state = world.registry.state("fraud").unwrap();
    assert_eq!((state.production.as_deref(), state.generation), (Some("3"), 2));
    monitor.stop();
}

#[test]
fn a_promotion_between_question_and_call_stands() {
    let world = world(Fake::default(), |registry| promote(registry, "4"));
    let monitor = monitor(&world);
    for (hour, shift) in [(0, 0.0), (1, 0.5), (2, 0.5)] {
        monitor.hour(hour, "3", shift);
    }
    let run = monitor.wait_for("the call is refused", |run| run.state == RunState::Failed);
    assert!(run.reason().contains("the registry has changed since it was asked"), "{}", run.reason());
    let state = world.registry.state("fraud").unwrap();
    assert_eq!((state.production.as_deref(), state.previous.as_deref()), (Some("4"), Some("3")));
    assert_eq!(state.generation, 3);
    monitor.stop();
}

// From here on: the process that serves, with an engine that adds up.

fn linear(bias: u8) -> Registration {
    let files = BTreeMap::from([(MODEL_FILE.to_string(), format!("linear 0 + {bias}").into_bytes())]);
    Registration { model: "fraud".into(), files, ..Registration::default() }
}

fn score(runtime: &tokio::runtime::Runtime, scorer: &Scorer) -> (String, f32) {
    let request = ScoreRequest {
        model: "fraud".into(),
        version: None,
        arm: None,
        id: None,
        entity: None,
        inputs: vec![features(1, &[1.0])],
        outputs: Vec::new(),
        priority: Priority::Normal,
        deadline: None,
    };
    let answer = runtime.block_on(scorer.score(request)).unwrap();
    let score = scores(&answer.outputs)[0];
    (answer.version, score)
}

#[test]
fn a_version_that_is_cut_off_changed_or_unsigned_leaves_the_old_one_serving() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (key, _) = SigningKey::generate().unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    for number in 1..=4 {
        let key = (number != 4).then_some(&key);
        registry.register(&linear(number), key, 0).unwrap();
    }
    promote(&registry, "1");
    let trusting = Registry::open(folder.path()).unwrap().with_trust(Trust::new(true, [key.public()]));
    let config = ScorerConfig {
        events: EventSettings { enabled: false, ..EventSettings::default() },
        ..ScorerConfig::default()
    };
    let metrics = ScorerMetrics::new().unwrap();
    let source = RegistrySource {
        registry: Arc::new(trusting),
        engine: Arc::new(FakeEngine::default()),
        config: Arc::new(config),
        runtime: runtime.handle().clone(),
        metrics: metrics.clone(),
    };
    let scorer = Arc::new(Scorer::new(metrics, None));
    let follow = Follower::new(Arc::new(source), scorer.clone(), BTreeMap::new()).start().unwrap();
    runtime.block_on(follow.refreshed());
    assert_eq!(score(&runtime, &scorer), ("1".into(), 1.0));

    overwrite(folder.path(), "2", |bytes| bytes.truncate(bytes.len() - 1));
    overwrite(folder.path(), "3", |bytes| bytes[11] ^= 1);
    // Each is promoted by somebody who checks nothing: the process that serves must.
    for version in ["2", "3", "4"] {
        promote_by_hand(folder.path(), version);
        runtime.block_on(follow.refreshed());
        assert_eq!(score(&runtime, &scorer), ("1".into(), 1.0), "after version {version}");
    }
    registry.sign("fraud", "4", &key).unwrap();
    runtime.block_on(follow.load("fraud")).unwrap();
    assert_eq!(score(&runtime, &scorer), ("4".into(), 4.0));
}

fn promote_by_hand(registry: &Path, version: &str) {
    let file = registry.join("models/fraud/state.json");
    let mut state: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    state["production"] = json!(version);
    state["generation"] = json!(state["generation"].as_u64().unwrap() + 1);
    std::fs::write(&file, state.to_string()).unwrap();
}

fn overwrite(registry: &Path, version: &str, edit: impl FnOnce(&mut Vec<u8>)) {
    let file = registry.join("models/fraud/versions").join(version).join(MODEL_FILE);
    let mut bytes = std::fs::read(&file).unwrap();
    edit(&mut bytes);
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, bytes).unwrap();
}
