//! What the dispatch role promises on the log: at least once, in order, with stable ids, through kills and
//! rebalances.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod dispatch_support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use dispatch_support::notification;
use dispatch_support::role_harness::Harness;
use driftline::config::rules::Matcher;
use driftline::dispatch::control::{Command, ControlRecord};
use driftline::dispatch::delivery::DeliveryStatus;
use driftline::dispatch::receiver::{DeliveryContext, Outcome, Receivers, Telling, Transport};
use driftline::log::{Log, LogError, OutRecord};
use driftline::rules::episode::Notification;

/// Notes what it accepts; every third attempt fails.
#[derive(Clone, Default)]
struct Notebook {
    accepted: Arc<Mutex<Vec<(String, u32)>>>,
    attempts: Arc<AtomicU32>,
    fails_every: u32,
    /// Tells the end of an episode alone where its beginning could not be told.
    takes_an_end_alone: bool,
}

#[async_trait]
impl Transport for Notebook {
    async fn deliver(&self, notification: &Notification, context: &DeliveryContext) -> Outcome {
        assert_eq!(context.episode_url(notification), format!("http://drift.test/alerts/{}", notification.episode_id));
        tokio::time::sleep(Duration::from_millis(1)).await;
        let attempt = self.attempts.fetch_add(1, Ordering::SeqCst) + 1;
        if self.fails_every > 0 && attempt.is_multiple_of(self.fails_every) {
            return Outcome::retry("out of paper");
        }
        self.accepted.lock().unwrap().push((notification.episode_id.clone(), notification.sequence));
        Outcome::Delivered { remark: None }
    }

    fn takes_an_end_alone(&self) -> bool {
        self.takes_an_end_alone
    }
}

impl Notebook {
    fn failing_every(fails_every: u32) -> Self {
        Self { fails_every, ..Self::default() }
    }

    fn receivers(&self) -> Arc<Receivers> {
        let transport: Box<dyn Transport> = Box::new(self.clone());
        Arc::new(BTreeMap::from([("book".to_string(), transport)]))
    }

    fn copies(&self) -> usize {
        self.accepted.lock().unwrap().len()
    }

    /// Sequence numbers by episode in the order of arrival.
    fn by_episode(&self) -> BTreeMap<String, Vec<u32>> {
        let mut by_episode: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for (episode, sequence) in self.accepted.lock().unwrap().iter() {
            by_episode.entry(episode.clone()).or_default().push(*sequence);
        }
        by_episode
    }
}

/// `count` notifications each of `episodes` episodes, as they come about in time.
fn story(episodes: u32, count: u32, receiver: &str) -> Vec<Notification> {
    (0..count)
        .flat_map(|sequence| (0..episodes).map(move |episode| (episode, sequence)))
        .map(|(episode, sequence)| notification(&format!("e{episode}"), sequence, &[receiver]))
        .collect()
}

#[test]
fn every_notification_arrives_once_in_order_when_nothing_is_killed() {
    let harness = Harness::new();
    let book = Notebook::failing_every(3);
    let role = harness.start("0", &book.receivers(), None);
    harness.publish(&story(4, 5, "book"));
    let deliveries = harness.wait_until_final(20);
    role.stop().unwrap();
    assert!(deliveries.values().all(|record| record.status == DeliveryStatus::Delivered), "{deliveries:#?}");
    assert_eq!(book.copies(), 20);
    for (episode, sequences) in book.by_episode() {
        assert_eq!(sequences, [0, 1, 2, 3, 4], "{episode}");
    }
}

#[test]
fn a_restart_sends_nothing_again_and_goes_on_with_what_is_pending() {
    let mut harness = Harness::new();
    harness.limits.first_retry_ms = 3_600_000;
    harness.limits.max_retry_ms = 3_600_000;
    harness.publish(&story(3, 2, "book"));
    let down = Notebook::failing_every(1);
    let role = harness.start("0", &down.receivers(), None);
    while down.attempts.load(Ordering::SeqCst) < 3 {
        std::thread::sleep(Duration::from_millis(5));
    }
    role.stop().unwrap();
    let before = harness.deliveries();
    assert_eq!(before.len(), 6);
    let tried = before.values().filter(|record| record.attempts == 1).count();
    assert_eq!(tried, 3, "the first of each episode: {before:#?}");

    // The next attempt is an hour away, after the restart too.
    let up = Notebook::default();
    let role = harness.start("0", &up.receivers(), None);
    std::thread::sleep(Duration::from_millis(300));
    role.stop().unwrap();
    assert_eq!(up.copies(), 0);
    assert_eq!(harness.deliveries(), before);
}

#[test]
fn kill_nine_at_any_call_loses_no_notification() {
    let mut kills = 0;
    let mut extra_copies = 0;
    for calls in (1..=90).step_by(2) {
        let harness = Harness::new();
        let book = Notebook::failing_every(3);
        harness.publish(&story(3, 3, "book"));
        let doomed = harness.start("0", &book.receivers(), Some(calls));
        while !doomed.is_finished() && harness.statuses().values().filter(|status| status.is_final()).count() < 9 {
            std::thread::sleep(Duration::from_millis(2));
        }
        if doomed.is_finished() {
            kills += 1;
            assert!(matches!(doomed.ended(), Err(LogError::Fatal(_))), "a killed process must end");
        } else {
            doomed.process.kill();
            assert!(matches!(doomed.ended(), Err(LogError::Fatal(_))));
        }
        let heir = harness.start("0", &book.receivers(), None);
        let deliveries = harness.wait_until_final(9);
        heir.stop().unwrap();

        let ids: BTreeSet<String> = deliveries.keys().cloned().collect();
        let expected: BTreeSet<String> = story(3, 3, "book").iter().map(|n| format!("{}|book", n.id)).collect();
        assert_eq!(ids, expected, "killed after {calls} calls");
        assert!(deliveries.values().all(|record| record.status == DeliveryStatus::Delivered), "{deliveries:#?}");
        for (episode, mut sequences) in book.by_episode() {
            assert!(sequences.is_sorted(), "killed after {calls} calls, {episode} got {sequences:?}");
            extra_copies += sequences.len() - 3;
            sequences.dedup();
            assert_eq!(sequences, [0, 1, 2], "killed after {calls} calls, {episode}");
        }
    }
    println!("{kills} kills in the middle of the work, {extra_copies} extra copies");
    assert!(kills >= 20, "only {kills} of 45 kills came while there was work to do");
}

#[test]
fn a_second_instance_takes_its_share_and_hands_it_back() {
    let harness = Harness::new();
    let book = Notebook::failing_every(4);
    let first = harness.start("0", &book.receivers(), None);
    harness.publish(&story(6, 2, "book"));
    let second = harness.start("1", &book.receivers(), None);
    harness.publish(
        &(0..6).flat_map(|e| (2..5).map(move |s| notification(&format!("e{e}"), s, &["book"]))).collect::<Vec<_>>(),
    );
    harness.wait_until_final(30);
    second.stop().unwrap();
    harness.publish(&(0..6).map(|e| notification(&format!("e{e}"), 5, &["book"])).collect::<Vec<_>>());
    let deliveries = harness.wait_until_final(36);
    first.stop().unwrap();
    assert!(deliveries.values().all(|record| record.status == DeliveryStatus::Delivered), "{deliveries:#?}");
    for (episode, mut sequences) in book.by_episode() {
        // A rebalance may repeat what was in flight, never skip.
        sequences.sort_unstable();
        sequences.dedup();
        assert_eq!(sequences, [0, 1, 2, 3, 4, 5], "{episode}");
    }
}

#[test]
fn a_receiver_that_is_not_configured_is_told_as_failed() {
    let harness = Harness::new();
    let book = Notebook::default();
    let role = harness.start("0", &book.receivers(), None);
    harness.publish(&[notification("e", 0, &["book", "gone"])]);
    let deliveries = harness.wait_until_final(2);
    role.stop().unwrap();
    assert_eq!(deliveries["e-0|book"].status, DeliveryStatus::Delivered);
    assert_eq!(deliveries["e-0|gone"].status, DeliveryStatus::Failed);
    assert_eq!(deliveries["e-0|gone"].last_error.as_deref(), Some("receiver `gone` is not configured"));
}

#[test]
fn an_outbox_record_that_cannot_be_read_costs_only_itself() {
    let harness = Harness::new();
    let mut producer = harness.log.producer("windows-0").unwrap();
    producer.begin().unwrap();
    for value in [&b"not json"[..], b"{}"] {
        let record = OutRecord {
            topic: harness.topics.outbox.as_str().into(),
            partition: Some(0),
            key: None,
            value: Some(value.to_vec()),
            headers: vec![],
        };
        producer.send(record).unwrap();
    }
    producer.commit().unwrap();
    let book = Notebook::default();
    let role = harness.start("0", &book.receivers(), None);
    harness.publish(&story(4, 1, "book"));
    harness.wait_until_final(4);
    role.stop().unwrap();
    assert_eq!(book.copies(), 4);
}

#[test]
fn a_full_schedule_reads_no_more_and_loses_nothing() {
    let mut harness = Harness::new();
    harness.limits.max_pending = 2;
    harness.publish(&story(5, 1, "book"));
    let book = Notebook::failing_every(2);
    let role = harness.start("0", &book.receivers(), None);
    harness.wait_until_final(5);
    for sequence in 1..6 {
        harness.publish(&(0..5).map(|e| notification(&format!("e{e}"), sequence, &["book"])).collect::<Vec<_>>());
    }
    harness.wait_until_final(30);
    role.stop().unwrap();
    assert_eq!(book.copies(), 30);
    for (episode, sequences) in book.by_episode() {
        assert_eq!(sequences, [0, 1, 2, 3, 4, 5], "{episode}");
    }
}

/// A command as the command line writes it.
fn command(harness: &Harness, id: &str, command: Command) {
    let at_ms = chrono::Utc::now().timestamp_millis();
    let (key, value) = ControlRecord { id: id.into(), at_ms, by: "ada".into(), command }.encode().unwrap();
    let topic = harness.topics.control.as_str().into();
    harness.log.append(vec![OutRecord { topic, key: Some(key), value: Some(value), ..OutRecord::default() }]).unwrap();
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(30), "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_outage_is_told_as_one_message_by_whoever_comes_after_a_kill() {
    let harness = Harness::new();
    let down = Notebook { takes_an_end_alone: true, ..Notebook::failing_every(1) };
    let doomed = harness.start("0", &down.receivers(), None);
    harness.publish(&[notification("e", 0, &["book"])]);
    until("an attempt fails", || down.attempts.load(Ordering::SeqCst) > 0);
    harness.publish(&[notification("e", 1, &["book"])]);
    until("the first is superseded", || harness.statuses().values().any(|one| *one == DeliveryStatus::Superseded));
    doomed.process.kill();
    assert!(doomed.ended().is_err());
    let up = Notebook { takes_an_end_alone: true, ..Notebook::default() };
    let heir = harness.start("0", &up.receivers(), None);
    let deliveries = harness.wait_until_final(2);
    heir.stop().unwrap();
    assert_eq!(up.by_episode()["e"], [1]);
    let expected =
        Telling::InPlaceOf { notifications: vec!["e-0".into()], first_at_ms: notification("e", 0, &[]).at_ms };
    assert_eq!(deliveries["e-1|book"].telling, expected);
}

#[test]
fn a_silence_is_obeyed_from_the_first_record_on_and_let_go_of() {
    let harness = Harness::new();
    let matcher = Matcher { model: Some("fraud".into()), ..Matcher::default() };
    let silence = Command::Silence { matcher, from_ms: 0, until_ms: i64::MAX, reason: "backfill".into() };
    command(&harness, "s1", silence);
    harness.publish(&[notification("e", 0, &["book"])]);
    let book = Notebook::default();
    let role = harness.start("0", &book.receivers(), None);
    until("it is held", || {
        harness.deliveries().get("e-0|book").is_some_and(|one| one.held_by.as_deref() == Some("s1"))
    });
    role.process.kill();
    assert!(role.ended().is_err());
    let role = harness.start("0", &book.receivers(), None);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(book.copies(), 0);
    command(&harness, "x", Command::ExpireSilence { silence: "s1".into() });
    harness.wait_until_final(1);
    role.stop().unwrap();
    assert_eq!(book.copies(), 1);
}

#[test]
fn a_delivery_is_sent_again_once_for_each_command() {
    let harness = Harness::new();
    let book = Notebook::default();
    let role = harness.start("0", &book.receivers(), None);
    harness.publish(&[notification("e", 0, &["book"])]);
    harness.wait_until_final(1);
    let again = Command::Redeliver { notification_id: "e-0".into(), receiver: "book".into() };
    command(&harness, "c1", again.clone());
    command(&harness, "c1", again);
    until("it is sent again", || book.copies() == 2);
    until("that is recorded", || harness.deliveries()["e-0|book"].commands == ["c1"]);
    role.stop().unwrap();
    let role = harness.start("0", &book.receivers(), None);
    std::thread::sleep(Duration::from_millis(200));
    role.stop().unwrap();
    assert_eq!(book.copies(), 2);
}

#[test]
fn attempts_and_pending_deliveries_are_counted() {
    let mut harness = Harness::new();
    harness.limits.expire_after_ms = 30;
    let down = Notebook::failing_every(1);
    let role = harness.start("0", &down.receivers(), None);
    harness.publish(&story(2, 1, "book"));
    harness.wait_until_final(2);
    role.stop().unwrap();
    let metrics = &harness.metrics;
    assert_eq!(metrics.deliveries_expired.with_label_values(&["book"]).get(), 2);
    assert_eq!(metrics.deliveries_pending.with_label_values(&["book"]).get(), 0);
    let tried = metrics.delivery_attempts.with_label_values(&["book", "retry"]).get();
    assert_eq!(tried, u64::from(down.attempts.load(Ordering::SeqCst)));
    assert_eq!(metrics.delivery_seconds.get_sample_count(), tried);
}
