//! What an on-call engineer's commands do, on the embedded log.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod dispatch_support;
mod support;

use clap::Parser;
use dispatch_support::notification;
use driftline::cli::actions;
use driftline::cli::alerts::{ack, explain, history, list, show, unack};
use driftline::cli::deliveries::{self, retry};
use driftline::cli::operate::{Desk, Failure};
use driftline::cli::silence;
use driftline::config::rules::Severity;
use driftline::dispatch::actions::run::{RunRecord, RunState};
use driftline::dispatch::delivery::{DeliveryRecord, DeliveryStatus};
use driftline::log::embedded::EmbeddedLog;
use driftline::log::topics::Topics;
use driftline::log::{Log, OutRecord};
use driftline::rules::Workspace;
use driftline::rules::action_request::{ActionFacts, ActionRequest};
use driftline::rules::episode::{EpisodeStatus, Notification};
use driftline::stats::metric::{FeatureStats, MetricValue};
use driftline::windows::result::{Segment, Window, WindowResult};
use serde_json::Value;
use std::collections::BTreeMap;

/// 2026-03-01 15:00 UTC, two hours after the notifications of `dispatch_support`.
const NOW_MS: i64 = 1_772_377_200_000;
const HOUR_MS: i64 = 3_600_000;

#[derive(Parser)]
struct Wrapped<A: clap::Args> {
    #[command(flatten)]
    args: A,
}

/// Arguments as the command line would read them.
fn args<A: clap::Args>(words: &[&str]) -> A {
    Wrapped::<A>::try_parse_from(std::iter::once(&"driftline").chain(words)).unwrap_or_else(|e| panic!("{e}")).args
}

struct Cluster {
    log: EmbeddedLog,
    topics: Topics,
}

impl Cluster {
    fn new() -> Self {
        let (log, topics) = (EmbeddedLog::new(), Topics::new("driftline"));
        log.create_topics(&topics.specs(2, -1)).unwrap();
        Self { log, topics }
    }

    /// Two alerts that fire, of `fraud` and `churn`, and one of `fraud` that has ended.
    fn with_alerts() -> Self {
        let cluster = Self::new();
        let churn = Notification {
            model: "churn".into(),
            rule: "score-shift".into(),
            severity: Severity::Warn,
            ..notification("7700aacc11", 0, &["slack"])
        };
        cluster.publish(&notification("9f2c41aa00", 0, &["pager", "mail"]));
        cluster.publish(&churn);
        cluster.publish(&notification("0a0a0a0a0a", 0, &["pager"]));
        cluster.publish(&notification("0a0a0a0a0a", 1, &["pager"]));
        cluster.record("9f2c41aa00", "pager", DeliveryStatus::Delivered, None);
        cluster.record("9f2c41aa00", "mail", DeliveryStatus::Expired, Some("451 try later"));
        cluster
    }

    fn append(&self, topic: &str, key: &str, value: Vec<u8>) {
        let (topic, key) = (topic.into(), Some(key.as_bytes().to_vec()));
        self.log.append(vec![OutRecord { topic, key, value: Some(value), ..OutRecord::default() }]).unwrap();
    }

    fn publish(&self, notification: &Notification) {
        let value = serde_json::to_vec(notification).unwrap();
        self.append(&self.topics.outbox, &notification.episode_id, value);
    }

    fn record(&self, episode: &str, receiver: &str, status: DeliveryStatus, error: Option<&str>) {
        let mut record = serde_json::json!({
            "notification": notification(episode, 0, &["pager", "mail"]),
            "receiver": receiver,
            "status": status,
            "attempts": 3,
            "first_at_ms": NOW_MS - HOUR_MS,
        });
        if let Some(error) = error {
            record["last_error"] = error.into();
        }
        let read: DeliveryRecord = serde_json::from_value(record.clone()).unwrap();
        self.append(&self.topics.deliveries, &read.key().to_string(), serde_json::to_vec(&record).unwrap());
    }

    fn at(&self, now_ms: i64, command: impl FnOnce(&mut Desk<'_>) -> Result<(), Failure>) -> Result<String, Failure> {
        let mut out = Vec::new();
        let topics = self.topics.clone();
        command(&mut Desk { log: &self.log, topics, now_ms, out: &mut out })?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn says(&self, command: impl FnOnce(&mut Desk<'_>) -> Result<(), Failure>) -> String {
        self.at(NOW_MS, command).unwrap_or_else(|failure| panic!("{failure:?}"))
    }

    fn refuses(&self, command: impl FnOnce(&mut Desk<'_>) -> Result<(), Failure>) -> Failure {
        self.at(NOW_MS, command).expect_err("it was refused")
    }

    fn alerts(&self, words: &[&str]) -> String {
        self.says(|desk| list::run(desk, &args(words), false))
    }

    fn silences(&self, words: &[&str], now_ms: i64) -> String {
        self.at(now_ms, |desk| silence::list::run(desk, &args(words), false)).unwrap()
    }
}

#[test]
fn the_list_shows_what_fires_and_the_rest_on_request() {
    let cluster = Cluster::with_alerts();
    let firing = cluster.alerts(&[]);
    assert!(firing.contains("9f2c41aa00") && firing.contains("7700aacc11"), "{firing}");
    assert!(!firing.contains("0a0a0a0a0a"), "it has ended: {firing}");
    assert!(firing.contains("critical") && firing.contains("feature-drift") && firing.contains("fraud@3"), "{firing}");
    assert!(cluster.alerts(&["--status", "resolved"]).contains("0a0a0a0a0a"));
    let of_model = cluster.alerts(&["--status", "all", "--model", "chu*"]);
    assert!(of_model.contains("7700aacc11") && !of_model.contains("9f2c41aa00"), "{of_model}");
    assert!(cluster.alerts(&["--limit", "1"]).contains("1 more"));
    assert!(Cluster::new().alerts(&[]).contains("nothing fires"));
    let json = cluster.says(|desk| list::run(desk, &args(&["--status", "all"]), true));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json["total"].as_u64(), json["alerts"].as_array().map(Vec::len)), (Some(3), Some(3)), "{json}");
}

#[test]
fn an_alert_is_shown_with_its_findings_and_who_was_told() {
    let cluster = Cluster::with_alerts();
    let shown = cluster.says(|desk| show::run(desk, &args(&["9f2c"]), false));
    for expected in [
        "feature-drift critical",
        "about        fraud@3",
        "2026-03-01 12:00 to 13:00 UTC",
        "pager: delivered, 3 attempts",
        "mail: expired, 3 attempts: 451 try later",
    ] {
        assert!(shown.contains(expected), "`{expected}` is not in\n{shown}");
    }
    let json = cluster.says(|desk| show::run(desk, &args(&["9f2c41aa00"]), true));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["notifications"][0]["deliveries"].as_array().map(Vec::len), Some(2), "{json}");
}

#[test]
fn an_unknown_alert_says_how_to_find_the_right_one() {
    let cluster = Cluster::with_alerts();
    let failure = cluster.refuses(|desk| show::run(desk, &args(&["9f2c41ab00"]), false));
    assert_eq!(failure.code, 1);
    assert!(failure.message.contains("did you mean `9f2c41aa00`?"), "{}", failure.message);
    let failure = cluster.refuses(|desk| show::run(desk, &args(&["zzzz"]), false));
    assert!(failure.message.contains("`driftline alerts list --status all` lists them"), "{}", failure.message);
}

#[test]
fn an_acknowledgement_is_seen_until_it_is_over_or_taken_back() {
    let cluster = Cluster::with_alerts();
    let acknowledge = args(&["9f2c", "--for", "2h", "--by", "ana", "--note", "looking at the feed"]);
    let said = cluster.says(|desk| ack::run(desk, &acknowledge, false));
    assert!(said.contains("acknowledged by ana until 2026-03-01 17:00 UTC"), "{said}");
    let listed = cluster.alerts(&[]);
    assert!(listed.contains("firing, acknowledged by ana until 2026-03-01 17:00: looking at the feed"), "{listed}");
    let later = cluster.at(NOW_MS + 3 * HOUR_MS, |desk| list::run(desk, &args(&[]), false)).unwrap();
    assert!(!later.contains("acknowledged"), "its time is over: {later}");
    let taken_back = args(&["9f2c41aa00", "--by", "ben"]);
    assert!(cluster.says(|desk| unack::run(desk, &taken_back, false)).contains("no longer acknowledged"));
    assert!(!cluster.alerts(&[]).contains("acknowledged"));
    let failure = cluster.refuses(|desk| unack::run(desk, &taken_back, false));
    assert!(failure.message.contains("nobody has acknowledged"), "{}", failure.message);
    let told = cluster.at(NOW_MS, |desk| history::run(desk, &args(&["9f2c", "--since", "2026-01-01"]), false)).unwrap();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 3, "{told}");
    assert!(lines[0].contains("fired, critical") && lines[1].contains("ana acknowledged it for ana"), "{told}");
    assert!(lines[2].contains("ben took the acknowledgement back"), "{told}");
}

#[test]
fn what_cannot_be_acknowledged_is_refused_whole() {
    let cluster = Cluster::with_alerts();
    let failure = cluster.refuses(|desk| ack::run(desk, &args(&["9f2c", "0a0a0a0a0a", "--by", "ana"]), false));
    assert!(failure.message.contains("has ended"), "{}", failure.message);
    assert!(!cluster.alerts(&[]).contains("acknowledged"), "the other one is untouched");
    let past = args(&["9f2c", "--until", "2026-01-01T00:00:00Z", "--by", "ana"]);
    let failure = cluster.refuses(|desk| ack::run(desk, &past, false));
    assert_eq!(failure.code, 2);
    assert!(failure.message.contains("ends in the past"), "{}", failure.message);
}

#[test]
fn a_silence_is_added_listed_and_ended() {
    let cluster = Cluster::with_alerts();
    let words = ["--match", "model=fraud@*", "--match", "severity=critical", "--for", "2h", "--reason", "backfill"];
    let add = args(&[&words[..], &["--by", "ana"]].concat());
    let said = cluster.says(|desk| silence::add::run(desk, &add, false));
    assert!(said.contains("model=fraud@* severity=critical, until 2026-03-01 17:00 UTC"), "{said}");
    assert!(said.contains("1 alert that fire now match"), "{said}");
    let id = said.split([' ', ':']).nth(1).unwrap().to_string();
    assert!(cluster.silences(&[], NOW_MS).contains("holds"), "{}", cluster.silences(&[], NOW_MS));
    assert!(cluster.alerts(&[]).contains(&format!("silenced by {id} (backfill)")));
    assert!(cluster.silences(&[], NOW_MS + 3 * HOUR_MS).contains("no silence holds"));
    let expire = args(&[id.as_str(), "--by", "ben"]);
    assert!(cluster.says(|desk| silence::expire::run(desk, &expire, false)).contains("has ended"));
    let failure =
        cluster.at(NOW_MS + 1, |desk| silence::expire::run(desk, &expire, false)).expect_err("a silence ends once");
    assert!(failure.message.contains("has ended already"), "{}", failure.message);
    assert!(cluster.silences(&["--all"], NOW_MS + 1).contains("past"));
}

#[test]
fn a_silence_of_everything_or_without_end_is_refused_unless_it_is_meant() {
    let cluster = Cluster::with_alerts();
    let of = |words: &[&str]| -> silence::add::AddArgs { args(&[words, &["--reason", "x", "--by", "ana"]].concat()) };
    let everything = of(&["--for", "1h"]);
    let failure = cluster.refuses(|desk| silence::add::run(desk, &everything, false));
    assert!(failure.code == 2 && failure.message.contains("`--all` if you mean it"), "{failure:?}");
    let star = of(&["--match", "model=*", "--for", "1h"]);
    assert_eq!(cluster.refuses(|desk| silence::add::run(desk, &star, false)).code, 2);
    let endless = of(&["--match", "model=fraud"]);
    let failure = cluster.refuses(|desk| silence::add::run(desk, &endless, false));
    assert!(failure.message.contains("needs an end: `--for 2h`"), "{failure:?}");
    assert!(cluster.says(|desk| silence::add::run(desk, &of(&["--all", "--for", "1h"]), false)).contains("everything"));
}

#[test]
fn a_preview_says_what_a_silence_would_hold_back_and_adds_none() {
    let cluster = Cluster::with_alerts();
    let preview = args(&["--match", "severity=warn"]);
    let said = cluster.says(|desk| silence::preview::run(desk, &preview, &[], false));
    assert!(said.contains("severity=warn: 1 of 2 alerts that fire now") && said.contains("7700aacc11"), "{said}");
    assert!(cluster.silences(&["--all"], NOW_MS).contains("no silence holds"));
}

#[test]
fn deliveries_that_failed_are_listed_and_had_sent_again() {
    let cluster = Cluster::with_alerts();
    let open = cluster.says(|desk| deliveries::list::run(desk, &args(&[]), false));
    assert!(open.contains("9f2c41aa00-0") && open.contains("expired") && open.contains("451 try later"), "{open}");
    assert!(!open.contains("delivered"), "{open}");
    let shown = cluster.says(|desk| deliveries::show::run(desk, &args(&["9f2c"]), false));
    assert!(shown.contains("pager: delivered") && shown.contains("mail: expired"), "{shown}");
    let said = cluster.says(|desk| retry::run(desk, &args(&["9f2c41aa00-0", "--by", "ana"]), false));
    assert!(said.contains("goes to mail again"), "{said}");
    let failure =
        cluster.refuses(|desk| retry::run(desk, &args(&["9f2c41aa00-0", "--receiver", "fax", "--by", "ana"]), false));
    assert!(failure.message.contains("it goes to `pager`, `mail`"), "{failure:?}");
    let failure = cluster.refuses(|desk| retry::run(desk, &args(&["0a0a0a0a0a", "--by", "ana"]), false));
    assert!(failure.message.contains("which notification?"), "{failure:?}");
}

#[test]
fn a_cluster_on_which_driftline_never_ran_is_named() {
    let cluster = Cluster { log: EmbeddedLog::new(), topics: Topics::new("driftline") };
    let failure = cluster.refuses(|desk| list::run(desk, &args(&[]), false));
    assert_eq!(failure.code, 4);
    assert!(failure.message.contains("no `driftline run` has ever started with this `app`"), "{failure:?}");
    let failure = cluster
        .refuses(|desk| silence::add::run(desk, &args(&["--all", "--for", "1h", "--reason", "x", "--by", "a"]), false));
    assert_eq!(failure.code, 4);
}

#[test]
fn an_alert_whose_notifications_are_gone_is_still_listed() {
    let cluster = Cluster::new();
    let state = serde_json::json!({
        "rule": "feature-drift", "model": "fraud", "version": "3",
        "settled": {"phase": "inactive", "recent": [], "members": []},
        "settled_until_ms": 0, "steps": [],
        "told": {
            "episode_id": "beefbeef00", "next_sequence": 1, "first": {"start_ms": 0, "end_ms": HOUR_MS},
            "severity": "critical", "receivers": ["pager"], "firing": true,
        },
    });
    cluster.append(&cluster.topics.episodes, "state", serde_json::to_vec(&state).unwrap());
    cluster.append(&cluster.topics.episodes, "facts", b"{\"something\": \"else\"}".to_vec());
    let listed = cluster.alerts(&[]);
    assert!(listed.contains("beefbeef00") && listed.contains("older than the outbox keeps"), "{listed}");
    let ended = Notification { status: EpisodeStatus::Resolved, ..notification("beefbeef00", 1, &["pager"]) };
    cluster.publish(&ended);
    assert!(cluster.alerts(&[]).contains("nothing fires"));
}

const MODEL: &str = "version: 1
model: fraud
topics: [predictions]
fields: {timestamp: timestamp, model: model, version: version, features: features.*}
features: {amount: numeric, age: numeric}
references: {training: {path: training.jsonl}}
windows: {size: 1h}
";

const RULES: &str = "version: 1
rules:
  - {name: feature-drift, model: fraud@*, min_samples: 500, for: 2 of 3 windows, when: {warn: psi > 0.1, critical: psi > 0.25}}
  - {name: no-data, model: fraud, absent: {after: 15m}}
silences:
  - {match: {model: fraud, severity: warn}, every: Sun 02:00-04:00 Europe/Paris, reason: weekly backfill}
routes: [{match: {severity: critical}, to: [pager]}, {match: {severity: warn}, to: [book]}]
receivers:
  pager: {webhook: {url: \"https://pager.example.com/\"}}
  book: {webhook: {url: \"https://book.example.com/\"}}
";

fn workspace() -> Workspace {
    let files = support::Workspace::on_broker("localhost:1", "driftline", MODEL, RULES, "");
    Workspace::load_with(Some(&files.dir.join("driftline.yaml")), &BTreeMap::new())
        .unwrap_or_else(|errors| panic!("{}", errors.text(false)))
}

impl Cluster {
    /// A closed window of `fraud@3`: PSI and its p-value by feature.
    fn close(&self, hour: i64, rows: u64, features: &[(&str, f64, f64)]) {
        let start_ms = NOW_MS + hour * HOUR_MS;
        let stats = |psi: f64, p_value: f64| FeatureStats {
            n: rows,
            n_reference: 100_000,
            metrics: BTreeMap::from([(
                "psi".to_string(),
                MetricValue { p_value: Some(p_value), ..MetricValue::exact(psi) },
            )]),
            ..FeatureStats::default()
        };
        let result = WindowResult {
            model: "fraud".into(),
            version: "3".into(),
            segment: Segment::default(),
            window: Window { start_ms, end_ms: start_ms + HOUR_MS },
            revision: 0,
            reference: "training".into(),
            reference_id: "5f2c".into(),
            rows,
            complete: true,
            baseline: None,
            quality: None,
            changes: Vec::new(),
            performance: None,
            features: features.iter().map(|(name, psi, p)| (name.to_string(), stats(*psi, *p))).collect(),
        };
        self.append(&self.topics.results, &result.key(), serde_json::to_vec(&result).unwrap());
    }

    fn explain(&self, words: &[&str]) -> String {
        let workspace = workspace();
        self.says(|desk| explain::run(desk, &args(words), &workspace, false))
    }
}

#[test]
fn an_explanation_shows_each_gate_of_the_last_windows() {
    let cluster = Cluster::with_alerts();
    cluster.close(-4, 120, &[("amount", 0.4, 1e-12), ("age", 0.01, 0.5)]);
    cluster.close(-3, 10_000, &[("amount", 0.3, 0.2), ("age", 0.01, 0.5)]);
    cluster.close(-2, 10_000, &[("amount", 0.41, 1e-12), ("age", 0.01, 0.5)]);
    let told = cluster.explain(&["feature-drift"]);
    for expected in [
        "for       2 of 3 windows",
        "not judged: 120 samples, min_samples is 500",
        "critical psi > 0.25 holds, adjusted p 0.400 is above alpha 0.0100: does not breach",
        "critical psi > 0.25 holds, adjusted p < 1e-6 is within alpha 0.0100: breaches, critical",
        "1 of 2 breach",
        "age: psi 0.0100",
        "warn psi > 0.1 does not hold",
        "fraud at critical: pager",
        "fraud at warn: book",
    ] {
        assert!(told.contains(expected), "`{expected}` is not in\n{told}");
    }
    let one = cluster.explain(&["feature-drift", "--feature", "age", "--windows", "1"]);
    assert!(!one.contains("amount: psi") && one.contains("age: psi"), "{one}");
    assert!(!one.contains("120 samples"), "only the last window: {one}");
    let of_alert = cluster.explain(&["9f2c41aa00"]);
    assert!(of_alert.contains("mail: expired") && of_alert.contains("(model fraud, version 3)"), "{of_alert}");
    assert!(cluster.explain(&["no-data"]).contains("absent    after 15m"));
    let workspace = workspace();
    let json = cluster.says(|desk| explain::run(desk, &args(&["feature-drift"]), &workspace, true));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["versions"][0]["windows"].as_array().map(Vec::len), Some(3), "{json}");
    let failure = cluster.refuses(|desk| explain::run(desk, &args(&["feature-drfit"]), &workspace, false));
    assert!(failure.message.contains("did you mean `feature-drift`?"), "{failure:?}");
    let failure =
        cluster.refuses(|desk| explain::run(desk, &args(&["no-data", "--model", "churn"]), &workspace, false));
    assert!(failure.message.contains("does not watch `churn`"), "{failure:?}");
}

#[test]
fn a_preview_without_match_shows_when_the_silences_of_the_files_come() {
    let cluster = Cluster::new();
    let workspace = workspace();
    let said = cluster.says(|desk| silence::preview::run(desk, &args(&[]), workspace.rules.silences(), false));
    assert!(said.contains("model=fraud severity=warn: weekly backfill"), "{said}");
    assert!(said.contains("2026-03-08 01:00 to 03:00 UTC"), "Paris is an hour ahead: {said}");
    assert!(cluster.says(|desk| silence::preview::run(desk, &args(&[]), &[], false)).contains("no `silences`"));
}

#[test]
fn runs_of_actions_are_listed_and_answered() {
    let cluster = Cluster::new();
    let window = Window { start_ms: NOW_MS - HOUR_MS, end_ms: NOW_MS };
    let request = |action: &str| ActionRequest {
        action: action.into(),
        episode_id: "9f2c41aa00".into(),
        rule: "feature-drift".into(),
        model: "fraud".into(),
        version: "3".into(),
        segment: Segment::default(),
        severity: Severity::Critical,
        summary: "`amount` drifted".into(),
        first_window: window,
        window,
        reference: "training".into(),
        reference_id: "5f2c".into(),
        facts: ActionFacts::default(),
        at_ms: NOW_MS,
    };
    let mut ids = Vec::new();
    for (action, state) in [("retrain", RunState::AwaitingConfirmation), ("rollback", RunState::Suspended)] {
        let mut run = RunRecord::new(request(action), NOW_MS - HOUR_MS);
        run.enter(state, "", NOW_MS);
        let (key, value) = run.encode().unwrap();
        cluster.append(&cluster.topics.actions, std::str::from_utf8(&key).unwrap(), value);
        ids.push(run.run);
    }
    let listed = cluster.says(|desk| actions::list::run(desk, &args(&[]), false));
    assert!(listed.contains("awaiting_confirmation") && listed.contains("suspended"), "{listed}");
    let shown = cluster.says(|desk| actions::show::run(desk, &args(&[ids[0].as_str()]), false));
    assert!(shown.contains("retrain for fraud@3") && shown.contains("requested"), "{shown}");
    let approve = args(&[&ids[0][..8], "--by", "ana"]);
    assert!(
        cluster.says(|desk| actions::approve::run(desk, &approve, false)).contains("retrain for fraud@3 is approved")
    );
    let failure = cluster.refuses(|desk| actions::approve::run(desk, &args(&[ids[1].as_str(), "--by", "a"]), false));
    assert!(failure.message.contains("is suspended; only one that awaits confirmation"), "{failure:?}");
    let failure = cluster
        .refuses(|desk| actions::report::run(desk, &args(&[ids[1].as_str(), "--succeeded", "--by", "a"]), false));
    assert!(failure.message.contains("only one that works is reported on"), "{failure:?}");
    let resume = args(&["rollback", "fraud", "--by", "ana"]);
    assert!(cluster.says(|desk| actions::resume::run(desk, &resume, false)).contains("runs again for fraud"));
    let failure = cluster.refuses(|desk| actions::resume::run(desk, &args(&["retrain", "fraud", "--by", "a"]), false));
    assert!(failure.message.contains("suspended: `rollback fraud`"), "{failure:?}");
    let deny = args(&[ids[1].as_str(), "--reason", "no", "--by", "ana"]);
    assert!(cluster.says(|desk| actions::deny::run(desk, &deny, false)).contains("is denied"));
    assert_eq!(cluster.says(|desk| history::run(desk, &args(&["--since", "1d"]), false)).lines().count(), 3);
}
