//! Pages in a real browser, dashboards on a real Prometheus. Both come from Debian; CI has them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod http_sample;

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

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
    assert!(!output.status.success() && failed.len() == 1 && failed[0].contains("driftline_open_pains"), "{table}");
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
