//! What performance profiles cost: time to count a prediction and a labelled one, time for all metrics with their
//! intervals, memory and encoded size, with few rows and with more different scores than are kept exactly.
//!
//!     cargo bench --bench performance_profile

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::Instant;

use driftline::config::model::Model;
use driftline::stats::performance::profile::{Label, PerformanceLayout, PerformanceProfile, Prediction};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

fn layout(performance: Value) -> Arc<PerformanceLayout> {
    let model: Model = serde_json::from_value(json!({
        "version": 1, "model": "judged", "topics": ["predictions"], "features": {"amount": "numeric"},
        "prediction": {"path": "prediction", "type": "categorical"},
        "score": {"path": "score", "type": "numeric"},
        "performance": performance,
    }))
    .unwrap();
    PerformanceLayout::of(&model, &[]).unwrap()
}

type Row = (Prediction, Label);

fn binary(random: &mut StdRng, ticks: Option<f64>) -> Row {
    let drawn: f64 = random.random();
    let score = ticks.map_or(drawn, |ticks| (drawn * ticks).round() / ticks);
    let label = u32::from(random.random::<f64>() < score);
    let class = Some(u32::from(score >= 0.5));
    (Prediction { score, class, carried: vec![drawn], ..Prediction::default() }, Label::Class(label))
}

fn multiclass(random: &mut StdRng) -> Row {
    let parts: [f64; 10] = std::array::from_fn(|_| random.random());
    let total: f64 = parts.iter().sum();
    let class_scores: Vec<f64> = parts.iter().map(|part| part / total).collect();
    let class = random.random_range(0..10);
    (Prediction { class: Some(class), class_scores, ..Prediction::default() }, Label::Class(random.random_range(0..10)))
}

fn regression(random: &mut StdRng) -> Row {
    let label = 100.0 * random.random::<f64>();
    (Prediction { value: label + random.random::<f64>() - 0.5, ..Prediction::default() }, Label::Number(label))
}

fn ranking(random: &mut StdRng) -> Row {
    let relevance = (0..20).map(|_| f32::from(random.random_range(0..4_u8))).collect();
    (Prediction::default(), Label::Relevance(relevance))
}

fn measure(name: &str, layout: &PerformanceLayout, rows: usize, mut draw: impl FnMut(&mut StdRng) -> Row) {
    let mut random = StdRng::seed_from_u64(1);
    let drawn: Vec<Row> = (0..rows).map(|_| draw(&mut random)).collect();
    let mut profile = PerformanceProfile::new(layout);
    let started = Instant::now();
    drawn.iter().for_each(|(prediction, _)| profile.add_prediction(layout, prediction));
    let prediction_ns = started.elapsed().as_nanos() as f64 / rows as f64;
    let started = Instant::now();
    drawn.iter().for_each(|(prediction, label)| profile.add_labelled(layout, prediction, label));
    let labelled_ns = started.elapsed().as_nanos() as f64 / rows as f64;
    let encoded = profile.encode();
    let profile = PerformanceProfile::decode(&encoded, layout).unwrap();
    let started = Instant::now();
    const TIMES: u32 = 20;
    let metrics = (0..TIMES).map(|_| profile.metrics(layout).len()).max().unwrap();
    let metrics_us = started.elapsed().as_micros() as f64 / f64::from(TIMES);
    println!(
        "| {name} | {rows} | {prediction_ns:.0} | {labelled_ns:.0} | {metrics_us:.0} ({metrics} metrics) | {} | {} |",
        profile.allocated_bytes(),
        encoded.len()
    );
}

fn main() {
    println!("| task | rows | ns a prediction | ns a label | µs for metrics | bytes in memory | encoded |");
    println!("|---|---|---|---|---|---|---|");
    let label = json!({"path": "label", "type": "categorical"});
    let of = |task: &str| layout(json!({"task": task, "label": label.clone()}));
    let plain = of("binary");
    for rows in [500, 4_000, 1_000_000] {
        measure("binary", &plain, rows, |random| binary(random, None));
    }
    measure("binary, scores of two digits", &plain, 1_000_000, |random| binary(random, Some(100.0)));
    let matrix = layout(json!({"task": "binary", "label": label, "value": {"true_positive": 10.0}}));
    measure("binary, with a matrix of values", &matrix, 100_000, |random| binary(random, None));
    let sql = "CASE WHEN label = 1 AND prediction = 0 THEN -amount WHEN prediction = 1 THEN -5 ELSE 0 END";
    let sql = layout(json!({"task": "binary", "label": label, "value": {"sql": sql}}));
    measure("binary, with a value by SQL, row by row", &sql, 100_000, |random| binary(random, None));
    let rows: Vec<Row> = (0..100_000).map(|_| binary(&mut StdRng::seed_from_u64(2), None)).collect();
    let rows: Vec<(&Prediction, &Label)> = rows.iter().map(|(prediction, label)| (prediction, label)).collect();
    let started = Instant::now();
    let values: usize = rows.chunks(1_000).map(|rows| sql.values(rows).len()).sum();
    println!("a value by SQL, 1 000 rows at a time: {:.0} ns", started.elapsed().as_nanos() as f64 / values as f64);
    for rows in [4_000, 1_000_000] {
        measure("regression", &of("regression"), rows, regression);
    }
    let class_scores: serde_json::Map<String, Value> =
        (0..10).map(|class| (format!("c{class}"), json!(format!("scores.c{class}")))).collect();
    let classes = layout(json!({"task": "multiclass", "label": label, "class_scores": class_scores}));
    for rows in [4_000, 200_000] {
        measure("multiclass, 10 classes with scores", &classes, rows, multiclass);
    }
    measure("ranking, 20 items", &of("ranking"), 100_000, ranking);
}
