//! From two profiles of one layout to named metrics.
//!
//! `numeric`, `categorical` and `vector::evaluate` hold one table each: a name and a function of the two profiles. To add a statistic: its
//! own file under `stats`, a row in the table of its kind, a row in `rules/metrics.rs` and in the docs. What is in
//! no selection costs nothing.

mod categorical;
mod numeric;

use std::collections::BTreeMap;

use super::layout::Layout;
use super::location::location;
use super::metric::{BinShare, FeatureStats, MetricValue};
use super::null::Inflation;
use super::profile::{FeatureReference, Profile};
use super::proportions;
use super::quality;
use super::selection::Selection;
use super::vector;
use super::vector::evaluate::VectorPair;

pub use numeric::NumericPair;

/// Beyond 2^53 a count is no longer a double; nobody has that many rows, only forged bytes do.
const MOST_ROWS: u64 = 1 << 53;

/// Names of every statistic that profiles of this kind give, beside the rates of missing values.
pub fn names(layout: &Layout) -> Vec<&'static str> {
    match layout {
        Layout::Numeric(_) => numeric::STATISTICS.iter().map(|(name, _)| *name).collect(),
        Layout::Categorical(_) => categorical::STATISTICS.iter().map(|(name, _)| *name).collect(),
        Layout::Vector(_) => vector::evaluate::STATISTICS.iter().map(|(name, _)| *name).collect(),
    }
}

/// The default statistics of one feature in one window.
pub fn evaluate(reference: &FeatureReference, window: &Profile) -> FeatureStats {
    evaluate_selected(reference, window, &Selection::default())
}

/// The selected statistics of one feature in one window. Empty window or empty reference: only the rates of missing
/// values. A window of another kind or layout than the reference has no statistics at all, only its counts.
pub fn evaluate_selected(reference: &FeatureReference, window: &Profile, selection: &Selection) -> FeatureStats {
    let mut stats = FeatureStats {
        n: window.n(),
        missing: window.missing(),
        n_reference: reference.profile.n(),
        ..FeatureStats::default()
    };
    let inflations = reference.calibration.inflations(stats.n_reference, stats.n);
    null_rates(&reference.profile, window, inflations.missing, selection, &mut stats.metrics);
    let countable = window.rows().max(reference.profile.rows()) <= MOST_ROWS;
    if countable {
        quality::from_profiles(reference, window, &mut stats.metrics);
    }
    let comparable = stats.n > 0 && stats.n_reference > 0 && countable;
    match (&reference.layout, &reference.profile, window) {
        (Layout::Numeric(layout), Profile::Numeric(of_reference), Profile::Numeric(window))
            if comparable && window.bins() == layout.bins() && of_reference.bins() == layout.bins() =>
        {
            if let Some(pair) = NumericPair::new(layout, of_reference, window) {
                let pair = pair.widened(inflations);
                compute(numeric::STATISTICS, &pair, selection, &mut stats.metrics);
                stats.location = Some(location(layout, of_reference, window));
                stats.bins = pair.bars();
                stats.law = pair.shape().map(|test| test.law);
                stats.inflation = inflation_shown(pair.widest());
            }
        }
        (Layout::Categorical(layout), Profile::Categorical(of_reference), Profile::Categorical(window))
            if comparable
                && window.categories() == layout.categories().len()
                && of_reference.categories() == layout.categories().len() =>
        {
            let pair = categorical::CategoricalPair::new(layout, of_reference, window, inflations);
            compute(categorical::STATISTICS, &pair, selection, &mut stats.metrics);
            stats.bins = pair.bars();
            stats.law = pair.shape().map(|test| test.law);
            stats.inflation = inflation_shown(pair.widest());
        }
        (Layout::Vector(layout), Profile::Vector(of_reference), Profile::Vector(window))
            if comparable && of_reference.same_shape(window) && layout.dimension() == window.dimension() =>
        {
            let pair = VectorPair::new(layout, of_reference, window);
            compute(vector::evaluate::STATISTICS, &pair, selection, &mut stats.metrics);
            stats.moved = vector::evaluate::moves(layout, of_reference, window);
        }
        _ => {}
    }
    push_missing(&reference.profile, window, &mut stats.bins);
    stats
}

fn inflation_shown(widest: Inflation) -> Option<f64> {
    Some(widest.factor).filter(|factor| *factor > 1.0)
}

/// Each statistic of a table; `None` from one that does not apply to these profiles at all.
fn compute<Pair, Statistic: Fn(&Pair) -> Option<MetricValue>>(
    statistics: &[(&str, Statistic)],
    pair: &Pair,
    selection: &Selection,
    metrics: &mut BTreeMap<String, MetricValue>,
) {
    for (name, statistic) in statistics.iter().filter(|(name, _)| selection.has(name)) {
        if let Some(value) = statistic(pair) {
            metrics.insert(name.to_string(), value.tidy());
        }
    }
}

fn null_rates(
    reference: &Profile,
    window: &Profile,
    inflation: Inflation,
    selection: &Selection,
    metrics: &mut BTreeMap<String, MetricValue>,
) {
    let rate = |profile: &Profile| {
        let rows = profile.rows();
        (rows > 0).then(|| profile.missing() as f64 / rows as f64)
    };
    let p_value = proportions::two_sided_p(reference.missing(), reference.rows(), window.missing(), window.rows());
    let p_value = p_value.map(|p| inflation.widen(p));
    let change = rate(window).zip(rate(reference)).map(|(window, reference)| window - reference);
    for (name, value) in [("null_rate", rate(window)), ("null_rate_change", change)] {
        if selection.has(name) {
            metrics.insert(name.into(), MetricValue { value, bound: None, p_value, interval: None });
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::calibration::Calibration;
    use crate::stats::categorical_profile::CategoricalProfile;
    use crate::stats::layout::{CategoricalLayout, NumericLayout};
    use crate::stats::numeric_profile::NumericProfile;
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
            calibration: Calibration::default(),
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
        let calibration = Calibration::default();
        let reference = FeatureReference { name: "city".into(), layout, profile, calibration };
        evaluate(&reference, &Profile::Categorical(of_window))
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
            let (layout, profile) = (layout.clone(), reference.clone());
            let reference = FeatureReference { name: "x".into(), layout, profile, calibration: Calibration::default() };
            let stats = evaluate(&reference, window);
            assert_eq!(stats.metrics.keys().collect::<Vec<_>>(), ["null_rate", "null_rate_change"]);
            assert_eq!(stats.metrics["null_rate"].p_value, None);
        }
    }

    fn profile_bins(layout: &Layout) -> u64 {
        match layout {
            Layout::Numeric(layout) => layout.bins() as u64,
            Layout::Categorical(layout) => layout.categories().len() as u64,
            Layout::Vector(_) => 0,
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
        assert_eq!(stats.bins.len(), 13);
        assert_eq!(stats.bins.last().unwrap().label, "(18 others)");
        let sum: f64 = stats.bins.iter().map(|bin| bin.window).sum();
        assert!((sum - 1.0).abs() < 1e-12, "window shares sum to {sum}");
    }
}
