//! A mean over labels that come later, such as accuracy or squared error, as it was reported last.

use super::{Judgement, Spend, finite, needed, shown, unknown};
use crate::config::scorer::traffic::{Better, LabelGuard};
use crate::scorer::traffic::sequential::log_threshold;
use crate::scorer::traffic::sequential::normal_mixture::Difference;
use crate::scorer::traffic::trial::evidence::Evidence;

pub(super) fn judge(guard: &LabelGuard, evidence: &Evidence, spend: Spend) -> Judgement {
    let threshold = log_threshold(spend.roll_back);
    let report = evidence.labels.as_ref().filter(|report| report.metric == guard.metric);
    let Some(report) = report else {
        return unknown("label_metric", guard.max_worse, threshold, None);
    };
    let (canary, production) = (report.canary, report.production);
    let difference = Difference::of(canary, production);
    let (Some(difference), true) = (difference, canary.n.min(production.n) >= guard.min_labels) else {
        return unknown("label_metric", guard.max_worse, threshold, None);
    };
    let worse = match guard.better {
        Better::Higher => Difference { mean: -difference.mean, ..difference },
        Better::Lower => difference,
    };
    let spread = guard.max_worse;
    let at_most = |factor: f64| {
        worse.mean + Difference { variance: worse.variance / factor, ..worse }.half_width(spend.go_on, spread)
    };
    let log_e = finite(worse.log_e_above(spread));
    Judgement {
        guard: "label_metric".into(),
        shown: shown(log_e, threshold, at_most(1.0) < guard.max_worse),
        canary: Some(canary.mean),
        production: Some(production.mean),
        difference: Some(worse.mean),
        at_most: Some(at_most(1.0)),
        limit: guard.max_worse,
        log_e,
        log_e_to_roll_back: threshold,
        requests_needed: match at_most(1.0) < guard.max_worse {
            true => Some(0),
            false => needed(evidence.totals.canary.requests, |factor| at_most(factor) < guard.max_worse),
        },
    }
}
