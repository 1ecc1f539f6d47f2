//! A real Alertmanager (Debian's `prometheus-alertmanager`) takes Driftline's alerts, holds them as long as they fire, and
//! tells its own receivers of beginning, rise and end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod dispatch_support;

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use dispatch_support::notification;
use dispatch_support::samples::hostile;
use driftline::config::receivers::{AlertmanagerReceiver, Receiver, TextOrSecret};
use driftline::config::rules::Severity;
use driftline::config::units::Span;
use driftline::dispatch::receiver::{DeliveryContext, Means, Outcome, Telling, Transport, build};
use driftline::rules::episode::{EpisodeStatus, Notification};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const PATIENCE: Duration = Duration::from_secs(30);

/// What Alertmanager told its receiver: severity and status of each alert, one list a message.
type Told = Arc<Mutex<Vec<Vec<(String, String)>>>>;

/// Ends when it is dropped.
struct Alertmanager {
    process: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Alertmanager {
    async fn start(hook: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = json!({
            "route": {"receiver": "hook", "group_by": ["episode"], "group_wait": "100ms", "group_interval": "300ms"},
            "receivers": [{"name": "hook", "webhook_configs": [{"url": hook, "send_resolved": true}]}],
        });
        let file = folder.path().join("alertmanager.yml");
        std::fs::write(&file, config.to_string()).unwrap(); // JSON is YAML
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let process = Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={free}"))
            .arg("--cluster.listen-address=")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Debian's prometheus-alertmanager is installed");
        // reqwest brings no TLS provider of its own. An error means that one is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let alertmanager = Self { process, url: format!("http://{free}"), _folder: folder };
        let deadline = Instant::now() + PATIENCE;
        while reqwest::get(format!("{}/-/ready", alertmanager.url)).await.is_err() {
            assert!(Instant::now() < deadline, "Alertmanager does not start");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        alertmanager
    }

    /// Severities of the alerts of an episode that it holds to be firing.
    async fn firing(&self, episode: &str) -> Vec<String> {
        let alerts: Vec<Value> =
            reqwest::get(format!("{}/api/v2/alerts", self.url)).await.unwrap().json().await.unwrap();
        let of_episode = alerts.iter().filter(|alert| alert["labels"]["episode"] == episode);
        of_episode.map(|alert| alert["labels"]["severity"].as_str().unwrap().to_string()).collect()
    }
}

async fn take(State(told): State<Told>, axum::Json(message): axum::Json<Value>) {
    let text = |value: &Value| value.as_str().unwrap().to_string();
    let alerts = message["alerts"].as_array().unwrap().iter();
    let mut alerts: Vec<_> = alerts.map(|alert| (text(&alert["labels"]["severity"]), text(&alert["status"]))).collect();
    alerts.sort();
    told.lock().unwrap().push(alerts);
}

async fn listen(told: Told) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let router = Router::new().route("/", post(take)).with_state(told);
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn wait_for(told: &Told, expected: &[(&str, &str)]) {
    let expected: Vec<(String, String)> =
        expected.iter().map(|(severity, status)| (severity.to_string(), status.to_string())).collect();
    let deadline = Instant::now() + PATIENCE;
    while told.lock().unwrap().last() != Some(&expected) {
        assert!(Instant::now() < deadline, "told {:?}, expected {expected:?} at last", told.lock().unwrap());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

fn told_now(episode: &str, sequence: u32, severity: Severity, status: EpisodeStatus) -> Notification {
    Notification { severity, status, at_ms: now_ms(), ..notification(episode, sequence, &["am"]) }
}

#[tokio::test]
#[ignore = "needs Debian's prometheus-alertmanager"]
async fn a_real_alertmanager_tells_beginning_rise_and_end() {
    let told = Told::default();
    let alertmanager = Alertmanager::start(&listen(told.clone()).await).await;
    let config = AlertmanagerReceiver {
        urls: vec![TextOrSecret::Text(alertmanager.url.clone())],
        authorization: None,
        labels: BTreeMap::from([("team".into(), "risk".into())]),
        ends_after: Span::from_days(30),
        allow_private: true,
        timeout: None,
    };
    let receiver = Receiver { alertmanager: Some(config), ..Receiver::default() };
    let transport: Box<dyn Transport> =
        build("am", &receiver, Means::default()).map_err(|error| error.to_string()).unwrap();
    let context =
        DeliveryContext { public_url: "https://drift.example.com".into(), attempt: 1, telling: Telling::News };
    let deliver = async |notification: Notification| {
        let outcome = transport.deliver(&notification, &context).await;
        assert_eq!(outcome, Outcome::Delivered { remark: None }, "{}", notification.id);
    };

    deliver(told_now("rising", 0, Severity::Warn, EpisodeStatus::Firing)).await;
    wait_for(&told, &[("warning", "firing")]).await;
    deliver(told_now("rising", 1, Severity::Critical, EpisodeStatus::Firing)).await;
    wait_for(&told, &[("critical", "firing"), ("warning", "resolved")]).await;
    assert_eq!(alertmanager.firing("rising").await, ["critical"]);
    // A copy changes nothing.
    deliver(told_now("rising", 1, Severity::Critical, EpisodeStatus::Firing)).await;
    assert_eq!(alertmanager.firing("rising").await, ["critical"]);
    deliver(told_now("rising", 2, Severity::Critical, EpisodeStatus::Resolved)).await;
    let deadline = Instant::now() + PATIENCE;
    while !told.lock().unwrap().last().is_some_and(|last| last.contains(&("critical".into(), "resolved".into()))) {
        assert!(Instant::now() < deadline, "{:?}", told.lock().unwrap());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(alertmanager.firing("rising").await, Vec::<String>::new());

    // Of an alert that was critical from the start, nothing is told at warn.
    deliver(told_now("critical", 0, Severity::Critical, EpisodeStatus::Firing)).await;
    wait_for(&told, &[("critical", "firing")]).await;
    deliver(told_now("critical", 1, Severity::Critical, EpisodeStatus::Resolved)).await;
    wait_for(&told, &[("critical", "resolved")]).await;

    let sent = Notification { at_ms: now_ms(), ..hostile() };
    let episode = sent.episode_id.clone();
    deliver(sent).await;
    assert_eq!(alertmanager.firing(&episode).await, ["critical"]);
    println!("told: {:?}", told.lock().unwrap());
}
