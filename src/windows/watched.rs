//! What is wanted of a model: windows, statistics, baselines.

use std::sync::Arc;

use crate::config::model::Model;
use crate::config::performance::Labels;
use crate::stats::selection::Selection;
use crate::stats::sql::SqlMetric;

use super::baseline::Comparison;
use super::spec::{WindowSpec, pane_width_ms};

/// A model with the windows and statistics that are wanted of it.
#[derive(Debug, Clone)]
pub struct WatchedModel {
    pub model: Arc<Model>,
    /// Windows of features.
    pub specs: Vec<WindowSpec>,
    /// Statistics of every feature in results.
    pub selection: Selection,
    /// Moving references that windows are compared with, beside the stored one.
    pub comparisons: Vec<Comparison>,
    pub performance: WatchedPerformance,
    /// Queries that rules ask of its events.
    pub sql: Vec<SqlMetric>,
}

impl WatchedModel {
    /// Width of every pane of this model, of features and of performance, milliseconds.
    pub fn pane_ms(&self) -> i64 {
        pane_width_ms(&[self.specs.as_slice(), &self.performance.specs].concat())
    }

    /// How long labels may come after their prediction, milliseconds; 0 where they come with it, or never.
    pub(super) fn label_delay_ms(&self) -> i64 {
        self.labels().map_or(0, |labels| labels.delay.ms)
    }

    /// `None`: labels come with their predictions, or never.
    pub(super) fn labels(&self) -> Option<&Labels> {
        self.model.performance.as_ref()?.labels.as_ref()
    }

    /// How far before the start of a window any reference reaches, and how long that window may be, milliseconds.
    pub(super) fn reach_ms(&self) -> i64 {
        reach_ms(&self.comparisons).max(reach_ms(&self.performance.comparisons))
    }
}

fn reach_ms(comparisons: &[Comparison]) -> i64 {
    let reach = |comparison: &Comparison| {
        comparison.reference.reach_ms(comparison.spec.size_ms).saturating_add(comparison.spec.size_ms)
    };
    comparisons.iter().map(reach).max().unwrap_or(0)
}

/// What rules on performance want beside what the model's own file says: windows, thresholds, baselines. Empty for a model
/// without `performance:`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WatchedPerformance {
    /// Windows of performance: the model's own first, then those of rules on performance, each once.
    pub specs: Vec<WindowSpec>,
    /// Thresholds of the score at which results hold the confusion metrics once more, under `name@threshold`; ascending,
    /// each once.
    pub thresholds: Vec<f64>,
    /// Windows whose baseline is the same window of another version, beside the stored reference. `features` is empty.
    pub comparisons: Vec<Comparison>,
}

impl WatchedPerformance {
    /// How far before the start of a window any baseline reaches, milliseconds.
    pub(super) fn reach_ms(&self) -> i64 {
        let reach = |comparison: &Comparison| comparison.reference.reach_ms(comparison.spec.size_ms);
        self.comparisons.iter().map(reach).max().unwrap_or(0)
    }
}

/// Name of a metric at another threshold of the score, or of a ranking's first places: `recall@0.7`, `ndcg@10`.
pub fn name_at(metric: &str, at: f64) -> String {
    format!("{metric}@{at}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_have_no_fraction() {
        assert_eq!([name_at("recall", 0.7), name_at("ndcg", 10.0)], ["recall@0.7", "ndcg@10"]);
    }
}
