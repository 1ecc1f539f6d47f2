//! What profiles say of a statistic holds for the rows: exact ones equal it to rounding, bounded ones within their bound,
//! whatever the rows are: continuous, tied, constant, disjoint, far out in the tails; and whether the bins are those of
//! the reference's rows or of others, as for a segment or a moving reference.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use driftline::stats::categorical_profile::MOST_UNSEEN;
use driftline::stats::evaluate::evaluate_selected;
use driftline::stats::layout::{Layout, MOST_CATEGORIES, NumericLayout};
use driftline::stats::metric::MetricValue;
use driftline::stats::numeric_profile::NumericProfile;
use driftline::stats::profile::{FeatureReference, Profile};
use driftline::stats::rows::categorical::{CategoryCounts, compare_categories};
use driftline::stats::rows::numeric::{Depth, NumericReference};
use driftline::stats::rows::sample::Sample;
use driftline::stats::selection::Selection;
use proptest::prelude::*;

/// Metric and key of the rows, whatever the bins are.
const OF_ANY_BINS: [(&str, &str); 20] = [
    ("ks", "ks"),
    ("wasserstein", "wasserstein"),
    ("wasserstein_norm", "wasserstein_std0"),
    ("energy_distance", "energy_distance"),
    ("cvm", "cvm"),
    ("anderson", "anderson"),
    ("mean_shift", "mean_shift"),
    ("variance_ratio", "variance_ratio"),
    ("p50_shift", "p50_shift"),
    ("p95_shift", "p95_shift"),
    ("p25", "p25"),
    ("p50", "p50"),
    ("p75", "p75"),
    ("p95", "p95"),
    ("p99", "p99"),
    ("mean", "mean"),
    ("std", "std_ddof0"),
    ("min", "min"),
    ("max", "max"),
    ("null_rate", "missing_rate"),
];

/// Of bins at the reference's own values.
const OF_OWN_BINS: [(&str, &str); 18] = [
    ("psi", "psi_q10"),
    ("psi_q20", "psi_q20"),
    ("psi_q25", "psi_q25"),
    ("psi_q50", "psi_q50"),
    ("psi_w10", "psi_w10"),
    ("psi_distinct", "psi_distinct"),
    ("psi_eps1e6", "psi_q10_eps1e6"),
    ("psi_laplace05", "psi_q10_laplace05"),
    ("psi_missbin", "psi_q10_missbin"),
    ("js", "js_q10"),
    ("hellinger", "hellinger_q10"),
    ("tv", "tv_q10"),
    ("linf", "linf_q10"),
    ("kl_cur_ref", "kl_q10_cur_ref"),
    ("kl_ref_cur", "kl_q10_ref_cur"),
    ("compat.scouter.psi", "psi_scouter"),
    ("compat.nannyml.js", "js_doane"),
    ("compat.nannyml.hellinger", "hellinger_doane"),
];

fn profile_of(values: &[f64], layout: &NumericLayout) -> NumericProfile {
    let mut profile = NumericProfile::new(layout);
    values.iter().for_each(|value| profile.add(*value, layout));
    profile
}

fn from_profiles(layout_of: &[f64], reference: &[f64], window: &[f64]) -> BTreeMap<String, MetricValue> {
    let mut sorted = layout_of.to_vec();
    sorted.sort_by(f64::total_cmp);
    let layout = Arc::new(NumericLayout::of_sorted(&sorted));
    let of = |values: &[f64]| Profile::Numeric(Box::new(profile_of(values, &layout)));
    let profile = of(reference);
    let reference = FeatureReference {
        name: "x".into(),
        layout: Layout::Numeric(layout.clone()),
        profile,
        calibration: Default::default(),
    };
    evaluate_selected(&reference, &of(window), &Selection::all()).metrics
}

fn from_rows(reference: &[f64], window: &[f64]) -> BTreeMap<&'static str, Option<f64>> {
    let reference = NumericReference::new(Sample::new(reference.iter().copied()), Depth::Full);
    reference.compare(&Sample::new(window.iter().copied()), &mut Vec::new()).into_iter().collect()
}

/// What is wrong, in words.
fn wrong(
    profiles: &BTreeMap<String, MetricValue>,
    rows: &BTreeMap<&'static str, Option<f64>>,
    names: &[(&str, &str)],
) -> Vec<String> {
    let mut found = Vec::new();
    for (name, key) in names {
        let (of_profile, of_rows) = (profiles.get(*name), rows.get(key));
        let (value, exact) = (of_profile.and_then(|metric| metric.value), of_rows.copied().flatten());
        let bound = of_profile.and_then(|metric| metric.bound).unwrap_or(0.0);
        match (value, exact) {
            (Some(value), Some(exact)) => {
                // Distances of shares near 0 are roots of rounding errors.
                let loose = if name.contains("js") || name.contains("hellinger") { 1e-7 } else { 1e-9 };
                if (value - exact).abs() > bound + loose * exact.abs().max(1.0) {
                    found.push(format!("{name}: {value} with the bound {bound}, rows {exact}"));
                }
            }
            (None, None) => {}
            (value, exact) => found.push(format!("{name}: {value:?}, rows {exact:?}")),
        }
    }
    found
}

/// Values of one shape: spread, tied, constant, or with tails.
fn sample(most: usize) -> impl Strategy<Value = Vec<f64>> {
    prop_oneof![
        prop::collection::vec(-50.0f64..50.0, 1..most),
        prop::collection::vec((0i32..6).prop_map(f64::from), 1..most),
        prop::collection::vec(prop_oneof![(0i32..3).prop_map(f64::from), -1.0f64..4.0], 1..most),
        (1..most).prop_map(|n| vec![2.5; n]),
        prop::collection::vec((-3.0f64..3.0).prop_map(|x| x.powi(7)), 1..most),
        prop::collection::vec(prop_oneof![0.0f64..1.0, 900.0f64..1_000.0, -800.0f64..-799.0], 1..most),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, ..ProptestConfig::default() })]

    #[test]
    fn statistics_of_the_rows_lie_within_the_bounds_of_their_own_bins(reference in sample(2_500), window in sample(300)) {
        let (profiles, rows) = (from_profiles(&reference, &reference, &window), from_rows(&reference, &window));
        prop_assert_eq!(wrong(&profiles, &rows, &OF_ANY_BINS), Vec::<String>::new());
        prop_assert_eq!(wrong(&profiles, &rows, &OF_OWN_BINS), Vec::<String>::new());
    }

    #[test]
    fn statistics_of_the_rows_lie_within_the_bounds_of_other_bins(
        layout_of in sample(40),
        reference in sample(400),
        window in sample(200),
    ) {
        let (profiles, rows) = (from_profiles(&layout_of, &reference, &window), from_rows(&reference, &window));
        prop_assert_eq!(wrong(&profiles, &rows, &OF_ANY_BINS), Vec::<String>::new());
    }

    #[test]
    fn a_p_value_is_a_probability(reference in sample(400), window in sample(200)) {
        for (name, metric) in from_profiles(&reference, &reference, &window) {
            if let Some(p_value) = metric.p_value {
                prop_assert!((0.0..=1.0).contains(&p_value), "{name}: {p_value}");
            }
        }
    }
}

#[test]
fn an_order_of_two_in_one_bin_is_neither_hidden_nor_made_up() {
    // A layout of one far value: 0 to 9 on one side, 10 to 19 on the other, or mixed, all in the same few bins.
    let layout_of = [1e6];
    let (low, high): (Vec<f64>, Vec<f64>) =
        ((0..200).map(f64::from).collect(), (0..200).map(|i| f64::from(i) + 200.0).collect());
    let mixed: Vec<f64> = (0..200).map(|i| f64::from(2 * i) + 0.5).collect();
    for (reference, window) in [(&low, &high), (&high, &low), (&low, &mixed), (&mixed, &mixed)] {
        let profiles = from_profiles(&layout_of, reference, window);
        assert_eq!(wrong(&profiles, &from_rows(reference, window), &OF_ANY_BINS), Vec::<String>::new());
        assert!(profiles["cvm"].bound.unwrap() > 1.0, "{:?}", profiles["cvm"]);
    }
}

/// Key of the rows and metric, of categorical features.
const OF_CATEGORIES: [(&str, &str); 17] = [
    ("psi", "psi"),
    ("psi_eps1e6", "psi_eps1e6"),
    ("psi_missbin", "psi_missbin"),
    ("js", "js"),
    ("hellinger", "hellinger"),
    ("tv", "tv"),
    ("linf", "linf"),
    ("kl_cur_ref", "kl_cur_ref"),
    ("kl_ref_cur", "kl_ref_cur"),
    ("chi_square", "chi2"),
    ("chi_square_yates", "chi2_yates"),
    ("cramers_v", "cramers_v"),
    ("lost_categories", "lost_categories"),
    ("unseen_rate", "unseen_rate"),
    ("unseen_categories", "unseen_categories"),
    ("compat.scouter.psi", "psi_scouter"),
    ("null_rate", "missing_rate"),
];
/// Those that a reference with more categories than are kept does not have.
const OF_LISTED: usize = 13;

type Counts = BTreeMap<String, u64>;

fn categories_differ(reference: &Counts, window: &Counts, names: &[(&str, &str)]) -> Vec<String> {
    let rows = |counts: &Counts| -> Vec<Option<String>> {
        counts.iter().flat_map(|(name, rows)| std::iter::repeat_n(Some(name.clone()), *rows as usize)).collect()
    };
    let of_reference = FeatureReference::of_categories("c", &rows(reference));
    let mut profile = Profile::new(&of_reference.layout);
    if let (Profile::Categorical(profile), Layout::Categorical(layout)) = (&mut profile, &of_reference.layout) {
        rows(window).iter().flatten().for_each(|category| profile.add(category, layout));
    }
    let profiles = evaluate_selected(&of_reference, &profile, &Selection::all()).metrics;
    let all: Vec<&String> =
        reference.keys().chain(window.keys()).collect::<std::collections::BTreeSet<_>>().into_iter().collect();
    let counts = |side: &Counts| all.iter().map(|name| side.get(*name).copied().unwrap_or(0)).collect::<Vec<u64>>();
    let (before, now) = (counts(reference), counts(window));
    let (reference_rows, window_rows) = (before.iter().sum(), now.iter().sum());
    let exact = CategoryCounts { reference: &before, window: &now, reference_rows, window_rows };
    wrong(&profiles, &compare_categories(exact, Depth::Full).into_iter().collect(), names)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn statistics_of_categories_equal_those_of_the_rows(
        reference in prop::collection::btree_map("[a-f]", 1u64..60, 1..6),
        window in prop::collection::btree_map("[a-h]", 1u64..60, 1..8),
    ) {
        prop_assert_eq!(categories_differ(&reference, &window, &OF_CATEGORIES), Vec::<String>::new());
    }
}

#[test]
fn what_is_counted_together_lies_within_the_bounds() {
    let named = |prefix: &str, count: usize, rows: &dyn Fn(usize) -> u64| -> Counts {
        (0..count).map(|i| (format!("{prefix}{i}"), rows(i))).collect()
    };
    let few = named("c", 5, &|i| 400 + 100 * i as u64);
    // More unseen categories than a window keeps: one row each, many rows each, and one with most of them.
    let spreads: [fn(usize) -> u64; 3] = [|_| 1, |i| 1 + i as u64 % 4, |i| if i == 7 { 3_000 } else { 1 }];
    for rows in spreads {
        let mut window = few.clone();
        window.extend(named("new", MOST_UNSEEN + 700, &rows));
        assert_eq!(categories_differ(&few, &window, &OF_CATEGORIES), Vec::<String>::new());
    }
    // More categories than a layout keeps: the same, shifted, and gone.
    let many = named("u", MOST_CATEGORIES + 900, &|i| 1 + i as u64 % 3);
    let shifted = named("u", MOST_CATEGORIES + 900, &|i| 1 + (i as u64 / 7) % 4);
    let disjoint = named("v", 2_000, &|i| 1 + i as u64 % 2);
    for window in [&many, &shifted, &disjoint, &few] {
        assert_eq!(categories_differ(&many, window, &OF_CATEGORIES[..OF_LISTED]), Vec::<String>::new());
    }
}

/// Share of windows without drift that a law calls unlikely at 5%, of 400 windows of 400 values against references of
/// 2 000: for each of these it has to be about 5% or less, whatever the values are (seven in a hundred and a half are
/// three standard deviations of chance above).
#[test]
fn p_values_keep_their_level_without_drift() {
    const WINDOWS: usize = 400;
    let mut state = 11u64;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    let mut normal = move || (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
    type Shape = (&'static str, fn(f64) -> f64);
    let shapes: [Shape; 4] = [
        ("normal", |z| z),
        ("log-normal", |z| (0.5 * z).exp()),
        ("heavy tails", |z| z * z * z),
        ("tied", |z| (2.0 * z).round()),
    ];
    let mut too_often = Vec::new();
    for (shape, of) in shapes {
        let mut unlikely: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..WINDOWS {
            let reference: Vec<f64> = (0..2_000).map(|_| of(normal())).collect();
            let window: Vec<f64> = (0..400).map(|_| of(normal())).collect();
            for (name, metric) in from_profiles(&reference, &reference, &window) {
                let is_unlikely = metric.p_value.is_some_and(|p_value| p_value <= 0.05);
                *unlikely.entry(name).or_default() += usize::from(is_unlikely);
            }
        }
        for (name, count) in unlikely {
            let share = count as f64 / WINDOWS as f64;
            println!("{shape:12} {name:30} {share:.3}");
            if share > 0.0825 {
                too_often.push(format!("{name} of {shape} values: {share}"));
            }
        }
    }
    assert_eq!(too_often, Vec::<String>::new());
}
