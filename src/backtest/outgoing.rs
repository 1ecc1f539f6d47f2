//! What would have been sent: the outbox through dispatch's schedule, with receivers that accept everything at once and
//! the time of the notifications as the clock.

use std::sync::Arc;

use super::trail::{Message, MessageKind, Trail};
use crate::dispatch::receiver::Outcome;
use crate::dispatch::schedule::{Effect, Input, Limits, Schedule};
use crate::rules::RuleSet;
use crate::rules::episode::Notification;

pub(super) fn messages(trail: &Trail, _rules: &Arc<RuleSet>, limits: Limits) -> Vec<Message> {
    let mut schedule = Schedule::new(limits);
    let mut sent = Vec::new();
    for told in &trail.notifications {
        let notification = Arc::new(told.clone());
        let accepted = schedule.step(Input::Notification { notification, partition: 0 }, told.at_ms);
        drop(accepted);
        settle(&mut schedule, told.at_ms, &mut sent);
    }
    sent
}

/// Has every attempt made that is due, until none is.
fn settle(schedule: &mut Schedule, now_ms: i64, sent: &mut Vec<Message>) {
    loop {
        let attempts = schedule.step(Input::Tick, now_ms);
        if attempts.is_empty() {
            return;
        }
        for effect in attempts {
            let Effect::Attempt { key, notification, .. } = effect else { continue };
            sent.push(message(now_ms, &key.receiver, &notification));
            schedule.step(Input::Attempted { key, outcome: Outcome::Delivered { remark: None }, jitter: 0.0 }, now_ms);
        }
    }
}

fn message(at_ms: i64, receiver: &str, notification: &Notification) -> Message {
    Message {
        at_ms,
        receiver: receiver.to_string(),
        kind: MessageKind::News,
        id: notification.id.clone(),
        notifications: vec![notification.id.clone()],
        summary: notification.summary.clone(),
    }
}
