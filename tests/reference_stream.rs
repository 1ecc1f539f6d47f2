//! References from a stretch of the model's own topics: the same as from a file with the same rows, bounded in memory,
//! and clear about what was not found. `on_kafka` runs on a real broker.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use driftline::config::model::Model;
use driftline::config::parse_model_str;
use driftline::log::embedded::EmbeddedLog;
use driftline::log::{Log, OutRecord, TopicSpec};
use driftline::reference::stream::{Range, StreamError, read};
use driftline::reference::{Reference, Source};

mod support;

const HOUR_MS: i64 = 3_600_000;
/// Midnight UTC, 2026-01-01.
const START_MS: i64 = 1_767_225_600_000;
const PARTITIONS: i32 = 3;

fn model(topic: &str) -> Arc<Model> {
    let yaml = format!(
        "version: 1\nmodel: fraud\ntopics: [{topic}]\nfields: {{version: version, features: features.*}}\n\
         features: {{amount: numeric, country: categorical}}\nsegments: [country]\n"
    );
    Arc::new(parse_model_str("model.yaml", &yaml).unwrap().value)
}

fn event(minute: i64) -> String {
    let time = START_MS + minute * 60_000;
    let (amount, country) = (minute * 37 % 101, ["DE", "FR", "IT"][(minute % 3) as usize]);
    let version = if minute % 4 == 0 { "4" } else { "3" };
    format!(
        "{{\"timestamp\": {time}, \"version\": \"{version}\", \"features\": {{\"amount\": {amount}, \"country\": \"{country}\"}}}}"
    )
}

/// Ten hours, an event a minute; each tenth is broken. Even hours are written after odd ones.
fn fill(log: &dyn Log, topic: &str) {
    let spec = TopicSpec { name: topic.into(), partitions: PARTITIONS, replication: 1, config: vec![] };
    log.create_topics(&[spec]).unwrap();
    let hours = (0..10).filter(|hour| hour % 2 == 1).chain((0..10).filter(|hour| hour % 2 == 0));
    let records = hours.flat_map(|hour| hour * 60..hour * 60 + 60).map(|minute| OutRecord {
        topic: topic.into(),
        partition: Some((minute % i64::from(PARTITIONS)) as i32),
        value: Some(if minute % 10 == 7 { b"{broken".to_vec() } else { event(minute).into_bytes() }),
        ..OutRecord::default()
    });
    log.append(records.collect()).unwrap();
}

fn range(from_hour: i64, to_hour: i64) -> Range {
    Range {
        topics: Vec::new(),
        from_ms: START_MS + from_hour * HOUR_MS,
        to_ms: START_MS + to_hour * HOUR_MS,
        version: None,
        most_rows: 10_000,
    }
}

/// Now is long after the events.
fn read_at(log: &dyn Log, model: &Arc<Model>, range: &Range) -> Result<(Reference, u64, u64), StreamError> {
    let rows = read(log, model, range, START_MS + 100 * HOUR_MS, |_| {})?;
    let source = Source { stream: Some(rows.stretch), ..Source::default() };
    let reference = Reference::build(model, "training", &[rows.batch], &BTreeMap::new(), source, 0).unwrap();
    Ok((reference, rows.read, rows.rejected))
}

fn a_stretch_is_what_its_events_say(log: &dyn Log, topic: &str) {
    fill(log, topic);
    let model = model(topic);
    let (reference, read, rejected) = read_at(log, &model, &range(2, 5)).unwrap();
    assert_eq!((read, rejected), (600, 60));
    // Three hours of 60 events, without the broken ones.
    assert_eq!(reference.rows, 162);
    let amounts: Vec<i64> = (120..300).filter(|minute| minute % 10 != 7).map(|minute| minute * 37 % 101).collect();
    let driftline::stats::profile::Profile::Numeric(amount) = &reference.features["amount"].profile else { panic!() };
    let mean = amounts.iter().sum::<i64>() as f64 / amounts.len() as f64;
    assert!((amount.mean().unwrap() - mean).abs() < 1e-12, "{:?} {mean}", amount.mean());
    assert_eq!(amount.max(), Some(*amounts.iter().max().unwrap() as f64));
    let stretch = reference.source.stream.as_ref().unwrap();
    // Twenty a partition and hour; odd hours come first: 1, 3, 5, 7, 9, 0, 2, 4. Hour 3 begins at 20, hour 4 ends at
    // 160; minute 297, the last of partition 0, is broken.
    let offsets: Vec<(i64, i64)> = stretch.offsets[topic].values().copied().collect();
    assert_eq!(offsets, [(20, 159), (20, 160), (20, 160)]);
    // Read again, it is the same to the byte.
    assert_eq!(read_at(log, &model, &range(2, 5)).unwrap().0.id, reference.id);
    let of_version = Range { version: Some("4".into()), ..range(2, 5) };
    assert_eq!(read_at(log, &model, &of_version).unwrap().0.rows, 45);
}

#[test]
fn a_stretch_of_the_embedded_log() {
    a_stretch_is_what_its_events_say(&EmbeddedLog::new(), "predictions");
}

#[test]
fn what_is_not_there_is_said() {
    let log = EmbeddedLog::new();
    let model = model("predictions");
    let error = |range: &Range| read_at(&log, &model, range).unwrap_err().to_string();
    assert!(error(&range(0, 1)).contains("topic `predictions` does not exist"));
    fill(&log, "predictions");
    let outside = error(&range(20, 21));
    assert!(outside.contains("600 records were read, 60 of them broken"), "{outside}");
    assert!(outside.contains("2026-01-01T00:00:00+00:00 to 2026-01-01T09:59:00+00:00"), "{outside}");
    let elsewhere = Range { topics: vec!["others".into()], ..range(0, 1) };
    assert!(error(&elsewhere).contains("topic `others` does not exist; the model reads: predictions"));
    let many = error(&Range { most_rows: 100, ..range(0, 10) });
    assert!(many.contains("more than 100 events") && many.contains("--max-rows"), "{many}");
}

#[test]
#[ignore = "needs a Kafka broker: DRIFTLINE_TEST_KAFKA"]
fn a_stretch_of_a_real_topic() {
    let topic = support::unique("reference-stream");
    a_stretch_is_what_its_events_say(&*support::kafka_log(), &topic);
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("models")).unwrap();
    let service = format!("app: test\nrules: []\nkafka: {{bootstrap_servers: '{}'}}\n", support::broker());
    std::fs::write(dir.path().join("driftline.yaml"), service).unwrap();
    let yaml = format!(
        "version: 1\nmodel: fraud\ntopics: [{topic}]\nfields: {{version: version, features: features.*}}\n\
         features: {{amount: numeric, country: categorical}}\nsegments: [country]\n"
    );
    std::fs::write(dir.path().join("models/fraud.yaml"), yaml).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_driftline"))
        .current_dir(dir.path())
        .args(["reference", "build", "--model", "fraud", "--from-stream", "--for-version", "3"])
        .args(["--since", "2026-01-01T02:00:00Z", "--until", "2026-01-01T05:00:00Z"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    // 180 minutes, less a quarter of version 4, less the broken ones that would have been of version 3.
    let taken = (120..300).filter(|minute| minute % 4 != 0 && minute % 10 != 7).count();
    assert!(text.contains(&format!("600 records read, {taken} events taken, 60 records broken")), "{text}");
    assert!(text.contains("in force"), "{text}");
}
