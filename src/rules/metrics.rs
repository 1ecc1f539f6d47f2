//! The metrics of features and windows that rules may name (those of performance: `performance_metrics`): the keys of `FeatureStats::metrics`, and those of `WindowResult::window_metric`.

use super::performance_metrics::PERFORMANCE_METRICS;
use crate::config::model::Kind;
use crate::stats::change::CHANGE_POINTS;
use crate::stats::metric::{FeatureStats, MetricValue};
use crate::stats::sql::{BASELINE_VALUE, VALUE};

/// What a metric is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    Numeric,
    Categorical,
    /// A vector feature, or the joint signal.
    Vector,
    /// A numeric or categorical feature.
    Feature,
    /// Any feature, vectors too.
    Any,
    /// The window as a whole.
    Window,
    /// How well the model did: `performance_metrics`.
    Performance,
    /// The value of a rule's query.
    Query,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// As in rules and results.
    pub name: &'static str,
    /// As in sentences: "PSI 0.41".
    pub label: &'static str,
    pub subject: Subject,
    /// A distance between distributions: a finding by it must be significant too.
    pub distribution: bool,
    /// A share, written as a percentage.
    pub share: bool,
}

const fn metric(name: &'static str, label: &'static str, subject: Subject) -> Metric {
    Metric { name, label, subject, distribution: false, share: false }
}

const fn distance(name: &'static str, label: &'static str, subject: Subject) -> Metric {
    Metric { name, label, subject, distribution: true, share: false }
}

const fn share(name: &'static str, label: &'static str, subject: Subject) -> Metric {
    Metric { name, label, subject, distribution: false, share: true }
}

/// To add one: a row here and in docs/rules.md; what computes it is in `stats/evaluate`.
pub const METRICS: &[Metric] = &[
    distance("drift", "drift", Subject::Feature),
    distance("psi", "PSI", Subject::Feature),
    distance("psi_q20", "PSI over 20 bins", Subject::Numeric),
    distance("psi_q25", "PSI over 25 bins", Subject::Numeric),
    distance("psi_q50", "PSI over 50 bins", Subject::Numeric),
    distance("psi_w10", "PSI over 10 equal widths", Subject::Numeric),
    distance("psi_distinct", "PSI over distinct values", Subject::Numeric),
    distance("psi_eps1e6", "PSI with a floor of 1e-6", Subject::Feature),
    distance("psi_laplace05", "PSI with half counts", Subject::Numeric),
    distance("psi_missbin", "PSI with missing values", Subject::Feature),
    distance("ks", "KS", Subject::Numeric),
    distance("js", "JS distance", Subject::Feature),
    distance("hellinger", "Hellinger distance", Subject::Feature),
    distance("tv", "total variation", Subject::Feature),
    distance("linf", "largest share difference", Subject::Feature),
    distance("kl_cur_ref", "KL divergence from the reference", Subject::Feature),
    distance("kl_ref_cur", "KL divergence of the reference", Subject::Feature),
    distance("wasserstein", "Wasserstein distance", Subject::Numeric),
    distance("wasserstein_norm", "normed Wasserstein distance", Subject::Numeric),
    distance("energy_distance", "energy distance", Subject::Numeric),
    distance("cvm", "Cramér-von Mises statistic", Subject::Numeric),
    distance("anderson", "Anderson-Darling statistic", Subject::Numeric),
    distance("mean_shift", "mean shift", Subject::Numeric),
    distance("variance_ratio", "variance ratio", Subject::Numeric),
    distance("p50_shift", "median shift", Subject::Numeric),
    distance("p95_shift", "95th percentile shift", Subject::Numeric),
    distance("chi_square", "chi-square", Subject::Categorical),
    distance("chi_square_yates", "chi-square after Yates", Subject::Categorical),
    distance("chi_square_gof", "chi-square of fit", Subject::Categorical),
    distance("cramers_v", "Cramér's V", Subject::Categorical),
    share("null_rate", "null rate", Subject::Any),
    share("null_rate_change", "null rate change", Subject::Any),
    share("unseen_rate", "unseen rate", Subject::Categorical),
    metric("unseen_categories", "unseen categories", Subject::Categorical),
    metric("lost_categories", "lost categories", Subject::Categorical),
    metric("mean", "mean", Subject::Numeric),
    metric("std", "standard deviation", Subject::Numeric),
    metric("min", "minimum", Subject::Numeric),
    metric("max", "maximum", Subject::Numeric),
    share("nan_rate", "NaN rate", Subject::Numeric),
    share("infinite_rate", "infinite rate", Subject::Numeric),
    share("type_mismatch_rate", "type mismatch rate", Subject::Feature),
    share("absent_rate", "absent rate", Subject::Feature),
    share("out_of_range_rate", "out-of-range rate", Subject::Numeric),
    metric("constant", "constant", Subject::Feature),
    metric("p25", "25th percentile", Subject::Numeric),
    metric("p50", "median", Subject::Numeric),
    metric("p75", "75th percentile", Subject::Numeric),
    metric("p95", "95th percentile", Subject::Numeric),
    metric("p99", "99th percentile", Subject::Numeric),
    distance("compat.evidently.psi", "Evidently's PSI", Subject::Categorical),
    distance("compat.evidently.js", "Evidently's JS distance", Subject::Categorical),
    distance("compat.evidently.wasserstein", "Evidently's Wasserstein distance", Subject::Numeric),
    distance("compat.evidently.chi_square", "Evidently's chi-square", Subject::Categorical),
    distance("compat.nannyml.js", "NannyML's JS distance", Subject::Feature),
    distance("compat.nannyml.hellinger", "NannyML's Hellinger distance", Subject::Feature),
    distance("compat.nannyml.linf", "NannyML's L-infinity distance", Subject::Categorical),
    distance("compat.nannyml.chi_square", "NannyML's chi-square", Subject::Categorical),
    distance("compat.scouter.psi", "Scouter's PSI", Subject::Feature),
    metric(CHANGE_POINTS, "change points", Subject::Numeric),
    distance("mmd2", "squared MMD", Subject::Vector),
    distance("pca_reconstruction_error", "PCA reconstruction error", Subject::Vector),
    distance("pca_reconstruction_shift", "shift of the PCA reconstruction error", Subject::Vector),
    distance("mean_cosine_distance", "mean cosine distance", Subject::Vector),
    distance("classifier_auc", "classifier AUC", Subject::Vector),
    share("incomplete_rate", "share of incomplete rows", Subject::Vector),
    metric("row_count", "row count", Subject::Window),
    metric("expected_row_count", "expected row count", Subject::Window),
    share("row_count_ratio", "row count to the expected one", Subject::Window),
    share("rejected_rate", "rejected rate", Subject::Window),
    share("duplicate_rate", "duplicate rate", Subject::Window),
    metric("freshness_seconds", "seconds behind the clock", Subject::Window),
    metric("delay_seconds", "mean delay in seconds", Subject::Window),
    metric("new_features", "new features", Subject::Window),
    metric("vanished_features", "vanished features", Subject::Window),
];

/// What conditions of a rule with `sql` may name beside the metrics of windows: the value of its query, and `baseline`,
/// the value over its moving reference.
pub static QUERY_METRICS: [Metric; 2] =
    [metric(VALUE, "value", Subject::Query), metric(BASELINE_VALUE, "baseline", Subject::Query)];

/// Metrics of features that results leave out where they are zero, which they nearly always are.
const ZERO_WHERE_ABSENT: [&str; 6] =
    ["nan_rate", "infinite_rate", "type_mismatch_rate", "absent_rate", "out_of_range_rate", "constant"];
/// Of these, the ones with a law: zero is what chance gives.
const CERTAIN_WHERE_ABSENT: [&str; 2] = ["out_of_range_rate", "constant"];
/// Metrics of all events, whether they were counted or went to the dead letter.
const OF_ALL_EVENTS: [&str; 7] = [
    "nan_rate",
    "infinite_rate",
    "type_mismatch_rate",
    "absent_rate",
    "rejected_rate",
    "new_features",
    "vanished_features",
];
/// Numbers of other tools whose bins depend on the window's own values, or are too many for a profile: name, the key of
/// `driftline report` that gives them. Of categorical features some of them are metrics.
const NEEDS_ROWS: &[(&str, &str)] = &[
    ("compat.evidently.psi", "psi_evidently"),
    ("compat.evidently.js", "js_evidently"),
    ("compat.evidently.kl", "kl_evidently"),
    ("compat.nannyml.ks", "ks_nannyml_binned"),
    ("compat.frouros.psi", "psi_frouros"),
];

/// What to do about a metric that a numeric feature has, but no profile of it.
pub fn needs_rows(name: &str) -> Option<String> {
    let (_, key) = NEEDS_ROWS.iter().find(|(known, _)| *known == name)?;
    Some(format!("profiles do not have its bins: use `driftline report`, which gives it as `{key}`"))
}
/// Metrics that few rows do not make uncertain: too few rows are what they are about, or a detector read more than
/// those of the window.
const OF_FEW_ROWS: [&str; 5] =
    ["row_count", "expected_row_count", "row_count_ratio", "freshness_seconds", CHANGE_POINTS];

pub fn find(name: &str) -> Option<&'static Metric> {
    all().find(|metric| metric.name == name)
}

/// Those of features and windows, then those of performance.
pub fn all() -> impl Iterator<Item = &'static Metric> + Clone {
    METRICS.iter().chain(PERFORMANCE_METRICS.iter().map(|row| &row.metric))
}

impl Metric {
    /// The metric of one feature, also where results leave it out because it is zero.
    pub fn of_feature(&self, stats: &FeatureStats) -> Option<MetricValue> {
        let zero = || {
            let has_rows = stats.n > 0 || stats.missing > 0;
            (has_rows && ZERO_WHERE_ABSENT.contains(&self.name)).then(|| MetricValue {
                p_value: CERTAIN_WHERE_ABSENT.contains(&self.name).then_some(1.0),
                ..MetricValue::exact(0.0)
            })
        };
        stats.metrics.get(self.name).copied().or_else(zero)
    }

    /// Whether rejected events belong to the sample, too.
    pub fn counts_rejected(&self) -> bool {
        OF_ALL_EVENTS.contains(&self.name)
    }

    /// Whether a window of any size can be judged by it.
    pub fn suits_few_rows(&self) -> bool {
        OF_FEW_ROWS.contains(&self.name)
    }

    /// Whether something is known of its values without drift, so that a threshold can be `auto`. Rates of missing
    /// values are judged by their change: a rate alone is as large as it always was.
    pub fn has_law(&self) -> bool {
        self.distribution
            || matches!(self.name, "null_rate_change" | "unseen_rate" | "calibration_shift" | "bias_shift")
    }

    /// Whether features of this kind have the metric.
    pub fn suits(&self, kind: Kind) -> bool {
        match self.subject {
            Subject::Numeric => kind == Kind::Numeric,
            Subject::Categorical => kind == Kind::Categorical,
            Subject::Vector => kind == Kind::Vector,
            Subject::Feature => kind != Kind::Vector,
            Subject::Any | Subject::Window => true,
            Subject::Performance | Subject::Query => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::stats::evaluate;
    use crate::stats::layout::{CategoricalLayout, Layout, NumericLayout};
    use crate::stats::vector::layout::VectorLayout;

    /// What profiles give has a name in rules, and of the kind of feature that has it.
    #[test]
    fn every_statistic_of_profiles_is_a_metric() {
        let numeric = Layout::Numeric(Arc::new(NumericLayout::of_sorted(&[1.0])));
        let categorical = Layout::Categorical(Arc::new(CategoricalLayout::of_counts(vec![("a".into(), 1)])));
        let vector = Layout::Vector(Arc::new(VectorLayout::of_rows(&[], 2, Vec::new())));
        let kinds = [(numeric, Kind::Numeric), (categorical, Kind::Categorical), (vector, Kind::Vector)];
        for (layout, kind) in kinds {
            for name in evaluate::names(&layout) {
                let metric = find(name).unwrap_or_else(|| panic!("{name} is no metric"));
                assert!(metric.suits(kind), "{name} does not suit {kind:?}");
            }
        }
        for metric in METRICS {
            assert_eq!(METRICS.iter().filter(|other| other.name == metric.name).count(), 1, "{} twice", metric.name);
        }
    }
}
