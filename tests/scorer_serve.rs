//! The scorer's centre and its servers, on a fake engine: what clients get, and that a swap is felt by none of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "scorer_serve/grpc.rs"]
mod grpc;
#[path = "scorer_serve/proxy.rs"]
mod proxy;
mod scorer_support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use driftline::config::scorer::HttpSettings;
use driftline::scorer::metrics::Metrics;
use driftline::scorer::registry::state::{Canary, ServingState};
use driftline::scorer::serve::Scorer;
use driftline::scorer::serve::follow::{FollowHandle, Follower};
use driftline::scorer::serve::http::Context;
use driftline::scorer::serve::http::server::HttpServer;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use scorer_support::shelf::Shelf;

struct Running {
    shelf: Arc<Shelf>,
    scorer: Arc<Scorer>,
    follow: FollowHandle,
    address: std::net::SocketAddr,
    stop: CancellationToken,
    server: Option<HttpServer>,
}

impl Running {
    /// Version 1 scores 1 whatever comes, version 2 scores 2.
    async fn start(settings: HttpSettings) -> Self {
        let shelf = Arc::new(Shelf::default());
        shelf.put("1", "linear 0 0 + 1");
        shelf.put("2", "linear 0 0 + 2");
        shelf.put("sum", "linear 1 1 + 0");
        shelf.state(|state| state.production = Some("1".into()));
        let scorer = Arc::new(Scorer::new(Metrics::new().unwrap(), None));
        let follow = Follower::new(shelf.clone(), scorer.clone(), BTreeMap::new()).start().unwrap();
        follow.refreshed().await;
        let stop = CancellationToken::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let context = Arc::new(Context::new(scorer.clone(), &settings));
        let server = HttpServer::start(listener, context, &settings, &stop).unwrap();
        Self { shelf, scorer, follow, address: server.address(), stop, server: Some(server) }
    }

    async fn change(&self, change: impl FnOnce(&mut ServingState)) {
        self.shelf.state(change);
        self.follow.refreshed().await;
    }

    async fn ask(&self, request: &[u8]) -> Reply {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        exchange(&mut stream, request).await
    }

    async fn get(&self, path: &str) -> Reply {
        self.ask(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await
    }

    async fn post(&self, path: &str, headers: &str, body: &[u8]) -> Reply {
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.ask(&request).await
    }

    async fn infer(&self, headers: &str, body: &Value) -> Reply {
        self.post("/v2/models/fraud/infer", headers, body.to_string().as_bytes()).await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
        drop(self.server.take());
    }
}

#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_else(|| panic!("no error: {self:?}")).to_string()
    }
}

async fn exchange(stream: &mut TcpStream, request: &[u8]) -> Reply {
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(request).await;
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut bytes)).await;
    reply(&bytes)
}

fn reply(bytes: &[u8]) -> Reply {
    let at = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let at = at.unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(bytes)));
    let head = String::from_utf8_lossy(&bytes[..at]).into_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, head, body: bytes[at + 4..].to_vec() }
}

fn rows(data: &Value, shape: &Value) -> Value {
    json!({"inputs": [{"name": "features", "shape": shape, "datatype": "FP32", "data": data}]})
}

#[tokio::test]
async fn a_request_in_json_is_answered_with_version_arm_and_id() {
    let running = Running::start(HttpSettings::default()).await;
    running.change(|state| state.production = Some("sum".into())).await;
    let mut body = rows(&json!([[1.5, 2], [0.1, 0.2]]), &json!([2, 2]));
    body["id"] = "mine".into();
    let reply = running.infer("", &body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let expected = json!({
        "model_name": "fraud", "model_version": "sum", "id": "mine",
        "outputs": [{"name": "score", "datatype": "FP32", "shape": [2, 1], "data": [3.5, 0.3]}],
    });
    let mut found = reply.json();
    // 0.1 + 0.2 in f32, as the shortest decimal that reads back as it.
    let second: f32 = found["outputs"][0]["data"][1].to_string().parse().unwrap();
    assert_eq!(second.to_bits(), (0.1_f32 + 0.2_f32).to_bits());
    found["outputs"][0]["data"][1] = json!(0.3);
    assert_eq!(found, expected);
    for wanted in ["driftline-version: sum", "driftline-arm: production", "x-request-id: mine"] {
        assert!(reply.head.contains(wanted), "{}", reply.head);
    }
    let flat = running.infer("x-request-id: other\r\n", &rows(&json!([1, 2]), &json!([1, 2]))).await;
    assert_eq!((flat.json()["id"].as_str(), flat.status), (Some("other"), 200));
}

#[tokio::test]
async fn binary_tensors_go_both_ways() {
    let running = Running::start(HttpSettings::default()).await;
    running.change(|state| state.production = Some("sum".into())).await;
    let header = json!({
        "inputs": [{"name": "features", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}],
        "outputs": [{"name": "score", "parameters": {"binary_data": true}}],
    })
    .to_string();
    let mut body = header.clone().into_bytes();
    body.extend([1.5_f32, 2.0].iter().flat_map(|value| value.to_le_bytes()));
    let headers = format!("inference-header-content-length: {}\r\n", header.len());
    let reply = running.post("/v2/models/fraud/infer", &headers, &body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let length = reply.head.split("inference-header-content-length: ").nth(1).unwrap();
    let length: usize = length.lines().next().unwrap().trim().parse().unwrap();
    let (json, binary) = reply.body.split_at(length);
    let json: Value = serde_json::from_slice(json).unwrap();
    assert_eq!(json["outputs"][0]["parameters"]["binary_data_size"], 4);
    assert_eq!(binary, 3.5_f32.to_le_bytes());
}

#[tokio::test]
async fn what_is_not_there_or_does_not_fit_is_a_clear_error() {
    let running = Running::start(HttpSettings::default()).await;
    let good = rows(&json!([1, 2]), &json!([1, 2]));
    for (path, status, wanted) in [
        ("/v2/models/other/infer", 404, "there is no model `other`"),
        ("/v2/models/fraud/versions/9/infer", 404, "loaded are 1"),
        ("/v2/models/..%2f..%2fetc/infer", 400, "is not allowed"),
        ("/v2/nothing", 404, "nothing at this path"),
        ("/v2/systemsharedmemory/status", 400, "shared memory"),
    ] {
        let reply = running.post(path, "", good.to_string().as_bytes()).await;
        assert_eq!(reply.status, status, "{path} {reply:?}");
        assert!(reply.error().contains(wanted), "{path}: {}", reply.error());
    }
    for (body, wanted) in [
        (rows(&json!([1, 2, 3]), &json!([1, 3])), "the model takes [-1, 2]"),
        (
            json!({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}),
            "`features` is missing",
        ),
        (json!({"inputs": [{"name": "features", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}]}), "is FP64"),
        (json!({"inputs": good["inputs"], "outputs": [{"name": "no"}]}), "no output `no`"),
    ] {
        let reply = running.infer("", &body).await;
        assert_eq!(reply.status, 400, "{body}");
        assert!(reply.error().contains(wanted), "{}", reply.error());
    }
    let reply = running.infer("driftline-timeout-ms: soon\r\n", &good).await;
    assert_eq!(reply.status, 400);
    let reply = running.infer("driftline-timeout-ms: 0\r\n", &good).await;
    assert_eq!(reply.status, 504, "{reply:?}");
    let reply = running.get("/v2/models/fraud/infer").await;
    assert_eq!(reply.status, 405);
}

#[tokio::test]
async fn health_and_metadata_say_what_serves() {
    let running = Running::start(HttpSettings::default()).await;
    assert_eq!(running.get("/v2/health/live").await.status, 200);
    assert_eq!(running.get("/v2/health/ready").await.status, 200);
    assert_eq!(running.get("/v2/models/fraud/ready").await.status, 200);
    assert_eq!(running.get("/v2/models/other/ready").await.status, 404);
    let metadata = running.get("/v2/models/fraud").await.json();
    assert_eq!(metadata["inputs"], json!([{"name": "features", "datatype": "FP32", "shape": [-1, 2]}]));
    assert_eq!(metadata["versions"], json!(["1"]));
    running.infer("", &rows(&json!([1, 2]), &json!([1, 2]))).await;
    let stats = running.get("/v2/models/fraud/stats").await.json();
    assert_eq!(stats["model_stats"][0]["inference_stats"]["success"]["count"], 1);
    assert_eq!(running.get("/v2").await.json()["name"], "driftline-scorer");
    let config = running.get("/v2/models/fraud/config").await.json();
    assert_eq!(config["input"][0], json!({"name": "features", "data_type": "TYPE_FP32", "dims": [2]}));
}

#[tokio::test]
async fn kserve_tensorflow_and_torchserve_clients_get_their_answers() {
    let running = Running::start(HttpSettings::default()).await;
    running.change(|state| state.production = Some("sum".into())).await;
    for (path, body, wanted) in [
        ("/v1/models/fraud:predict", json!({"instances": [[1, 2], [3, 4]]}), json!({"predictions": [3.0, 7.0]})),
        (
            "/v1/models/fraud/versions/sum:predict",
            json!({"instances": [{"features": [1, 2]}, {"features": [3, 4]}]}),
            json!({"predictions": [3.0, 7.0]}),
        ),
        ("/v1/models/fraud:predict", json!({"inputs": [[1, 2]]}), json!({"outputs": [[3.0]]})),
        (
            "/v1/models/fraud/labels/production:predict",
            json!({"signature_name": "serving_default", "inputs": {"features": [[1, 2]]}}),
            json!({"outputs": [[3.0]]}),
        ),
        ("/predictions/fraud", json!([[1, 2], [3, 4]]), json!([3.0, 7.0])),
        ("/predictions/fraud/sum", json!({"instances": [[1, 2]]}), json!([3.0])),
    ] {
        let reply = running.post(path, "", body.to_string().as_bytes()).await;
        assert_eq!((reply.status, reply.json()), (200, wanted), "{path} {body}");
    }
    for (path, body, status, wanted) in [
        ("/v1/models/fraud:predict", json!({}), 400, "neither"),
        ("/v1/models/fraud:predict", json!({"instances": [[1, 2], [3]]}), 400, "differ in length"),
        ("/v1/models/fraud:predict", json!({"instances": [{"x": 1}]}), 400, "no input `x`"),
        ("/v1/models/fraud:predict", json!({"instances": {"x": 1}}), 400, "not a list"),
        ("/v1/models/fraud:predict", json!({"instances": [["a", "b"]]}), 400, "not a value of FP32"),
        ("/v1/models/fraud:classify", json!({}), 501, "`:predict`"),
        ("/v1/models/fraud/labels/nobody:predict", json!({}), 400, "no label `nobody`"),
        ("/v1/models/other:predict", json!({"instances": []}), 404, "no model `other`"),
        ("/v1/models/..%2f:predict", json!({}), 400, "not allowed"),
    ] {
        let reply = running.post(path, "", body.to_string().as_bytes()).await;
        assert_eq!(reply.status, status, "{path} {body} {reply:?}");
        assert!(reply.error().contains(wanted), "{}", reply.error());
    }
    let reply = running.post("/predictions/other", "", b"[]").await.json();
    assert_eq!((&reply["code"], &reply["type"]), (&json!(404), &json!("ModelNotFoundException")));
    assert_eq!(running.get("/ping").await.json(), json!({"status": "Healthy"}));
    let model = running.get("/v1/models/fraud").await.json();
    assert_eq!((&model["ready"], &model["model_version_status"][0]["state"]), (&json!(true), &json!("AVAILABLE")));
    assert_eq!(running.get("/v1/models").await.json(), json!({"models": ["fraud"]}));
    let metadata = running.get("/v1/models/fraud/metadata").await.json();
    let definition = &metadata["metadata"]["signature_def"]["signature_def"]["serving_default"];
    assert_eq!(definition["inputs"]["features"]["dtype"], "DT_FLOAT");
    assert_eq!(running.get("/models/fraud").await.json()[0]["modelVersion"], "sum");
}

/// Sixty swaps while four clients ask all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_fails_no_request() {
    let running = Running::start(HttpSettings::default()).await;
    let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let body = rows(&json!([1, 2]), &json!([1, 2])).to_string();
    let request =
        format!("POST /v2/models/fraud/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let mut clients = Vec::new();
    for _ in 0..4 {
        let (over, answered, request, address) = (over.clone(), answered.clone(), request.clone(), running.address);
        clients.push(tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let mut buffer = vec![0; 4096];
            while !over.load(Ordering::Relaxed) {
                stream.write_all(request.as_bytes()).await.unwrap();
                let read = stream.read(&mut buffer).await.unwrap();
                let reply = reply(&buffer[..read]);
                assert_eq!(reply.status, 200, "{reply:?}");
                let (version, score) =
                    (reply.json()["model_version"].clone(), reply.json()["outputs"][0]["data"][0].clone());
                assert_eq!(version.as_str().unwrap().parse::<f64>().unwrap(), score.as_f64().unwrap());
                answered.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    for turn in 0..60 {
        let (version, before) = if turn % 2 == 0 { ("2", "1") } else { ("1", "2") };
        running
            .change(|state| {
                state.production = Some(version.into());
                // Without a previous version each swap loads one, and drops one.
                state.previous = (turn % 3 == 0).then(|| before.into());
            })
            .await;
        // However busy the machine is, requests are answered between two swaps.
        let (before, until) = (answered.load(Ordering::Relaxed), Instant::now() + Duration::from_secs(20));
        while answered.load(Ordering::Relaxed) < before + 2 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let answered = answered.load(Ordering::Relaxed);
    println!("{answered} requests answered over 60 swaps, {} loads", running.shelf.loads.load(Ordering::Relaxed));
    assert!(answered >= 120, "{answered}");
}

#[tokio::test]
async fn a_version_that_cannot_be_loaded_changes_nothing() {
    let running = Running::start(HttpSettings::default()).await;
    running.shelf.put("bad", "no model");
    running.change(|state| state.production = Some("bad".into())).await;
    let reply = running.infer("", &rows(&json!([1, 2]), &json!([1, 2]))).await;
    assert_eq!((reply.status, reply.json()["model_version"].as_str()), (200, Some("1")));
    let error = running.follow.prepare("fraud", "bad").await.unwrap_err();
    assert!(error.contains("linear"), "{error}");
    // Nor does a canary or a previous version that cannot be.
    running
        .change(|state| {
            state.production = Some("2".into());
            state.previous = Some("bad".into());
            state.canary = Some(Canary {
                version: "bad".into(),
                buckets: 10_000,
                salt: "s".into(),
                step: None,
                started_at_ms: 0,
                step_at_ms: 0,
            });
        })
        .await;
    let reply = running.infer("", &rows(&json!([1, 2]), &json!([1, 2]))).await;
    assert_eq!((reply.status, reply.json()["model_version"].as_str()), (200, Some("2")));
    assert_eq!(running.get("/v2/health/ready").await.status, 200);
}

#[tokio::test]
async fn a_canary_gets_its_share_and_an_entity_stays_with_its_version() {
    let running = Running::start(HttpSettings::default()).await;
    running
        .change(|state| {
            let (version, salt) = ("2".into(), "s".into());
            state.canary = Some(Canary { version, buckets: 3_000, salt, step: None, started_at_ms: 0, step_at_ms: 0 });
        })
        .await;
    let mut canary = 0;
    for entity in 0..200 {
        let header = format!("driftline-entity: customer-{entity}\r\n");
        let body = rows(&json!([1, 2]), &json!([1, 2]));
        let first = running.infer(&header, &body).await;
        assert_eq!(first.status, 200);
        let version = first.json()["model_version"].clone();
        let arm = if version == "2" { "canary" } else { "production" };
        assert!(first.head.contains(&format!("driftline-arm: {arm}")), "{}", first.head);
        if entity < 20 {
            assert_eq!(running.infer(&header, &body).await.json()["model_version"], version);
        }
        canary += u32::from(version == "2");
    }
    // 60 expected; four standard deviations are 26.
    assert!((34..=86).contains(&canary), "{canary}");
}

#[tokio::test]
async fn a_model_that_is_unloaded_is_not_found_and_loads_again() {
    let running = Running::start(HttpSettings::default()).await;
    running.follow.unload("fraud").await.unwrap();
    let body = rows(&json!([1, 2]), &json!([1, 2]));
    assert_eq!(running.infer("", &body).await.status, 404);
    running.follow.load("fraud").await.unwrap();
    assert_eq!(running.infer("", &body).await.status, 200);
    assert!(running.follow.load("other").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_answers_what_is_under_way() {
    let mut running = Running::start(HttpSettings::default()).await;
    let body = rows(&json!([1, 2]), &json!([1, 2])).to_string();
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let head = format!("POST /v2/models/fraud/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    running.stop.cancel();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(reply(&bytes).status, 200);
    let server = running.server.take().unwrap();
    let clock = Instant::now();
    tokio::task::spawn_blocking(move || server.join()).await.unwrap();
    assert!(clock.elapsed() < Duration::from_secs(5));
    assert!(running.scorer.table().ready().is_ok());
}
