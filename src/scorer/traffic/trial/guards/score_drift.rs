//! The distribution of scores: population stability index over ten bins between production's deciles.
//!
//! To roll back it takes both: an index at its limit, and an e-value that says it is not chance. To go on it takes an index
//! below the limit, from enough scores that chance alone does not bring it there.

use serde::{Deserialize, Serialize};

use super::{Judgement, Shown, Spend, finite, unknown};
use crate::config::scorer::traffic::ScoreDriftGuard;
use crate::scorer::traffic::counters::{Block, Counts};
use crate::scorer::traffic::sequential::categorical::TwoDistributions;
use crate::scorer::traffic::sequential::log_threshold;
use crate::scorer::traffic::trial::evidence::Evidence;
use crate::stats::psi::population_stability_index;

const BINS: usize = 10;
/// Shares are raised to this, as everywhere in this project.
const FLOOR: f64 = 1e-4;
/// Scores of production before its deciles are taken.
const LEAST_SCORES: u64 = 500;
/// What chance alone may bring of the limit.
const CHANCE_OF_LIMIT: f64 = 0.25;

/// Production's deciles, and what came after they were taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreBins {
    /// The last cell of each bin but the last, of `cells::score_cell`.
    ends: Vec<u16>,
    distributions: TwoDistributions,
}

impl ScoreBins {
    /// Takes the deciles from production's scores so far, if they are enough.
    pub fn take(production: &Counts) -> Option<Self> {
        if production.score_cells.n() < LEAST_SCORES {
            return None;
        }
        let ends = production.score_cells.bin_ends(BINS);
        let distributions = TwoDistributions::new(ends.len() + 1);
        Some(Self { ends, distributions })
    }

    pub fn observe(&mut self, block: &Block) {
        let bins = |counts: &Counts| counts.score_cells.in_bins(&self.ends);
        let (canary, production) = (bins(&block.canary), bins(&block.production));
        self.distributions.observe(&canary, &production);
    }
}

pub(super) fn judge(guard: &ScoreDriftGuard, evidence: &Evidence, spend: Spend) -> Judgement {
    let (limit, threshold) = (guard.max_psi, log_threshold(spend.roll_back));
    let Some(bins) = &evidence.drift else {
        return unknown("score_drift", limit, threshold, None);
    };
    let distributions = &bins.distributions;
    let (canary, production) = (distributions.canary(), distributions.production());
    let (n, m) = (canary.iter().sum::<u64>(), production.iter().sum::<u64>());
    if n == 0 || m == 0 {
        return unknown("score_drift", limit, threshold, None);
    }
    let shares = |counts: &[u64], n: u64| counts.iter().map(|&count| count as f64 / n as f64).collect::<Vec<_>>();
    let index = population_stability_index(&shares(production, m), &shares(canary, n), FLOOR);
    // The mean of the index where nothing differs (Yurdakul and Naranjo, 2020).
    let by_chance = |n: f64| (canary.len() - 1) as f64 * (1.0 / n + 1.0 / m as f64);
    let log_e = finite(distributions.log_e());
    let is_enough = by_chance(n as f64) <= limit * CHANCE_OF_LIMIT;
    let shown = match () {
        () if log_e >= threshold && index >= limit => Shown::Worse,
        () if is_enough && index < limit => Shown::GoodEnough,
        () => Shown::NotDecided,
    };
    // Rows that are missing, as if each request had one.
    let room = limit * CHANCE_OF_LIMIT / (canary.len().max(2) - 1) as f64 - 1.0 / m as f64;
    let wanted = (room > 0.0).then(|| (1.0 / room).ceil() as u64);
    Judgement {
        guard: "score_drift".into(),
        shown,
        canary: None,
        production: None,
        difference: Some(index),
        at_most: None,
        limit,
        log_e,
        log_e_to_roll_back: threshold,
        requests_needed: match shown {
            Shown::GoodEnough => Some(0),
            _ if is_enough => None,
            _ => wanted.map(|wanted| wanted.saturating_sub(n)),
        },
    }
}
