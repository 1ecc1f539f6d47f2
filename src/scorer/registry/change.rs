//! What can be changed about which versions serve: a function of the state before, the change and the time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::state::{Canary, ServingState};

/// All of the traffic, in the steps that a canary's share is counted in.
pub const ALL_BUCKETS: u32 = 10_000;

/// Versions remembered as rolled back, the newest last.
const MAX_REJECTED: usize = 1_000;

/// One change of one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "change", rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// Into production; what was there becomes `previous`.
    Promote {
        version: String,
        /// Even if it was rolled back before.
        #[serde(default)]
        force: bool,
    },
    /// Back to another version. What was in production becomes `previous`, and is rejected.
    Rollback {
        to: RollbackTo,
        /// What must be in production; another version there is a conflict.
        production: String,
    },
    /// Gives a version a share of the traffic, or changes it.
    SetCanary {
        version: String,
        /// Share in steps of 1/10 000.
        buckets: u32,
        /// Part of the hash that assigns entities; none: that of the canary that runs, else the version's name.
        #[serde(default)]
        salt: Option<String>,
        /// Step of a progressive rollout; none: the share stays as it is set.
        #[serde(default)]
        step: Option<u32>,
        /// Even if it was rolled back before.
        #[serde(default)]
        force: bool,
    },
    /// Another share for the canary that runs, which must be `version`.
    StepCanary {
        version: String,
        buckets: u32,
        step: u32,
    },
    /// Ends the canary that runs, which must be `version` if that is given.
    ClearCanary {
        #[serde(default)]
        version: Option<String>,
        /// It has failed: it is not promoted any more without force.
        #[serde(default)]
        reject: bool,
    },
    /// Scores a version beside production, without answering.
    SetShadow {
        version: String,
    },
    ClearShadow,
    /// Keeps in the audit what `driftline gate` found of a version; what serves, and the generation, stay.
    Verdict {
        version: String,
        /// What it was compared with; none: nothing.
        #[serde(default)]
        against: Option<String>,
        outcome: GateOutcome,
        /// SHA-256 of the report in JSON; none: the version was refused before it was measured.
        #[serde(default)]
        report_sha256: Option<String>,
    },
}

/// What a gate can find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GateOutcome {
    Pass,
    /// Too little data to say, or the version could not be judged.
    Undecided,
    Refused,
}

/// Where a rollback goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RollbackTo {
    /// The version before.
    LastGood,
    Version(String),
}

impl RollbackTo {
    /// As the admin API and the command line write it: `last_good`, or a version.
    pub fn parse(text: &str) -> Self {
        if text == "last_good" { Self::LastGood } else { Self::Version(text.to_string()) }
    }
}

/// Why a change cannot be made to this state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The state is not what the caller takes it for: look again.
    #[error("{0}")]
    Conflict(String),
    /// It makes no sense whatever the state.
    #[error("{0}")]
    Invalid(String),
}

fn conflict(reason: impl Into<String>) -> ChangeError {
    ChangeError::Conflict(reason.into())
}

impl Change {
    /// For the audit and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Promote { .. } => "promote",
            Self::Rollback { .. } => "rollback",
            Self::SetCanary { .. } => "set_canary",
            Self::StepCanary { .. } => "step_canary",
            Self::ClearCanary { .. } => "clear_canary",
            Self::SetShadow { .. } => "set_shadow",
            Self::ClearShadow => "clear_shadow",
            Self::Verdict { .. } => "verdict",
        }
    }

    /// The version that will serve because of it.
    pub fn version<'a>(&'a self, state: &'a ServingState) -> Option<&'a str> {
        match self {
            Self::Promote { version, .. }
            | Self::SetCanary { version, .. }
            | Self::StepCanary { version, .. }
            | Self::SetShadow { version } => Some(version),
            Self::Rollback { to: RollbackTo::Version(version), .. } => Some(version),
            Self::Rollback { to: RollbackTo::LastGood, .. } => state.previous.as_deref(),
            Self::ClearCanary { .. } | Self::ClearShadow | Self::Verdict { .. } => None,
        }
    }

    /// Whether it is put into the audit and changes nothing else.
    pub const fn is_note(&self) -> bool {
        matches!(self, Self::Verdict { .. })
    }

    /// The state after; `None` if it is so already.
    ///
    /// # Errors
    /// The state does not allow it.
    pub fn apply(&self, state: &ServingState, now_ms: i64) -> Result<Option<ServingState>, ChangeError> {
        let mut next = state.clone();
        match self {
            Self::Promote { version, force } => promote(&mut next, version, *force, now_ms)?,
            Self::Rollback { to, production } => roll_back(&mut next, to, production, now_ms)?,
            Self::SetCanary { version, buckets, salt, step, force } => {
                let share = Share { version, buckets: *buckets, salt: salt.as_deref(), step: *step };
                set_canary(&mut next, &share, *force, now_ms)?;
            }
            Self::StepCanary { version, buckets, step } => {
                if next.canary.as_ref().is_none_or(|canary| canary.version != *version) {
                    return Err(not_the_canary(state, version));
                }
                let share = Share { version, buckets: *buckets, salt: None, step: Some(*step) };
                set_canary(&mut next, &share, false, now_ms)?;
            }
            Self::ClearCanary { version, reject } => clear_canary(&mut next, version.as_deref(), *reject)?,
            Self::SetShadow { version } => set_shadow(&mut next, version)?,
            Self::ClearShadow => next.shadow = None,
            Self::Verdict { .. } => {}
        }
        if next == *state {
            return Ok(None);
        }
        next.generation = state.generation.saturating_add(1);
        Ok(Some(next))
    }
}

fn promote(next: &mut ServingState, version: &str, force: bool, now_ms: i64) -> Result<(), ChangeError> {
    if next.production.as_deref() == Some(version) {
        return Ok(());
    }
    allow(next, version, force)?;
    if let Some(before) = next.production.take() {
        next.previous = Some(before);
    }
    put_in_production(next, version, now_ms);
    Ok(())
}

fn roll_back(next: &mut ServingState, to: &RollbackTo, production: &str, now_ms: i64) -> Result<(), ChangeError> {
    match next.production.as_deref() {
        Some(current) if current == production => {}
        Some(current) => {
            return Err(conflict(format!(
                "version {current} is in production, not {production}: nothing is rolled back"
            )));
        }
        None => return Err(conflict("nothing is in production, so nothing can be rolled back")),
    }
    let target = match to {
        RollbackTo::Version(version) if version == production => {
            return Err(ChangeError::Invalid(format!(
                "version {version} is in production: name another to go back to"
            )));
        }
        RollbackTo::Version(version) => version.clone(),
        RollbackTo::LastGood => next
            .previous
            .clone()
            .ok_or_else(|| conflict("no version was in production before: name one to go back to"))?,
    };
    if next.rejected.contains(&target) {
        return Err(conflict(format!(
            "version {target} was rolled back itself: name another, or promote it with force"
        )));
    }
    next.previous = Some(production.to_string());
    reject(next, production);
    put_in_production(next, &target, now_ms);
    Ok(())
}

fn put_in_production(next: &mut ServingState, version: &str, now_ms: i64) {
    if next.previous.as_deref() == Some(version) {
        next.previous = None;
    }
    if next.canary.as_ref().is_some_and(|canary| canary.version == version) {
        next.canary = None;
    }
    if next.shadow.as_deref() == Some(version) {
        next.shadow = None;
    }
    next.production = Some(version.to_string());
    next.promoted_at_ms = Some(now_ms);
}

struct Share<'a> {
    version: &'a str,
    buckets: u32,
    salt: Option<&'a str>,
    step: Option<u32>,
}

fn set_canary(next: &mut ServingState, share: &Share<'_>, force: bool, now_ms: i64) -> Result<(), ChangeError> {
    let Share { version, buckets, salt, step } = *share;
    if buckets > ALL_BUCKETS {
        return Err(ChangeError::Invalid(format!("a share of {buckets} buckets: there are {ALL_BUCKETS}")));
    }
    match next.production.as_deref() {
        None => {
            return Err(conflict("nothing is in production that a canary could be compared with: promote one first"));
        }
        Some(production) if production == version => {
            return Err(conflict(format!("version {version} is in production: it cannot be its own canary")));
        }
        Some(_) => {}
    }
    allow(next, version, force)?;
    let running = next.canary.take().filter(|canary| canary.version == version);
    let salt = salt.or_else(|| running.as_ref().map(|canary| canary.salt.as_str())).unwrap_or(version).to_string();
    let same_share = running.as_ref().filter(|canary| (canary.buckets, canary.step) == (buckets, step));
    next.canary = Some(Canary {
        version: version.to_string(),
        buckets,
        step,
        started_at_ms: running.as_ref().map_or(now_ms, |canary| canary.started_at_ms),
        step_at_ms: same_share.filter(|canary| canary.salt == salt).map_or(now_ms, |canary| canary.step_at_ms),
        salt,
    });
    if next.shadow.as_deref() == Some(version) {
        next.shadow = None;
    }
    Ok(())
}

fn clear_canary(next: &mut ServingState, version: Option<&str>, rejected: bool) -> Result<(), ChangeError> {
    let Some(canary) = next.canary.take() else {
        return match version {
            Some(version) => Err(conflict(format!("no canary runs, so {version} cannot be taken from it"))),
            None => Ok(()),
        };
    };
    if let Some(version) = version.filter(|version| *version != canary.version) {
        return Err(conflict(format!("version {} is the canary, not {version}", canary.version)));
    }
    if rejected {
        reject(next, &canary.version);
    }
    Ok(())
}

fn set_shadow(next: &mut ServingState, version: &str) -> Result<(), ChangeError> {
    let serves = |other: Option<&str>| other == Some(version);
    if serves(next.production.as_deref()) || serves(next.canary.as_ref().map(|canary| canary.version.as_str())) {
        return Err(conflict(format!("version {version} answers requests already: it cannot be a shadow as well")));
    }
    next.shadow = Some(version.to_string());
    Ok(())
}

fn allow(next: &mut ServingState, version: &str, force: bool) -> Result<(), ChangeError> {
    if next.rejected.iter().any(|rejected| rejected == version) {
        if !force {
            return Err(conflict(format!("version {version} was rolled back: it serves again only with force")));
        }
        next.rejected.retain(|rejected| rejected != version);
    }
    Ok(())
}

fn reject(next: &mut ServingState, version: &str) {
    next.rejected.retain(|rejected| rejected != version);
    next.rejected.push(version.to_string());
    if next.rejected.len() > MAX_REJECTED {
        next.rejected.remove(0);
    }
}

fn not_the_canary(state: &ServingState, version: &str) -> ChangeError {
    match &state.canary {
        Some(canary) => conflict(format!("version {} is the canary, not {version}", canary.version)),
        None => conflict(format!("no canary runs, so the share of {version} cannot change")),
    }
}
