//! 95% intervals hold the figure of the population in about 95 of 100 samples, over a thousand seeded samples of rows
//! drawn from populations whose figures are known in closed form. `-- --nocapture` prints the table of
//! docs/statistics.md.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use driftline::config::model::Model;
use driftline::stats::metric::MetricValue;
use driftline::stats::performance::intervals::difference_interval;
use driftline::stats::performance::profile::{Label, PerformanceLayout, PerformanceProfile, Prediction};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

const SAMPLES: u64 = 1_000;
/// Three standard errors of a coverage of 95% over so many samples, 2%, and as much again for intervals that are
/// approximations.
const COVERED: std::ops::RangeInclusive<f64> = 0.92..=0.985;

fn layout(performance: Value) -> Arc<PerformanceLayout> {
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
    PerformanceLayout::of(&model, &["a".into(), "b".into(), "c".into()]).unwrap()
}

/// Of a thousand samples: how many intervals hold the population's figure, and how many there were, by metric.
fn coverage(
    layout: &PerformanceLayout,
    rows: usize,
    truth: &[(&str, f64)],
    mut draw: impl FnMut(&mut StdRng) -> (Prediction, Label),
) -> Vec<(String, f64, f64)> {
    let mut held: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for sample in 0..SAMPLES {
        let mut random = StdRng::seed_from_u64(sample);
        let mut profile = PerformanceProfile::new(layout);
        for _ in 0..rows {
            let (prediction, label) = draw(&mut random);
            profile.add_labelled(layout, &prediction, &label);
        }
        let metrics = profile.metrics(layout);
        for (name, figure) in truth {
            let (inside, given) = held.entry(name).or_default();
            if let Some(MetricValue { interval: Some([least, most]), .. }) = metrics.get(*name) {
                *given += 1;
                *inside += u64::from(least <= figure && figure <= most);
            }
        }
    }
    let of = |(name, _): &(&str, f64)| {
        let (inside, given) = held[name];
        println!("{rows} rows | {name} | {:.1}%", 100.0 * inside as f64 / given as f64);
        (name.to_string(), inside as f64 / given as f64, given as f64 / SAMPLES as f64)
    };
    truth.iter().map(of).collect()
}

fn assert_covered(found: &[(String, f64, f64)], wide: &[&str]) {
    for (name, share, given) in found {
        let high_enough = *share >= *COVERED.start();
        let low_enough = share <= COVERED.end() || wide.contains(&name.as_str());
        assert!(high_enough && low_enough, "{name}: {share} of the intervals hold the figure");
        assert!(*given > 0.99, "{name}: only {given} of the samples have an interval");
    }
}

fn binary() -> Arc<PerformanceLayout> {
    layout(json!({
        "task": "binary", "label": {"path": "label", "type": "categorical"},
        "value": {"true_positive": 10.0, "false_positive": -5.0, "false_negative": -20.0},
    }))
}

/// Scores spread evenly over [0, 1], positive with `chance(score)`, predicted positive from a half up.
fn scored(random: &mut StdRng, chance: impl Fn(f64) -> f64) -> (Prediction, Label) {
    let score: f64 = random.random();
    let positive = random.random::<f64>() < chance(score);
    let prediction = Prediction { score, class: Some(u32::from(score >= 0.5)), ..Prediction::default() };
    (prediction, Label::Class(u32::from(positive)))
}

#[test]
fn intervals_of_a_calibrated_binary_model_hold_the_figure() {
    // With a chance of s at score s: shares of s and s² below and above a half.
    let truth = [
        ("accuracy", 0.75),
        ("precision", 0.75),
        ("recall", 0.75),
        ("specificity", 0.75),
        ("f1", 0.75),
        ("balanced_accuracy", 0.75),
        ("mcc", 0.5),
        ("prevalence", 0.5),
        ("positive_rate", 0.5),
        ("mean_score", 0.5),
        ("roc_auc", 5.0 / 6.0),
        ("gini", 2.0 / 3.0),
        ("pr_auc", 5.0 / 6.0),
        ("log_loss", 0.5),
        ("brier", 1.0 / 6.0),
        ("ks_score", 0.5),
        ("ece", 0.0),
        ("value_per_prediction", 0.375 * 10.0 - 0.125 * 5.0 - 0.125 * 20.0),
    ];
    for rows in [100, 1_000] {
        let found = coverage(&binary(), rows, &truth, |random| scored(random, |score| score));
        assert_covered(&found, &["ece"]);
    }
}

#[test]
fn intervals_of_a_model_that_is_sure_of_too_much_hold_the_figure() {
    // A chance of s² / 4: one row in twelve is positive.
    let (hit, alarm) = (7.0 / 96.0, 0.5 - 7.0 / 96.0);
    let (missed, calm) = (1.0 / 96.0, 0.5 - 1.0 / 96.0);
    let truth = [
        ("accuracy", hit + calm),
        ("precision", hit / 0.5),
        ("recall", hit * 12.0),
        ("f1", 2.0 * hit / (2.0 * hit + alarm + missed)),
        ("mcc", (hit * calm - alarm * missed) / (0.5 * (1.0_f64 / 12.0 * (11.0 / 12.0)).sqrt())),
        // the mean over positives (density 3 s²) of the negatives below: (s - s³ / 12) 12 / 11
        ("roc_auc", 12.0 / 11.0 * (0.75 - 3.0 / 72.0)),
        // the mean over positives of the precision there: (1 - s³) / (12 (1 - s))
        ("pr_auc", 3.0 / 12.0 * (1.0 / 3.0 + 1.0 / 4.0 + 1.0 / 5.0)),
        ("ece", 0.5 - 1.0 / 12.0),
    ];
    let found = coverage(&binary(), 1_000, &truth, |random| scored(random, |score| score * score / 4.0));
    assert_covered(&found, &["ece"]);
}

/// Standard normal, by Box and Muller.
fn normal(random: &mut StdRng) -> f64 {
    let (radius, angle): (f64, f64) = (1.0 - random.random::<f64>(), random.random());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

#[test]
fn intervals_of_regression_hold_the_figure() {
    let layout = layout(json!({"task": "regression", "label": {"path": "label", "type": "numeric"}}));
    let truth = [
        ("mae", (2.0 / std::f64::consts::PI).sqrt()),
        ("mse", 1.0),
        ("rmse", 1.0),
        ("bias", 0.0),
        ("r2", 1.0 - 12.0 / 100.0),
        ("medae", 0.674_489_750_196),
        ("error_p05", -1.644_853_626_951),
        ("error_p25", -0.674_489_750_196),
        ("error_p50", 0.0),
        ("error_p95", 1.644_853_626_951),
    ];
    for rows in [150, 1_000] {
        let found = coverage(&layout, rows, &truth, |random| {
            let label = 50.0 + 10.0 * random.random::<f64>();
            (Prediction { value: label + normal(random), ..Prediction::default() }, Label::Number(label))
        });
        // Quantiles lie between whole ranks, the next ones outwards.
        assert_covered(&found, &["medae", "error_p05", "error_p25", "error_p50", "error_p95"]);
    }
}

#[test]
fn intervals_of_several_classes_hold_the_figure() {
    let layout = layout(json!({"task": "multiclass", "label": {"path": "label", "type": "categorical"}}));
    // Of 100 rows, by label and prediction; the figures by hand from it.
    let table = [[45.0, 3.0, 2.0], [6.0, 20.0, 4.0], [2.0, 6.0, 12.0]];
    let labelled: Vec<f64> = table.iter().map(|row| row.iter().sum()).collect();
    let predicted: Vec<f64> = (0..3).map(|class| table.iter().map(|row| row[class]).sum()).collect();
    let precision = |class: usize| table[class][class] / predicted[class];
    let recall = |class: usize| table[class][class] / labelled[class];
    let f1 = |class: usize| 2.0 * table[class][class] / (predicted[class] + labelled[class]);
    let alike = |of: &dyn Fn(usize) -> f64| (0..3).map(of).sum::<f64>() / 3.0;
    let by_rows = |of: &dyn Fn(usize) -> f64| (0..3).map(|class| labelled[class] / 100.0 * of(class)).sum::<f64>();
    let truth = [
        ("accuracy", 0.77),
        ("precision_macro", alike(&precision)),
        ("recall_macro", alike(&recall)),
        ("f1_macro", alike(&f1)),
        ("precision_weighted", by_rows(&precision)),
        ("recall_weighted", by_rows(&recall)),
        ("f1_weighted", by_rows(&f1)),
        ("f1_micro", 0.77),
    ];
    for rows in [100, 1_000] {
        let found = coverage(&layout, rows, &truth, |random| {
            let mut rest = 100.0 * random.random::<f64>();
            let cells = (0..3_u32).flat_map(|label| (0..3_u32).map(move |class| (label, class)));
            let cell = cells.clone().find(|(label, class)| {
                rest -= table[*label as usize][*class as usize];
                rest < 0.0
            });
            let (label, class) = cell.unwrap_or((2, 2));
            (Prediction { class: Some(class), ..Prediction::default() }, Label::Class(label))
        });
        assert_covered(&found, &[]);
    }
}

#[test]
fn intervals_of_ranked_lists_hold_the_figure() {
    let layout = layout(json!({"task": "ranking", "label": {"path": "label", "type": "vector"}, "top_k": [3]}));
    // One relevant item, at each of five places alike.
    let gains: Vec<f64> = (0..3).map(|before| 1.0 / (f64::from(before) + 2.0).log2()).collect();
    let truth = [
        ("ndcg@3", gains.iter().sum::<f64>() / 5.0),
        ("precision@3", 0.2),
        ("mrr", (1.0 + 1.0 / 2.0 + 1.0 / 3.0 + 1.0 / 4.0 + 1.0 / 5.0) / 5.0),
    ];
    let found = coverage(&layout, 200, &truth, |random| {
        let place = random.random_range(0..5_usize);
        let relevance = (0..5).map(|item| if item == place { 1.0 } else { 0.0 }).collect();
        (Prediction::default(), Label::Relevance(relevance))
    });
    assert_covered(&found, &[]);
}

#[test]
fn intervals_of_differences_hold_the_difference() {
    let layout = binary();
    let mut held = 0;
    for sample in 0..SAMPLES {
        let mut random = StdRng::seed_from_u64(sample);
        let mut of = |rows: usize, chance: fn(f64) -> f64| {
            let mut profile = PerformanceProfile::new(&layout);
            for _ in 0..rows {
                let (prediction, label) = scored(&mut random, chance);
                profile.add_labelled(&layout, &prediction, &label);
            }
            let area = profile.metrics(&layout)["roc_auc"];
            (area.value.unwrap(), area.interval.unwrap())
        };
        let (window, baseline) = (of(200, |score| 0.2 + 0.6 * score), of(800, |score| score));
        let [least, most] = difference_interval(window, baseline);
        // With a chance of 0.2 + 0.6 s the area is 0.7.
        held += u64::from(least <= 0.7 - 5.0 / 6.0 && 0.7 - 5.0 / 6.0 <= most);
    }
    let share = held as f64 / SAMPLES as f64;
    println!("difference of roc_auc | {:.1}%", 100.0 * share);
    assert!(COVERED.contains(&share), "{share} of the intervals hold the difference");
}
