//! A rule's query on a real broker, through the real binary that is killed at random moments: the values are those of the
//! events, and the alert begins and ends where it should. Needs a broker; `.ci/run` provides one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use driftline::log::{Log, OutRecord};
use driftline::rules::episode::EpisodeStatus;
use driftline::windows::result::WindowResult;
use serde_json::{Value, json};
use support::{Workspace, create_topic, free_port, kafka_log, unique, wait_until};

const MINUTE_MS: i64 = 60_000;
const START_MS: i64 = 1_767_225_600_000;
const MINUTES: i64 = 12;
const EVENTS_PER_MINUTE: i64 = 600;
const PARTITIONS: i32 = 3;
const KILLS: usize = 8;

const RULES: &str = "
version: 1
rules:
  - name: approval-rate
    model: loans@*
    min_samples: 200
    sql: SELECT avg(CAST(decision = 'approve' AS DOUBLE)) AS value FROM events
    when: {critical: value not between 0.55 and 0.75}
  - name: amount-by-country
    model: loans@*
    min_samples: 100
    sql: SELECT sum(amount) / 3 AS value, country FROM events GROUP BY country
    when: {warn: value < 0}
routes: [{match: {}, to: [hook]}]
receivers: {hook: {webhook: {url: \"http://127.0.0.1:PORT/\", allow_private: true}}}
";

fn event(minute: i64, index: i64) -> Value {
    let fewer = (4..8).contains(&minute);
    let approved = if fewer { index % 4 == 0 } else { index % 3 != 0 };
    json!({
        "timestamp": START_MS + minute * MINUTE_MS + index * MINUTE_MS / EVENTS_PER_MINUTE,
        "features": {
            "amount": 0.1 * ((index * 37 + minute) % 1_000) as f64,
            "decision": if approved { "approve" } else { "reject" },
            "country": if index % 5 < 3 { "DE" } else { "FR" },
        },
    })
}

fn workspace(topic: &str) -> Workspace {
    let model = format!(
        "version: 1
model: loans
topics: [{topic}]
features: {{amount: numeric, decision: categorical, country: categorical}}
segments: [country]
references: {{training: {{path: ../training.jsonl}}}}
windows: {{size: 1m, watermark_delay: 0s, allowed_lateness: 10m, idle_after: 2s}}
"
    );
    let rules = RULES.replace("PORT", &free_port().to_string());
    let workspace = Workspace::new(&unique("sql"), &model, &rules, "ingest: {flush_interval: 100ms}\n");
    let rows: String = (0..3_000).map(|index| format!("{}\n", event(0, index)["features"])).collect();
    std::fs::write(workspace.dir.join("training.jsonl"), rows).unwrap();
    workspace.must(&["reference", "build"]);
    workspace.must(&["check"]);
    workspace
}

/// The newest revision of every window, over all events (`""`) and by country.
fn newest(results: Vec<WindowResult>) -> BTreeMap<(i64, String), WindowResult> {
    let mut newest: BTreeMap<(i64, String), WindowResult> = BTreeMap::new();
    for result in results {
        let minute = (result.window.start_ms - START_MS) / MINUTE_MS;
        let key = (minute, result.segment.value.clone());
        if newest.get(&key).is_none_or(|known| known.revision <= result.revision) {
            newest.insert(key, result);
        }
    }
    newest
}

#[test]
#[ignore = "needs a Kafka broker: DRIFTLINE_TEST_KAFKA"]
fn a_query_gives_the_value_of_the_events_whatever_is_killed() {
    let log = kafka_log();
    let topic = unique("loans");
    create_topic(&*log, &topic, PARTITIONS);
    let workspace = workspace(&topic);
    let mut random = 11_u64;
    for minute in 0..MINUTES {
        let record = |index: i64| OutRecord {
            topic: topic.as_str().into(),
            partition: Some((index % i64::from(PARTITIONS)) as i32),
            value: Some(event(minute, index).to_string().into_bytes()),
            ..OutRecord::default()
        };
        log.append((0..EVENTS_PER_MINUTE).map(record).collect()).unwrap();
        if (minute as usize) < KILLS {
            let service = workspace.start();
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            std::thread::sleep(Duration::from_millis(300 + (random >> 33) % 3_000));
            service.kill_nine();
        }
    }
    let mut service = workspace.start();
    service.wait_ready(Duration::from_secs(60));
    let is_done = || newest(workspace.results(&*log)).contains_key(&(MINUTES - 1, String::new()));
    wait_until("the last window to close", Duration::from_secs(90), is_done);
    std::thread::sleep(Duration::from_secs(2));
    let results = newest(workspace.results(&*log));
    for minute in 0..MINUTES {
        let events: Vec<Value> = (0..EVENTS_PER_MINUTE).map(|index| event(minute, index)).collect();
        let of = |event: &&Value, country: &str| country.is_empty() || event["features"]["country"] == country;
        let approved = events.iter().filter(|event| event["features"]["decision"] == "approve").count();
        let whole = &results[&(minute, String::new())].features["sql:approval-rate"];
        assert_eq!(whole.n, EVENTS_PER_MINUTE as u64, "minute {minute}");
        assert_eq!(whole.metrics["value"].value, Some(approved as f64 / EVENTS_PER_MINUTE as f64), "minute {minute}");
        for country in ["DE", "FR"] {
            let of_country: Vec<&Value> = events.iter().filter(|event| of(event, country)).collect();
            let sum: f64 = of_country.iter().map(|event| event["features"]["amount"].as_f64().unwrap()).sum();
            let stats = &results[&(minute, country.to_string())].features["sql:amount-by-country"];
            let value = stats.metrics["value"].value.unwrap();
            assert_eq!(stats.n, of_country.len() as u64, "minute {minute}, {country}");
            assert!(
                (value - sum / 3.0).abs() < 1e-9 * sum,
                "minute {minute}, {country}: {value} against {}",
                sum / 3.0
            );
        }
    }
    let told: Vec<(EpisodeStatus, i64)> = workspace
        .outbox(&*log)
        .iter()
        .map(|told| (told.status, (told.window.start_ms - START_MS) / MINUTE_MS))
        .collect();
    assert_eq!(told, [(EpisodeStatus::Firing, 4), (EpisodeStatus::Resolved, 8)]);
    assert!(service.terminate().success());
}
