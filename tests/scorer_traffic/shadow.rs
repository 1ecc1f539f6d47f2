//! A shadow is never felt by those who are answered.

use std::time::{Duration, Instant};

use driftline::scorer::registry::Change;
use serde_json::json;

use super::{Running, change, registry, settings};

const SOUND: &str = "linear 1 + 0";

fn shadowed(running: &Running, model: &str, outcome: &str) -> u64 {
    let labels = format!("{{model=\"{model}\",outcome=\"{outcome}\",version=\"2\"}}");
    running.metric(&format!("driftline_scorer_shadow_requests_total{labels}")) as u64
}

/// Outcomes (ok, failed, dropped), once there is one for each request.
async fn outcomes(running: &Running, model: &str, requests: u64) -> (u64, u64, u64) {
    let give_up = Instant::now() + Duration::from_secs(30);
    loop {
        let [ok, failed, dropped] = ["ok", "failed", "dropped"].map(|outcome| shadowed(running, model, outcome));
        if ok + failed + dropped == requests {
            return (ok, failed, dropped);
        }
        assert!(Instant::now() < give_up, "{ok} + {failed} + {dropped} of {requests}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn set_shadow(running: &Running) {
    let (status, answer) = running.admin("POST", "/shadow", Some(json!({"version": "2"}))).await;
    assert_eq!(status, 200, "{answer}");
    running.follow.refreshed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_that_hangs_fails_panics_or_is_slow_is_dropped_and_nobody_waits_for_it() {
    for habit in ["hangs", "fails", "panics on 1", "slow 200"] {
        let folder = tempfile::tempdir().unwrap();
        let registry = registry(folder.path(), "fraud", &[SOUND, &format!("{SOUND}; {habit}")]);
        let config = settings("  fraud: {batching: {workers: 1}, traffic: {shadow: {queue_requests: 4}}}\n");
        let running = Running::start(&registry, &config).await;
        set_shadow(&running).await;
        let mut answered = 0;
        for _ in 0..400 {
            let answer = running.score("fraud", 1.0, None).await.unwrap();
            assert_eq!(answer.version, "1", "{habit}");
            answered += 1;
        }
        let ok = "driftline_scorer_requests_total{arm=\"production\",code=\"ok\",model=\"fraud\",version=\"1\"}";
        assert_eq!((answered, running.metric(ok)), (400, 400.0), "{habit}");
        let (ok, failed, dropped) = outcomes(&running, "fraud", 400).await;
        match habit {
            // Four wait, and four more for each five seconds that the test takes.
            "hangs" => assert!(ok == 0 && failed > 0 && dropped > 300, "{ok} {failed} {dropped}"),
            "slow 200" => assert!(ok > 0 && dropped > 200, "{ok} {failed} {dropped}"),
            _ => assert!(ok == 0 && failed > 0, "{habit}: {ok} {failed} {dropped}"),
        }
        // What is answered is the same where the shadow is another version.
        let (status, arm, version) = running.infer("customer-1", &[], [1.0]).await;
        assert_eq!((status, arm.as_str(), version.as_str()), (200, "production", "1"), "{habit}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_that_hangs_takes_no_room_from_the_shadow_of_another_model() {
    let folder = tempfile::tempdir().unwrap();
    let registries = registry(folder.path(), "fraud", &[SOUND, "linear 1 + 0; hangs"]);
    registry(folder.path(), "loans", &[SOUND, SOUND]);
    let config = settings("  fraud: {batching: {workers: 1}}\n  loans: {batching: {workers: 1}}\n");
    for model in ["fraud", "loans"] {
        change(&registries, model, Change::SetShadow { version: "2".into() });
    }
    let running = Running::start(&registries, &config).await;
    for _ in 0..300 {
        running.score("fraud", 1.0, None).await.unwrap();
    }
    assert!(shadowed(&running, "fraud", "dropped") > 0, "its queue is full");
    for _ in 0..200 {
        running.score("loans", 1.0, None).await.unwrap();
    }
    assert_eq!(outcomes(&running, "loans", 200).await, (200, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_that_hangs_holds_up_no_rollback_no_unload_and_no_end() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(folder.path(), "fraud", &[SOUND, "linear 1 + 0; hangs", SOUND]);
    change(&registry, "fraud", Change::Promote { version: "3".into(), force: false });
    let mut running = Running::start(&registry, &settings("  fraud: {batching: {workers: 2}}\n")).await;
    set_shadow(&running).await;
    for _ in 0..100 {
        running.score("fraud", 1.0, None).await.unwrap();
    }
    let clock = Instant::now();
    let body = json!({"to": "last_good", "expected": {"production": "3"}});
    let (status, answer) = running.admin("POST", "/rollback", Some(body)).await;
    assert_eq!((status, &answer["production"]), (200, &json!("1")), "{answer}");
    running.follow.refreshed().await;
    assert_eq!(running.score("fraud", 1.0, None).await.unwrap().version, "1");
    let (status, answer) = running.admin("DELETE", "/shadow", None).await;
    assert_eq!(status, 200, "{answer}");
    running.follow.refreshed().await;
    assert_eq!(running.ask(50, |_| 1.0).await, 0);
    running.follow.unload("fraud").await.unwrap();
    assert!(running.score("fraud", 1.0, None).await.is_err());
    running.follow.load("fraud").await.unwrap();
    assert_eq!(running.ask(50, |_| 1.0).await, 0);
    running.stop.cancel();
    let server = running.server.take().unwrap();
    tokio::task::spawn_blocking(move || server.join()).await.unwrap();
    assert!(clock.elapsed() < Duration::from_secs(20), "{:?}", clock.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_never_gets_warm_is_refused_in_time_and_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(folder.path(), "fraud", &[SOUND, "linear 1 + 0; hangs in warming", SOUND]);
    let running = Running::start(&registry, &settings("  fraud: {}\n")).await;
    for _ in 0..2 {
        let (status, answer) = running.admin("POST", "/promote", Some(json!({"version": "2"}))).await;
        assert_eq!(status, 422, "{answer}");
        assert!(answer["detail"].as_str().unwrap().contains("still being loaded and warmed"), "{answer}");
    }
    let (status, answer) = running.admin("POST", "/promote", Some(json!({"version": "3"}))).await;
    assert_eq!((status, &answer["production"]), (200, &json!("3")), "{answer}");
    running.follow.refreshed().await;
    assert_eq!(running.score("fraud", 1.0, None).await.unwrap().version, "3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_shadow_scores_differently_is_counted() {
    for (shadow, rows, different, largest) in [
        ("linear 1 + 0.00005", [0.0, 0.5], 0.0, 0.00005),
        ("linear 1 + 0.25", [0.0, 0.5], 2.0, 0.25),
        // A difference that is no number is one, and moves no mean and no maximum.
        ("linear 0 + 0.5", [f32::INFINITY, 0.25], 2.0, 0.25),
        // No number on both sides is no difference.
        ("linear 1 + 0.25", [f32::NAN, 0.5], 1.0, 0.25),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let registry = registry(folder.path(), "fraud", &[SOUND, shadow]);
        let running = Running::start(&registry, &settings("  fraud: {batching: {workers: 1}}\n")).await;
        set_shadow(&running).await;
        for row in rows {
            running.score("fraud", row, None).await.unwrap();
        }
        assert_eq!(outcomes(&running, "fraud", 2).await, (2, 0, 0));
        let of =
            |name: &str| running.metric(&format!("driftline_scorer_shadow_{name}{{model=\"fraud\",version=\"2\"}}"));
        let finite = rows.iter().filter(|row| row.is_finite()).count() as f64;
        assert_eq!((of("differences_total"), of("difference_count")), (different, finite), "{shadow} {rows:?}");
        assert!((of("difference_max") - largest).abs() < 1e-6, "{shadow} {rows:?}: {}", of("difference_max"));
    }
}
