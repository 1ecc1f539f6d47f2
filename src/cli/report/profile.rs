//! The report from profiles, as the service computes: the reference and every window are counted into the reference's
//! bins or categories, and nothing but those profiles is looked at. Keys are those of the rows; what needs the rows
//! is absent.

use std::collections::BTreeMap;

use crate::stats::anderson_darling;
use crate::stats::cells::Cells;
use crate::stats::cramer_von_mises;
use crate::stats::evaluate::evaluate_selected;
use crate::stats::kolmogorov_smirnov::{p_value_asymptotic, p_value_limit, p_value_stephens};
use crate::stats::layout::Layout;
use crate::stats::mann_whitney;
use crate::stats::metric::{FeatureStats, MetricValue};
use crate::stats::numeric_profile::NumericProfile;
use crate::stats::profile::{FeatureReference, Profile};
use crate::stats::selection::Selection;
use crate::stats::welch::{Moments, welch_t_test};

/// Keys of the report with the metric whose value they give.
const NUMERIC: &[(&str, &str)] = &[
    ("mean", "mean"),
    ("std_ddof0", "std"),
    ("min", "min"),
    ("max", "max"),
    ("p25", "p25"),
    ("p50", "p50"),
    ("p75", "p75"),
    ("p95", "p95"),
    ("p99", "p99"),
    ("psi_q10", "psi"),
    ("psi_q20", "psi_q20"),
    ("psi_q25", "psi_q25"),
    ("psi_q50", "psi_q50"),
    ("psi_w10", "psi_w10"),
    ("psi_distinct", "psi_distinct"),
    ("psi_q10_eps1e6", "psi_eps1e6"),
    ("psi_q10_laplace05", "psi_laplace05"),
    ("psi_q10_missbin", "psi_missbin"),
    ("psi_scouter", "compat.scouter.psi"),
    ("js_q10", "js"),
    ("hellinger_q10", "hellinger"),
    ("tv_q10", "tv"),
    ("linf_q10", "linf"),
    ("kl_q10_cur_ref", "kl_cur_ref"),
    ("kl_q10_ref_cur", "kl_ref_cur"),
    ("js_doane", "compat.nannyml.js"),
    ("hellinger_doane", "compat.nannyml.hellinger"),
    ("ks", "ks"),
    ("wasserstein", "wasserstein"),
    ("wasserstein_std0", "wasserstein_norm"),
    ("energy_distance", "energy_distance"),
    ("cvm", "cvm"),
    ("anderson", "anderson"),
    ("mean_shift", "mean_shift"),
    ("variance_ratio", "variance_ratio"),
    ("p50_shift", "p50_shift"),
    ("p95_shift", "p95_shift"),
];

const CATEGORICAL: &[(&str, &str)] = &[
    ("unseen_categories", "unseen_categories"),
    ("unseen_rate", "unseen_rate"),
    ("lost_categories", "lost_categories"),
    ("psi", "psi"),
    ("psi_eps1e6", "psi_eps1e6"),
    ("psi_missbin", "psi_missbin"),
    ("psi_evidently", "compat.evidently.psi"),
    ("psi_scouter", "compat.scouter.psi"),
    ("js", "js"),
    ("js_base_e", "compat.evidently.js"),
    ("hellinger", "hellinger"),
    ("tv", "tv"),
    ("linf", "linf"),
    ("kl_cur_ref", "kl_cur_ref"),
    ("kl_ref_cur", "kl_ref_cur"),
    ("chi2", "chi_square"),
    ("cramers_v", "cramers_v"),
    ("chi2_yates", "chi_square_yates"),
    ("chi2_gof", "chi_square_gof"),
];

/// Values by key, with the bounds of those that have one.
#[derive(Debug, Default)]
pub struct FromProfiles {
    pub metrics: Vec<(&'static str, Option<f64>)>,
    pub bounds: BTreeMap<&'static str, f64>,
    pub stats: FeatureStats,
}

impl FromProfiles {
    fn put(&mut self, key: &'static str, value: MetricValue) {
        let value = value.tidy();
        self.metrics.push((key, value.value));
        self.bounds.extend(value.bound.map(|bound| (key, bound)));
    }

    fn put_exact(&mut self, key: &'static str, value: f64) {
        self.put(key, MetricValue::exact(value));
    }

    fn put_metrics(&mut self, keys: &[(&'static str, &str)]) {
        for (key, name) in keys {
            if let Some(value) = self.stats.metrics.get(*name).copied() {
                self.put(key, value);
            }
        }
    }

    /// The p-value of a metric under a key of its own.
    fn put_p(&mut self, key: &'static str, name: &str) {
        if let Some(p_value) = self.stats.metrics.get(name).and_then(|metric| metric.p_value) {
            self.put_exact(key, p_value);
        }
    }

    /// A law of a bounded statistic: p falls as the statistic grows.
    fn put_law(&mut self, key: &'static str, name: &str, law: impl Fn(f64) -> f64) {
        let Some(statistic) = self.stats.metrics.get(name).copied() else { return };
        let bound = statistic.bound.unwrap_or(0.0);
        let p_value = statistic.value.map_or_else(MetricValue::undefined, |value| {
            MetricValue::within(law(value), law(value + bound), law(value - bound))
        });
        self.put(key, p_value);
    }
}

/// Everything that profiles of a feature give for one window.
pub fn compare(reference: &FeatureReference, window: &Profile) -> FromProfiles {
    let stats = evaluate_selected(reference, window, &Selection::all());
    let mut found = FromProfiles { stats, ..FromProfiles::default() };
    found.put_exact("n_ref", reference.profile.n() as f64);
    found.put_exact("n", window.n() as f64);
    let rate = |profile: &Profile| profile.missing() as f64 / profile.rows() as f64;
    found.put_exact("missing_rate_ref", rate(&reference.profile));
    found.put_exact("missing_rate", rate(window));
    if reference.profile.n() == 0 || window.n() == 0 {
        return found;
    }
    match (&reference.layout, &reference.profile, window) {
        (Layout::Numeric(layout), Profile::Numeric(before), Profile::Numeric(now)) => {
            found.put_metrics(NUMERIC);
            if let Some(span) = layout.span() {
                found.put_exact("distinct_ref", span.distinct as f64);
            }
            laws(&mut found, before.n(), now.n());
            let (before_moments, now_moments) = (before.moments(layout), now.moments(layout));
            if let (Some(before_moments), Some(now_moments)) = (before_moments, now_moments) {
                describe(&mut found, before_moments, now_moments);
            }
            found.put_exact("std_ref_ddof0", before.std(layout).unwrap_or(f64::NAN));
            ranks(&mut found, layout, before, now);
        }
        (Layout::Categorical(layout), Profile::Categorical(before), Profile::Categorical(now)) => {
            found.put_metrics(CATEGORICAL);
            for (key, name) in
                [("chi2_p", "chi_square"), ("chi2_yates_p", "chi_square_yates"), ("chi2_gof_p", "chi_square_gof")]
            {
                found.put_p(key, name);
            }
            if !layout.truncated() {
                let filled = |counts: &[u64]| counts.iter().filter(|count| **count > 0).count();
                let (before, now) = (before.counts(), now.counts());
                let listed = before.iter().zip(&now).filter(|(before, now)| **before + **now > 0).count();
                found.put_exact("cardinality_ref", filled(&before) as f64);
                if let Some(unseen) = found.stats.metrics.get("unseen_categories").copied() {
                    let with_unseen = |listed: usize| MetricValue {
                        value: unseen.value.map(|unseen| unseen + listed as f64),
                        ..unseen
                    };
                    found.put("cardinality", with_unseen(filled(&now)));
                    if found.stats.metrics.contains_key("chi_square") {
                        found.put("chi2_dof", with_unseen(listed - 1));
                    }
                }
            }
        }
        _ => {}
    }
    found
}

fn laws(found: &mut FromProfiles, n_reference: u64, n: u64) {
    found.put_law("ks_p_limit", "ks", |distance| p_value_limit(distance, n_reference, n));
    found.put_law("ks_p_stephens", "ks", |distance| p_value_stephens(distance, n_reference, n));
    found.put_law("ks_p_asymp", "ks", |distance| p_value_asymptotic(distance.clamp(0.0, 1.0), n_reference, n));
    found.put_law("cvm_p", "cvm", |t| cramer_von_mises::p_value(t, n_reference, n));
    found.put_law("anderson_p", "anderson", anderson_darling::p_value);
}

fn describe(found: &mut FromProfiles, before: Moments, now: Moments) {
    found.put_exact("std_ddof1", now.variance.sqrt());
    found.put_exact("mean_ref", before.mean);
    if before.n.max(now.n) > 1
        && let Some((t, p_value)) = welch_t_test(before, now)
    {
        found.put_exact("welch_t", t);
        found.put_exact("welch_p", p_value);
    }
}

fn ranks(
    found: &mut FromProfiles,
    layout: &crate::stats::layout::NumericLayout,
    before: &NumericProfile,
    now: &NumericProfile,
) {
    if before.n().max(now.n()) > 1
        && let Some(cells) = Cells::new(layout, before, now)
    {
        let (u, p_value) = mann_whitney::binned(&cells);
        found.put("mwu", u);
        found.put("mwu_p", p_value);
    }
}
