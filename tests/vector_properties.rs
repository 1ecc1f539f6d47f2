//! Profiles of vectors are mergeable in any order, to the bit; a turned correlation is seen though no marginal moves;
//! hostile bytes are an error.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::{Arc, LazyLock};

use driftline::reference::FeatureReference;
use driftline::stats::calibration::Calibration;
use driftline::stats::evaluate::{evaluate, evaluate_selected};
use driftline::stats::layout::{Layout, NumericLayout};
use driftline::stats::metric::FeatureStats;
use driftline::stats::numeric_profile::NumericProfile;
use driftline::stats::profile::Profile;
use driftline::stats::selection::Selection;
use driftline::stats::vector::arithmetic::Random;
use driftline::stats::vector::layout::{VectorLayout, fitted_rows};
use driftline::stats::vector::measure::Measured;
use driftline::stats::vector::profile::VectorProfile;
use proptest::prelude::*;

type Row = Option<Vec<f64>>;

fn layout_of(rows: &[Vec<f64>], dimension: usize, joint: bool) -> Layout {
    let slices: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
    let names = if joint { (0..dimension).map(|at| format!("x{at}")).collect() } else { Vec::new() };
    Layout::Vector(Arc::new(VectorLayout::of_rows(&slices, dimension, names)))
}

/// Rows with what tells their events apart.
fn profile_of(rows: &[(u64, Row)], layout: &Layout) -> Profile {
    let Layout::Vector(layout) = layout else { panic!("vector layout") };
    let mut profile = VectorProfile::new(layout);
    let mut room = Measured::new(layout);
    for (identity, row) in rows {
        match row {
            Some(row) => profile.add(row, *identity, layout, &mut room),
            None => profile.add_nulls(1),
        }
    }
    Profile::Vector(Box::new(profile))
}

fn any_entry() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => -5.0..5.0,
        4 => (-3i32..4).prop_map(f64::from),
        1 => any::<f64>(),
    ]
}

fn any_row(dimension: usize) -> impl Strategy<Value = Row> {
    prop_oneof![
        9 => prop::collection::vec(any_entry(), dimension).prop_map(Some),
        1 => Just(None),
    ]
}

/// Built once: learning a layout takes longer than the test.
static THREE: LazyLock<Layout> =
    LazyLock::new(|| layout_of(&[vec![0.0, 1.0, 2.0], vec![1.0, 0.0, 1.5], vec![0.5, 0.5, 0.0]], 3, true));
static TWO: LazyLock<Layout> = LazyLock::new(|| layout_of(&[vec![0.0, 1.0], vec![2.0, 0.5]], 2, true));

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn vector_profiles_do_not_know_how_the_rows_were_split(
        reference in prop::collection::vec(prop::collection::vec(-3.0..3.0, 3), 0..40),
        joint in any::<bool>(),
        rows in prop::collection::vec(any_row(3), 0..120),
        repeats in 1usize..12,
        piece_of in prop::collection::vec(0usize..5, 1..40),
        order in prop::collection::vec(0usize..100, 1..12),
    ) {
        let layout = layout_of(&reference, 3, joint);
        // Repeated, so that more rows come than a sample holds, and equal ones among them.
        let rows: Vec<(u64, Row)> = (0..repeats).flat_map(|_| rows.clone()).enumerate()
            .map(|(at, row)| (at as u64 / 2, row)).collect();
        let whole = profile_of(&rows, &layout);
        let mut pieces: Vec<Vec<(u64, Row)>> = vec![Vec::new(); 5];
        for (at, row) in rows.iter().enumerate() {
            pieces[piece_of[at % piece_of.len()]].push(row.clone());
        }
        let mut profiles: Vec<Profile> = pieces
            .iter()
            .map(|rows| Profile::decode(&profile_of(rows, &layout).encode(), &layout).unwrap())
            .collect();
        let mut step = 0;
        while profiles.len() > 1 {
            let taken = profiles.swap_remove(order[step % order.len()] % profiles.len());
            let into = order[(step + 1) % order.len()] % profiles.len();
            profiles[into].merge(&taken).unwrap();
            step += 2;
        }
        prop_assert_eq!(whole.encode(), profiles[0].encode());
        prop_assert_eq!(&whole, &profiles[0]);
        prop_assert_eq!(whole.rows(), rows.len() as u64);
        let reference: Vec<(u64, Row)> = reference.into_iter().map(|row| (0, Some(row))).collect();
        let feature = FeatureReference { name: "joint".into(), profile: profile_of(&reference, &layout), layout, calibration: Calibration::default() };
        let (left, right) = (evaluate(&feature, &whole), evaluate(&feature, &profiles[0]));
        prop_assert_eq!(&left, &right);
        for (name, metric) in &left.metrics {
            prop_assert!(metric.value.is_none_or(f64::is_finite), "{}: {:?}", name, metric);
            prop_assert!(metric.p_value.is_none_or(|p| (0.0..=1.0).contains(&p)), "{}: {:?}", name, metric);
        }
    }

    #[test]
    fn forged_bytes_are_refused_or_are_a_profile(
        rows in prop::collection::vec(any_row(3), 0..30),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let layout = THREE.clone();
        let rows: Vec<(u64, Row)> = rows.into_iter().map(|row| (1, row)).collect();
        let bytes = profile_of(&rows, &layout).encode();
        prop_assert!(Profile::decode(&bytes[..cut.index(bytes.len())], &layout).is_err());
        let mut forged = bytes.clone();
        let at = at.index(forged.len());
        forged[at] = byte;
        if let Ok(profile) = Profile::decode(&forged, &layout) {
            prop_assert_eq!(profile.encode(), forged);
        }
        let other = TWO.clone();
        prop_assert!(Profile::decode(&bytes, &other).is_err());
        prop_assert!(profile_of(&[], &layout).merge(&profile_of(&[], &other)).is_err());
    }
}

/// Pairs of standard normals with this correlation: the marginals do not know it.
fn pairs(n: usize, dimension: usize, correlation: f64, seed: u64) -> Vec<Vec<f64>> {
    let mut random = Random::new(seed);
    let row = |random: &mut Random| {
        let mut row: Vec<f64> = (0..dimension).map(|_| random.normal()).collect();
        for at in (1..dimension).step_by(2) {
            row[at] = correlation * row[at - 1] + (1.0 - correlation * correlation).sqrt() * row[at];
        }
        row
    };
    (0..n).map(|_| row(&mut random)).collect()
}

/// Profile of the rows that the layout was made of.
fn reference_of(rows: &[Vec<f64>], layout: &Layout) -> Profile {
    let Layout::Vector(layout) = layout else { panic!("vector layout") };
    let mut profile = VectorProfile::new(layout);
    let mut room = Measured::new(layout);
    for (at, (row, fitted)) in rows.iter().zip(fitted_rows(rows.len())).enumerate() {
        match fitted {
            true => profile.add_fitted(row, layout, &mut room),
            false => profile.add(row, at as u64, layout, &mut room),
        }
    }
    Profile::Vector(Box::new(profile))
}

fn numbered(rows: Vec<Vec<f64>>) -> Vec<(u64, Row)> {
    rows.into_iter().enumerate().map(|(at, row)| (at as u64, Some(row))).collect()
}

fn joint_stats(reference: &[Vec<f64>], window: &[Vec<f64>]) -> FeatureStats {
    let layout = layout_of(reference, reference[0].len(), true);
    let profile = reference_of(reference, &layout);
    let window = profile_of(&numbered(window.to_vec()), &layout);
    let feature = FeatureReference { name: "joint".into(), layout, profile, calibration: Calibration::default() };
    evaluate_selected(&feature, &window, &Selection::all())
}

fn p_of(stats: &FeatureStats, name: &str) -> f64 {
    stats.metrics[name].p_value.unwrap_or_else(|| panic!("{name} has no p-value: {:?}", stats.metrics[name]))
}

const TESTED: [&str; 4] = ["mmd2", "pca_reconstruction_error", "mean_cosine_distance", "classifier_auc"];

#[test]
fn a_turned_correlation_is_seen_by_three_statistics_and_by_no_marginal() {
    for dimension in [2, 8] {
        let (reference, window) = (pairs(4_000, dimension, 0.8, 1), pairs(1_500, dimension, -0.8, 2));
        let stats = joint_stats(&reference, &window);
        for name in ["mmd2", "pca_reconstruction_error", "classifier_auc"] {
            assert!(p_of(&stats, name) < 1e-6, "{dimension} entries, {name}: {:?}", stats.metrics[name]);
        }
        // Directions on average stay: said in the docs.
        assert!(p_of(&stats, "mean_cosine_distance") > 1e-3, "{:?}", stats.metrics["mean_cosine_distance"]);
        assert!(stats.moved.iter().all(|moved| moved.mean_shift.is_none()), "{:?}", stats.moved);
        let axis = stats.moved.iter().find_map(|moved| moved.variance_ratio).unwrap();
        assert!(axis < 0.3, "the main axis lost its variance: {:?}", stats.moved);
        for entry in 0..dimension {
            let (ks, psi) = marginal(&reference, &window, entry);
            assert!(ks > 0.001 && psi < 0.05, "entry {entry}: KS p {ks}, PSI {psi}");
        }
    }
}

/// p of KS, and PSI, of one entry alone.
fn marginal(reference: &[Vec<f64>], window: &[Vec<f64>], entry: usize) -> (f64, f64) {
    let mut sorted: Vec<f64> = reference.iter().map(|row| row[entry]).collect();
    sorted.sort_by(f64::total_cmp);
    let layout = Arc::new(NumericLayout::of_sorted(&sorted));
    let of = |rows: &[Vec<f64>]| {
        let mut profile = NumericProfile::new(&layout);
        rows.iter().for_each(|row| profile.add(row[entry], &layout));
        Profile::Numeric(Box::new(profile))
    };
    let profile = of(reference);
    let feature = FeatureReference {
        name: "x".into(),
        layout: Layout::Numeric(layout.clone()),
        profile,
        calibration: Calibration::default(),
    };
    let stats = evaluate(&feature, &of(window));
    (stats.metrics["ks"].p_value.unwrap(), stats.metrics["psi"].value.unwrap())
}

#[test]
fn a_shifted_mean_is_seen_and_named() {
    let reference = pairs(4_000, 6, 0.5, 3);
    let mut window = pairs(1_500, 6, 0.5, 4);
    window.iter_mut().for_each(|row| row[3] += 0.5);
    let stats = joint_stats(&reference, &window);
    for name in ["mmd2", "mean_cosine_distance", "classifier_auc"] {
        assert!(p_of(&stats, name) < 1e-6, "{name}: {:?}", stats.metrics[name]);
    }
    let first = &stats.moved[0];
    assert_eq!(first.label, "x3", "{:?}", stats.moved);
    assert!((first.mean_shift.unwrap() - 0.5).abs() < 0.1, "{first:?}");
}

#[test]
fn windows_without_drift_are_quiet() {
    let reference = pairs(4_000, 6, 0.5, 5);
    let layout = layout_of(&reference, 6, true);
    let feature = FeatureReference {
        name: "joint".into(),
        profile: reference_of(&reference, &layout),
        layout,
        calibration: Calibration::default(),
    };
    let windows = 40;
    let mut rejected = [0; 4];
    for seed in 0..windows {
        let window = profile_of(&numbered(pairs(400, 6, 0.5, 100 + seed)), &feature.layout);
        let stats = evaluate_selected(&feature, &window, &Selection::all());
        for (count, name) in rejected.iter_mut().zip(TESTED) {
            *count += u32::from(p_of(&stats, name) <= 0.05);
        }
    }
    // 2 of 40 are expected; 9 or more have a chance below 1 in 3000.
    assert!(rejected.iter().all(|count| *count < 9), "windows with p <= 0.05 of {windows}: {rejected:?}");
}

#[test]
fn an_embedding_that_changes_topic_is_seen() {
    let mut random = Random::new(6);
    let centres: Vec<Vec<f64>> = (0..4).map(|_| (0..40).map(|_| random.normal()).collect()).collect();
    let mut rows = |n: usize, of_first: f64| -> Vec<Vec<f64>> {
        let mut row = || {
            let first = random.uniform() < of_first;
            let centre = if first { 0 } else { (random.next_u64() % 4) as usize };
            centres[centre].iter().map(|value| value + random.normal()).collect()
        };
        (0..n).map(|_| row()).collect()
    };
    let (reference, drifted) = (rows(3_000, 0.0), rows(800, 0.2));
    let layout = layout_of(&reference, 40, false);
    let profile = reference_of(&reference, &layout);
    let window = profile_of(&numbered(drifted), &layout);
    let stats = evaluate(
        &FeatureReference { name: "embedding".into(), layout, profile, calibration: Calibration::default() },
        &window,
    );
    for name in ["mmd2", "mean_cosine_distance"] {
        assert!(p_of(&stats, name) < 1e-4, "{name}: {:?}", stats.metrics[name]);
    }
}
