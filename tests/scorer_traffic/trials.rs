//! Canaries on trial.

use std::time::Duration;

use driftline::scorer::registry::Change;
use serde_json::{Value, json};

use super::{Running, pass, registry, settings};

const SOUND: &str = "linear 1 + 0";

fn policy(progressive: &str) -> driftline::config::scorer::ScorerConfig {
    settings(&format!("  fraud: {{batching: {{workers: 1}}, traffic: {{progressive: {progressive}}}}}\n"))
}

/// Spread evenly from 0 to 1.
fn spread(number: usize) -> f32 {
    ((number * 7_919) % 600) as f32 / 600.0
}

/// Rounds of requests and turns until the canary is gone; what was decided then.
async fn until_it_is_gone(running: &mut Running, requests: usize, row: impl Fn(usize) -> f32) -> Value {
    for _ in 0..20 {
        running.ask(requests, &row).await;
        running.turn().await;
        if running.state().canary.is_none() {
            return running.decision().await.1;
        }
    }
    panic!("it still runs: {}", running.decision().await.1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_goes_from_one_percent_into_production_by_time_and_samples() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(folder.path(), "fraud", &[SOUND, SOUND]);
    let config = policy("{min_requests: 100, dwell: 10m, guards: {errors: {max_increase: 4%}}}");
    let mut running = Running::start(&registry, &config).await;
    running.try_version_two(100).await;
    for (step, share) in [100_u32, 500, 2_500, 5_000].into_iter().enumerate() {
        let canary = running.state().canary.unwrap();
        assert_eq!((canary.buckets, canary.step), (share, Some(step as u32)));
        assert_eq!(running.metric("driftline_scorer_canary_ratio{model=\"fraud\"}"), f64::from(share) / 10_000.0);
        // In the first step enough for the step, and not for the guard; later the guard has seen enough.
        let requests = if step == 0 { 115 } else { 150 } * 10_000 / share as usize;
        running.turn().await;
        assert_eq!(running.decision().await.0, "hold");
        if step % 2 == 0 {
            pass(601);
        } else {
            running.ask(requests, spread).await;
        }
        running.turn().await;
        let (verdict, decision) = running.decision().await;
        assert_eq!(verdict, "hold", "one of the two is not enough: {decision}");
        if step % 2 == 0 {
            running.ask(requests, spread).await;
        } else {
            pass(601);
        }
        running.turn().await;
        if step == 0 {
            let (verdict, decision) = running.decision().await;
            assert_eq!(verdict, "not_decided", "{decision}");
            let needed = decision["requests_needed"].as_u64().unwrap();
            assert!((5..200).contains(&needed), "{decision}");
            let gauge = running.metric("driftline_scorer_trial_requests_needed{model=\"fraud\"}");
            assert_eq!(gauge, needed as f64);
            running.ask((needed as usize * 5 / 4 + 20) * 100, spread).await;
            running.turn().await;
        }
        let (verdict, decision) = running.decision().await;
        assert_eq!(verdict, if step == 3 { "promote" } else { "advance" }, "{decision}");
    }
    let state = running.state();
    assert_eq!((state.production.as_deref(), state.previous.as_deref()), (Some("2"), Some("1")));
    let (status, arm, version) = running.infer("customer-1", &[], [1.0]).await;
    assert_eq!((status, arm.as_str(), version.as_str()), (200, "production", "2"));
    running.turn().await;
    let trial = running.told("/trial").await;
    assert_eq!(trial["outcome"], "promoted", "{trial}");
    let audit = running.registry.audit("fraud").unwrap();
    let steps = audit.iter().filter_map(|entry| match &entry.what {
        Change::SetCanary { step, .. } => *step,
        Change::StepCanary { step, .. } => Some(*step),
        _ => None,
    });
    assert_eq!(steps.collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(audit.iter().filter(|entry| entry.by == "trial").count(), 4);
    for (verdict, times) in [("advance", 3.0), ("promote", 1.0), ("roll_back", 0.0)] {
        let series = format!("driftline_scorer_trial_decisions_total{{model=\"fraud\",verdict=\"{verdict}\"}}");
        assert_eq!(running.metric(&series), times, "{verdict}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_fails_is_taken_back_and_stays_out() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(folder.path(), "fraud", &[SOUND, "linear 1 + 0; fails on 7"]);
    let mut running = Running::start(&registry, &policy("{steps: [20%, 100%], guards: {errors: {}}}")).await;
    running.try_version_two(2_000).await;
    let sevens = |number: usize| if number.is_multiple_of(3) { 7.0 } else { 1.0 };
    let decision = until_it_is_gone(&mut running, 200, sevens).await;
    assert_eq!(decision["verdict"], "roll_back", "{decision}");
    assert_eq!(decision["guards"][0]["shown"], "worse", "{decision}");
    let state = running.state();
    assert_eq!((state.production.as_deref(), state.rejected.as_slice()), (Some("1"), ["2".to_string()].as_slice()));
    assert_eq!(running.ask(300, sevens).await, 0, "production answers for everybody again");
    running.turn().await;
    assert_eq!(running.told("/trial").await["outcome"], "rolled_back");
    let (status, answer) = running.admin("POST", "/canary", Some(json!({"version": "2", "buckets": 100}))).await;
    assert_eq!(status, 409, "{answer}");
}

/// Clients give up on a version that hangs before it has failed anybody: that is a failure, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_never_answers_is_taken_back_though_its_callers_leave() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(folder.path(), "fraud", &[SOUND, "linear 1 + 0; hangs"]);
    let mut running = Running::start(&registry, &policy("{steps: [10%, 100%], guards: {errors: {}}}")).await;
    running.try_version_two(1_000).await;
    for round in 0.. {
        for _ in 0..150 {
            let _ = tokio::time::timeout(Duration::from_millis(100), running.score("fraud", 1.0, None)).await;
        }
        running.turn().await;
        if running.state().canary.is_none() {
            break;
        }
        assert!(round < 10, "{}", running.decision().await.1);
    }
    assert_eq!(running.state().rejected, ["2"]);
    assert_eq!(running.ask(100, spread).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_scores_differently_or_slowly_is_taken_back_by_the_guard_for_it() {
    for (guard, canary) in [
        ("score_mean", "linear 1 + 2"),
        // The mean is production's.
        ("score_drift", "linear 3 + -1"),
        ("latency", "linear 1 + 0; slow 60"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let registry = registry(folder.path(), "fraud", &[SOUND, canary]);
        let mut running =
            Running::start(&registry, &policy(&format!("{{steps: [5%, 100%], guards: {{{guard}: {{}}}}}}"))).await;
        running.try_version_two(500).await;
        let decision = until_it_is_gone(&mut running, 400, spread).await;
        assert_eq!(decision["verdict"], "roll_back", "{decision}");
        assert_eq!(
            (&decision["guards"][0]["guard"], &decision["guards"][0]["shown"]),
            (&json!(guard), &json!("worse"))
        );
        let ratio =
            running.metric(&format!("driftline_scorer_trial_evidence_ratio{{guard=\"{guard}\",model=\"fraud\"}}"));
        assert!(ratio >= 1.0, "{guard}: {ratio}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_like_production_is_not_taken_back_by_any_guard() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(folder.path(), "fraud", &[SOUND, SOUND]);
    let guards = "{steps: [20%, 100%], guards: {errors: {}, score_mean: {}, score_drift: {}}}";
    let mut running = Running::start(&registry, &policy(guards)).await;
    running.try_version_two(2_000).await;
    for _ in 0..10 {
        running.ask(400, spread).await;
        running.turn().await;
        assert!(running.state().canary.is_some(), "{}", running.decision().await.1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_that_come_later_are_waited_for_and_decide() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(folder.path(), "fraud", &[SOUND, SOUND]);
    let guard = "{metric: accuracy, better: higher, max_worse: 0.05, min_labels: 300}";
    let config = policy(&format!(
        "{{min_requests: 100, dwell: 0s, steps: [20%, 50%, 100%], guards: {{label_metric: {guard}}}}}"
    ));
    let mut running = Running::start(&registry, &config).await;
    let side = |n: u64, mean: f64| json!({"n": n, "mean": mean, "variance": mean * (1.0 - mean)});
    let report = |versions: Value| json!({"metric": "accuracy", "versions": versions});
    let good = report(json!({"1": side(4_000, 0.9), "2": side(2_000, 0.9)}));
    assert_eq!(running.admin("POST", "/trial/labels", Some(good.clone())).await.0, 409, "no trial runs");
    running.try_version_two(2_000).await;
    running.ask(600, spread).await;
    running.turn().await;
    assert_eq!(running.decision().await.0, "not_decided", "no labels yet");
    for (wrong, status) in [
        (report(json!({"1": side(10, 0.9)})), 409),
        (report(json!({"1": side(10, 0.9), "2": {"n": 1, "mean": 0.5, "variance": -1.0}})), 422),
        (json!({"metric": "accuracy"}), 422),
    ] {
        let (found, answer) = running.admin("POST", "/trial/labels", Some(wrong.clone())).await;
        assert_eq!(found, status, "{wrong}: {answer}");
    }
    let few = report(json!({"1": side(4_000, 0.9), "2": side(299, 0.9)}));
    for (labels, verdict, share) in [(few, "not_decided", 2_000), (good, "advance", 5_000)] {
        let (status, answer) = running.admin("POST", "/trial/labels", Some(labels)).await;
        assert_eq!(status, 200, "{answer}");
        running.turn().await;
        let (found, decision) = running.decision().await;
        assert_eq!((found.as_str(), running.state().canary.unwrap().buckets), (verdict, share), "{decision}");
    }
    let bad = report(json!({"1": side(9_000, 0.9), "2": side(6_000, 0.84)}));
    assert_eq!(running.admin("POST", "/trial/labels", Some(bad)).await.0, 200);
    running.turn().await;
    assert_eq!(running.decision().await.0, "roll_back");
    assert_eq!(running.state().rejected, ["2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_arm_that_is_asked_for_answers_and_counts_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(folder.path(), "fraud", &[SOUND, SOUND]);
    for allowed in [true, false] {
        let config = settings(&format!("  fraud: {{traffic: {{arm_override: {allowed}}}}}\n"));
        let mut running = Running::start(&registry, &config).await;
        running.try_version_two(100).await;
        for number in 0..30 {
            let entity = format!("customer-{number}");
            let (status, arm, version) = running.infer(&entity, &[("driftline-arm", "canary")], [1.0]).await;
            if allowed {
                assert_eq!((status, arm.as_str(), version.as_str()), (200, "canary", "2"));
            } else {
                assert_eq!(status, 400);
            }
        }
        running.turn().await;
        let (_, decision) = running.decision().await;
        assert_eq!(
            (&decision["canary_requests"], &decision["production_requests"]),
            (&json!(0), &json!(0)),
            "{decision}"
        );
        let (_, answer) = running.admin("DELETE", "/canary", None).await;
        assert_eq!(answer["canary"], Value::Null);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entity_stays_with_its_version_over_a_restart_and_a_greater_share() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(folder.path(), "fraud", &[SOUND, SOUND]);
    let mut met: Vec<Vec<bool>> = Vec::new();
    for share in [1_500, 1_500, 4_000] {
        // Each time another process.
        let running = Running::start(&registry, &settings("  fraud: {}\n")).await;
        running.try_version_two(share).await;
        let mut canary = Vec::new();
        for number in 0..200 {
            let (status, arm, _) = running.infer(&format!("customer-{number}"), &[], [1.0]).await;
            assert_eq!(status, 200);
            canary.push(arm == "canary");
        }
        met.push(canary);
    }
    assert_eq!(met[0], met[1]);
    assert!(
        met[0].iter().zip(&met[2]).all(|(before, after)| !before || *after),
        "nobody is taken out by a greater share"
    );
    let count = |canary: &[bool]| canary.iter().filter(|&&met| met).count();
    // 30 and 80 are expected; four standard deviations are 20 and 28.
    assert!((10..50).contains(&count(&met[0])) && (52..108).contains(&count(&met[2])), "{met:?}");
}
