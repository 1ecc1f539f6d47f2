//! Which runs go ahead, and what time alone brings.

use std::collections::BTreeSet;

use super::{Effect, Held, KEEP_MS, Machine, Plan, block, finish, is_of};
use crate::config::actions::Confirm;
use crate::config::units::Span;
use crate::dispatch::actions::guard::{DAY_MS, Registry, rounded, unmet_facts, unmet_registry};
use crate::dispatch::actions::manifest::Manifest;
use crate::dispatch::actions::run::{Expected, RunRecord, RunState, Unmet};

/// How long finished runs are kept whose alert has never been seen to end.
const KEEP_FIRING_MS: i64 = 400 * DAY_MS;
/// A run that nothing has asked for any more for this long is given up.
const ASKED_WITHIN_MS: i64 = 30 * DAY_MS;
/// How often time alone is looked at.
const SWEEP_MS: i64 = 1_000;

enum Verdict {
    Suspended(String),
    Blocked(Vec<Unmet>),
    AskRegistry,
    AwaitsConfirmation,
    GoesAhead,
}

impl Machine {
    pub(super) fn decide_all(&mut self, now_ms: i64) -> Vec<Effect> {
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
            let timeout = plan.map_or(super::DEFAULT_TIMEOUT, |plan| plan.timeout);
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

    /// Runs that nothing asks about any more. While its alert fires, a run is remembered: it is asked for at every window.
    fn forget(&mut self, now_ms: i64) -> Vec<String> {
        let is_old = |held: &Held| {
            let keep_ms = self.plans.get(&held.record.action).map_or(KEEP_MS, |plan| plan.keep_ms);
            let keep_ms = if held.record.episode_ended_at_ms.is_some() { keep_ms } else { keep_ms.max(KEEP_FIRING_MS) };
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
                // A run that is called again at a person's wish keeps what it was given, as it keeps its key.
                if !plan.rolls_back() && record.manifest.is_none() {
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
}
