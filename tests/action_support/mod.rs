//! Requests, actions as a rules file has them, and an API that answers as told.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, Uri};
use driftline::config::actions::Action;
use driftline::config::load::parse_rules_str;
use driftline::config::rules::Severity;
use driftline::dispatch::actions::guard::Registry;
use driftline::dispatch::actions::machine::{Effect, Input, Limits, Machine};
use driftline::dispatch::actions::run::{RunRecord, RunState};
use driftline::rules::action_request::{ActionFacts, ActionRequest, Positions};
use driftline::windows::result::{Segment, Window};
use serde_json::Value;
use tokio::net::TcpListener;

pub const HOUR_MS: i64 = 3_600_000;
pub const DAY_MS: i64 = 24 * HOUR_MS;
/// 2026-03-01 12:00 UTC.
pub const START_MS: i64 = 1_772_366_400_000;

pub const LIMITS: Limits = Limits { first_retry_ms: 5, max_retry_ms: 40, progress_ms: 20, max_in_flight: 8 };

/// What an episode of `fraud@3` asks for: 60 days with 1 000 events and 900 labels each.
pub fn request(action: &str, episode: &str) -> ActionRequest {
    let window = Window { start_ms: START_MS - HOUR_MS, end_ms: START_MS };
    let today = START_MS.div_euclid(DAY_MS);
    let days = today - 60..today;
    ActionRequest {
        action: action.into(),
        episode_id: episode.into(),
        rule: "quality-drop".into(),
        model: "fraud".into(),
        version: "3".into(),
        segment: Segment::default(),
        severity: Severity::Critical,
        summary: "quality-drop critical: fraud@3, `roc_auc` 0.81".into(),
        first_window: Window { start_ms: START_MS - 3 * HOUR_MS, end_ms: START_MS - 2 * HOUR_MS },
        window,
        reference: "training".into(),
        reference_id: "sha256:5f2c".into(),
        facts: ActionFacts {
            rows_by_day: days.clone().map(|day| (day, 1_000)).collect(),
            labels_by_day: days.clone().map(|day| (day, 1_000, 900)).collect(),
            firing: BTreeSet::from(["quality-drop".to_string()]),
            positions_by_day: days
                .map(|day| Positions {
                    window_end_ms: day * DAY_MS,
                    next_offsets: vec![("tx".into(), 0, day), ("tx".into(), 1, 2 * day)],
                })
                .chain([Positions {
                    window_end_ms: START_MS,
                    next_offsets: vec![("tx".into(), 0, 41_000), ("tx".into(), 1, 42_000)],
                }])
                .collect(),
        },
        at_ms: START_MS + 5_000,
    }
}

/// An action as a rules file has it.
pub fn action(yaml: &str) -> Action {
    let text = format!("version: 1\nactions:\n  it: {yaml}\n");
    let mut file = parse_rules_str("rules.yaml", &text).map_err(|errors| errors.text(false)).unwrap().value;
    file.actions.remove("it").unwrap()
}

pub fn actions(named: &[(&str, &str)]) -> BTreeMap<String, Action> {
    named.iter().map(|(name, yaml)| (name.to_string(), action(yaml))).collect()
}

pub fn machine(named: &[(&str, &str)]) -> Machine {
    Machine::new(&actions(named), "https://drift.example.com", LIMITS).unwrap()
}

/// The last record among effects.
pub fn recorded(effects: &[Effect]) -> Option<RunRecord> {
    effects.iter().rev().find_map(|effect| match effect {
        Effect::Record(record) => Some((**record).clone()),
        _ => None,
    })
}

/// The run of a request that goes ahead, as it is when its target is called.
pub fn going_ahead(action: &Action) -> RunRecord {
    let actions = BTreeMap::from([("retrain-fraud".to_string(), action.clone())]);
    let mut machine = Machine::new(&actions, "https://drift.example.com", LIMITS).unwrap();
    let now_ms = START_MS + 6_000;
    machine.step(Input::Request(Box::new(request("retrain-fraud", "9f2c41"))), now_ms);
    let mut record = recorded(&machine.step(Input::Decide, now_ms));
    if action.rollback.is_some() {
        let asked = machine.step(Input::Tick, now_ms);
        let [Effect::AskRegistry(run)] = asked.as_slice() else { panic!("{asked:?}") };
        let registry = Registry {
            production: Some("3".into()),
            previous: Some("2".into()),
            generation: 17,
            promoted_at_ms: Some(START_MS - DAY_MS),
        };
        machine.step(Input::Registry { run: run.run.clone(), answer: Ok(registry) }, now_ms);
        record = recorded(&machine.step(Input::Decide, now_ms));
    }
    let record = record.expect("a record of the decision");
    assert_eq!(record.state, RunState::Calling, "{}", record.reason());
    record
}

/// A secret in a file, as the configuration names it.
pub fn secret(value: &str) -> (tempfile::NamedTempFile, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{value}\n")).unwrap();
    let named = format!("{{file: {}}}", file.path().display());
    (file, named)
}

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Request {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
    pub hangs: bool,
}

/// Answers as told, one after the other; keeps what it was sent.
#[derive(Clone, Default)]
pub struct Service {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Service {
    /// Listens on loopback; the address, without a path.
    pub async fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(take).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    pub fn answer(&self, status: u16, body: &str) {
        self.push(Answer { status, body: body.into(), ..Answer::default() });
    }

    pub fn push(&self, answer: Answer) {
        self.answers.lock().unwrap().push_back(answer);
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub fn last(&self) -> Request {
        self.requests().pop().expect("a request has arrived")
    }
}

async fn take(
    State(service): State<Service>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<String> {
    let path = uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    service.requests.lock().unwrap().push(Request { method, path, headers, body });
    let answer = service.answers.lock().unwrap().pop_front();
    let answer = answer.unwrap_or(Answer { status: 418, body: "nothing was expected".into(), ..Answer::default() });
    if answer.hangs {
        tokio::time::sleep(Duration::from_secs(600)).await;
    }
    let mut response = Response::builder().status(answer.status);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response.body(answer.body).unwrap()
}
