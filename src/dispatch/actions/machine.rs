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

use std::collections::{BTreeMap, BTreeSet};

use super::guard::{DAY_MS, Registry, rounded, unmet_facts, unmet_registry};
use super::manifest::{DEFAULT_TRAINING_DATA_MS, Manifest};
use super::run::{Expected, RunRecord, RunState, Unmet, run_id};
use super::target::{CallOutcome, Progress};
use crate::config::action_guards::Guards;
use crate::config::actions::{Action, Confirm};
use crate::config::units::Span;
use crate::dispatch::control::{Command, ControlRecord};
use crate::rules::action_request::ActionRequest;

/// Runs in a row that did not help after which an action is suspended, unless it says otherwise.
pub const DEFAULT_SUSPEND_AFTER: u32 = 3;
/// How long a run may take, unless its action says otherwise.
pub const DEFAULT_TIMEOUT: Span = Span::from_days(1);
/// How long finished runs are kept.
const KEEP_MS: i64 = 90 * DAY_MS;
/// A run that nothing has asked for any more for this long is given up.
const ASKED_WITHIN_MS: i64 = 30 * DAY_MS;
/// How often time alone is looked at.
const SWEEP_MS: i64 = 1_000;
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
        let by = control.by;
        match control.command {
            Command::Approve { run } => {
                let Some(held) = self.runs.get_mut(&run) else { return };
                let record = &mut held.record;
                let never_taken = record.state == RunState::Failed && record.external.is_none();
                if record.state == RunState::AwaitingConfirmation && record.approved_by.is_none() {
                    record.enter(RunState::AwaitingConfirmation, format!("approved by {by}"), now_ms);
                } else if never_taken {
                    // The target never took it: the same run is called again, with the same key.
                    record.enter(RunState::Requested, format!("to be called again, approved by {by}"), now_ms);
                    (record.started_at_ms, record.ended_at_ms, record.helped) = (None, None, None);
                } else {
                    return;
                }
                record.approved_by = Some(by);
                held.undecided = true;
                touched.insert(run);
            }
            Command::Deny { run, reason } => {
                let Some(held) = self.runs.get_mut(&run) else { return };
                if held.record.state.is_waiting() {
                    held.record.enter(RunState::Denied, format!("denied by {by}: {}", shorten(reason)), now_ms);
                    held.undecided = false;
                    touched.insert(run);
                }
            }
            Command::Report { run, succeeded, message } => {
                let Some(held) = self.runs.get_mut(&run) else { return };
                if matches!(held.record.state, RunState::Calling | RunState::Accepted) {
                    let message = shorten(message);
                    let said = if message.is_empty() { String::new() } else { format!(": {message}") };
                    finish(&mut held.record, succeeded, format!("reported by {by}{said}"), now_ms);
                    touched.insert(run);
                }
            }
            Command::Resume { action, model } => self.resume(&action, &model, touched),
            _ => {}
        }
    }

    fn resume(&mut self, action: &str, model: &str, touched: &mut BTreeSet<String>) {
        let concerned = self.runs.iter_mut().filter(|(_, held)| is_of(&held.record, action, model));
        for (run, held) in concerned {
            if held.record.helped == Some(false) && !held.record.forgiven {
                held.record.forgiven = true;
                touched.insert(run.clone());
            }
            held.undecided |= held.record.state == RunState::Suspended;
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

    fn decide_all(&mut self, now_ms: i64) -> Vec<Effect> {
        let mut touched = BTreeSet::new();
        let mut forgotten = Vec::new();
        if now_ms.saturating_sub(self.swept_ms) >= SWEEP_MS || now_ms < self.swept_ms {
            self.swept_ms = now_ms;
            self.sweep(now_ms, &mut touched);
            forgotten = self.forget(now_ms);
        }
        let mut undecided: Vec<(i64, String)> = Vec::new();
        for (run, held) in self.runs.iter().filter(|(_, held)| held.undecided && !held.busy) {
            undecided.push((held.record.requested_at_ms(), run.clone()));
        }
        undecided.sort();
        for (_, run) in undecided {
            self.decide(&run, now_ms, &mut touched);
        }
        let mut effects = self.records_of(touched);
        effects.extend(forgotten.into_iter().map(|run| Effect::Forget { run }));
        effects
    }

    /// What time alone brings: runs that took too long, confirmations that never came, successes that can be judged.
    fn sweep(&mut self, now_ms: i64, touched: &mut BTreeSet<String>) {
        for (run, held) in &mut self.runs {
            let record = &mut held.record;
            let plan = self.plans.get(&record.action);
            let timeout = plan.map_or(DEFAULT_TIMEOUT, |plan| plan.timeout);
            let has_passed = |since_ms: i64, limit_ms: i64| now_ms.saturating_sub(since_ms) >= limit_ms;
            let before = (record.state, record.helped);
            match record.state {
                RunState::Calling if has_passed(record.started_at_ms.unwrap_or(now_ms), timeout.ms) => {
                    let error = record.last_error.clone().unwrap_or_else(|| "no answer".into());
                    finish(record, false, format!("not accepted within {timeout}: {error}"), now_ms);
                }
                RunState::Accepted if has_passed(record.started_at_ms.unwrap_or(now_ms), timeout.ms) => {
                    finish(record, false, format!("it had not ended after {timeout}"), now_ms);
                }
                RunState::AwaitingConfirmation
                    if record.approved_by.is_none() && has_passed(record.since_ms(), timeout.ms) =>
                {
                    record.enter(RunState::Lapsed, format!("nobody confirmed it within {timeout}"), now_ms);
                }
                state
                    if state.is_waiting()
                        && has_passed(record.request.at_ms.max(record.since_ms()), ASKED_WITHIN_MS) =>
                {
                    let reason = format!("nothing has asked for it for {}", Span::from_ms(ASKED_WITHIN_MS));
                    record.enter(RunState::Lapsed, reason, now_ms);
                    held.undecided = false;
                }
                RunState::Blocked if record.next_attempt_ms.is_some_and(|due_ms| due_ms <= now_ms) => {
                    held.undecided = true;
                }
                RunState::Succeeded if record.helped.is_none() => {
                    let until_ms = record.ended_at_ms.zip(plan).map(|(ended_ms, plan)| ended_ms + plan.cooldown.ms);
                    if let Some(until_ms) = until_ms.filter(|until_ms| now_ms > *until_ms) {
                        record.helped = Some(record.episode_ended_at_ms.is_some_and(|ended_ms| ended_ms <= until_ms));
                    }
                }
                _ => {}
            }
            if before != (record.state, record.helped) {
                touched.insert(run.clone());
            }
        }
    }

    /// Runs that nothing asks about any more.
    fn forget(&mut self, now_ms: i64) -> Vec<String> {
        let is_old = |held: &Held| {
            let keep_ms = self.plans.get(&held.record.action).map_or(KEEP_MS, |plan| plan.keep_ms);
            held.record.ended_at_ms.is_some_and(|ended_ms| now_ms.saturating_sub(ended_ms) > keep_ms)
        };
        let old: Vec<String> = self.runs.iter().filter(|(_, held)| is_old(held)).map(|(run, _)| run.clone()).collect();
        for run in &old {
            self.runs.remove(run);
        }
        old
    }

    fn decide(&mut self, run: &str, now_ms: i64, touched: &mut BTreeSet<String>) {
        let Some(held) = self.runs.get(run) else { return };
        let record = &held.record;
        let verdict = match self.plans.get(&record.action) {
            None => Verdict::Blocked(vec![Unmet {
                guard: "action".into(),
                wanted: "an action of the rules files".into(),
                found: "no longer there".into(),
            }]),
            Some(plan) => self.judge(plan, record, held.registry.as_ref(), now_ms),
        };
        let plan = self.plans.get(&record.action).cloned();
        let Some(held) = self.runs.get_mut(run) else { return };
        held.undecided = false;
        let registry = held.registry.take();
        let record = &mut held.record;
        match (verdict, plan) {
            (Verdict::AskRegistry, _) => {
                held.wants_registry = true;
                return;
            }
            (Verdict::Suspended(reason), _) => record.enter(RunState::Suspended, reason, now_ms),
            (Verdict::Blocked(unmet), _) => block(record, unmet, now_ms),
            (Verdict::AwaitsConfirmation, _) => {
                record.enter(RunState::AwaitingConfirmation, "a person must approve it", now_ms);
            }
            (Verdict::GoesAhead, Some(plan)) => {
                record.started_at_ms = Some(now_ms);
                record.dry_run = plan.action.dry_run;
                if !plan.rolls_back() {
                    record.manifest = Some(Manifest::new(&record.request, &plan.action, &self.public_url, now_ms));
                }
                record.expected = registry.and_then(|registry| {
                    Some(Expected { production: registry.production?, generation: registry.generation })
                });
                record.attempts = 0;
                record.last_error = None;
                if plan.action.dry_run {
                    record.enter(RunState::DryRun, "it would have been called", now_ms);
                } else {
                    record.next_attempt_ms = Some(now_ms);
                    record.enter(RunState::Calling, "", now_ms);
                }
            }
            (Verdict::GoesAhead, None) => return,
        }
        touched.insert(run.to_string());
    }

    fn judge(&self, plan: &Plan, record: &RunRecord, registry: Option<&Registry>, now_ms: i64) -> Verdict {
        let in_vain = self.in_vain(record);
        if in_vain >= plan.suspend_after {
            let (action, model) = (&record.action, &record.request.model);
            let reason = format!(
                "the last {in_vain} runs did not help; look into it, then: driftline actions resume {action} --model {model}"
            );
            return Verdict::Suspended(reason);
        }
        let last = self.last_success(record).map(|last| &last.request);
        let mut unmet = unmet_facts(&plan.guards, &record.request, last, plan.training_data_ms);
        unmet.extend(self.too_soon(plan, record, now_ms));
        unmet.extend(self.over_budget(plan, record, now_ms));
        if !unmet.is_empty() {
            return Verdict::Blocked(unmet);
        }
        if plan.rolls_back() {
            let Some(registry) = registry else { return Verdict::AskRegistry };
            let unmet = unmet_registry(&plan.guards, &record.request, registry, now_ms);
            if !unmet.is_empty() {
                return Verdict::Blocked(unmet);
            }
        }
        let asks = plan.action.confirm == Confirm::Ask && record.approved_by.is_none();
        if asks && !plan.action.dry_run { Verdict::AwaitsConfirmation } else { Verdict::GoesAhead }
    }

    /// Runs of the same action that went ahead, dry ones for a dry action and real ones for another.
    fn started<'a>(&'a self, plan: &'a Plan, record: &'a RunRecord) -> impl Iterator<Item = (&'a RunRecord, i64)> {
        let others = self.runs().filter(|other| other.run != record.run && other.action == record.action);
        let of_kind = others.filter(|other| other.dry_run == plan.action.dry_run);
        of_kind.filter_map(|other| Some((other, other.started_at_ms?)))
    }

    fn too_soon(&self, plan: &Plan, record: &RunRecord, now_ms: i64) -> Option<Unmet> {
        let of_model = self.started(plan, record).filter(|(other, _)| other.request.model == record.request.model);
        let (last, started_ms) = of_model.max_by_key(|(_, started_ms)| *started_ms)?;
        let since_ms = now_ms.saturating_sub(started_ms);
        (since_ms < plan.cooldown.ms).then(|| Unmet {
            guard: "cooldown".into(),
            wanted: format!("{} since the last run", plan.cooldown),
            found: format!("{} since {}", rounded(since_ms), last.run),
        })
    }

    fn over_budget(&self, plan: &Plan, record: &RunRecord, now_ms: i64) -> Option<Unmet> {
        let budget = plan.action.budget?;
        let recent = self.started(plan, record).filter(|(_, at_ms)| now_ms.saturating_sub(*at_ms) < budget.per.ms);
        let runs = recent.count();
        (runs >= budget.max_runs as usize).then(|| Unmet {
            guard: "budget".into(),
            wanted: format!("at most {} runs in {}", budget.max_runs, budget.per),
            found: format!("{runs} runs"),
        })
    }

    /// How many of the last runs of this action and model did not help, one after the other.
    fn in_vain(&self, record: &RunRecord) -> u32 {
        let of_model = self.runs().filter(|other| is_of(other, &record.action, &record.request.model));
        let mut judged: Vec<(i64, bool)> = of_model
            .filter(|other| other.run != record.run && !other.forgiven)
            .filter_map(|other| Some((other.started_at_ms?, other.helped?)))
            .collect();
        judged.sort_unstable();
        judged.iter().rev().take_while(|(_, helped)| !helped).count() as u32
    }

    fn last_success(&self, record: &RunRecord) -> Option<&RunRecord> {
        let of_model = self.runs().filter(|other| is_of(other, &record.action, &record.request.model));
        of_model.filter(|other| other.state == RunState::Succeeded).max_by_key(|other| other.started_at_ms)
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

enum Verdict {
    Suspended(String),
    Blocked(Vec<Unmet>),
    AskRegistry,
    AwaitsConfirmation,
    GoesAhead,
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
