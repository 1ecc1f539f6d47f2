//! The service on a real broker: broken input, receivers that are down, idle sources, bad configuration.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use driftline::cli::sample::{Sampler, rfc3339};
use driftline::dispatch::catcher::MailCatcher;
use driftline::dispatch::delivery::{DeliveryRecord, DeliveryStatus};
use driftline::dispatch::hook_catcher::HookCatcher;
use driftline::log::{Log, OutRecord};
use driftline::rules::episode::EpisodeStatus;
use driftline::windows::result::WindowResult;
use serde_json::Value;
use support::{Workspace, create_topic, free_port, http_get, kafka_log, unique, wait_until};

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
segments: [country]
references: {{training: {{path: ../training.jsonl}}}}
windows: {{size: 1m, watermark_delay: 0s, allowed_lateness: 10m, idle_after: 2s}}
max_event_bytes: 4096
"
    )
}

fn rules_yaml(receivers: &str) -> String {
    format!(
        "version: 1
rules:
  - name: feature-drift
    model: fraud@*
    window: 1m
    min_samples: 200
    when: {{warn: psi > 0.10, critical: psi > 0.25}}
    recover: psi < 0.08
    for: 2 of 2 windows
routes:
  - {{match: {{}}, to: [mail, hook]}}
receivers:
{receivers}
"
    )
}

fn workspace(topic: &str, receivers: &str, extra: &str) -> Workspace {
    let workspace = Workspace::new(&unique("svc"), &model_yaml(topic), &rules_yaml(receivers), extra);
    let rows = workspace.must(&["produce-sample", "--reference", "20000"]);
    std::fs::write(workspace.dir.join("training.jsonl"), rows).unwrap();
    workspace.must(&["reference", "build"]);
    workspace.must(&["check"]);
    workspace
}

fn no_receivers() -> String {
    let port = free_port();
    format!(
        "  mail: {{webhook: {{url: \"http://127.0.0.1:{port}/\", allow_private: true}}}}\n  hook: {{webhook: {{url: \"http://127.0.0.1:{port}/\", allow_private: true}}}}\n"
    )
}

/// Events of one minute, spread evenly; one partition each in turn.
fn minute(sampler: &mut Sampler, index: i64, events: i64, drifted: bool) -> Vec<Value> {
    (0..events).map(|event| sampler.event(START_MS + index * MINUTE_MS + event * MINUTE_MS / events, drifted)).collect()
}

fn append(log: &dyn Log, topic: &str, payloads: &[Vec<u8>]) {
    let record = |(index, payload): (usize, &Vec<u8>)| OutRecord {
        topic: topic.into(),
        partition: Some((index % 4) as i32),
        value: Some(payload.clone()),
        ..OutRecord::default()
    };
    log.append(payloads.iter().enumerate().map(record).collect()).unwrap();
}

fn bytes(events: &[Value]) -> Vec<Vec<u8>> {
    events.iter().map(|event| event.to_string().into_bytes()).collect()
}

/// A way to break an event, and the reason it must be given.
type Breakage = (&'static str, fn(Value) -> Vec<u8>);

fn text(event: &Value) -> String {
    event.to_string()
}

const BREAKAGES: [Breakage; 14] = [
    ("not_json", |event| text(&event).into_bytes()[..60].to_vec()),
    ("not_json", |event| format!("{event}{event}").into_bytes()),
    ("not_json", |_| Vec::new()),
    ("not_an_object", |event| format!("[{event}]").into_bytes()),
    ("not_utf8", |event| {
        let mut bytes = text(&event).into_bytes();
        let at = bytes.windows(7).position(|window| window == b"\"model\"").unwrap() + 2;
        bytes[at] = 0xFF;
        bytes
    }),
    ("missing_field", |mut event| {
        event.as_object_mut().unwrap().remove("timestamp");
        text(&event).into_bytes()
    }),
    ("missing_field", |mut event| {
        event["features"]["amount"] = Value::Null;
        text(&event).into_bytes()
    }),
    ("wrong_type", |mut event| {
        event["features"]["age_days"] = "old".into();
        text(&event).into_bytes()
    }),
    ("wrong_type", |mut event| {
        event["features"]["country"] = serde_json::json!({"code": "DE"});
        text(&event).into_bytes()
    }),
    ("non_finite", |mut event| {
        event["features"]["age_days"] = "@".into();
        text(&event).replace("\"@\"", "NaN").into_bytes()
    }),
    ("unknown_feature", |mut event| {
        event["features"]["brand_new"] = 1.into();
        text(&event).into_bytes()
    }),
    ("bad_timestamp", |mut event| {
        event["timestamp"] = "yesterday".into();
        text(&event).into_bytes()
    }),
    ("future", |mut event| {
        event["timestamp"] = rfc3339(chrono::Utc::now().timestamp_millis() + 3_600_000).into();
        text(&event).into_bytes()
    }),
    ("oversized", |mut event| {
        event["note"] = "x".repeat(5_000).into();
        text(&event).into_bytes()
    }),
];

#[test]
#[ignore = "needs a Kafka broker: DRIFTLINE_TEST_KAFKA"]
fn one_bad_record_costs_one_record() {
    let log = kafka_log();
    let topic = unique("predictions");
    create_topic(&*log, &topic, 4);
    let workspace = workspace(&topic, &no_receivers(), "");

    let mut sampler = Sampler::new(3);
    let (mut payloads, mut good, mut broken) = (Vec::new(), BTreeMap::<i64, u64>::new(), Vec::new());
    for index in 0..10 {
        for (position, event) in minute(&mut sampler, index, 4_000, false).into_iter().enumerate() {
            // One in a hundred, in turn broken in each way.
            if position % 100 == 50 {
                let (reason, corrupt) = BREAKAGES[broken.len() % BREAKAGES.len()];
                let payload = corrupt(event);
                broken.push((reason, payload.clone()));
                payloads.push(payload);
            } else {
                *good.entry(START_MS + index * MINUTE_MS).or_default() += 1;
                payloads.push(text(&event).into_bytes());
            }
        }
    }
    append(&*log, &topic, &payloads);
    let mut service = workspace.start();
    service.wait_ready(Duration::from_secs(60));
    let whole = |results: Vec<driftline::windows::result::WindowResult>| -> BTreeMap<i64, u64> {
        results
            .into_iter()
            .filter(|result| result.segment.is_all())
            .map(|result| (result.window.start_ms, result.rows))
            .collect()
    };
    wait_until("all windows close", Duration::from_secs(60), || whole(workspace.results(&*log)).len() == good.len());
    assert_eq!(whole(workspace.results(&*log)), good, "every good event is counted, in its window");

    let letters: Vec<Value> = workspace.read(&*log, "dead-letter");
    let mut expected: Vec<(String, Vec<u8>)> =
        broken.iter().map(|(reason, payload)| (reason.to_string(), payload.clone())).collect();
    let payload = |letter: &Value| match (&letter["payload"], &letter["payload_base64"]) {
        (Value::String(text), _) => text.clone().into_bytes(),
        (_, Value::String(encoded)) => {
            use base64::Engine;
            base64::engine::general_purpose::STANDARD.decode(encoded).unwrap()
        }
        _ => Vec::new(),
    };
    let mut found: Vec<(String, Vec<u8>)> =
        letters.iter().map(|letter| (letter["reason"].as_str().unwrap().to_string(), payload(letter))).collect();
    expected.sort();
    found.sort();
    assert_eq!(found.len(), expected.len(), "every bad event is in the dead letter, once");
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.0, expected.0, "reason of {:?}", String::from_utf8_lossy(&expected.1));
        assert_eq!(found.1, expected.1, "the bytes are kept");
    }
    let (_, metrics) = http_get(workspace.http_port, "/metrics").unwrap();
    let counted: f64 = metrics
        .lines()
        .filter(|line| line.starts_with("driftline_events_dead_lettered_total"))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum();
    assert_eq!(counted as usize, expected.len(), "and counted");
    drop(service);
}

#[test]
#[ignore = "needs a Kafka broker: DRIFTLINE_TEST_KAFKA"]
fn receivers_that_were_down_get_everything_in_order() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let log = kafka_log();
    let topic = unique("predictions");
    create_topic(&*log, &topic, 4);
    let (mail_port, hook_port) = (free_port(), free_port());
    let receivers = format!(
        "  mail: {{email: {{to: [on-call@example.com]}}}}\n  hook: {{webhook: {{url: \"http://127.0.0.1:{hook_port}/\", allow_private: true}}}}\n"
    );
    let extra = format!(
        "smtp: {{url: \"smtp://127.0.0.1:{mail_port}\", from: driftline@example.com}}\ndispatch: {{first_retry: 100ms, max_retry: 1s}}\n"
    );
    let workspace = workspace(&topic, &receivers, &extra);
    let mut service = workspace.start();
    service.wait_ready(Duration::from_secs(60));

    // Two episodes, each firing and resolved, while nobody listens.
    let mut sampler = Sampler::new(4);
    let drifted = [false, true, true, true, false, false, true, true, false, false];
    for (index, drifted) in drifted.into_iter().enumerate() {
        append(&*log, &topic, &bytes(&minute(&mut sampler, index as i64, 2_000, drifted)));
    }
    wait_until("the outbox holds both episodes", Duration::from_secs(60), || {
        let outbox = workspace.outbox(&*log);
        let resolved = outbox.iter().filter(|told| told.segment.is_all() && told.status == EpisodeStatus::Resolved);
        resolved.count() >= 2
    });
    std::thread::sleep(Duration::from_secs(2));
    let (hook, mail) = runtime.block_on(async {
        (HookCatcher::start(hook_port).await.unwrap(), MailCatcher::start(mail_port, None).await.unwrap())
    });
    let outbox = workspace.outbox(&*log);
    // What fired and was resolved meanwhile may be one message: the end says both.
    let delivered = || -> BTreeMap<String, DeliveryStatus> {
        let records = workspace.records(&*log, "deliveries").into_iter();
        let records = records.map(|(_, value)| serde_json::from_slice::<DeliveryRecord>(&value).unwrap());
        records.map(|record| (record.key().to_string(), record.status)).collect()
    };
    wait_until("everything is delivered or said by something later", Duration::from_secs(60), || {
        let finished = delivered().values().filter(|status| status.is_final()).count();
        finished == 2 * outbox.len()
    });
    let statuses = delivered();
    let mut by_episode: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for told in &outbox {
        by_episode.entry(&told.episode_id).or_default().push(&told.id);
    }
    for (episode, ids) in &by_episode {
        let expected = |receiver: &str| -> Vec<&str> {
            let last = ids.last().unwrap();
            assert_eq!(statuses[&format!("{last}|{receiver}")], DeliveryStatus::Delivered, "the end at {receiver}");
            let is_sent = |id: &&str| statuses[&format!("{id}|{receiver}")] == DeliveryStatus::Delivered;
            ids.iter().copied().filter(is_sent).collect()
        };
        let hooks: Vec<String> = hook
            .hooks()
            .into_iter()
            .filter(|hook| hook.notification.episode_id == *episode)
            .map(|hook| hook.id)
            .collect();
        assert_eq!(hooks, expected("hook"), "webhooks of episode {episode} in order");
        let mails: Vec<String> = mail
            .mails()
            .iter()
            .filter_map(|mail| mail.header("Message-ID"))
            .filter(|id| id.contains(episode))
            .map(|id| id.trim_start_matches('<').split('@').next().unwrap_or_default().to_string())
            .collect();
        assert_eq!(mails, expected("mail"), "mails of episode {episode} in order");
    }
    assert!(by_episode.len() >= 2, "at least two episodes: {by_episode:?}");
    assert!(service.terminate().success());
}

#[test]
#[ignore = "needs a Kafka broker: DRIFTLINE_TEST_KAFKA"]
fn late_events_revise_their_window_and_later_ones_are_noted() {
    let log = kafka_log();
    let topic = unique("predictions");
    create_topic(&*log, &topic, 4);
    let workspace = workspace(&topic, &no_receivers(), "");
    let mut service = workspace.start();
    service.wait_ready(Duration::from_secs(60));
    let mut sampler = Sampler::new(5);
    for index in 0..3 {
        append(&*log, &topic, &bytes(&minute(&mut sampler, index, 800, false)));
    }
    let rows = |start_ms: i64| -> Vec<(u32, u64)> {
        let results = workspace.results(&*log).into_iter();
        let whole = results.filter(|result| result.segment.is_all() && result.window.start_ms == start_ms);
        whole.map(|result| (result.revision, result.rows)).collect()
    };
    wait_until("the first window closes", Duration::from_secs(60), || rows(START_MS).len() == 1);
    append(&*log, &topic, &bytes(&minute(&mut sampler, 0, 100, false)));
    wait_until("the first window is revised", Duration::from_secs(60), || {
        rows(START_MS).last().is_some_and(|(_, rows)| *rows == 900)
    });
    let revisions: Vec<u32> = rows(START_MS).iter().map(|(revision, _)| *revision).collect();
    assert_eq!(revisions, (0..revisions.len() as u32).collect::<Vec<_>>(), "revisions count up");
    // Past the allowed lateness of ten minutes.
    append(&*log, &topic, &bytes(&minute(&mut sampler, 30, 800, false)));
    append(&*log, &topic, &bytes(&minute(&mut sampler, 31, 800, false)));
    wait_until("the watermark has moved on", Duration::from_secs(60), || rows(START_MS + 30 * MINUTE_MS).len() == 1);
    append(&*log, &topic, &bytes(&minute(&mut sampler, 0, 50, false)));
    wait_until("what is too late is noted", Duration::from_secs(60), || {
        let late: Vec<Value> = workspace.read(&*log, "late");
        late.iter().map(|late| late["rows"].as_u64().unwrap()).sum::<u64>() == 50
    });
    assert_eq!(rows(START_MS).last().unwrap().1, 900, "and changes nothing");
    drop(service);
}

#[test]
#[ignore = "needs a Kafka broker: DRIFTLINE_TEST_KAFKA"]
fn two_processes_share_the_work_and_lose_nothing_when_one_dies() {
    let log = kafka_log();
    let topic = unique("predictions");
    create_topic(&*log, &topic, 4);
    let workspace = workspace(&topic, &no_receivers(), "");
    let mut first = workspace.start();
    first.wait_ready(Duration::from_secs(60));
    let mut second = workspace.start_another("second");
    second.wait_ready(Duration::from_secs(60));
    let mut second = Some(second);
    let mut sampler = Sampler::new(6);
    let mut expected = BTreeMap::new();
    for index in 0..12 {
        append(&*log, &topic, &bytes(&minute(&mut sampler, index, 2_000, false)));
        expected.insert(START_MS + index * MINUTE_MS, 2_000);
        if index == 6 {
            std::thread::sleep(Duration::from_millis(700));
            second.take().unwrap().kill_nine();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let rows = || -> BTreeMap<i64, u64> {
        let results = workspace.results(&*log).into_iter().filter(|result| result.segment.is_all());
        results.map(|result| (result.window.start_ms, result.rows)).collect()
    };
    wait_until("all windows are whole", Duration::from_secs(90), || rows() == expected);
    let incomplete: Vec<i64> = workspace
        .results(&*log)
        .iter()
        .filter(|result| !result.complete)
        .map(|result| result.window.start_ms)
        .collect();
    assert_eq!(incomplete, Vec::<i64>::new(), "no window is incomplete");
    drop(first);
}

/// Rows with the label that their score makes likely.
fn with_labels(rows: &str) -> String {
    let labelled = rows.lines().enumerate().map(|(index, line)| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        let chance = (index * 7_919 % 10_007) as f64 / 10_007.0;
        row["label"] = if chance < row["score"].as_f64().unwrap() { "decline" } else { "approve" }.into();
        format!("{row}\n")
    });
    labelled.collect()
}

/// Writes events of now, 500 a second, that drift after six seconds, and the label of each a second later.
struct Producer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Producer {
    fn start(topic: &str, label_topic: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, topic, label_topic) = (stop.clone(), topic.to_string(), label_topic.to_string());
        let thread = std::thread::spawn(move || {
            let log = kafka_log();
            let mut sampler = Sampler::new(8);
            let mut waiting: VecDeque<Vec<Vec<u8>>> = VecDeque::new();
            let started = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                let now_ms = driftline::cli::service::now_ms();
                let drifted = started.elapsed() > Duration::from_secs(6);
                let (mut events, mut labels) = (Vec::new(), Vec::new());
                for _ in 0..50 {
                    let (event, label) = sampler.labelled_event(now_ms, drifted);
                    let label = serde_json::json!({"prediction_id": event["id"], "label": label});
                    labels.push(label.to_string().into_bytes());
                    events.push(event.to_string().into_bytes());
                }
                append(&*log, &topic, &events);
                waiting.push_back(labels);
                if waiting.len() > 10 {
                    append(&*log, &label_topic, &waiting.pop_front().unwrap());
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Self { stop, thread }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

#[test]
#[ignore = "needs a Kafka broker and Debian's prometheus and chromium: DRIFTLINE_TEST_KAFKA"]
fn dashboards_and_pages_of_the_real_binary_hold_what_they_should() {
    let log = kafka_log();
    let topic = unique("predictions");
    create_topic(&*log, &topic, 4);
    let label_topic = unique("labels");
    create_topic(&*log, &label_topic, 4);
    let workspace = workspace(&topic, &no_receivers(), "ingest: {flush_interval: 200ms}\n");
    let model = std::fs::read_to_string(workspace.dir.join("models/model.yaml")).unwrap();
    let live = model.replace("size: 1m, watermark_delay: 0s", "size: 2s, watermark_delay: 500ms");
    let performance = format!(
        "performance: {{task: binary, positive: decline, \
         labels: {{topics: [{label_topic}], delay: 5s, revise_every: 1s}}}}\n"
    );
    std::fs::write(workspace.dir.join("models/model.yaml"), live + &performance).unwrap();
    let training = std::fs::read_to_string(workspace.dir.join("training.jsonl")).unwrap();
    std::fs::write(workspace.dir.join("training.jsonl"), with_labels(&training)).unwrap();
    workspace.must(&["reference", "build"]);
    let rules = std::fs::read_to_string(workspace.dir.join("rules/rules.yaml")).unwrap();
    let retraining = unique("retraining");
    create_topic(&*log, &retraining, 1);
    let more = format!(
        "  - {{name: quality-drop, model: fraud@*, signal: performance, min_samples: 100, when: {{warn: roc_auc < 0.99}}, actions: [retrain]}}
  - {{name: amounts, model: fraud@*, sql: SELECT avg(amount) AS value FROM events, when: {{critical: value > 1e9}}}}
actions: {{retrain: {{kafka: {{topic: {retraining}}}, cooldown: 1h}}}}
routes:"
    );
    let rules = rules.replace("window: 1m", "window: 2s").replace("routes:", &more);
    std::fs::write(workspace.dir.join("rules/rules.yaml"), rules).unwrap();
    let mut service = workspace.start();
    service.wait_ready(Duration::from_secs(60));
    let producer = Producer::start(&topic, &label_topic);
    let of_rule = |rule: &str| workspace.outbox(&*log).into_iter().find(|notification| notification.rule == rule);
    wait_until("an alert fires", Duration::from_secs(60), || of_rule("feature-drift").is_some());
    wait_until("labels make one fire", Duration::from_secs(60), || of_rule("quality-drop").is_some());
    let runs = || -> Value {
        serde_json::from_str(&workspace.must(&["actions", "list", "--status", "all", "--format", "json"])).unwrap()
    };
    let run = || Some(runs()["runs"][0].clone()).filter(|run| run["state"] == "accepted");
    wait_until("a training is asked for", Duration::from_secs(60), || run().is_some());
    workspace.must(&["actions", "report", run().unwrap()["run"].as_str().unwrap(), "--succeeded", "--by", "trainer"]);
    wait_until("its end is known", Duration::from_secs(60), || runs()["runs"][0]["state"] == "succeeded");
    wait_until("groups are far apart", Duration::from_secs(60), || {
        let has_gaps =
            |result: &WindowResult| result.performance.as_ref().is_some_and(|performance| !performance.gaps.is_empty());
        workspace.results(&*log).iter().any(has_gaps)
    });
    wait_until("estimates have been measured by labels", Duration::from_secs(60), || {
        let measured = |result: &WindowResult| {
            result.performance.as_ref().is_some_and(|performance| !performance.estimate_error.is_empty())
        };
        workspace.results(&*log).iter().any(measured)
    });
    let episode = of_rule("feature-drift").unwrap().episode_id;
    let script = |name: &str, arguments: &[&str]| {
        let script = format!("{}/scripts/{name}", env!("CARGO_MANIFEST_DIR"));
        let status = std::process::Command::new("bash").arg(script).args(arguments).status().unwrap();
        assert!(status.success(), "{name} {arguments:?}: {status}");
    };
    let address = format!("127.0.0.1:{}", workspace.http_port);
    script("prometheus_check.sh", &[&address]);
    let home = format!("http://{address}/");
    let alert = format!("/alerts/{episode}");
    script("browser_check.sh", &[&home, "href=\"/models/fraud\"", &alert]);
    script("browser_check.sh", &[&format!("http://{address}{alert}"), "merchant_category", "feature-drift"]);
    if let Ok(dir) = std::env::var("DRIFTLINE_SCREENSHOTS") {
        script("screenshot.sh", &[&home, &format!("{dir}/live-home.png"), "1280", "light"]);
        script(
            "screenshot.sh",
            &[&format!("http://{address}{alert}"), &format!("{dir}/live-alert.png"), "1280", "light"],
        );
    }
    producer.stop();
    assert!(service.terminate().success());
}
