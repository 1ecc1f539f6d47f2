//! The dispatch role on a real Kafka, in a process of its own that is killed with SIGKILL again and again.
//!
//! `DRIFTLINE_TEST_KAFKA=host:port cargo test --test dispatch_kafka -- --ignored`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod dispatch_support;

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dispatch_support::notification;
use driftline::config::receivers::{Receiver, TextOrSecret, WebhookReceiver};
use driftline::config::service::Service;
use driftline::config::units::Span;
use driftline::dispatch::delivery::DeliveryStatus;
use driftline::dispatch::hook_catcher::HookCatcher;
use driftline::dispatch::receiver::{Means, Receivers, build};
use driftline::dispatch::restore::read_deliveries;
use driftline::dispatch::role::{DispatchConfig, run};
use driftline::dispatch::schedule::Policy;
use driftline::log::kafka::{KafkaLog, KafkaOptions};
use driftline::log::topics::Topics;
use driftline::log::{Log, OutRecord};
use driftline::telemetry::Metrics;
use tokio_util::sync::CancellationToken;

const PARTITIONS: i32 = 2;
const EPISODES: u32 = 20;
const PER_EPISODE: u32 = 10;
/// Kills in the middle of sending; as many again come while the process still joins or restores.
const KILLS: u32 = 10;
/// `{app} {url of the webhook receiver}` for the process that runs the role.
const JOB: &str = "DRIFTLINE_TEST_DISPATCH_JOB";

fn connect() -> KafkaLog {
    let bootstrap_servers =
        std::env::var("DRIFTLINE_TEST_KAFKA").expect("DRIFTLINE_TEST_KAFKA=host:port names the broker to test on");
    // The shortest session that brokers allow by default: a killed member is missed after it.
    let properties = BTreeMap::from([(
        "session.timeout.ms".to_string(),
        driftline::config::receivers::TextOrSecret::Text("6000".into()),
    )]);
    KafkaLog::new(KafkaOptions { bootstrap_servers, client_id: "dispatch-test".into(), instance: None, properties })
        .unwrap()
}

#[test]
#[ignore = "started as a process of its own by kill_nine_of_the_process_loses_no_notification"]
fn role_process() {
    let Ok(job) = std::env::var(JOB) else { return };
    let (app, url) = job.split_once(' ').unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let webhook = WebhookReceiver {
        url: TextOrSecret::Text(url.into()),
        secret: None,
        previous_secret: None,
        headers: BTreeMap::new(),
        body: None,
        resolved: None,
        allow_private: true,
        timeout: None,
    };
    let hook = build("hook", &Receiver { webhook: Some(webhook), ..Receiver::default() }, Means::default()).unwrap();
    let receivers: Arc<Receivers> = Arc::new(BTreeMap::from([("hook".to_string(), hook)]));
    let mut service = Service { app: app.into(), ..Service::default() };
    service.dispatch.first_retry = Span::from_ms(50);
    let policy = Arc::new(Policy::default().with_transports(&receivers));
    let config = DispatchConfig::new(&service, policy, runtime.handle().clone());
    let never = CancellationToken::new();
    run(&connect(), &Topics::new(app), config, receivers, &Metrics::new().unwrap(), &never).unwrap();
}

fn start(app: &str, url: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "role_process"])
        .env(JOB, format!("{app} {url}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn publish(log: &KafkaLog, topics: &Topics, sequence: u32) {
    let records = (0..EPISODES).map(|episode| {
        let notification = notification(&format!("e{episode}"), sequence, &["hook"]);
        OutRecord {
            topic: topics.outbox.as_str().into(),
            partition: None,
            key: Some(notification.episode_id.clone().into_bytes()),
            value: Some(serde_json::to_vec(&notification).unwrap()),
            headers: vec![],
        }
    });
    log.append(records.collect()).unwrap();
}

#[test]
#[ignore = "needs a Kafka broker: set DRIFTLINE_TEST_KAFKA=host:port"]
fn kill_nine_of_the_process_loses_no_notification() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let log = connect();
    let app = format!("dispatch-{}", rand::random::<u32>());
    let topics = Topics::new(&app);
    log.create_topics(&topics.specs(PARTITIONS, 1)).unwrap();
    let catcher = runtime.block_on(HookCatcher::start(0)).unwrap();

    for sequence in 0..PER_EPISODE {
        publish(&log, &topics, sequence);
    }
    let mut kills_while_sending = 0;
    for _ in 0..KILLS {
        let mut process = start(&app, &catcher.url());
        std::thread::sleep(Duration::from_millis(rand::random_range(20..1_500)));
        process.kill().unwrap();
        process.wait().unwrap();

        let mut process = start(&app, &catcher.url());
        let before = catcher.hooks().len();
        // The group notices the death of the last member after its session timeout.
        runtime.block_on(catcher.wait_for(before + rand::random_range(1..20), Duration::from_secs(60)));
        process.kill().unwrap();
        process.wait().unwrap();
        let after = catcher.hooks().len();
        if after > before && after < (EPISODES * PER_EPISODE) as usize {
            kills_while_sending += 1;
        }
    }
    let mut heir = start(&app, &catcher.url());
    let expected: BTreeSet<String> =
        (0..EPISODES).flat_map(|e| (0..PER_EPISODE).map(move |s| format!("e{e}-{s}|hook"))).collect();
    let deadline = Instant::now() + Duration::from_secs(120);
    let partitions: Vec<i32> = (0..PARTITIONS).collect();
    let deliveries = loop {
        let restored = read_deliveries(&log, &topics.deliveries, &partitions, &CancellationToken::new()).unwrap();
        let delivered: BTreeSet<String> = restored
            .iter()
            .filter(|restored| restored.record.status == DeliveryStatus::Delivered)
            .map(|restored| restored.record.key().to_string())
            .collect();
        if delivered.len() == expected.len() || Instant::now() > deadline {
            break delivered;
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    heir.kill().unwrap();
    heir.wait().unwrap();
    assert_eq!(deliveries, expected);

    let mut by_episode: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for hook in catcher.hooks() {
        assert_eq!(hook.id, hook.notification.id);
        by_episode.entry(hook.notification.episode_id).or_default().push(hook.notification.sequence);
    }
    let copies: usize = by_episode.values().map(Vec::len).sum();
    let extra = copies - expected.len();
    println!("{kills_while_sending} kills while sending, {} notifications, {extra} extra copies", expected.len());
    for (episode, mut sequences) in by_episode {
        assert!(sequences.is_sorted(), "{episode} got {sequences:?}");
        sequences.dedup();
        assert_eq!(sequences, (0..PER_EPISODE).collect::<Vec<_>>(), "{episode}");
    }
    assert!(kills_while_sending >= KILLS / 2, "only {kills_while_sending} kills came while there was work to do");
    assert!(extra <= (2 * KILLS * 4) as usize, "{extra} extra copies: more than attempts in flight at the kills");
}
