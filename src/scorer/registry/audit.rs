//! `audit.jsonl`: one line for each generation of a model's state, and for each verdict of the gate, for good.
//!
//! The state is the truth, the audit follows it. `state.json` carries the entry of its own generation, and is in place
//! before the entry is appended; whoever changes the state next appends first what is missing. So at most the newest
//! entry is missing or torn, and a reader takes it from the state: each generation has one entry at any moment. A verdict
//! has the generation that it found; it counts once its line is whole.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::beneath::Dir;
use super::change::Change;
use super::commit::ChangeRequest;
use super::state::{ServingState, StateFile};
use super::store::RegistryError;

pub(super) const AUDIT_FILE: &str = "audit.jsonl";
/// Longest audit that is read, bytes: some 100 000 changes.
const MAX_AUDIT_BYTES: u64 = 64 << 20;

/// One change that was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditEntry {
    /// The generation that came of it; of a verdict, the one that stood.
    pub generation: u64,
    pub at_ms: i64,
    /// Who: a token's name, a user of the command line, a part of the scorer.
    pub by: String,
    pub what: Change,
    pub from: Served,
    pub to: Served,
    pub reason: String,
    /// The caller's key: a change with the same key is not made twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// Which versions served.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Served {
    pub production: Option<String>,
    pub previous: Option<String>,
    pub canary: Option<String>,
    /// The canary's share in steps of 1/10 000; 0 without one.
    pub canary_buckets: u32,
    pub shadow: Option<String>,
}

impl From<&ServingState> for Served {
    fn from(state: &ServingState) -> Self {
        Self {
            production: state.production.clone(),
            previous: state.previous.clone(),
            canary: state.canary.as_ref().map(|canary| canary.version.clone()),
            canary_buckets: state.canary.as_ref().map_or(0, |canary| canary.buckets),
            shadow: state.shadow.clone(),
        }
    }
}

/// The file as it was read.
pub(super) struct Audit {
    /// Of its whole lines, oldest first.
    pub(super) entries: Vec<AuditEntry>,
    /// Length of its whole lines, bytes: what comes after is torn.
    whole_bytes: u64,
    is_torn: bool,
}

pub(super) fn read(dir: &Dir) -> Result<Audit, RegistryError> {
    let bytes = dir.read_if_there(AUDIT_FILE, MAX_AUDIT_BYTES)?.unwrap_or_default();
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let (lines, torn) = bytes.split_at(whole);
    let mut entries: Vec<AuditEntry> = Vec::new();
    for (number, line) in lines.split(|&byte| byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        let entry = serde_json::from_slice(line).map_err(|error| {
            let shown = dir.shown().join(AUDIT_FILE);
            RegistryError::Refused(format!("{} line {} cannot be read: {error}", shown.display(), number + 1))
        })?;
        entries.push(entry);
    }
    Ok(Audit { entries, whole_bytes: whole as u64, is_torn: !torn.is_empty() })
}

impl Audit {
    /// Adds the newest entry where only the state has it.
    pub(super) fn complete(&mut self, state: &StateFile) {
        if let Some(missing) = self.missing(state) {
            self.entries.push(missing.clone());
        }
    }

    /// Brings the file up to the state: a torn line goes, a missing entry comes.
    pub(super) fn mend(&self, dir: &Dir, state: &StateFile) -> Result<(), RegistryError> {
        let line = self.missing(state).map(line).transpose()?.unwrap_or_default();
        if self.is_torn || !line.is_empty() {
            dir.append_at(AUDIT_FILE, self.whole_bytes, &line)?;
        }
        Ok(())
    }

    /// Adds an entry that no state carries, to a file that was mended.
    pub(super) fn append(&self, dir: &Dir, entry: &AuditEntry) -> Result<(), RegistryError> {
        Ok(dir.append_at(AUDIT_FILE, self.whole_bytes, &line(entry)?)?)
    }

    fn missing<'a>(&self, state: &'a StateFile) -> Option<&'a AuditEntry> {
        let written = self.entries.last().map_or(0, |entry| entry.generation);
        state.last_change.as_ref().filter(|entry| entry.generation > written)
    }

    /// What was done under the request's id.
    ///
    /// # Errors
    /// Something else was done under it.
    pub(super) fn done_before(
        &self,
        state: &StateFile,
        request: &ChangeRequest,
    ) -> Result<Option<AuditEntry>, RegistryError> {
        let Some(request_id) = &request.request_id else { return Ok(None) };
        let known = self.entries.iter().chain(&state.last_change);
        let Some(done) = known.rev().find(|entry| entry.request_id.as_ref() == Some(request_id)) else {
            return Ok(None);
        };
        if done.what != request.change {
            return Err(RegistryError::Conflict(format!(
                "request id {request_id} was used for another change, which made generation {}: nothing was changed now",
                done.generation
            )));
        }
        Ok(Some(done.clone()))
    }
}

fn line(entry: &AuditEntry) -> Result<Vec<u8>, RegistryError> {
    let mut line = serde_json::to_vec(entry).map_err(|error| RegistryError::Invalid(error.to_string()))?;
    line.push(b'\n');
    Ok(line)
}
