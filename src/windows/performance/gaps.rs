//! How far the groups of a segment column lie apart.

use std::collections::{BTreeMap, BTreeSet};

use crate::stats::metric::MetricValue;
use crate::stats::performance::difference::largest_gap;

use super::super::result::{Gap, GroupValue, PERFORMANCE_FEATURE, WindowResult};

/// Groups with fewer labelled rows have no part in a gap: a rate of 90% is not known to within 5% there.
const LEAST_LABELLED: u64 = 100;

/// A group's value of the column, and its metrics.
type Group<'a> = (&'a str, &'a BTreeMap<String, MetricValue>);

/// Of each segment column, for every realised metric with an interval that two groups have at least; by column, then
/// metric. `results` are those of one window against one reference.
pub(super) fn gaps(results: &[WindowResult]) -> Vec<Gap> {
    let mut columns: BTreeMap<&str, Vec<Group<'_>>> = BTreeMap::new();
    for result in results.iter().filter(|result| !result.segment.is_all() && result.complete) {
        let Some(stats) = result.features.get(PERFORMANCE_FEATURE).filter(|stats| stats.n >= LEAST_LABELLED) else {
            continue;
        };
        columns.entry(&result.segment.column).or_default().push((&result.segment.value, &stats.metrics));
    }
    let mut gaps = Vec::new();
    for (column, groups) in columns {
        let known = |(name, value): &(&String, &MetricValue)| is_realised(name) && value.interval.is_some();
        let metrics: BTreeSet<&String> =
            groups.iter().flat_map(|(_, metrics)| metrics.iter().filter(known).map(|(name, _)| name)).collect();
        gaps.extend(metrics.into_iter().filter_map(|metric| gap(column, metric, &groups)));
    }
    gaps
}

fn is_realised(metric: &str) -> bool {
    !metric.starts_with("est_") && !metric.starts_with("exp_")
}

fn gap(column: &str, metric: &str, groups: &[Group<'_>]) -> Option<Gap> {
    let values: Vec<MetricValue> =
        groups.iter().map(|(_, metrics)| metrics.get(metric).copied().unwrap_or_else(MetricValue::undefined)).collect();
    let found = largest_gap(std::slice::from_ref(&values))?;
    let group = |place: usize| GroupValue { group: groups[place].0.to_string(), value: values[place] };
    Some(Gap {
        column: column.to_string(),
        metric: metric.to_string(),
        highest: group(found.highest),
        lowest: group(found.lowest),
        gap: found.value,
    })
}
