//! The mean score: it may change by so many standard deviations of production's scores, either way.

use super::{Judgement, Spend, finite, needed, shown, unknown};
use crate::config::scorer::traffic::ScoreMeanGuard;
use crate::scorer::traffic::sequential::log_threshold;
use crate::scorer::traffic::sequential::normal_mixture::Difference;
use crate::scorer::traffic::trial::evidence::Evidence;

/// Scores of each side before the first look: variances are estimated.
const LEAST_SCORES: u64 = 100;

pub(super) fn judge(guard: &ScoreMeanGuard, evidence: &Evidence, spend: Spend) -> Judgement {
    let (canary, production) = (evidence.totals.canary.scores, evidence.totals.production.scores);
    let threshold = log_threshold(spend.roll_back);
    let fewest = canary.n.min(production.n);
    let deviation = production.variance().map(f64::sqrt);
    let (Some(difference), Some(deviation), true) =
        (Difference::of(canary, production), deviation, fewest >= LEAST_SCORES)
    else {
        let missing = LEAST_SCORES.saturating_sub(canary.n);
        return unknown("score_mean", guard.max_change, threshold, (missing > 0).then_some(missing));
    };
    // In the unit of the scores. Effects of the size of the limit are what the test looks for.
    let limit = guard.max_change * deviation;
    let spread = limit.max(f64::MIN_POSITIVE.sqrt());
    let at_most = |factor: f64| {
        let more = Difference { variance: difference.variance / factor, ..difference };
        difference.mean.abs() + more.half_width(spend.go_on, spread)
    };
    let log_e = finite(difference.log_e(limit, spread));
    let in_deviations = |value: f64| if deviation > 0.0 { value / deviation } else { value };
    let good_enough = at_most(1.0) < limit || (deviation == 0.0 && difference.mean == 0.0);
    Judgement {
        guard: "score_mean".into(),
        shown: shown(log_e, threshold, good_enough),
        canary: Some(canary.mean),
        production: Some(production.mean),
        difference: Some(in_deviations(difference.mean)),
        at_most: Some(in_deviations(at_most(1.0))),
        limit: guard.max_change,
        log_e,
        log_e_to_roll_back: threshold,
        requests_needed: match good_enough {
            true => Some(0),
            false => needed(evidence.totals.canary.requests, |factor| at_most(factor) < limit),
        },
    }
}
