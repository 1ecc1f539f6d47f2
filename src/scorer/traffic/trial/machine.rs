//! The machine: what is to be done with a canary now, and why.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::evidence::Evidence;
use super::guards::{self, Judgement, Shown};
use crate::config::scorer::traffic::Progressive;
use crate::scorer::registry::change::Change;
use crate::scorer::registry::state::{Canary, ServingState};
use crate::scorer::traffic::counters::Block;

/// Decisions that are remembered, the newest last.
const MAX_HISTORY: usize = 50;

/// A canary on trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// Version of this format: 1.
    pub format: u32,
    pub canary: String,
    /// What it is compared with.
    pub production: String,
    /// When the canary got its first share, ms since the epoch: tells two trials of one version apart.
    pub started_at_ms: i64,
    /// Index of the step.
    pub step: u32,
    /// The canary's requests when the step began.
    pub requests_before_step: u64,
    pub evidence: Evidence,
    /// None while it runs.
    pub outcome: Option<Outcome>,
    /// The newest decision.
    pub last: Option<Decision>,
    /// Decisions that changed something, or ended the trial.
    pub history: Vec<Decision>,
}

/// How a trial ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The canary is in production.
    Promoted,
    /// The canary was worse: its traffic was taken back, and it is rejected.
    RolledBack,
    /// Somebody else changed what serves.
    Stopped,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Too early: too few requests in this step, or too little time.
    Hold,
    /// Neither worse nor shown to be good enough.
    NotDecided,
    /// To the next share.
    Advance,
    Promote,
    RollBack,
    /// Over: somebody else changed what serves, and that stands.
    Stop,
}

impl Verdict {
    pub const ALL: [Self; 6] = [Self::Hold, Self::NotDecided, Self::Advance, Self::Promote, Self::RollBack, Self::Stop];

    /// For metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::NotDecided => "not_decided",
            Self::Advance => "advance",
            Self::Promote => "promote",
            Self::RollBack => "roll_back",
            Self::Stop => "stop",
        }
    }
}

/// A verdict with the numbers that it comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    pub at_ms: i64,
    pub verdict: Verdict,
    /// Index of the step, and the canary's share in it in steps of 1/10 000.
    pub step: u32,
    pub buckets: u32,
    /// The step and share to go to, of an advance.
    pub to_step: Option<u32>,
    pub to_buckets: Option<u32>,
    /// Requests of the canary and of production since the trial began.
    pub canary_requests: u64,
    pub production_requests: u64,
    /// The canary's requests still missing for a decision, if things go on as they are; null: cannot be told.
    pub requests_needed: Option<u64>,
    pub guards: Vec<Judgement>,
    /// All of it in words, for audit and log.
    pub says: String,
}

impl Decision {
    /// The change of the registry that carries it out.
    pub fn change(&self, trial: &Trial) -> Option<Change> {
        let version = trial.canary.clone();
        match self.verdict {
            Verdict::Hold | Verdict::NotDecided | Verdict::Stop => None,
            Verdict::Advance => {
                let (buckets, step) = self.to_buckets.zip(self.to_step)?;
                Some(Change::StepCanary { version, buckets, step })
            }
            Verdict::Promote => Some(Change::Promote { version, force: false }),
            Verdict::RollBack => Some(Change::ClearCanary { version: Some(version), reject: true }),
        }
    }
}

impl Trial {
    /// A trial of the canary that runs, if it is to go from step to step and there is something to compare it with.
    pub fn begin(state: &ServingState) -> Option<Self> {
        let canary = state.canary.as_ref()?;
        Some(Self {
            format: 1,
            canary: canary.version.clone(),
            production: state.production.clone()?,
            started_at_ms: canary.started_at_ms,
            step: canary.step?,
            requests_before_step: 0,
            evidence: Evidence::default(),
            outcome: None,
            last: None,
            history: Vec::new(),
        })
    }

    /// Whether this is the trial of the canary that runs; another version, or the same one set anew, gets another trial.
    pub fn is_of(&self, canary: &Canary) -> bool {
        self.canary == canary.version && self.started_at_ms == canary.started_at_ms
    }

    /// Takes what was counted, and decides. A trial that has ended stays as it is.
    pub fn advance(
        &mut self,
        new: &Block,
        policy: &Progressive,
        state: &ServingState,
        now_ms: i64,
    ) -> Option<Decision> {
        if self.outcome.is_some() {
            return None;
        }
        let decision = match self.ended(state) {
            Some((outcome, why)) => {
                self.outcome = Some(outcome);
                self.decision(Verdict::Stop, 0, Vec::new(), why, now_ms)
            }
            None => {
                let canary = state.canary.as_ref()?;
                self.evidence.observe(new, &policy.guards);
                let step = canary.step.unwrap_or(self.step);
                if step != self.step {
                    self.step = step;
                    self.requests_before_step = self.evidence.totals.canary.requests;
                }
                self.decide(policy, canary, now_ms)
            }
        };
        if !matches!(decision.verdict, Verdict::Hold | Verdict::NotDecided) {
            self.remember(decision.clone());
        }
        self.last = Some(decision.clone());
        Some(decision)
    }

    /// How the trial ended, if what serves is no longer what it compares.
    fn ended(&self, state: &ServingState) -> Option<(Outcome, String)> {
        let production = state.production.as_deref().unwrap_or("none");
        if production == self.canary {
            return Some((Outcome::Promoted, format!("version {} is in production", self.canary)));
        }
        if state.rejected.contains(&self.canary) {
            return Some((Outcome::RolledBack, format!("version {} is rejected", self.canary)));
        }
        if production != self.production {
            let why = format!(
                "version {production} is in production, no longer {}: the canary's share stays as it is",
                self.production
            );
            return Some((Outcome::Stopped, why));
        }
        match &state.canary {
            Some(canary) if self.is_of(canary) && canary.step.is_some() => None,
            Some(canary) if self.is_of(canary) => {
                Some((Outcome::Stopped, "the canary's share was set by hand, and stays as it is".into()))
            }
            _ => Some((Outcome::Stopped, "the canary was taken away".into())),
        }
    }

    fn decide(&self, policy: &Progressive, canary: &Canary, now_ms: i64) -> Decision {
        let judgements = guards::all(policy, &self.evidence);
        let in_words = |judgements: &[Judgement]| judgements.iter().map(Judgement::says).collect::<Vec<_>>().join("; ");
        let worse: Vec<Judgement> =
            judgements.iter().filter(|judgement| judgement.shown == Shown::Worse).cloned().collect();
        if !worse.is_empty() {
            let why = format!("worse than production: {}", in_words(&worse));
            return self.decision(Verdict::RollBack, canary.buckets, judgements, why, now_ms);
        }
        let planned = buckets(policy, self.step);
        if planned.is_some_and(|planned| planned != canary.buckets) {
            let why = format!("the share of step {} is {}", self.step, percent(planned.unwrap_or(0)));
            let decision = self.decision(Verdict::Advance, canary.buckets, judgements, why, now_ms);
            return Decision { to_step: Some(self.step), to_buckets: planned, ..decision };
        }
        let in_step = self.evidence.totals.canary.requests.saturating_sub(self.requests_before_step);
        let missing = policy.min_requests.saturating_sub(in_step);
        let wait_ms = policy.dwell.ms - now_ms.saturating_sub(canary.step_at_ms);
        if missing > 0 || wait_ms > 0 {
            let why = format!(
                "in step {} the canary has {in_step} of {} requests and {} s to go",
                self.step,
                policy.min_requests,
                wait_ms.max(0) / 1_000
            );
            let needed = needed(&judgements, missing);
            let decision = self.decision(Verdict::Hold, canary.buckets, judgements, why, now_ms);
            return Decision { requests_needed: needed, ..decision };
        }
        if judgements.iter().any(|judgement| judgement.shown == Shown::NotDecided) {
            let needed = needed(&judgements, 0);
            let why = format!("not decided: {}", in_words(&judgements));
            let decision = self.decision(Verdict::NotDecided, canary.buckets, judgements, why, now_ms);
            return Decision { requests_needed: needed, ..decision };
        }
        let why = format!("good enough: {}", in_words(&judgements));
        let next = self.step + 1;
        match buckets(policy, next).filter(|&buckets| buckets < crate::scorer::traffic::assign::BUCKETS) {
            None => self.decision(Verdict::Promote, canary.buckets, judgements, why, now_ms),
            Some(share) => {
                let decision = self.decision(Verdict::Advance, canary.buckets, judgements, why, now_ms);
                Decision { to_step: Some(next), to_buckets: Some(share), ..decision }
            }
        }
    }

    fn decision(&self, verdict: Verdict, buckets: u32, guards: Vec<Judgement>, why: String, now_ms: i64) -> Decision {
        let (canary, production) = (&self.evidence.totals.canary, &self.evidence.totals.production);
        Decision {
            at_ms: now_ms,
            verdict,
            step: self.step,
            buckets,
            to_step: None,
            to_buckets: None,
            canary_requests: canary.requests,
            production_requests: production.requests,
            requests_needed: None,
            guards,
            says: format!("{}: {why}", verdict.name()),
        }
    }

    /// A decision that could not be carried out is made again each second: it is remembered once.
    fn remember(&mut self, decision: Decision) {
        let same = |last: &Decision| {
            (last.verdict, last.step, last.to_step) == (decision.verdict, decision.step, decision.to_step)
        };
        if self.history.last().is_some_and(same) {
            return;
        }
        self.history.push(decision);
        if self.history.len() > MAX_HISTORY {
            self.history.remove(0);
        }
    }
}

/// The share of a step, in steps of 1/10 000; `None` beyond the last.
pub fn buckets(policy: &Progressive, step: u32) -> Option<u32> {
    let share = policy.steps.get(step as usize)?;
    Some((share.percent * 100.0).round() as u32)
}

fn percent(buckets: u32) -> String {
    format!("{}%", f64::from(buckets) / 100.0)
}

/// The most that any guard misses; null as soon as one cannot tell.
fn needed(judgements: &[Judgement], at_least: u64) -> Option<u64> {
    let needed: Option<Vec<u64>> = judgements.iter().map(|judgement| judgement.requests_needed).collect();
    Some(needed?.into_iter().max().unwrap_or(0).max(at_least))
}
