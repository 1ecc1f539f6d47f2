//! The metrics that rules may name: the keys of `FeatureStats::metrics`, and `row_count`.

use crate::config::model::Kind;

/// What a metric is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    Numeric,
    Categorical,
    /// Any feature.
    Feature,
    /// The window as a whole.
    Window,
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
    distance("psi", "PSI", Subject::Feature),
    distance("psi_q20", "PSI over 20 bins", Subject::Numeric),
    distance("psi_q25", "PSI over 25 bins", Subject::Numeric),
    distance("psi_q50", "PSI over 50 bins", Subject::Numeric),
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
    distance("mean_shift", "mean shift", Subject::Numeric),
    distance("variance_ratio", "variance ratio", Subject::Numeric),
    distance("chi_square", "chi-square", Subject::Categorical),
    distance("chi_square_yates", "chi-square after Yates", Subject::Categorical),
    distance("chi_square_gof", "chi-square of fit", Subject::Categorical),
    distance("cramers_v", "Cramér's V", Subject::Categorical),
    share("null_rate", "null rate", Subject::Feature),
    share("null_rate_change", "null rate change", Subject::Feature),
    share("unseen_rate", "unseen rate", Subject::Categorical),
    metric("unseen_categories", "unseen categories", Subject::Categorical),
    metric("lost_categories", "lost categories", Subject::Categorical),
    metric("mean", "mean", Subject::Numeric),
    metric("std", "standard deviation", Subject::Numeric),
    metric("min", "minimum", Subject::Numeric),
    metric("max", "maximum", Subject::Numeric),
    metric("row_count", "row count", Subject::Window),
];

pub fn find(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name)
}

impl Metric {
    /// Whether features of this kind have the metric.
    pub fn suits(&self, kind: Kind) -> bool {
        match self.subject {
            Subject::Numeric => kind == Kind::Numeric,
            Subject::Categorical => kind == Kind::Categorical,
            Subject::Feature | Subject::Window => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::stats::evaluate;
    use crate::stats::layout::{CategoricalLayout, Layout, NumericLayout};

    /// What profiles give has a name in rules, and of the kind of feature that has it.
    #[test]
    fn every_statistic_of_profiles_is_a_metric() {
        let numeric = Layout::Numeric(Arc::new(NumericLayout::of_sorted(&[1.0])));
        let categorical = Layout::Categorical(Arc::new(CategoricalLayout::of_counts(vec![("a".into(), 1)])));
        for (layout, kind) in [(numeric, Kind::Numeric), (categorical, Kind::Categorical)] {
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
