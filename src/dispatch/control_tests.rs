use super::*;
use crate::config::rules::Severity;
use crate::rules::episode::EpisodeStatus;
use crate::windows::result::{Segment, Window};

fn record(id: &str, at_ms: i64, command: Command) -> ControlRecord {
    ControlRecord { id: id.into(), at_ms, by: "ada".into(), command }
}

fn silence(model: &str, from_ms: i64, until_ms: i64) -> Command {
    let matcher = Matcher { model: Some(model.into()), ..Matcher::default() };
    Command::Silence { matcher, from_ms, until_ms, reason: "backfill".into() }
}

fn notification() -> Notification {
    let window = Window { start_ms: 0, end_ms: 1 };
    Notification {
        id: "e-0".into(),
        episode_id: "e".into(),
        sequence: 0,
        status: EpisodeStatus::Firing,
        severity: Severity::Warn,
        rule: "feature-drift".into(),
        model: "fraud".into(),
        version: "3".into(),
        segment: Segment::default(),
        feature: Some("amount".into()),
        summary: String::new(),
        description: None,
        runbook: None,
        suppressed: None,
        findings: Vec::new(),
        reference: "training".into(),
        reference_id: String::new(),
        first_window: window,
        window,
        windows_breached: 1,
        windows_considered: 1,
        rows: 1,
        at_ms: 1,
        receivers: Vec::new(),
        actions: Vec::new(),
    }
}

#[test]
fn a_silence_holds_from_its_beginning_until_its_end_or_until_somebody_ends_it() {
    let mut state = ControlState::default();
    assert!(state.apply(&record("s1", 5, silence("fraud@*", 10, 20))));
    assert!(!state.apply(&record("s1", 5, silence("fraud@*", 10, 90))), "read twice, taken once");
    let held =
        |state: &ControlState, now_ms| state.silenced_by(&notification(), now_ms).map(|silence| silence.id.clone());
    assert_eq!([9, 10, 19, 20].map(|now_ms| held(&state, now_ms).is_some()), [false, true, true, false]);
    state.apply(&record("x", 15, Command::ExpireSilence { silence: "s1".into() }));
    assert_eq!([14, 15].map(|now_ms| held(&state, now_ms).is_some()), [true, false]);
    state.apply(&record("y", 1, Command::ExpireSilence { silence: "no such".into() }));
}

#[test]
fn a_silence_holds_only_what_matches_in_every_key() {
    let mut state = ControlState::default();
    let whole = Matcher {
        severity: Some(Severity::Warn),
        model: Some("fraud@3".into()),
        rule: Some("feature-*".into()),
        feature: Some("amount".into()),
        segment: Some("all".into()),
    };
    let command = Command::Silence { matcher: whole, from_ms: 0, until_ms: 10, reason: String::new() };
    state.apply(&record("s", 0, command));
    assert!(state.silenced_by(&notification(), 1).is_some());
    for other in [
        Notification { severity: Severity::Critical, ..notification() },
        Notification { version: "4".into(), ..notification() },
        Notification { model: "churn".into(), ..notification() },
        Notification { rule: "volume".into(), ..notification() },
        Notification { feature: None, ..notification() },
        Notification { segment: Segment { column: "country".into(), value: "IT".into() }, ..notification() },
    ] {
        assert!(state.silenced_by(&other, 1).is_none(), "{other:?}");
    }
}

#[test]
fn an_acknowledgement_holds_until_it_expires_or_is_taken_back() {
    let acknowledge =
        |until_ms| Command::Acknowledge { episode_id: "e".into(), owner: "ada".into(), until_ms, note: None };
    let mut state = ControlState::default();
    state.apply(&record("a", 1, acknowledge(Some(10))));
    assert!(state.acknowledged("e", 9).is_some() && state.acknowledged("e", 10).is_none());
    state.apply(&record("b", 2, acknowledge(None)));
    assert!(state.acknowledged("e", i64::MAX).is_some());
    state.apply(&record("c", 3, Command::Unacknowledge { episode_id: "e".into() }));
    assert!(state.acknowledged("e", 4).is_none());
}

#[test]
fn a_redelivery_is_known_by_its_command() {
    let mut state = ControlState::default();
    let again = Command::Redeliver { notification_id: "e-0".into(), receiver: "hook".into() };
    state.apply(&record("a", 1, again.clone()));
    state.apply(&record("a", 1, again.clone()));
    state.apply(&record("b", 2, again));
    assert_eq!(state.redeliveries("e-0", "hook"), [("a".to_string(), 1), ("b".to_string(), 2)]);
    assert!(state.redeliveries("e-0", "mail").is_empty());
}

#[test]
fn a_record_reads_back_as_written() {
    let written = record("a", 1, silence("fraud", 0, 1));
    let (key, value) = written.encode().unwrap();
    assert_eq!(key, b"a");
    assert_eq!(serde_json::from_slice::<ControlRecord>(&value).unwrap(), written);
}
