//! Changing which versions serve: one write of `state.json`, by compare-and-swap.
//!
//! Under the model's lock: mend the audit, look at the state, decide, put the new state with its audit entry in place,
//! append the entry. The change is made the moment that `state.json` is renamed; a crash before leaves the old state, one
//! after leaves an entry to append, which the next change does and readers see already.

use super::audit::{self, AUDIT_FILE, Audit, AuditEntry, Served};
use super::beneath::Dir;
use super::change::{Change, ChangeError};
use super::state::{STATE_FILE, ServingState, StateFile};
use super::store::{Registry, RegistryError, VERSIONS};

/// Longest `by`, `reason` and `request_id`, bytes.
const MAX_TEXT_BYTES: usize = 4_096;

/// A change somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeRequest {
    pub change: Change,
    /// The generation the caller has seen; none: whatever is there.
    pub expected_generation: Option<u64>,
    /// The version that must be in production; none: whatever is there.
    pub expected_production: Option<String>,
    pub by: String,
    pub reason: String,
    /// A change that was made under this id is not made again.
    pub request_id: Option<String>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    /// The state now.
    pub state: ServingState,
    /// What had been done before under this request id; nothing was changed this time.
    pub done_before: Option<AuditEntry>,
}

impl Registry {
    /// Makes one change, or none: what serves is the state before or the state after, whenever the process dies.
    ///
    /// # Errors
    /// `Conflict`: the state, the generation or the production version is not as expected. `NotFound`, `Refused`: the
    /// version that would serve is missing or not to be trusted. `Busy`, `Disk`: nothing was changed.
    pub fn change(&self, model: &str, request: &ChangeRequest, now_ms: i64) -> Result<Changed, RegistryError> {
        let dir = self.model_dir(model)?;
        let checked = match self.preview(model, request, now_ms)? {
            Preview::Change { version } => version,
            Preview::Unchanged(unchanged) => return Ok(unchanged),
        };
        // Every byte of the version is read before the lock is taken: that may take seconds.
        if let Some(version) = &checked {
            self.open_version(model, version)?;
        }
        let _lock = self.lock(model, "state")?;
        let before = self.state_file(model, &dir)?;
        let (audit, step) = decide(&dir, &before, request, now_ms)?;
        let (after, version) = match step {
            Step::Change { after, version } => (after, version),
            Step::Note => {
                audit.mend(&dir, &before)?;
                audit::read(&dir)?.append(&dir, &entry(request, &before.state, &before.state, now_ms))?;
                return Ok(Changed { state: before.state, done_before: None });
            }
            step => return Ok(step.unchanged(before.state)),
        };
        still_there(model, &dir, version.as_deref(), checked.as_deref())?;
        audit.mend(&dir, &before)?;
        let entry = entry(request, &before.state, &after, now_ms);
        let file = StateFile { state: after, last_change: Some(entry) };
        let bytes = file.bytes().map_err(RegistryError::Invalid)?;
        dir.replace(STATE_FILE, &bytes)?;
        // The change is made. If its entry cannot be written now, the next change writes it first, and readers have it.
        if let Err(error) = audit::read(&dir).and_then(|audit| audit.mend(&dir, &file)) {
            tracing::warn!(model, "{AUDIT_FILE} will be completed with the next change: {error}");
        }
        Ok(Changed { state: file.state, done_before: None })
    }

    /// What `change` would do if the state stayed as it is; nothing is locked, written or read but the state.
    ///
    /// # Errors
    /// As `change`, but for what is wrong with the version.
    pub fn preview(&self, model: &str, request: &ChangeRequest, now_ms: i64) -> Result<Preview, RegistryError> {
        check_texts(request)?;
        let dir = self.model_dir(model)?;
        let seen = self.state_file(model, &dir)?;
        Ok(match decide(&dir, &seen, request, now_ms)?.1 {
            Step::Change { version, .. } => Preview::Change { version },
            Step::Note => Preview::Change { version: None },
            step => Preview::Unchanged(step.unchanged(seen.state)),
        })
    }

    /// The audit, oldest first: one entry for each generation, and after it the verdicts on versions while it stood.
    ///
    /// # Errors
    /// There is no such model, or the audit cannot be read.
    pub fn audit(&self, model: &str) -> Result<Vec<AuditEntry>, RegistryError> {
        let dir = self.model_dir(model)?;
        // The state first: of a state that comes after the audit was read, two entries could be missing.
        let state = self.state_file(model, &dir)?;
        let mut audit = audit::read(&dir)?;
        audit.complete(&state);
        Ok(audit.entries)
    }
}

/// What a change would do.
// One lives for the length of a request: its size does not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq)]
pub enum Preview {
    /// Nothing: it is so already, or was done before.
    Unchanged(Changed),
    /// The version that would come to serve by it, if one would.
    Change { version: Option<String> },
}

// As above.
#[allow(clippy::large_enum_variant)]
enum Step {
    /// It was done under this request id.
    DoneBefore(AuditEntry),
    /// It is so already.
    Nothing,
    /// It belongs into the audit alone.
    Note,
    Change {
        after: ServingState,
        /// The version that will serve because of it.
        version: Option<String>,
    },
}

impl Step {
    fn unchanged(self, state: ServingState) -> Changed {
        let done_before = if let Self::DoneBefore(entry) = self { Some(entry) } else { None };
        Changed { state, done_before }
    }
}

fn decide(dir: &Dir, file: &StateFile, request: &ChangeRequest, now_ms: i64) -> Result<(Audit, Step), RegistryError> {
    let audit = audit::read(dir)?;
    if let Some(done) = audit.done_before(file, request)? {
        return Ok((audit, Step::DoneBefore(done)));
    }
    expect(&file.state, request)?;
    let step = match request.change.apply(&file.state, now_ms)? {
        None if request.change.is_note() => Step::Note,
        None => Step::Nothing,
        Some(after) => Step::Change { after, version: request.change.version(&file.state).map(str::to_string) },
    };
    Ok((audit, step))
}

fn entry(request: &ChangeRequest, before: &ServingState, after: &ServingState, now_ms: i64) -> AuditEntry {
    AuditEntry {
        generation: after.generation,
        at_ms: now_ms,
        by: request.by.clone(),
        what: request.change.clone(),
        from: Served::from(before),
        to: Served::from(after),
        reason: request.reason.clone(),
        request_id: request.request_id.clone(),
    }
}

/// Under the lock, which also holds off removal: the version that was checked is the one that will serve.
fn still_there(model: &str, dir: &Dir, version: Option<&str>, checked: Option<&str>) -> Result<(), RegistryError> {
    let Some(version) = version else { return Ok(()) };
    if checked != Some(version) {
        return Err(RegistryError::Conflict(format!(
            "the state of model {model} changed while version {version} was looked at: try again"
        )));
    }
    match dir.dir(VERSIONS)?.has(version)? {
        true => Ok(()),
        false => Err(RegistryError::NotFound(format!("model {model} has no version {version}"))),
    }
}

impl From<ChangeError> for RegistryError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Conflict(reason) => Self::Conflict(reason),
            ChangeError::Invalid(reason) => Self::Invalid(reason),
        }
    }
}

fn expect(state: &ServingState, request: &ChangeRequest) -> Result<(), RegistryError> {
    if let Some(expected) = request.expected_generation.filter(|expected| *expected != state.generation) {
        return Err(RegistryError::Conflict(format!(
            "the state is at generation {}, not {expected}: it was changed meanwhile, and nothing was changed now",
            state.generation
        )));
    }
    match (&request.expected_production, &state.production) {
        (Some(expected), Some(production)) if expected != production => Err(RegistryError::Conflict(format!(
            "version {production} is in production, not {expected}: nothing was changed"
        ))),
        (Some(expected), None) => Err(RegistryError::Conflict(format!(
            "nothing is in production, where {expected} is expected: nothing was changed"
        ))),
        _ => Ok(()),
    }
}

fn check_texts(request: &ChangeRequest) -> Result<(), RegistryError> {
    let request_id = request.request_id.as_deref().unwrap_or("-");
    for (what, text) in [("by", request.by.as_str()), ("reason", &request.reason), ("request id", request_id)] {
        if text.len() > MAX_TEXT_BYTES {
            let reason = format!("`{what}` has {} bytes, at most {MAX_TEXT_BYTES} are allowed", text.len());
            return Err(RegistryError::Invalid(reason));
        }
    }
    if request_id.is_empty() {
        return Err(RegistryError::Invalid("the request id is empty: leave it out, or give one".into()));
    }
    Ok(())
}
