//! Prediction events and batch scoring on a real broker: it goes away for a minute under load, the monitor reads what was
//! written, and a scoring of a topic is killed again and again.
//!
//! `cargo test --test scorer_events_kafka -- --ignored --nocapture`

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "scorer_events_kafka/processes.rs"]
mod processes;
mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use driftline::config::scorer::ScorerConfig;
use driftline::log::kafka::{KafkaLog, KafkaOptions};
use driftline::log::{Log, OutRecord};
use driftline::scorer::engine::{Signature, TensorSpec};
use driftline::scorer::events::{EventLayout, EventSink, Events, ScoredEvent, layout_options};
use driftline::scorer::score::Arm;
use driftline::scorer::tensor::{DataType, Tensor, TensorData, TensorLimits};

struct Broker {
    directory: tempfile::TempDir,
    bootstrap_servers: String,
}

fn script(arguments: &[&str], directory: &Path) -> String {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scripts/kafka.sh");
    let output = Command::new(script).args(arguments).arg(directory).output().unwrap();
    assert!(output.status.success(), "kafka.sh {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

impl Broker {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bootstrap_servers = script(&["start"], directory.path());
        Self { directory, bootstrap_servers }
    }

    fn log(&self) -> KafkaLog {
        let options = KafkaOptions {
            bootstrap_servers: self.bootstrap_servers.clone(),
            client_id: "scorer-events-test".into(),
            instance: None,
            properties: Default::default(),
        };
        KafkaLog::new(options).unwrap()
    }

    fn config(&self, topic: &str) -> ScorerConfig {
        let mut config = ScorerConfig::default();
        config.kafka.bootstrap_servers.clone_from(&self.bootstrap_servers);
        config.events.enabled = true;
        config.events.topic = topic.into();
        config
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        script(&["kill"], self.directory.path());
    }
}

fn layout(config: &ScorerConfig, version: &str) -> Arc<EventLayout> {
    let spec =
        |name: &str, width| TensorSpec { name: name.into(), datatype: DataType::Fp32, shape: vec![None, Some(width)] };
    let signature = Signature { inputs: vec![spec("x", 1)], outputs: vec![spec("score", 1)], batches: true };
    EventLayout::new("m", version, Some(&signature), layout_options(config, "m", None)).unwrap()
}

fn event(layout: &Arc<EventLayout>, arm: Arm, id: u64, event_time_ms: i64) -> ScoredEvent {
    let tensor = |name: &str| {
        let data = TensorData::Fp32(vec![(id % 1000) as f32]);
        Tensor::new(name, vec![1, 1], data, &TensorLimits::default()).unwrap()
    };
    ScoredEvent {
        layout: layout.clone(),
        arm,
        request_id: id.to_string(),
        entity: None,
        inputs: vec![tensor("x")],
        outputs: vec![tensor("score")],
        engine: "test",
        latency: Duration::from_micros(10),
        event_time_ms,
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Values of a field of every record, read committed.
fn values(log: &dyn Log, topic: &str, field: &str) -> Vec<String> {
    let mut values = Vec::new();
    for partition in 0..log.partition_count(topic).unwrap().unwrap() {
        driftline::log::read_to_end(log, topic, partition, |_, value| {
            let record: serde_json::Value = serde_json::from_slice(value.unwrap()).unwrap();
            values.push(record[field].as_str().map_or_else(|| record[field].to_string(), str::to_string));
        })
        .unwrap();
    }
    values
}

/// 15 s up, 60 s killed, 20 s up again, at 2 000 events/s into a queue of 30 000: what is dropped is dropped at once, what
/// was sent stands in the topic, once.
#[test]
#[ignore = "starts a Kafka broker: needs Java 17 and Maven; takes 2 minutes"]
fn a_broker_away_for_a_minute_is_not_felt_and_every_event_is_accounted_for() {
    let broker = Broker::start();
    let log = broker.log();
    support::create_topic(&log, "events", 3);
    let mut config = broker.config("events");
    config.events.max_rows = 30_000;
    let events = Events::start(&config).unwrap().unwrap();
    let layout = layout(&config, "1");
    let started = Instant::now();
    let (mut offered, mut slowest) = (0_u64, Duration::ZERO);
    let (mut is_killed, mut is_back) = (false, false);
    let load = std::thread::scope(|scope| {
        let mut waiting = None;
        while started.elapsed() < Duration::from_secs(95) {
            let tick = Instant::now();
            for _ in 0..20 {
                let event = event(&layout, Arm::Production, offered, now_ms());
                let before = Instant::now();
                events.queue.offer(event);
                slowest = slowest.max(before.elapsed());
                offered += 1;
            }
            let counts = events.queue.counts();
            assert!(counts.add_up() && counts.in_flight <= 30_000, "{counts:?}");
            if !is_killed && started.elapsed() > Duration::from_secs(15) {
                is_killed = true;
                script(&["kill"], broker.directory.path());
            }
            if !is_back && started.elapsed() > Duration::from_secs(75) {
                is_back = true;
                // The load goes on while the broker starts.
                waiting = Some(scope.spawn(|| script(&["start", "--keep"], broker.directory.path())));
            }
            std::thread::sleep(Duration::from_millis(10).saturating_sub(tick.elapsed()));
        }
        waiting.unwrap().join().unwrap();
        offered
    });
    let before_close = events.queue.counts();
    let counts = events.close();
    let ids = values(&log, "events", "prediction_id");
    let unique: BTreeSet<&String> = ids.iter().collect();
    println!(
        "offered {load}, before the close {before_close:?}, at the end {counts:?}, in the topic {}, slowest offer {slowest:?}",
        ids.len()
    );
    assert_eq!(counts.offered, load);
    assert!(counts.dropped > 0, "a minute at 2 000 events/s is more than 30 000");
    assert_eq!((counts.failed, counts.in_flight), (0, 0));
    assert_eq!(counts.sent, ids.len() as u64);
    assert_eq!(counts.sent + counts.dropped, load);
    assert_eq!(unique.len(), ids.len(), "no event stands in the topic twice");
    assert!(slowest < Duration::from_millis(500), "an offer took {slowest:?}");
}

#[test]
#[ignore = "needs a broker: DRIFTLINE_TEST_KAFKA"]
fn the_monitor_counts_the_arms_and_versions_of_what_the_scorer_wrote() {
    let app = support::unique("scorer-events");
    let topic = format!("{app}-predictions");
    let log = support::kafka_log();
    support::create_topic(&*log, &topic, 2);
    let model = format!(
        "version: 1\nmodel: m\ntopics: [{topic}]\nformat: prediction_event\n\
         features: {{x: numeric, arm: {{type: categorical, path: arm}}}}\nsegments: [arm]\n\
         score: {{path: score, type: numeric}}\nreferences: {{training: {{path: ../t.csv}}}}\n\
         windows: {{size: 1m, watermark_delay: 0s, idle_after: 2s}}\n"
    );
    let workspace =
        support::Workspace::new(&app, &model, "version: 1\nrules: []\n", "ingest: {flush_interval: 100ms}\n");
    let rows: Vec<String> = (0..1000).map(|x| format!("{x},{x},{}", ["production", "canary"][x % 2])).collect();
    std::fs::write(workspace.dir.join("t.csv"), format!("x,score,arm\n{}\n", rows.join("\n"))).unwrap();
    workspace.must(&["reference", "build"]);
    let mut config = ScorerConfig::default();
    config.kafka.bootstrap_servers = support::broker();
    config.events.enabled = true;
    config.events.topic = topic;
    let events = Events::start(&config).unwrap().unwrap();
    let (production, canary) = (layout(&config, "1"), layout(&config, "2"));
    let minute = 1_767_225_600_000;
    for id in 0..600 {
        let (layout, arm) = if id % 3 == 0 { (&canary, Arm::Canary) } else { (&production, Arm::Production) };
        events.queue.offer(event(layout, arm, id, minute + id as i64 * 90));
    }
    // A later window closes the first.
    (600..610).for_each(|id| events.queue.offer(event(&production, Arm::Production, id, minute + 120_000)));
    let counts = events.close();
    assert_eq!((counts.sent, counts.dropped, counts.failed), (610, 0, 0));
    let mut service = workspace.start();
    service.wait_ready(Duration::from_secs(60));
    let rows = || -> BTreeSet<String> {
        let results = workspace.results(&*log).into_iter().filter(|result| result.window.start_ms == minute);
        results.map(|result| format!("{} {:?} {}", result.version, result.segment, result.rows)).collect()
    };
    let has = |found: &BTreeSet<String>, version: &str, arm: &str, count: u64| {
        found.iter().any(|row| {
            row.starts_with(&format!("{version} ")) && row.contains(arm) && row.ends_with(&format!(" {count}"))
        })
    };
    support::wait_until("both arms are counted apart", Duration::from_secs(60), || {
        let found = rows();
        has(&found, "1", "production", 400) && has(&found, "2", "canary", 200)
    });
    assert!(service.terminate().success());
}

/// The command is killed at random while it scores a topic; in the end each row stands in the output once, with its score.
#[test]
#[ignore = "needs a broker and ONNX Runtime: DRIFTLINE_TEST_KAFKA, ORT_DYLIB_PATH"]
fn a_topic_scored_under_kill_nine_has_every_row_once() {
    const ROWS: u64 = 60_000;
    let directory = tempfile::tempdir().unwrap();
    let app = support::unique("scorer-score");
    let log = support::kafka_log();
    let topics = ["in", "out", "out.dead-letter"].map(|name| format!("{app}-{name}"));
    topics.iter().for_each(|topic| support::create_topic(&*log, topic, 3));
    let settings = directory.path().join("scorer.yaml");
    let names = (0..8).map(|index| format!("f{index}")).collect::<Vec<_>>().join(", ");
    let text = format!(
        "version: 1\nregistry: registry\nkafka: {{bootstrap_servers: \"{}\"}}\nmodels: {{linear: {{events: {{features: [{names}]}}}}}}\n",
        support::broker()
    );
    std::fs::write(&settings, text).unwrap();
    std::fs::create_dir(directory.path().join("registry")).unwrap();
    let registry = driftline::scorer::registry::Registry::open(&directory.path().join("registry")).unwrap();
    let model = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/scorer/linear.onnx")).unwrap();
    let registration = driftline::scorer::registry::register::Registration {
        model: "linear".into(),
        files: [("model.onnx".to_string(), model)].into(),
        ..Default::default()
    };
    registry.register(&registration, None, now_ms()).unwrap();
    for first in (0..ROWS).step_by(5_000) {
        let row = |id: u64| {
            let features: Vec<String> = (0..8).map(|index| format!("\"f{index}\":{}", id % 100)).collect();
            let value = format!("{{\"id\":{id},\"features\":{{{}}}}}", features.join(","));
            let topic = topics[0].as_str().into();
            OutRecord {
                topic,
                key: Some(id.to_string().into_bytes()),
                value: Some(value.into_bytes()),
                ..OutRecord::default()
            }
        };
        log.append((first..first + 5_000).map(row).collect()).unwrap();
    }
    let command = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftline-scorer"));
        command.args(["score", "--model", "linear", "--version", "1", "--until-end", "--config"]).arg(&settings);
        command.args(["--topic", &topics[0], "--to", &topics[1], "--group", &app]);
        command
    };
    let written = || -> u64 {
        let consumer = log
            .consumer(driftline::log::ConsumerOptions {
                group: None,
                topics: Vec::new(),
                start: driftline::log::StartOffset::Earliest,
                read_committed: true,
            })
            .unwrap();
        let end = |partition| consumer.offsets(&driftline::log::TopicPartition::new(&topics[1], partition)).unwrap().1;
        (0..3).map(|partition| end(partition) as u64).sum()
    };
    let mut kills = 0;
    let mut before = 0;
    while kills < 8 {
        let mut child = command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        // In the middle of it: something was written since the last kill.
        while written() == before && child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "nothing was written in a minute");
            std::thread::sleep(Duration::from_millis(7 + 13 * kills));
        }
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        before = written();
    }
    let output = command().output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    println!("{kills} kills; then: {}", String::from_utf8_lossy(&output.stdout).trim());
    assert!(kills >= 3, "the topic was scored before it could be killed three times");
    let mut ids: Vec<u64> = values(&*log, &topics[1], "id").iter().map(|id| id.parse().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids.len() as u64, ROWS, "rows in the output");
    assert!(ids.iter().copied().eq(0..ROWS), "each row once");
    let pairs = values(&*log, &topics[1], "id").into_iter().zip(values(&*log, &topics[1], "score"));
    for (id, score) in pairs {
        // Weights 1/8 to 8/8 of eight equal features, bias 0.5.
        let expected = (id.parse::<u64>().unwrap() % 100) as f64 * 4.5 + 0.5;
        assert_eq!(score.parse::<f64>().unwrap(), expected, "score of {id}");
    }
    assert!(values(&*log, &topics[2], "id").is_empty());
}

/// One request on a connection that is kept; status and body.
fn post(stream: &mut std::net::TcpStream, path: &str, body: &str) -> (u16, String) {
    use std::io::{Read, Write};
    let length = body.len();
    write!(stream, "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
        .unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "the connection was closed: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_string));
        if body.len() >= length.unwrap().parse::<usize>().unwrap() {
            return (head.split_whitespace().nth(1).unwrap().parse().unwrap(), body.to_string());
        }
    }
}

const SERVED_TRANSFORM: &str = "version: 1\noutput: features\ninputs: {a: number, c: text}\nfeatures:\n\
    - {from: a, name: f0}\n- {from: a, name: f1, steps: [{clip: {max: 50}}]}\n\
    - {from: c, steps: [{one_hot: {categories: [x, y]}}]}\n\
    - {from: a, name: f4}\n- {from: a, name: f5}\n- {from: a, name: f6}\n- {from: a, name: f7}\n";

/// What the linear model says of raw features: weights 1/8 to 8/8, bias 0.5.
fn served_score(a: f64, c: &str) -> f64 {
    let category = [("x", 0.375), ("y", 0.5)].iter().find(|(name, _)| *name == c).map_or(0.0, |(_, weight)| *weight);
    a * 27.0 / 8.0 + a.min(50.0) / 4.0 + category + 0.5
}

/// The real scorer, a model with a feature transform, two clients: 10 s up, 60 s without a broker, then up again.
#[test]
#[ignore = "starts a Kafka broker: needs Java 17 and Maven, and ONNX Runtime: ORT_DYLIB_PATH; takes 2 minutes"]
fn no_request_of_the_scorer_fails_while_the_broker_is_away() {
    let broker = Broker::start();
    let log = broker.log();
    support::create_topic(&log, "events", 3);
    let directory = tempfile::tempdir().unwrap();
    let (http, admin) = (support::free_port(), support::free_port());
    let settings = format!(
        "version: 1\nregistry: registry\nhttp: {{bind: \"127.0.0.1:{http}\"}}\ngrpc: {{enabled: false}}\n\
         admin: {{bind: \"127.0.0.1:{admin}\"}}\nkafka: {{bootstrap_servers: \"{}\"}}\n\
         events: {{enabled: true, topic: events, max_rows: 5000}}\n",
        broker.bootstrap_servers
    );
    std::fs::write(directory.path().join("scorer.yaml"), settings).unwrap();
    std::fs::create_dir(directory.path().join("registry")).unwrap();
    let registry = driftline::scorer::registry::Registry::open(&directory.path().join("registry")).unwrap();
    let model = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/scorer/linear.onnx")).unwrap();
    let registration = driftline::scorer::registry::register::Registration {
        model: "m".into(),
        files: [("model.onnx".into(), model), ("transform.yaml".into(), SERVED_TRANSFORM.into())].into(),
        ..Default::default()
    };
    registry.register(&registration, None, now_ms()).unwrap();
    let command = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftline-scorer"));
        command.current_dir(directory.path()).env("NO_COLOR", "1");
        command
    };
    let promoted =
        command().args(["promote", "m", "1", "--config", "scorer.yaml", "--reason", "test"]).output().unwrap();
    assert!(promoted.status.success(), "{}", String::from_utf8_lossy(&promoted.stderr));
    let file = std::fs::File::create(directory.path().join("scorer.log")).unwrap();
    let mut child =
        command().args(["serve", "--config", "scorer.yaml"]).stdout(Stdio::null()).stderr(file).spawn().unwrap();
    support::wait_until("the model is ready", Duration::from_secs(30), || {
        assert!(
            child.try_wait().unwrap().is_none(),
            "{}",
            std::fs::read_to_string(directory.path().join("scorer.log")).unwrap()
        );
        support::http_get(http, "/v2/models/m/ready").is_some_and(|(status, _)| status == 200)
    });
    let started = Instant::now();
    let answered: u64 = std::thread::scope(|scope| {
        let client = move |first: u64| {
            let mut stream = std::net::TcpStream::connect(("127.0.0.1", http)).unwrap();
            stream.set_nodelay(true).unwrap();
            let mut answered = 0;
            while started.elapsed() < Duration::from_secs(90) {
                let (a, c) = (answered % 100, ["x", "y", "z", ""][(answered % 4) as usize]);
                let body = format!(
                    "{{\"id\":\"{first}-{answered}\",\"inputs\":[{{\"name\":\"a\",\"datatype\":\"FP64\",\"shape\":[1],\"data\":[{a}]}},\
                     {{\"name\":\"c\",\"datatype\":\"BYTES\",\"shape\":[1],\"data\":[\"{c}\"]}}]}}"
                );
                let (status, body) = post(&mut stream, "/v2/models/m/infer", &body);
                assert_eq!(status, 200, "{body}");
                let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
                let score = answer["outputs"][0]["data"][0].as_f64().unwrap();
                assert_eq!(score, served_score(a as f64, c), "a = {a}, c = {c}: {body}");
                answered += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
            answered
        };
        let clients = [scope.spawn(move || client(0)), scope.spawn(move || client(1))];
        std::thread::sleep(Duration::from_secs(10));
        script(&["kill"], broker.directory.path());
        std::thread::sleep(Duration::from_secs(60));
        script(&["start", "--keep"], broker.directory.path());
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    let count = |name: &str| -> u64 {
        let (_, text) = support::http_get(admin, "/metrics").unwrap();
        let prefix = format!("driftline_scorer_events_{name}{{model=\"m\"}} ");
        text.lines()
            .find_map(|line| line.strip_prefix(&prefix))
            .unwrap_or_else(|| panic!("{name}:\n{text}"))
            .parse()
            .unwrap()
    };
    support::wait_until("everything is sent", Duration::from_secs(60), || count("in_flight") == 0);
    let (offered, sent, dropped, failed) =
        (count("offered_total"), count("sent_total"), count("dropped_total"), count("failed_total"));
    let ids = values(&log, "events", "prediction_id");
    println!(
        "answered {answered}; offered {offered}, sent {sent}, dropped {dropped}, failed {failed}; in the topic {}",
        ids.len()
    );
    assert_eq!((offered, failed), (answered, 0));
    assert!(dropped > 0, "the queue of 5 000 was never full");
    assert_eq!(sent + dropped, offered);
    assert_eq!(sent, ids.len() as u64);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    // What is waiting at SIGTERM is sent.
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", http)).unwrap();
    let last = "{\"id\":\"last\",\"inputs\":[{\"name\":\"a\",\"datatype\":\"FP64\",\"shape\":[1],\"data\":[1]},\
                {\"name\":\"c\",\"datatype\":\"BYTES\",\"shape\":[1],\"data\":[\"\"]}]}";
    assert_eq!(post(&mut stream, "/v2/models/m/infer", last).0, 200);
    drop(stream);
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    support::wait_until("it has stopped", Duration::from_secs(40), || child.try_wait().unwrap().is_some());
    assert!(child.wait().unwrap().success());
    assert!(values(&log, "events", "prediction_id").contains(&"last".to_string()), "SIGTERM sends what waits");
}
