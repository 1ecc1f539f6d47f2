//! From two profiles of one layout to named metrics.

use std::collections::BTreeMap;

use super::categorical_profile::CategoricalProfile;
use super::chi_square::{self, ChiSquare};
use super::edges::quantile_edges;
use super::jensen_shannon;
use super::kolmogorov_smirnov::{self, BinnedDistance};
use super::labels::bin_labels;
use super::layout::{CategoricalLayout, Layout, NumericLayout};
use super::metric::{BinShare, FeatureStats, MetricValue};
use super::numeric_profile::NumericProfile;
use super::profile::{FeatureReference, Profile};
use super::proportions;
use super::psi::{self, SHARE_FLOOR};
use super::wasserstein;

/// Bins of `psi` and `js`, and of the bars people see.
const BINS: usize = 10;
/// Categories shown with a bar of their own.
const SHOWN_CATEGORIES: usize = 12;
/// Beyond 2^53 a count is no longer a double; nobody has that many rows, only forged bytes do.
const MOST_ROWS: u64 = 1 << 53;
/// Standard deviations below this count as this in `wasserstein_norm`, so that a constant reference stays finite.
const LEAST_STD: f64 = 0.001;

/// Every statistic of one feature in one window. Empty window or empty reference: only the rates of missing values.
/// A window of another kind or layout than the reference has no statistics at all, only its counts.
pub fn evaluate(reference: &FeatureReference, window: &Profile) -> FeatureStats {
    let mut stats = FeatureStats {
        n: window.n(),
        missing: window.missing(),
        n_reference: reference.profile.n(),
        ..FeatureStats::default()
    };
    null_rates(&reference.profile, window, &mut stats.metrics);
    let countable = window.rows().max(reference.profile.rows()) <= MOST_ROWS;
    let comparable = stats.n > 0 && stats.n_reference > 0 && countable;
    match (&reference.layout, &reference.profile, window) {
        (Layout::Numeric(layout), Profile::Numeric(of_reference), Profile::Numeric(window))
            if comparable && window.counts().len() == layout.bins() && of_reference.counts().len() == layout.bins() =>
        {
            evaluate_numeric(layout, of_reference, window, &mut stats);
        }
        (Layout::Categorical(layout), Profile::Categorical(of_reference), Profile::Categorical(window))
            if comparable
                && window.counts().len() == layout.categories().len()
                && of_reference.counts().len() == layout.categories().len() =>
        {
            evaluate_categorical(layout, of_reference, window, &mut stats);
        }
        _ => {}
    }
    push_missing(&reference.profile, window, &mut stats.bins);
    stats
}

fn null_rates(reference: &Profile, window: &Profile, metrics: &mut BTreeMap<String, MetricValue>) {
    let rate = |profile: &Profile| {
        let rows = profile.rows();
        (rows > 0).then(|| profile.missing() as f64 / rows as f64)
    };
    let p_value = proportions::two_sided_p(reference.missing(), reference.rows(), window.missing(), window.rows());
    let change = rate(window).zip(rate(reference)).map(|(window, reference)| window - reference);
    metrics.insert("null_rate".into(), MetricValue { value: rate(window), bound: None, p_value });
    metrics.insert("null_rate_change".into(), MetricValue { value: change, bound: None, p_value });
}

fn evaluate_numeric(
    layout: &NumericLayout,
    reference: &NumericProfile,
    window: &NumericProfile,
    stats: &mut FeatureStats,
) {
    let (n_reference, n) = (stats.n_reference, stats.n);
    let metrics = &mut stats.metrics;
    let edges = quantile_edges(layout.percentiles(), BINS);
    let (p, q) = (shares(&reference.regroup(layout, &edges)), shares(&window.regroup(layout, &edges)));
    let index = psi::population_stability_index(&p, &q, SHARE_FLOOR);
    insert(metrics, "psi", index, psi::p_value(index, p.len(), n_reference, n));
    let distance = jensen_shannon::jensen_shannon_distance(&p, &q, 2.0);
    insert(metrics, "js", distance, jensen_shannon::p_value(distance, p.len(), n_reference, n));

    let finer = quantile_edges(layout.percentiles(), 2 * BINS);
    let (p20, q20) = (shares(&reference.regroup(layout, &finer)), shares(&window.regroup(layout, &finer)));
    let index20 = psi::population_stability_index(&p20, &q20, SHARE_FLOOR);
    insert(metrics, "psi_q20", index20, psi::p_value(index20, p20.len(), n_reference, n));
    let (p_missing, q_missing) =
        (with_missing(&p, n_reference, reference.missing()), with_missing(&q, n, window.missing()));
    let index_missing = psi::population_stability_index(&p_missing, &q_missing, SHARE_FLOOR);
    // A bin that is empty on both sides takes no degree of freedom.
    let bins_missing = p.len() + usize::from(reference.missing() + window.missing() > 0);
    let (rows_reference, rows) = (n_reference + reference.missing(), n + window.missing());
    insert(metrics, "psi_missbin", index_missing, psi::p_value(index_missing, bins_missing, rows_reference, rows));

    if let Some(ks) = kolmogorov_smirnov::binned_distance(reference.counts(), window.counts(), &layout.atoms()) {
        let p_value = Some(kolmogorov_smirnov::p_value_stephens(ks.value, n_reference, n));
        metrics.insert("ks".into(), bounded(ks, 1.0, p_value));
    }
    let distance = side(reference)
        .zip(side(window))
        .and_then(|(reference, window)| wasserstein::binned_distance(reference, window, layout.edges()));
    if let (Some(distance), Some(std)) = (distance, reference.std(layout)) {
        metrics.insert("wasserstein".into(), bounded(distance, 1.0, None));
        metrics.insert("wasserstein_norm".into(), bounded(distance, std.max(LEAST_STD), None));
    }
    let of_window =
        [("mean", window.mean()), ("std", window.std(layout)), ("min", window.min()), ("max", window.max())];
    for (name, value) in of_window {
        // A mean of sums beyond the largest double is undefined rather than infinite: JSON has no infinity.
        let value = value.filter(|value| value.is_finite());
        metrics.insert(name.into(), MetricValue { value, bound: None, p_value: None });
    }
    stats.bins = bin_labels(&edges)
        .into_iter()
        .zip(p.iter().zip(&q))
        .map(|(label, (reference, window))| BinShare { label, reference: *reference, window: *window })
        .collect();
}

fn side(profile: &NumericProfile) -> Option<wasserstein::Side<'_>> {
    let (mean, min, max) = (profile.mean()?, profile.min()?, profile.max()?);
    Some(wasserstein::Side { counts: profile.counts(), mean, min, max })
}

fn bounded(distance: BinnedDistance, unit: f64, p_value: Option<f64>) -> MetricValue {
    let bound = (distance.bound > 0.0).then_some(distance.bound / unit);
    let value = Some(distance.value / unit).filter(|value| value.is_finite());
    MetricValue { value, bound: bound.filter(|bound| bound.is_finite()), p_value }
}

/// Counts of both sides per category that either could have; the last ones are those the reference does not list.
struct CategoryCounts {
    labels: Vec<String>,
    reference: Vec<u64>,
    window: Vec<u64>,
    /// Unseen categories that share the last entry, beyond the first of them; 0 where all are listed.
    merged: u64,
}

impl CategoryCounts {
    fn of(layout: &CategoricalLayout, reference: &CategoricalProfile, window: &CategoricalProfile) -> Self {
        let mut counts = Self {
            labels: layout.categories().to_vec(),
            reference: reference.counts().to_vec(),
            window: window.counts().to_vec(),
            merged: 0,
        };
        if layout.truncated() {
            counts.push("(not listed)", reference.unseen_mass(), window.unseen_mass());
            return counts;
        }
        for (category, rows) in window.unseen() {
            counts.push(category, 0, rows);
        }
        if window.unseen_rest() > 0 {
            counts.push("(other unseen)", 0, window.unseen_rest());
            counts.merged = window.unseen_categories().saturating_sub(window.unseen().len() as u64 + 1);
        }
        counts
    }

    fn push(&mut self, label: &str, reference: u64, window: u64) {
        self.labels.push(label.to_string());
        self.reference.push(reference);
        self.window.push(window);
    }

    /// The test of all categories. Merging categories without reference rows leaves the statistic as it is (each
    /// contributes in proportion to its rows), only the degrees of freedom have to count them.
    fn test(&self) -> Option<ChiSquare> {
        let test = chi_square::contingency(&self.reference, &self.window)?;
        if self.merged == 0 {
            return Some(test);
        }
        let dof = test.dof.saturating_add(self.merged);
        Some(ChiSquare { dof, p_value: chi_square::survival(test.statistic, dof as f64), ..test })
    }
}

fn evaluate_categorical(
    layout: &CategoricalLayout,
    reference: &CategoricalProfile,
    window: &CategoricalProfile,
    stats: &mut FeatureStats,
) {
    let (n_reference, n) = (stats.n_reference, stats.n);
    let metrics = &mut stats.metrics;
    let counts = CategoryCounts::of(layout, reference, window);
    let (p, q) = (shares(&counts.reference), shares(&counts.window));
    let test = counts.test();
    // All of these ask whether the shares are the same; of the answers known, the contingency table's holds up best
    // with rare categories, where the floor of the index breaks its own law.
    let p_value = test.map(|test| test.p_value);

    let index = psi::population_stability_index(&p, &q, SHARE_FLOOR);
    // A mass of merged categories counts as one; spread thin it would contribute nothing.
    let merged_term = match (p.last(), q.last()) {
        (Some(p), Some(q)) if counts.merged > 0 => Some(psi::term(*p, *q, SHARE_FLOOR)),
        _ => None,
    };
    metrics.insert("psi".into(), MetricValue { value: Some(index), bound: merged_term, p_value });
    insert(metrics, "js", jensen_shannon::jensen_shannon_distance(&p, &q, 2.0), p_value);
    if let Some(test) = test {
        insert(metrics, "chi_square", test.statistic, p_value);
        insert(metrics, "cramers_v", chi_square::cramers_v(test.statistic, n_reference, n), p_value);
    }
    let lost = counts.reference.iter().zip(&counts.window).filter(|(before, now)| **before > 0 && **now == 0).count();
    insert(metrics, "lost_categories", lost as f64, None);
    if !layout.truncated() {
        let unseen = window.unseen_mass();
        insert(metrics, "unseen_rate", unseen as f64 / n as f64, unseen_p_value(reference, n_reference, unseen, n));
        insert(metrics, "unseen_categories", window.unseen_categories() as f64, None);
    }
    stats.bins = largest_categories(&counts, &p, &q);
}

/// Probability of at least so many unseen rows under no drift.
///
/// The chance that a new row is of a category the reference lacks is about the share of the reference's rows whose
/// category occurs once (Good 1953, after Turing): under no drift both are rows "not met before". So this compares
/// the two shares, exactly where counts are small. A closed vocabulary has no such rows, and k unseen rows among n
/// have the probability (n / (n + n_reference))^k; a feature of many rare values is allowed as many as it had.
fn unseen_p_value(reference: &CategoricalProfile, n_reference: u64, unseen: u64, n: u64) -> Option<f64> {
    let met_once = reference.counts().iter().filter(|count| **count == 1).count() as u64;
    proportions::upper_tail_p(met_once, n_reference, unseen, n)
}

/// The categories with the largest share on either side, then the rest in one.
fn largest_categories(counts: &CategoryCounts, p: &[f64], q: &[f64]) -> Vec<BinShare> {
    let mut order: Vec<usize> = (0..counts.labels.len()).collect();
    order.sort_by(|&a, &b| p[b].max(q[b]).total_cmp(&p[a].max(q[a])).then(a.cmp(&b)));
    let shown = if order.len() == SHOWN_CATEGORIES + 1 { order.len() } else { SHOWN_CATEGORIES.min(order.len()) };
    let (largest, rest) = order.split_at(shown);
    let mut bins: Vec<BinShare> =
        largest.iter().map(|&i| BinShare { label: counts.labels[i].clone(), reference: p[i], window: q[i] }).collect();
    if !rest.is_empty() {
        let total = |side: &[f64]| rest.iter().map(|&i| side[i]).sum();
        bins.push(BinShare { label: format!("({} others)", rest.len()), reference: total(p), window: total(q) });
    }
    bins
}

/// `(missing)`, as shares of all rows; the other bins are shares of the values.
fn push_missing(reference: &Profile, window: &Profile, bins: &mut Vec<BinShare>) {
    if reference.missing() == 0 && window.missing() == 0 {
        return;
    }
    let rate = |profile: &Profile| match profile.rows() {
        0 => 0.0,
        rows => profile.missing() as f64 / rows as f64,
    };
    bins.push(BinShare { label: "(missing)".into(), reference: rate(reference), window: rate(window) });
}

fn shares(counts: &[u64]) -> Vec<f64> {
    let total = counts.iter().fold(0u64, |total, count| total.saturating_add(*count)) as f64;
    counts.iter().map(|count| *count as f64 / total).collect()
}

/// Shares of all rows, missing ones last, from shares of the `n` values.
fn with_missing(shares: &[f64], n: u64, missing: u64) -> Vec<f64> {
    let rows = n as f64 + missing as f64;
    shares.iter().map(|share| share * n as f64 / rows).chain([missing as f64 / rows]).collect()
}

fn insert(metrics: &mut BTreeMap<String, MetricValue>, name: &str, value: f64, p_value: Option<f64>) {
    let value = Some(value).filter(|value| value.is_finite());
    metrics.insert(name.into(), MetricValue { value, bound: None, p_value });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn numeric(reference: &[f64], window: &[f64]) -> FeatureStats {
        let mut sorted = reference.to_vec();
        sorted.sort_by(f64::total_cmp);
        let layout = Arc::new(NumericLayout::of_sorted(&sorted));
        let profile_of = |values: &[f64]| {
            let mut profile = NumericProfile::new(&layout);
            values.iter().for_each(|value| profile.add(*value, &layout));
            Profile::Numeric(Box::new(profile))
        };
        let reference = FeatureReference {
            name: "amount".into(),
            layout: Layout::Numeric(layout.clone()),
            profile: profile_of(reference),
        };
        evaluate(&reference, &profile_of(window))
    }

    fn categorical(reference: &[(&str, u64)], window: &[&str]) -> FeatureStats {
        let layout = CategoricalLayout::of_counts(reference.iter().map(|(c, n)| (c.to_string(), *n)).collect());
        let mut of_reference = CategoricalProfile::new(&layout);
        for (category, rows) in reference {
            (0..*rows).for_each(|_| of_reference.add(category, &layout));
        }
        let mut of_window = CategoricalProfile::new(&layout);
        window.iter().for_each(|category| of_window.add(category, &layout));
        let layout = Layout::Categorical(Arc::new(layout));
        let profile = Profile::Categorical(of_reference);
        evaluate(&FeatureReference { name: "city".into(), layout, profile }, &Profile::Categorical(of_window))
    }

    #[test]
    fn a_window_like_the_reference_shows_no_drift() {
        let values: Vec<f64> = (0..2_000).map(f64::from).collect();
        let stats = numeric(&values, &values);
        for name in ["psi", "psi_q20", "js", "ks", "null_rate", "null_rate_change"] {
            assert_eq!(stats.metrics[name].value, Some(0.0), "{name}");
        }
        let wasserstein = stats.metrics["wasserstein"];
        assert!(wasserstein.value.unwrap() <= wasserstein.bound.unwrap(), "{wasserstein:?}");
        assert_eq!(stats.bins.len(), 10);
        assert_eq!(stats.bins[0].label, "< 199.9");
    }

    #[test]
    fn a_move_of_a_constant_is_seen_whole() {
        let stats = numeric(&[5.0; 100], &[7.0; 50]);
        assert_eq!(stats.metrics["ks"].value, Some(1.0));
        assert_eq!(stats.metrics["ks"].bound, None);
        assert_eq!(stats.metrics["wasserstein"].value, Some(2.0));
    }

    #[test]
    fn an_empty_side_leaves_only_the_rates() {
        let keys = |stats: &FeatureStats| stats.metrics.keys().cloned().collect::<Vec<_>>();
        let empty_reference = numeric(&[], &[1.0]);
        assert_eq!(keys(&empty_reference), ["null_rate", "null_rate_change"]);
        let missing_window = numeric(&[1.0, 2.0], &[f64::NAN, f64::NAN]);
        assert_eq!(keys(&missing_window), ["null_rate", "null_rate_change"]);
        assert_eq!(missing_window.metrics["null_rate"].value, Some(1.0));
        let no_rows = numeric(&[1.0], &[]);
        assert_eq!(no_rows.metrics["null_rate"].value, None);
    }

    #[test]
    fn counts_nobody_can_have_are_no_statistic() {
        let layout = Layout::Numeric(Arc::new(NumericLayout::of_sorted(&[1.0, 2.0])));
        let (mut forged, mut honest) = (vec![1, 0], vec![1, 0]);
        for bytes in [&mut forged, &mut honest] {
            super::super::varint::write(profile_bins(&layout), bytes);
        }
        // u64::MAX nulls, and no values on the other side.
        super::super::varint::write(u64::MAX, &mut forged);
        forged.extend([0, 0, 0, 1, 0]);
        super::super::varint::write(u64::MAX, &mut forged);
        forged.extend(1.0f64.to_le_bytes().repeat(2));
        forged.extend([0, 0]);
        honest.extend([0, 0, 0, 0, 0]);
        let forged = Profile::decode(&forged, &layout).unwrap();
        let honest = Profile::decode(&honest, &layout).unwrap();
        for (reference, window) in [(&forged, &forged), (&honest, &forged), (&forged, &honest)] {
            let reference = FeatureReference { name: "x".into(), layout: layout.clone(), profile: reference.clone() };
            let stats = evaluate(&reference, window);
            assert_eq!(stats.metrics.keys().collect::<Vec<_>>(), ["null_rate", "null_rate_change"]);
            assert_eq!(stats.metrics["null_rate"].p_value, None);
        }
    }

    fn profile_bins(layout: &Layout) -> u64 {
        match layout {
            Layout::Numeric(layout) => layout.bins() as u64,
            Layout::Categorical(layout) => layout.categories().len() as u64,
        }
    }

    #[test]
    fn unseen_and_lost_categories_are_counted() {
        let stats = categorical(&[("a", 60), ("b", 40)], &["a", "a", "new", ""]);
        assert_eq!(stats.metrics["unseen_rate"].value, Some(0.5));
        assert_eq!(stats.metrics["unseen_categories"].value, Some(2.0));
        assert_eq!(stats.metrics["lost_categories"].value, Some(1.0));
        // Both unseen rows among the 4 new of 104 rows: (4 * 3) / (104 * 103).
        let p = stats.metrics["unseen_rate"].p_value.unwrap();
        let expected = 12.0 / (104.0 * 103.0);
        assert!((p / expected - 1.0).abs() < 1e-9, "ours {p}, expected {expected}");
    }

    #[test]
    fn rare_values_allow_as_many_unseen_ones() {
        let rare: Vec<String> = (0..100).map(|i| format!("r{i}")).collect();
        let mut reference: Vec<(&str, u64)> = rare.iter().map(|c| (c.as_str(), 1)).collect();
        reference.push(("common", 900));
        let mut window = vec!["common"; 92];
        let fresh: Vec<String> = (0..8).map(|i| format!("x{i}")).collect();
        window.extend(fresh.iter().map(String::as_str));
        let p = categorical(&reference, &window).metrics["unseen_rate"].p_value.unwrap();
        assert!(p > 0.5, "8% unseen of a feature with 10% values met once: p {p}");
    }

    #[test]
    fn few_categories_are_shown_and_the_rest_summed() {
        let names: Vec<String> = (0..30).map(|i| format!("c{i:02}")).collect();
        let reference: Vec<(&str, u64)> = names.iter().map(|c| (c.as_str(), 10)).collect();
        let stats = categorical(&reference, &["c00", "c29"]);
        assert_eq!(stats.bins.len(), SHOWN_CATEGORIES + 1);
        assert_eq!(stats.bins.last().unwrap().label, "(18 others)");
        let sum: f64 = stats.bins.iter().map(|bin| bin.window).sum();
        assert!((sum - 1.0).abs() < 1e-12, "window shares sum to {sum}");
    }
}
