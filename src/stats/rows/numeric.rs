//! All statistics of a numeric feature, reference rows against window rows, under the keys of docs/statistics.md.

use super::anderson_darling::anderson_darling;
use super::cramer_von_mises::cramer_von_mises;
use super::ecdf::{Step, merge_into, ties};
use super::energy::energy_distance;
use super::histogram::{
    common_width_edges, counts_closed, counts_open, doane_edges, quantile_edges, shares, sturges_edges, width_edges,
};
use super::kolmogorov_smirnov::{BinnedReference, binned, kolmogorov_smirnov};
use super::kolmogorov_smirnov_exact::p_value_exact;
use super::mann_whitney::mann_whitney;
use super::sample::Sample;
use super::wasserstein::{normed, wasserstein};
use super::welch::welch_t_test;
use crate::stats::evidently::fill_zeros;
use crate::stats::hellinger::hellinger_distance;
use crate::stats::jensen_shannon::jensen_shannon_distance;
use crate::stats::kolmogorov_smirnov::{p_value_asymptotic, p_value_limit, p_value_stephens};
use crate::stats::kullback_leibler::{kullback_leibler_divergence, relative_entropy};
use crate::stats::psi::{SCOUTER_FLOOR, SHARE_FLOOR, population_stability_index, with_half_counts};
use crate::stats::total_variation::{largest_share_difference, total_variation_distance};

/// Metric keys with their values, in the order computed; `None`: undefined here.
pub type Metrics = Vec<(&'static str, Option<f64>)>;

/// How much to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// What a verdict and its explanation need.
    Summary,
    /// Every key.
    Full,
    /// Every key and the exact two-sample law of KS, which takes about `n_ref * n` steps.
    FullExact,
}

/// Above this many values on a side the exact law is not computed.
const EXACT_KS_MAX_N: u64 = 10_000;
/// Up to this many distinct values in the reference, each value is a bin of its own (evidently's rule).
const MAX_DISTINCT_BINS: u64 = 20;

/// Bins cut at inner edges, with the reference's counts.
#[derive(Debug, Clone)]
struct OpenBins {
    edges: Vec<f64>,
    counts: Vec<u64>,
}

impl OpenBins {
    fn new(edges: Vec<f64>, reference: &Sample) -> Self {
        let counts = counts_open(reference.sorted(), &edges);
        Self { edges, counts }
    }
}

/// What is computed once per feature.
#[derive(Debug, Clone)]
pub struct NumericReference {
    pub sample: Sample,
    pub distinct: u64,
    depth: Depth,
    deciles: OpenBins,
    twentieths: OpenBins,
    widths: OpenBins,
    doane_edges: Vec<f64>,
    binned: Option<BinnedReference>,
}

impl NumericReference {
    pub fn new(sample: Sample, depth: Depth) -> Self {
        let empty = sample.n() == 0;
        let full = depth >= Depth::Full && !empty;
        let bins = |edges: fn(&Sample) -> Vec<f64>, wanted: bool| {
            OpenBins::new(if wanted { edges(&sample) } else { Vec::new() }, &sample)
        };
        Self {
            distinct: sample.distinct(),
            depth,
            deciles: bins(|sample| quantile_edges(sample, 10), !empty),
            twentieths: bins(|sample| quantile_edges(sample, 20), full),
            widths: bins(|sample| width_edges(sample, 10), full),
            doane_edges: if full { doane_edges(&sample) } else { Vec::new() },
            binned: if full { BinnedReference::new(&sample) } else { None },
            sample,
        }
    }

    /// Inner edges of the ten bins at the reference's deciles; fewer where values repeat.
    pub fn decile_edges(&self) -> &[f64] {
        &self.deciles.edges
    }

    /// Counts in the bins of `decile_edges`: reference, window.
    pub fn decile_counts(&self, window: &Sample) -> (Vec<u64>, Vec<u64>) {
        (self.deciles.counts.clone(), counts_open(window.sorted(), &self.deciles.edges))
    }

    /// Every metric of one window. `steps` is working memory.
    pub fn compare(&self, window: &Sample, steps: &mut Vec<Step>) -> Metrics {
        let reference = &self.sample;
        let mut metrics: Metrics = vec![
            ("n_ref", Some(reference.n() as f64)),
            ("n", Some(window.n() as f64)),
            ("missing_rate_ref", reference.missing_rate()),
            ("missing_rate", window.missing_rate()),
        ];
        if reference.n() == 0 || window.n() == 0 {
            return metrics;
        }
        self.describe(window, &mut metrics);
        self.compare_deciles(window, &mut metrics);
        merge_into(steps, reference.sorted(), window.sorted());
        self.compare_distributions(window, steps, &mut metrics);
        if self.depth >= Depth::Full {
            self.compare_other_bins(window, &mut metrics);
            self.compare_shifts(window, &mut metrics);
            self.compare_peers_bins(window, steps, &mut metrics);
            self.test(window, steps, &mut metrics);
        }
        metrics
    }

    fn describe(&self, window: &Sample, metrics: &mut Metrics) {
        for (key, value) in [
            ("mean", window.mean),
            ("std_ddof0", window.std()),
            ("std_ddof1", window.sample_variance().sqrt()),
            ("min", window.min()),
            ("max", window.max()),
            ("p25", window.quantile(25, 100)),
            ("p50", window.quantile(50, 100)),
            ("p75", window.quantile(75, 100)),
            ("p99", window.quantile(99, 100)),
            ("mean_ref", self.sample.mean),
            ("std_ref_ddof0", self.sample.std()),
            ("distinct_ref", self.distinct as f64),
        ] {
            put(metrics, key, value);
        }
    }

    fn compare_deciles(&self, window: &Sample, metrics: &mut Metrics) {
        let (n_ref, n) = (self.sample.n(), window.n());
        let counts = counts_open(window.sorted(), &self.deciles.edges);
        let (p, q) = (shares(&self.deciles.counts, n_ref), shares(&counts, n));
        put(metrics, "psi_q10", population_stability_index(&p, &q, SHARE_FLOOR));
        put(metrics, "js_q10", jensen_shannon_distance(&p, &q, 2.0));
        if self.depth < Depth::Full {
            return;
        }
        put(metrics, "psi_q10_eps1e6", population_stability_index(&p, &q, 1e-6));
        put(metrics, "psi_q10_laplace05", with_half_counts(&self.deciles.counts, &counts));
        let with_missing = |counts: &[u64], sample: &Sample| {
            let mut counts = counts.to_vec();
            counts.push(sample.rows - sample.n());
            shares(&counts, sample.rows)
        };
        let (p_rows, q_rows) = (with_missing(&self.deciles.counts, &self.sample), with_missing(&counts, window));
        put(metrics, "psi_q10_missbin", population_stability_index(&p_rows, &q_rows, SHARE_FLOOR));
        put(metrics, "hellinger_q10", hellinger_distance(&p, &q));
        put(metrics, "tv_q10", total_variation_distance(&p, &q));
        put(metrics, "linf_q10", largest_share_difference(&p, &q));
        put(metrics, "kl_q10_cur_ref", kullback_leibler_divergence(&p, &q, SHARE_FLOOR));
        put(metrics, "kl_q10_ref_cur", kullback_leibler_divergence(&q, &p, SHARE_FLOOR));
    }

    fn compare_other_bins(&self, window: &Sample, metrics: &mut Metrics) {
        let quantiles = |bins| OpenBins::new(quantile_edges(&self.sample, bins), &self.sample);
        let (q25, q50) = (&quantiles(25), &quantiles(50));
        for (key, bins) in
            [("psi_q20", &self.twentieths), ("psi_q25", q25), ("psi_q50", q50), ("psi_w10", &self.widths)]
        {
            let p = shares(&bins.counts, self.sample.n());
            let q = shares(&counts_open(window.sorted(), &bins.edges), window.n());
            put(metrics, key, population_stability_index(&p, &q, SHARE_FLOOR));
        }
        put(metrics, "doane_bins", (self.doane_edges.len() - 1) as f64);
        let mut p = shares(&counts_closed(self.sample.sorted(), &self.doane_edges), self.sample.n());
        let mut q = shares(&counts_closed(window.sorted(), &self.doane_edges), window.n());
        let outside = 1.0 - q.iter().sum::<f64>();
        if outside > 0.0 {
            p.push(0.0);
            q.push(outside);
        }
        put(metrics, "js_doane", jensen_shannon_distance(&p, &q, 2.0));
        put(metrics, "hellinger_doane", hellinger_distance(&p, &q));
    }

    /// In standard deviations of the reference; of a constant one undefined.
    fn compare_shifts(&self, window: &Sample, metrics: &mut Metrics) {
        let (reference, std) = (&self.sample, self.sample.std());
        let quantile_shift = |percent| (window.quantile(percent, 100) - reference.quantile(percent, 100)) / std;
        put(metrics, "p95", window.quantile(95, 100));
        put(metrics, "mean_shift", (window.mean - reference.mean) / std);
        put(metrics, "variance_ratio", window.sample_variance() / reference.sample_variance());
        put(metrics, "p50_shift", quantile_shift(50));
        put(metrics, "p95_shift", quantile_shift(95));
    }

    fn compare_peers_bins(&self, window: &Sample, steps: &[Step], metrics: &mut Metrics) {
        let (n_ref, n) = (self.sample.n(), window.n());
        let few = self.distinct <= MAX_DISTINCT_BINS;
        let (p_counts, q_counts): (Vec<u64>, Vec<u64>) = if few {
            ties(steps).map(|(_, reference, window)| (reference, window)).unzip()
        } else {
            let edges = sturges_edges(&self.sample, window);
            (counts_closed(self.sample.sorted(), &edges), counts_closed(window.sorted(), &edges))
        };
        let (p, q) = (shares(&p_counts, n_ref), shares(&q_counts, n));
        if few {
            put(metrics, "psi_distinct", population_stability_index(&p, &q, SHARE_FLOOR));
        }
        let (p_filled, q_filled) = (fill_zeros(&p), fill_zeros(&q));
        put(metrics, "psi_evidently", population_stability_index(&p_filled, &q_filled, 0.0));
        put(metrics, "kl_evidently", relative_entropy(&p_filled, &q_filled));
        put(metrics, "js_evidently", jensen_shannon_distance(&p, &q, std::f64::consts::E));

        // Bins (lo, hi]: a value on a decile belongs to the bin below.
        let edges: Vec<f64> = self.deciles.edges.iter().map(|edge| edge.next_up()).collect();
        let p = shares(&counts_open(self.sample.sorted(), &edges), n_ref);
        let q = shares(&counts_open(window.sorted(), &edges), n);
        put(metrics, "psi_scouter", population_stability_index(&p, &q, SCOUTER_FLOOR));

        let edges = common_width_edges(&self.sample, window, 10);
        let p = shares(&counts_closed(self.sample.sorted(), &edges), n_ref);
        let q = shares(&counts_closed(window.sorted(), &edges), n);
        put(metrics, "psi_frouros", population_stability_index(&p, &q, f64::MIN_POSITIVE));
    }

    fn compare_distributions(&self, window: &Sample, steps: &[Step], metrics: &mut Metrics) {
        let (n_ref, n) = (self.sample.n(), window.n());
        let Some(ks) = kolmogorov_smirnov(steps) else { return };
        put(metrics, "ks", ks.statistic);
        put(metrics, "ks_p_stephens", p_value_stephens(ks.statistic, n_ref, n));
        let distance = wasserstein(steps);
        put(metrics, "wasserstein", distance);
        put(metrics, "wasserstein_std0", normed(distance, self.sample.std()));
        if self.depth < Depth::Full {
            return;
        }
        put(metrics, "ks_location", ks.location);
        put(metrics, "ks_p_limit", p_value_limit(ks.statistic, n_ref, n));
        put(metrics, "ks_p_asymp", p_value_asymptotic(ks.statistic, n_ref, n));
        if self.depth == Depth::FullExact && n_ref.max(n) <= EXACT_KS_MAX_N {
            put(metrics, "ks_p_exact", p_value_exact(ks.statistic, n_ref, n));
        }
        if let Some(reference) = &self.binned {
            put(metrics, "ks_nannyml_binned", binned(reference, window));
        }
        put(metrics, "energy_distance", energy_distance(steps));
    }

    fn test(&self, window: &Sample, steps: &[Step], metrics: &mut Metrics) {
        let (cvm, cvm_p) = cramer_von_mises(steps).unwrap_or((f64::NAN, f64::NAN));
        put(metrics, "cvm", cvm);
        put(metrics, "cvm_p", cvm_p);
        if let Some((anderson, anderson_p)) = anderson_darling(steps) {
            put(metrics, "anderson", anderson);
            put(metrics, "anderson_p", anderson_p);
        }
        if self.sample.n().max(window.n()) > 1 {
            if let Some((t, t_p)) = welch_t_test(&self.sample, window) {
                put(metrics, "welch_t", t);
                put(metrics, "welch_p", t_p);
            }
            let (u, u_p) = mann_whitney(steps);
            put(metrics, "mwu", u);
            put(metrics, "mwu_p", u_p);
        }
    }
}

/// Not a number and infinity are undefined, as in JSON.
/// Adds a value; what is not finite is undefined.
pub fn put(metrics: &mut Metrics, key: &'static str, value: f64) {
    metrics.push((key, value.is_finite().then_some(value)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(metrics: &Metrics, key: &str) -> Option<f64> {
        metrics.iter().find(|(name, _)| *name == key).unwrap_or_else(|| panic!("no {key}")).1
    }

    fn compare(reference: &[f64], window: &[f64]) -> Metrics {
        let reference = NumericReference::new(Sample::new(reference.iter().copied()), Depth::FullExact);
        reference.compare(&Sample::new(window.iter().copied()), &mut Vec::new())
    }

    #[test]
    fn disjoint_samples_equal_the_oracle() {
        let reference: Vec<f64> = (0..20).map(f64::from).collect();
        let window: Vec<f64> = (100..120).map(f64::from).collect();
        let metrics = compare(&reference, &window);
        for (key, expected) in [
            ("psi_q10", 8.283089355027482),
            ("psi_q10_laplace05", 2.673771888027102),
            ("psi_q20", 8.738015597990369),
            ("psi_w10", 8.283089355027482),
            ("psi_distinct", 12.404357764450694),
            ("psi_frouros", 1415.4468137305096),
            ("js_q10", 0.8707908228691708),
            ("js_doane", 1.0),
            ("kl_evidently", 6.189799283658031),
            ("ks", 1.0),
            ("ks_location", 19.0),
            ("wasserstein_std0", 17.3421993904824),
            ("energy_distance", 13.663820841916804),
        ] {
            let ours = value(&metrics, key).unwrap();
            assert!((ours - expected).abs() < 1e-9 * expected.max(1.0), "{key}: {ours} instead of {expected}");
        }
    }

    #[test]
    fn a_window_without_values_has_counts_only() {
        let metrics = compare(&[1.0, 2.0], &[f64::NAN, f64::NAN]);
        let keys: Vec<&str> = metrics.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, ["n_ref", "n", "missing_rate_ref", "missing_rate"]);
        assert_eq!(value(&metrics, "missing_rate"), Some(1.0));
        assert_eq!(value(&compare(&[1.0], &[]), "missing_rate"), None);
    }

    #[test]
    fn infinite_results_are_undefined() {
        let metrics = compare(&[1.0, 2.0, 3.0], &[6.0]);
        assert_eq!((value(&metrics, "welch_p"), value(&metrics, "std_ddof1")), (None, None));
    }
}
