//! How long answers take: the share of answers beyond a yardstick, which is a quantile of production's latency.
//!
//! The yardstick is taken once, from production's first answers in the trial, and only answers after that are compared: so
//! it was foreseen, and the test of two rates holds whatever the yardstick is.

use serde::{Deserialize, Serialize};

use super::{Judgement, Spend, finite, needed, rate_at_most, shown, times, unknown};
use crate::config::scorer::traffic::LatencyGuard;
use crate::scorer::traffic::cells;
use crate::scorer::traffic::counters::{Block, Counts};
use crate::scorer::traffic::sequential::bernoulli::{Hits, TwoStreams};
use crate::scorer::traffic::sequential::log_threshold;
use crate::scorer::traffic::trial::evidence::Evidence;

/// Answers of production before a yardstick is taken, and how many of them lie beyond it at least.
const LEAST_ANSWERS: u64 = 500;
const LEAST_BEYOND: f64 = 5.0;

/// The yardstick, and what came after it was taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Yardstick {
    /// Of `cells::latency_cell`: production's quantile, and so many times that.
    production_cell: u16,
    canary_cell: u16,
    streams: TwoStreams,
}

impl Yardstick {
    /// Takes the yardstick from production's answers so far, if they are enough.
    pub fn take(guard: &LatencyGuard, production: &Counts) -> Option<Self> {
        if production.latency.n() < answers_needed(guard) {
            return None;
        }
        let cell = production.latency.quantile(guard.quantile)?;
        let canary_cell = cells::times(cell, guard.max_ratio);
        Some(Self { production_cell: cell, canary_cell, streams: TwoStreams::default() })
    }

    pub fn observe(&mut self, block: &Block) {
        let beyond = |counts: &Counts, cell| Hits::new(counts.latency.above(cell), counts.latency.n());
        self.streams.observe(beyond(&block.canary, self.canary_cell), beyond(&block.production, self.production_cell));
    }

    /// Production's quantile, and the canary's allowance, milliseconds.
    pub fn limits_ms(&self) -> (f64, f64) {
        (cells::latency_ms(self.production_cell), cells::latency_ms(self.canary_cell))
    }
}

fn answers_needed(guard: &LatencyGuard) -> u64 {
    LEAST_ANSWERS.max((LEAST_BEYOND / (1.0 - guard.quantile)).ceil() as u64)
}

pub(super) fn judge(guard: &LatencyGuard, evidence: &Evidence, spend: Spend) -> Judgement {
    let limit = guard.max_increase.share();
    let threshold = log_threshold(spend.roll_back);
    let Some(yardstick) = &evidence.latency else {
        return unknown("latency", limit, threshold, None);
    };
    let streams = &yardstick.streams;
    let (canary, production) = (streams.canary(), streams.production());
    let at_most = rate_at_most(canary, production, spend.go_on);
    let log_e = finite(streams.log_e());
    let is_enough = |factor: f64| rate_at_most(times(canary, factor), times(production, factor), spend.go_on) < limit;
    Judgement {
        guard: "latency".into(),
        shown: shown(log_e, threshold, at_most < limit),
        canary: canary.rate(),
        production: production.rate(),
        difference: canary.rate().zip(production.rate()).map(|(canary, production)| canary - production),
        at_most: Some(at_most),
        limit,
        log_e,
        log_e_to_roll_back: threshold,
        requests_needed: if at_most < limit { Some(0) } else { needed(canary.n, is_enough) },
    }
}
