//! What pages and gauges read of results on performance: which figures there are, realised, estimated, of the
//! reference, and how good estimates were.

use super::view::Series;
use crate::stats::metric::{FeatureStats, MetricValue};
use crate::windows::result::{PERFORMANCE_FEATURE, WindowPerformance, WindowResult};

/// Before the name of a figure that was expected without labels.
const ESTIMATE: &str = "est_";

/// Figures in the order in which people ask for them, with the words for them. Others follow by name.
const ORDER: [(&str, &str); 34] = [
    ("roc_auc", "ROC AUC"),
    ("f1", "F1"),
    ("f1_macro", "macro F1"),
    ("accuracy", "accuracy"),
    ("rmse", "RMSE"),
    ("mae", "MAE"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("specificity", "specificity"),
    ("pr_auc", "PR AUC"),
    ("log_loss", "log loss"),
    ("brier", "Brier score"),
    ("ece", "expected calibration error"),
    ("mcc", "MCC"),
    ("balanced_accuracy", "balanced accuracy"),
    ("ks_score", "KS of the scores"),
    ("gini", "Gini"),
    ("roc_auc_ovr_macro", "macro ROC AUC"),
    ("precision_macro", "macro precision"),
    ("recall_macro", "macro recall"),
    ("f1_weighted", "weighted F1"),
    ("bias", "bias"),
    ("r2", "R²"),
    ("mape", "MAPE"),
    ("medae", "median absolute error"),
    ("mse", "MSE"),
    ("rmsle", "RMSLE"),
    ("ndcg@10", "NDCG@10"),
    ("mrr", "MRR"),
    ("value", "value"),
    ("value_per_prediction", "value per prediction"),
    ("prevalence", "rate of positive labels"),
    ("positive_rate", "rate of positive predictions"),
    ("mean_score", "mean score"),
];

/// The words for a figure; its own name where there are none.
pub fn label(metric: &str) -> &str {
    ORDER.iter().find(|(name, _)| *name == metric).map_or(metric, |(_, label)| label)
}

pub fn stats(result: &WindowResult) -> Option<&FeatureStats> {
    result.features.get(PERFORMANCE_FEATURE)
}

fn known(metric: Option<&MetricValue>) -> Option<&MetricValue> {
    metric.filter(|metric| metric.value.is_some_and(f64::is_finite))
}

/// A figure that labels gave.
pub fn realised<'a>(result: &'a WindowResult, metric: &str) -> Option<&'a MetricValue> {
    known(stats(result)?.metrics.get(metric))
}

/// What it was expected to be without labels.
pub fn estimate<'a>(result: &'a WindowResult, metric: &str) -> Option<&'a MetricValue> {
    known(stats(result)?.metrics.get(&format!("{ESTIMATE}{metric}")))
}

/// What the reference had.
pub fn baseline<'a>(result: &'a WindowResult, metric: &str) -> Option<&'a MetricValue> {
    known(result.performance.as_ref()?.baseline.get(metric))
}

/// Names of all figures of these windows that are known by labels or by estimate, in order.
pub fn figures<'a>(windows: impl Iterator<Item = &'a WindowResult>) -> Vec<String> {
    let mut names: Vec<String> = windows
        .filter_map(stats)
        .flat_map(|stats| stats.metrics.iter().filter(|(_, value)| known(Some(value)).is_some()))
        .map(|(name, _)| name.strip_prefix(ESTIMATE).unwrap_or(name).to_string())
        .filter(|name| is_figure(name))
        .collect();
    names.sort();
    names.dedup();
    let place = |name: &String| ORDER.iter().position(|(known, _)| known == name).unwrap_or(ORDER.len());
    names.sort_by_key(place);
    names
}

/// Counts of a binary model's labelled predictions, in the order of [`confusion`].
const COUNTS: [&str; 4] = ["tp", "fp", "fn", "tn"];

/// Not a count, nor a test.
fn is_figure(name: &str) -> bool {
    !name.starts_with("exp_") && !SHIFTS.contains(&name) && !COUNTS.contains(&name)
}

/// Tests of what the reference knows of label and score: binary and multiclass, regression.
pub const SHIFTS: [&str; 2] = ["calibration_shift", "bias_shift"];

/// How likely labels like these are if label and score belong together as in the reference: the p-value, uncorrected.
pub fn shift_p_value(result: &WindowResult) -> Option<f64> {
    let metrics = &stats(result)?.metrics;
    SHIFTS.iter().find_map(|name| metrics.get(*name)?.p_value)
}

/// The window that stands for the model, if it has the figure by labels, else the newest that has.
pub fn last_realised<'a>(series: &'a Series, metric: &str) -> Option<&'a WindowResult> {
    let has = |result: &&WindowResult| realised(result, metric).is_some();
    standing(series).filter(has).or_else(|| series.values().rev().find(has))
}

/// Share of labels from which a window's figures stand for it, as rules have it where they do not say.
const ENOUGH_LABELS: f64 = 0.8;

/// The window whose figures stand for the model now: the newest with enough labels or with all it will get, else the
/// newest with any, else the newest.
pub fn standing(series: &Series) -> Option<&WindowResult> {
    let newest = |is_one: &dyn Fn(&WindowPerformance) -> bool| {
        series.values().rev().find(|result| behind(result).is_some_and(is_one))
    };
    newest(&|performance| performance.is_final || performance.label_coverage >= ENOUGH_LABELS)
        .or_else(|| newest(&|performance| performance.labelled > 0))
        .or_else(|| series.values().next_back())
}

/// How far estimates were from what labels said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PastError {
    /// Windows of which `mean` is the mean of |realised - estimated|.
    pub windows: u64,
    pub mean: f64,
    /// Final windows held here in which the estimate's band held the realised figure, of those with a band.
    pub within: usize,
    pub with_band: usize,
}

/// `None` where no estimate could be measured yet.
pub fn past_error(series: &Series, metric: &str) -> Option<PastError> {
    let error = series.values().rev().find_map(|result| behind(result)?.estimate_error.get(metric))?;
    let is_final = |result: &&WindowResult| behind(result).is_some_and(|performance| performance.is_final);
    let (mut within, mut with_band) = (0, 0);
    for result in series.values().filter(is_final) {
        let realised = realised(result, metric).and_then(|metric| metric.value);
        let band = estimate(result, metric).and_then(|metric| metric.interval);
        if let Some((realised, [least, most])) = realised.zip(band) {
            with_band += 1;
            within += usize::from((least..=most).contains(&realised));
        }
    }
    let (windows, mean) = (error.windows, error.mean_absolute_error);
    (windows > 0 && mean.is_finite()).then_some(PastError { windows, mean, within, with_band })
}

/// True and predicted class of a binary model's labelled predictions: true positives, false positives, false negatives,
/// true negatives.
pub fn confusion(result: &WindowResult) -> Option<[u64; 4]> {
    let mut cells = [0; 4];
    for (cell, name) in cells.iter_mut().zip(COUNTS) {
        *cell = realised(result, name)?.value?.round() as u64;
    }
    Some(cells)
}

/// Predictions and labels behind the figures.
pub fn behind(result: &WindowResult) -> Option<&WindowPerformance> {
    result.performance.as_ref()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::windows::result::{EstimateError, Segment, Window};

    fn window(hour: i64, is_final: bool, metrics: &[(&str, f64)]) -> WindowResult {
        let metric = |value: &f64| MetricValue::exact(*value).with_interval([value - 0.02, value + 0.02]);
        let metrics = metrics.iter().map(|(name, value)| (name.to_string(), metric(value))).collect();
        let stats = FeatureStats { metrics, ..FeatureStats::default() };
        WindowResult {
            model: "fraud".into(),
            version: "3".into(),
            segment: Segment::default(),
            window: Window { start_ms: hour, end_ms: hour + 1 },
            revision: 0,
            reference: "training".into(),
            reference_id: "abc".into(),
            rows: 1_000,
            complete: true,
            baseline: None,
            quality: None,
            changes: Vec::new(),
            performance: Some(WindowPerformance {
                labelled: 400,
                is_final,
                estimate_error: BTreeMap::from([(
                    "roc_auc".to_string(),
                    EstimateError { mean_absolute_error: 0.03, bias: -0.03, windows: 2 },
                )]),
                ..WindowPerformance::default()
            }),
            features: BTreeMap::from([(PERFORMANCE_FEATURE.to_string(), stats)]),
        }
    }

    #[test]
    fn figures_stand_in_the_order_in_which_people_ask_for_them() {
        let window = window(
            0,
            false,
            &[("zeal", 1.0), ("est_roc_auc", 0.7), ("accuracy", f64::NAN), ("recall", 0.5), ("exp_tp", 4.0)],
        );
        assert_eq!(figures([&window].into_iter()), ["roc_auc", "recall", "zeal"]);
    }

    #[test]
    fn past_estimates_are_measured_on_final_windows() {
        let mut series = Series::new();
        for (hour, is_final, realised, expected) in [(0, true, 0.70, 0.71), (1, true, 0.70, 0.75), (2, false, 0.1, 0.9)]
        {
            series.insert(hour, window(hour, is_final, &[("roc_auc", realised), ("est_roc_auc", expected)]));
        }
        let error = past_error(&series, "roc_auc").unwrap();
        assert_eq!(error, PastError { windows: 2, mean: 0.03, within: 1, with_band: 2 });
        assert_eq!(past_error(&series, "recall"), None);
    }

    #[test]
    fn figures_of_few_labels_do_not_stand_for_the_model_where_there_are_better_ones() {
        let of = |windows: &[(i64, bool, u64, f64)]| {
            let mut series = Series::new();
            for (hour, is_final, labelled, label_coverage) in windows {
                let mut result = window(*hour, *is_final, &[]);
                let performance = result.performance.as_mut().unwrap();
                (performance.labelled, performance.label_coverage) = (*labelled, *label_coverage);
                series.insert(*hour, result);
            }
            standing(&series).map(|result| result.window.start_ms)
        };
        assert_eq!(of(&[(0, true, 50, 0.5), (1, false, 80, 0.8), (2, false, 3, 0.03), (3, false, 0, 0.0)]), Some(1));
        assert_eq!(of(&[(0, false, 50, 0.5), (1, false, 3, 0.03), (2, false, 0, 0.0)]), Some(1));
        assert_eq!(of(&[(0, false, 0, 0.0), (1, true, 0, 0.0), (2, false, 0, 0.0)]), Some(1));
        assert_eq!(of(&[(0, false, 0, 0.0), (2, false, 0, 0.0)]), Some(2));
    }

    #[test]
    fn a_confusion_matrix_has_all_four_counts_or_is_none() {
        let counts = [("tp", 30.0), ("fp", 50.0), ("fn", 10.0), ("tn", 310.0)];
        assert_eq!(confusion(&window(0, true, &counts)), Some([30, 50, 10, 310]));
        assert_eq!(confusion(&window(0, true, &counts[..3])), None);
    }
}
