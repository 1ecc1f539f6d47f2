//! The commands of an on-call engineer and the reload, by the real binary on a real broker.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use driftline::cli::sample::Sampler;
use driftline::dispatch::hook_catcher::HookCatcher;
use driftline::log::{Log, OutRecord};
use driftline::windows::result::WindowResult;
use serde_json::Value;
use support::{Service, Workspace, create_topic, free_port, http_get, kafka_log, unique, wait_until};

const MINUTE_MS: i64 = 60_000;
/// 2026-01-01T00:00:00Z
const START_MS: i64 = 1_767_225_600_000;

fn model_yaml(topic: &str) -> String {
    format!(
        "version: 1
model: fraud
topics: [{topic}]
fields: {{timestamp: timestamp, model: model, version: version, prediction_id: id, features: features.*}}
features:
  amount: {{type: numeric, required: true}}
  age_days: numeric
  merchant_category: categorical
  country: categorical
score: {{path: score, type: numeric}}
references: {{training: {{path: ../training.jsonl}}}}
windows: {{size: 1m, watermark_delay: 0s, allowed_lateness: 10m, idle_after: 2s}}
"
    )
}

fn rules_yaml(hook: &str, warn: &str) -> String {
    format!(
        "version: 1
rules:
  - {{name: feature-drift, model: fraud@*, min_samples: 200, when: {{warn: {warn}, critical: psi > 0.25}}}}
silences:
  - {{match: {{model: other}}, every: Sun 02:00-04:00 Europe/Paris, reason: backfill}}
routes:
  - {{match: {{}}, to: [hook]}}
receivers:
  hook: {{webhook: {{url: \"{hook}\", allow_private: true}}}}
"
    )
}

fn workspace(topic: &str, hook: &str) -> Workspace {
    let (model, rules) = (model_yaml(topic), rules_yaml(hook, "psi > 0.10"));
    let workspace = Workspace::new(&unique("operate"), &model, &rules, "ingest: {flush_interval: 100ms}\n");
    let rows = workspace.must(&["produce-sample", "--reference", "20000"]);
    std::fs::write(workspace.dir.join("training.jsonl"), rows).unwrap();
    workspace.must(&["reference", "build"]);
    workspace
}

fn append(log: &dyn Log, topic: &str, events: Vec<Value>) {
    let record = |(index, event): (usize, Value)| OutRecord {
        topic: topic.into(),
        partition: Some((index % 4) as i32),
        value: Some(event.to_string().into_bytes()),
        ..OutRecord::default()
    };
    log.append(events.into_iter().enumerate().map(record).collect()).unwrap();
}

fn hang_up(service: &Service) {
    let status = std::process::Command::new("kill").args(["-HUP", &service.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// Output, error output and exit code.
fn run(workspace: &Workspace, words: &[&str]) -> (String, String, i32) {
    let output = workspace.command(words).env("USER", "ana").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code().unwrap())
}

#[test]
#[ignore = "needs a broker: DRIFTLINE_TEST_KAFKA"]
fn each_command_works_on_a_real_broker() {
    let log = kafka_log();
    let topic = unique("predictions");
    create_topic(&*log, &topic, 4);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let hook = runtime.block_on(HookCatcher::start(free_port())).unwrap();
    let workspace = workspace(&topic, &hook.url());
    let (_, error, code) = run(&workspace, &["alerts", "list"]);
    assert!(code == 4 && error.contains("no `driftline run` has ever started"), "{code}: {error}");
    let mut service = workspace.start();
    service.wait_ready(Duration::from_secs(60));
    let mut sampler = Sampler::new(1);
    for minute in 0..4 {
        let at_ms = START_MS + minute * MINUTE_MS;
        append(&*log, &topic, (0..600).map(|event| sampler.event(at_ms + event * 100, minute > 0)).collect());
    }
    wait_until("an alert is told", Duration::from_secs(90), || !hook.hooks().is_empty());
    let says = |words: &[&str]| {
        let (out, error, code) = run(&workspace, words);
        assert_eq!(code, 0, "driftline {words:?}: {out}{error}");
        println!("$ driftline {}\n{out}", words.join(" "));
        out
    };
    let listed: Value = serde_json::from_str(&says(&["alerts", "list", "--format", "json"])).unwrap();
    let id = listed["alerts"][0]["episode_id"].as_str().expect("an alert fires").to_string();
    assert!(says(&["alerts", "list"]).contains("feature-drift"));
    wait_until("the delivery is recorded", Duration::from_secs(30), || {
        run(&workspace, &["alerts", "show", &id[..8]]).0.contains("hook: delivered")
    });
    assert!(says(&["alerts", "ack", &id, "--for", "1h", "--note", "mine"]).contains("acknowledged by ana until"));
    assert!(says(&["alerts", "list"]).contains("acknowledged by ana"));
    let explained = says(&["alerts", "explain", "feature-drift", "--feature", "amount"]);
    for expected in
        ["critical  psi > 0.25", "amount: psi", "adjusted p", "breaches, critical", "firing, critical", "hook"]
    {
        assert!(explained.contains(expected), "`{expected}` is not in\n{explained}");
    }
    let of_alert = says(&["alerts", "explain", &id]);
    assert!(of_alert.contains("hook: delivered") && of_alert.contains("acknowledged by ana"), "{of_alert}");
    assert!(says(&["alerts", "history", "--since", "2026-01-01"]).contains("ana acknowledged it"));
    assert!(says(&["alerts", "unack", &id]).contains("no longer acknowledged"));
    let silence = ["silence", "add", "--match", "model=fraud@*", "--for", "1h", "--reason", "backfill"];
    let added = says(&silence);
    assert!(added.contains("1 alert that fire now match"), "{added}");
    let silence_id = added.split([' ', ':']).nth(1).unwrap();
    assert!(says(&["silence", "list"]).contains("holds"));
    assert!(says(&["silence", "preview"]).contains("model=other: backfill"));
    assert!(says(&["silence", "preview", "--match", "severity=critical"]).contains("1 of 1 alerts"));
    assert!(says(&["silence", "expire", silence_id]).contains("has ended"));
    assert!(says(&["deliveries", "list", "--status", "all"]).contains("delivered"));
    let first = format!("{id}-0");
    let before = hook.hooks().len();
    assert!(says(&["deliveries", "retry", &first, "--receiver", "hook"]).contains("goes to hook again"));
    assert!(says(&["deliveries", "test", "hook"]).contains("hook (resolved): accepted"));
    wait_until("the sample and its end arrive", Duration::from_secs(30), || hook.hooks().len() >= before + 2);
    assert!(says(&["actions", "list"]).contains("no run waits"));
    let (_, error, code) = run(&workspace, &["alerts", "ack", "ffffffff"]);
    assert!(code == 1 && error.contains("driftline alerts list --status all"), "{code}: {error}");
    let (_, error, code) = run(&workspace, &["silence", "add", "--for", "1h", "--reason", "x"]);
    assert!(code == 2 && error.contains("--all"), "{code}: {error}");
    let away = workspace
        .command(&["alerts", "list"])
        .env("DRIFTLINE__KAFKA__BOOTSTRAP_SERVERS", format!("127.0.0.1:{}", free_port()))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&away.stderr);
    assert!(away.status.code() == Some(4) && error.contains("Kafka cannot be asked"), "{error}");
    drop(runtime);
}

/// Events in the last revision of each window.
fn counted(workspace: &Workspace, log: &dyn Log) -> BTreeMap<i64, u64> {
    let mut last: BTreeMap<i64, WindowResult> = BTreeMap::new();
    for result in workspace.results(log).into_iter().filter(|result| result.segment.is_all()) {
        let newer = last.get(&result.window.start_ms).is_none_or(|held| held.revision <= result.revision);
        if newer {
            last.insert(result.window.start_ms, result);
        }
    }
    last.into_iter().map(|(start_ms, result)| (start_ms, result.rows)).collect()
}

#[test]
#[ignore = "needs a broker: DRIFTLINE_TEST_KAFKA"]
fn ten_reloads_under_load_lose_and_double_no_event_on_a_real_broker() {
    let log = kafka_log();
    let topic = unique("predictions");
    create_topic(&*log, &topic, 4);
    let workspace = workspace(&topic, "http://127.0.0.1:1/");
    let mut service = workspace.start();
    service.wait_ready(Duration::from_secs(60));
    let (stop, next_ms) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(START_MS)));
    let producer = {
        let (log, topic, stop, next_ms) = (log.clone(), topic.clone(), stop.clone(), next_ms.clone());
        std::thread::spawn(move || {
            let mut sampler = Sampler::new(3);
            let mut sent: BTreeMap<i64, u64> = BTreeMap::new();
            while !stop.load(Ordering::SeqCst) {
                let at_ms = next_ms.fetch_add(2_000, Ordering::SeqCst);
                append(&*log, &topic, (0..40).map(|_| sampler.event(at_ms, false)).collect());
                *sent.entry(at_ms - at_ms.rem_euclid(MINUTE_MS)).or_default() += 40;
                std::thread::sleep(Duration::from_millis(20));
            }
            sent
        })
    };
    let metric = |name: &str| -> Option<f64> {
        let (_, text) = http_get(workspace.http_port, "/metrics")?;
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    };
    let taken_up = || metric("driftline_config_last_reload_success_timestamp_seconds").unwrap_or(0.0);
    let rules = workspace.dir.join("rules/rules.yaml");
    for round in 0..10 {
        let warn = if round % 2 == 0 { "psi > 0.11" } else { "psi > 0.12" };
        std::fs::write(&rules, rules_yaml("http://127.0.0.1:1/", warn)).unwrap();
        let before = taken_up();
        hang_up(&service);
        wait_until("the reload", Duration::from_secs(60), || taken_up() > before);
    }
    std::fs::write(&rules, rules_yaml("http://127.0.0.1:1/", "pis > 0.11")).unwrap();
    hang_up(&service);
    wait_until("the refusal", Duration::from_secs(60), || {
        metric("driftline_config_last_reload_successful") == Some(0.0)
    });
    assert!(service.log().contains("did you mean `psi`"), "the log says why");
    stop.store(true, Ordering::SeqCst);
    let sent = producer.join().unwrap();
    let end_ms = next_ms.load(Ordering::SeqCst) + 5 * MINUTE_MS;
    let mut sampler = Sampler::new(4);
    append(&*log, &topic, (0..8).map(|_| sampler.event(end_ms, false)).collect());
    wait_until("every window to have every event once", Duration::from_secs(120), || {
        let counted = counted(&workspace, &*log);
        sent.iter().all(|(start_ms, rows)| counted.get(start_ms) == Some(rows))
    });
    println!("{} windows, {} events, 10 reloads", sent.len(), sent.values().sum::<u64>());
    assert!(service.terminate().success());
}
