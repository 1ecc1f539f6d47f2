//! What people command, as records of the `control` topic: silences, acknowledgements, approvals, another try.
//!
//! The topic has one partition and is read by every process from its beginning, so a command must mean the same however
//! often it is read: each has an `id`, and what it does to a delivery or a run is recorded there with that id. The
//! command line and the API append to it; nobody else does.

use serde::{Deserialize, Serialize};

use crate::config::rules::Matcher;

/// One record, keyed by `id`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
