//! Requests that failed: the canary's error rate against production's.

use super::{Judgement, Spend, finite, needed, rate_at_most, shown, times};
use crate::config::scorer::traffic::ErrorGuard;
use crate::scorer::traffic::sequential::log_threshold;
use crate::scorer::traffic::trial::evidence::Evidence;

pub(super) fn judge(guard: &ErrorGuard, evidence: &Evidence, spend: Spend) -> Judgement {
    let streams = &evidence.errors;
    let (canary, production) = (streams.canary(), streams.production());
    let limit = guard.max_increase.share();
    let at_most = rate_at_most(canary, production, spend.go_on);
    let log_e = finite(streams.log_e());
    let threshold = log_threshold(spend.roll_back);
    let is_enough = |factor: f64| rate_at_most(times(canary, factor), times(production, factor), spend.go_on) < limit;
    Judgement {
        guard: "errors".into(),
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
