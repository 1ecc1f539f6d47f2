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
use dispatch_support::samples::{firing, hostile, resolved};
use driftline::config::load::parse_rules_str;
use driftline::config::receivers::{Receiver, Secret, TextOrSecret};
use driftline::config::rules::Severity;
use driftline::dispatch::receiver::{DeliveryContext, Means, Outcome, Telling, Transport, build};
use driftline::rules::episode::{EpisodeStatus, Notification};
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
    build("it", &receiver(yaml), Means::default()).map_err(|error| error.to_string()).unwrap()
}

fn refusal(yaml: &str) -> String {
    build("it", &receiver(yaml), Means::default()).err().expect("it is refused").to_string()
}

fn context() -> DeliveryContext {
    DeliveryContext { public_url: "https://drift.example.com".into(), attempt: 1, telling: Telling::News }
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
    let base = keep(&format!("{url}/s3cret"));
    vec![
        ("slack", format!("{{slack: {{url: {hook}, allow_private: true, timeout: 300ms}}}}")),
        ("teams", format!("{{teams: {{url: {hook}, allow_private: true, timeout: 300ms}}}}")),
        (
            "pagerduty",
            format!("{{pagerduty: {{routing_key: {key}, url: {hook}, allow_private: true, timeout: 300ms}}}}"),
        ),
        ("alertmanager", format!("{{alertmanager: {{urls: [{base}], allow_private: true, timeout: 300ms}}}}")),
        (
            "template",
            format!("{{webhook: {{url: {hook}, body: {{a: \"{{text}}\"}}, allow_private: true, timeout: 300ms}}}}"),
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
    let (_, yaml) = all(&url, &mut secrets).into_iter().find(|(name, _)| *name == "pagerduty").unwrap();
    service.answer(429, None, "throttled");
    let outcome = transport(&yaml).deliver(&firing(), &context()).await;
    assert_eq!(outcome, Outcome::Retry { reason: "http status 429: throttled".into(), after_ms: Some(120_000) });
}

/// The episode's id stands in the path of what ends an alert, its key in a header, and no text breaks the JSON.
#[tokio::test]
async fn opsgenie_is_opened_and_closed_by_the_body_of_the_example() {
    let service = Service::default();
    let url = service.start().await;
    let (_file, key) = secret("GenieKey 0123");
    let text = include_str!("../examples/receivers.yaml");
    let mut file = parse_rules_str("receivers.yaml", text).map_err(|errors| errors.text(false)).unwrap().value;
    let mut receiver = file.receivers.remove("opsgenie").unwrap();
    let webhook = receiver.webhook.as_mut().unwrap();
    let local = |url_there: &TextOrSecret| match url_there {
        TextOrSecret::Text(text) => TextOrSecret::Text(text.replace("https://api.opsgenie.com", &url)),
        TextOrSecret::Secret(_) => panic!("the example's address is no secret"),
    };
    webhook.allow_private = true;
    webhook.url = local(&webhook.url);
    let ends = webhook.resolved.as_mut().unwrap();
    ends.url = ends.url.as_ref().map(local);
    let path = key.trim_start_matches("{file: ").trim_end_matches('}').to_string();
    webhook.headers.insert("Authorization".into(), TextOrSecret::Secret(Secret { env: None, file: Some(path) }));
    let opsgenie = build("it", &receiver, Means::default()).map_err(|error| error.to_string()).unwrap();
    for notification in [firing(), resolved(), hostile()] {
        assert_eq!(opsgenie.deliver(&notification, &context()).await, DELIVERED);
    }
    let requests = service.requests();
    let paths: Vec<&str> = requests.iter().map(|request| request.path.as_str()).collect();
    let expected = ["/v2/alerts", "/v2/alerts/9f2c41/close?identifierType=alias", "/v2/alerts"];
    assert_eq!(paths, expected);
    for request in &requests {
        assert_eq!(request.headers["authorization"], "GenieKey 0123");
        assert_eq!(request.headers["content-type"], "application/json");
        assert!(request.body.is_object(), "{:?}", request.body);
    }
    assert_eq!(requests[0].body["alias"], "9f2c41");
    assert_eq!(requests[0].body["priority"], "P1");
    assert!(requests[2].body["message"].as_str().unwrap().contains("<script>"), "{:#}", requests[2].body);
}

#[tokio::test]
async fn a_value_cannot_lead_a_templated_url_elsewhere() {
    let service = Service::default();
    let url = service.start().await;
    let hook = transport(&format!(
        "{{webhook: {{url: \"{url}/models/{{model}}/alerts?rule={{rule}}\", allow_private: true, body: \"{{status}}\"}}}}"
    ));
    let mut sent = firing();
    sent.model = "a/../b?c#d".into();
    sent.rule = "x&admin=true".into();
    assert_eq!(hook.deliver(&sent, &context()).await, DELIVERED);
    assert_eq!(service.last().path, "/models/a%2F..%2Fb%3Fc%23d/alerts?rule=x%26admin%3Dtrue");
    assert_eq!(service.last().body, "firing");
    sent.model = "..".into();
    assert_eq!(hook.deliver(&sent, &context()).await.label(), "permanent");
    assert_eq!(service.requests().len(), 1);
    let (_file, secret_url) = secret("http://{model}.example.com/");
    assert!(refusal(&format!("{{webhook: {{url: {secret_url}}}}}")).contains("path and the query"));
}

#[tokio::test]
async fn every_member_of_an_alertmanager_cluster_is_sent_every_alert() {
    let (first, second) = (Service::default(), Service::default());
    let (url_1, url_2) = (first.start().await, second.start().await);
    let (_file, key) = secret("Bearer t0ken");
    let cluster = transport(&format!(
        "{{alertmanager: {{urls: [\"{url_1}\", \"{url_2}/prefix/\"], allow_private: true, authorization: {key}, labels: {{team: risk}}}}}}"
    ));
    let told = |sequence: u32, severity: Severity, status: EpisodeStatus| Notification {
        severity,
        status,
        ..notification("e", sequence, &["it"])
    };
    for notification in [
        told(0, Severity::Warn, EpisodeStatus::Firing),
        told(1, Severity::Critical, EpisodeStatus::Firing),
        told(2, Severity::Critical, EpisodeStatus::Resolved),
    ] {
        assert_eq!(cluster.deliver(&notification, &context()).await, DELIVERED);
    }
    for (service, path) in [(&first, "/api/v2/alerts"), (&second, "/prefix/api/v2/alerts")] {
        let requests = service.requests();
        assert_eq!(requests.len(), 3);
        for request in &requests {
            assert_eq!((&request.method, request.path.as_str()), (&Method::POST, path));
            assert_eq!(request.headers["authorization"], "Bearer t0ken");
        }
        // Window closed at 14:00:05; what fires ends 30 days later, unless it is told to have ended before.
        let told = |place: usize| {
            let alerts = requests[place].body.as_array().unwrap().iter();
            let told = alerts.map(|alert| json!([alert["labels"]["severity"], alert["endsAt"]]));
            told.collect::<Vec<Value>>()
        };
        let (now, then) = ("2026-03-01T14:00:05.000Z", "2026-03-31T14:00:05.000Z");
        assert_eq!(told(0), [json!(["warning", then])]);
        assert_eq!(told(1), [json!(["critical", then]), json!(["warning", now])]);
        assert_eq!(told(2), [json!(["critical", now]), json!(["warning", now])]);
        assert_eq!(requests[0].body[0]["labels"]["team"], "risk");
        assert_eq!(requests[0].body[0]["generatorURL"], "https://drift.example.com/alerts/e");
    }
    second.answer(503, None, "starting");
    let outcome = cluster.deliver(&firing(), &context()).await;
    let reason = "member 2 of 2: http status 503: starting".to_string();
    assert_eq!(outcome, Outcome::Retry { reason: reason.clone(), after_ms: None });
    second.answer(503, None, "starting");
    let later = DeliveryContext { attempt: 5, ..context() };
    assert_eq!(cluster.deliver(&firing(), &later).await, Outcome::Delivered { remark: Some(reason) });
}
