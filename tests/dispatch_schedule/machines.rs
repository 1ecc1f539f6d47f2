//! Each machine of the schedule by itself.

use driftline::config::rules::{Matcher, Severity};
use driftline::dispatch::control::Command;
use driftline::dispatch::delivery::DeliveryStatus;
use driftline::dispatch::receiver::Telling;
use driftline::dispatch::schedule::{Circuit, Effect, Input, Limits};
use driftline::rules::episode::Notification;

use super::bench::{Bench, HOUR_MS, MINUTE_MS, ends, fires, hooks, policy};

const ALL_TO_A: &str = "routes: [{match: {}, to: [a]}]\n";

fn to_a(route: &str) -> String {
    format!("routes: [{{match: {{}}, to: [a]{route}}}]\n{}", hooks(&[("a", "")]))
}

fn bench(yaml: &str) -> Bench {
    Bench::of(yaml, Limits::DEFAULT)
}

fn silence(until_ms: i64) -> Command {
    let matcher = Matcher { model: Some("fraud".into()), ..Matcher::default() };
    Command::Silence { matcher, from_ms: 0, until_ms, reason: "backfill".into() }
}

fn warn(notification: Notification) -> Notification {
    Notification { severity: Severity::Warn, ..notification }
}

#[test]
fn reminders_come_while_it_fires_and_never_after_its_end() {
    let mut bench = bench(&to_a(", repeat: 4h"));
    bench.read(&fires("e", 0, &["a"]));
    bench.pass(9 * HOUR_MS);
    assert_eq!(bench.told("a"), ["e-0", "e-r1", "e-r2"]);
    let numbers: Vec<&Telling> = bench.sent.iter().map(|message| &message.telling).collect();
    assert_eq!(numbers, [&Telling::News, &Telling::Reminder { number: 1 }, &Telling::Reminder { number: 2 }]);
    assert_eq!(bench.sent[1].at_ms - bench.sent[0].at_ms, 4 * HOUR_MS);
    bench.restart();
    bench.pass(2 * HOUR_MS);
    assert_eq!(bench.told("a").len(), 3, "a restart does not hurry the next one");
    bench.pass(2 * HOUR_MS);
    assert_eq!(bench.told("a").last().unwrap(), "e-r3", "and goes on counting");
    bench.read(&ends("e", 1, &["a"]));
    bench.pass(100 * HOUR_MS);
    assert_eq!(bench.told("a").last().unwrap(), "e-1");
    bench.restart();
    bench.pass(100 * HOUR_MS);
    assert_eq!(bench.told("a").last().unwrap(), "e-1");
}

#[test]
fn a_reminder_that_cannot_be_delivered_does_not_hold_up_news() {
    let mut bench = bench(&to_a(", repeat: 1h"));
    bench.read(&fires("e", 0, &["a"]));
    bench.pass(MINUTE_MS);
    bench.down.insert("a".into());
    bench.pass(2 * HOUR_MS);
    bench.read(&ends("e", 1, &["a"]));
    bench.down.clear();
    bench.pass(HOUR_MS);
    assert_eq!(bench.told("a"), ["e-0", "e-1"]);
    assert_eq!(bench.status("e-r1", "a"), DeliveryStatus::Superseded);
    let reason = bench.record("e-r1", "a").last_error.clone();
    assert_eq!(reason.as_deref(), Some("`e-1` says it too"));
}

#[test]
fn nobody_is_reminded_of_what_somebody_works_on_until_that_expires() {
    let mut bench = bench(&to_a(", repeat: 1h"));
    bench.read(&fires("e", 0, &["a"]));
    bench.pass(MINUTE_MS);
    let until_ms = Some(bench.now_ms + 5 * HOUR_MS);
    bench.command("c1", Command::Acknowledge { episode_id: "e".into(), owner: "ada".into(), until_ms, note: None });
    bench.pass(5 * HOUR_MS - 1);
    assert_eq!(bench.told("a"), ["e-0"]);
    bench.pass(1);
    assert_eq!(bench.told("a"), ["e-0", "e-r1"]);
    bench
        .command("c2", Command::Acknowledge { episode_id: "e".into(), owner: "bo".into(), until_ms: None, note: None });
    bench.pass(50 * HOUR_MS);
    assert_eq!(bench.told("a"), ["e-0", "e-r1"]);
    bench.read(&fires("e", 1, &["a"]));
    bench.pass(MINUTE_MS);
    assert_eq!(bench.told("a"), ["e-0", "e-r1", "e-1"], "worse is told all the same");
    bench.command("c3", Command::Unacknowledge { episode_id: "e".into() });
    bench.pass(HOUR_MS);
    assert_eq!(bench.told("a").last().unwrap(), "e-r2");
}

#[test]
fn what_is_collected_goes_as_one_message_at_the_full_period() {
    let mut bench = bench(&to_a(", digest: 24h"));
    let (start_ms, day_ms) = (bench.now_ms, 24 * HOUR_MS);
    for episode in ["e", "f", "g"] {
        bench.read(&fires(episode, 0, &["a"]));
        bench.pass(HOUR_MS);
    }
    bench.read(&ends("f", 1, &["a"]));
    bench.pass(24 * HOUR_MS);
    assert_eq!(bench.sent.len(), 1);
    let digest = bench.sent[0].clone();
    assert_eq!(digest.told, ["e-0", "f-0", "g-0", "f-1"], "in the order in which they came");
    assert_eq!(digest.at_ms, start_ms.div_euclid(day_ms) * day_ms + day_ms);
    assert!(digest.id.starts_with("digest-"), "{}", digest.id);
    assert_eq!(bench.status("f-1", "a"), DeliveryStatus::Delivered);
    assert_eq!(bench.record("e-0", "a").digest.as_ref().unwrap().id.as_deref(), Some(digest.id.as_str()));
    bench.restart();
    bench.pass(100 * HOUR_MS);
    assert_eq!(bench.sent.len(), 1, "sent once, and no empty digests");
}

#[test]
fn a_digest_is_the_same_after_a_kill_at_any_moment() {
    for kill_at in 0..6 {
        let mut bench = bench(&to_a(", digest: 1h"));
        for episode in ["e", "f"] {
            bench.read(&fires(episode, 0, &["a"]));
        }
        if kill_at == 0 {
            bench.restart();
        }
        bench.now_ms += HOUR_MS;
        bench.step(Input::Plan);
        if kill_at == 1 {
            bench.restart();
            bench.step(Input::Plan);
        }
        bench.read(&fires("late", 0, &["a"]));
        let started = bench.step(Input::Tick);
        let Some(Effect::Attempt { key, .. }) = started.first().cloned() else { panic!("{kill_at}: {started:?}") };
        if kill_at >= 2 {
            bench.restart();
        }
        bench.pass(30 * MINUTE_MS);
        if kill_at >= 2 {
            assert_eq!(bench.sent.len(), 1);
            assert_eq!(
                (&bench.sent[0].id, &bench.sent[0].told[..]),
                (&key.notification_id, &["e-0".into(), "f-0".into()][..])
            );
        }
    }
}

#[test]
fn a_full_digest_is_sent_early() {
    let mut bench = Bench::of(&to_a(", digest: 24h"), Limits { max_digest: 3, ..Limits::DEFAULT });
    for episode in 0..7 {
        bench.read(&fires(&format!("e{episode}"), 0, &["a"]));
        bench.pass(1);
    }
    let sizes: Vec<usize> = bench.sent.iter().map(|message| message.told.len()).collect();
    assert_eq!(sizes, [3, 3]);
}

#[test]
fn what_is_told_at_once_overtakes_what_was_collected() {
    let routes =
        "routes:\n  - {match: {severity: warn}, to: [a], digest: 24h}\n  - {match: {severity: critical}, to: [a]}\n";
    let mut bench = bench(&format!("{routes}{}", hooks(&[("a", "")])));
    bench.read(&warn(fires("e", 0, &["a"])));
    bench.pass(MINUTE_MS);
    bench.read(&fires("e", 1, &["a"]));
    bench.pass(MINUTE_MS);
    assert_eq!(bench.told("a"), ["e-1"]);
    assert_eq!(bench.status("e-0", "a"), DeliveryStatus::Superseded);
    bench.pass(48 * HOUR_MS);
    assert_eq!(bench.told("a"), ["e-1"]);
}

#[test]
fn a_silence_holds_back_and_then_what_still_fires_is_told() {
    let mut bench = bench(&to_a(""));
    bench.read(&fires("before", 0, &["a"]));
    bench.pass(MINUTE_MS);
    let until_ms = bench.now_ms + 2 * HOUR_MS;
    bench.command("s1", silence(until_ms));
    bench.read(&fires("still", 0, &["a"]));
    bench.read(&fires("brief", 0, &["a"]));
    bench.pass(HOUR_MS);
    assert_eq!(bench.told("a"), ["before-0"]);
    let held = bench.record("still-0", "a");
    assert_eq!((held.held_by.as_deref(), held.next_attempt_ms), (Some("s1"), Some(until_ms)));
    assert_eq!(bench.schedule.pending_by_receiver()["a"], (2, 2));
    bench.restart();
    bench.pass(MINUTE_MS);
    bench.read(&ends("brief", 1, &["a"]));
    bench.read(&ends("before", 1, &["a"]));
    bench.pass(MINUTE_MS);
    assert_eq!(bench.told("a"), ["before-0", "before-1"], "who was told of its beginning is told of its end");
    for id in ["brief-0", "brief-1"] {
        assert_eq!(bench.status(id, "a"), DeliveryStatus::Superseded, "{id}");
        let reason = bench.record(id, "a").last_error.clone().unwrap();
        assert_eq!(reason, "ended while silence `s1` held it back");
    }
    bench.pass(HOUR_MS);
    assert_eq!(bench.told("a"), ["before-0", "before-1", "still-0"]);
    assert_eq!(bench.sent[2].at_ms, until_ms);
}

#[test]
fn a_silence_that_is_ended_early_lets_go_at_once() {
    let mut bench = bench(&to_a(""));
    bench.command("s1", silence(bench.now_ms + 9 * HOUR_MS));
    bench.read(&fires("e", 0, &["a"]));
    bench.pass(HOUR_MS);
    bench.command("x", Command::ExpireSilence { silence: "s1".into() });
    bench.pass(1);
    assert_eq!(bench.told("a"), ["e-0"]);
    assert_eq!(bench.record("e-0", "a").released_at_ms, Some(bench.now_ms - 1));
}

#[test]
fn an_alert_that_fired_and_was_resolved_while_undeliverable_is_one_message() {
    let mut bench = bench(&to_a(""));
    bench.down.insert("a".into());
    bench.read(&fires("e", 0, &["a"]));
    bench.read(&fires("e", 1, &["a"]));
    bench.pass(HOUR_MS);
    bench.read(&ends("e", 2, &["a"]));
    bench.pass(MINUTE_MS);
    bench.restart();
    bench.down.clear();
    bench.pass(HOUR_MS);
    assert_eq!(bench.told("a"), ["e-2"]);
    let first_at_ms = fires("e", 0, &[]).at_ms;
    let expected = Telling::InPlaceOf { notifications: vec!["e-0".into(), "e-1".into()], first_at_ms };
    assert_eq!(bench.sent[0].telling, expected);
    assert_eq!(bench.status("e-0", "a"), DeliveryStatus::Superseded);
    let reason = bench.record("e-0", "a").last_error.clone().unwrap();
    assert_eq!(reason, "could not be delivered before it ended; `e-2` says both");
}

#[test]
fn a_receiver_with_alerts_of_its_own_gets_all_of_them_in_order() {
    let yaml = to_a("");
    let mut bench = bench(&yaml);
    bench.policy = policy(&yaml, &["a"]);
    bench.restart();
    bench.down.insert("a".into());
    bench.read(&fires("e", 0, &["a"]));
    bench.pass(HOUR_MS);
    bench.read(&ends("e", 1, &["a"]));
    bench.down.clear();
    bench.pass(HOUR_MS);
    assert_eq!(bench.told("a"), ["e-0", "e-1"]);
}

#[test]
fn a_receiver_that_does_not_answer_is_left_alone_and_then_gets_everything() {
    let mut bench = bench(&to_a(""));
    bench.down.insert("a".into());
    for episode in 0..100 {
        bench.read(&fires(&format!("e{episode}"), 0, &["a"]));
    }
    bench.pass(MINUTE_MS);
    assert_eq!(bench.schedule.circuit("a", bench.now_ms), Circuit::Open);
    let first_minute = bench.attempts;
    assert!(first_minute <= 12, "{first_minute} attempts in the first minute");
    bench.pass(10 * HOUR_MS);
    let later = bench.attempts - first_minute;
    assert!((100..300).contains(&later), "{later} attempts in ten hours: one every 2.5 to 5 minutes");
    bench.down.clear();
    bench.pass(6 * MINUTE_MS);
    assert_eq!(bench.told("a").len(), 100);
    assert_eq!(bench.schedule.circuit("a", bench.now_ms), Circuit::Closed);
}

#[test]
fn what_waits_for_a_dead_receiver_expires_together() {
    let mut bench = bench(&to_a(""));
    bench.down.insert("a".into());
    for episode in 0..500 {
        bench.read(&fires(&format!("e{episode}"), 0, &["a"]));
    }
    bench.pass(24 * HOUR_MS + 10 * MINUTE_MS);
    assert_eq!(bench.schedule.pending(), 0);
    assert!(bench.topic.values().all(|(record, _)| record.status == DeliveryStatus::Expired));
    assert!(bench.topic.values().all(|(record, _)| record.last_error.as_deref() == Some("down")));
}

#[test]
fn an_end_does_not_expire_before_a_beginning_that_a_silence_held_back() {
    let yaml = to_a(", repeat: 4h");
    let mut bench = bench(&yaml);
    bench.policy = policy(&yaml, &["a"]); // ends alone mean nothing to it, so that both are to be sent
    bench.restart();
    bench.down.insert("a".into());
    bench.read(&fires("e", 0, &["a"]));
    bench.pass(MINUTE_MS);
    bench.command("s1", silence(bench.now_ms + 6 * HOUR_MS));
    bench.pass(HOUR_MS);
    bench.read(&ends("e", 1, &["a"]));
    // The end's time is up first: the beginning's counts from when it was let go.
    bench.pass(27 * HOUR_MS);
    assert_eq!(bench.status("e-1", "a"), DeliveryStatus::Pending, "it waits for the beginning");
    bench.down.clear();
    bench.pass(20 * HOUR_MS);
    assert_eq!(bench.told("a"), ["e-0", "e-1"], "and no reminder after the end");
}

#[test]
fn after_a_long_stop_of_the_service_nothing_is_given_up_untried() {
    let mut bench = bench(&to_a(""));
    for episode in 0..50 {
        bench.read(&fires(&format!("e{episode}"), 0, &["a"]));
    }
    bench.now_ms += 72 * HOUR_MS;
    bench.restart();
    bench.pass(MINUTE_MS);
    assert_eq!(bench.told("a").len(), 50);
}

#[test]
fn messages_beyond_the_rate_wait() {
    let yaml = format!("{ALL_TO_A}{}", hooks(&[("a", "rate_limit: {max: 3, per: 1m}")]));
    let mut bench = bench(&yaml);
    for episode in 0..10 {
        bench.read(&fires(&format!("e{episode:02}"), 0, &["a"]));
    }
    bench.pass(1);
    assert_eq!(bench.told("a").len(), 3);
    bench.restart();
    bench.pass(50_000);
    assert_eq!(bench.told("a").len(), 3, "a restart knows what was sent in the last minute");
    bench.pass(2 * MINUTE_MS);
    assert_eq!(bench.told("a").len(), 9);
    bench.pass(MINUTE_MS);
    assert_eq!(bench.told("a").len(), 10);
}

fn with_fallback() -> Bench {
    bench(&format!("{ALL_TO_A}{}", hooks(&[("a", "fallback: b"), ("b", "fallback: c"), ("c", "")])))
}

#[test]
fn the_fallback_is_told_of_what_was_refused_and_why() {
    let mut bench = with_fallback();
    bench.refusing.insert("a".into());
    bench.read(&fires("e", 0, &["a"]));
    bench.pass(1);
    assert_eq!(bench.status("e-0", "a"), DeliveryStatus::Failed);
    let telling = Telling::Fallback { receiver: "a".into(), reason: "http status 404".into() };
    assert_eq!((bench.told("b"), &bench.sent[0].telling), (vec!["e-0".to_string()], &telling));
    bench.refusing.insert("b".into());
    bench.read(&ends("e", 1, &["a"]));
    bench.pass(1);
    assert_eq!(bench.told("c"), ["e-1"], "and the fallback's fallback");
}

#[test]
fn the_fallback_is_told_of_what_expired_and_of_the_receiver_itself() {
    let mut bench = with_fallback();
    bench.down.insert("a".into());
    bench.read(&fires("e", 0, &["a"]));
    let start_ms = bench.now_ms;
    bench.pass(HOUR_MS);
    let alert = bench.sent[0].clone();
    assert_eq!((alert.receiver.as_str(), alert.at_ms - start_ms), ("b", 5 * MINUTE_MS));
    assert_eq!(alert.telling, Telling::ReceiverHealth { receiver: "a".into() });
    let summary = &bench.record(&alert.id, "b").notification.summary;
    assert!(
        summary.starts_with("receiver a has not answered since ")
            && summary.ends_with("down; 1 notification waits for it"),
        "{summary}"
    );
    bench.restart();
    bench.pass(24 * HOUR_MS);
    assert_eq!(bench.told("b")[1..], ["e-0"], "one alert about the receiver, restart or not");
    assert_eq!(bench.status("e-0", "a"), DeliveryStatus::Expired);
    bench.down.clear();
    bench.read(&fires("f", 0, &["a"]));
    bench.pass(HOUR_MS);
    let end = bench.sent.last().unwrap();
    assert_eq!(end.telling, Telling::ReceiverHealth { receiver: "a".into() });
    assert!(bench.record(&end.id, "b").notification.summary.starts_with("receiver a answers again"));
}

#[test]
fn a_receiver_that_is_gone_from_the_rules_is_replaced_by_todays_routes() {
    let mut bench = with_fallback();
    bench.read(&fires("e", 0, &["gone"]));
    bench.pass(1);
    assert_eq!(bench.status("e-0", "gone"), DeliveryStatus::Failed);
    assert_eq!(bench.record("e-0", "gone").last_error.as_deref(), Some("receiver `gone` is not configured"));
    assert_eq!(bench.told("a"), ["e-0"]);
    // One that goes while deliveries are pending.
    bench.down.insert("a".into());
    bench.read(&fires("f", 0, &["a"]));
    bench.pass(MINUTE_MS);
    bench.policy = policy(&format!("routes: [{{match: {{}}, to: [c]}}]\n{}", hooks(&[("c", "")])), &[]);
    bench.restart();
    bench.pass(1);
    assert_eq!(bench.status("f-0", "a"), DeliveryStatus::Failed);
    assert_eq!(bench.told("c"), ["f-0"]);
}

#[test]
fn a_heartbeat_comes_at_every_full_period_and_not_twice() {
    let yaml = format!("heartbeat: {{to: [a], every: 5m}}\n{}", to_a(""));
    let mut bench = bench(&yaml);
    bench.now_ms += 1;
    bench.pass(MINUTE_MS);
    bench.restart();
    bench.pass(MINUTE_MS);
    assert_eq!(bench.sent.len(), 1, "at the start, for the period that runs");
    bench.pass(10 * MINUTE_MS);
    assert_eq!(bench.sent.len(), 3);
    assert_eq!(bench.sent[1].at_ms % (5 * MINUTE_MS), 0);
    assert_eq!(bench.sent[1].telling, Telling::Heartbeat { every_ms: 5 * MINUTE_MS });
    bench.down.insert("a".into());
    bench.pass(HOUR_MS);
    bench.down.clear();
    bench.pass(10 * MINUTE_MS);
    let ids = bench.told("a");
    assert!(ids[3..].len() <= 3, "those of the outage do not come later: {ids:?}");
    assert!(bench.topic.len() <= 2, "old ones are not kept: {:?}", bench.topic.keys());
    bench.schedule.drop_partitions(|partition| partition == 0);
    let before = bench.sent.len();
    bench.pass(HOUR_MS);
    assert_eq!(bench.sent.len(), before, "whoever owns partition 0 sends it");
}

#[test]
fn a_redelivery_is_done_once_for_each_command() {
    let mut bench = bench(&to_a(""));
    bench.read(&fires("e", 0, &["a"]));
    bench.pass(1);
    let again = Command::Redeliver { notification_id: "e-0".into(), receiver: "a".into() };
    bench.command("c1", again.clone());
    bench.pass(1);
    assert_eq!(bench.told("a"), ["e-0", "e-0"]);
    assert_eq!(bench.sent[1].telling, Telling::Redelivery);
    assert_eq!(bench.record("e-0", "a").commands, ["c1"]);
    bench.restart();
    bench.pass(HOUR_MS);
    assert_eq!(bench.told("a").len(), 2, "not again after a restart");
    bench.down.insert("a".into());
    bench.command("c2", again.clone());
    bench.pass(MINUTE_MS);
    bench.restart();
    bench.down.clear();
    bench.pass(HOUR_MS);
    assert_eq!(bench.told("a").len(), 3, "nor lost in one");
    bench.command("c3", Command::Redeliver { notification_id: "no-such".into(), receiver: "a".into() });
    bench.pass(HOUR_MS);
    assert_eq!(bench.told("a").len(), 3);
}

#[test]
fn a_redelivery_of_what_waits_is_tried_at_once() {
    let mut bench = bench(&to_a(""));
    bench.down.insert("a".into());
    bench.read(&fires("e", 0, &["a"]));
    bench.pass(8 * MINUTE_MS);
    bench.down.clear();
    bench.command("s", silence(bench.now_ms + HOUR_MS));
    bench.read(&fires("held", 0, &["a"]));
    bench.pass(1);
    bench.command("c", Command::Redeliver { notification_id: "held-0".into(), receiver: "a".into() });
    bench.pass(6 * MINUTE_MS);
    assert_eq!(bench.told("a"), ["held-0"], "a silence does not hold back what a person asks for");
}

/// A beginning that was refused, or held back, and an end that a silence kept from being told.
fn passed_over(refused: bool) -> Bench {
    let mut bench = bench(&to_a(", repeat: 1h"));
    if refused {
        bench.refusing.insert("a".into());
        bench.read(&fires("e", 0, &["a"]));
        bench.pass(1);
        bench.refusing.clear();
        assert_eq!(bench.status("e-0", "a"), DeliveryStatus::Failed);
    }
    bench.command("s1", silence(bench.now_ms + HOUR_MS));
    if !refused {
        bench.read(&fires("e", 0, &["a"]));
        bench.pass(1);
    }
    bench.read(&ends("e", 1, &["a"]));
    bench.pass(1);
    assert_eq!(bench.status("e-1", "a"), DeliveryStatus::Superseded);
    let reason = bench.record("e-1", "a").last_error.clone().unwrap();
    let expected = if refused { "; its beginning was not told" } else { "" };
    assert_eq!(reason, format!("ended while silence `s1` held it back{expected}"));
    bench
}

fn again(id: &str) -> Command {
    Command::Redeliver { notification_id: id.into(), receiver: "a".into() }
}

#[test]
fn who_is_sent_a_beginning_again_is_told_of_the_end_that_was_passed_over() {
    for (refused, restarts) in [(true, false), (true, true), (false, false), (false, true)] {
        let mut bench = passed_over(refused);
        bench.command("c1", again("e-0"));
        bench.step(Input::Plan);
        assert_eq!(bench.turn(), 1, "the beginning alone: the end is owed once that has arrived");
        assert_eq!(bench.told("a"), ["e-0"]);
        if restarts {
            bench.restart();
        }
        bench.pass(1);
        assert_eq!(bench.told("a"), ["e-0", "e-1"], "refused: {refused}, restarted: {restarts}");
        assert_eq!(bench.sent[1].telling, Telling::Redelivery);
        assert_eq!(bench.status("e-1", "a"), DeliveryStatus::Delivered);
        bench.restart();
        bench.pass(9 * HOUR_MS);
        assert_eq!(bench.told("a"), ["e-0", "e-1"], "once, and no reminder of what has ended");
    }
}

#[test]
fn an_end_is_owed_for_no_beginning_that_was_refused_again() {
    let mut bench = passed_over(true);
    bench.refusing.insert("a".into());
    bench.command("c1", again("e-0"));
    bench.pass(1);
    bench.refusing.clear();
    bench.restart();
    bench.pass(9 * HOUR_MS);
    assert_eq!(bench.told("a"), Vec::<String>::new());
    assert_eq!(bench.status("e-1", "a"), DeliveryStatus::Superseded);
}

#[test]
fn an_end_that_is_owed_waits_for_a_receiver_that_is_down() {
    let mut bench = passed_over(true);
    bench.command("c1", again("e-0"));
    bench.turn();
    bench.down.insert("a".into());
    bench.pass(MINUTE_MS);
    assert_eq!((bench.told("a"), bench.status("e-1", "a")), (vec!["e-0".to_string()], DeliveryStatus::Pending));
    bench.restart();
    bench.down.clear();
    bench.pass(HOUR_MS);
    assert_eq!(bench.told("a"), ["e-0", "e-1"]);
}

#[test]
fn what_is_long_done_is_forgotten_but_not_what_still_fires() {
    let mut bench = bench(&to_a(", repeat: 10d"));
    bench.read(&fires("open", 0, &["a"]));
    for episode in 0..50 {
        bench.read(&fires(&format!("e{episode}"), 0, &["a"]));
        bench.read(&ends(&format!("e{episode}"), 1, &["a"]));
    }
    bench.pass(HOUR_MS);
    assert_eq!(bench.topic.len(), 101);
    bench.pass(29 * 24 * HOUR_MS);
    assert_eq!(bench.tombstones, 0);
    bench.pass(3 * 24 * HOUR_MS);
    assert_eq!(bench.tombstones, 101, "the news of the open one are told by its reminder");
    bench.restart();
    bench.pass(11 * 24 * HOUR_MS);
    let last = bench.told("a").last().unwrap().clone();
    assert_eq!(last, "open-r4", "and a restart still knows that it fires");
}
