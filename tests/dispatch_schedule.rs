//! What the schedule promises, whatever the order in which attempts end and wherever the process is killed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "dispatch_schedule/bench.rs"]
mod bench;
mod dispatch_support;
#[path = "dispatch_schedule/machines.rs"]
mod machines;
#[path = "dispatch_schedule/world.rs"]
mod world;

use std::sync::Arc;

use dispatch_support::notification;
use driftline::dispatch::delivery::{DeliveryKey, DeliveryRecord, DeliveryStatus};
use driftline::dispatch::receiver::Outcome;
use driftline::dispatch::schedule::{Effect, Input, Limits, Policy, ReceiverPolicy, Schedule};
use driftline::rules::episode::{EpisodeStatus, Notification};

const LIMITS: Limits = Limits {
    first_retry_ms: 1_000,
    max_retry_ms: 60_000,
    expire_after_ms: 600_000,
    max_in_flight: 3,
    max_in_flight_per_receiver: 2,
    max_pending: 1_000,
    max_recent: 1_000,
    ..Limits::DEFAULT
};

fn schedule() -> Schedule {
    let receivers = ["a", "b", "hangs", "works"].map(|name| (name.to_string(), ReceiverPolicy::default()));
    Schedule::new(LIMITS, Arc::new(Policy::of_receivers(receivers)))
}

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
        _ => None,
    };
    effects.iter().filter_map(attempt).collect()
}

fn records(effects: &[Effect]) -> Vec<DeliveryRecord> {
    let record = |effect: &Effect| match effect {
        Effect::Record { record, .. } => Some((**record).clone()),
        _ => None,
    };
    effects.iter().filter_map(record).collect()
}

fn only<T: std::fmt::Debug>(mut values: Vec<T>) -> T {
    assert_eq!(values.len(), 1, "{values:?}");
    values.remove(0)
}

#[test]
fn an_attempt_follows_a_pending_record_and_not_before_the_tick() {
    let mut schedule = schedule();
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
    let mut schedule = schedule();
    let twice = notification("e", 0, &["a", "a"]);
    let key = only(records(&schedule.step(intent(&twice), 0))).key();
    assert_eq!(schedule.step(intent(&twice), 0), []);
    schedule.step(Input::Tick, 0);
    let record = only(records(&schedule.step(attempted(&key, delivered()), 7)));
    assert_eq!((record.status, record.delivered_at_ms), (DeliveryStatus::Delivered, Some(7)));
    assert_eq!(schedule.step(intent(&twice), 8), []);
    assert_eq!(schedule.pending(), 0);
}

/// A notification that its episode fires on, at another severity.
fn worse(episode: &str, sequence: u32, receivers: &[&str]) -> Notification {
    Notification { status: EpisodeStatus::Firing, ..notification(episode, sequence, receivers) }
}

#[test]
fn a_later_notification_waits_for_the_earlier_at_the_same_receiver_only() {
    let mut schedule = schedule();
    schedule.step(intent(&worse("e", 0, &["a"])), 0);
    schedule.step(intent(&worse("e", 1, &["a", "b"])), 0);
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
        let mut schedule = schedule();
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
        let mut schedule = schedule();
        let key = only(records(&schedule.step(intent(&notification("e", 0, &["a"])), 0))).key();
        schedule.step(Input::Tick, 0);
        let outcome = Outcome::Retry { reason: "429".into(), after_ms: Some(after_ms) };
        assert_eq!(only(records(&schedule.step(attempted(&key, outcome), 0))).next_attempt_ms, Some(next_ms));
    }
}

#[test]
fn only_a_failed_attempt_expires_a_delivery() {
    let mut schedule = schedule();
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
    let mut schedule = schedule();
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
    let mut schedule = schedule();
    let key = only(records(&schedule.step(intent(&notification("e", 0, &["a"])), 0))).key();
    schedule.step(Input::Tick, 0);
    assert_eq!(schedule.drop_partitions(|partition| partition == 0), std::slice::from_ref(&key));
    assert_eq!((schedule.pending(), schedule.in_flight()), (0, 0));
    assert_eq!(schedule.step(attempted(&key, delivered()), 1), []);
}

#[test]
fn an_error_in_a_record_is_short() {
    let mut schedule = schedule();
    let key = only(records(&schedule.step(intent(&notification("e", 0, &["a"])), 0))).key();
    schedule.step(Input::Tick, 0);
    let record = only(records(&schedule.step(attempted(&key, Outcome::permanent("\u{e9}".repeat(10_000))), 0)));
    assert_eq!(record.last_error.unwrap().chars().count(), 503);
}

#[test]
fn a_record_reads_back_as_written() {
    let mut schedule = schedule();
    let record = only(records(&schedule.step(intent(&notification("e", 0, &["a"])), 3)));
    let text = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<DeliveryRecord>(&text).unwrap(), record);
    assert!(text.contains(r#""status":"pending""#), "{text}");
}
