//! Webhooks over the wire: a receiver that fails in every usual way gets everything, in order, signed, once; and
//! no address inside the network is reached by accident.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod dispatch_support;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dispatch_support::notification;
use dispatch_support::role_harness::Harness;
use driftline::config::receivers::{Receiver, Secret, TextOrSecret, WebhookReceiver};
use driftline::config::units::Span;
use driftline::dispatch::delivery::DeliveryStatus;
use driftline::dispatch::hook_catcher::HookCatcher;
use driftline::dispatch::receiver::{DeliveryContext, Means, Outcome, Receivers, Telling, Transport, build};
use driftline::rules::episode::Notification;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::net::{TcpListener, TcpStream};

const CURRENT: [u8; 32] = [7; 32];
const PREVIOUS: [u8; 24] = [9; 24];

fn whsec(bytes: &[u8]) -> String {
    format!("whsec_{}", STANDARD.encode(bytes))
}

/// A receiver as it would stand in a rules file, with secrets in files.
struct Configured {
    config: WebhookReceiver,
    _files: Vec<tempfile::NamedTempFile>,
}

fn configured(url: &str, secrets: &[&[u8]]) -> Configured {
    let files: Vec<tempfile::NamedTempFile> = secrets
        .iter()
        .map(|secret| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), format!("{}\n", whsec(secret))).unwrap();
            file
        })
        .collect();
    let secret =
        |place: usize| files.get(place).map(|file| Secret { env: None, file: Some(file.path().display().to_string()) });
    let config = WebhookReceiver {
        url: TextOrSecret::Text(url.into()),
        secret: secret(0),
        previous_secret: secret(1),
        headers: BTreeMap::new(),
        body: None,
        resolved: None,
        allow_private: true,
        timeout: Some(Span::from_ms(300)),
    };
    Configured { config, _files: files }
}

fn transport(config: &WebhookReceiver) -> Box<dyn Transport> {
    build("hook", &Receiver { webhook: Some(config.clone()), ..Receiver::default() }, Means::default()).unwrap()
}

fn context() -> DeliveryContext {
    DeliveryContext { public_url: "http://drift.test".into(), attempt: 1, telling: Telling::News }
}

/// What the flaky receiver does with one request.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Trouble {
    TooManyRequests,
    TooManyRequestsUntil,
    ServerError,
    Hang,
}

#[derive(Default)]
struct Flaky {
    troubles: Mutex<VecDeque<Trouble>>,
    resets: Mutex<u32>,
    /// Accepted: arrival, headers, body.
    accepted: Mutex<Vec<(HeaderMap, Vec<u8>)>>,
    /// When which id was seen, accepted or not.
    seen: Mutex<Vec<(Instant, String, Option<Trouble>)>>,
}

async fn flaky(State(flaky): State<Arc<Flaky>>, headers: HeaderMap, body: Bytes) -> Response<String> {
    let id = headers["webhook-id"].to_str().unwrap().to_string();
    let trouble = flaky.troubles.lock().unwrap().pop_front();
    flaky.seen.lock().unwrap().push((Instant::now(), id, trouble));
    let answer = |status: StatusCode| Response::builder().status(status);
    match trouble {
        None => {
            flaky.accepted.lock().unwrap().push((headers, body.to_vec()));
            answer(StatusCode::NO_CONTENT).body(String::new()).unwrap()
        }
        Some(Trouble::TooManyRequests) => {
            answer(StatusCode::TOO_MANY_REQUESTS).header("retry-after", "1").body("slow down".into()).unwrap()
        }
        Some(Trouble::TooManyRequestsUntil) => {
            let until = chrono::Utc::now() + chrono::Duration::seconds(2);
            let date = until.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
            answer(StatusCode::SERVICE_UNAVAILABLE).header("retry-after", date).body(String::new()).unwrap()
        }
        Some(Trouble::ServerError) => answer(StatusCode::INTERNAL_SERVER_ERROR).body("x".repeat(1_000_000)).unwrap(),
        Some(Trouble::Hang) => {
            tokio::time::sleep(Duration::from_secs(30)).await;
            answer(StatusCode::OK).body(String::new()).unwrap()
        }
    }
}

/// Resets the first connections, then lets them through.
struct Resetting {
    listener: TcpListener,
    flaky: Arc<Flaky>,
}

impl axum::serve::Listener for Resetting {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            let (stream, address) = self.listener.accept().await.unwrap();
            let mut resets = self.flaky.resets.lock().unwrap();
            if *resets == 0 {
                return (stream, address);
            }
            *resets -= 1;
            stream.set_zero_linger().unwrap(); // closing now sends RST
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

async fn serve(flaky_state: Arc<Flaky>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook?token=s3cret", listener.local_addr().unwrap());
    let router = Router::new().route("/hook", post(flaky)).with_state(flaky_state.clone());
    tokio::spawn(async move { axum::serve(Resetting { listener, flaky: flaky_state }, router).await });
    url
}

/// Written apart from the code under test, by the standard's text.
fn expected_signature(secret: &[u8], id: &str, timestamp: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    mac.update([id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat().as_slice());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[test]
fn a_receiver_that_fails_in_every_way_gets_everything_in_order() {
    let harness = Harness::new();
    let flaky = Arc::new(Flaky::default());
    *flaky.resets.lock().unwrap() = 3;
    flaky.troubles.lock().unwrap().extend([
        Trouble::TooManyRequests,
        Trouble::ServerError,
        Trouble::Hang,
        Trouble::ServerError,
        Trouble::TooManyRequestsUntil,
        Trouble::Hang,
    ]);
    let url = harness.runtime.block_on(serve(flaky.clone()));
    let configured = configured(&url, &[&CURRENT, &PREVIOUS]);
    let receivers: Arc<Receivers> = Arc::new(BTreeMap::from([("hook".into(), transport(&configured.config))]));
    let story: Vec<Notification> =
        (0..4).flat_map(|s| (0..3).map(move |e| notification(&format!("e{e}"), s, &["hook"]))).collect();
    harness.publish(&story);
    let role = harness.start("0", &receivers, None);
    let deliveries = harness.wait_until_final(12);
    role.stop().unwrap();

    let attempts: u32 = deliveries.values().map(|record| record.attempts).sum();
    let arrived = flaky.accepted.lock().unwrap().len() as u32;
    assert_eq!(attempts, arrived + 3 + 6, "one attempt each, and one per reset and trouble");
    let mut by_episode: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (headers, body) in flaky.accepted.lock().unwrap().iter() {
        let text = |name: &str| headers[name].to_str().unwrap().to_string();
        let (id, timestamp) = (text("webhook-id"), text("webhook-timestamp"));
        let signatures = [&CURRENT[..], &PREVIOUS[..]].map(|key| expected_signature(key, &id, &timestamp, body));
        assert_eq!(text("webhook-signature"), signatures.join(" "));
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!(now_s.abs_diff(timestamp.parse().unwrap()) < 60, "{timestamp} is not the attempt's time");
        let payload: serde_json::Value = serde_json::from_slice(body).unwrap();
        assert_eq!(payload["data"]["notification"]["id"], id.as_str());
        // What was over before it could be told is told with its end, in the place of its beginning.
        let told = by_episode.entry(id.rsplit_once('-').unwrap().0.into()).or_default();
        for earlier in payload["data"]["telling"]["notifications"].as_array().into_iter().flatten() {
            let earlier = earlier.as_str().unwrap();
            assert_eq!(deliveries[&format!("{earlier}|hook")].status, DeliveryStatus::Superseded, "{earlier}");
            told.push(earlier.to_string());
        }
        assert_eq!(deliveries[&format!("{id}|hook")].status, DeliveryStatus::Delivered, "{id}");
        told.push(id);
    }
    assert_eq!(by_episode.len(), 3);
    for (episode, ids) in by_episode {
        assert_eq!(ids, (0..4).map(|s| format!("{episode}-{s}")).collect::<Vec<_>>());
    }
    let seen = flaky.seen.lock().unwrap();
    for (place, (at, id, trouble)) in seen.iter().enumerate() {
        if *trouble == Some(Trouble::TooManyRequests) {
            let episode = id.rsplit_once('-').unwrap().0;
            let is_its = |other: &str| other.rsplit_once('-').unwrap().0 == episode;
            let next = seen[place + 1..].iter().find(|(_, other, _)| is_its(other)).unwrap();
            let waited = next.0.duration_since(*at);
            assert!(waited >= Duration::from_secs(1), "Retry-After: 1 was answered after {waited:?}");
        }
    }
}

#[tokio::test]
async fn a_webhook_carries_what_the_schema_says_and_no_secret_shows_in_errors() {
    let catcher = HookCatcher::start(0).await.unwrap();
    let configured = configured(&catcher.url(), &[&CURRENT]);
    let sent = notification("e", 0, &["hook"]);
    assert_eq!(transport(&configured.config).deliver(&sent, &context()).await, Outcome::Delivered { remark: None });
    let hooks = catcher.wait_for(1, Duration::from_secs(5)).await;
    assert_eq!(hooks.len(), 1);
    assert_eq!((hooks[0].id.as_str(), &hooks[0].notification), ("e-0", &sent));
    let payload: serde_json::Value = serde_json::from_slice(&hooks[0].body).unwrap();
    assert_eq!(payload["type"], "alert.firing");
    assert_eq!(payload["timestamp"], "2026-03-01T14:00:05.000Z");
    assert_eq!(payload["data"]["url"], "http://drift.test/alerts/e");
    let schema: serde_json::Value =
        serde_json::from_str(include_str!("../schemas/webhook-notification.schema.json")).unwrap();
    let errors: Vec<String> =
        jsonschema::validator_for(&schema).unwrap().iter_errors(&payload).map(|error| error.to_string()).collect();
    assert_eq!(errors, Vec::<String>::new());

    let url = format!("{}?token=s3cret", catcher.url());
    drop(catcher);
    let refused = transport(&WebhookReceiver { url: TextOrSecret::Text(url), ..configured.config });
    tokio::time::sleep(Duration::from_millis(50)).await;
    match refused.deliver(&sent, &context()).await {
        Outcome::Retry { reason, after_ms: None } => assert!(!reason.contains("s3cret"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn statuses_are_classified_by_what_trying_again_would_bring() {
    for (status, expected) in [
        (200, "delivered"),
        (202, "delivered"),
        (301, "permanent"),
        (307, "permanent"),
        (400, "permanent"),
        (401, "permanent"),
        (404, "permanent"),
        (408, "retry"),
        (410, "permanent"),
        (425, "retry"),
        (429, "retry"),
        (500, "retry"),
        (503, "retry"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let target = format!("http://{address}/elsewhere");
        let router = Router::new()
            .route(
                "/hook",
                post(move || async move { (StatusCode::from_u16(status).unwrap(), [("location", target)]) }),
            )
            .route("/elsewhere", post(|| async { StatusCode::OK }).get(|| async { StatusCode::OK }));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let configured = configured(&format!("http://{address}/hook"), &[]);
        let outcome = transport(&configured.config).deliver(&notification("e", 0, &[]), &context()).await;
        assert_eq!(outcome.label(), expected, "{status}: {outcome:?}");
    }
}

#[tokio::test]
async fn private_addresses_are_not_connected_to_unless_allowed() {
    let catcher = HookCatcher::start(0).await.unwrap();
    let port = catcher.address().port();
    for host in ["127.0.0.1", "127.1", "2130706433", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254"] {
        let mut config = configured(&format!("http://{host}:{port}/"), &[]).config;
        config.allow_private = false;
        let error = build("hook", &Receiver { webhook: Some(config), ..Receiver::default() }, Means::default()).err();
        let error = error.unwrap_or_else(|| panic!("{host} passed")).to_string();
        assert!(error.contains("allow_private"), "{error}");
    }
    // A name says nothing until it is resolved, at the moment of connecting.
    let mut config = configured(&format!("http://localhost:{port}/"), &[]).config;
    config.allow_private = false;
    match transport(&config).deliver(&notification("e", 0, &[]), &context()).await {
        Outcome::Permanent { reason } => assert!(reason.contains("loopback"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(catcher.hooks(), []);
    config.allow_private = true;
    let allowed = transport(&config).deliver(&notification("e", 0, &[]), &context()).await;
    assert_eq!(allowed, Outcome::Delivered { remark: None });
}

#[test]
fn a_receiver_that_cannot_work_is_refused_at_the_start() {
    let refusal = |config: WebhookReceiver| {
        build("hook", &Receiver { webhook: Some(config), ..Receiver::default() }, Means::default())
            .err()
            .map(|error| error.to_string())
    };
    let good = configured("https://hooks.example.com/x", &[&CURRENT]);
    assert_eq!(refusal(good.config.clone()), None);
    for (url, hint) in [("ftp://example.com/", "http or https"), ("nowhere", "not a URL")] {
        let config = WebhookReceiver { url: TextOrSecret::Text(url.into()), ..good.config.clone() };
        assert!(refusal(config).unwrap().contains(hint), "{url}");
    }
    let weak = configured("https://hooks.example.com/x", &[b"short"]);
    assert!(refusal(weak.config.clone()).unwrap().contains("24 to 64 bytes"));
    let nothing = build("hook", &Receiver::default(), Means::default()).err().unwrap();
    assert!(nothing.to_string().contains("exactly one"), "{nothing}");
}

#[tokio::test]
#[ignore = "needs Python with the Standard Webhooks library: scripts/webhook-reference.sh"]
async fn the_reference_library_verifies_every_signature() {
    let python = std::env::var("DRIFTLINE_PYTHON").expect("scripts/webhook-reference.sh sets DRIFTLINE_PYTHON");
    let mut server = std::process::Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/webhook_reference.py"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut port = String::new();
    let stdout = server.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut port).unwrap();
    let hex = |secret: &[u8]| secret.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut outcomes = Vec::new();
    for secret in [&CURRENT[..], &PREVIOUS[..], &[1; 32]] {
        let url = format!("http://127.0.0.1:{}/{}", port.trim(), hex(secret));
        let mut rotating = configured(&url, &[&CURRENT, &PREVIOUS]);
        rotating.config.timeout = Some(Span::from_ms(10_000));
        outcomes.push(transport(&rotating.config).deliver(&notification("e", 0, &[]), &context()).await.label());
    }
    drop(server.stdin.take());
    server.wait().unwrap();
    assert_eq!(outcomes, ["delivered", "delivered", "permanent"], "by current, previous and a foreign secret");
}

#[test]
fn an_alert_is_received_within_a_second_of_its_commit() {
    let harness = Harness::new();
    let catcher = harness.runtime.block_on(HookCatcher::start(0)).unwrap();
    let configured = configured(&catcher.url(), &[&CURRENT]);
    let receivers: Arc<Receivers> = Arc::new(BTreeMap::from([("hook".into(), transport(&configured.config))]));
    let role = harness.start("0", &receivers, None);
    let mut took_ms = Vec::new();
    for place in 0..20 {
        std::thread::sleep(Duration::from_millis(20));
        let committed_ms = chrono::Utc::now().timestamp_millis();
        harness.publish(&[notification(&format!("e{place}"), 0, &["hook"])]);
        let hooks = harness.runtime.block_on(catcher.wait_for(place + 1, Duration::from_secs(10)));
        took_ms.push(hooks[place].received_at_ms - committed_ms);
    }
    role.stop().unwrap();
    took_ms.sort_unstable();
    println!("from commit to webhook received: median {} ms, longest {} ms", took_ms[10], took_ms[19]);
    assert!(took_ms[10] < 1_000, "{took_ms:?}");
}
