//! Rates of one feature in one window. A rate of zero is left out of the results: that is what nearly every feature
//! of nearly every window has.

use std::collections::BTreeMap;

use crate::config::model::JOINT_SIGNAL;
use crate::stats::categorical_profile::CategoricalProfile;
use crate::stats::constant;
use crate::stats::layout::{Layout, NumericLayout};
use crate::stats::metric::{FeatureStats, MetricValue};
use crate::stats::numeric_profile::NumericProfile;
use crate::stats::out_of_range;
use crate::stats::profile::{FeatureReference, Profile};
use crate::stats::proportions;

use super::{Flaw, QualityProfile};

/// What the profile alone tells: `out_of_range_rate` and `constant`.
pub fn from_profiles(reference: &FeatureReference, window: &Profile, metrics: &mut BTreeMap<String, MetricValue>) {
    match (&reference.layout, &reference.profile, window) {
        (Layout::Numeric(layout), Profile::Numeric(of_reference), Profile::Numeric(window))
            if window.bins() == layout.bins() =>
        {
            out_of_range_rate(layout, of_reference, window, metrics);
            let is_constant = |profile: &NumericProfile| profile.min() == profile.max();
            if window.n() > 0 && of_reference.n() > 0 && is_constant(window) && !is_constant(of_reference) {
                insert_constant(&of_reference.counts(), window.n(), metrics);
            }
        }
        (Layout::Categorical(_), Profile::Categorical(of_reference), Profile::Categorical(window))
            if categories(window) == 1 && categories(of_reference) > 1 =>
        {
            insert_constant(&of_reference.counts(), window.n(), metrics);
        }
        _ => {}
    }
}

fn out_of_range_rate(
    layout: &NumericLayout,
    reference: &NumericProfile,
    window: &NumericProfile,
    metrics: &mut BTreeMap<String, MetricValue>,
) {
    let (Some(range), n) = (layout.range(), window.n()) else { return };
    let outside = layout.count_outside_range(&window.counts());
    if n == 0 || outside == 0 {
        return;
    }
    let outside_before = layout.count_outside_range(&reference.counts());
    let p_value = match range.configured {
        // A promise: one value outside of it is a fact.
        true => None,
        // The reference's own range is a sample, which new values leave now and then.
        false if outside_before == 0 => out_of_range::p_value(outside, reference.n(), n),
        // The range of the training data, and a moving reference that has left it.
        false => proportions::upper_tail_p(outside_before, reference.n(), outside, n),
    };
    let value = Some(outside as f64 / n as f64);
    metrics.insert("out_of_range_rate".into(), MetricValue { value, bound: None, p_value, interval: None });
}

fn insert_constant(counts_of_reference: &[u64], n: u64, metrics: &mut BTreeMap<String, MetricValue>) {
    let p_value = constant::p_value(counts_of_reference, n);
    metrics.insert("constant".into(), MetricValue { value: Some(1.0), bound: None, p_value, interval: None });
}

/// Categories with rows; 2 stands for more.
fn categories(profile: &CategoricalProfile) -> usize {
    let listed = profile.counts().iter().filter(|count| **count > 0).take(2).count();
    (listed as u64).saturating_add(profile.unseen_categories()).min(2) as usize
}

/// What the decoder counted: `nan_rate`, `infinite_rate`, `type_mismatch_rate`, `absent_rate`, as shares of the events
/// of the window, `rejected` ones among them. Answers whether the feature has vanished: no event has its key, though the
/// reference has values of it.
pub fn from_flaws(stats: &mut FeatureStats, window: &Profile, quality: &QualityProfile, feature: &str) -> bool {
    let (flaws, rejected) = (quality.flaws(feature), quality.rejected_events());
    let (nulls, nans, infinite) = match window {
        Profile::Numeric(profile) => {
            (profile.missing().saturating_sub(profile.nans()), profile.nans(), profile.infinite())
        }
        Profile::Categorical(profile) => (profile.missing(), 0, 0),
        // Put together from features, which have flaws of their own.
        Profile::Vector(_) if feature == JOINT_SIGNAL => return false,
        Profile::Vector(profile) => (profile.nulls(), 0, 0),
    };
    let both = |flaw: Flaw| flaws.accepted.of(flaw).saturating_add(flaws.rejected.of(flaw));
    let absent_of_accepted = nulls.saturating_sub(flaws.accepted.total());
    let events = window.rows().saturating_add(rejected);
    let absent = absent_of_accepted.saturating_add(flaws.rejected.of(Flaw::Absent));
    for (name, count) in [
        ("nan_rate", nans.saturating_add(both(Flaw::NotANumber))),
        ("infinite_rate", infinite.saturating_add(both(Flaw::Infinite))),
        ("type_mismatch_rate", both(Flaw::TypeMismatch)),
        ("absent_rate", absent),
    ] {
        if count > 0 && events > 0 {
            stats.metrics.insert(name.into(), MetricValue::exact(count as f64 / events as f64));
        }
    }
    events > 0 && absent == events && stats.n_reference > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::calibration::Calibration;
    use crate::stats::layout::CategoricalLayout;
    use std::sync::Arc;

    fn numeric(reference: &[f64], range: Option<(f64, f64)>, window: &[f64]) -> BTreeMap<String, MetricValue> {
        let mut sorted = reference.to_vec();
        sorted.sort_by(f64::total_cmp);
        let layout = Arc::new(NumericLayout::with_range(&sorted, range));
        let profile_of = |values: &[f64]| {
            let mut profile = NumericProfile::new(&layout);
            values.iter().for_each(|value| profile.add(*value, &layout));
            Profile::Numeric(Box::new(profile))
        };
        let profile = profile_of(reference);
        let reference = FeatureReference {
            name: "x".into(),
            layout: Layout::Numeric(layout.clone()),
            profile,
            calibration: Calibration::default(),
        };
        let mut metrics = BTreeMap::new();
        from_profiles(&reference, &profile_of(window), &mut metrics);
        metrics
    }

    #[test]
    fn values_outside_the_reference_are_counted_to_the_double() {
        let reference: Vec<f64> = (0..=100).map(f64::from).collect();
        let window = [0.0, -0.0, 100.0, 100.0f64.next_up(), 0.0f64.next_down(), 1e9, f64::NAN, f64::INFINITY];
        let rate = numeric(&reference, None, &window)["out_of_range_rate"];
        assert_eq!(rate.value, Some(0.5), "3 of 6 values");
        assert!(rate.p_value.unwrap() < 1e-3, "{rate:?}");
        assert!(!numeric(&reference, None, &[0.0, 50.0, 100.0]).contains_key("out_of_range_rate"));
    }

    #[test]
    fn a_configured_range_has_edges_of_its_own_and_no_chance() {
        let reference: Vec<f64> = (0..=100).map(f64::from).collect();
        let rate =
            numeric(&reference, Some((18.0, 99.5)), &[17.9, 18.0, 99.5, 99.5f64.next_up(), 50.0])["out_of_range_rate"];
        assert_eq!((rate.value, rate.p_value), (Some(0.4), None));
        assert!(!numeric(&reference, Some((-10.0, 1e6)), &[-10.0, 1e6]).contains_key("out_of_range_rate"));
        assert_eq!(numeric(&[], Some((0.0, 1.0)), &[2.0])["out_of_range_rate"].value, Some(1.0));
    }

    #[test]
    fn one_value_over_and_over_is_constant_unless_the_reference_is() {
        let reference: Vec<f64> = (0..=100).map(f64::from).collect();
        let stuck = numeric(&reference, None, &[7.0; 30])["constant"];
        assert_eq!(stuck.value, Some(1.0));
        assert!(stuck.p_value.unwrap() < 1e-20, "{stuck:?}");
        assert!(numeric(&reference, None, &[7.0])["constant"].p_value.unwrap() > 0.9);
        assert!(!numeric(&reference, None, &[7.0, 8.0]).contains_key("constant"));
        assert!(!numeric(&[7.0; 50], None, &[9.0; 30]).contains_key("constant"));
        assert!(!numeric(&reference, None, &[]).contains_key("constant"));
    }

    #[test]
    fn a_categorical_feature_is_constant_in_a_category_old_or_new() {
        let layout = CategoricalLayout::of_counts(vec![("a".into(), 50), ("b".into(), 50)]);
        let profile_of = |values: &[&str]| {
            let mut profile = CategoricalProfile::new(&layout);
            values.iter().for_each(|value| profile.add(value, &layout));
            profile
        };
        let of = |reference: &[&str], window: &[&str]| {
            let profile = Profile::Categorical(profile_of(reference));
            let layout = Layout::Categorical(Arc::new(layout.clone()));
            let reference = FeatureReference { name: "x".into(), layout, profile, calibration: Calibration::default() };
            let mut metrics = BTreeMap::new();
            from_profiles(&reference, &Profile::Categorical(profile_of(window)), &mut metrics);
            metrics.get("constant").copied()
        };
        let varied: Vec<&str> = (0..100).map(|i| if i % 2 == 0 { "a" } else { "b" }).collect();
        assert!(of(&varied, &["a"; 40]).unwrap().p_value.unwrap() < 1e-5);
        assert!(of(&varied, &["z"; 40]).is_some());
        assert_eq!(of(&varied, &["a", "z"]), None);
        assert_eq!(of(&["a"; 100], &["b"; 40]), None);
    }

    #[test]
    fn rates_are_of_all_events_rejected_ones_among_them() {
        let layout = NumericLayout::of_sorted(&[1.0, 2.0]);
        let mut profile = NumericProfile::new(&layout);
        // Six accepted events: two values, four without: one null, one text kept as missing, two without the key.
        profile.add(1.0, &layout);
        profile.add(2.0, &layout);
        profile.add_nulls(4);
        let mut quality = QualityProfile::default();
        quality.add_flaw("x", Flaw::Null);
        quality.add_flaw("x", Flaw::TypeMismatch);
        // Four rejected ones: a text, a NaN, no key; one was rejected for another feature.
        quality.add_rejected_flaw("x", Flaw::TypeMismatch);
        quality.add_rejected_flaw("x", Flaw::NotANumber);
        quality.add_rejected_flaw("x", Flaw::Absent);
        (0..4).for_each(|_| quality.add_rejected("wrong_type"));
        let mut stats = FeatureStats { n_reference: 2, ..FeatureStats::default() };
        let window = Profile::Numeric(Box::new(profile));
        assert!(!from_flaws(&mut stats, &window, &quality, "x"));
        let rate = |name: &str| stats.metrics.get(name).and_then(|rate| rate.value);
        assert_eq!(rate("type_mismatch_rate"), Some(0.2));
        assert_eq!(rate("nan_rate"), Some(0.1));
        assert_eq!(rate("absent_rate"), Some(0.3));
        assert_eq!(rate("infinite_rate"), None);
    }

    #[test]
    fn a_feature_vanishes_when_no_event_has_its_key() {
        let layout = NumericLayout::of_sorted(&[1.0, 2.0]);
        let window = |nulls: u64| {
            let mut profile = NumericProfile::new(&layout);
            profile.add_nulls(nulls);
            Profile::Numeric(Box::new(profile))
        };
        let vanished = |nulls: u64, explicit: u64, n_reference: u64| {
            let mut quality = QualityProfile::default();
            (0..explicit).for_each(|_| quality.add_flaw("x", Flaw::Null));
            from_flaws(&mut FeatureStats { n_reference, ..FeatureStats::default() }, &window(nulls), &quality, "x")
        };
        assert!(vanished(10, 0, 5));
        assert!(!vanished(10, 1, 5), "a null says that the feature is still known");
        assert!(!vanished(10, 0, 0), "the reference never had it");
        assert!(!vanished(0, 0, 5), "no events");
    }
}
