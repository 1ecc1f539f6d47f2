//! What rules on performance want of a model beside what its own file says.

use super::baseline::Comparison;
use super::state::WindowSpec;

/// Windows, thresholds and baselines of performance. Empty for a model without `performance:`.
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
