//! What changed from one reference to another, feature by feature.
//!
//! Each reference is cut at its own values, so that one is read at the other's edges: exactly where both have an edge,
//! else within the bin in proportion to its width. What a bin may hide is the bound beside a value: on continuous data
//! at most a thousandth of the values.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::performance::diff::PerformanceDiff;
use super::{FeatureReference, Reference, Source};
use crate::stats::categorical_profile::CategoricalProfile;
use crate::stats::edges::quantile_edges;
use crate::stats::layout::{CategoricalLayout, Layout, NumericLayout};
use crate::stats::metric::MetricValue;
use crate::stats::numeric_profile::NumericProfile;
use crate::stats::profile::Profile;
use crate::stats::psi::{SHARE_FLOOR, population_stability_index};

/// Bins of `psi`, at the deciles of the first reference.
const BINS: usize = 10;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReferenceDiff {
    pub model: String,
    pub before: Side,
    pub after: Side,
    /// Those that both have.
    pub features: Vec<FeatureDiff>,
    /// Features of the first only, and of the second only.
    pub removed: Vec<String>,
    pub added: Vec<String>,
    /// Where both have labels and judge rows alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub performance: Option<PerformanceDiff>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Side {
    pub name: String,
    pub id: String,
    /// Epoch milliseconds.
    pub created_ms: i64,
    pub rows: u64,
    pub source: Source,
}

/// Pairs are of the first and the second reference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FeatureDiff {
    pub name: String,
    /// `numeric`, `categorical`, or both, in this order, where the kind changed.
    pub kind: String,
    /// Non-missing values.
    pub n: (u64, u64),
    /// Missing values / rows.
    pub missing_rate: (Option<f64>, Option<f64>),
    /// Population stability index of the second against the first.
    pub psi: MetricValue,
    /// Kolmogorov-Smirnov distance; numeric features only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ks: Option<MetricValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<(Option<f64>, Option<f64>)>,
    /// Categories of the second alone, and of the first alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub came: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub went: Vec<String>,
}

impl ReferenceDiff {
    pub fn of(before: &Reference, after: &Reference) -> Self {
        let names = |reference: &Reference| reference.features.keys().cloned().collect::<BTreeSet<String>>();
        let (of_before, of_after) = (names(before), names(after));
        let shared = before.features.iter().filter_map(|(name, left)| Some((left, after.features.get(name)?)));
        Self {
            model: before.model.clone(),
            before: side(before),
            after: side(after),
            features: shared.map(|(left, right)| feature(left, right)).collect(),
            removed: of_before.difference(&of_after).cloned().collect(),
            added: of_after.difference(&of_before).cloned().collect(),
            performance: PerformanceDiff::of(before, after),
        }
    }
}

fn side(reference: &Reference) -> Side {
    Side {
        name: reference.name.clone(),
        id: reference.id.clone(),
        created_ms: reference.created_ms,
        rows: reference.rows,
        source: reference.source.clone(),
    }
}

fn feature(before: &FeatureReference, after: &FeatureReference) -> FeatureDiff {
    let missing_rate = |profile: &Profile| match profile.rows() {
        0 => None,
        rows => Some(profile.missing() as f64 / rows as f64),
    };
    let (old_kind, new_kind) = (before.layout.kind_name(), after.layout.kind_name());
    let mut diff = FeatureDiff {
        name: before.name.clone(),
        kind: if old_kind == new_kind { old_kind.into() } else { format!("{old_kind}, {new_kind}") },
        n: (before.profile.n(), after.profile.n()),
        missing_rate: (missing_rate(&before.profile), missing_rate(&after.profile)),
        psi: MetricValue::undefined(),
        ks: None,
        mean: None,
        came: Vec::new(),
        went: Vec::new(),
    };
    match (&before.layout, &before.profile, &after.layout, &after.profile) {
        (Layout::Numeric(left), Profile::Numeric(old), Layout::Numeric(right), Profile::Numeric(new)) => {
            let (old, new) = (Distribution::of(left, old), Distribution::of(right, new));
            diff.mean = Some((old.profile.mean(), new.profile.mean()));
            if old.n > 0.0 && new.n > 0.0 {
                diff.psi = numeric_psi(&old, &new);
                diff.ks = Some(distance(&old, &new));
            }
        }
        (
            Layout::Categorical(left),
            Profile::Categorical(old),
            Layout::Categorical(right),
            Profile::Categorical(new),
        ) => {
            categorical((left, old), (right, new), &mut diff);
        }
        _ => {}
    }
    diff
}

/// The distribution of a numeric feature, as far as its bins tell.
struct Distribution<'a> {
    layout: &'a NumericLayout,
    profile: &'a NumericProfile,
    n: f64,
    /// Values below each edge.
    below: Vec<u64>,
    atoms: Vec<bool>,
}

impl<'a> Distribution<'a> {
    fn of(layout: &'a NumericLayout, profile: &'a NumericProfile) -> Self {
        let mut sum = 0;
        let counts = profile.counts();
        let below = counts.iter().map(|count| {
            sum += count;
            sum
        });
        let below: Vec<u64> = below.take(layout.edges().len()).collect();
        Self { layout, profile, n: profile.n() as f64, below, atoms: layout.atoms() }
    }

    /// Share of the values below `x`, and how far off that may be.
    fn below(&self, x: f64) -> (f64, f64) {
        let (edges, counts) = (self.layout.edges(), self.profile.counts());
        if let Ok(edge) = edges.binary_search_by(|edge| edge.total_cmp(&x)) {
            return (self.below.get(edge).copied().unwrap_or(0) as f64 / self.n, 0.0);
        }
        let bin = self.layout.bin(x);
        let (Some(min), Some(max)) = (self.profile.min(), self.profile.max()) else { return (0.0, 0.0) };
        let before = bin.checked_sub(1).and_then(|edge| self.below.get(edge)).copied().unwrap_or(0) as f64;
        if x <= min || x > max {
            return (if x > max { 1.0 } else { 0.0 }, 0.0);
        }
        let low = bin.checked_sub(1).and_then(|edge| edges.get(edge)).map_or(min, |edge| edge.max(min));
        let high = edges.get(bin).map_or(max, |edge| edge.min(max));
        let inside = counts.get(bin).copied().unwrap_or(0) as f64;
        // A bin with room for one value: it is not below x.
        let atom = self.atoms.get(bin).copied().unwrap_or(false);
        let part = if atom || high <= low { 0.0 } else { ((x - low) / (high - low)).clamp(0.0, 1.0) };
        ((before + part * inside) / self.n, if atom { 0.0 } else { inside / self.n })
    }
}

fn numeric_psi(old: &Distribution<'_>, new: &Distribution<'_>) -> MetricValue {
    let edges = quantile_edges(old.layout.percentiles(), BINS);
    let at = |distribution: &Distribution<'_>| {
        let mut points = vec![(0.0, 0.0)];
        points.extend(edges.iter().map(|edge| distribution.below(*edge)));
        points.push((1.0, 0.0));
        points.windows(2).map(|pair| (pair[1].0 - pair[0].0, pair[1].1 + pair[0].1)).collect::<Vec<(f64, f64)>>()
    };
    let (p, q) = (at(old), at(new));
    let shares = |bins: &[(f64, f64)]| bins.iter().map(|(share, _)| *share).collect::<Vec<f64>>();
    let value = population_stability_index(&shares(&p), &shares(&q), SHARE_FLOOR);
    // To first order: the derivative of a term by q is ln(q / p) + 1 - p / q.
    let bound: f64 = p
        .iter()
        .zip(&q)
        .map(|((p, _), (q, off))| {
            let (p, q) = (p.max(SHARE_FLOOR), q.max(SHARE_FLOOR));
            ((q / p).ln() + 1.0 - p / q).abs() * off
        })
        .sum();
    MetricValue { value: Some(value), bound: (bound > 0.0).then_some(bound), p_value: None, interval: None }
}

/// Over the edges of both.
fn distance(old: &Distribution<'_>, new: &Distribution<'_>) -> MetricValue {
    let edges = old.layout.edges().iter().chain(new.layout.edges());
    let (mut value, mut most) = (0.0f64, 0.0f64);
    for edge in edges {
        let ((left, left_off), (right, right_off)) = (old.below(*edge), new.below(*edge));
        value = value.max((left - right).abs());
        most = most.max((left - right).abs() + left_off + right_off);
    }
    // Between edges each can move by the mass of a bin that is no atom.
    let hidden = |distribution: &Distribution<'_>| {
        let bins = distribution.profile.counts().into_iter().zip(&distribution.atoms);
        bins.filter(|(_, atom)| !**atom).map(|(count, _)| count).max().unwrap_or(0) as f64 / distribution.n
    };
    let bound = (most - value) + hidden(old).min(hidden(new));
    MetricValue { value: Some(value), bound: (bound > 0.0).then_some(bound), p_value: None, interval: None }
}

fn categorical(
    (left, old): (&CategoricalLayout, &CategoricalProfile),
    (right, new): (&CategoricalLayout, &CategoricalProfile),
    diff: &mut FeatureDiff,
) {
    let counts = |layout: &CategoricalLayout, profile: &CategoricalProfile| -> BTreeMap<String, u64> {
        layout.categories().iter().cloned().zip(profile.counts()).filter(|(_, n)| *n > 0).collect()
    };
    let (of_old, of_new) = (counts(left, old), counts(right, new));
    let alone = |here: &BTreeMap<String, u64>, there: &BTreeMap<String, u64>| -> Vec<String> {
        here.keys().filter(|category| !there.contains_key(*category)).cloned().collect()
    };
    // What is counted together on one side may be listed on the other.
    if !left.truncated() {
        diff.came = alone(&of_new, &of_old);
    }
    if !right.truncated() {
        diff.went = alone(&of_old, &of_new);
    }
    if old.n() == 0 || new.n() == 0 {
        return;
    }
    let categories: BTreeSet<&String> = of_old.keys().chain(of_new.keys()).collect();
    let shares = |counts: &BTreeMap<String, u64>, profile: &CategoricalProfile| {
        let listed = categories.iter().map(|category| counts.get(*category).copied().unwrap_or(0));
        let all = listed.chain(std::iter::once(profile.unseen_mass()));
        all.map(|count| count as f64 / profile.n() as f64).collect::<Vec<f64>>()
    };
    let index = population_stability_index(&shares(&of_old, old), &shares(&of_new, new), SHARE_FLOOR);
    diff.psi = MetricValue::exact(index);
}

#[cfg(test)]
mod tests {
    use super::super::build::tests::{batch, build};
    use super::*;

    fn diff(before: Vec<Option<f64>>, after: Vec<Option<f64>>) -> ReferenceDiff {
        ReferenceDiff::of(&build(&[batch(before)]).unwrap(), &build(&[batch(after)]).unwrap())
    }

    fn amounts(count: i32, scale: f64, shift: f64) -> Vec<Option<f64>> {
        // A permutation, so that the order of the rows says nothing.
        (0..count).map(|i| Some(f64::from(i * 7_919 % count) * scale + shift)).collect()
    }

    #[test]
    fn a_reference_does_not_differ_from_itself() {
        let same = diff(amounts(5_000, 0.01, 0.0), amounts(5_000, 0.01, 0.0));
        for feature in &same.features {
            assert!(feature.psi.value.unwrap().abs() < 1e-12, "{feature:?}");
            assert!(feature.ks.is_none_or(|ks| ks.value.unwrap() < 1e-12), "{feature:?}");
        }
    }

    #[test]
    fn the_distance_of_the_rows_lies_within_the_bound() {
        // Uniform on [0, 50) and on [5, 55): the distance is 0.1; other edges, since the scale differs too.
        let moved = diff(amounts(5_000, 0.01, 0.0), amounts(4_000, 0.0125, 5.0));
        let amount = moved.features.iter().find(|feature| feature.name == "amount").unwrap();
        let ks = amount.ks.unwrap();
        let (value, bound) = (ks.value.unwrap(), ks.bound.unwrap());
        assert!(value <= 0.1 + 1e-3 && value + bound >= 0.1, "{value} + {bound}");
        assert!(bound < 0.005, "bound {bound}");
        // Deciles of the first: the lowest loses all, the highest doubles.
        let expected = (1e-4 - 0.1) * (1e-3f64).ln() + 0.1 * 2f64.ln();
        let psi = amount.psi.value.unwrap();
        assert!((psi - expected).abs() < 0.01, "psi {psi}, expected {expected}");
        assert_eq!(amount.n, (5_000, 4_000));
    }

    #[test]
    fn missing_values_and_categories_that_came_and_went_are_named() {
        let mut with_gaps = amounts(1_000, 1.0, 0.0);
        with_gaps.iter_mut().step_by(4).for_each(|amount| *amount = None);
        let gaps = diff(amounts(1_000, 1.0, 0.0), with_gaps);
        let amount = gaps.features.iter().find(|feature| feature.name == "amount").unwrap();
        assert_eq!(amount.missing_rate, (Some(0.0), Some(0.25)));
        // One row has `de` alone.
        let lost = diff(amounts(1_000, 1.0, 0.0), vec![Some(1.0)]);
        let country = lost.features.iter().find(|feature| feature.name == "country").unwrap();
        assert_eq!((country.came.len(), country.went.as_slice()), (0, ["fr".to_string()].as_slice()));
        assert!(country.psi.value.unwrap() > 0.25);
    }
}
