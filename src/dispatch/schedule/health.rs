//! Alerts about the receivers themselves: one that has not answered for a while is told of to its fallback, and told of
//! again once it answers.

use std::sync::Arc;

use super::entry::Entry;
use super::{Effect, Schedule};
use crate::config::rules::Severity;
use crate::dispatch::delivery::{DeliveryKey, DeliveryStatus};
use crate::dispatch::receiver::Telling;
use crate::rules::episode::{EpisodeStatus, Notification};
use crate::windows::result::{Segment, Window};

/// What stands where other notifications have the rule.
pub const RECEIVER_RULE: &str = "receiver-unreachable";
/// What stands where other notifications have the model.
pub const DRIFTLINE: &str = "driftline";

/// The fallback was told that the receiver does not answer.
#[derive(Debug, Clone)]
pub(super) struct Alerted {
    pub notification: Arc<Notification>,
    pub partition: i32,
}

/// A notification that is about no model.
pub(super) fn own_notification(
    id: String,
    episode_id: String,
    summary: String,
    from_ms: i64,
    at_ms: i64,
) -> Notification {
    let window = Window { start_ms: from_ms, end_ms: at_ms };
    Notification {
        id,
        episode_id,
        sequence: 0,
        status: EpisodeStatus::Firing,
        severity: Severity::Critical,
        rule: String::new(),
        model: DRIFTLINE.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        segment: Segment::default(),
        feature: None,
        summary,
        description: None,
        runbook: None,
        findings: Vec::new(),
        reference: String::new(),
        reference_id: String::new(),
        first_window: window,
        window,
        windows_breached: 1,
        windows_considered: 1,
        rows: 0,
        at_ms,
        receivers: Vec::new(),
        actions: Vec::new(),
        suppressed: Default::default(),
    }
}

fn rfc3339(at_ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(at_ms).unwrap_or_default().format("%Y-%m-%d %H:%M UTC").to_string()
}

impl Schedule {
    /// When a receiver that does not answer will be told of.
    pub(super) fn next_receiver_alert_ms(&self) -> Option<i64> {
        let silent =
            self.receivers.iter().filter(|(name, state)| state.alerted.is_none() && self.fallback_of(name).is_some());
        silent.filter_map(|(_, state)| state.breaker.failing_since_ms()).map(|ms| ms + self.limits.alert_after_ms).min()
    }

    fn fallback_of(&self, receiver: &str) -> Option<&String> {
        let fallback = self.policy.receiver(receiver)?.fallback.as_ref()?;
        self.policy.receiver(fallback).map(|_| fallback)
    }

    pub(super) fn watch_receivers(&mut self, now_ms: i64) -> Vec<Effect> {
        let mut news = Vec::new();
        for (name, state) in &self.receivers {
            let since_ms = state.breaker.failing_since_ms();
            match (&state.alerted, since_ms) {
                (None, Some(since_ms)) if now_ms - since_ms >= self.limits.alert_after_ms => {
                    let Some(fallback) = self.fallback_of(name) else { continue };
                    let error = state.breaker.last_error().unwrap_or_default();
                    news.push((name.clone(), fallback.clone(), self.unreachable(name, since_ms, error, now_ms)));
                }
                (Some(alerted), None) if state.breaker.has_succeeded() => {
                    let Some(fallback) = self.fallback_of(name) else { continue };
                    news.push((name.clone(), fallback.clone(), reachable(name, alerted, now_ms)));
                }
                _ => {}
            }
        }
        let mut effects = Vec::new();
        for (name, fallback, alerted) in news {
            let is_end = alerted.notification.status == EpisodeStatus::Resolved;
            let key = DeliveryKey { notification_id: alerted.notification.id.clone(), receiver: fallback };
            let telling = Telling::ReceiverHealth { receiver: name.clone() };
            let entry = Entry::new(alerted.notification.clone(), alerted.partition, telling, now_ms);
            if let Some(state) = self.receivers.get_mut(&name) {
                state.alerted = (!is_end).then_some(alerted);
            }
            if !self.is_known(&key) {
                effects.push(entry.record(&key, DeliveryStatus::Pending, now_ms));
                effects.extend(self.take_up(key, entry, now_ms));
            }
        }
        effects
    }

    fn unreachable(&self, name: &str, since_ms: i64, error: &str, now_ms: i64) -> Alerted {
        let of_receiver = self.lines.entries().filter(|(key, _)| key.receiver == name);
        let partitions: Vec<i32> = of_receiver.map(|(_, entry)| entry.partition).collect();
        let waiting = partitions.len();
        let partition = partitions.first().or(self.owned.first()).copied().unwrap_or(0);
        let plural = if waiting == 1 { "notification waits" } else { "notifications wait" };
        let since = rfc3339(since_ms);
        let summary = format!("receiver {name} has not answered since {since}: {error}; {waiting} {plural} for it");
        let episode_id = format!("receiver-{name}-{since_ms}");
        let mut notification = own_notification(format!("{episode_id}-0"), episode_id, summary, since_ms, now_ms);
        notification.rule = RECEIVER_RULE.into();
        Alerted { notification: Arc::new(notification), partition }
    }
}

fn reachable(name: &str, alerted: &Alerted, now_ms: i64) -> Alerted {
    let began = &alerted.notification;
    let since = rfc3339(began.first_window.start_ms);
    let notification = Notification {
        id: format!("{}-1", began.episode_id),
        sequence: 1,
        status: EpisodeStatus::Resolved,
        summary: format!("receiver {name} answers again; it had not since {since}"),
        window: Window { start_ms: began.first_window.start_ms, end_ms: now_ms },
        at_ms: now_ms,
        ..(**began).clone()
    };
    Alerted { notification: Arc::new(notification), partition: alerted.partition }
}
