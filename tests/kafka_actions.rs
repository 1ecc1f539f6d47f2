//! Runs of actions on a real broker, by the real binary that is killed at random moments: each run is called with one
//! key, at most once more for each kill, and its end is known.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod action_support;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use action_support::request;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use driftline::dispatch::actions::restore::read_runs;
use driftline::dispatch::actions::run::{RunRecord, RunState};
use driftline::dispatch::control::{Command, ControlRecord};
use driftline::log::{Log, OutRecord};
use driftline::rules::action_request::ActionRequest;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use support::{Workspace, create_topic, kafka_log, unique, wait_until};

const KILLS: usize = 25;
const RUNS_A_ROUND: usize = 3;

const MODEL: &str = "version: 1
model: fraud
topics: [TOPIC]
fields: {timestamp: timestamp, model: model, version: version, prediction_id: id, features: features.*}
features: {amount: {type: numeric, required: true}, age_days: numeric, merchant_category: categorical, country: categorical}
score: {path: score, type: numeric}
references: {training: {path: ../training.jsonl}}
";

const RULES: &str = "version: 1
rules:
  - {name: feature-drift, model: fraud, when: {critical: psi > 0.25}, actions: [retrain]}
routes: [{to: [bus]}]
receivers: {bus: {kafka: {topic: ml.alerts}}}
actions:
  retrain: {webhook: {url: 'URL', allow_private: true}, cooldown: 72h}
";

/// Takes three calls in four; keeps the key of each that it took.
#[derive(Clone, Default)]
struct Trainer {
    taken: Arc<Mutex<Vec<String>>>,
}

async fn train(State(trainer): State<Trainer>, headers: HeaderMap) -> StatusCode {
    tokio::time::sleep(Duration::from_millis(rand::random_range(0..40))).await;
    match rand::random_range(0..8) {
        0 => StatusCode::SERVICE_UNAVAILABLE,
        1 => StatusCode::INTERNAL_SERVER_ERROR,
        _ => {
            let key = headers["webhook-id"].to_str().unwrap().to_string();
            trainer.taken.lock().unwrap().push(key);
            StatusCode::ACCEPTED
        }
    }
}

fn append(log: &dyn Log, topic: String, key: &str, value: Vec<u8>) {
    let key = Some(key.as_bytes().to_vec());
    let record = OutRecord { topic: topic.into(), key, value: Some(value), ..OutRecord::default() };
    log.append(vec![record]).unwrap();
}

fn start(workspace: &Workspace) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(workspace.dir.join("driftline.log")).unwrap();
    let mut command = workspace.command(&["run", "--roles", "dispatch"]);
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

#[test]
#[ignore = "needs a real Kafka; CI runs it"]
fn kill_nine_on_a_real_broker_repeats_a_call_with_its_key_and_loses_no_run() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let trainer = Trainer::default();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}/train", listener.local_addr().unwrap());
    let router = Router::new().route("/train", post(train)).with_state(trainer.clone());
    runtime.spawn(async move { axum::serve(listener, router).await });

    let log = kafka_log();
    let app = unique("actions");
    let topic = format!("{app}.tx");
    create_topic(&*log, &topic, 1);
    let extra = "dispatch: {first_retry: 100ms, max_retry: 1s}\n";
    let rules = RULES.replace("URL", &url);
    let workspace = Workspace::new(&app, &MODEL.replace("TOPIC", &topic), &rules, extra);
    let rows = workspace.must(&["produce-sample", "--reference", "5000"]);
    std::fs::write(workspace.dir.join("training.jsonl"), rows).unwrap();
    workspace.must(&["reference", "build"]);

    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let outbox = format!("{app}.outbox");
    let mut service = start(&workspace);
    wait_until("its topics exist", Duration::from_secs(60), || matches!(log.partition_count(&outbox), Ok(Some(_))));
    let mut asked = 0;
    for _ in 0..KILLS {
        for _ in 0..RUNS_A_ROUND {
            let model = format!("m{asked}");
            let request = ActionRequest { model, ..request("retrain", &format!("e{asked}")) };
            append(&*log, outbox.clone(), &request.episode_id, serde_json::to_vec(&request).unwrap());
            asked += 1;
        }
        std::thread::sleep(Duration::from_millis(random.random_range(200..4_000)));
        service.kill().unwrap();
        service.wait().unwrap();
        service = start(&workspace);
    }
    let runs = |state: RunState| -> Vec<RunRecord> {
        let runs = read_runs(&*log, &format!("{app}.actions")).unwrap();
        runs.into_iter().filter(|run| run.state == state).collect()
    };
    let until = Instant::now() + Duration::from_secs(120);
    while runs(RunState::Accepted).len() < asked {
        assert!(Instant::now() < until, "{} of {asked} runs are accepted", runs(RunState::Accepted).len());
        std::thread::sleep(Duration::from_millis(200));
    }
    for run in runs(RunState::Accepted) {
        let command = Command::Report { run: run.run.clone(), succeeded: true, message: String::new() };
        let record = ControlRecord { id: run.run[..16].to_string(), at_ms: 0, by: "trainer".into(), command };
        let (_, value) = record.encode().unwrap();
        append(&*log, format!("{app}.control"), &record.id, value);
    }
    let all_succeed = || runs(RunState::Succeeded).len() == asked;
    wait_until("all have succeeded", Duration::from_secs(60), all_succeed);
    service.kill().unwrap();
    service.wait().unwrap();

    let mut copies: BTreeMap<String, usize> = BTreeMap::new();
    for key in trainer.taken.lock().unwrap().iter() {
        *copies.entry(key.clone()).or_insert(0) += 1;
    }
    let expected: BTreeSet<String> = runs(RunState::Succeeded).iter().map(RunRecord::name).collect();
    assert_eq!(copies.keys().cloned().collect::<BTreeSet<_>>(), expected);
    let extra_copies: usize = copies.values().map(|count| count - 1).sum();
    println!("{asked} runs, {KILLS} kills, {extra_copies} extra copies of calls");
    // What was under way when it was killed may be called once more.
    assert!(extra_copies <= KILLS * RUNS_A_ROUND, "{extra_copies}");
}
