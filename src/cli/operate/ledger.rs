//! What stands in Driftline's topics, put together: alerts with their notifications, deliveries, states and commands.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Desk, Failure, read};
use crate::config::nearest::nearest;
use crate::config::rules::Severity;
use crate::dispatch::control::{Acknowledgement, ControlRecord, ControlState};
use crate::dispatch::delivery::DeliveryRecord;
use crate::http::metrics::severity_name;
use crate::http::wording;
use crate::rules::RuleState;
use crate::rules::action_request::OutboxRecord;
use crate::rules::episode::{EpisodeStatus, Notification};
use crate::rules::suppression::Suppression;
use crate::windows::result::{Segment, Window};

/// Shortest beginning of an id that is taken for it.
const MIN_PREFIX: usize = 4;

#[derive(Debug, Default)]
pub struct Ledger {
    /// Notifications by sequence, by episode.
    episodes: BTreeMap<String, BTreeMap<u32, Notification>>,
    /// By notification, then receiver.
    deliveries: BTreeMap<String, BTreeMap<String, DeliveryRecord>>,
    states: BTreeMap<String, RuleState>,
    /// In the order in which they were given.
    pub commands: Vec<ControlRecord>,
    /// What they amount to.
    pub control: ControlState,
    /// Records that could not be read, such as those of a newer version.
    pub unreadable: u64,
}

/// One alert, as lists show it.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    pub id: String,
    pub rule: String,
    pub model: String,
    pub version: Option<String>,
    pub segment: Segment,
    pub feature: Option<String>,
    pub severity: Severity,
    pub firing: bool,
    pub first_window: Window,
    /// Of the last notification, epoch milliseconds; `None`: none is held any more.
    pub last_change_ms: Option<i64>,
    pub summary: String,
    pub receivers: Vec<String>,
    pub acknowledged: Option<Acknowledgement>,
    /// Id and reason of the silence that holds back what would be told of it now.
    pub silenced: Option<(String, String)>,
    /// The inhibition or silence of the rules files that keeps it quiet.
    pub suppressed: Option<Suppression>,
}

impl Ledger {
    pub fn read(desk: &Desk<'_>) -> Result<Self, Failure> {
        let mut ledger = Self::default();
        let (log, topics) = (desk.log, &desk.topics);
        let mut unreadable = 0;
        // Deliveries are kept for longer than the outbox, and have the notification in them.
        read::read(log, &topics.deliveries, None, |record| {
            let Some(key) = record.key.and_then(|key| std::str::from_utf8(key).ok()) else { return };
            match record.value.map(serde_json::from_slice::<DeliveryRecord>) {
                Some(Ok(delivery)) => ledger.take_delivery(delivery),
                Some(Err(_)) => unreadable += 1,
                None => ledger.forget_delivery(key),
            }
        })?;
        read::read(log, &topics.outbox, None, |record| match record.value.map(OutboxRecord::decode) {
            Some(Ok(OutboxRecord::Notification(notification))) => ledger.take_notification(*notification),
            Some(Ok(_)) | None => {}
            Some(Err(_)) => unreadable += 1,
        })?;
        read::read(log, &topics.episodes, None, |record| {
            let Some(key) = record.key.and_then(|key| std::str::from_utf8(key).ok()) else { return };
            match record.value.map(serde_json::from_slice::<RuleState>) {
                Some(Ok(state)) => drop(ledger.states.insert(key.to_string(), state)),
                // What rules keep beside the states of their groups.
                Some(Err(_)) => {}
                None => drop(ledger.states.remove(key)),
            }
        })?;
        ledger.read_commands(desk)?;
        ledger.unreadable += unreadable;
        Ok(ledger)
    }

    /// Commands alone.
    pub fn of_commands(desk: &Desk<'_>) -> Result<Self, Failure> {
        let mut ledger = Self::default();
        ledger.read_commands(desk)?;
        Ok(ledger)
    }

    fn read_commands(&mut self, desk: &Desk<'_>) -> Result<(), Failure> {
        read::read(desk.log, &desk.topics.control, None, |record| {
            match record.value.map(serde_json::from_slice::<ControlRecord>) {
                Some(Ok(command)) if self.control.apply(&command) => self.commands.push(command),
                Some(Ok(_)) => {}
                Some(Err(_)) => self.unreadable += 1,
                None => {}
            }
        })
    }

    fn take_notification(&mut self, notification: Notification) {
        let of_episode = self.episodes.entry(notification.episode_id.clone()).or_default();
        of_episode.insert(notification.sequence, notification);
    }

    fn take_delivery(&mut self, delivery: DeliveryRecord) {
        let of_episode = self.episodes.entry(delivery.notification.episode_id.clone()).or_default();
        of_episode.entry(delivery.notification.sequence).or_insert_with(|| delivery.notification.clone());
        let of_notification = self.deliveries.entry(delivery.notification.id.clone()).or_default();
        of_notification.insert(delivery.receiver.clone(), delivery);
    }

    fn forget_delivery(&mut self, key: &str) {
        if let Some((notification, receiver)) = key.split_once('|')
            && let Some(deliveries) = self.deliveries.get_mut(notification)
        {
            deliveries.remove(receiver);
        }
    }

    pub fn notifications(&self, episode_id: &str) -> impl DoubleEndedIterator<Item = &Notification> {
        self.episodes.get(episode_id).into_iter().flat_map(BTreeMap::values)
    }

    /// Where the alert stands.
    pub fn last(&self, episode_id: &str) -> Option<&Notification> {
        self.notifications(episode_id).next_back()
    }

    pub fn all_notifications(&self) -> impl Iterator<Item = &Notification> {
        self.episodes.values().flat_map(BTreeMap::values)
    }

    pub fn deliveries(&self, notification_id: &str) -> impl Iterator<Item = &DeliveryRecord> {
        self.deliveries.get(notification_id).into_iter().flat_map(BTreeMap::values)
    }

    pub fn all_deliveries(&self) -> impl Iterator<Item = &DeliveryRecord> {
        self.deliveries.values().flat_map(BTreeMap::values)
    }

    pub fn states(&self) -> impl Iterator<Item = &RuleState> {
        self.states.values()
    }

    /// The state whose present or last alert is this one.
    pub fn state_of(&self, episode_id: &str) -> Option<&RuleState> {
        self.states.values().find(|state| state.told.as_ref().is_some_and(|told| told.episode_id == episode_id))
    }

    /// Every alert of which anything is held, firing ones first, then the newest change first.
    pub fn alerts(&self, now_ms: i64) -> Vec<Alert> {
        let mut alerts: BTreeMap<String, Alert> = BTreeMap::new();
        for (id, notifications) in &self.episodes {
            if let (Some(first), Some(last)) = (notifications.values().next(), notifications.values().next_back()) {
                let alert = self.alert(id, first, last, now_ms);
                alerts.insert(id.clone(), alert);
            }
        }
        for state in self.states.values() {
            let Some(told) = state.told.as_ref().filter(|told| told.firing) else { continue };
            alerts.entry(told.episode_id.clone()).or_insert_with(|| Alert {
                id: told.episode_id.clone(),
                rule: state.rule.clone(),
                model: state.model.clone(),
                version: state.version.clone(),
                segment: state.segment.clone(),
                feature: state.feature.clone(),
                severity: told.severity,
                firing: true,
                first_window: told.first,
                last_change_ms: None,
                summary: "its notifications are older than the outbox keeps".into(),
                receivers: told.receivers.clone(),
                acknowledged: self.acknowledged(&told.episode_id, now_ms),
                silenced: None,
                suppressed: state.suppressed.clone(),
            });
        }
        let mut alerts: Vec<Alert> = alerts.into_values().collect();
        alerts.sort_by_key(|alert| (!alert.firing, std::cmp::Reverse(alert.last_change_ms), alert.id.clone()));
        alerts
    }

    fn alert(&self, id: &str, first: &Notification, last: &Notification, now_ms: i64) -> Alert {
        Alert {
            id: id.to_string(),
            rule: last.rule.clone(),
            model: last.model.clone(),
            version: Some(last.version.clone()),
            segment: last.segment.clone(),
            feature: last.feature.clone(),
            severity: last.severity,
            firing: last.status == EpisodeStatus::Firing,
            first_window: first.first_window,
            last_change_ms: Some(last.at_ms),
            summary: last.summary.clone(),
            receivers: last.receivers.clone(),
            acknowledged: self.acknowledged(id, now_ms),
            suppressed: self.state_of(id).and_then(|state| state.suppressed.clone()),
            silenced: self
                .control
                .silenced_by(last, now_ms)
                .map(|silence| (silence.id.clone(), silence.reason.clone())),
        }
    }

    fn acknowledged(&self, episode_id: &str, now_ms: i64) -> Option<Acknowledgement> {
        self.control.acknowledged(episode_id, now_ms).cloned()
    }

    /// The alert of this id, or of the only id that begins so.
    pub fn find(&self, wanted: &str, now_ms: i64) -> Result<Alert, Failure> {
        let alerts = self.alerts(now_ms);
        let ids: Vec<&str> = alerts.iter().map(|alert| alert.id.as_str()).collect();
        let id = resolve(wanted, &ids, "alert", "driftline alerts list --status all")?.to_string();
        alerts.into_iter().find(|alert| alert.id == id).ok_or_else(|| Failure::failed("the alert is gone"))
    }
}

/// The one of `known` that is `wanted`, or begins with it; an error tells how to find the right one.
pub fn resolve<'a>(wanted: &str, known: &[&'a str], what: &str, list: &str) -> Result<&'a str, Failure> {
    if let Some(exact) = known.iter().find(|id| **id == wanted) {
        return Ok(exact);
    }
    let begins: Vec<&&str> = known.iter().filter(|id| wanted.len() >= MIN_PREFIX && id.starts_with(wanted)).collect();
    match begins.as_slice() {
        [one] => Ok(one),
        [] => {
            let hint = nearest(wanted, known.iter().copied())
                .map_or_else(String::new, |near| format!("did you mean `{near}`? "));
            Err(Failure::failed(format!("no {what} `{wanted}` is known; {hint}`{list}` lists them")))
        }
        many => {
            let some: Vec<String> = many.iter().take(5).map(|id| format!("`{id}`")).collect();
            Err(Failure::failed(format!(
                "{} {what}s begin with `{wanted}`: {}; write more of it",
                many.len(),
                some.join(", ")
            )))
        }
    }
}

impl Alert {
    /// `fraud@3 country=IT amount`.
    pub fn subject(&self) -> String {
        let mut subject = self.model.clone();
        if let Some(version) = &self.version {
            subject.push_str(&format!("@{version}"));
        }
        if !self.segment.is_all() {
            subject.push_str(&format!(" {}", self.segment));
        }
        if let Some(feature) = &self.feature {
            subject.push_str(&format!(" {feature}"));
        }
        subject
    }

    /// `firing`, `firing, acknowledged by ana until it ends`, `resolved`.
    pub fn status(&self) -> String {
        if !self.firing {
            return "resolved".into();
        }
        let mut status = String::from("firing");
        if let Some(held) = &self.acknowledged {
            status.push_str(&format!(", acknowledged {}", acknowledgement(held)));
        }
        if let Some(suppression) = &self.suppressed {
            status.push_str(&format!(", kept quiet by {} `{}`", suppression.by.word(), suppression.name));
        }
        if let Some((id, reason)) = &self.silenced {
            status.push_str(&format!(", silenced by {id} ({reason})"));
        }
        status
    }

    pub fn json(&self) -> Value {
        json!({
            "episode_id": self.id,
            "rule": self.rule,
            "model": self.model,
            "version": self.version,
            "segment": if self.segment.is_all() { Value::Null } else { json!(self.segment) },
            "feature": self.feature,
            "severity": severity_name(self.severity),
            "firing": self.firing,
            "first_window": self.first_window,
            "last_change_ms": self.last_change_ms,
            "summary": self.summary,
            "receivers": self.receivers,
            "acknowledged": self.acknowledged,
            "suppressed": self.suppressed,
            "silenced_by": self.silenced.as_ref().map(|(id, _)| id),
        })
    }
}

/// `by ana until 2026-03-01 18:00: looking at the feed`.
pub fn acknowledgement(held: &Acknowledgement) -> String {
    let until =
        held.until_ms.map_or_else(|| "until it ends".to_string(), |ms| format!("until {}", wording::minute(ms)));
    let note = held.note.as_ref().map_or_else(String::new, |note| format!(": {note}"));
    format!("by {} {until}{note}", held.owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_known_by_its_beginning_if_that_is_one_alone() {
        let known = ["9f2c41aa", "9f2c99bb", "7700aacc"];
        let of = |wanted: &str| resolve(wanted, &known, "alert", "driftline alerts list");
        assert_eq!(of("7700"), Ok("7700aacc"));
        assert_eq!(of("9f2c41aa"), Ok("9f2c41aa"));
        assert!(of("9f2c").unwrap_err().message.contains("2 alerts begin with"));
        assert!(of("770").unwrap_err().message.contains("no alert `770`"));
        assert!(of("9f2c41ab").unwrap_err().message.contains("did you mean `9f2c41aa`?"));
    }
}
