//! A process that is killed while a trial runs.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use driftline::scorer::registry::audit::AuditEntry;
use driftline::scorer::registry::{Change, Registry};
use serde_json::Value;

use super::{Running, change, registry, settings};

const FOLDER: &str = "DRIFTLINE_TEST_TRIAL_FOLDER";
const STEPS: [u32; 4] = [1_000, 3_000, 6_000, 10_000];
const KILLS: u32 = 50;

const POLICY: &str = "
  fraud:
    batching: {workers: 1}
    traffic:
      progressive:
        steps: [10%, 30%, 60%, 100%]
        min_requests: 100
        dwell: 0s
        guards: {errors: {max_increase: 20%}}
";

/// Tries version after version: whenever there is no canary, the one that is not in production becomes it.
async fn try_for_ever(folder: &Path, until: Option<Instant>) {
    let registry = std::sync::Arc::new(Registry::open(folder).unwrap());
    let mut running = Running::start(&registry, &settings(POLICY)).await;
    while until.is_none_or(|until| Instant::now() < until) {
        let state = running.state();
        if state.canary.is_none() {
            let version = if state.production.as_deref() == Some("1") { "2" } else { "1" };
            let (version, buckets) = (version.to_string(), STEPS[0]);
            change(&registry, "fraud", Change::SetCanary { version, buckets, salt: None, step: Some(0), force: false });
            running.follow.refreshed().await;
        }
        running.ask(300, |_| 1.0).await;
        running.turn().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that is killed by kill_nine_of_a_running_trial_decides_nothing_twice_and_skips_no_step"]
async fn a_process_whose_trials_follow_each_other() {
    match std::env::var_os(FOLDER) {
        Some(folder) => try_for_ever(Path::new(&folder), None).await,
        None => {
            let folder = tempfile::tempdir().unwrap();
            let registry = registry(folder.path(), "fraud", &["linear 1 + 0", "linear 1 + 0"]);
            try_for_ever(folder.path(), Some(Instant::now() + Duration::from_secs(3))).await;
            assert_steps(&registry.audit("fraud").unwrap());
        }
    }
}

/// Each canary begins at the first step, goes through each of the others once, and is promoted once; gives how many were.
fn assert_steps(audit: &[AuditEntry]) -> usize {
    let (mut wanted, mut promoted) = (0, 0);
    for (index, entry) in audit.iter().enumerate().skip(1) {
        assert_eq!(entry.generation, index as u64 + 1, "no generation twice, none left out");
        let by = if wanted == 0 { "tester" } else { "trial" };
        assert_eq!(entry.by, by, "{entry:?}");
        match &entry.what {
            Change::SetCanary { step, buckets, .. } => {
                assert_eq!((*step, *buckets, wanted), (Some(0), STEPS[0], 0), "{entry:?}");
                wanted = 1;
            }
            Change::StepCanary { step, buckets, .. } => {
                assert_eq!((*step, *buckets), (wanted, STEPS[wanted as usize]), "{entry:?}");
                wanted += 1;
            }
            Change::Promote { .. } => {
                assert_eq!(wanted as usize, STEPS.len() - 1, "promoted from the last step: {entry:?}");
                assert_ne!(entry.to.production, entry.from.production, "{entry:?}");
                (wanted, promoted) = (0, promoted + 1);
            }
            other => panic!("nobody asked for this: {other:?}"),
        }
    }
    promoted
}

/// (started at, requests of both sides) of the trial on disk.
fn seen(folder: &Path) -> Option<(i64, u64)> {
    let trial: Value = serde_json::from_slice(&std::fs::read(folder.join("models/fraud/trial.json")).ok()?).unwrap();
    let requests = |side: &str| trial["evidence"]["totals"][side]["requests"].as_u64().unwrap();
    Some((trial["started_at_ms"].as_i64().unwrap(), requests("canary") + requests("production")))
}

#[test]
fn kill_nine_of_a_running_trial_decides_nothing_twice_and_skips_no_step() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(folder.path(), "fraud", &["linear 1 + 0", "linear 1 + 0"]);
    let child = "scorer_traffic::kill::a_process_whose_trials_follow_each_other";
    let (mut went_on, mut last) = (0, None);
    for kill in 0..KILLS {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", child, "--ignored", "--test-threads", "1"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Killed some milliseconds after it has written something: moments spread over a turn, by the golden ratio.
        let give_up = Instant::now() + Duration::from_secs(60);
        while seen(folder.path()) == last {
            assert!(Instant::now() < give_up, "kill {kill}: the trial stands still");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros(((f64::from(kill) * 0.618_033_988_75).fract() * 40_000.0) as u64));
        process.kill().unwrap();
        process.wait().unwrap();
        let now = seen(folder.path());
        if let (Some((trial, before)), Some((later, after))) = (last, now)
            && trial == later
        {
            assert!(after >= before, "kill {kill}: {after} requests are known, {before} were");
            went_on += 1;
        }
        last = now;
        let audit = registry.audit("fraud").unwrap();
        assert_steps(&audit);
    }
    let promoted = assert_steps(&registry.audit("fraud").unwrap());
    println!("{KILLS} kills: {went_on} trials went on, {promoted} versions were promoted");
    assert!(went_on > 0 && promoted > 0, "{went_on} {promoted}");
}
