//! Models that another server computes, in front of a small server in this process that behaves as it is told.

use std::sync::Mutex;

use driftline::config::scorer::{ScorerConfig, parse_scorer_str};
use driftline::scorer::backend::Backend;
use driftline::scorer::engine::LazyEngine;
use driftline::scorer::proxy::Peer;
use driftline::scorer::proxy::version::register;
use driftline::scorer::registry::Registry;
use driftline::scorer::registry::change::Change;
use driftline::scorer::registry::commit::ChangeRequest;
use driftline::scorer::score::{Priority, ScoreError};
use driftline::scorer::serve::source::RegistrySource;
use driftline::scorer::tensor::Tensor;

use super::scorer_support::{features, scores};
use super::*;

/// What the server does with a request for scores.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Manner {
    Sound,
    /// Answers after a second.
    Slow,
    /// Answers with this status and the text `because`.
    Status(u16),
    /// Answers 200 with something else.
    Garbage,
    /// Answers with fewer bytes than it promised.
    CutOff,
    /// Answers with more bytes than are allowed.
    Endless,
}

/// Adds up each row of a request of the Open Inference Protocol, in JSON.
struct Elsewhere {
    address: std::net::SocketAddr,
    manner: Arc<Mutex<Manner>>,
    asked: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Elsewhere {
    async fn start(at: &str) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (manner, asked) = (Arc::new(Mutex::new(Manner::Sound)), Arc::new(AtomicU64::new(0)));
        let (own, count) = (manner.clone(), asked.clone());
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(answer(stream, own.clone(), count.clone()));
            }
        });
        Self { address, manner, asked, task }
    }

    /// Until nothing listens any more.
    async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    fn be(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(mut stream: TcpStream, manner: Arc<Mutex<Manner>>, asked: Arc<AtomicU64>) {
    let Some((path, body)) = request(&mut stream).await else { return };
    let manner = match path.ends_with("/infer") {
        true => {
            asked.fetch_add(1, Ordering::Relaxed);
            *manner.lock().unwrap()
        }
        false => Manner::Sound,
    };
    let (status, length, body) = match (manner, path.as_str()) {
        (Manner::Slow, _) => {
            tokio::time::sleep(Duration::from_secs(1)).await;
            (200, None, "late".into())
        }
        (Manner::Status(status), _) => (status, None, r#"{"error": "because"}"#.into()),
        (Manner::Garbage, _) => (200, None, "<html>".into()),
        (Manner::CutOff, _) => (200, Some(1_000), "{".into()),
        (Manner::Endless, _) => (200, None, " ".repeat(4_096)),
        (Manner::Sound, "/v2/models/sum") => (200, None, description()),
        (Manner::Sound, path) if path.ends_with("/infer") => (200, None, sums(&body)),
        (Manner::Sound, _) => (200, None, "{}".into()),
    };
    let length = length.unwrap_or(body.len());
    let head = format!(
        "HTTP/1.1 {status} X\r\nlocation: /elsewhere\r\nretry-after: 7\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
}

async fn request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..at]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.parse().unwrap());
            if bytes.len() >= at + 4 + length {
                let path = head.split(' ').nth(1)?.to_string();
                return Some((path, bytes[at + 4..].to_vec()));
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

fn description() -> String {
    let tensor = |name, width| json!([{"name": name, "datatype": "FP32", "shape": [-1, width]}]);
    json!({"name": "sum", "inputs": tensor("features", 2), "outputs": tensor("score", 1)}).to_string()
}

fn sums(body: &[u8]) -> String {
    let request: Value = serde_json::from_slice(body).unwrap();
    let data: Vec<f64> = serde_json::from_value(request["inputs"][0]["data"].clone()).unwrap();
    let sums: Vec<f64> = data.chunks(2).map(|row| row.iter().sum()).collect();
    let output = json!({"name": "score", "datatype": "FP32", "shape": [sums.len(), 1], "data": sums});
    json!({"model_name": "sum", "outputs": [output]}).to_string()
}

fn config(address: std::net::SocketAddr) -> ScorerConfig {
    let text = format!(
        "version: 1\nmodels:\n  fraud:\n    proxy:\n      kind: oip\n      url: http://{address}\n      \
         versions: {{'1': {{model: sum}}}}\n      timeout: 300ms\n      connect_timeout: 300ms\n      connect_retries: 1\n      \
         max_answer_bytes: 2048\n      health_interval: 50ms\n      circuit_failures: 3\n      circuit_open: 400ms\n"
    );
    parse_scorer_str("scorer.yaml", &text).into_result().unwrap_or_else(|found| panic!("{}", found.text(false))).value
}

async fn connect(config: &ScorerConfig, metrics: &Metrics) -> Result<Peer, String> {
    let proxy = config.models["fraud"].proxy.clone().unwrap();
    let (runtime, metrics) = (tokio::runtime::Handle::current(), metrics.clone());
    let connecting = move || Peer::connect("fraud", "1", &proxy, br#"{"model":"sum"}"#, &runtime, &metrics);
    tokio::task::spawn_blocking(connecting).await.unwrap()
}

async fn ask(peer: &Peer) -> Result<Vec<Tensor>, ScoreError> {
    peer.score(vec![features(2, &[1.5, 2.0, 0.1, 0.2])], Priority::Normal, None).await
}

fn outcomes(metrics: &Metrics, outcome: &str) -> u64 {
    metrics.proxy.requests.with_label_values(&["fraud", "1", outcome]).get()
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < Duration::from_secs(20), "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_answers_and_whatever_it_answers_wrongly_is_an_error_that_says_so() {
    let elsewhere = Elsewhere::start("127.0.0.1:0").await;
    let metrics = Metrics::new().unwrap();
    let peer = connect(&config(elsewhere.address), &metrics).await.unwrap();
    assert_eq!(peer.signature().unwrap().inputs[0].shape, [None, Some(2)]);
    assert_eq!(scores(&ask(&peer).await.unwrap()), [3.5, (f64::from(0.1_f32) + f64::from(0.2_f32)) as f32]);
    // Each is repeated more often than failures open the circuit: none of these is trouble of the whole server.
    for (manner, wanted) in [
        (Manner::Status(400), ScoreError::Invalid("answered 400: because".into())),
        (Manner::Status(404), ScoreError::Unavailable("answered 404: because".into())),
        (Manner::Status(500), ScoreError::Failed("answered 500: because".into())),
        (Manner::Status(302), ScoreError::Failed("a redirect (302), which is not followed".into())),
        (Manner::Garbage, ScoreError::Failed("an answer that cannot be read".into())),
        (Manner::Endless, ScoreError::Failed("answered with more than 2048 bytes".into())),
    ] {
        elsewhere.be(manner);
        for _ in 0..4 {
            let found = ask(&peer).await.unwrap_err();
            let is_kind = std::mem::discriminant(&found) == std::mem::discriminant(&wanted);
            assert!(is_kind && found.to_string().contains(&wanted.to_string()), "{manner:?}: {found:?}");
            assert!(found.to_string().starts_with("the server of version 1 of model fraud "), "{found}");
        }
    }
    elsewhere.be(Manner::Status(429));
    let busy = ask(&peer).await.unwrap_err();
    assert!(
        matches!(busy, ScoreError::QueueFull { retry_after, .. } if retry_after == Duration::from_secs(7)),
        "{busy}"
    );
    let found = ["ok", "refused", "nonsense", "busy"].map(|outcome| outcomes(&metrics, outcome));
    assert_eq!((found, elsewhere.asked()), ([1, 16, 8, 1], 26), "a redirect is not followed, nothing is sent twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_in_trouble_is_left_alone_and_then_tried_by_one_request() {
    let elsewhere = Elsewhere::start("127.0.0.1:0").await;
    for manner in [Manner::Slow, Manner::CutOff, Manner::Status(503)] {
        let metrics = Metrics::new().unwrap();
        elsewhere.be(Manner::Sound);
        let peer = connect(&config(elsewhere.address), &metrics).await.unwrap();
        elsewhere.be(manner);
        let before = elsewhere.asked();
        for _ in 0..3 {
            assert!(matches!(ask(&peer).await, Err(ScoreError::Unavailable(_))), "{manner:?}");
        }
        let left_alone = ask(&peer).await.unwrap_err();
        assert!(left_alone.to_string().contains("failed again and again"), "{manner:?}: {left_alone}");
        assert_eq!((elsewhere.asked() - before, peer.ready()), (3, false), "{manner:?}");
        assert_eq!(metrics.proxy.circuit_open.with_label_values(&["fraud", "1"]).get(), 1);
        elsewhere.be(Manner::Sound);
        until("a request is let through", || peer.ready()).await;
        assert!(ask(&peer).await.is_ok(), "{manner:?}");
        assert_eq!(metrics.proxy.circuit_open.with_label_values(&["fraud", "1"]).get(), 0);
        assert_eq!(outcomes(&metrics, "left_alone"), 1, "{manner:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_own_time_limit_says_nothing_of_the_server() {
    let elsewhere = Elsewhere::start("127.0.0.1:0").await;
    let metrics = Metrics::new().unwrap();
    let peer = connect(&config(elsewhere.address), &metrics).await.unwrap();
    elsewhere.be(Manner::Slow);
    for _ in 0..5 {
        let deadline = Some(Instant::now() + Duration::from_millis(20));
        let late = peer.score(vec![features(2, &[1.0, 2.0])], Priority::Normal, deadline).await;
        assert_eq!(late.unwrap_err(), ScoreError::Expired);
    }
    assert_eq!((outcomes(&metrics, "given_up"), peer.ready()), (5, true));
}

/// Of the registry, without ONNX Runtime: its library is said to be where there is none.
fn follow(folder: &std::path::Path, config: &ScorerConfig, scorer: &Arc<Scorer>) -> FollowHandle {
    let registry = Arc::new(Registry::open(folder).unwrap());
    let mut engine = config.engine.clone();
    engine.library = Some("none.so".into());
    let source = RegistrySource {
        registry,
        engine: Arc::new(LazyEngine::new(engine, folder.to_path_buf())),
        config: Arc::new(config.clone()),
        runtime: tokio::runtime::Handle::current(),
        metrics: scorer.metrics().clone(),
    };
    let settings = config.models.iter().map(|(name, model)| (name.clone(), Arc::new(model.clone()))).collect();
    Follower::new(Arc::new(source), scorer.clone(), settings).start().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_away_at_the_start_or_later_serves_within_seconds_once_it_is_there() {
    let elsewhere = Elsewhere::start("127.0.0.1:0").await;
    let address = elsewhere.address;
    elsewhere.stop().await;
    let (folder, config) = (tempfile::tempdir().unwrap(), config(address));
    let registry = Registry::open(folder.path()).unwrap();
    for _ in 0..2 {
        register(&registry, "fraud", config.models["fraud"].proxy.as_ref().unwrap(), 0).unwrap();
    }
    let promote = ChangeRequest {
        change: Change::Promote { version: "1".into(), force: false },
        expected_generation: None,
        expected_production: None,
        by: "test".into(),
        reason: String::new(),
        request_id: None,
    };
    registry.change("fraud", &promote, 0).unwrap();
    let scorer = Arc::new(Scorer::new(Metrics::new().unwrap(), None));
    let handle = follow(folder.path(), &config, &scorer);
    handle.refreshed().await;
    let reason = scorer.table().ready().unwrap_err();
    assert!(reason.contains("cannot be reached"), "{reason}");
    let told = scorer.model("fraud").err().unwrap();
    assert_eq!(told, ScoreError::Unavailable("model `fraud` is not ready to serve".into()));

    let elsewhere = Elsewhere::start(&address.to_string()).await;
    let since = Instant::now();
    until("it serves", || scorer.table().ready().is_ok()).await;
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
    let peer = scorer.model("fraud").unwrap().production().unwrap().backend.clone();
    let ask = || peer.score(vec![features(2, &[1.0, 2.0])], Priority::Normal, None);
    assert_eq!(scores(&ask().await.unwrap()), [3.0]);

    elsewhere.stop().await;
    until("it is not ready", || scorer.table().ready().is_err()).await;
    assert!(matches!(ask().await, Err(ScoreError::Unavailable(_))));
    let elsewhere = Elsewhere::start(&address.to_string()).await;
    until("it is ready again", || scorer.table().ready().is_ok()).await;
    assert_eq!(scores(&ask().await.unwrap()), [3.0]);
    elsewhere.stop().await;
}
