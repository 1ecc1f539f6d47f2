//! What a canary is held against. Each guard answers two questions from what was counted: is the canary shown to be worse
//! than production (roll back), and is it shown to be good enough (go on)? If neither, it says how many requests are missing.
//!
//! To add one: a file with a function that gives a `Judgement`, and its line in `all`.

mod errors;
mod label_metric;
mod latency;
mod score_drift;
mod score_mean;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::evidence::Evidence;
use crate::config::scorer::traffic::{Guards, Progressive};
use crate::scorer::traffic::sequential::bernoulli::Hits;
use crate::scorer::traffic::sequential::beta_binomial;

pub use latency::Yardstick;
pub use score_drift::ScoreBins;

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Shown {
    /// The canary is worse: roll back.
    Worse,
    /// It is good enough: go on.
    GoodEnough,
    /// Neither yet.
    NotDecided,
}

/// What one guard says, with the numbers that it says it from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Judgement {
    pub guard: String,
    pub shown: Shown,
    /// Of the canary and of production: a rate, a mean; for `score_drift` both are null.
    pub canary: Option<f64>,
    pub production: Option<f64>,
    /// How much worse the canary seems, in the guard's own measure.
    pub difference: Option<f64>,
    /// How much worse it can still be, after all that was seen.
    pub at_most: Option<f64>,
    /// How much worse it may be.
    pub limit: f64,
    /// Natural logarithm of the e-value against "no worse", and what it has to reach to roll back.
    pub log_e: f64,
    pub log_e_to_roll_back: f64,
    /// Requests that the canary has yet to answer before this guard decides, if things go on as they are; null: it would
    /// not decide, or that cannot be told.
    pub requests_needed: Option<u64>,
}

impl Judgement {
    /// In a sentence, for audit and log.
    pub fn says(&self) -> String {
        let number = |value: Option<f64>| value.map_or_else(|| "unknown".to_string(), |value| format!("{value:.5}"));
        let (shown, guard) = (self.shown, &self.guard);
        let what = match shown {
            Shown::Worse => "worse",
            Shown::GoodEnough => "good enough",
            Shown::NotDecided => "not decided",
        };
        format!(
            "{guard}: {what} (canary {}, production {}, difference {}, at most {}, limit {}, ln e {:.2} of {:.2})",
            number(self.canary),
            number(self.production),
            number(self.difference),
            number(self.at_most),
            self.limit,
            self.log_e,
            self.log_e_to_roll_back
        )
    }
}

/// Chances of wrong decisions, of one guard.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spend {
    /// Of rolling back a canary that is no worse: the trial's, divided by the number of its guards.
    pub roll_back: f64,
    /// Of going on with one that is beyond the limit.
    pub go_on: f64,
}

/// What every guard of the policy says.
pub fn all(policy: &Progressive, evidence: &Evidence) -> Vec<Judgement> {
    let Guards { errors, latency, score_mean, score_drift, label_metric } = &policy.guards;
    let on = [errors.is_some(), latency.is_some(), score_mean.is_some(), score_drift.is_some(), label_metric.is_some()];
    let guards = on.into_iter().filter(|&is_on| is_on).count().max(1);
    let spend = Spend { roll_back: policy.false_rollback_rate / guards as f64, go_on: policy.false_promotion_rate };
    let judgements = [
        errors.as_ref().map(|guard| errors::judge(guard, evidence, spend)),
        latency.as_ref().map(|guard| latency::judge(guard, evidence, spend)),
        score_mean.as_ref().map(|guard| score_mean::judge(guard, evidence, spend)),
        score_drift.as_ref().map(|guard| score_drift::judge(guard, evidence, spend)),
        label_metric.as_ref().map(|guard| label_metric::judge(guard, evidence, spend)),
    ];
    judgements.into_iter().flatten().collect()
}

/// How far the canary's rate can be above production's: the difference of the ends of two confidence sequences, each at
/// half the level.
fn rate_at_most(canary: Hits, production: Hits, level: f64) -> f64 {
    beta_binomial::interval(canary, level / 2.0).1 - beta_binomial::interval(production, level / 2.0).0
}

/// The canary's requests still missing until `is_enough` of what was seen so many times over; `None` if a thousand times
/// is not enough.
fn needed(canary_requests: u64, is_enough: impl Fn(f64) -> bool) -> Option<u64> {
    const MOST: f64 = 1_024.0;
    if canary_requests == 0 || !is_enough(MOST) {
        return None;
    }
    let (mut short, mut enough) = (1.0, MOST);
    while enough / short > 1.01 {
        let middle = f64::sqrt(short * enough);
        if is_enough(middle) {
            enough = middle;
        } else {
            short = middle;
        }
    }
    Some(((enough - 1.0) * canary_requests as f64).ceil() as u64)
}

/// The same rate, of so many times as many.
fn times(seen: Hits, factor: f64) -> Hits {
    let n = (seen.n as f64 * factor) as u64;
    Hits::new(((seen.hits as f64 * factor) as u64).min(n), n)
}

/// A guard that has too little to say anything yet.
fn unknown(guard: &str, limit: f64, log_threshold: f64, requests_needed: Option<u64>) -> Judgement {
    Judgement {
        guard: guard.into(),
        shown: Shown::NotDecided,
        canary: None,
        production: None,
        difference: None,
        at_most: None,
        limit,
        log_e: 0.0,
        log_e_to_roll_back: log_threshold,
        requests_needed,
    }
}

/// Worse beats good enough: a difference may be certain and within the limit at once, and then the canary goes back.
fn shown(log_e: f64, log_threshold: f64, good_enough: bool) -> Shown {
    if log_e >= log_threshold {
        Shown::Worse
    } else if good_enough {
        Shown::GoodEnough
    } else {
        Shown::NotDecided
    }
}

/// Numbers in files are finite.
fn finite(log_e: f64) -> f64 {
    log_e.clamp(-1e6, 1e6)
}
