//! The broker goes away and comes back, under a consumer that polls and a transaction that is open.
//!
//! Each test starts a broker of its own with `scripts/kafka.sh`:
//! `cargo test --test kafka_outage -- --ignored`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use driftline::log::kafka::{KafkaLog, KafkaOptions};
use driftline::log::{
    Consumer, ConsumerEvent, ConsumerOptions, Log, LogError, OutRecord, StartOffset, TopicPartition, TopicSpec,
};

const PATIENCE: Duration = Duration::from_secs(60);
const TOPIC: &str = "outage";

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

    fn kill(&self) {
        script(&["kill"], self.directory.path());
    }

    fn stop(&self) {
        script(&["stop"], self.directory.path());
    }

    fn start_again(&self) {
        script(&["start", "--keep"], self.directory.path());
    }

    fn log(&self) -> KafkaLog {
        let log = KafkaLog::new(KafkaOptions {
            bootstrap_servers: self.bootstrap_servers.clone(),
            client_id: "outage".into(),
            instance: None,
            properties: [(
                "session.timeout.ms".to_string(),
                driftline::config::receivers::TextOrSecret::Text("6000".into()),
            )]
            .into(),
        })
        .unwrap();
        log.create_topics(&[TopicSpec { name: TOPIC.into(), partitions: 1, replication: 1, config: Vec::new() }])
            .unwrap();
        log
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        script(&["kill"], self.directory.path());
    }
}

fn append(log: &dyn Log, value: &str) {
    log.append(vec![record(value)]).unwrap();
}

fn record(value: &str) -> OutRecord {
    OutRecord { topic: TOPIC.into(), value: Some(value.as_bytes().to_vec()), ..OutRecord::default() }
}

fn values(consumer: &mut dyn Consumer, timeout: Duration) -> Vec<String> {
    let polled = consumer.poll(100, timeout).unwrap();
    polled.records.iter().map(|record| String::from_utf8(record.value.unwrap().to_vec()).unwrap()).collect()
}

fn read(consumer: &mut dyn Consumer, count: usize) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    let mut read = Vec::new();
    while read.len() < count {
        assert!(Instant::now() < deadline, "read {read:?} within {PATIENCE:?}, expected {count} records");
        read.extend(values(consumer, Duration::from_millis(100)));
    }
    read
}

fn wait_for_health(consumer: &mut dyn Consumer, healthy: bool) -> Duration {
    let start = Instant::now();
    while consumer.healthy() != healthy {
        assert!(start.elapsed() < PATIENCE, "healthy is {}, expected {healthy}", consumer.healthy());
        let read = values(consumer, Duration::from_millis(50));
        // Nothing was committed: once the broker is back, a new assignment may start at the beginning before the
        // client says that it is well again.
        assert!(healthy || read.is_empty(), "read {read:?} from a broker that is away");
    }
    start.elapsed()
}

#[test]
#[ignore = "starts a Kafka broker: needs Java 17 and Maven"]
fn a_consumer_says_that_the_broker_is_away_and_resumes_by_itself() {
    let broker = Broker::start();
    let log = broker.log();
    append(&log, "before");
    let options = ConsumerOptions {
        group: Some("group".into()),
        topics: vec![TOPIC.into()],
        start: StartOffset::Earliest,
        read_committed: true,
    };
    let mut consumer = log.consumer(options).unwrap();
    assert_eq!(read(&mut *consumer, 1), ["before"]);
    wait_for_health(&mut *consumer, true);
    for (round, crash) in [true, false].into_iter().enumerate() {
        if crash {
            broker.kill()
        } else {
            broker.stop()
        }
        let noticed = wait_for_health(&mut *consumer, false);
        // Longer than the session: the broker has forgotten the member when it is back.
        std::thread::sleep(Duration::from_secs(8));
        broker.start_again();
        let healed = wait_for_health(&mut *consumer, true);
        println!("crash {crash}: noticed after {noticed:?}, healed {healed:?} after the start");
        let value = format!("after {round}");
        append(&log, &value);
        let mut read = read(&mut *consumer, 1);
        // Nothing was ever committed, so a new assignment starts at the beginning.
        read.dedup();
        assert_eq!(read.last(), Some(&value));
        while !values(&mut *consumer, Duration::from_millis(500)).is_empty() {}
        consumer.group().unwrap();
    }
}

/// What a transaction whose broker was away for `outage` says of itself must be what readers see.
fn transaction_over_an_outage(outage: Duration) {
    let broker = Broker::start();
    let log = broker.log();
    let mut producer = log.producer("id").unwrap();
    producer.begin().unwrap();
    producer.send(record("first")).unwrap();
    producer.commit().unwrap();
    producer.begin().unwrap();
    producer.send(record("over the outage")).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    broker.kill();
    let committed = std::thread::scope(|scope| {
        let commit = scope.spawn(|| {
            let started = Instant::now();
            let outcome = producer.commit();
            println!("after {:?}: {outcome:?}", started.elapsed());
            outcome
        });
        std::thread::sleep(outage);
        broker.start_again();
        commit.join().unwrap()
    });
    let mut expected = vec!["first", "over the outage", "last"];
    match committed {
        Ok(()) => {}
        Err(LogError::Abort(_)) => {
            producer.abort().unwrap();
            expected.remove(1);
        }
        Err(LogError::Fatal(_)) => {
            producer = log.producer("id").unwrap();
            expected.remove(1);
        }
        other => panic!("a commit left its outcome open: {other:?}"),
    }
    producer.begin().unwrap();
    producer.send(record("last")).unwrap();
    producer.commit().unwrap();
    let mut consumer = log
        .consumer(ConsumerOptions {
            group: None,
            topics: Vec::new(),
            start: StartOffset::Earliest,
            read_committed: true,
        })
        .unwrap();
    consumer.assign(&[(TopicPartition::new(TOPIC, 0), None)]).unwrap();
    let mut read = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while read.last().map(String::as_str) != Some("last") {
        assert!(Instant::now() < deadline, "read {read:?}, expected {expected:?}");
        let polled = consumer.poll(100, Duration::from_millis(100)).unwrap();
        assert!(!polled.events.iter().any(|event| matches!(event, ConsumerEvent::Revoked(_))));
        read.extend(polled.records.iter().map(|record| String::from_utf8(record.value.unwrap().to_vec()).unwrap()));
    }
    assert_eq!(read, expected);
}

#[test]
#[ignore = "starts a Kafka broker: needs Java 17 and Maven"]
fn a_commit_over_a_short_outage_tells_the_truth() {
    transaction_over_an_outage(Duration::from_secs(2));
}

#[test]
#[ignore = "starts a Kafka broker: needs Java 17 and Maven"]
fn a_commit_over_an_outage_longer_than_the_transaction_may_last_tells_the_truth() {
    transaction_over_an_outage(Duration::from_secs(25));
}

/// Longer than the transaction timeout of 10 s: what is open then is lost to the service, and must be done again.
#[test]
#[ignore = "starts a Kafka broker: needs Java 17 and Maven"]
fn the_service_resumes_by_itself_and_loses_nothing() {
    let broker = Broker::start();
    let log = broker.log();
    let app = "resumes";
    let model = format!(
        "version: 1\nmodel: m\ntopics: [{TOPIC}]\nfields: {{timestamp: at}}\nfeatures: {{x: numeric}}\nreferences: {{training: {{path: ../t.csv}}}}\nwindows: {{size: 1m, watermark_delay: 0s, idle_after: 2s}}\n"
    );
    let workspace = support::Workspace::on_broker(
        &broker.bootstrap_servers,
        app,
        &model,
        "version: 1\nrules: []\n",
        "ingest: {flush_interval: 100ms}\n",
    );
    let numbers: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    std::fs::write(workspace.dir.join("t.csv"), format!("x\n{}\n", numbers.join("\n"))).unwrap();
    workspace.must(&["reference", "build"]);
    let mut service = workspace.start();
    service.wait_ready(PATIENCE);
    let minute = |index: i64| -> Vec<OutRecord> {
        let at = |event: i64| 1_767_225_600_000 + index * 60_000 + event * 100;
        (0..500).map(|event| record(&format!("{{\"at\":{},\"features\":{{\"x\":{event}}}}}", at(event)))).collect()
    };
    log.append(minute(0)).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    broker.kill();
    let ready = || support::http_get(workspace.http_port, "/-/ready").unwrap();
    support::wait_until("it is not ready", PATIENCE, || ready().0 == 503);
    assert!(ready().1.contains("no broker can be reached"), "{}", ready().1);
    std::thread::sleep(Duration::from_secs(15));
    broker.start_again();
    log.append(minute(1)).unwrap();
    log.append(minute(2)).unwrap();
    let rows = || -> Vec<u64> {
        let mut results = workspace.results(&log);
        results.sort_by_key(|result| (result.window.start_ms, std::cmp::Reverse(result.revision)));
        results.dedup_by_key(|result| result.window.start_ms);
        results.iter().map(|result| result.rows).collect()
    };
    support::wait_until("all windows are whole", PATIENCE * 2, || rows() == [500, 500, 500]);
    support::wait_until("it is ready again", PATIENCE, || ready().0 == 200);
    assert!(service.terminate().success(), "and it is still the same process");
}
