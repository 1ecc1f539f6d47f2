//! Traffic through a running scorer: the registry on disk, the server, the admin API and the trials, on a fake engine.

mod experiments;
mod kill;
mod shadow;
mod trials;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use driftline::config::receivers::Secret;
use driftline::config::scorer::{HttpSettings, ModelSettings, ScorerConfig, parse_scorer_str};
use driftline::config::service::{Role, Token};
use driftline::http::access::Access;
use driftline::scorer::admin::{Admin, router};
use driftline::scorer::metrics::Metrics;
use driftline::scorer::registry::manifest::MODEL_FILE;
use driftline::scorer::registry::register::Registration;
use driftline::scorer::registry::state::ServingState;
use driftline::scorer::registry::{Change, ChangeRequest, Registry};
use driftline::scorer::score::{Priority, ScoreError, ScoreRequest, ScoreResponse};
use driftline::scorer::serve::Scorer;
use driftline::scorer::serve::follow::{FollowHandle, Follower};
use driftline::scorer::serve::http::Context;
use driftline::scorer::serve::http::server::HttpServer;
use driftline::scorer::serve::serving::Here;
use driftline::scorer::serve::source::RegistrySource;
use driftline::scorer::serve::trials::Turns;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::TOKEN;
use crate::scorer_support::{FakeEngine, features};

thread_local! {
    /// How far this test's trials are ahead of the wall clock.
    static AHEAD_MS: Cell<i64> = const { Cell::new(0) };
}

fn now_ms() -> i64 {
    crate::now_ms() + AHEAD_MS.get()
}

/// Lets time pass for the trials.
fn pass(seconds: i64) {
    AHEAD_MS.set(AHEAD_MS.get() + seconds * 1_000);
}

/// A process that serves, on a registry that outlives it.
struct Running {
    registry: Arc<Registry>,
    scorer: Arc<Scorer>,
    follow: FollowHandle,
    turns: Turns,
    client: reqwest::Client,
    inference: String,
    admin: String,
    stop: CancellationToken,
    server: Option<HttpServer>,
    sent: Cell<u64>,
}

/// A registry with versions 1, 2, ... of a model, the first of them in production.
fn registry(folder: &Path, model: &str, versions: &[&str]) -> Arc<Registry> {
    let registry = Arc::new(Registry::open(folder).unwrap());
    for (number, text) in versions.iter().enumerate() {
        // The same bytes would be the same version.
        let text = format!("{text}{}", " ".repeat(number));
        let files = BTreeMap::from([(MODEL_FILE.to_string(), text.into_bytes())]);
        registry.register(&Registration { model: model.into(), files, ..Registration::default() }, None, 0).unwrap();
    }
    change(&registry, model, Change::Promote { version: "1".into(), force: false });
    registry
}

fn change(registry: &Registry, model: &str, change: Change) {
    let (by, reason) = ("tester".into(), String::new());
    let request =
        ChangeRequest { change, expected_generation: None, expected_production: None, by, reason, request_id: None };
    registry.change(model, &request, crate::now_ms()).unwrap();
}

/// Settings from the text of `models:`.
fn settings(models: &str) -> ScorerConfig {
    let text = format!("version: 1\nregistry: registry\nevents: {{enabled: false}}\nmodels:\n{models}");
    parse_scorer_str("scorer.yaml", &text).into_result().unwrap_or_else(|found| panic!("{}", found.text(false))).value
}

impl Running {
    async fn start(registry: &Arc<Registry>, config: &ScorerConfig) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let models: BTreeMap<String, Arc<ModelSettings>> =
            config.models.iter().map(|(name, model)| (name.clone(), Arc::new(model.clone()))).collect();
        let metrics = Metrics::new().unwrap();
        let source = RegistrySource {
            registry: registry.clone(),
            engine: Arc::new(FakeEngine::default()),
            config: Arc::new(config.clone()),
            runtime: tokio::runtime::Handle::current(),
            metrics: metrics.clone(),
        };
        let scorer = Arc::new(Scorer::new(metrics, None));
        let patience = Duration::from_millis(300);
        let follower = Follower::new(Arc::new(source), scorer.clone(), models).with_patience(patience);
        let follow = follower.start().unwrap();
        follow.refreshed().await;
        let stop = CancellationToken::new();
        let http = HttpSettings::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = HttpServer::start(listener, Arc::new(Context::new(scorer.clone(), &http)), &http, &stop).unwrap();
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), TOKEN).unwrap();
        let token = Secret { env: None, file: Some(secret.path().display().to_string()) };
        let tokens = [Token { name: "operator".into(), role: Role::Admin, token }];
        let access = Access::at("127.0.0.1:0", &tokens).unwrap_or_else(|errors| panic!("{errors:?}"));
        let serving = Arc::new(Here { scorer: scorer.clone(), follow: follow.clone() });
        let admin = Admin { registry: registry.clone(), serving, access: Arc::new(access), now_ms: crate::now_ms };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin_url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router(admin)).await });
        Self {
            turns: Turns::new(registry.clone(), scorer.clone(), follow.clone(), now_ms),
            registry: registry.clone(),
            scorer,
            follow,
            client: reqwest::Client::new(),
            inference: format!("http://{}", server.address()),
            admin: admin_url,
            stop,
            server: Some(server),
            sent: Cell::new(0),
        }
    }

    /// A call of the admin API about the model `fraud`: status and answer.
    async fn admin(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let request = self.client.request(method, format!("{}/admin/v1/models/fraud{path}", self.admin));
        let request = request.bearer_auth(TOKEN).body(body.map(|body| body.to_string()).unwrap_or_default());
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn told(&self, path: &str) -> Value {
        let (status, answer) = self.admin("GET", path, None).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// Puts version 2 on trial with so many buckets, at the first step.
    async fn try_version_two(&self, buckets: u32) {
        let body = json!({"version": "2", "buckets": buckets, "step": 0, "reason": "a test"});
        let (status, answer) = self.admin("POST", "/canary", Some(body)).await;
        assert_eq!(status, 200, "{answer}");
        self.follow.refreshed().await;
    }

    /// One request over HTTP: status, arm and version.
    async fn infer(&self, entity: &str, headers: &[(&str, &str)], row: [f32; 1]) -> (u16, String, String) {
        let body = json!({"inputs": [{"name": "features", "shape": [1, 1], "datatype": "FP32", "data": row}]});
        let request = self.client.post(format!("{}/v2/models/fraud/infer", self.inference));
        let request = request.header("driftline-entity", entity).body(body.to_string());
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let answer = request.send().await.unwrap();
        let header = |name: &str| {
            answer.headers().get(name).map(|value| value.to_str().unwrap().to_string()).unwrap_or_default()
        };
        (answer.status().as_u16(), header("driftline-arm"), header("driftline-version"))
    }

    /// One request without the detour over HTTP.
    async fn score(&self, model: &str, row: f32, within: Option<Duration>) -> Result<ScoreResponse, ScoreError> {
        let number = self.sent.replace(self.sent.get() + 1);
        let request = ScoreRequest {
            model: model.into(),
            version: None,
            arm: None,
            id: None,
            entity: Some(format!("customer-{number}")),
            inputs: vec![features(1, &[row])],
            outputs: Vec::new(),
            priority: Priority::Normal,
            deadline: within.map(|within| Instant::now() + within),
        };
        self.scorer.score(request).await
    }

    /// So many requests, each of another entity; gives how many failed.
    async fn ask(&self, requests: usize, row: impl Fn(usize) -> f32) -> usize {
        let mut failed = 0;
        for number in 0..requests {
            failed += usize::from(self.score("fraud", row(number), None).await.is_err());
        }
        failed
    }

    /// A turn of the trials; what serves is as they left it afterwards.
    async fn turn(&mut self) {
        self.turns.all();
        self.follow.refreshed().await;
    }

    /// The newest decision's verdict, and the whole of it.
    async fn decision(&self) -> (String, Value) {
        let decision = self.told("/trial").await["last"].clone();
        (decision["verdict"].as_str().unwrap().to_string(), decision)
    }

    fn state(&self) -> ServingState {
        self.registry.state("fraud").unwrap()
    }

    fn metric(&self, series: &str) -> f64 {
        let text = self.scorer.metrics().text();
        let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
        drop(self.server.take());
    }
}
