//! Promise: a vector of an event, and the features of an event together, go the whole way: decoded or rejected with the
//! reason, profiled as the rows themselves would be, compared, and told by a rule; killed processes change nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::Float32Type;
use driftline::config::model::Model;
use driftline::config::service::Ingest;
use driftline::config::units::Span;
use driftline::config::{parse_model_str, parse_rules_str};
use driftline::event::{Decoded, Decoder, Reason};
use driftline::ingest::aggregate::ModelPlan;
use driftline::ingest::role::{IngestModel, IngestRole};
use driftline::log::embedded::EmbeddedLog;
use driftline::log::topics::Topics;
use driftline::log::{Log, OutRecord, Records, StartOffset, TopicSpec};
use driftline::reference::{Reference, Source};
use driftline::rules::RuleSet;
use driftline::rules::judge::RulesJudge;
use driftline::stats::profile::Profile;
use driftline::stats::vector::arithmetic::Random;
use driftline::telemetry::Metrics;
use driftline::windows::result::WindowResult;
use driftline::windows::role::{WindowsRole, read_to_end};
use driftline::windows::state::{References, pane_width_ms};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const MODEL: &str = "
version: 1
model: search
topics: [queries]
fields: {timestamp: at, prediction_id: id, features: features.*}
features:
  price: numeric
  weight: numeric
  shop: categorical
  embedding: {type: vector, dimension: 4}
joint: {features: all}
segments: [shop]
references: {training: {path: training.jsonl}}
windows: {size: 1m, watermark_delay: 0s, allowed_lateness: 0s, idle_after: 100ms}
";

const RULES: &str = "
version: 1
defaults: {min_samples: 100}
rules:
  - {name: together, model: search, signal: joint, when: {warn: pca_reconstruction_shift not between -8 and 8}}
  - {name: apart, model: search, when: {warn: psi > 0.1}}
  - {name: topics, model: search, features: {include: [embedding]}, when: {critical: mmd2 > 0.01}}
  - {name: told-apart, model: search, signal: joint, when: {warn: classifier_auc > 0.7}}
routes: [{to: [hook]}]
receivers: {hook: {webhook: {url: 'http://127.0.0.1:1/', allow_private: true}}}
";

const MINUTES: i64 = 6;
const EVENTS_PER_MINUTE: i64 = 500;
const PARTITIONS: i32 = 2;
const START_MS: i64 = 1_767_225_600_000;

/// The correlation of price and weight turns in minute 3, the topic changes in minute 4.
fn event(at: i64, index: i64, minute: i64, random: &mut Random) -> Value {
    let price = random.normal();
    let sign = if minute == 3 { -1.0 } else { 1.0 };
    let weight = sign * 0.8 * price + 0.6 * random.normal();
    let topic = if minute == 4 || random.next_u64().is_multiple_of(2) { [2.0, 0.0] } else { [0.0, 2.0] };
    let mut embedding: Vec<f64> = (0..4).map(|_| random.normal()).collect();
    embedding.iter_mut().zip(topic).for_each(|(entry, centre)| *entry += centre);
    let shop = if index % 3 == 0 { "a" } else { "b" };
    json!({"at": at, "id": format!("q{index}"),
           "features": {"price": price, "weight": weight, "shop": shop, "embedding": embedding}})
}

fn model() -> Arc<Model> {
    Arc::new(parse_model_str("model.yaml", MODEL).unwrap().value)
}

fn decode<P: AsRef<[u8]>>(model: &Arc<Model>, payloads: &[P]) -> Decoded {
    let mut records = Records::default();
    for (offset, payload) in payloads.iter().enumerate() {
        records.push("queries", 0, offset as i64, START_MS, None, Some(payload.as_ref()));
    }
    Decoder::new(std::slice::from_ref(model)).unwrap().decode(&records, START_MS + 60_000 * MINUTES).unwrap()
}

fn healthy(model: &Arc<Model>, rows: i64) -> (Decoded, Reference) {
    let mut random = Random::new(11);
    let payloads: Vec<String> = (0..rows).map(|index| event(START_MS, index, 0, &mut random).to_string()).collect();
    let decoded = decode(model, &payloads);
    assert!(decoded.rejected.is_empty(), "{:?}", decoded.rejected);
    let batches: Vec<_> = decoded.batches.iter().map(|decoded| decoded.batch.clone()).collect();
    let reference = Reference::build(model, "training", &batches, &BTreeMap::new(), Source::default(), 0).unwrap();
    (decoded, reference)
}

#[test]
fn a_vector_that_is_none_costs_its_event_and_says_why() {
    let with = |embedding: &str| format!("{{\"at\":{START_MS},\"features\":{{\"embedding\":{embedding}}}}}");
    let cases: [(&str, Option<(Reason, &str)>); 14] = [
        ("[1, 2.5, -3e2, 0]", None),
        ("null", None),
        ("[1,2,3]", Some((Reason::WrongType, "expected 4 numbers, found 3"))),
        ("[1,2,3,4,5]", Some((Reason::WrongType, "expected 4 numbers, found 5"))),
        ("[]", Some((Reason::WrongType, "expected 4 numbers, found 0"))),
        ("[1,null,3,4]", Some((Reason::WrongType, "`features.embedding[1]`: expected a number, found null"))),
        ("[1,2,\"x\",4]", Some((Reason::WrongType, "[2]`: expected a number, found the text"))),
        ("[1,2,[3],4]", Some((Reason::WrongType, "[2]`: expected a number, found an array"))),
        ("[1,2,{\"a\":[1]},4]", Some((Reason::WrongType, "[2]`: expected a number, found an object"))),
        ("[1,2,3,\"NaN\"]", Some((Reason::NonFinite, "[3]`: expected a number, found the text"))),
        ("[1,NaN,3,4]", Some((Reason::NonFinite, "[1]`: a bare NaN"))),
        ("[1,2,3,1e39]", Some((Reason::NonFinite, "[3]`: \"1e39\" is beyond"))),
        ("7", Some((Reason::WrongType, "expected an array of numbers, found the number 7"))),
        ("[1,2,3", Some((Reason::NotJson, "the payload ends"))),
    ];
    let model = model();
    let payloads: Vec<String> = cases
        .iter()
        .map(|(text, _)| if text.ends_with(",3") { with(text)[..40 + text.len()].to_string() } else { with(text) })
        .collect();
    let decoded = decode(&model, &payloads);
    for (index, (text, expected)) in cases.iter().enumerate() {
        let rejected = decoded.rejected.iter().find(|rejected| rejected.record == index);
        match (expected, rejected) {
            (None, None) => {}
            (Some((reason, says)), Some(rejected)) => {
                assert_eq!(rejected.reason, *reason, "{text}: {}", rejected.detail);
                assert!(rejected.detail.contains(says), "{text}: {}", rejected.detail);
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    let batch = &decoded.batches[0].batch;
    assert_eq!(batch.num_rows(), 2);
    let lists = batch.column_by_name("embedding").unwrap().as_fixed_size_list();
    assert_eq!(lists.value(0).as_primitive::<Float32Type>().values(), &[1.0, 2.5, -300.0, 0.0]);
    assert!(lists.is_null(1));
}

#[test]
fn invalid_vectors_can_count_as_missing() {
    let yaml = MODEL.replace("dimension: 4}", "dimension: 4, on_invalid: missing}");
    let model = Arc::new(parse_model_str("model.yaml", &yaml).unwrap().value);
    let payloads = [format!("{{\"at\":{START_MS},\"features\":{{\"embedding\":[1,NaN,3,4]}}}}")];
    let decoded = decode(&model, &payloads);
    assert!(decoded.rejected.is_empty(), "{:?}", decoded.rejected);
    assert!(decoded.batches[0].batch.column_by_name("embedding").unwrap().is_null(0));
}

/// Flushes of any size, and segments put together, give the profile of the whole.
#[tokio::test]
async fn flushes_add_up_to_the_profile_of_all_rows() {
    let model = model();
    let (decoded, reference) = healthy(&model, 900);
    let reference = Arc::new(Reference::from_json(&reference.to_json()).unwrap());
    let batch = &decoded.batches[0].batch;
    let plan = ModelPlan::new(&model, reference.clone(), &batch.schema(), 60_000).unwrap();
    let mut merged: Vec<BTreeMap<(String, String), Profile>> = Vec::new();
    for cuts in [vec![900], vec![1, 299, 600], vec![450, 450]] {
        let mut profiles: BTreeMap<(String, String), Profile> = BTreeMap::new();
        let mut from = 0;
        for rows in cuts {
            for row in plan.run(&[batch.slice(from, rows)]).await.unwrap() {
                if !["joint", "embedding"].contains(&row.feature.as_str()) {
                    continue;
                }
                let profile = Profile::decode(&row.state, &reference.features[&row.feature].layout).unwrap();
                let key = (row.segment_value.clone(), row.feature.clone());
                match profiles.get_mut(&key) {
                    Some(known) => known.merge(&profile).unwrap(),
                    None => {
                        profiles.insert(key, profile);
                    }
                }
            }
            from += rows;
        }
        merged.push(profiles);
    }
    assert_eq!(merged[0].keys().count(), 6, "two signals of all, shop a and shop b: {:?}", merged[0].keys());
    assert!(merged[0] == merged[1] && merged[0] == merged[2], "profiles depend on where flushes were cut");
    let mut of_segments = merged[0][&("a".to_string(), "joint".to_string())].clone();
    of_segments.merge(&merged[0][&("b".to_string(), "joint".to_string())]).unwrap();
    assert_eq!(of_segments.encode(), merged[0][&(String::new(), "joint".to_string())].encode());
    assert_eq!(of_segments.n(), 900);
}

#[test]
fn a_reference_of_other_members_is_to_be_built_again() {
    let model = model();
    let (decoded, reference) = healthy(&model, 100);
    let yaml = MODEL.replace("shop: categorical", "shop: categorical\n  age: numeric");
    let wider = parse_model_str("model.yaml", &yaml).unwrap().value;
    let schema = driftline::event::schema(&wider);
    let reference = Arc::new(reference);
    let error = ModelPlan::new(&wider, reference.clone(), &schema, 60_000).err().unwrap().to_string();
    assert!(error.contains("build it again"), "{error}");
    let yaml = MODEL.replace("features: all", "features: [weight, price]");
    let turned = parse_model_str("model.yaml", &yaml).unwrap().value;
    let schema = decoded.batches[0].batch.schema();
    let error = ModelPlan::new(&turned, reference, &schema, 60_000).err().unwrap().to_string();
    assert!(error.contains("put together from weight, price in the model file"), "{error}");
}

struct OneReference(Arc<Reference>);

impl References for OneReference {
    fn find(&self, model: &str, id: &str) -> Option<Arc<Reference>> {
        (self.0.model == model && self.0.id == id).then(|| self.0.clone())
    }
}

struct World {
    model: Arc<Model>,
    rules: Arc<RuleSet>,
    reference: Arc<Reference>,
    payloads: Vec<Vec<u8>>,
}

fn world() -> World {
    let model = model();
    let rules = parse_rules_str("rules.yaml", RULES).unwrap().value;
    let rules = RuleSet::compile(&[("rules.yaml".to_string(), rules)], std::slice::from_ref(&model)).unwrap();
    let (_, reference) = healthy(&model, 3_000);
    let mut random = Random::new(12);
    let payload = |index: i64| {
        let at = START_MS + index * 60_000 / EVENTS_PER_MINUTE;
        let minute = (at - START_MS) / 60_000;
        let mut event = event(at, index, minute, &mut random);
        // Some lack a member of the joint signal, some bring a vector of another length.
        match index % 50 {
            17 => event["features"]["weight"] = Value::Null,
            33 => event["features"]["embedding"] = json!([1.0]),
            _ => {}
        }
        event.to_string().into_bytes()
    };
    let payloads = (0..MINUTES * EVENTS_PER_MINUTE).map(payload).collect();
    World { model, rules: Arc::new(rules), reference: Arc::new(reference), payloads }
}

fn fill(log: &EmbeddedLog, world: &World) {
    let spec = TopicSpec { name: "queries".into(), partitions: PARTITIONS, replication: 1, config: vec![] };
    log.create_topics(&[spec]).unwrap();
    log.create_topics(&Topics::new("vec").specs(2, 1)).unwrap();
    let record = |(index, payload): (usize, &Vec<u8>)| OutRecord {
        topic: "queries".into(),
        partition: Some((index % PARTITIONS as usize) as i32),
        value: Some(payload.clone()),
        ..OutRecord::default()
    };
    log.append(world.payloads.iter().enumerate().map(record).collect()).unwrap();
}

fn ingest(world: &World) -> IngestRole {
    let specs = world.rules.window_specs(&world.model);
    IngestRole {
        app: "vec".into(),
        instance: "0".into(),
        topics: Topics::new("vec"),
        models: vec![IngestModel {
            model: world.model.clone(),
            reference: world.reference.clone(),
            pane_ms: pane_width_ms(&specs),
            sql: Vec::new(),
        }],
        start: StartOffset::Earliest,
        settings: Ingest { flush_interval: Span::from_ms(10), flush_rows: 300 },
        clock: Arc::new(|| chrono::Utc::now().timestamp_millis()),
        metrics: Metrics::new().unwrap(),
        status: Arc::new(|_| {}),
    }
}

fn windows(world: &World) -> WindowsRole {
    let (rules, metrics) = (world.rules.clone(), Metrics::new().unwrap());
    let judge_metrics = metrics.clone();
    WindowsRole {
        app: "vec".into(),
        instance: "0".into(),
        topics: Topics::new("vec"),
        watched: Arc::new(vec![rules.watched(&world.model)]),
        references: Arc::new(OneReference(world.reference.clone())),
        judge: Arc::new(move || Box::new(RulesJudge::new(rules.clone(), judge_metrics.clone()))),
        checkpoint_interval: Duration::from_millis(50),
        metrics,
        status: Arc::new(|_| {}),
    }
}

fn read(log: &EmbeddedLog, stem: &str) -> Vec<Value> {
    let topic = format!("vec.{stem}");
    let mut records = Vec::new();
    for partition in 0..log.partition_count(&topic).unwrap().unwrap() {
        read_to_end(log, &topic, partition, |_, value| {
            records.push(serde_json::from_slice(value.unwrap_or_default()).unwrap());
        })
        .unwrap();
    }
    records
}

fn results(log: &EmbeddedLog) -> Vec<WindowResult> {
    read(log, "results").into_iter().map(|value| serde_json::from_value(value).unwrap()).collect()
}

/// Runs both roles until every window of all events has closed; each process dies after so many calls, if any.
fn run(world: &World, mut deaths: impl FnMut() -> Option<u64>) -> (EmbeddedLog, u32) {
    let log = EmbeddedLog::new();
    fill(&log, world);
    let started = Instant::now();
    let mut killed = 0;
    std::thread::scope(|scope| {
        let stop = CancellationToken::new();
        let start = |role: usize, deaths: &mut dyn FnMut() -> Option<u64>| {
            let process = log.process();
            if let Some(calls) = deaths() {
                process.kill_after(calls);
            }
            let (stop, handle) = (stop.clone(), process.clone());
            let thread = scope.spawn(move || match role {
                0 => ingest(world).run(&handle, &stop),
                _ => windows(world).run(&handle, &stop),
            });
            (role, process, thread)
        };
        let mut processes: Vec<_> = (0..2).map(|role| start(role, &mut deaths)).collect();
        while results(&log).iter().filter(|result| result.segment.is_all()).count() < MINUTES as usize {
            assert!(started.elapsed() < Duration::from_secs(300), "not done after 300 s and {killed} kills");
            std::thread::sleep(Duration::from_millis(20));
            for slot in &mut processes {
                if slot.2.is_finished() {
                    assert!(slot.1.is_killed(), "role {} ended without being killed", slot.0);
                    killed += 1;
                    *slot = start(slot.0, &mut deaths);
                }
            }
        }
        stop.cancel();
    });
    (log, killed)
}

/// Statistics of the vector signals of every window and segment.
fn vector_statistics(log: &EmbeddedLog) -> BTreeMap<String, String> {
    let told = |result: &WindowResult| {
        let key = format!("{} {}", result.segment, result.window.start_ms);
        (key, format!("{:?} {:?}", result.features.get("joint"), result.features.get("embedding")))
    };
    results(log).iter().map(told).collect()
}

#[test]
fn a_turned_correlation_and_a_new_topic_are_told_and_kills_change_nothing() {
    let world = world();
    let (log, _) = run(&world, || None);
    for result in results(&log).iter().filter(|result| result.segment.is_all()) {
        let minute = (result.window.start_ms - START_MS) / 60_000;
        let (joint, embedding) = (&result.features["joint"], &result.features["embedding"]);
        let p = |stats: &driftline::stats::metric::FeatureStats, name: &str| stats.metrics[name].p_value.unwrap();
        for name in ["mmd2", "pca_reconstruction_error", "classifier_auc"] {
            assert_eq!(p(joint, name) < 1e-6, minute == 3, "joint {name} in minute {minute}: {:?}", joint.metrics);
        }
        for name in ["mmd2", "mean_cosine_distance"] {
            assert_eq!(p(embedding, name) < 1e-6, minute == 4, "{name} in minute {minute}: {:?}", embedding.metrics);
        }
        // A vector of another length costs its event; of the others one in 49 lacks a member.
        assert_eq!(result.rows, 490, "minute {minute}");
        assert_eq!((joint.n, joint.missing, embedding.n, embedding.missing), (480, 10, 490, 0), "minute {minute}");
        assert!((joint.metrics["incomplete_rate"].value.unwrap() - 10.0 / 490.0).abs() < 1e-12);
        assert!(!joint.metrics.contains_key("psi") && !embedding.metrics.contains_key("absent_rate"));
    }
    let fired: std::collections::BTreeSet<String> =
        read(&log, "outbox").iter().map(|notification| notification["rule"].as_str().unwrap().to_string()).collect();
    let expected = ["together", "told-apart", "topics"].map(str::to_string);
    assert_eq!(fired, std::collections::BTreeSet::from(expected), "the marginals are quiet, the vectors are not");

    let mut random = Random::new(13);
    let mut left = 12;
    let (again, killed) = run(&world, || {
        left -= 1;
        (left > 0).then(|| 20 + random.next_u64() % 120)
    });
    assert!(killed > 3, "{killed} kills");
    assert_eq!(vector_statistics(&log), vector_statistics(&again), "after {killed} kills");
}
