//! Alerts as CloudEvents in a topic of the same log: keyed, ordered, with a stable id, and a topic that is missing costs
//! the other receivers nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod dispatch_support;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dispatch_support::role_harness::Harness;
use dispatch_support::{notification, samples};
use driftline::config::receivers::{KafkaFormat, KafkaReceiver, Receiver};
use driftline::dispatch::delivery::DeliveryStatus;
use driftline::dispatch::receiver::{Means, ReceiverError, Receivers, Telling, Transport, build};
use driftline::log::kafka::{KafkaLog, KafkaOptions};
use driftline::log::{ConsumerOptions, Log, StartOffset, TopicPartition, TopicSpec};
use driftline::rules::episode::EpisodeStatus;
use serde_json::Value;

const TOPIC: &str = "ml.alerts";

fn receiver(topic: &str) -> Receiver {
    let kafka = KafkaReceiver { topic: topic.into(), format: KafkaFormat::Cloudevents };
    Receiver { kafka: Some(kafka), ..Receiver::default() }
}

fn transport(log: &Arc<dyn Log>, topic: &str) -> Result<Box<dyn Transport>, ReceiverError> {
    build("bus", &receiver(topic), Means { smtp: None, log: Some((log, "driftline")) })
}

fn create(log: &dyn Log, name: &str) {
    let spec = TopicSpec { name: name.into(), partitions: 1, replication: 1, config: vec![] };
    log.create_topics(&[spec]).unwrap();
}

/// Keys and events of the topic's only partition, once there are `count`.
fn events(log: &dyn Log, count: usize) -> Vec<(String, Value)> {
    let options = ConsumerOptions { group: None, topics: vec![], start: StartOffset::Earliest, read_committed: true };
    let mut consumer = log.consumer(options).unwrap();
    consumer.assign(&[(TopicPartition::new(TOPIC, 0), None)]).unwrap();
    let mut found = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(20);
    while found.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} events: {found:?}", found.len());
        for record in consumer.poll(100, Duration::from_millis(50)).unwrap().records.iter() {
            let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
            found.push((key, serde_json::from_slice(record.value.unwrap()).unwrap()));
        }
    }
    found
}

#[test]
fn an_episode_stands_in_a_topic_in_order_with_stable_ids() {
    let harness = Harness::new();
    let log: Arc<dyn Log> = Arc::new(harness.log.clone());
    create(&*log, TOPIC);
    let bus = transport(&log, TOPIC).map_err(|error| error.to_string()).unwrap();
    let receivers: Arc<Receivers> = Arc::new(BTreeMap::from([("bus".to_string(), bus)]));
    let story: Vec<_> = (0..3).map(|sequence| notification("e", sequence, &["bus"])).collect();
    harness.publish(&story);
    let role = harness.start("0", &receivers, None);
    let deliveries = harness.wait_until_final(3);
    role.stop().unwrap();
    assert!(deliveries.values().all(|record| record.status == DeliveryStatus::Delivered), "{deliveries:#?}");
    let events = events(&*log, 3);
    for ((key, event), sent) in events.iter().zip(&story) {
        assert_eq!((key.as_str(), event["id"].as_str().unwrap()), ("e", sent.id.as_str()));
        assert_eq!((&event["specversion"], &event["source"]), (&"1.0".into(), &"/driftline/driftline".into()));
        assert_eq!(event["data"]["notification"], serde_json::to_value(sent).unwrap());
        assert_eq!(event["data"]["url"], "http://drift.test/alerts/e");
    }
}

#[test]
fn a_missing_topic_is_tried_again_until_it_is_there_and_holds_up_nobody_else() {
    let harness = Harness::new();
    let log: Arc<dyn Log> = Arc::new(harness.log.clone());
    create(&*log, "other");
    let there = transport(&log, "other").map_err(|error| error.to_string()).unwrap();
    let missing = transport(&log, TOPIC).map_err(|error| error.to_string()).unwrap();
    let receivers: Arc<Receivers> =
        Arc::new(BTreeMap::from([("there".to_string(), there), ("missing".to_string(), missing)]));
    harness.publish(&[notification("e", 0, &["there", "missing"])]);
    let role = harness.start("0", &receivers, None);
    harness.wait_until_final(1);
    let statuses = harness.statuses();
    assert_eq!(statuses["e-0|there"], DeliveryStatus::Delivered, "{statuses:?}");
    assert_eq!(statuses["e-0|missing"], DeliveryStatus::Pending, "{statuses:?}");
    create(&*log, TOPIC);
    harness.wait_until_final(2);
    role.stop().unwrap();
    assert_eq!(events(&*log, 1)[0].1["id"], "e-0");
}

#[test]
fn driftlines_own_topics_are_no_receivers() {
    let harness = Harness::new();
    let log: Arc<dyn Log> = Arc::new(harness.log.clone());
    let error = transport(&log, &harness.topics.outbox).err().expect("it is refused").to_string();
    assert!(error.contains("Driftline's own"), "{error}");
    assert!(build("bus", &receiver(TOPIC), Means::default()).is_err());
}

/// On a real broker, by clients that know nothing of Driftline: the CNCF's CloudEvents SDK and librdkafka's for Python.
#[test]
#[ignore = "needs a broker and Python with the CloudEvents SDK: scripts/cloudevents-reference.sh"]
fn a_stock_client_reads_every_event() {
    let required = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let (python, servers) = (required("DRIFTLINE_PYTHON"), required("DRIFTLINE_TEST_KAFKA"));
    let options = KafkaOptions {
        bootstrap_servers: servers.clone(),
        client_id: "cloudevents-test".into(),
        instance: None,
        properties: BTreeMap::new(),
    };
    let log: Arc<dyn Log> = Arc::new(KafkaLog::new(options).unwrap());
    let topic = format!("ml.alerts.{}", std::process::id());
    create(&*log, &topic);
    let bus = transport(&log, &topic).map_err(|error| error.to_string()).unwrap();
    let sent = [
        (samples::firing(), Telling::News),
        (samples::documented(), Telling::Reminder { number: 1 }),
        (samples::resolved(), samples::late()),
        (samples::hostile(), Telling::News),
    ];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (notification, telling) in &sent {
        let outcome = runtime.block_on(bus.deliver(notification, &samples::context(telling.clone())));
        assert_eq!(outcome.label(), "delivered", "{outcome:?}");
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/cloudevents_reference.py");
    let output = Command::new(python).args([script, &servers, &topic, &sent.len().to_string()]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    let read: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(read.len(), sent.len(), "{text}");
    for (event, (notification, telling)) in read.iter().zip(&sent) {
        let attributes = &event["attributes"];
        let kind = if notification.status == EpisodeStatus::Firing { "firing" } else { "resolved" };
        assert_eq!(event["key"], notification.episode_id, "{event:#}");
        assert_eq!(attributes["id"], notification.id, "{event:#}");
        assert_eq!(attributes["type"], format!("driftline.alert.{kind}"), "{event:#}");
        assert_eq!(attributes["source"], "/driftline/driftline", "{event:#}");
        assert_eq!(event["data"]["notification"], serde_json::to_value(notification).unwrap());
        let telling = if *telling == Telling::News { Value::Null } else { serde_json::to_value(telling).unwrap() };
        assert_eq!(event["data"]["telling"], telling);
    }
}
