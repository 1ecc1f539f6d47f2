//! A million events on a real broker: equal to the oracle, the same under `kill -9`, and the alerts that the drift
//! in the data deserves. Needs a broker, the generated data and its expected values; `.ci/run` provides them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "default_rules/mod.rs"]
mod default_rules;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use driftline::config::parse_model_str;
use driftline::dispatch::hook_catcher::HookCatcher;
use driftline::log::{ConsumerOptions, Log, StartOffset, TopicPartition};
use driftline::rules::episode::{EpisodeStatus, Notification};
use driftline::windows::result::WindowResult;
use serde_json::Value;
use support::{Workspace, create_topic, kafka_log, required, unique, wait_until};

const EVENTS: u64 = 1_000_000;
const WINDOWS: usize = 24;
const KILLS: usize = 20;
/// Events a second while the service is being killed: the events last about as long as the kills.
const PACE: usize = 11_000;
const HOUR_MS: i64 = 3_600_000;

fn model_yaml(topic: &str, reference: &Path) -> String {
    let mut yaml = format!(
        "version: 1\nmodel: fraud-scorer\ntopics: [{topic}]\nfields:\n  timestamp: event_time\n  model: model\n  version: version\n  prediction_id: event_id\n  features: \"*\"\nscore: {{path: score, type: numeric}}\nreferences:\n  training: {{path: {}}}\nwindows: {{size: 1h, watermark_delay: 0s, allowed_lateness: 1h, idle_after: 5s}}\nfeatures:\n",
        reference.display()
    );
    for index in 0..20 {
        yaml += &format!("  num_{index:02}: numeric\n");
    }
    for index in 0..5 {
        yaml += &format!("  cat_{index}: categorical\n");
    }
    yaml
}

fn rules_yaml(hook: &str) -> String {
    format!(
        r#"
version: 1
rules:
  - name: feature-drift
    model: fraud-scorer@*
    features: {{include: ["num_*", "cat_*"]}}
    when: {{warn: psi > 0.10, critical: psi > 0.25}}
    significance: {{test: auto, alpha: 0.01, correction: benjamini-hochberg}}
    window: 1h
    group_by: [model, version, feature]
  - name: missing-values
    model: fraud-scorer@*
    features: {{include: ["num_*", "cat_*"]}}
    when: {{critical: null_rate_change > 5%}}
    window: 1h
    group_by: [model, version, feature]
routes:
  - {{match: {{}}, to: [hook]}}
receivers:
  hook: {{webhook: {{url: "{hook}", allow_private: true}}}}
"#
    )
}

/// Kafka's own console producer, its standard input open.
fn stock_producer(topic: &str) -> Child {
    create_topic(&*kafka_log(), topic, 4);
    Command::new("bash")
        .args([
            concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/kafka.sh"),
            "produce",
            &required("DRIFTLINE_TEST_KAFKA_DIR"),
            topic,
        ])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Writes the generated events to the producer; at `rate` events a second, or as fast as it takes them.
fn feed(producer: &mut Child, rate: Option<usize>) {
    let data = Path::new(&required("DRIFTLINE_SYNTH")).join("current.jsonl");
    let mut lines = BufReader::with_capacity(1 << 20, std::fs::File::open(&data).expect("the generated events"));
    let mut input = producer.stdin.take().unwrap();
    match rate {
        None => drop(std::io::copy(&mut lines, &mut input).unwrap()),
        Some(rate) => {
            let (started, mut line, mut sent) = (Instant::now(), Vec::new(), 0);
            while lines.read_until(b'\n', &mut line).unwrap() > 0 {
                input.write_all(&line).unwrap();
                line.clear();
                sent += 1;
                let due = Duration::from_secs_f64(sent as f64 / rate as f64);
                if sent % 1_000 == 0 && due > started.elapsed() {
                    std::thread::sleep(due - started.elapsed());
                }
            }
        }
    }
    drop(input);
    let status = producer.wait().unwrap();
    assert!(status.success(), "the console producer exited with {status}");
}

fn assert_all_produced(topic: &str) {
    let options = ConsumerOptions { group: None, topics: vec![], start: StartOffset::Earliest, read_committed: true };
    let consumer = kafka_log().consumer(options).unwrap();
    let end = |partition| consumer.offsets(&TopicPartition::new(topic, partition)).unwrap().1;
    let counts: Vec<i64> = (0..4).map(end).collect();
    assert_eq!(counts.iter().sum::<i64>(), EVENTS as i64, "events per partition: {counts:?}");
    assert!(counts.iter().all(|count| *count > 0), "every partition holds events: {counts:?}");
}

fn expected() -> Value {
    let path = required("DRIFTLINE_SYNTH_EXPECTED");
    serde_json::from_slice(&std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))).unwrap()
}

fn workspace(app: &str, topic: &str, hook: &HookCatcher) -> Workspace {
    let reference = Path::new(&required("DRIFTLINE_SYNTH")).join("reference.parquet");
    let workspace = Workspace::new(
        app,
        &model_yaml(topic, &reference),
        &rules_yaml(&hook.url()),
        "ingest: {flush_rows: 16384}\ndispatch: {first_retry: 100ms}\n",
    );
    eprintln!("{}", workspace.must(&["reference", "build"]));
    workspace.must(&["check"]);
    workspace
}

fn windows_closed(workspace: &Workspace, log: &dyn Log) -> usize {
    let windows: BTreeSet<i64> = workspace.results(log).iter().map(|result| result.window.start_ms).collect();
    windows.len()
}

/// Value of a metric; panics with its place if it is not there.
fn value(result: &WindowResult, feature: &str, metric: &str) -> f64 {
    result.features[feature].metrics.get(metric).and_then(|metric| metric.value).unwrap_or_else(|| {
        panic!("window {} has no {metric} of {feature}", result.window.start_ms);
    })
}

fn assert_close(ours: f64, oracle: f64, tolerance: f64, what: &str, worst: &mut BTreeMap<String, f64>, metric: &str) {
    let difference = (ours - oracle).abs();
    let entry = worst.entry(metric.to_string()).or_default();
    *entry = entry.max(difference);
    assert!(difference <= tolerance, "{what}: {ours} here, {oracle} by the oracle, {difference:e} apart");
}

fn assert_equals_oracle(results: &[WindowResult], oracle: &Value) {
    let mut worst: BTreeMap<String, f64> = BTreeMap::new();
    let mut compared = 0;
    let windows = oracle["windows"].as_array().unwrap();
    assert_eq!(results.len(), windows.len(), "one result per window");
    for window in windows {
        let start_ms = window["start_ms"].as_i64().unwrap();
        let result = results.iter().find(|result| result.window.start_ms == start_ms).expect("a result per window");
        assert_eq!(result.rows, window["rows"].as_u64().unwrap(), "rows of window {start_ms}");
        assert_eq!((result.revision, result.complete), (0, true), "window {start_ms} closed once and complete");
        for (feature, expected) in window["features"].as_object().unwrap() {
            let numeric = feature.starts_with("num_");
            let keys: &[(&str, &str, f64)] = if numeric {
                &[
                    ("psi", "psi_q10", 1e-9),
                    ("psi_q20", "psi_q20", 1e-9),
                    ("js", "js_q10", 1e-7),
                    ("null_rate", "missing_rate", 1e-9),
                ]
            } else {
                &[
                    ("psi", "psi", 1e-9),
                    ("js", "js", 1e-7),
                    ("chi_square", "chi2", 1e-9),
                    ("cramers_v", "cramers_v", 1e-9),
                    ("unseen_rate", "unseen_rate", 1e-9),
                    ("null_rate", "missing_rate", 1e-9),
                ]
            };
            for (metric, key, tolerance) in keys {
                let oracle = expected[key].as_f64().unwrap();
                let what = format!("{metric} of {feature} in window {start_ms}");
                let ours = value(result, feature, metric);
                assert_close(ours, oracle, tolerance * oracle.abs().max(1.0), &what, &mut worst, metric);
                compared += 1;
            }
            if numeric {
                for (metric, key, most) in [("ks", "ks", 1e-3), ("wasserstein_norm", "wasserstein_std0", f64::INFINITY)]
                {
                    let bound = result.features[feature].metrics[metric].bound.unwrap_or(0.0);
                    let what = format!("{metric} of {feature} in window {start_ms} (bound {bound:e})");
                    let tolerance = (bound + 1e-12).min(most);
                    let oracle = expected[key].as_f64().unwrap();
                    assert_close(value(result, feature, metric), oracle, tolerance, &what, &mut worst, metric);
                    compared += 1;
                }
            }
        }
    }
    eprintln!("{compared} values equal the oracle's; largest differences: {worst:?}");
}

/// (rule, feature, first window, status) of every notification that the oracle's values call for.
fn deserved(oracle: &Value) -> BTreeSet<(String, String, i64, bool)> {
    let windows = oracle["windows"].as_array().unwrap();
    let mut deserved = BTreeSet::new();
    for feature in windows[0]["features"].as_object().unwrap().keys() {
        let breached = |window: &Value, rule: &str| {
            let values = &window["features"][feature];
            match rule {
                "feature-drift" => {
                    let psi = if feature.starts_with("num_") { &values["psi_q10"] } else { &values["psi"] };
                    psi.as_f64().unwrap() > 0.10
                }
                _ => values["missing_rate"].as_f64().unwrap() - values["missing_rate_ref"].as_f64().unwrap() > 0.05,
            }
        };
        for rule in ["feature-drift", "missing-values"] {
            let mut firing: Option<i64> = None;
            for window in windows {
                match (firing, breached(window, rule)) {
                    (None, true) => {
                        firing = window["start_ms"].as_i64();
                        deserved.insert((rule.to_string(), feature.clone(), firing.unwrap(), true));
                    }
                    (Some(first), false) => {
                        deserved.insert((rule.to_string(), feature.clone(), first, false));
                        firing = None;
                    }
                    _ => {}
                }
            }
        }
    }
    deserved
}

fn told(notifications: &[Notification]) -> BTreeSet<(String, String, i64, bool)> {
    let told = |notification: &Notification| {
        let firing = notification.status == EpisodeStatus::Firing;
        let feature = notification.feature.clone().expect("the rules group by feature");
        (notification.rule.clone(), feature, notification.first_window.start_ms, firing)
    };
    notifications.iter().map(told).collect()
}

/// No alert without an injected drift of that feature in that hour.
fn assert_within_the_plan(notifications: &[Notification]) {
    let path = Path::new(&required("DRIFTLINE_SYNTH")).join("drift_plan.json");
    let plan: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for notification in notifications.iter().filter(|notification| notification.status == EpisodeStatus::Firing) {
        let hour = notification.window.start_ms.rem_euclid(24 * HOUR_MS) / HOUR_MS;
        let feature = notification.feature.as_deref().unwrap();
        let injected = plan["drift"].as_array().unwrap().iter().any(|drift| {
            drift["column"] == feature && drift["hours"].as_array().unwrap().iter().any(|at| at.as_i64() == Some(hour))
        });
        assert!(injected, "an alert on {feature} in hour {hour}, where nothing was injected: {}", notification.summary);
    }
}

fn assert_delivered(notifications: &[Notification], hook: &HookCatcher) {
    let sent: BTreeMap<&str, &Notification> = notifications.iter().map(|sent| (sent.id.as_str(), sent)).collect();
    wait_until("every notification is delivered", Duration::from_secs(60), || {
        let received: BTreeSet<String> = hook.hooks().into_iter().map(|hook| hook.id).collect();
        sent.keys().all(|id| received.contains(*id))
    });
    let mut last_sequence: BTreeMap<String, u32> = BTreeMap::new();
    for received in hook.hooks() {
        let original = sent.get(received.id.as_str()).unwrap_or_else(|| panic!("{} is not in the outbox", received.id));
        assert_eq!(&&received.notification, original, "every copy of {} is the same", received.id);
        let last = last_sequence.entry(original.episode_id.clone()).or_default();
        assert!(original.sequence >= *last, "{} came after sequence {last}", received.id);
        *last = original.sequence;
    }
}

/// A result without the two readings of the wall clock: the topics of the two runs were written at different times.
fn without_clocks((key, result): &(Vec<u8>, Vec<u8>)) -> (String, Value) {
    let mut result: Value = serde_json::from_slice(result).unwrap();
    let quality = result["quality"].as_object_mut().expect("a result tells the quality of its data");
    for reading in ["freshness_seconds", "delay_seconds"] {
        assert!(quality.remove(reading).is_some_and(|seconds| seconds.is_f64()), "{reading}");
    }
    (String::from_utf8_lossy(key).into_owned(), result)
}

fn once_each<T>(records: &[(Vec<u8>, T)]) -> bool {
    records.iter().map(|(key, _)| key).collect::<BTreeSet<_>>().len() == records.len()
}

#[test]
#[ignore = "needs a Kafka broker and the generated data: DRIFTLINE_TEST_KAFKA, DRIFTLINE_TEST_KAFKA_DIR, DRIFTLINE_SYNTH, DRIFTLINE_SYNTH_EXPECTED"]
fn a_million_events_equal_the_oracle_and_kill_nine_changes_nothing() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let log = kafka_log();
    let oracle = expected();

    // Undisturbed, from a topic that holds everything.
    let topic = unique("predictions");
    feed(&mut stock_producer(&topic), None);
    assert_all_produced(&topic);
    let hook = runtime.block_on(HookCatcher::start(0)).unwrap();
    let quiet = workspace(&unique("quiet"), &topic, &hook);
    let mut service = quiet.start();
    service.wait_ready(Duration::from_secs(60));
    let started = Instant::now();
    wait_until("all windows close", Duration::from_secs(300), || windows_closed(&quiet, &*log) == WINDOWS);
    eprintln!("undisturbed: {EVENTS} events in {:.1} s after ready", started.elapsed().as_secs_f64());
    let results = quiet.results(&*log);
    assert_equals_oracle(&results, &oracle);
    let model = parse_model_str("model.yaml", &model_yaml(&topic, Path::new("reference.parquet"))).unwrap().value;
    default_rules::assert_all_found(&Arc::new(model), &results, Path::new(&required("DRIFTLINE_SYNTH")));
    let notifications = quiet.outbox(&*log);
    assert_eq!(told(&notifications), deserved(&oracle), "the alerts that the drift deserves and no other");
    assert_within_the_plan(&notifications);
    assert_delivered(&notifications, &hook);
    eprintln!("{} notifications, all deserved, all delivered", notifications.len());
    let status = service.terminate();
    assert!(status.success(), "SIGTERM ends it cleanly: {status}");
    let quiet_results = quiet.records(&*log, "results");
    assert!(once_each(&quiet_results), "each window has one result");

    // The same while events flow, with kill -9 at random moments.
    let topic = unique("predictions");
    let mut producer = stock_producer(&topic);
    let hook = runtime.block_on(HookCatcher::start(0)).unwrap();
    let killed = workspace(&unique("killed"), &topic, &hook);
    let feeder = std::thread::spawn(move || feed(&mut producer, Some(PACE)));
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut kills_at_work = 0;
    for kill in 0..KILLS {
        let mut service = killed.start();
        service.wait_ready(Duration::from_secs(60));
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_millis((random >> 33) % 2_000));
        service.kill_nine();
        kills_at_work += usize::from(!feeder.is_finished());
        eprintln!("kill {}: {} windows closed so far", kill + 1, windows_closed(&killed, &*log));
    }
    feeder.join().unwrap();
    assert_all_produced(&topic);
    assert!(kills_at_work >= KILLS / 2, "only {kills_at_work} kills hit the service while events flowed");
    let mut service = killed.start();
    service.wait_ready(Duration::from_secs(60));
    wait_until("all windows close after the kills", Duration::from_secs(300), || {
        windows_closed(&killed, &*log) == WINDOWS
    });
    let killed_results = killed.records(&*log, "results");
    assert!(once_each(&killed_results), "each window has one result after {KILLS} kills");
    let sorted = |records: &[(Vec<u8>, Vec<u8>)]| records.iter().map(without_clocks).collect::<BTreeMap<_, _>>();
    assert_eq!(sorted(&killed_results), sorted(&quiet_results), "results are the same to the last digit");
    let after_kills = killed.outbox(&*log);
    let ids = |notifications: &[Notification]| {
        notifications.iter().map(|notification| notification.id.clone()).collect::<BTreeSet<_>>()
    };
    assert_eq!(ids(&after_kills), ids(&notifications), "the same notifications with the same ids");
    assert_delivered(&after_kills, &hook);
    let copies = hook.hooks().len() - after_kills.len();
    eprintln!(
        "{KILLS} kills, {kills_at_work} of them at work: same results, same ids, {copies} extra copies delivered"
    );
    drop(service);
}
