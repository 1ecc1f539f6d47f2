//! One run of an action, as it stands in the compacted `actions` topic.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::manifest::Manifest;
use crate::rules::action_request::ActionRequest;

/// Transitions kept in a record: the first, and the last ones.
const MAX_HISTORY: usize = 50;

/// Where a run stands. What follows what: `requested`, then any of those that wait (`blocked`, `suspended`,
/// `awaiting_confirmation`) in any order, then `calling`, `accepted` and one of `succeeded` and `failed`. A run that waits
/// can also end as `dry_run`, `denied` or `lapsed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// A rule has asked for it; not yet decided.
    Requested,
    /// A guard, the cooldown or the budget does not allow it; it goes ahead once they do, while the alert fires.
    Blocked,
    /// The last runs did not help; a person must resume the action.
    Suspended,
    /// A person must approve it.
    AwaitingConfirmation,
    /// The target is called, again until it answers.
    Calling,
    /// The target has taken it and works on it.
    Accepted,
    Succeeded,
    Failed,
    /// Everything allowed it, but the action calls nothing.
    DryRun,
    /// A person said no.
    Denied,
    /// The alert ended, or nobody confirmed, before it could run.
    Lapsed,
}

impl RunState {
    pub const ALL: [RunState; 11] = [
        RunState::Requested,
        RunState::Blocked,
        RunState::Suspended,
        RunState::AwaitingConfirmation,
        RunState::Calling,
        RunState::Accepted,
        RunState::Succeeded,
        RunState::Failed,
        RunState::DryRun,
        RunState::Denied,
        RunState::Lapsed,
    ];

    /// As in records, metrics and the API.
    pub fn word(self) -> &'static str {
        match self {
            RunState::Requested => "requested",
            RunState::Blocked => "blocked",
            RunState::Suspended => "suspended",
            RunState::AwaitingConfirmation => "awaiting_confirmation",
            RunState::Calling => "calling",
            RunState::Accepted => "accepted",
            RunState::Succeeded => "succeeded",
            RunState::Failed => "failed",
            RunState::DryRun => "dry_run",
            RunState::Denied => "denied",
            RunState::Lapsed => "lapsed",
        }
    }

    /// Whether a run in this state can still be called.
    pub fn is_waiting(self) -> bool {
        matches!(self, RunState::Requested | RunState::Blocked | RunState::Suspended | RunState::AwaitingConfirmation)
    }

    /// Whether nothing more happens to a run in this state.
    pub fn is_final(self) -> bool {
        !self.is_waiting() && !matches!(self, RunState::Calling | RunState::Accepted)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Transition {
    pub state: RunState,
    /// Wall clock, epoch milliseconds.
    pub at_ms: i64,
    /// Why, for people; empty where the state says it all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Something that must hold before a run goes ahead, and does not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Unmet {
    /// As in the rules file: `new_rows`, `cooldown`.
    pub guard: String,
    pub wanted: String,
    pub found: String,
}

impl std::fmt::Display for Unmet {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} is {}, wanted {}", self.guard, self.found, self.wanted)
    }
}

/// What the target calls the run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct External {
    /// Its id there; asked for how it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its page, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// What a rollback expects to find: the scorer refuses it if the registry has changed since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Expected {
    pub production: String,
    pub generation: u64,
}

/// One record of the `actions` topic, keyed by `run`. Times are epoch milliseconds of the wall clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Hash of action, model, version and episode: one run for each, and its idempotency key.
    pub run: String,
    pub action: String,
    pub state: RunState,
    /// The newest request that was read while the run waited: what was decided on.
    pub request: ActionRequest,
    /// Oldest first; never empty.
    pub history: Vec<Transition>,
    /// Of a blocked run: everything that does not hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unmet: Vec<Unmet>,
    /// Counts every change of the record, so that the newest of several is known.
    #[serde(default)]
    pub revision: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
    /// Ids of the commands that it has obeyed: one that is read again changes nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub obeyed: Vec<String>,
    /// When it was decided that it goes ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at_ms: Option<i64>,
    /// When it succeeded, failed or ended otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at_ms: Option<i64>,
    /// Calls whose outcome is known.
    #[serde(default)]
    pub attempts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When it is called, or asked how it goes, next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_ms: Option<i64>,
    /// What the target is given, the same at every call; absent before it goes ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Manifest>,
    /// Of a rollback that goes ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expected>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<External>,
    /// When the alert that asked ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub episode_ended_at_ms: Option<i64>,
    /// Whether the run did what it was for, once that is known; see docs/retraining.md.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helped: Option<bool>,
    /// A person has resumed the action since: whether it helped no longer counts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forgiven: bool,
}

impl RunRecord {
    pub fn new(request: ActionRequest, now_ms: i64) -> Self {
        let reason = format!("asked for by {}", request.rule);
        Self {
            run: run_id(&request),
            action: request.action.clone(),
            state: RunState::Requested,
            request,
            history: vec![Transition { state: RunState::Requested, at_ms: now_ms, reason }],
            unmet: Vec::new(),
            revision: 0,
            dry_run: false,
            approved_by: None,
            obeyed: Vec::new(),
            started_at_ms: None,
            ended_at_ms: None,
            attempts: 0,
            last_error: None,
            next_attempt_ms: None,
            manifest: None,
            expected: None,
            external: None,
            episode_ended_at_ms: None,
            helped: None,
            forgiven: false,
        }
    }

    /// Reads the value of a record of the `actions` topic.
    pub fn decode(value: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(value)
    }

    /// Key and value of its record.
    pub fn encode(&self) -> Result<(Vec<u8>, Vec<u8>), serde_json::Error> {
        Ok((self.run.clone().into_bytes(), serde_json::to_vec(self)?))
    }

    /// Its name on the other side: a DNS label of 42 characters.
    pub fn name(&self) -> String {
        format!("driftline-{}", self.run)
    }

    /// When it came into the state that it is in.
    pub fn since_ms(&self) -> i64 {
        self.history.last().map_or(0, |transition| transition.at_ms)
    }

    /// Why it is in the state that it is in; empty where the state says it all.
    pub fn reason(&self) -> &str {
        self.history.last().map_or("", |transition| transition.reason.as_str())
    }

    pub fn requested_at_ms(&self) -> i64 {
        self.history.first().map_or(0, |transition| transition.at_ms)
    }

    /// Notes a change of state. The same state again replaces its reason and keeps its time.
    pub fn enter(&mut self, state: RunState, reason: impl Into<String>, now_ms: i64) {
        let reason = reason.into();
        match self.history.last_mut().filter(|last| last.state == state) {
            Some(last) => last.reason = reason,
            None => self.history.push(Transition { state, at_ms: now_ms, reason }),
        }
        if self.history.len() > MAX_HISTORY {
            self.history.remove(1);
        }
        self.state = state;
        if state != RunState::Blocked {
            self.unmet.clear();
        }
        if state.is_final() {
            self.ended_at_ms = Some(now_ms);
            self.next_attempt_ms = None;
        }
    }
}

/// First 32 hexadecimal digits of the SHA-256 of action, model, version and episode.
pub fn run_id(request: &ActionRequest) -> String {
    let parts = [&request.action, &request.model, &request.version, &request.episode_id];
    let mut digest = Sha256::new();
    for part in parts {
        // With its length before it, no two lists of parts are the same bytes.
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    }
    digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::guard::tests::request;
    use super::*;

    #[test]
    fn a_run_is_named_by_action_model_version_and_episode_alone() {
        let base = request("retrain", "e1");
        let later = ActionRequest { at_ms: 5, summary: "other".into(), ..base.clone() };
        assert_eq!(run_id(&base), run_id(&later));
        assert_eq!(run_id(&base).len(), 32);
        for other in [
            ActionRequest { action: "rollback".into(), ..base.clone() },
            ActionRequest { model: "loans".into(), ..base.clone() },
            ActionRequest { version: "4".into(), ..base.clone() },
            ActionRequest { episode_id: "e2".into(), ..base.clone() },
            ActionRequest { model: "fraud3".into(), version: "".into(), ..base.clone() },
        ] {
            assert_ne!(run_id(&base), run_id(&other));
        }
    }

    #[test]
    fn a_name_is_a_dns_label() {
        let name = RunRecord::new(request("Retrain Fraud!", "e1"), 0).name();
        assert!(name.len() <= 63 && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
    }

    #[test]
    fn history_keeps_the_first_and_the_last() {
        let mut run = RunRecord::new(request("retrain", "e1"), 1);
        for at_ms in 2..200 {
            run.enter(if at_ms % 2 == 0 { RunState::Blocked } else { RunState::Suspended }, "", at_ms);
        }
        assert_eq!((run.history.len(), run.requested_at_ms(), run.since_ms()), (MAX_HISTORY, 1, 199));
    }
}
