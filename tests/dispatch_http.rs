//! Receivers over HTTP, against servers that check what the service documents: method, path, headers, body; and what
//! each answer means for the next attempt.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod dispatch_support;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, Uri};
use dispatch_support::notification;
use dispatch_support::samples::firing;
use driftline::config::rules::Severity;
use driftline::config::{load::parse_rules_str, receivers::Receiver};
use driftline::dispatch::receiver::{DeliveryContext, Outcome, Transport, build};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// One request as it arrived.
#[derive(Debug, Clone)]
struct Request {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Value,
}

/// Status, `Retry-After`, body.
type Answer = (u16, Option<&'static str>, &'static str);

/// Answers as told, then with 202 and `ok`; keeps what it was sent.
#[derive(Clone, Default)]
struct Service {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Service {
    /// Listens on loopback; the address, without a path.
    async fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(take).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    fn answer(&self, status: u16, retry_after: Option<&'static str>, body: &'static str) {
        self.answers.lock().unwrap().push_back((status, retry_after, body));
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    fn last(&self) -> Request {
        self.requests().pop().expect("a request has arrived")
    }
}

async fn take(
    State(service): State<Service>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<String> {
    let path = uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    service.requests.lock().unwrap().push(Request { method, path, headers, body });
    let (status, retry_after, text) = service.answers.lock().unwrap().pop_front().unwrap_or((202, None, "ok"));
    let answer = Response::builder().status(status);
    let answer = match retry_after {
        Some(seconds) => answer.header("retry-after", seconds),
        None => answer,
    };
    answer.body(text.to_string()).unwrap()
}

/// A secret in a file, as the configuration names it.
fn secret(value: &str) -> (tempfile::NamedTempFile, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{value}\n")).unwrap();
    let named = format!("{{file: {}}}", file.path().display());
    (file, named)
}

/// A receiver as a rules file has it.
fn receiver(yaml: &str) -> Receiver {
    let text = format!("version: 1\nreceivers:\n  it: {yaml}\n");
    let mut file = parse_rules_str("rules.yaml", &text).map_err(|errors| errors.text(false)).unwrap().value;
    file.receivers.remove("it").unwrap()
}

fn transport(yaml: &str) -> Box<dyn Transport> {
    build("it", &receiver(yaml), None).map_err(|error| error.to_string()).unwrap()
}

fn refusal(yaml: &str) -> String {
    build("it", &receiver(yaml), None).err().expect("it is refused").to_string()
}

fn context() -> DeliveryContext {
    DeliveryContext { public_url: "https://drift.example.com".into(), attempt: 1 }
}

const DELIVERED: Outcome = Outcome::Delivered { remark: None };

/// Every receiver of this file over plain HTTP to `url`, by its name.
fn all(url: &str, secrets: &mut Vec<tempfile::NamedTempFile>) -> Vec<(&'static str, String)> {
    let mut keep = |value: &str| {
        let (file, named) = secret(value);
        secrets.push(file);
        named
    };
    let hook = keep(&format!("{url}/hook?sig=s3cret"));
    let key = keep("0123456789abcdef0123456789abcdef");
    vec![
        ("slack", format!("{{slack: {{url: {hook}, allow_private: true, timeout: 300ms}}}}")),
        ("teams", format!("{{teams: {{url: {hook}, allow_private: true, timeout: 300ms}}}}")),
        (
            "pagerduty",
            format!("{{pagerduty: {{routing_key: {key}, url: {hook}, allow_private: true, timeout: 300ms}}}}"),
        ),
    ]
}

#[tokio::test]
async fn every_answer_means_the_same_to_every_receiver() {
    let service = Service::default();
    let url = service.start().await;
    let mut secrets = Vec::new();
    for (name, yaml) in all(&url, &mut secrets) {
        let transport = transport(&yaml);
        for (status, expected) in [
            (200, "delivered"),
            (202, "delivered"),
            (302, "permanent"),
            (400, "permanent"),
            (403, "permanent"),
            (404, "permanent"),
            (408, "retry"),
            (410, "permanent"),
            (425, "retry"),
            (429, "retry"),
            (500, "retry"),
            (503, "retry"),
        ] {
            service.answer(status, None, "no");
            let outcome = transport.deliver(&firing(), &context()).await;
            assert_eq!(outcome.label(), expected, "{name}, {status}: {outcome:?}");
        }
        service.answer(429, Some("7"), "slow down");
        let outcome = transport.deliver(&firing(), &context()).await;
        let expected = Outcome::Retry { reason: "http status 429: slow down".into(), after_ms: Some(7_000) };
        assert_eq!(outcome, expected, "{name}");
    }
}

#[tokio::test]
async fn an_unreachable_or_silent_service_is_tried_again_and_its_secret_not_told() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_url = format!("http://{}", silent.local_addr().unwrap());
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone_url = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let mut secrets = Vec::new();
    for url in [silent_url, gone_url] {
        for (name, yaml) in all(&url, &mut secrets) {
            let sent = tokio::time::timeout(Duration::from_secs(5), async {
                transport(&yaml).deliver(&firing(), &context()).await
            });
            match sent.await.expect("an attempt ends by itself") {
                Outcome::Retry { reason, .. } => {
                    assert!(!reason.contains("s3cret") && !reason.contains("0123456789abcdef"), "{name}: {reason}");
                }
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn no_receiver_connects_to_a_private_address_unless_allowed() {
    let service = Service::default();
    let url = service.start().await;
    let mut secrets = Vec::new();
    for (name, yaml) in all(&url, &mut secrets) {
        let error = refusal(&yaml.replace("allow_private: true", "allow_private: false"));
        assert!(error.contains("allow_private"), "{name}: {error}");
    }
    // A name says nothing until it is resolved, at the moment of connecting.
    let by_name = url.replace("127.0.0.1", "localhost");
    for (name, yaml) in all(&by_name, &mut secrets) {
        let guarded = transport(&yaml.replace("allow_private: true", "allow_private: false"));
        match guarded.deliver(&firing(), &context()).await {
            Outcome::Permanent { reason } => assert!(reason.contains("loopback"), "{name}: {reason}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    assert_eq!(service.requests().len(), 0);
}

#[tokio::test]
async fn slack_and_teams_are_posted_a_message_with_a_link_to_the_page() {
    let service = Service::default();
    let url = service.start().await;
    let mut secrets = Vec::new();
    for (name, yaml) in all(&url, &mut secrets).into_iter().take(2) {
        assert_eq!(transport(&yaml).deliver(&firing(), &context()).await, DELIVERED, "{name}");
        let request = service.last();
        assert_eq!((request.method, request.path.as_str()), (Method::POST, "/hook?sig=s3cret"), "{name}");
        assert_eq!(request.headers["content-type"], "application/json", "{name}");
        assert!(request.body.to_string().contains("https://drift.example.com/alerts/9f2c41"), "{name}");
    }
}

#[tokio::test]
async fn an_episode_is_one_pagerduty_alert_from_trigger_to_resolve() {
    let service = Service::default();
    let url = service.start().await;
    let (_file, key) = secret("0123456789abcdef0123456789abcdef");
    let pagerduty = transport(&format!(
        "{{pagerduty: {{routing_key: {key}, url: \"{url}/v2/enqueue\", allow_private: true, severity: {{warn: info, critical: error}}}}}}"
    ));
    let mut warned = notification("e", 0, &["it"]);
    warned.severity = Severity::Warn;
    for notification in [warned, notification("e", 2, &["it"]), notification("e", 3, &["it"])] {
        assert_eq!(pagerduty.deliver(&notification, &context()).await, DELIVERED);
    }
    let requests = service.requests();
    assert!(requests.iter().all(|request| request.path == "/v2/enqueue" && request.method == Method::POST));
    let told: Vec<[&Value; 3]> = requests
        .iter()
        .map(|request| {
            assert_eq!(request.body["routing_key"], "0123456789abcdef0123456789abcdef");
            [&request.body["event_action"], &request.body["dedup_key"], &request.body["payload"]["severity"]]
        })
        .collect();
    let expected = json!([["trigger", "e", "info"], ["trigger", "e", "error"], ["resolve", "e", null]]);
    assert_eq!(serde_json::to_value(told).unwrap(), expected);
}

#[tokio::test]
async fn pagerduty_is_left_alone_for_minutes_after_a_429() {
    let service = Service::default();
    let url = service.start().await;
    let mut secrets = Vec::new();
    let (_, yaml) = all(&url, &mut secrets).pop().unwrap();
    service.answer(429, None, "throttled");
    let outcome = transport(&yaml).deliver(&firing(), &context()).await;
    assert_eq!(outcome, Outcome::Retry { reason: "http status 429: throttled".into(), after_ms: Some(120_000) });
}
