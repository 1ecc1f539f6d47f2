//! Statistics of two numeric profiles.

use std::cell::OnceCell;

use super::{MetricValue, shares, with_missing};
use crate::stats::anderson_darling;
use crate::stats::cells::Cells;
use crate::stats::cramer_von_mises;
use crate::stats::edges::{deciles_from_above, quantile_edges};
use crate::stats::energy_distance;
use crate::stats::hellinger;
use crate::stats::jensen_shannon;
use crate::stats::kolmogorov_smirnov::{self, BinnedDistance};
use crate::stats::kullback_leibler;
use crate::stats::labels::bin_labels;
use crate::stats::layout::NumericLayout;
use crate::stats::metric::BinShare;
use crate::stats::null::drift::{self, Inflations};
use crate::stats::null::homogeneity::{self, Homogeneity};
use crate::stats::null::{Inflation, scores};
use crate::stats::numeric_profile::NumericProfile;
use crate::stats::psi::{self, SCOUTER_FLOOR, SHARE_FLOOR};
use crate::stats::quantile;
use crate::stats::quantile_shift;
use crate::stats::total_variation;
use crate::stats::variance_ratio;
use crate::stats::wasserstein;
use crate::stats::welch;

/// Bins of `psi`, `js` and the other distances of shares, and of the bars people see.
const BINS: usize = 10;
/// Standard deviations below this count as this in `wasserstein_norm`, so that a constant reference stays finite.
const LEAST_STD: f64 = 0.001;
/// Up to this many distinct values in the reference, `psi_distinct` takes each for a bin.
const MOST_DISTINCT_BINS: u64 = 20;

type Statistic = for<'a, 'b> fn(&'a NumericPair<'b>) -> Option<MetricValue>;

/// One row a statistic; see [`super`].
pub(super) const STATISTICS: &[(&str, Statistic)] = &[
    ("drift", |pair| pair.drift()),
    ("psi", |pair| {
        let bins = &pair.deciles;
        let index = psi::population_stability_index(&bins.p, &bins.q, SHARE_FLOOR);
        Some(MetricValue::exact(index).with_p(pair.shape_p()))
    }),
    ("psi_q20", |pair| pair.psi(&pair.quantile_bins(20), SHARE_FLOOR)),
    ("psi_q25", |pair| pair.psi(&pair.quantile_bins(25), SHARE_FLOOR)),
    ("psi_q50", |pair| pair.psi(&pair.quantile_bins(50), SHARE_FLOOR)),
    ("psi_w10", |pair| {
        let edges = pair.layout.span()?.width_edges();
        if edges.is_empty() { Some(MetricValue::undefined()) } else { pair.psi(&pair.bins(&edges), SHARE_FLOOR) }
    }),
    ("psi_distinct", |pair| {
        (pair.layout.span()?.distinct <= MOST_DISTINCT_BINS).then(|| psi::over_distinct_values(&pair.cells))?
    }),
    ("psi_eps1e6", |pair| pair.psi(&pair.deciles, 1e-6)),
    ("psi_laplace05", |pair| pair.psi_laplace()),
    ("psi_missbin", |pair| pair.psi_missing()),
    ("js", |pair| {
        let bins = &pair.deciles;
        let distance = jensen_shannon::jensen_shannon_distance(&bins.p, &bins.q, 2.0);
        Some(MetricValue::exact(distance).with_p(pair.shape_p()))
    }),
    ("hellinger", |pair| {
        let bins = &pair.deciles;
        let distance = hellinger::hellinger_distance(&bins.p, &bins.q);
        Some(MetricValue::exact(distance).with_p(pair.shape_p()))
    }),
    ("tv", |pair| {
        let bins = &pair.deciles;
        let distance = total_variation::total_variation_distance(&bins.p, &bins.q);
        Some(MetricValue::exact(distance).with_p(pair.shape_p()))
    }),
    ("linf", |pair| {
        let bins = &pair.deciles;
        let difference = total_variation::largest_share_difference(&bins.p, &bins.q);
        let p_value = total_variation::largest_difference_p(difference, &bins.pooled(), pair.n_reference, pair.n);
        Some(MetricValue::exact(difference).with_p(p_value.map(|p| pair.widest().widen(p))))
    }),
    ("kl_cur_ref", |pair| pair.kl(&pair.deciles.p, &pair.deciles.q)),
    ("kl_ref_cur", |pair| pair.kl(&pair.deciles.q, &pair.deciles.p)),
    ("ks", |pair| {
        let ks = pair.ks()?;
        let p_value = kolmogorov_smirnov::p_value_stephens(ks.value, pair.n_reference, pair.n);
        Some(bounded(ks, 1.0).with_p(pair.widest().widen(p_value)))
    }),
    ("wasserstein", |pair| pair.wasserstein().map(|distance| bounded(distance, 1.0))),
    ("wasserstein_norm", |pair| pair.wasserstein_norm()),
    ("energy_distance", |pair| Some(energy_distance::binned(&pair.cells))),
    ("cvm", |pair| {
        let found = cramer_von_mises::binned(&pair.cells).unwrap_or_else(MetricValue::undefined);
        Some(pair.widen(found))
    }),
    ("anderson", |pair| anderson_darling::binned(&pair.cells).map(|found| pair.widen(found))),
    ("mean_shift", |pair| pair.mean_shift()),
    ("variance_ratio", |pair| pair.variance_ratio()),
    ("p50_shift", |pair| pair.quantile_shift(50)),
    ("p95_shift", |pair| pair.quantile_shift(95)),
    ("mean", |pair| described(pair.window.mean())),
    ("std", |pair| described(pair.window.std(pair.layout))),
    ("min", |pair| described(pair.window.min())),
    ("max", |pair| described(pair.window.max())),
    ("p25", |pair| pair.quantile(25)),
    ("p50", |pair| pair.quantile(50)),
    ("p75", |pair| pair.quantile(75)),
    ("p95", |pair| pair.quantile(95)),
    ("p99", |pair| pair.quantile(99)),
    ("compat.evidently.wasserstein", |pair| pair.wasserstein_norm()),
    ("compat.nannyml.js", |pair| {
        let (p, q) = pair.doane()?;
        Some(MetricValue::exact(jensen_shannon::jensen_shannon_distance(&p, &q, 2.0)))
    }),
    ("compat.nannyml.hellinger", |pair| {
        let (p, q) = pair.doane()?;
        Some(MetricValue::exact(hellinger::hellinger_distance(&p, &q)))
    }),
    ("compat.scouter.psi", |pair| pair.psi(&pair.bins(&deciles_from_above(pair.layout.percentiles())), SCOUTER_FLOOR)),
];

/// Reference and window under one layout, neither empty, and what several statistics need of them.
pub struct NumericPair<'a> {
    pub layout: &'a NumericLayout,
    pub reference: &'a NumericProfile,
    pub window: &'a NumericProfile,
    pub n_reference: u64,
    pub n: u64,
    pub cells: Cells,
    edges: Vec<f64>,
    deciles: Bins,
    wasserstein: OnceCell<Option<BinnedDistance>>,
    inflations: Inflations,
    shape: OnceCell<Option<Homogeneity>>,
}

/// Counts and shares of both sides in the same bins.
pub(super) struct Bins {
    pub reference: Vec<u64>,
    pub window: Vec<u64>,
    pub p: Vec<f64>,
    pub q: Vec<f64>,
}

impl Bins {
    fn new(reference: Vec<u64>, window: Vec<u64>) -> Self {
        let (p, q) = (shares(&reference), shares(&window));
        Self { reference, window, p, q }
    }

    /// Shares of both sides together: the best guess at those of either under no drift.
    fn pooled(&self) -> Vec<f64> {
        let both = self.reference.iter().zip(&self.window).map(|(reference, window)| reference + window);
        shares(&both.collect::<Vec<u64>>())
    }

    /// Whether both sides have the same shares.
    fn test(&self, inflation: Inflation) -> Option<Homogeneity> {
        homogeneity::test(&self.reference, &self.window, false, inflation)
    }
}

impl<'a> NumericPair<'a> {
    /// The profiles are of this layout.
    /// `None` where a side is empty.
    pub fn new(layout: &'a NumericLayout, reference: &'a NumericProfile, window: &'a NumericProfile) -> Option<Self> {
        let edges = quantile_edges(layout.percentiles(), BINS);
        let deciles = Bins::new(reference.regroup(layout, &edges), window.regroup(layout, &edges));
        let (n_reference, n) = (reference.n(), window.n());
        let cells = Cells::new(layout, reference, window)?;
        let (wasserstein, shape, inflations) = (OnceCell::new(), OnceCell::new(), Inflations::default());
        Some(Self { layout, reference, window, n_reference, n, cells, edges, deciles, wasserstein, inflations, shape })
    }

    /// With what the reference's own windows differ beyond chance.
    pub(super) fn widened(self, inflations: Inflations) -> Self {
        Self { inflations, ..self }
    }

    /// Of statistics that may see a difference of any kind.
    pub(super) fn widest(&self) -> Inflation {
        self.inflations.widest(self.deciles.p.len())
    }

    /// Whether the deciles' bins have the same shares: what all distances over them ask.
    pub(super) fn shape(&self) -> Option<Homogeneity> {
        *self.shape.get_or_init(|| self.deciles.test(self.inflations.shape))
    }

    fn shape_p(&self) -> Option<f64> {
        self.shape().map(|test| test.p_value)
    }

    fn drift(&self) -> Option<MetricValue> {
        let scores = scores::test(&self.reference.counts(), &self.window.counts());
        let p_value = drift::numeric_p(scores, self.shape(), &self.inflations);
        Some(MetricValue::exact(drift::strength(p_value)).with_p(p_value))
    }

    /// The deciles' bins, for people.
    pub(super) fn bars(&self) -> Vec<BinShare> {
        bin_labels(&self.edges)
            .into_iter()
            .zip(self.deciles.p.iter().zip(&self.deciles.q))
            .map(|(label, (reference, window))| BinShare { label, reference: *reference, window: *window })
            .collect()
    }

    fn bins(&self, edges: &[f64]) -> Bins {
        Bins::new(self.reference.regroup(self.layout, edges), self.window.regroup(self.layout, edges))
    }

    fn quantile_bins(&self, bins: usize) -> Bins {
        self.bins(&quantile_edges(self.layout.percentiles(), bins))
    }

    fn psi(&self, bins: &Bins, floor: f64) -> Option<MetricValue> {
        let index = psi::population_stability_index(&bins.p, &bins.q, floor);
        Some(MetricValue::exact(index).with_p(bins.test(self.inflations.shape).map(|test| test.p_value)))
    }

    fn psi_laplace(&self) -> Option<MetricValue> {
        let bins = &self.deciles;
        let index = psi::with_half_counts(&bins.reference, &bins.window);
        Some(MetricValue::exact(index).with_p(self.shape_p()))
    }

    fn psi_missing(&self) -> Option<MetricValue> {
        let (missing_reference, missing) = (self.reference.missing(), self.window.missing());
        let p = with_missing(&self.deciles.p, self.n_reference, missing_reference);
        let q = with_missing(&self.deciles.q, self.n, missing);
        let index = psi::population_stability_index(&p, &q, SHARE_FLOOR);
        let with_missing = |counts: &[u64], missing: u64| [counts, &[missing]].concat();
        let reference = with_missing(&self.deciles.reference, missing_reference);
        let window = with_missing(&self.deciles.window, missing);
        let test = homogeneity::test(&reference, &window, false, self.inflations.shape.or(self.inflations.missing));
        Some(MetricValue::exact(index).with_p(test.map(|test| test.p_value)))
    }

    fn kl(&self, coded_by: &[f64], of: &[f64]) -> Option<MetricValue> {
        let divergence = kullback_leibler::kullback_leibler_divergence(coded_by, of, SHARE_FLOOR);
        Some(MetricValue::exact(divergence).with_p(self.shape_p()))
    }

    fn ks(&self) -> Option<BinnedDistance> {
        kolmogorov_smirnov::binned_distance(&self.reference.counts(), &self.window.counts(), &self.layout.atoms())
    }

    fn wasserstein(&self) -> Option<BinnedDistance> {
        *self.wasserstein.get_or_init(|| {
            Some(wasserstein::binned_distance(&self.cells, self.reference.mean()?, self.window.mean()?))
        })
    }

    fn wasserstein_norm(&self) -> Option<MetricValue> {
        let std = self.reference.std(self.layout)?;
        self.wasserstein().map(|distance| bounded(distance, std.max(LEAST_STD)))
    }

    /// Its law widened by what windows differ beyond chance.
    fn widen(&self, found: MetricValue) -> MetricValue {
        found.with_p(found.p_value.map(|p_value| self.widest().widen(p_value)))
    }

    fn quantile_shift(&self, percent: u64) -> Option<MetricValue> {
        let found = quantile_shift::shift(self.layout, self.reference, self.window, percent)?;
        Some(self.widen(found))
    }

    fn quantile(&self, percent: u64) -> Option<MetricValue> {
        let found = quantile::binned(self.layout, self.window, percent, 100)?;
        Some(MetricValue::within(found.value, found.least, found.most))
    }

    /// Shares in Doane's bins of the reference; what lies outside of them in one bin more.
    fn doane(&self) -> Option<(Vec<f64>, Vec<f64>)> {
        let edges = self.layout.span()?.doane_edges();
        let shares_of = |profile: &NumericProfile| {
            let mut counts = profile.regroup(self.layout, &edges);
            let outside = counts.pop()?;
            *counts.first_mut()? += outside;
            Some(shares(&counts))
        };
        shares_of(self.reference).zip(shares_of(self.window))
    }

    /// Difference of the means in standard deviations of the reference.
    fn mean_shift(&self) -> Option<MetricValue> {
        let (before, now) = (self.reference.moments(self.layout)?, self.window.moments(self.layout)?);
        let p_value = welch::welch_t_test(before, now).map(|(_, p_value)| self.inflations.level.widen(p_value));
        let shift = (now.mean - before.mean) / self.reference.std(self.layout)?;
        Some(MetricValue::exact(shift).with_p(p_value))
    }

    fn variance_ratio(&self) -> Option<MetricValue> {
        let (before, now) = (self.reference.moments(self.layout)?, self.window.moments(self.layout)?);
        let ratio = now.variance / before.variance;
        let kurtosis = self.reference.kurtosis(self.layout).unwrap_or(f64::NAN);
        let p_value = variance_ratio::p_value(ratio, kurtosis, self.n_reference, self.n);
        Some(MetricValue::exact(ratio).with_p(p_value.map(|p| self.inflations.spread.widen(p))))
    }
}

/// Of the window alone. A mean of sums beyond the largest double is undefined rather than infinite.
fn described(value: Option<f64>) -> Option<MetricValue> {
    Some(MetricValue { value, bound: None, p_value: None, interval: None })
}

fn bounded(distance: BinnedDistance, unit: f64) -> MetricValue {
    MetricValue {
        value: Some(distance.value / unit),
        bound: Some(distance.bound / unit),
        p_value: None,
        interval: None,
    }
}
