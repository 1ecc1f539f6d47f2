//! The metrics of `signal: performance`: which tasks have them, and what they rest on.

use super::metrics::{Metric, Subject};
use crate::config::performance::Task;

/// What a figure rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// Predictions whose label is known.
    Labels,
    /// All predictions, without labels: what the metric should be by the scores.
    Estimate,
    /// How many labels there are, or how often something was seen in them: says something however few they are.
    Progress,
}

/// What may stand behind `@`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    Nothing,
    /// Another threshold of the score: `recall@0.7`.
    Threshold,
    /// The first places of a ranking, which must be said: `ndcg@10`.
    Places,
    /// Binary a threshold, in rankings the first places.
    ThresholdOrPlaces,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerformanceMetric {
    pub metric: Metric,
    pub tasks: &'static [Task],
    pub basis: Basis,
    pub at: At,
    /// Whether the reference's value is one to compare with.
    pub baseline: bool,
    /// Whether results hold a confidence interval of it.
    pub interval: bool,
}

const ALL: &[Task] = &[Task::Binary, Task::Multiclass, Task::Regression, Task::Ranking];
const BINARY: &[Task] = &[Task::Binary];
const CLASSES: &[Task] = &[Task::Binary, Task::Multiclass];
const MULTICLASS: &[Task] = &[Task::Multiclass];
const REGRESSION: &[Task] = &[Task::Regression];
const RANKING: &[Task] = &[Task::Ranking];
const FIRST_PLACES: &[Task] = &[Task::Binary, Task::Ranking];

const fn realised(name: &'static str, label: &'static str, tasks: &'static [Task]) -> PerformanceMetric {
    let metric = Metric { name, label, subject: Subject::Performance, distribution: false, share: false };
    PerformanceMetric { metric, tasks, basis: Basis::Labels, at: At::Nothing, baseline: true, interval: true }
}

const fn at(at: At, row: PerformanceMetric) -> PerformanceMetric {
    PerformanceMetric { at, ..row }
}

const fn estimate(name: &'static str, label: &'static str, tasks: &'static [Task]) -> PerformanceMetric {
    PerformanceMetric { basis: Basis::Estimate, ..realised(name, label, tasks) }
}

/// Judged by its own test, not against the reference's value.
const fn test(name: &'static str, label: &'static str, tasks: &'static [Task]) -> PerformanceMetric {
    PerformanceMetric { baseline: false, interval: false, ..realised(name, label, tasks) }
}

const LABEL_COVERAGE: PerformanceMetric = {
    let row = test("label_coverage", "label coverage", ALL);
    PerformanceMetric { metric: Metric { share: true, ..row.metric }, basis: Basis::Progress, ..row }
};

/// To add one: a row here, in docs/rules.md and in docs/statistics.md; what computes it is in `stats/performance`.
pub const PERFORMANCE_METRICS: &[PerformanceMetric] = &[
    at(At::Threshold, realised("accuracy", "accuracy", CLASSES)),
    at(At::ThresholdOrPlaces, realised("precision", "precision", FIRST_PLACES)),
    at(At::Threshold, realised("recall", "recall", BINARY)),
    at(At::Threshold, realised("specificity", "specificity", BINARY)),
    at(At::Threshold, realised("f1", "F1", BINARY)),
    at(At::Threshold, realised("balanced_accuracy", "balanced accuracy", BINARY)),
    at(At::Threshold, realised("mcc", "MCC", BINARY)),
    at(At::Threshold, realised("positive_rate", "rate of positive predictions", BINARY)),
    realised("prevalence", "rate of positive labels", BINARY),
    realised("roc_auc", "ROC AUC", BINARY),
    realised("pr_auc", "PR AUC", BINARY),
    realised("log_loss", "log loss", CLASSES),
    realised("brier", "Brier score", BINARY),
    realised("ece", "expected calibration error", BINARY),
    realised("ks_score", "KS of the scores", BINARY),
    realised("gini", "Gini", BINARY),
    realised("precision_macro", "macro precision", MULTICLASS),
    realised("recall_macro", "macro recall", MULTICLASS),
    realised("f1_macro", "macro F1", MULTICLASS),
    realised("precision_micro", "micro precision", MULTICLASS),
    realised("recall_micro", "micro recall", MULTICLASS),
    realised("f1_micro", "micro F1", MULTICLASS),
    realised("precision_weighted", "weighted precision", MULTICLASS),
    realised("recall_weighted", "weighted recall", MULTICLASS),
    realised("f1_weighted", "weighted F1", MULTICLASS),
    realised("roc_auc_ovr_macro", "macro ROC AUC", MULTICLASS),
    realised("mae", "MAE", REGRESSION),
    realised("mse", "MSE", REGRESSION),
    realised("rmse", "RMSE", REGRESSION),
    realised("mape", "MAPE", REGRESSION),
    realised("medae", "median absolute error", REGRESSION),
    realised("r2", "R2", REGRESSION),
    realised("bias", "bias", REGRESSION),
    realised("rmsle", "RMSLE", REGRESSION),
    PerformanceMetric { interval: false, ..realised("max_error", "largest error", REGRESSION) },
    realised("msle", "MSLE", REGRESSION),
    realised("error_p05", "5th percentile of the error", REGRESSION),
    realised("error_p25", "25th percentile of the error", REGRESSION),
    realised("error_p50", "median error", REGRESSION),
    realised("error_p75", "75th percentile of the error", REGRESSION),
    realised("error_p95", "95th percentile of the error", REGRESSION),
    at(At::Places, realised("ndcg", "NDCG", RANKING)),
    realised("mrr", "MRR", RANKING),
    PerformanceMetric { baseline: false, ..realised("value", "value", ALL) },
    realised("value_per_prediction", "value per prediction", ALL),
    test("calibration_shift", "calibration shift", CLASSES),
    test("bias_shift", "shift of the bias", REGRESSION),
    estimate("est_accuracy", "estimated accuracy", CLASSES),
    estimate("est_precision", "estimated precision", BINARY),
    estimate("est_recall", "estimated recall", BINARY),
    estimate("est_specificity", "estimated specificity", BINARY),
    estimate("est_f1", "estimated F1", BINARY),
    estimate("est_roc_auc", "estimated ROC AUC", BINARY),
    estimate("est_pr_auc", "estimated PR AUC", BINARY),
    estimate("est_precision_macro", "estimated macro precision", MULTICLASS),
    estimate("est_recall_macro", "estimated macro recall", MULTICLASS),
    estimate("est_f1_macro", "estimated macro F1", MULTICLASS),
    estimate("est_roc_auc_ovr_macro", "estimated macro ROC AUC", MULTICLASS),
    estimate("est_mae", "estimated MAE", REGRESSION),
    estimate("est_mse", "estimated MSE", REGRESSION),
    estimate("est_rmse", "estimated RMSE", REGRESSION),
    LABEL_COVERAGE,
];

/// Name under which a metric's estimate stands: `est_` and its own.
const ESTIMATE: &str = "est_";

pub fn find(name: &str) -> Option<&'static PerformanceMetric> {
    PERFORMANCE_METRICS.iter().find(|row| row.metric.name == name)
}

/// The metric that this one estimates: `roc_auc` of `est_roc_auc`.
pub fn estimated_by(name: &str) -> Option<&'static PerformanceMetric> {
    find(name.strip_prefix(ESTIMATE)?)
}

/// The estimate of this metric, where there is one.
pub fn estimate_of(name: &str) -> Option<&'static PerformanceMetric> {
    PERFORMANCE_METRICS.iter().find(|row| row.metric.name.strip_prefix(ESTIMATE) == Some(name))
}

impl PerformanceMetric {
    /// Whether a model of this task has it.
    pub fn suits(&self, task: Task) -> bool {
        self.tasks.contains(&task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::metrics::METRICS;

    #[test]
    fn every_estimate_is_of_a_metric_and_no_name_stands_twice() {
        for row in PERFORMANCE_METRICS {
            let name = row.metric.name;
            if row.basis == Basis::Estimate {
                let of = estimated_by(name).unwrap_or_else(|| panic!("{name} estimates nothing"));
                assert_eq!(estimate_of(of.metric.name).map(|row| row.metric.name), Some(name));
                let suited = row.tasks.iter().all(|task| of.suits(*task));
                assert!(suited, "{name} is of a task that {} is not of", of.metric.name);
            }
            let same =
                PERFORMANCE_METRICS.iter().map(|row| &row.metric).chain(METRICS).filter(|other| other.name == name);
            assert_eq!(same.count(), 1, "{name} twice");
        }
    }
}
