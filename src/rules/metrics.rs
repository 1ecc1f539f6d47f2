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

pub const METRICS: [Metric; 18] = [
    distance("psi", "PSI", Subject::Feature),
    distance("psi_q20", "PSI over 20 bins", Subject::Numeric),
    distance("ks", "KS", Subject::Numeric),
    distance("js", "JS distance", Subject::Feature),
    distance("wasserstein", "Wasserstein distance", Subject::Numeric),
    distance("wasserstein_norm", "normed Wasserstein distance", Subject::Numeric),
    distance("chi_square", "chi-square", Subject::Categorical),
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
