//! How much better or worse the model did on one reference's rows than on another's.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::reference::Reference;
use crate::stats::metric::MetricValue;
use crate::stats::performance::intervals::difference_interval;

/// Pairs are of the first and the second reference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PerformanceDiff {
    /// Rows with a label.
    pub labelled: (u64, u64),
    /// By name, those that both have.
    pub metrics: BTreeMap<String, MetricDiff>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MetricDiff {
    pub before: MetricValue,
    pub after: MetricValue,
    /// 95% confidence interval of second less first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<[f64; 2]>,
}

impl PerformanceDiff {
    /// `None` where one of them has no labels, or was judged otherwise.
    pub fn of(before: &Reference, after: &Reference) -> Option<Self> {
        let (before, after) = (before.performance.as_ref()?, after.performance.as_ref()?);
        if before.judged_by != after.judged_by {
            return None;
        }
        let metrics_of = |side: &super::PerformanceReference| Some(side.profile.metrics(side.layout()?.as_ref()));
        let (of_before, of_after) = (metrics_of(before)?, metrics_of(after)?);
        let shared = of_before.into_iter().filter_map(|(name, before)| {
            let after = of_after.get(&name).copied()?;
            let side = |metric: MetricValue| metric.value.zip(metric.interval);
            let difference = side(after).zip(side(before)).map(|(after, before)| difference_interval(after, before));
            Some((name, MetricDiff { before, after, difference }))
        });
        Some(Self { labelled: (before.profile.labelled(), after.profile.labelled()), metrics: shared.collect() })
    }
}
