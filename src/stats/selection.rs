//! Which statistics of a feature are computed: results travel through Kafka for every window, segment and feature,
//! so what nobody asked for is left out.

use std::collections::BTreeSet;

/// Computed for every feature of every model: what the pages show, and what other statistics are judged by.
pub const DEFAULT_METRICS: &[&str] = &[
    "null_rate",
    "null_rate_change",
    "drift",
    "psi",
    "psi_q20",
    "psi_missbin",
    "js",
    "ks",
    "wasserstein",
    "wasserstein_norm",
    "mean",
    "std",
    "min",
    "max",
    "chi_square",
    "cramers_v",
    "unseen_rate",
    "unseen_categories",
    "lost_categories",
    "mmd2",
    "pca_reconstruction_error",
    "pca_reconstruction_shift",
    "mean_cosine_distance",
    "incomplete_rate",
];

/// Names of metrics: the default ones, and more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// `None`: every one.
    names: Option<BTreeSet<String>>,
}

impl Default for Selection {
    fn default() -> Self {
        Self { names: Some(DEFAULT_METRICS.iter().map(ToString::to_string).collect()) }
    }
}

impl Selection {
    /// Every statistic there is.
    pub fn all() -> Self {
        Self { names: None }
    }

    /// These beside what is selected already.
    pub fn with<'a>(mut self, more: impl IntoIterator<Item = &'a str>) -> Self {
        if let Some(names) = &mut self.names {
            names.extend(more.into_iter().map(str::to_string));
        }
        self
    }

    pub fn has(&self, name: &str) -> bool {
        self.names.as_ref().is_none_or(|names| names.contains(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_added_to_the_default() {
        let selection = Selection::default().with(["hellinger"]);
        assert!(selection.has("psi") && selection.has("hellinger") && !selection.has("energy_distance"));
        assert!(Selection::all().with(["hellinger"]).has("energy_distance"));
    }
}
