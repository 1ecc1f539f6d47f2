//! Keeps trials: moves counts into the file beside the registry's state, asks the machine, and carries out what it says.
//!
//! Several processes on one registry share the file under a lock, each in its turn, so the evidence of all of them is in it
//! and each decision is made once. A process that dies loses what it counted since its last turn, at most a second.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::evidence::LabelReport;
use super::machine::{Decision, Outcome, Trial, Verdict};
use crate::config::scorer::traffic::TrafficPolicy;
use crate::scorer::registry::commit::ChangeRequest;
use crate::scorer::registry::state::ServingState;
use crate::scorer::registry::{Registry, RegistryError};
use crate::scorer::traffic::counters::{Counters, Counts};

/// The trial's file, and the lock that is held to write it.
const TRIAL_FILE: &str = "trial.json";
const EXPERIMENT_FILE: &str = "experiment.json";
const LOCK: &str = "trial";
const MAX_FILE_BYTES: u64 = 16 << 20;
/// Who changes the registry, in its audit.
pub const BY: &str = "trial";

/// What a turn came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    pub decision: Decision,
    /// Whether the registry was changed.
    pub changed: bool,
    pub outcome: Option<Outcome>,
}

/// Keeps the trials of one registry.
pub struct Keeper {
    registry: Arc<Registry>,
}

impl Keeper {
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }

    /// One turn for one model; nothing where no trial runs, or another process has its turn just now.
    ///
    /// # Errors
    /// The registry or its disk fails: nothing that was counted is lost, and the next turn tries again.
    pub fn turn(
        &self,
        model: &str,
        policy: &TrafficPolicy,
        counters: &Counters,
        now_ms: i64,
    ) -> Result<Option<Turn>, RegistryError> {
        let Some(_lock) = self.registry.try_lock(model, LOCK)? else { return Ok(None) };
        self.keep_experiment(model, policy, counters)?;
        let state = self.registry.state(model)?;
        let on_trial = Trial::begin(&state);
        // A trial that has ended because of somebody else's change is not begun again by itself.
        let read = self.read(model)?;
        let kept = read
            .filter(|trial| trial.outcome.is_none() || state.canary.as_ref().is_some_and(|canary| trial.is_of(canary)));
        let Some(mut trial) = next_trial(kept, on_trial, &state) else {
            counters.follow(None);
            return Ok(None);
        };
        if trial.outcome.is_some() {
            counters.follow(None);
            return Ok(None);
        }
        counters.follow(Some((&trial.canary, &trial.production)));
        let block = counters.take();
        let Some(decision) = trial.advance(&block, &policy.progressive, &state, now_ms) else { return Ok(None) };
        if let Err(error) = self.write(model, &trial) {
            counters.put_back(&block);
            return Err(error);
        }
        let changed = self.carry_out(model, &decision, &trial, &state, now_ms)?;
        Ok(Some(Turn { decision, changed, outcome: trial.outcome }))
    }

    /// The trial that runs, or the last that ran.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&self, model: &str) -> Result<Option<Trial>, RegistryError> {
        let Some(bytes) = self.registry.read_beside(model, TRIAL_FILE, MAX_FILE_BYTES)? else { return Ok(None) };
        let trial: Trial = serde_json::from_slice(&bytes).map_err(|error| {
            RegistryError::Refused(format!(
                "{TRIAL_FILE} of model {model} cannot be read: {error}; remove it to begin anew"
            ))
        })?;
        Ok(Some(trial))
    }

    /// Takes a report of a metric over labels; it replaces the one before.
    ///
    /// # Errors
    /// No trial runs, or it is of other versions.
    pub fn report_labels(&self, model: &str, versions: (&str, &str), report: LabelReport) -> Result<(), RegistryError> {
        let Some(_lock) = self.registry.try_lock(model, LOCK)? else {
            return Err(RegistryError::Busy(format!("the trial of model {model} is being written: try again")));
        };
        let running = self.read(model)?.filter(|trial| trial.outcome.is_none());
        let Some(mut trial) = running else {
            return Err(RegistryError::Conflict(format!("no trial of model {model} runs")));
        };
        if versions != (trial.canary.as_str(), trial.production.as_str()) {
            return Err(RegistryError::Conflict(format!(
                "the trial of model {model} is of canary {} against production {}, not of {} against {}",
                trial.canary, trial.production, versions.0, versions.1
            )));
        }
        trial.evidence.labels = Some(report);
        self.write(model, &trial)
    }

    /// Counts of the experiment's arms since it began, by experiment.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn experiment(&self, model: &str) -> Result<BTreeMap<String, BTreeMap<String, Counts>>, RegistryError> {
        let Some(bytes) = self.registry.read_beside(model, EXPERIMENT_FILE, MAX_FILE_BYTES)? else {
            return Ok(BTreeMap::new());
        };
        serde_json::from_slice(&bytes).map_err(|error| {
            RegistryError::Refused(format!("{EXPERIMENT_FILE} of model {model} cannot be read: {error}"))
        })
    }

    fn keep_experiment(&self, model: &str, policy: &TrafficPolicy, counters: &Counters) -> Result<(), RegistryError> {
        let taken = counters.take_arms();
        let Some(experiment) = policy.experiment.as_ref().filter(|_| !taken.is_empty()) else { return Ok(()) };
        let written = self.experiment(model).and_then(|mut all| {
            let arms = all.entry(experiment.name.clone()).or_default();
            for (arm, counts) in &taken {
                arms.entry(arm.clone()).or_default().add(counts);
            }
            self.write_json(model, EXPERIMENT_FILE, &all)
        });
        if written.is_err() {
            counters.put_back_arms(&taken);
        }
        written
    }

    fn carry_out(
        &self,
        model: &str,
        decision: &Decision,
        trial: &Trial,
        state: &ServingState,
        now_ms: i64,
    ) -> Result<bool, RegistryError> {
        let Some(change) = decision.change(trial) else { return Ok(false) };
        let request = ChangeRequest {
            change,
            expected_generation: Some(state.generation),
            expected_production: None,
            by: BY.into(),
            reason: shortened(&decision.says),
            request_id: None,
        };
        match self.registry.change(model, &request, now_ms) {
            Ok(_) => Ok(true),
            // Somebody was faster: the next turn sees what they did.
            Err(RegistryError::Conflict(reason)) => {
                tracing::info!(model, verdict = decision.verdict.name(), %reason, "the trial's decision came too late");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn write(&self, model: &str, trial: &Trial) -> Result<(), RegistryError> {
        self.write_json(model, TRIAL_FILE, trial)
    }

    fn write_json(&self, model: &str, name: &str, value: &impl serde::Serialize) -> Result<(), RegistryError> {
        let bytes = serde_json::to_vec(value).map_err(|error| RegistryError::Invalid(error.to_string()))?;
        self.registry.write_beside(model, name, &bytes)
    }
}

/// The trial to go on with: the one that was kept, as long as it has to learn how it ended, else a new one.
fn next_trial(kept: Option<Trial>, begun: Option<Trial>, state: &ServingState) -> Option<Trial> {
    match kept {
        Some(kept) if state.canary.as_ref().is_some_and(|canary| kept.is_of(canary)) => Some(kept),
        // It ended while no turn was taken: it learns that first, unless the next trial is there already.
        Some(kept) if begun.is_none() => Some(kept),
        _ => begun,
    }
}

/// A reason fits into the audit.
fn shortened(text: &str) -> String {
    const MAX_CHARS: usize = 1_000;
    text.chars().take(MAX_CHARS).collect()
}

/// Logs a turn: each decision that changes something, and the rest for those who look for it.
pub fn log(model: &str, turn: &Turn) {
    let Turn { decision, changed, .. } = turn;
    match decision.verdict {
        Verdict::Hold | Verdict::NotDecided => tracing::debug!(model, says = decision.says, "trial"),
        _ => tracing::info!(model, changed, says = decision.says, "trial"),
    }
}
