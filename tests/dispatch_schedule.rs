//! What the schedule promises, whatever the order in which attempts end and wherever the process is killed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod dispatch_support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dispatch_support::notification;
use driftline::dispatch::delivery::{DeliveryKey, DeliveryRecord, DeliveryStatus};
use driftline::dispatch::receiver::Outcome;
use driftline::dispatch::schedule::{Effect, Input, Limits, Schedule};
use driftline::rules::episode::Notification;
use proptest::prelude::*;

const LIMITS: Limits = Limits {
    first_retry_ms: 1_000,
    max_retry_ms: 60_000,
    expire_after_ms: 600_000,
    max_in_flight: 3,
    max_in_flight_per_receiver: 2,
    max_pending: 1_000,
    max_recent: 1_000,
};

fn intent(notification: &Notification) -> Input {
    Input::Notification { notification: Arc::new(notification.clone()), partition: 0 }
}

fn attempted(key: &DeliveryKey, outcome: Outcome) -> Input {
    Input::Attempted { key: key.clone(), outcome, jitter: 1.0 }
}

fn delivered() -> Outcome {
    Outcome::Delivered { remark: None }
}

fn attempts(effects: &[Effect]) -> Vec<DeliveryKey> {
    let attempt = |effect: &Effect| match effect {
        Effect::Attempt { key, .. } => Some(key.clone()),
        Effect::Record { .. } => None,
    };
    effects.iter().filter_map(attempt).collect()
}

fn records(effects: &[Effect]) -> Vec<DeliveryRecord> {
    let record = |effect: &Effect| match effect {
        Effect::Record { record, .. } => Some((**record).clone()),
        Effect::Attempt { .. } => None,
    };
    effects.iter().filter_map(record).collect()
}

fn only<T: std::fmt::Debug>(mut values: Vec<T>) -> T {
    assert_eq!(values.len(), 1, "{values:?}");
    values.remove(0)
}

#[test]
fn an_attempt_follows_a_pending_record_and_not_before_the_tick() {
    let mut schedule = Schedule::new(LIMITS);
    let effects = schedule.step(intent(&notification("e", 0, &["a"])), 5);
    let record = only(records(&effects));
    assert_eq!(attempts(&effects), []);
    assert_eq!((record.status, record.attempts, record.first_at_ms), (DeliveryStatus::Pending, 0, 5));
    assert_eq!(record.key().to_string(), "e-0|a");
    assert_eq!(attempts(&schedule.step(Input::Tick, 5)), [record.key()]);
    assert_eq!(attempts(&schedule.step(Input::Tick, 5)), []);
}

#[test]
fn a_repeated_intent_is_ignored_while_pending_and_after_delivery() {
    let mut schedule = Schedule::new(LIMITS);
    let twice = notification("e", 0, &["a", "a"]);
    let key = only(records(&schedule.step(intent(&twice), 0))).key();
    assert_eq!(schedule.step(intent(&twice), 0), []);
    schedule.step(Input::Tick, 0);
    let record = only(records(&schedule.step(attempted(&key, delivered()), 7)));
    assert_eq!((record.status, record.delivered_at_ms), (DeliveryStatus::Delivered, Some(7)));
    assert_eq!(schedule.step(intent(&twice), 8), []);
    assert_eq!(schedule.pending(), 0);
}

#[test]
fn a_later_notification_waits_for_the_earlier_at_the_same_receiver_only() {
    let mut schedule = Schedule::new(LIMITS);
    schedule.step(intent(&notification("e", 0, &["a"])), 0);
    schedule.step(intent(&notification("e", 1, &["a", "b"])), 0);
    let started: Vec<String> = attempts(&schedule.step(Input::Tick, 0)).iter().map(ToString::to_string).collect();
    assert_eq!(started, ["e-0|a", "e-1|b"]);
    let first = DeliveryKey { notification_id: "e-0".into(), receiver: "a".into() };
    schedule.step(attempted(&first, Outcome::retry("down")), 0);
    assert_eq!(attempts(&schedule.step(Input::Tick, 999)), []);
    assert_eq!(attempts(&schedule.step(Input::Tick, 1_000)), std::slice::from_ref(&first));
    schedule.step(attempted(&first, Outcome::permanent("gone")), 1_000);
    assert_eq!(only(attempts(&schedule.step(Input::Tick, 1_000))).to_string(), "e-1|a");
}

#[test]
fn waiting_doubles_up_to_the_cap_and_jitter_takes_up_to_half() {
    for (jitter, waits_ms) in [
        (1.0, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]),
        (0.0, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]),
    ] {
        let mut schedule = Schedule::new(LIMITS);
        let key = only(records(&schedule.step(intent(&notification("e", 0, &["a"])), 0))).key();
        let mut now_ms = 0;
        for wait_ms in waits_ms {
            assert_eq!(attempts(&schedule.step(Input::Tick, now_ms)).len(), 1);
            let input = Input::Attempted { key: key.clone(), outcome: Outcome::retry("down"), jitter };
            let record = only(records(&schedule.step(input, now_ms)));
            assert_eq!(record.next_attempt_ms, Some(now_ms + wait_ms));
            now_ms += wait_ms;
        }
    }
}

#[test]
fn retry_after_is_honoured_beyond_the_cap_but_not_beyond_the_expiry() {
    for (after_ms, next_ms) in [(1, 1_000), (120_000, 120_000), (9_000_000, 600_000)] {
        let mut schedule = Schedule::new(LIMITS);
        let key = only(records(&schedule.step(intent(&notification("e", 0, &["a"])), 0))).key();
        schedule.step(Input::Tick, 0);
        let outcome = Outcome::Retry { reason: "429".into(), after_ms: Some(after_ms) };
        assert_eq!(only(records(&schedule.step(attempted(&key, outcome), 0))).next_attempt_ms, Some(next_ms));
    }
}

#[test]
fn only_a_failed_attempt_expires_a_delivery() {
    let mut schedule = Schedule::new(LIMITS);
    let key = only(records(&schedule.step(intent(&notification("e", 0, &["a"])), 0))).key();
    let late_ms = 10 * LIMITS.expire_after_ms;
    assert_eq!(
        attempts(&schedule.step(Input::Tick, late_ms)),
        std::slice::from_ref(&key),
        "never tried, so not given up"
    );
    let record = only(records(&schedule.step(attempted(&key, Outcome::retry("down")), late_ms)));
    assert_eq!((record.status, record.last_error.as_deref()), (DeliveryStatus::Expired, Some("down")));
    assert_eq!(schedule.pending(), 0);
}

#[test]
fn one_receiver_that_hangs_leaves_room_for_the_others() {
    let mut schedule = Schedule::new(LIMITS);
    for episode in 0..5 {
        schedule.step(intent(&notification(&format!("e{episode}"), 0, &["hangs"])), 0);
    }
    assert_eq!(attempts(&schedule.step(Input::Tick, 0)).len(), LIMITS.max_in_flight_per_receiver);
    schedule.step(intent(&notification("x", 0, &["works"])), 1);
    schedule.step(intent(&notification("y", 0, &["works"])), 1);
    assert_eq!(only(attempts(&schedule.step(Input::Tick, 1))).to_string(), "x-0|works", "three in all");
}

#[test]
fn partitions_that_went_to_somebody_else_are_forgotten_with_their_outcomes() {
    let mut schedule = Schedule::new(LIMITS);
    let key = only(records(&schedule.step(intent(&notification("e", 0, &["a"])), 0))).key();
    schedule.step(Input::Tick, 0);
    assert_eq!(schedule.drop_partitions(|partition| partition == 0), std::slice::from_ref(&key));
    assert_eq!((schedule.pending(), schedule.in_flight()), (0, 0));
    assert_eq!(schedule.step(attempted(&key, delivered()), 1), []);
}

#[test]
fn an_error_in_a_record_is_short() {
    let mut schedule = Schedule::new(LIMITS);
    let key = only(records(&schedule.step(intent(&notification("e", 0, &["a"])), 0))).key();
    schedule.step(Input::Tick, 0);
    let record = only(records(&schedule.step(attempted(&key, Outcome::permanent("\u{e9}".repeat(10_000))), 0)));
    assert_eq!(record.last_error.unwrap().chars().count(), 503);
}

#[test]
fn a_record_reads_back_as_written() {
    let mut schedule = Schedule::new(LIMITS);
    let record = only(records(&schedule.step(intent(&notification("e", 0, &["a"])), 3)));
    let text = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<DeliveryRecord>(&text).unwrap(), record);
    assert!(text.contains(r#""status":"pending""#), "{text}");
}

/// A step of a story about the schedule; numbers choose among what is possible at that moment.
#[derive(Debug, Clone)]
enum Happening {
    /// The next notification of an episode is read from the outbox, perhaps twice.
    Read { episode: usize, again: bool },
    /// Time passes, and what is due starts.
    Tick { wait_ms: i64 },
    /// One of the attempts in flight ends.
    End { which: usize, how: u8, jitter: f64 },
    /// kill -9: everything in memory is gone, what is in flight may or may not arrive.
    Kill,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        3 => (0..4_usize, any::<bool>()).prop_map(|(episode, again)| Happening::Read { episode, again }),
        4 => prop_oneof![Just(0_i64), 1..5_000_i64, 60_000..700_000_i64].prop_map(|wait_ms| Happening::Tick { wait_ms }),
        6 => (0..8_usize, 0..6_u8, 0.0..1.0).prop_map(|(which, how, jitter)| Happening::End { which, how, jitter }),
        1 => Just(Happening::Kill),
    ]
}

/// The schedule in a world: a compacted topic of records, receivers that note what they get.
struct World {
    schedule: Schedule,
    now_ms: i64,
    topic: BTreeMap<DeliveryKey, DeliveryRecord>,
    flying: Vec<DeliveryKey>,
    /// Ids by episode and receiver, in the order in which the receiver accepted them, copies included.
    accepted: BTreeMap<(String, String), Vec<String>>,
    read: BTreeSet<DeliveryKey>,
    next_sequence: [u32; 4],
    kills: u32,
}

impl World {
    fn new() -> Self {
        Self {
            schedule: Schedule::new(LIMITS),
            now_ms: 0,
            topic: BTreeMap::new(),
            flying: Vec::new(),
            accepted: BTreeMap::new(),
            read: BTreeSet::new(),
            next_sequence: [0; 4],
            kills: 0,
        }
    }

    fn step(&mut self, input: Input) {
        for effect in self.schedule.step(input, self.now_ms) {
            match effect {
                Effect::Record { record, partition } => {
                    assert_eq!(partition, 0);
                    if let Some(before) = self.topic.get(&record.key()) {
                        assert_eq!(before.status, DeliveryStatus::Pending, "a final record is never written over");
                    }
                    self.topic.insert(record.key(), *record);
                }
                Effect::Attempt { key, notification, attempt } => {
                    let record = &self.topic[&key];
                    assert_eq!(record.status, DeliveryStatus::Pending, "{key} was started without a pending record");
                    assert_eq!(attempt, record.attempts + 1);
                    for (other, waiting) in &self.topic {
                        let is_earlier = waiting.notification.episode_id == notification.episode_id
                            && other.receiver == key.receiver
                            && waiting.notification.sequence < notification.sequence;
                        assert!(!is_earlier || waiting.status.is_final(), "{key} overtook {other}");
                    }
                    self.flying.push(key);
                }
            }
        }
        assert_eq!(self.flying.len(), self.schedule.in_flight());
        assert!(self.flying.len() <= LIMITS.max_in_flight, "{:?}", self.flying);
        for receiver in ["a", "b"] {
            let count = self.flying.iter().filter(|key| key.receiver == receiver).count();
            assert!(count <= LIMITS.max_in_flight_per_receiver, "{receiver}: {count}");
        }
    }

    fn accept(&mut self, key: &DeliveryKey) {
        let line = (self.topic[key].notification.episode_id.clone(), key.receiver.clone());
        self.accepted.entry(line).or_default().push(key.notification_id.clone());
    }

    fn end(&mut self, key: DeliveryKey, how: u8, jitter: f64) {
        let outcome = match how {
            0..=2 => {
                self.accept(&key);
                delivered()
            }
            3 => Outcome::retry("connection reset"),
            4 => Outcome::Retry { reason: "http status 429".into(), after_ms: Some(90_000) },
            _ => Outcome::permanent("http status 404"),
        };
        self.flying.retain(|flying| *flying != key);
        self.step(Input::Attempted { key, outcome, jitter });
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Read { episode, again } => {
                let sequence = self.next_sequence[episode];
                self.next_sequence[episode] += 1;
                let notification = notification(&format!("e{episode}"), sequence, &["a", "b"]);
                for receiver in ["a", "b"] {
                    self.read
                        .insert(DeliveryKey { notification_id: notification.id.clone(), receiver: receiver.into() });
                }
                self.step(intent(&notification));
                if again {
                    self.step(intent(&notification));
                }
            }
            Happening::Tick { wait_ms } => {
                self.now_ms += wait_ms;
                self.step(Input::Tick);
            }
            Happening::End { which, how, jitter } => {
                if !self.flying.is_empty() {
                    let key = self.flying[which % self.flying.len()].clone();
                    self.end(key, how, jitter);
                }
            }
            Happening::Kill => {
                self.kills += 1;
                for (place, key) in std::mem::take(&mut self.flying).into_iter().enumerate() {
                    if place % 2 == 0 {
                        self.accept(&key); // it arrived, and nobody wrote it down
                    }
                }
                self.schedule = Schedule::new(LIMITS);
                for record in self.topic.values() {
                    self.schedule.restore(record.clone(), 0);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_or_overtaken_however_attempts_end(story in prop::collection::vec(happening(), 1..120)) {
        let mut world = World::new();
        for happening in story {
            world.happen(happening);
        }
        // In the end every receiver works again.
        for _ in 0..10_000 {
            if world.schedule.pending() == 0 {
                break;
            }
            world.now_ms = world.now_ms.max(world.schedule.next_due_ms().unwrap_or(world.now_ms));
            world.step(Input::Tick);
            if let Some(key) = world.flying.first().cloned() {
                world.end(key, 0, 0.5);
            }
        }
        prop_assert_eq!(world.topic.keys().cloned().collect::<BTreeSet<_>>(), world.read);
        for (key, record) in &world.topic {
            prop_assert!(record.status.is_final(), "{} is still {:?}", key, record.status);
            let line = (record.notification.episode_id.clone(), key.receiver.clone());
            let copies = world.accepted.get(&line).map_or(0, |ids| {
                ids.iter().filter(|id| **id == key.notification_id).count()
            });
            if record.status == DeliveryStatus::Delivered {
                prop_assert!(copies >= 1, "{} is recorded as delivered and was not", key);
                prop_assert!(copies <= 1 + world.kills as usize, "{}: {} copies, {} kills", key, copies, world.kills);
            }
        }
        for (line, ids) in &world.accepted {
            let sequences: Vec<u32> =
                ids.iter().map(|id| id.rsplit_once('-').unwrap().1.parse().unwrap()).collect();
            prop_assert!(sequences.is_sorted(), "{:?} got {:?}", line, sequences);
        }
    }
}
