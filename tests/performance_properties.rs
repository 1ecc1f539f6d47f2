//! What a performance profile says follows from the set of its rows: however they are split, ordered, sent, repeated and
//! taken back, it is what the functions on rows give, or within the published bound of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use driftline::config::model::Model;
use driftline::stats::metric::MetricValue;
use driftline::stats::performance::binary::{BinaryRows, binary_performance};
use driftline::stats::performance::multiclass::{MulticlassRows, multiclass_performance};
use driftline::stats::performance::profile::{Label, PerformanceLayout, PerformanceProfile, Prediction};
use driftline::stats::performance::ranking::{ndcg, precision, reciprocal_rank};
use driftline::stats::performance::regression::regression_performance;
use driftline::stats::quantile::quantile_type7;
use driftline::stats::rows::numeric::Metrics;
use proptest::prelude::*;
use serde_json::{Value, json};

fn layout(performance: Value, classes: &[&str]) -> Arc<PerformanceLayout> {
    let model: Model = serde_json::from_value(json!({
        "version": 1,
        "model": "judged",
        "topics": ["predictions"],
        "features": {"amount": "numeric"},
        "prediction": {"path": "prediction", "type": "categorical"},
        "score": {"path": "score", "type": "numeric"},
        "performance": performance,
    }))
    .unwrap();
    let classes: Vec<String> = classes.iter().map(|class| class.to_string()).collect();
    PerformanceLayout::of(&model, &classes).unwrap()
}

type Row = (Prediction, Label);

/// What becomes of one row on its way: the part it is counted in, and whether it is counted first with another label,
/// which is taken back in another part.
type Way = (usize, Option<(usize, usize)>);

const PARTS: usize = 5;

fn ways(rows: usize) -> impl Strategy<Value = Vec<Way>> {
    prop::collection::vec((0..PARTS, prop::option::weighted(0.3, (0..PARTS, 0..PARTS))), rows)
}

/// The rows on their ways: each part is encoded and read back, and the parts are merged in `order`.
fn along(layout: &PerformanceLayout, rows: &[Row], ways: &[Way], wrong: &Label, order: &[usize]) -> PerformanceProfile {
    let mut parts: Vec<PerformanceProfile> = (0..PARTS).map(|_| PerformanceProfile::new(layout)).collect();
    for ((prediction, label), (part, corrected)) in rows.iter().zip(ways) {
        parts[*part].add_prediction(layout, prediction);
        parts[*part].sample_prediction();
        parts[*part].add_labelled(layout, prediction, label);
        if let Some((first, later)) = corrected {
            parts[*first].add_labelled(layout, prediction, wrong);
            parts[*later].retract_labelled(layout, prediction, wrong);
        }
    }
    let mut merged = PerformanceProfile::new(layout);
    for part in order {
        let bytes = parts[*part].encode();
        merged.merge(&PerformanceProfile::decode(&bytes, layout).unwrap());
    }
    merged
}

fn at_once(layout: &PerformanceLayout, rows: &[Row]) -> PerformanceProfile {
    let mut profile = PerformanceProfile::new(layout);
    for (prediction, label) in rows {
        profile.add_prediction(layout, prediction);
        profile.sample_prediction();
        profile.add_labelled(layout, prediction, label);
    }
    profile
}

/// Every metric of the profile that the rows have too is equal, or as near as its bound; those named must be there.
fn compare(ours: &BTreeMap<String, MetricValue>, rows: &Metrics, named: &[(&str, &str)], exact: bool) {
    for (name, key) in named {
        let expected = rows.iter().find(|(row_key, _)| row_key == key).and_then(|(_, value)| *value);
        let metric = ours.get(*name).copied().unwrap_or_else(MetricValue::undefined);
        match (metric.value, expected) {
            (Some(value), Some(expected)) => {
                let tolerance = 1e-9 * expected.abs().max(1.0);
                let bound = metric.bound.unwrap_or(0.0);
                assert!(!exact || bound <= tolerance, "{name} has a bound of {bound}");
                let off = (value - expected).abs();
                assert!(off <= bound + tolerance, "{name}: {value} instead of {expected}, bound {bound}");
                if let Some([least, most]) = metric.interval {
                    assert!(least <= value + tolerance && value <= most + tolerance, "{name}: {least} {value} {most}");
                }
            }
            (None, None) => {}
            (ours, expected) => panic!("{name}: {ours:?} instead of {expected:?}"),
        }
    }
}

const BINARY: [(&str, &str); 18] = [
    ("tp", "tp"),
    ("fp", "fp"),
    ("fn", "fn"),
    ("tn", "tn"),
    ("accuracy", "accuracy"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("specificity", "specificity"),
    ("f1", "f1"),
    ("balanced_accuracy", "balanced_accuracy"),
    ("mcc", "mcc"),
    ("mean_score", "mean_score"),
    ("roc_auc", "roc_auc"),
    ("pr_auc", "pr_auc"),
    ("log_loss", "log_loss"),
    ("brier", "brier"),
    ("ece", "ece_w10"),
    ("ks_score", "ks_score"),
];

fn binary_layout() -> Arc<PerformanceLayout> {
    layout(json!({"task": "binary", "label": {"path": "label", "type": "categorical"}}), &["0", "1"])
}

fn binary_rows(rows: &[(f64, bool, bool)]) -> (Vec<Row>, Metrics) {
    let of_row = |(score, predicted, label): &(f64, bool, bool)| {
        let prediction = Prediction { score: *score, class: Some(u32::from(*predicted)), ..Prediction::default() };
        (prediction, Label::Class(u32::from(*label)))
    };
    let batch = BinaryRows {
        positive: rows.iter().map(|(_, _, label)| *label).collect(),
        predicted: rows.iter().map(|(_, predicted, _)| *predicted).collect(),
        scores: rows.iter().map(|(score, _, _)| *score).collect(),
    };
    (rows.iter().map(of_row).collect(), binary_performance(&batch))
}

fn score() -> impl Strategy<Value = f64> {
    prop_oneof![0.0..=1.0, (0_u32..=20).prop_map(|tick| f64::from(tick) / 20.0), Just(1e-300)]
}

fn order() -> impl Strategy<Value = Vec<usize>> {
    Just((0..PARTS).collect::<Vec<_>>()).prop_shuffle()
}

/// Rows with the way each takes.
fn on_their_way<T: std::fmt::Debug + Clone>(
    row: impl Strategy<Value = T> + Clone,
    most: usize,
) -> impl Strategy<Value = (Vec<T>, Vec<Way>, Vec<usize>)> {
    (1..most).prop_flat_map(move |n| (prop::collection::vec(row.clone(), n), ways(n), order()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn binary_profiles_equal_the_rows((rows, ways, order) in on_their_way((score(), any::<bool>(), any::<bool>()).boxed(), 200)) {
        let layout = binary_layout();
        let (events, batch) = binary_rows(&rows);
        let profile = along(&layout, &events, &ways, &Label::Class(1), &order);
        let once = at_once(&layout, &events);
        let n = rows.len() as u64;
        prop_assert_eq!((profile.predictions(), profile.sampled(), profile.labelled()), (n, n, n));
        prop_assert_eq!(profile.metrics(&layout), once.metrics(&layout));
        compare(&profile.metrics(&layout), &batch, &BINARY, true);
    }

    #[test]
    fn another_threshold_equals_rows_predicted_by_it(
        (rows, ways, order) in on_their_way((score(), any::<bool>(), any::<bool>()).boxed(), 100),
        threshold in score(),
    ) {
        let layout = binary_layout();
        let (events, _) = binary_rows(&rows);
        let cut: Vec<(f64, bool, bool)> = rows.iter().map(|(score, _, label)| (*score, *score >= threshold, *label)).collect();
        let (_, batch) = binary_rows(&cut);
        let profile = along(&layout, &events, &ways, &Label::Class(0), &order);
        compare(&profile.metrics_at(&layout, threshold), &batch, &BINARY[..11], true);
    }

    #[test]
    fn regression_profiles_equal_the_rows((rows, ways, order) in on_their_way((-100.0..1e4, -50.0..50.0).boxed(), 200)) {
        regression_equals_the_rows(&rows, &ways, &order);
    }

    #[test]
    fn regression_profiles_of_positive_values_equal_the_rows(
        (rows, ways, order) in on_their_way((0.0..1e4, 0.0..50.0).boxed(), 200),
    ) {
        regression_equals_the_rows(&rows, &ways, &order);
    }

    #[test]
    fn multiclass_profiles_equal_the_rows(
        (rows, ways, order) in on_their_way((0_u32..4, 0_u32..4, score(), score(), score()).boxed(), 150),
    ) {
        let layout = layout(json!({
            "task": "multiclass", "label": {"path": "label", "type": "categorical"},
            "class_scores": {"a": "scores.a", "b": "scores.b", "c": "scores.c"},
        }), &[]);
        let events: Vec<Row> = rows.iter().map(|(label, class, a, b, c)| {
            let prediction = Prediction { class: Some(*class), class_scores: vec![*a, *b, *c], ..Prediction::default() };
            (prediction, Label::Class(*label))
        }).collect();
        let batch = multiclass_performance(&MulticlassRows {
            classes: 3,
            labels: rows.iter().map(|row| row.0 as usize).collect(),
            predictions: rows.iter().map(|row| row.1 as usize).collect(),
            scores: vec![
                rows.iter().map(|row| row.2).collect(),
                rows.iter().map(|row| row.3).collect(),
                rows.iter().map(|row| row.4).collect(),
            ],
        });
        let profile = along(&layout, &events, &ways, &Label::Class(2), &order);
        prop_assert_eq!(profile.metrics(&layout), at_once(&layout, &events).metrics(&layout));
        let names = [
            "accuracy", "precision_macro", "recall_macro", "f1_macro", "precision_weighted", "recall_weighted",
            "f1_weighted", "precision_micro", "recall_micro", "f1_micro", "log_loss", "roc_auc_ovr_macro",
        ];
        compare(&profile.metrics(&layout), &batch, &names.map(|name| (name, name)), true);
    }

    #[test]
    fn ranking_profiles_are_means_over_lists(
        (rows, ways, order) in on_their_way(prop::collection::vec(0_u8..4, 0..12).boxed(), 60),
    ) {
        let layout = layout(json!({
            "task": "ranking", "label": {"path": "label", "type": "vector"}, "top_k": [5, 1, 10],
        }), &[]);
        let lists: Vec<Vec<f32>> = rows.iter().map(|list| list.iter().map(|item| f32::from(*item)).collect()).collect();
        let events: Vec<Row> =
            lists.iter().map(|list| (Prediction::default(), Label::Relevance(list.clone()))).collect();
        let profile = along(&layout, &events, &ways, &Label::Relevance(vec![1.0, 0.0, 3.0]), &order);
        let mean = |of: &dyn Fn(&[f32]) -> f64| lists.iter().map(|list| of(list)).sum::<f64>() / lists.len() as f64;
        let batch = vec![
            ("mrr", Some(mean(&reciprocal_rank))),
            ("ndcg@1", Some(mean(&|list| ndcg(list, 1)))),
            ("ndcg@5", Some(mean(&|list| ndcg(list, 5)))),
            ("ndcg@10", Some(mean(&|list| ndcg(list, 10)))),
            ("precision@1", Some(mean(&|list| precision(list, 1)))),
            ("precision@10", Some(mean(&|list| precision(list, 10)))),
        ];
        let names = ["mrr", "ndcg@1", "ndcg@5", "ndcg@10", "precision@1", "precision@10"];
        compare(&profile.metrics(&layout), &batch, &names.map(|name| (name, name)), true);
    }

    #[test]
    fn damaged_bytes_are_errors_and_never_stop_the_process(
        rows in prop::collection::vec((score(), any::<bool>(), any::<bool>()), 0..40),
        at in any::<prop::sample::Index>(), bits in 1_u8..=255,
    ) {
        let layout = binary_layout();
        let (events, _) = binary_rows(&rows);
        let bytes = at_once(&layout, &events).encode();
        for length in 0..bytes.len() {
            prop_assert!(PerformanceProfile::decode(&bytes[..length], &layout).is_err());
        }
        let mut changed = bytes.clone();
        changed[at.index(bytes.len())] ^= bits;
        // Some changes are other profiles; whatever is read writes the same bytes again.
        if let Ok(profile) = PerformanceProfile::decode(&changed, &layout) {
            let mut twice = profile.clone();
            twice.merge(&profile);
            twice.metrics(&layout);
            prop_assert_eq!(profile.encode(), changed);
        }
    }
}

fn regression_equals_the_rows(rows: &[(f64, f64)], ways: &[Way], order: &[usize]) {
    let layout = layout(json!({"task": "regression", "label": {"path": "label", "type": "numeric"}}), &[]);
    let predictions: Vec<f64> = rows.iter().map(|(label, off)| label + off).collect();
    let labels: Vec<f64> = rows.iter().map(|(label, _)| *label).collect();
    let events: Vec<Row> = predictions
        .iter()
        .zip(&labels)
        .map(|(value, label)| (Prediction { value: *value, ..Prediction::default() }, Label::Number(*label)))
        .collect();
    let mut batch = regression_performance(&labels, &predictions);
    let mut errors: Vec<f64> = predictions.iter().zip(&labels).map(|(value, label)| value - label).collect();
    errors.sort_by(f64::total_cmp);
    batch.push(("error_p05", Some(quantile_type7(&errors, 5, 100))));
    batch.push(("error_p95", Some(quantile_type7(&errors, 95, 100))));
    let profile = along(&layout, &events, ways, &Label::Number(7.25), order);
    assert_eq!(profile.metrics(&layout), at_once(&layout, &events).metrics(&layout));
    let names =
        ["mae", "mse", "rmse", "mape", "r2", "bias", "medae", "max_error", "msle", "rmsle", "error_p05", "error_p95"];
    compare(&profile.metrics(&layout), &batch, &names.map(|name| (name, name)), true);
}

/// Deterministic numbers in [0, 1).
fn uniform(row: u64) -> f64 {
    let mut bits = row.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((bits ^ bits >> 31) >> 11) as f64 / (1_u64 << 53) as f64
}

/// More scores than are kept exactly: the order of parts still does not show, and values lie within their bounds.
#[test]
fn coarse_scores_keep_their_bound_and_hide_the_order() {
    let layout = binary_layout();
    let rows: Vec<(f64, bool, bool)> = (0..30_000)
        .map(|row| {
            let score = uniform(2 * row);
            (score, score >= 0.5, uniform(2 * row + 1) < score)
        })
        .collect();
    let (events, batch) = binary_rows(&rows);
    let ways: Vec<Way> = (0..rows.len())
        .map(|row| (row % PARTS, (row % 3 == 0).then_some(((row / 2) % PARTS, (row / 5) % PARTS))))
        .collect();
    let wrong = Label::Class(0);
    let profile = along(&layout, &events, &ways, &wrong, &[3, 1, 4, 0, 2]);
    assert_eq!(profile.encode(), along(&layout, &events, &ways, &wrong, &[0, 1, 2, 3, 4]).encode());
    let metrics = profile.metrics(&layout);
    compare(&metrics, &batch, &BINARY, false);
    for (name, most) in [("roc_auc", 2e-3), ("pr_auc", 1e-2), ("log_loss", 1e-2), ("brier", 5e-3), ("ks_score", 5e-2)] {
        let bound = metrics[name].bound.unwrap_or_else(|| panic!("{name} has no bound"));
        assert!(bound > 0.0 && bound <= most, "{name}: bound {bound}");
    }
    let at = profile.metrics_at(&layout, 0.623_456);
    let (_, batch) = binary_rows(&rows.iter().map(|(s, _, label)| (*s, *s >= 0.623_456, *label)).collect::<Vec<_>>());
    compare(&at, &batch, &BINARY[..11], false);
    assert!(at["recall"].bound.is_some_and(|bound| bound < 5e-3), "{:?}", at["recall"]);
}

#[test]
fn coarse_errors_keep_their_bound() {
    let layout = layout(json!({"task": "regression", "label": {"path": "label", "type": "numeric"}}), &[]);
    let rows: Vec<(f64, f64)> = (0..20_000).map(|row| (100.0 * uniform(2 * row), uniform(2 * row + 1) - 0.4)).collect();
    let mut profile = PerformanceProfile::new(&layout);
    let predictions: Vec<f64> = rows.iter().map(|(label, off)| label + off).collect();
    let labels: Vec<f64> = rows.iter().map(|(label, _)| *label).collect();
    for (value, label) in predictions.iter().zip(&labels) {
        let prediction = Prediction { value: *value, ..Prediction::default() };
        profile.add_labelled(&layout, &prediction, &Label::Number(*label));
    }
    let batch = regression_performance(&labels, &predictions);
    let metrics = profile.metrics(&layout);
    let names = ["mae", "mse", "rmse", "mape", "r2", "bias", "medae", "max_error", "rmsle"];
    compare(&metrics, &batch, &names.map(|name| (name, name)), false);
    for name in ["medae", "max_error"] {
        let bound = metrics[name].bound.unwrap();
        assert!(bound > 0.0 && bound < 0.01, "{name}: bound {bound}");
    }
}
