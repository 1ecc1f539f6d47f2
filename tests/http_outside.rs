//! Pages in a real browser, dashboards on a real Prometheus. Both come from Debian; CI has them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod http_sample;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use driftline::scorer::registry::register::Registration;
use driftline::scorer::registry::{Change, ChangeRequest, Registry};
use http_sample::{EPISODE, PERFORMANCE_EPISODE, more, start, state, view};

fn script(name: &str) -> Command {
    let mut command = Command::new("bash");
    command.arg(format!("{}/scripts/{name}", env!("CARGO_MANIFEST_DIR")));
    command
}

/// A service whose counters move.
fn start_busy() -> SocketAddr {
    let state = state(view());
    let metrics = state.metrics.clone();
    std::thread::spawn(move || {
        loop {
            more(&metrics);
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    start(state)
}

#[test]
#[ignore = "needs Debian's prometheus; CI runs it"]
fn every_query_of_every_dashboard_has_an_answer() {
    let status = script("prometheus_check.sh").arg(start_busy().to_string()).status().unwrap();
    assert!(status.success(), "{status}");
}

#[test]
#[ignore = "needs Debian's prometheus; CI runs it"]
fn a_misspelt_metric_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in driftline::http::dashboards::files() {
        if let Some(name) = path.strip_prefix("dashboards/") {
            let misspelt = content.replace("driftline_open_panes", "driftline_open_pains");
            std::fs::write(dir.path().join(name), misspelt).unwrap();
        }
    }
    let output = script("prometheus_check.sh").arg(start_busy().to_string()).arg(dir.path()).output().unwrap();
    let table = String::from_utf8_lossy(&output.stdout);
    let failed: Vec<&str> = table.lines().filter(|line| line.contains("FAIL")).collect();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && failed.len() == 1 && failed[0].contains("driftline_open_pains"),
        "{table}{told}"
    );
}

/// A scorer with a version in production, a canary on trial and a shadow, a model that another server computes (itself), no
/// broker, and a client that never stops.
struct BusyScorer {
    child: Child,
    admin: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Drop for BusyScorer {
    fn drop(&mut self) {
        // It may have died by itself; the test says why.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn start_busy_scorer() -> BusyScorer {
    let dir = tempfile::tempdir().unwrap();
    let (http, grpc, admin, nobody) = (free_address(), free_address(), free_address(), free_address());
    let settings = format!(
        "version: 1\nhttp: {{bind: '{http}'}}\ngrpc: {{bind: '{grpc}'}}\nadmin: {{bind: '{admin}'}}\nkafka: {{bootstrap_servers: '{nobody}'}}\n\
         events: {{enabled: true, max_rows: 100, delivery_timeout: 2s, close_timeout: 1s}}\n\
         models:\n  linear:\n    traffic: {{progressive: {{steps: [50%, 100%], min_requests: 1000000}}}}\n  \
         elsewhere:\n    proxy: {{kind: oip, url: 'http://{http}', versions: {{'1': {{model: linear}}}}}}\n"
    );
    std::fs::write(dir.path().join("scorer.yaml"), settings).unwrap();
    std::fs::create_dir(dir.path().join("registry")).unwrap();
    let model = std::fs::read(format!("{}/tests/fixtures/scorer/linear.onnx", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let registry = Registry::open(&dir.path().join("registry")).unwrap();
    for note in ["one", "two", "three"] {
        let files = [("model.onnx".to_string(), model.clone()), ("note.txt".to_string(), note.into())].into();
        let registration = Registration { model: "linear".into(), files, ..Registration::default() };
        registry.register(&registration, None, 0).unwrap();
    }
    let files = [("peer.json".to_string(), br#"{"model":"linear"}"#.to_vec())].into();
    let elsewhere =
        Registration { model: "elsewhere".into(), version: Some("1".into()), files, ..Registration::default() };
    registry.register(&elsewhere, None, 0).unwrap();
    let change_of = |model: &str, change: Change| {
        let request = ChangeRequest {
            change,
            expected_generation: None,
            expected_production: None,
            by: "test".into(),
            reason: String::new(),
            request_id: None,
        };
        registry.change(model, &request, 0).unwrap();
    };
    let change = |change: Change| change_of("linear", change);
    change_of("elsewhere", Change::Promote { version: "1".into(), force: false });
    change(Change::Promote { version: "1".into(), force: false });
    let canary = Change::SetCanary { version: "2".into(), buckets: 5_000, salt: None, step: Some(0), force: false };
    change(canary);
    change(Change::SetShadow { version: "3".into() });
    let child = Command::new(env!("CARGO_BIN_EXE_driftline-scorer"))
        .args(["serve", "--log", "warn", "--config"])
        .arg(dir.path().join("scorer.yaml"))
        .spawn()
        .unwrap();
    let scorer = BusyScorer { child, admin, _dir: dir };
    std::thread::spawn(move || {
        for request in 0_u64.. {
            // It ends with the process; before it listens there is nobody to talk to.
            ask(http, "linear", request % 100).unwrap_or_default();
            ask(http, "elsewhere", request % 100).unwrap_or_default();
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let deadline = Instant::now() + Duration::from_secs(60);
    let answers = |model: &str| ask(http, model, 0).is_some_and(|answer| answer.contains("200 OK"));
    while !(answers("linear") && answers("elsewhere")) {
        assert!(Instant::now() < deadline, "the scorer did not answer in a minute");
        std::thread::sleep(Duration::from_millis(100));
    }
    scorer
}

/// One request on a connection of its own; `None`: nobody listens.
fn ask(http: SocketAddr, model: &str, entity: u64) -> Option<String> {
    let data = format!("[{entity},1,2,3,4,5,6,7]");
    let body =
        format!("{{\"inputs\":[{{\"name\":\"features\",\"datatype\":\"FP32\",\"shape\":[1,8],\"data\":{data}}}]}}");
    let mut stream = TcpStream::connect(http).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(
        stream,
        "POST /v2/models/{model}/infer HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\ndriftline-entity: {entity}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
#[ignore = "needs Debian's prometheus and ONNX Runtime; CI runs it"]
fn every_query_of_the_scorers_dashboard_has_an_answer() {
    let mut scorer = start_busy_scorer();
    let output = script("prometheus_check.sh").arg(scorer.admin.to_string()).output().unwrap();
    let (table, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{table}{said}");
    assert!(table.contains("Driftline / Scorer") && !table.contains("Driftline / Overview"), "{table}");
    assert_eq!(scorer.child.try_wait().unwrap(), None, "the scorer ended");
}

#[test]
#[ignore = "needs Debian's chromium; CI runs it"]
fn the_home_page_renders_in_a_real_browser() {
    let address = start(state(view()));
    let mut check = script("browser_check.sh");
    check.arg(format!("http://{address}/"));
    check.args(["href=\"/models/fraud\"", "class=\"q4\"", &format!("/alerts/{EPISODE}")]);
    let status = check.status().unwrap();
    assert!(status.success(), "{status}");
}

/// `DRIFTLINE_SCREENSHOTS=DIR cargo test --test http_outside screenshots -- --ignored`, then look at them.
#[test]
#[ignore = "writes pictures for people to look at; needs Debian's chromium"]
fn screenshots_of_every_page() {
    let Ok(dir) = std::env::var("DRIFTLINE_SCREENSHOTS") else { panic!("set DRIFTLINE_SCREENSHOTS to a directory") };
    let address = start(state(view()));
    for (name, path) in [
        ("home", "/".to_string()),
        ("alert", format!("/alerts/{EPISODE}")),
        ("alert-performance", format!("/alerts/{PERFORMANCE_EPISODE}")),
        ("model", "/models/fraud".to_string()),
    ] {
        for (scheme, width) in [("light", "1280"), ("dark", "1280"), ("light", "390"), ("dark", "390")] {
            let png = format!("{dir}/{name}-{scheme}-{width}.png");
            let mut shot = script("screenshot.sh");
            let height = if name == "model" { "4200" } else { "1500" };
            let status = shot.args([&format!("http://{address}{path}"), &png, width, scheme, height]).status().unwrap();
            assert!(status.success() && std::fs::metadata(&png).is_ok_and(|file| file.len() > 1_000), "{png}");
        }
    }
}
