//! The values of rules' queries in a closed window: the `Final` step over the states of its panes.

use super::baseline::{Comparison, Merged};
use super::pane::Pane;
use super::result::Segment;
use super::watched::WatchedModel;
use crate::stats::metric::{FeatureStats, MetricValue};
use crate::stats::sql::state::{NoValue, SqlState};
use crate::stats::sql::{BASELINE_VALUE, SqlMetric, SqlQuery, VALUE};

impl WatchedModel {
    /// The query with this state.
    pub(super) fn sql_query(&self, state_name: &str) -> Option<&SqlQuery> {
        self.sql.iter().map(|metric| &*metric.query).find(|query| query.state_name == state_name)
    }
}

/// Puts the states of a pane together, so that what is kept is small.
pub(super) fn compact(watched: &WatchedModel, pane: &mut Pane) {
    for (name, state) in &mut pane.sql {
        if let Some(query) = watched.sql_query(name) {
            state.compact(query);
        }
    }
}

/// Values of the queries that are about this segment, by their names among the features of its result.
pub(super) fn values<'a>(
    watched: &'a WatchedModel,
    segment: &'a Segment,
    pane: &'a Pane,
) -> impl Iterator<Item = (String, FeatureStats)> + 'a {
    of_segment(watched, segment).map(|metric| (metric.feature.clone(), stats(metric, pane)))
}

/// The same beside the value of the baseline, for the queries that the comparison is for.
pub(super) fn compared<'a>(
    watched: &'a WatchedModel,
    comparison: &'a Comparison,
    merged: &'a Merged,
    segment: &'a Segment,
    pane: &'a Pane,
) -> impl Iterator<Item = (String, FeatureStats)> + 'a {
    let wanted = |metric: &&SqlMetric| comparison.features.contains(&metric.query.state_name);
    of_segment(watched, segment).filter(wanted).map(|metric| {
        let mut stats = stats(metric, pane);
        if merged.baseline.wanting.is_none() {
            let (seen, value) = collected(&metric.query, &merged.pane);
            stats.n_reference = seen;
            stats.metrics.insert(BASELINE_VALUE.to_string(), measured(&value));
        }
        (metric.feature.clone(), stats)
    })
}

fn of_segment<'a>(watched: &'a WatchedModel, segment: &'a Segment) -> impl Iterator<Item = &'a SqlMetric> {
    let column = (!segment.is_all()).then_some(segment.column.as_str());
    watched.sql.iter().filter(move |metric| metric.query.segment.as_deref() == column)
}

fn stats(metric: &SqlMetric, pane: &Pane) -> FeatureStats {
    let (n, value) = collected(&metric.query, pane);
    let metrics = [(VALUE.to_string(), measured(&value))].into();
    FeatureStats { n, metrics, no_value: value.err(), ..FeatureStats::default() }
}

/// Events that `WHERE` let through, and the value; none where the query was not asked of every event of the pane.
fn collected(query: &SqlQuery, pane: &Pane) -> (u64, Result<f64, NoValue>) {
    let state = pane.sql.get(&query.state_name);
    if state.map_or(0, |state| state.rows) < pane.rows {
        return (0, Err(NoValue::NotCollected));
    }
    query.value(state.unwrap_or(&SqlState::default()))
}

fn measured(value: &Result<f64, NoValue>) -> MetricValue {
    value.as_ref().map_or_else(|_| MetricValue::undefined(), |value| MetricValue::exact(*value))
}
