//! What would have been sent: the outbox through dispatch's schedule, with receivers that accept everything at once and
//! the time of the notifications as the clock.

use std::sync::Arc;

use super::trail::{Message, MessageKind, Trail};
use crate::dispatch::receiver::{Outcome, Telling};
use crate::dispatch::schedule::{Effect, Input, Limits, Parcel, Policy, Schedule};
use crate::rules::RuleSet;

/// Messages up to the last event, and the digests that were being collected then.
pub(super) fn messages(trail: &Trail, rules: &Arc<RuleSet>, limits: Limits) -> Vec<Message> {
    let mut schedule = Schedule::new(limits, Arc::new(Policy::new(rules)));
    let mut sent = Vec::new();
    for told in &trail.notifications {
        pass_time(&mut schedule, told.at_ms, &mut sent);
        let notification = Arc::new(told.clone());
        schedule.step(Input::Notification { notification, partition: 0 }, told.at_ms);
        settle(&mut schedule, told.at_ms, &mut sent);
    }
    let last = trail.notifications.iter().map(|told| told.at_ms);
    if let Some(end_ms) = trail.spans.values().map(|(_, end_ms)| *end_ms).chain(last).max() {
        pass_time(&mut schedule, end_ms, &mut sent);
        if let Some(seal_ms) = schedule.next_digest_ms() {
            settle(&mut schedule, seal_ms.max(end_ms), &mut sent);
        }
    }
    sent
}

/// Whatever falls due before `until_ms`: reminders, digests, what a limit of messages held back.
fn pass_time(schedule: &mut Schedule, until_ms: i64, sent: &mut Vec<Message>) {
    while let Some(due_ms) = schedule.next_due_ms().filter(|due_ms| *due_ms < until_ms) {
        let before = sent.len();
        settle(schedule, due_ms, sent);
        if sent.len() == before && schedule.next_due_ms() == Some(due_ms) {
            return; // nothing comes of it
        }
    }
}

/// Has every attempt made that is due, until none is.
fn settle(schedule: &mut Schedule, now_ms: i64, sent: &mut Vec<Message>) {
    loop {
        schedule.step(Input::Plan, now_ms);
        let attempts = schedule.step(Input::Tick, now_ms);
        if attempts.is_empty() {
            return;
        }
        for effect in attempts {
            let Effect::Attempt { key, parcel, telling, .. } = effect else { continue };
            sent.push(message(now_ms, &key.receiver, &key.notification_id, &parcel, &telling));
            schedule.step(Input::Attempted { key, outcome: Outcome::Delivered { remark: None }, jitter: 0.0 }, now_ms);
        }
    }
}

fn message(at_ms: i64, receiver: &str, id: &str, parcel: &Parcel, telling: &Telling) -> Message {
    let (kind, notifications, summary) = match parcel {
        Parcel::One(notification) => {
            let reminds = matches!(telling, Telling::Reminder { .. });
            let kind = if reminds { MessageKind::Reminder } else { MessageKind::News };
            (kind, vec![notification.id.clone()], notification.summary.clone())
        }
        Parcel::Digest(digest) => {
            let ids: Vec<String> = digest.notifications.iter().map(|told| told.id.clone()).collect();
            let summary = format!("{} notifications", ids.len());
            (MessageKind::Digest, ids, summary)
        }
    };
    Message { at_ms, receiver: receiver.to_string(), kind, id: id.to_string(), notifications, summary }
}
