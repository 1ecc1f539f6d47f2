//! What people command, as records of the `control` topic: silences, acknowledgements, approvals, another try.
//!
//! The topic has one partition and is read by every process from its beginning, so a command must mean the same however
//! often it is read: each has an `id`, and what it does to a delivery or a run is recorded there with that id. The
//! command line and the API append to it; nobody else does.
//!
//! [`ControlState`] is what the records amount to. It is pure: records in their order, and the time as an argument.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::rules::Matcher;
use crate::rules::episode::Notification;
use crate::rules::matching;

/// One record, keyed by `id`.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct ControlRecord {
    /// Random, 16 hexadecimal digits.
    pub id: String,
    /// Wall clock of whoever wrote it, epoch milliseconds.
    pub at_ms: i64,
    /// Who: a user's name.
    pub by: String,
    #[serde(flatten)]
    pub command: Command,
}

#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Notifications that match are held back until `until_ms`; then what still fires is told. `id` names the silence.
    Silence {
        matcher: Matcher,
        from_ms: i64,
        until_ms: i64,
        reason: String,
    },
    ExpireSilence {
        silence: String,
    },
    /// Somebody works on it: it is not told again until `until_ms`, or until it gets worse or ends.
    Acknowledge {
        episode_id: String,
        owner: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until_ms: Option<i64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    Unacknowledge {
        episode_id: String,
    },
    /// Send it again, whatever became of it.
    Redeliver {
        notification_id: String,
        receiver: String,
    },
    /// Of a run of an action that asks.
    Approve {
        run: String,
    },
    Deny {
        run: String,
        reason: String,
    },
    /// How a run ended, from whoever runs it.
    Report {
        run: String,
        succeeded: bool,
        #[serde(default)]
        message: String,
    },
    /// Lets a suspended action run again for this model.
    Resume {
        action: String,
        model: String,
    },
}

impl ControlRecord {
    /// Key and value of its record.
    pub fn encode(&self) -> Result<(Vec<u8>, Vec<u8>), serde_json::Error> {
        Ok((self.id.clone().into_bytes(), serde_json::to_vec(self)?))
    }
}

/// A silence that somebody asked for. It is asked of the wall clock, and holds in [`from_ms`, `until_ms`).
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
pub struct SilenceState {
    pub id: String,
    pub by: String,
    pub at_ms: i64,
    pub matcher: Matcher,
    pub from_ms: i64,
    /// As asked for, or when it was ended before that.
    pub until_ms: i64,
    pub reason: String,
}

impl SilenceState {
    pub fn holds(&self, now_ms: i64) -> bool {
        (self.from_ms..self.until_ms).contains(&now_ms)
    }

    pub fn matches(&self, notification: &Notification) -> bool {
        matching::matches(&self.matcher, notification)
    }
}

/// Who works on an episode.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
pub struct Acknowledgement {
    /// The command's.
    pub id: String,
    pub by: String,
    pub at_ms: i64,
    pub owner: String,
    /// `None`: until it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Acknowledgement {
    pub fn holds(&self, now_ms: i64) -> bool {
        self.until_ms.is_none_or(|until_ms| now_ms < until_ms)
    }
}

/// What silences, acknowledgements and redeliveries amount to. Commands about runs of actions are not kept here: the
/// runs themselves are their record.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ControlState {
    taken: BTreeSet<String>,
    silences: BTreeMap<String, SilenceState>,
    acknowledgements: BTreeMap<String, Acknowledgement>,
    /// Id and time of commands by notification and receiver, in the order in which they came.
    redeliveries: BTreeMap<(String, String), Vec<(String, i64)>>,
}

impl ControlState {
    /// Takes the next record of the topic. False: it was taken before and changed nothing.
    pub fn apply(&mut self, record: &ControlRecord) -> bool {
        if !self.taken.insert(record.id.clone()) {
            return false;
        }
        match &record.command {
            Command::Silence { matcher, from_ms, until_ms, reason } => {
                let silence = SilenceState {
                    id: record.id.clone(),
                    by: record.by.clone(),
                    at_ms: record.at_ms,
                    matcher: matcher.clone(),
                    from_ms: *from_ms,
                    until_ms: *until_ms,
                    reason: reason.clone(),
                };
                self.silences.insert(record.id.clone(), silence);
            }
            Command::ExpireSilence { silence } => {
                if let Some(silence) = self.silences.get_mut(silence) {
                    silence.until_ms = silence.until_ms.min(record.at_ms);
                }
            }
            Command::Acknowledge { episode_id, owner, until_ms, note } => {
                let acknowledgement = Acknowledgement {
                    id: record.id.clone(),
                    by: record.by.clone(),
                    at_ms: record.at_ms,
                    owner: owner.clone(),
                    until_ms: *until_ms,
                    note: note.clone(),
                };
                self.acknowledgements.insert(episode_id.clone(), acknowledgement);
            }
            Command::Unacknowledge { episode_id } => drop(self.acknowledgements.remove(episode_id)),
            Command::Redeliver { notification_id, receiver } => {
                let place = (notification_id.clone(), receiver.clone());
                self.redeliveries.entry(place).or_default().push((record.id.clone(), record.at_ms));
            }
            Command::Approve { .. } | Command::Deny { .. } | Command::Report { .. } | Command::Resume { .. } => {}
        }
        true
    }

    /// The silence that holds this notification back now; of several the one that lasts longest.
    pub fn silenced_by(&self, notification: &Notification, now_ms: i64) -> Option<&SilenceState> {
        let holding = self.silences.values().filter(|silence| silence.holds(now_ms) && silence.matches(notification));
        holding.max_by_key(|silence| silence.until_ms)
    }

    /// Who works on the episode now.
    pub fn acknowledged(&self, episode_id: &str, now_ms: i64) -> Option<&Acknowledgement> {
        self.acknowledgements.get(episode_id).filter(|acknowledgement| acknowledgement.holds(now_ms))
    }

    /// Every silence that is still on record, past ones too, by id.
    pub fn silences(&self) -> impl Iterator<Item = &SilenceState> {
        self.silences.values()
    }

    /// The last acknowledgement of each episode, expired ones too, by episode.
    pub fn acknowledgements(&self) -> impl Iterator<Item = (&str, &Acknowledgement)> {
        self.acknowledgements.iter().map(|(episode_id, acknowledgement)| (episode_id.as_str(), acknowledgement))
    }

    /// Id and time of the commands to send this notification to this receiver again, oldest first.
    pub fn redeliveries(&self, notification_id: &str, receiver: &str) -> &[(String, i64)] {
        self.redeliveries.get(&(notification_id.to_string(), receiver.to_string())).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
