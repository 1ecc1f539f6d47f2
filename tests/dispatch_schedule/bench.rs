//! The schedule in a world of its own: a compacted topic of records, a clock, receivers that can be down.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use driftline::config::{parse_model_str, parse_rules_str};
use driftline::dispatch::control::{Command, ControlRecord};
use driftline::dispatch::delivery::{DeliveryKey, DeliveryRecord, DeliveryStatus};
use driftline::dispatch::receiver::{Outcome, Telling};
use driftline::dispatch::schedule::{Effect, Input, Limits, Parcel, Policy, Schedule};
use driftline::rules::RuleSet;
use driftline::rules::episode::{EpisodeStatus, Notification};

use crate::dispatch_support::notification;

pub const MINUTE_MS: i64 = 60_000;
pub const HOUR_MS: i64 = 60 * MINUTE_MS;

const MODEL: &str = "
version: 1
model: fraud
topics: [predictions]
fields: {timestamp: timestamp, model: model, version: version, prediction_id: id, features: features.*}
features: {amount: numeric}
references: {training: {path: training.jsonl}}
";

/// Rules whose notifications are of the rule `feature-drift`, model `fraud`.
const RULES: &str = "
version: 1
rules:
  - {name: feature-drift, model: fraud@*, when: {warn: psi > 0.1, critical: psi > 0.25}}
";

/// One message that a receiver accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub at_ms: i64,
    pub receiver: String,
    /// Of the notification or the digest.
    pub id: String,
    pub telling: Telling,
    /// Ids of the notifications in it.
    pub told: Vec<String>,
}

pub struct Bench {
    pub schedule: Schedule,
    pub policy: Arc<Policy>,
    pub limits: Limits,
    pub now_ms: i64,
    pub topic: BTreeMap<DeliveryKey, (DeliveryRecord, i32)>,
    pub commands: Vec<ControlRecord>,
    pub sent: Vec<Message>,
    pub attempts: u32,
    pub tombstones: u32,
    /// Receivers that answer with a failure that may heal.
    pub down: BTreeSet<String>,
    /// Receivers that refuse for good.
    pub refusing: BTreeSet<String>,
}

pub fn policy(yaml: &str, stubborn: &[&'static str]) -> Arc<Policy> {
    let model = Arc::new(parse_model_str("model.yaml", MODEL).unwrap().value);
    let text = format!("{RULES}{yaml}");
    let file = parse_rules_str("rules.yaml", &text).map_err(|errors| errors.text(false)).unwrap().value;
    let rules = Arc::new(RuleSet::compile(&[("rules.yaml".to_string(), file)], &[model]).unwrap());
    let mut policy = Policy::new(&rules);
    for name in stubborn {
        policy = policy.with_ends_in_order(name);
    }
    Arc::new(policy)
}

/// A webhook of each name, with more keys where there are any.
pub fn hooks(names: &[(&str, &str)]) -> String {
    let line = |(name, more): &(&str, &str)| {
        let comma = if more.is_empty() { "" } else { ", " };
        format!("  {name}: {{webhook: {{url: 'http://127.0.0.1:1/', allow_private: true}}{comma}{more}}}\n")
    };
    format!("receivers:\n{}", names.iter().map(line).collect::<String>())
}

impl Bench {
    /// Routes and receivers as in a rules file.
    pub fn of(yaml: &str, limits: Limits) -> Self {
        let policy = policy(yaml, &[]);
        let mut bench = Self {
            schedule: Schedule::new(limits, policy.clone()),
            policy,
            limits,
            now_ms: 1_000 * HOUR_MS,
            topic: BTreeMap::new(),
            commands: Vec::new(),
            sent: Vec::new(),
            attempts: 0,
            tombstones: 0,
            down: BTreeSet::new(),
            refusing: BTreeSet::new(),
        };
        bench.schedule.own(&[0, 1]);
        bench
    }

    /// kill -9 and a start: what is in flight did not arrive.
    pub fn restart(&mut self) {
        self.schedule = Schedule::new(self.limits, self.policy.clone());
        for record in self.commands.clone() {
            self.schedule.step(Input::Control { record: Box::new(record) }, self.now_ms);
        }
        self.schedule.own(&[0, 1]);
        for (record, partition) in self.topic.values().cloned().collect::<Vec<_>>() {
            self.schedule.restore(record, partition);
        }
    }

    pub fn read(&mut self, notification: &Notification) {
        let input = Input::Notification { notification: Arc::new(notification.clone()), partition: 1 };
        self.step(input);
    }

    pub fn command(&mut self, id: &str, command: Command) {
        let record = ControlRecord { id: id.into(), at_ms: self.now_ms, by: "ada".into(), command };
        self.commands.push(record.clone());
        self.step(Input::Control { record: Box::new(record) });
    }

    /// Records and tombstones are written, attempts answered.
    pub fn step(&mut self, input: Input) -> Vec<Effect> {
        let effects = self.schedule.step(input, self.now_ms);
        for effect in &effects {
            match effect {
                Effect::Record { record, partition } => {
                    drop(self.topic.insert(record.key(), ((**record).clone(), *partition)))
                }
                Effect::Forget { key, .. } => {
                    self.tombstones += 1;
                    let forgotten = self.topic.remove(key).expect("only what is there is forgotten");
                    assert!(forgotten.0.status.is_final(), "{key} is forgotten before it is done");
                }
                Effect::Find { key, .. } => {
                    let (record, partition) = self.topic[key].clone();
                    self.schedule.restore(record, partition);
                }
                Effect::Attempt { .. } => self.attempts += 1,
            }
        }
        effects
    }

    /// One turn of the role; every attempt ends at once. How many there were.
    pub fn turn(&mut self) -> usize {
        self.step(Input::Plan);
        let started = self.step(Input::Tick);
        for effect in &started {
            let Effect::Attempt { key, parcel, telling, .. } = effect else { continue };
            let outcome = if self.down.contains(&key.receiver) {
                Outcome::retry("down")
            } else if self.refusing.contains(&key.receiver) {
                Outcome::permanent("http status 404")
            } else {
                self.accept(key, parcel, telling);
                Outcome::Delivered { remark: None }
            };
            self.step(Input::Attempted { key: key.clone(), outcome, jitter: 0.5 });
        }
        started.len()
    }

    pub fn accept(&mut self, key: &DeliveryKey, parcel: &Parcel, telling: &Telling) {
        let told = match parcel {
            Parcel::One(notification) => vec![notification.id.clone()],
            Parcel::Digest(digest) => digest.notifications.iter().map(|told| told.id.clone()).collect(),
        };
        self.sent.push(Message {
            at_ms: self.now_ms,
            receiver: key.receiver.clone(),
            id: key.notification_id.clone(),
            telling: telling.clone(),
            told,
        });
    }

    /// Lets `span_ms` pass, doing what falls due in it when it does.
    pub fn pass(&mut self, span_ms: i64) {
        let until_ms = self.now_ms + span_ms;
        let mut idle = 0;
        while let Some(due_ms) = self.schedule.next_due_ms().filter(|due_ms| *due_ms <= until_ms) {
            self.now_ms = self.now_ms.max(due_ms);
            idle = if self.turn() == 0 { idle + 1 } else { 0 };
            assert!(idle < 5_000, "something is due at {due_ms} and never done: {:#?}", self.schedule);
        }
        self.now_ms = until_ms;
        self.turn();
    }

    /// Ids that the receiver accepted, in order.
    pub fn told(&self, receiver: &str) -> Vec<String> {
        self.sent.iter().filter(|message| message.receiver == receiver).map(|message| message.id.clone()).collect()
    }

    pub fn status(&self, id: &str, receiver: &str) -> DeliveryStatus {
        self.record(id, receiver).status
    }

    pub fn record(&self, id: &str, receiver: &str) -> &DeliveryRecord {
        let key = DeliveryKey { notification_id: id.into(), receiver: receiver.into() };
        &self.topic.get(&key).unwrap_or_else(|| panic!("no record of {key}")).0
    }
}

pub fn fires(episode: &str, sequence: u32, receivers: &[&str]) -> Notification {
    Notification { status: EpisodeStatus::Firing, ..notification(episode, sequence, receivers) }
}

pub fn ends(episode: &str, sequence: u32, receivers: &[&str]) -> Notification {
    Notification { status: EpisodeStatus::Resolved, ..notification(episode, sequence, receivers) }
}
