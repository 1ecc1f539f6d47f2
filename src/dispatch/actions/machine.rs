//! What becomes of every run: a pure state machine, `(state, input, now) -> effects`.
//!
//! What it keeps:
//! 1. One run for each action, model, version and episode, however often it is asked for.
//! 2. No two runs of one action for one model start within its cooldown, and no more runs of it than its budget.
//! 3. A target is called only for a run whose record says so: `Decide` writes records, and only `Tick`, which comes once
//!    they are durable, calls.
//! 4. A run that waits ends with its episode.
//!
//! Dry runs and real ones are counted apart, so that an action that has only been tried is not held back by that.

mod decide;

use std::collections::{BTreeMap, BTreeSet};

use super::guard::{DAY_MS, Registry};
use super::manifest::DEFAULT_TRAINING_DATA_MS;
use super::run::{RunRecord, RunState, Unmet, run_id};
use super::target::{CallOutcome, Progress};
use crate::config::action_guards::Guards;
use crate::config::actions::Action;
use crate::config::units::Span;
use crate::dispatch::control::{Command, ControlRecord};
use crate::rules::action_request::ActionRequest;

/// Runs in a row that did not help after which an action is suspended, unless it says otherwise.
pub const DEFAULT_SUSPEND_AFTER: u32 = 3;
/// How long a run may take, unless its action says otherwise.
pub const DEFAULT_TIMEOUT: Span = Span::from_days(1);
/// How long finished runs are kept.
const KEEP_MS: i64 = 90 * DAY_MS;
/// Longest error text kept in a record, in characters.
const MAX_ERROR_CHARS: usize = 500;

/// Waiting times in milliseconds, and the limit on what is done at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub first_retry_ms: i64,
    pub max_retry_ms: i64,
    /// Between two questions how an accepted run goes.
    pub progress_ms: i64,
    pub max_in_flight: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { first_retry_ms: 1_000, max_retry_ms: 300_000, progress_ms: 30_000, max_in_flight: 8 }
    }
}

#[derive(Debug, Clone)]
pub enum Input {
    Request(Box<ActionRequest>),
    EpisodeEnded {
        episode_id: String,
    },
    /// Those that are not about runs are passed over.
    Command(ControlRecord),
    /// What the scorer answered.
    Registry {
        run: String,
        answer: Result<Registry, String>,
    },
    /// A call ended. `jitter` is a random number in [0, 1).
    Called {
        run: String,
        outcome: CallOutcome,
        jitter: f64,
    },
    Progress {
        run: String,
        progress: Progress,
    },
    /// Everything that is known has been read: decide what has not been decided, and see what time has brought.
    Decide,
    /// Records have become durable: start what is due.
    Tick,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Write to the `actions` topic.
    Record(Box<RunRecord>),
    /// Write a tombstone there.
    Forget {
        run: String,
    },
    /// Ask the scorer what is in production.
    AskRegistry(Box<RunRecord>),
    Call(Box<RunRecord>),
    AskProgress(Box<RunRecord>),
}

/// An action with its texts read and its defaults filled in.
#[derive(Debug, Clone)]
struct Plan {
    action: Action,
    guards: Guards,
    cooldown: Span,
    timeout: Span,
    training_data_ms: i64,
    suspend_after: u32,
    keep_ms: i64,
}

impl Plan {
    fn of(action: &Action) -> Result<Self, String> {
        let guards = Guards::read(&action.guard)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
        let cooldown = action.cooldown.unwrap_or(Span::from_ms(0));
        let per_ms = action.budget.map_or(0, |budget| budget.per.ms);
        Ok(Self {
            guards,
            cooldown,
            timeout: action.timeout.unwrap_or(DEFAULT_TIMEOUT),
            training_data_ms: action.training_data.map_or(DEFAULT_TRAINING_DATA_MS, |span| span.ms),
            suspend_after: action.suspend_after.unwrap_or(DEFAULT_SUSPEND_AFTER),
            keep_ms: KEEP_MS.max(cooldown.ms.saturating_mul(2)).max(per_ms),
            action: action.clone(),
        })
    }

    fn rolls_back(&self) -> bool {
        self.action.rollback.is_some()
    }
}

#[derive(Debug)]
struct Held {
    record: RunRecord,
    undecided: bool,
    /// The registry is to be asked before it can be decided.
    wants_registry: bool,
    registry: Option<Registry>,
    /// A call or a question is under way.
    busy: bool,
}

#[derive(Debug)]
pub struct Machine {
    limits: Limits,
    public_url: String,
    plans: BTreeMap<String, Plan>,
    runs: BTreeMap<String, Held>,
    swept_ms: i64,
}

impl Machine {
    /// `public_url`: what links start with, without a slash at the end. The error names what in an action cannot be read.
    pub fn new(actions: &BTreeMap<String, Action>, public_url: &str, limits: Limits) -> Result<Self, String> {
        let mut plans = BTreeMap::new();
        for (name, action) in actions {
            let plan = Plan::of(action).map_err(|reason| format!("action `{name}`: {reason}"))?;
            plans.insert(name.clone(), plan);
        }
        Ok(Self { limits, public_url: public_url.to_string(), plans, runs: BTreeMap::new(), swept_ms: i64::MIN })
    }

    /// Takes up what a predecessor has recorded: runs go on where they stood. Of several records of one run, the newest
    /// counts.
    pub fn restore(&mut self, record: RunRecord) {
        if self.runs.get(&record.run).is_some_and(|held| held.record.revision >= record.revision) {
            return;
        }
        let awaits_approval = record.state == RunState::AwaitingConfirmation && record.approved_by.is_none();
        let undecided = record.state.is_waiting() && !awaits_approval;
        let held = Held { undecided, wants_registry: false, registry: None, busy: false, record };
        self.runs.insert(held.record.run.clone(), held);
    }

    pub fn runs(&self) -> impl Iterator<Item = &RunRecord> {
        self.runs.values().map(|held| &held.record)
    }

    /// Calls and questions under way.
    pub fn in_flight(&self) -> usize {
        self.runs.values().filter(|held| held.busy).count()
    }

    pub fn step(&mut self, input: Input, now_ms: i64) -> Vec<Effect> {
        let mut touched = BTreeSet::new();
        match input {
            Input::Request(request) => self.take_request(*request, now_ms, &mut touched),
            Input::EpisodeEnded { episode_id } => self.end_episode(&episode_id, now_ms, &mut touched),
            Input::Command(record) => self.obey(record, now_ms, &mut touched),
            Input::Registry { run, answer } => self.take_registry(&run, answer, now_ms, &mut touched),
            Input::Called { run, outcome, jitter } => self.take_call(&run, outcome, jitter, now_ms, &mut touched),
            Input::Progress { run, progress } => self.take_progress(&run, progress, now_ms, &mut touched),
            Input::Decide => return self.decide_all(now_ms),
            Input::Tick => return self.start_due(now_ms),
        }
        self.records_of(touched)
    }

    fn records_of(&mut self, touched: BTreeSet<String>) -> Vec<Effect> {
        let record = |run: &String| {
            let held = self.runs.get_mut(run)?;
            held.record.revision += 1;
            Some(Effect::Record(Box::new(held.record.clone())))
        };
        touched.iter().filter_map(record).collect()
    }

    fn take_request(&mut self, request: ActionRequest, now_ms: i64, touched: &mut BTreeSet<String>) {
        let run = run_id(&request);
        if let Some(held) = self.runs.get_mut(&run) {
            if held.record.state.is_waiting() {
                held.record.request = request;
                held.undecided |=
                    held.record.state != RunState::AwaitingConfirmation || held.record.approved_by.is_some();
                touched.insert(run);
            }
            return;
        }
        self.contradict(&request, now_ms, touched);
        let record = RunRecord::new(request, now_ms);
        let held = Held { record, undecided: true, wants_registry: false, registry: None, busy: false };
        self.runs.insert(run.clone(), held);
        touched.insert(run);
    }

    /// Another alert of the same rule asks for the same within the cooldown after a success: that did not help.
    fn contradict(&mut self, request: &ActionRequest, now_ms: i64, touched: &mut BTreeSet<String>) {
        let Some(cooldown_ms) = self.plans.get(&request.action).map(|plan| plan.cooldown.ms) else { return };
        for (run, held) in &mut self.runs {
            let record = &mut held.record;
            let is_same = record.action == request.action
                && record.request.model == request.model
                && record.request.rule == request.rule;
            let after_ms = record.ended_at_ms.map(|ended_ms| now_ms - ended_ms);
            let in_time = after_ms.is_some_and(|after_ms| (0..=cooldown_ms).contains(&after_ms));
            if is_same && in_time && record.state == RunState::Succeeded && record.helped.is_none() {
                record.helped = Some(false);
                touched.insert(run.clone());
            }
        }
    }

    fn end_episode(&mut self, episode_id: &str, now_ms: i64, touched: &mut BTreeSet<String>) {
        let of_episode = self.runs.iter_mut().filter(|(_, held)| held.record.request.episode_id == episode_id);
        for (run, held) in of_episode {
            let record = &mut held.record;
            if record.episode_ended_at_ms.is_none() {
                record.episode_ended_at_ms = Some(now_ms);
                touched.insert(run.clone());
            }
            if record.state.is_waiting() {
                record.enter(RunState::Lapsed, "the alert ended before it could run", now_ms);
                held.undecided = false;
                touched.insert(run.clone());
            }
        }
    }

    fn obey(&mut self, control: ControlRecord, now_ms: i64, touched: &mut BTreeSet<String>) {
        let run = match &control.command {
            Command::Approve { run } | Command::Deny { run, .. } | Command::Report { run, .. } => run.clone(),
            Command::Resume { action, model } => return self.resume(action, model, control.at_ms, touched),
            _ => return,
        };
        let Some(held) = self.runs.get_mut(&run).filter(|held| !held.record.obeyed.contains(&control.id)) else {
            return;
        };
        let (record, by) = (&mut held.record, control.by);
        match control.command {
            Command::Approve { .. } => {
                if record.state == RunState::AwaitingConfirmation && record.approved_by.is_none() {
                    record.enter(RunState::AwaitingConfirmation, format!("approved by {by}"), now_ms);
                } else if record.state == RunState::Failed && record.external.is_none() {
                    // The target never took it: the same run is called again, with the same key.
                    record.enter(RunState::Requested, format!("to be called again, approved by {by}"), now_ms);
                    (record.started_at_ms, record.ended_at_ms, record.helped) = (None, None, None);
                } else {
                    return;
                }
                record.approved_by = Some(by);
                held.undecided = true;
            }
            Command::Deny { reason, .. } if record.state.is_waiting() => {
                record.enter(RunState::Denied, format!("denied by {by}: {}", shorten(reason)), now_ms);
                held.undecided = false;
            }
            Command::Report { succeeded, message, .. }
                if matches!(record.state, RunState::Calling | RunState::Accepted) =>
            {
                // Whoever reports has taken it.
                record.external.get_or_insert_default();
                let message = shorten(message);
                let said = if message.is_empty() { String::new() } else { format!(": {message}") };
                finish(record, succeeded, format!("reported by {by}{said}"), now_ms);
            }
            _ => return,
        }
        held.record.obeyed.push(control.id);
        touched.insert(run);
    }

    /// What did not help until `at_ms` no longer counts.
    fn resume(&mut self, action: &str, model: &str, at_ms: i64, touched: &mut BTreeSet<String>) {
        let concerned = self.runs.iter_mut().filter(|(_, held)| is_of(&held.record, action, model));
        for (run, held) in concerned {
            let record = &mut held.record;
            let before = record.ended_at_ms.is_some_and(|ended_ms| ended_ms <= at_ms);
            if record.helped == Some(false) && before && !record.forgiven {
                record.forgiven = true;
                touched.insert(run.clone());
            }
            held.undecided |= record.state == RunState::Suspended;
        }
    }

    fn take_registry(
        &mut self,
        run: &str,
        answer: Result<Registry, String>,
        now_ms: i64,
        touched: &mut BTreeSet<String>,
    ) {
        let Some(held) = self.runs.get_mut(run) else { return };
        held.busy = false;
        if !held.record.state.is_waiting() {
            return;
        }
        match answer {
            Ok(registry) => {
                held.registry = Some(registry);
                held.undecided = true;
            }
            Err(reason) => {
                let reason = shorten(reason);
                held.record.attempts = held.record.attempts.saturating_add(1);
                let wait_ms = backoff_ms(&self.limits, held.record.attempts, 1.0);
                block(
                    &mut held.record,
                    vec![Unmet { guard: "scorer".into(), wanted: "what is in production".into(), found: reason }],
                    now_ms,
                );
                held.record.next_attempt_ms = Some(now_ms.saturating_add(wait_ms));
                touched.insert(run.to_string());
            }
        }
    }

    fn take_call(&mut self, run: &str, outcome: CallOutcome, jitter: f64, now_ms: i64, touched: &mut BTreeSet<String>) {
        let limits = self.limits;
        let Some(held) = self.runs.get_mut(run) else { return };
        held.busy = false;
        let record = &mut held.record;
        if record.state != RunState::Calling {
            return; // reported or given up meanwhile
        }
        record.attempts = record.attempts.saturating_add(1);
        match outcome {
            CallOutcome::Accepted { external } => {
                record.next_attempt_ms = external.id.as_ref().map(|_| now_ms.saturating_add(limits.progress_ms));
                record.external = Some(external);
                record.last_error = None;
                record.enter(RunState::Accepted, "", now_ms);
            }
            CallOutcome::Done { message } => {
                record.external = Some(super::run::External::default());
                record.last_error = None;
                record.enter(RunState::Accepted, "", now_ms);
                finish(record, true, message, now_ms);
            }
            CallOutcome::Retry { reason, after_ms } => {
                let wait_ms = backoff_ms(&limits, record.attempts, jitter).max(after_ms.unwrap_or(0));
                record.next_attempt_ms = Some(now_ms.saturating_add(wait_ms));
                record.last_error = Some(shorten(reason));
            }
            CallOutcome::Permanent { reason } => {
                record.last_error = Some(shorten(reason.clone()));
                finish(record, false, format!("refused: {}", shorten(reason)), now_ms);
            }
        }
        touched.insert(run.to_string());
    }

    fn take_progress(&mut self, run: &str, progress: Progress, now_ms: i64, touched: &mut BTreeSet<String>) {
        let limits = self.limits;
        let Some(held) = self.runs.get_mut(run) else { return };
        held.busy = false;
        let record = &mut held.record;
        if record.state != RunState::Accepted {
            return;
        }
        record.next_attempt_ms = Some(now_ms.saturating_add(limits.progress_ms));
        match progress {
            // Not worth a record: after a restart it is asked again at once.
            Progress::Running => return,
            Progress::Succeeded { message } => finish(record, true, shorten(message), now_ms),
            Progress::Failed { reason } => finish(record, false, shorten(reason), now_ms),
            Progress::Unknown { reason } => {
                let reason = shorten(reason);
                if record.last_error.as_ref() == Some(&reason) {
                    return;
                }
                record.last_error = Some(reason);
            }
        }
        touched.insert(run.to_string());
    }

    fn start_due(&mut self, now_ms: i64) -> Vec<Effect> {
        let mut room = self.limits.max_in_flight.saturating_sub(self.in_flight());
        let mut effects = Vec::new();
        for held in self.runs.values_mut().filter(|held| !held.busy) {
            if room == 0 {
                break;
            }
            let is_due = held.record.next_attempt_ms.is_some_and(|due_ms| due_ms <= now_ms);
            let record = || Box::new(held.record.clone());
            let effect = match held.record.state {
                state if state.is_waiting() && held.wants_registry => Effect::AskRegistry(record()),
                RunState::Calling if is_due => Effect::Call(record()),
                RunState::Accepted if is_due => Effect::AskProgress(record()),
                _ => continue,
            };
            held.wants_registry = false;
            held.busy = true;
            room -= 1;
            effects.push(effect);
        }
        effects
    }
}

fn is_of(record: &RunRecord, action: &str, model: &str) -> bool {
    record.action == action && record.request.model == model
}

fn block(record: &mut RunRecord, unmet: Vec<Unmet>, now_ms: i64) {
    let reason = unmet.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    record.enter(RunState::Blocked, reason, now_ms);
    record.next_attempt_ms = None;
    record.unmet = unmet;
}

/// A failed run has not helped; of one that succeeded, time will tell.
fn finish(record: &mut RunRecord, succeeded: bool, reason: String, now_ms: i64) {
    let state = if succeeded { RunState::Succeeded } else { RunState::Failed };
    record.enter(state, reason, now_ms);
    record.helped = if succeeded { None } else { Some(false) };
}

/// Doubles from `first_retry_ms` to at most `max_retry_ms`; the jitter takes up to half of it away.
fn backoff_ms(limits: &Limits, attempts: u32, jitter: f64) -> i64 {
    let doublings = attempts.saturating_sub(1).min(40);
    let full_ms = limits.first_retry_ms.max(1).saturating_mul(1_i64 << doublings).min(limits.max_retry_ms.max(1));
    ((full_ms as f64 * (0.5 + 0.5 * jitter.clamp(0.0, 1.0))) as i64).max(1)
}

fn shorten(text: String) -> String {
    match text.char_indices().nth(MAX_ERROR_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
