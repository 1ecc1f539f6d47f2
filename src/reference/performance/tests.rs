use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};

use super::{Completion, Expectation, PerformanceBaseline, diff::PerformanceDiff, why_not};
use crate::config::model::Model;
use crate::reference::{Reference, Source};
use crate::stats::performance::profile::{Label, PerformanceProfile, Prediction};

const ROWS: usize = 3_000;

fn model(extra: &str) -> Model {
    let yaml = format!(
        "version: 1\nmodel: m\ntopics: [t]\nfeatures: {{x: numeric, place: categorical}}\nsegments: [place]\nfields: {{prediction_id: id}}\n\
         references: {{training: {{path: t.csv}}}}\n{extra}"
    );
    serde_json::to_value(crate::config::parse_model_str("model.yaml", &yaml).unwrap().value)
        .and_then(serde_json::from_value)
        .unwrap()
}

const BINARY: &str = "score: {path: score, type: numeric}\n\
                      performance: {task: binary, labels: {topics: [labels], fields: {label: outcome.paid}}}\n";

/// In [0, 1); as if independent for every seed and row (splitmix64).
fn noise(seed: u64, row: usize) -> f64 {
    let mut bits = (seed << 40 | row as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((bits ^ (bits >> 31)) >> 11) as f64 / 2f64.powi(53)
}

fn score(row: usize) -> f64 {
    (noise(1, row) * 100.0).round() / 100.0
}

fn place(row: usize) -> &'static str {
    ["here", "there"][row % 2]
}

/// In one place a score means what it says, in the other half of it.
fn paid(row: usize) -> bool {
    noise(2, row) < score(row) * if place(row) == "here" { 1.0 } else { 0.5 }
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let rows = columns[0].1.len();
    let mut all: Vec<(&str, ArrayRef)> = vec![
        ("x", Arc::new(Float64Array::from_iter_values((0..rows).map(|row| noise(3, row))))),
        ("place", Arc::new(StringArray::from_iter_values((0..rows).map(place)))),
    ];
    all.extend(columns);
    RecordBatch::try_from_iter(all).unwrap()
}

fn scored() -> RecordBatch {
    let label = |row: usize| (!row.is_multiple_of(10)).then_some(i64::from(paid(row)));
    batch(vec![
        ("score", Arc::new(Float64Array::from_iter_values((0..ROWS).map(score)))),
        ("paid", Arc::new(Int64Array::from_iter((0..ROWS).map(label)))),
    ])
}

fn build(model: &Model, rows: RecordBatch) -> Reference {
    Reference::build(model, "training", &[rows], &BTreeMap::new(), Source::default(), 0).unwrap()
}

fn key(value: &str) -> (String, String) {
    ("place".to_string(), value.to_string())
}

#[test]
fn labelled_rows_are_the_baseline_of_the_whole_and_of_each_segment() {
    let model = model(BINARY);
    let reference = build(&model, scored());
    assert_eq!(Reference::from_json(&reference.to_json()).unwrap(), reference, "it is kept in the file");
    assert_eq!(reference.id, build(&model, scored()).id, "the same rows have the same address");
    let baseline = PerformanceBaseline::open(&reference, &model).unwrap().unwrap();
    assert_eq!(baseline.labelled(None), 2_700);
    assert_eq!((baseline.labelled(Some(&key("here"))), baseline.labelled(Some(&key("there")))), (1_200, 1_500));
    let right = |of: &dyn Fn(usize) -> bool| {
        let rows = (0..ROWS).filter(|row| !row.is_multiple_of(10) && of(*row));
        let right: Vec<bool> = rows.map(|row| (score(row) >= 0.5) == paid(row)).collect();
        right.iter().filter(|right| **right).count() as f64 / right.len() as f64
    };
    let accuracy = |segment: Option<&(String, String)>| baseline.metrics(segment).unwrap()["accuracy"].value.unwrap();
    assert!((accuracy(None) - right(&|_| true)).abs() < 1e-12);
    assert!((accuracy(Some(&key("there"))) - right(&|row| place(row) == "there")).abs() < 1e-12);
    assert!(baseline.metrics(Some(&key("nowhere"))).is_none());
    let recall = baseline.metrics_at(None, 0.8).unwrap()["recall"].value.unwrap();
    assert!(recall < baseline.metrics(None).unwrap()["recall"].value.unwrap(), "{recall}");
}

#[test]
fn estimates_and_shifts_of_a_segment_go_by_what_scores_mean_there() {
    let model = model(BINARY);
    let reference = build(&model, scored());
    let baseline = PerformanceBaseline::open(&reference, &model).unwrap().unwrap();
    let window = |of: &dyn Fn(usize) -> bool, paid: &dyn Fn(usize) -> bool| {
        let mut profile = PerformanceProfile::new(baseline.layout());
        for row in (5_000..8_000).filter(|row| of(*row)) {
            let prediction = Prediction { score: score(row), ..Prediction::default() };
            profile.add_prediction(baseline.layout(), &prediction);
            profile.add_labelled(baseline.layout(), &prediction, &Label::Class(u32::from(paid(row))));
        }
        profile
    };
    for value in ["here", "there"] {
        let window = window(&|row| place(row) == value, &paid);
        let (estimates, realised) = (baseline.estimates(Some(&key(value)), &window), window.metrics(baseline.layout()));
        for (estimate, metric) in [("est_accuracy", "accuracy"), ("est_precision", "precision"), ("est_f1", "f1")] {
            let ([least, most], real) = (estimates[estimate].interval.unwrap(), realised[metric].value.unwrap());
            assert!((least..=most).contains(&real), "{value} {metric}: {real}, estimated {:?}", estimates[estimate]);
        }
        let shift = baseline.shifts(Some(&key(value)), &window)["calibration_shift"];
        assert!(shift.p_value.unwrap() > 0.01, "{value}: {shift:?}");
    }
    // Were the one place to become like the other, inputs and scores would be as ever.
    let changed = window(&|row| place(row) == "here", &|row| paid(row) && noise(7, row) < 0.5);
    let shift = baseline.shifts(Some(&key("here")), &changed)["calibration_shift"];
    assert!(shift.p_value.unwrap() < 1e-6 && shift.value.unwrap() > 0.15, "{shift:?}");
    assert!(baseline.estimates(Some(&key("nowhere")), &changed).is_empty());
}

#[test]
fn a_model_file_that_judges_otherwise_asks_for_a_new_reference() {
    let reference = build(&model(BINARY), scored());
    let stricter = model(&BINARY.replace("binary,", "binary, threshold: 0.7,"));
    let error = PerformanceBaseline::open(&reference, &stricter).unwrap_err();
    assert!(error.contains("build it again") && error.contains("training"), "{error}");
    // Where labels come from does not matter.
    let elsewhere = model(&BINARY.replace("[labels]", "[outcomes]"));
    assert!(PerformanceBaseline::open(&reference, &elsewhere).unwrap().is_some());
}

#[test]
fn without_a_column_of_labels_the_reference_is_built_and_says_what_is_lost() {
    let model = model(BINARY);
    let rows = batch(vec![("score", Arc::new(Float64Array::from_iter_values((0..ROWS).map(score))))]);
    let reference = build(&model, rows.clone());
    assert!(reference.performance.is_none());
    assert!(PerformanceBaseline::open(&reference, &model).unwrap().is_none());
    assert_eq!(
        why_not(&model, &BTreeMap::new(), &[rows]).unwrap(),
        "the reference data has no column `paid` for the label: its performance, and estimates while labels are not \
         there, will not be available; name the column with `label_column` under `performance`, or map \
         `performance.label` under the reference's `columns`"
    );
    assert_eq!(why_not(&model, &BTreeMap::new(), &[scored()]), None);
}

#[test]
fn columns_of_performance_can_be_mapped() {
    let mut model = model(BINARY);
    let columns = BTreeMap::from([("performance.label".to_string(), "paid".to_string())]);
    model.performance.as_mut().unwrap().label_column = Some("elsewhere".into());
    let of = |columns: &BTreeMap<String, String>| {
        Reference::build(&model, "training", &[scored()], columns, Source::default(), 0).unwrap().performance.is_some()
    };
    assert_eq!((of(&columns), of(&BTreeMap::new())), (true, false));
}

const CLASSES: &str = "prediction: {path: best, type: categorical}\n\
                       performance: {task: multiclass, labels: {topics: [labels], fields: {label: outcome.truth}}, \
                       class_scores: {red: scores.p_red, blue: scores.p_blue}}\n";

#[test]
fn several_classes_have_a_curve_each_and_predictions_get_chances() {
    let model = model(CLASSES);
    let text = |red: &dyn Fn(usize) -> bool| -> ArrayRef {
        Arc::new(StringArray::from_iter_values((0..ROWS).map(|row| if red(row) { "red" } else { "blue" })))
    };
    let rows = batch(vec![
        ("p_red", Arc::new(Float64Array::from_iter_values((0..ROWS).map(score)))),
        ("p_blue", Arc::new(Float64Array::from_iter_values((0..ROWS).map(|row| 1.0 - score(row))))),
        ("best", text(&|row| score(row) >= 0.5)),
        ("truth", text(&|row| noise(2, row) < score(row))),
    ]);
    let reference = build(&model, rows);
    assert_eq!(Reference::from_json(&reference.to_json()).unwrap(), reference);
    let baseline = PerformanceBaseline::open(&reference, &model).unwrap().unwrap();
    assert_eq!(baseline.layout().classes(), ["blue", "red"]);
    let mut predictions: Vec<Prediction> = (5_000..8_000)
        .map(|row| Prediction {
            class: Some(u32::from(score(row) >= 0.5)),
            class_scores: vec![1.0 - score(row), score(row)],
            ..Prediction::default()
        })
        .collect();
    let empty = batch(vec![("unused", Arc::new(Float64Array::from(vec![0.0])))]);
    Completion::of(&reference, &model).unwrap().complete(&empty, &mut predictions);
    assert!(predictions.iter().all(|row| (row.chances.iter().sum::<f64>() - 1.0).abs() < 1e-12));
    let mut window = PerformanceProfile::new(baseline.layout());
    for (row, prediction) in (5_000..8_000).zip(&predictions) {
        window.add_prediction(baseline.layout(), prediction);
        let label = Label::Class(u32::from(noise(2, row) < score(row)));
        window.add_labelled(baseline.layout(), prediction, &label);
    }
    let (estimates, realised) = (baseline.estimates(None, &window), window.metrics(baseline.layout()));
    for metric in ["accuracy", "f1_macro", "roc_auc_ovr_macro"] {
        let estimate = estimates[&format!("est_{metric}")];
        let ([least, most], real) = (estimate.interval.unwrap(), realised[metric].value.unwrap());
        assert!((least..=most).contains(&real), "{metric}: {real}, estimated {estimate:?}");
    }
    assert!(baseline.shifts(None, &window)["calibration_shift"].p_value.unwrap() > 0.01);
}

const NUMBERS: &str = "prediction: {path: price, type: numeric}\n\
                       performance: {task: regression, label: {path: outcome.sold, type: numeric}}\n";

#[test]
fn losses_are_expected_by_features_and_the_mean_error_is_compared() {
    let model = model(NUMBERS);
    let sold = |row: usize| 10.0 + (noise(4, row) - 0.5) * 4.0 * noise(3, row);
    let price = || -> ArrayRef { Arc::new(Float64Array::from(vec![10.0; ROWS])) };
    let rows = |shift: f64| {
        let sold: ArrayRef = Arc::new(Float64Array::from_iter_values((0..ROWS).map(|row| sold(row) + shift)));
        batch(vec![("price", price()), ("sold", sold)])
    };
    let reference = build(&model, rows(0.0));
    assert_eq!(Reference::from_json(&reference.to_json()).unwrap(), reference);
    let Some(Expectation::Regression(losses)) = reference.performance.as_ref().map(|it| &it.expectation) else {
        panic!("no losses: {:?}", reference.performance);
    };
    assert!(losses.held_out().correlation > 0.3, "{:?}", losses.held_out());
    let baseline = PerformanceBaseline::open(&reference, &model).unwrap().unwrap();
    // Only rows where errors are large.
    let count = 2_000;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("x", Arc::new(Float64Array::from_iter_values((0..count).map(|row| 0.8 + 0.2 * noise(3, row))))),
        ("place", Arc::new(StringArray::from_iter_values((0..count).map(place)))),
        ("prediction.value", Arc::new(Float64Array::from(vec![10.0; count]))),
    ];
    let decoded = RecordBatch::try_from_iter(columns).unwrap();
    let mut predictions = vec![Prediction { value: 10.0, ..Prediction::default() }; count];
    Completion::of(&reference, &model).unwrap().complete(&decoded, &mut predictions);
    let mut window = PerformanceProfile::new(baseline.layout());
    predictions.iter().for_each(|prediction| window.add_prediction(baseline.layout(), prediction));
    let estimate = baseline.estimates(None, &window)["est_mae"].value.unwrap();
    // |u - 1/2| * 4 x is x in the mean; x is 0.9.
    assert!((estimate / 0.9 - 1.0).abs() < 0.1, "{estimate}");
    for (row, prediction) in predictions.iter().enumerate() {
        window.add_labelled(baseline.layout(), prediction, &Label::Number(9.9 + noise(8, row) * 0.1));
    }
    let shift = baseline.shifts(None, &window)["bias_shift"];
    let of_reference = (0..ROWS).map(|row| 10.0 - sold(row)).sum::<f64>() / ROWS as f64;
    assert!((shift.value.unwrap() + of_reference - 0.05).abs() < 0.01, "{shift:?}");
    let diff = PerformanceDiff::of(&reference, &build(&model, rows(1.0))).unwrap();
    let bias = diff.metrics["bias"];
    assert!((bias.after.value.unwrap() - bias.before.value.unwrap() + 1.0).abs() < 1e-9, "{bias:?}");
    assert!(bias.difference.unwrap()[1] < -0.9, "{bias:?}");
}
