//! Performance through profiles equals what numpy, scipy and scikit-learn compute from the rows: realised metrics and
//! estimates without labels, however the rows are split; estimates that NannyML makes otherwise are near its own. Needs
//! the oracle's data sets and expected values, which are not part of this repository: `DRIFTLINE_ORACLE_DIR` holds
//! `data/NAME/{reference,current}.parquet`, `data/NAME/spec.json` and
//! `oracle/expected/NAME{,.cbpe_mmd,.nannyml}.json`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch, StringArray};
use datafusion::arrow::compute::{cast, concat_batches};
use datafusion::arrow::datatypes::{DataType, Int64Type, TimeUnit};
use driftline::config::model::{Kind, Model};
use driftline::config::performance::Task;
use driftline::reference::performance::{Completion, Expectation};
use driftline::reference::{PerformanceBaseline, Reference, Source, column};
use driftline::stats::metric::MetricValue;
use driftline::stats::performance::profile::{Label, PerformanceLayout, PerformanceProfile, Prediction};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

/// Pieces that every window is cut into, profiled apart, encoded, decoded and merged in an order that is not theirs.
const PIECES: usize = 5;

/// Ours, the oracle's.
const BINARY: [(&str, &str); 13] = [
    ("accuracy", "accuracy"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("specificity", "specificity"),
    ("f1", "f1"),
    ("mcc", "mcc"),
    ("roc_auc", "roc_auc"),
    ("pr_auc", "pr_auc"),
    ("log_loss", "log_loss"),
    ("brier", "brier"),
    ("ece", "ece_w10"),
    ("ks_score", "ks_score"),
    ("gini", "gini"),
];
const MULTICLASS: [(&str, &str); 9] = [
    ("accuracy", "accuracy"),
    ("precision_macro", "precision_macro"),
    ("recall_macro", "recall_macro"),
    ("f1_macro", "f1_macro"),
    ("precision_weighted", "precision_weighted"),
    ("recall_weighted", "recall_weighted"),
    ("f1_micro", "f1_micro"),
    ("log_loss", "log_loss"),
    ("roc_auc_ovr_macro", "roc_auc_ovr_macro"),
];
const REGRESSION: [(&str, &str); 8] = [
    ("mae", "mae"),
    ("mse", "mse"),
    ("rmse", "rmse"),
    ("mape", "mape"),
    ("medae", "medae"),
    ("r2", "r2"),
    ("bias", "bias"),
    ("rmsle", "rmsle"),
];
const ESTIMATES: [&str; 11] = [
    "est_accuracy",
    "est_precision",
    "est_recall",
    "est_f1",
    "est_specificity",
    "est_roc_auc",
    "est_pr_auc",
    "exp_tp",
    "exp_fp",
    "exp_fn",
    "exp_tn",
];

fn oracle_directory() -> PathBuf {
    PathBuf::from(std::env::var("DRIFTLINE_ORACLE_DIR").expect("set DRIFTLINE_ORACLE_DIR to the oracle's directory"))
}

fn read_json(path: &Path) -> Value {
    serde_json::from_reader(File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).unwrap()
}

fn read_parquet(path: &Path) -> RecordBatch {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    concat_batches(&batches[0].schema(), &batches).unwrap()
}

/// A data set: its model, its reference, and the rows that come after.
struct Set {
    name: String,
    reference: Reference,
    baseline: PerformanceBaseline,
    predictions: Vec<Prediction>,
    labels: Vec<Option<Label>>,
    windows: Vec<Vec<usize>>,
    expected: Value,
    cbpe: Value,
    nannyml: Value,
}

impl Set {
    fn read(name: &str) -> Self {
        let directory = oracle_directory();
        let data = directory.join("data").join(name);
        let spec = read_json(&data.join("spec.json"));
        let model = model_of(&spec);
        let reference = read_parquet(&data.join("reference.parquet"));
        let reference =
            Reference::build(&model, "training", &[reference], &BTreeMap::new(), Source::default(), 0).unwrap();
        // As it is read from its file.
        let reference = Reference::from_json(&reference.to_json()).unwrap();
        let baseline = PerformanceBaseline::open(&reference, &model).unwrap().unwrap();
        let current = read_parquet(&data.join("current.parquet"));
        let (predictions, labels) = rows_of(&spec, &model, &reference, baseline.layout(), &current);
        let expected = |kind: &str| read_json(&directory.join(format!("oracle/expected/{name}{kind}.json")));
        Set {
            name: name.to_string(),
            windows: windows(&spec, &current),
            expected: expected(""),
            cbpe: expected(".cbpe_mmd"),
            nannyml: expected(".nannyml"),
            reference,
            baseline,
            predictions,
            labels,
        }
    }

    /// The profile of a window, put together from pieces.
    fn profile(&self, index: usize) -> PerformanceProfile {
        let layout = self.baseline.layout();
        let mut merged = PerformanceProfile::new(layout);
        for piece in (0..PIECES).rev() {
            let mut profile = PerformanceProfile::new(layout);
            for row in self.windows[index].iter().skip(piece).step_by(PIECES) {
                profile.add_prediction(layout, &self.predictions[*row]);
                if let Some(label) = &self.labels[*row] {
                    profile.add_labelled(layout, &self.predictions[*row], label);
                }
            }
            merged.merge(&PerformanceProfile::decode(&profile.encode(), layout).unwrap());
        }
        merged
    }
}

fn model_of(spec: &Value) -> Model {
    let performance = &spec["performance"];
    let kind = performance["kind"].as_str().unwrap();
    let column = |key: &str| performance.get(key).and_then(Value::as_str);
    let class_scores: BTreeMap<String, String> =
        performance.get("scores").map(|scores| serde_json::from_value(scores.clone()).unwrap()).unwrap_or_default();
    let outputs: Vec<&str> = [column("label"), column("prediction"), column("score")]
        .into_iter()
        .flatten()
        .chain(class_scores.values().map(String::as_str))
        .collect();
    let mut features = serde_json::Map::new();
    for kind in ["numeric", "categorical"] {
        for name in spec[kind].as_array().unwrap().iter().map(|name| name.as_str().unwrap()) {
            if !outputs.contains(&name) {
                features.insert(name.to_string(), json!(kind));
            }
        }
    }
    let output = |name: Option<&str>, kind: &str| name.map(|path| json!({"path": path, "type": kind}));
    let of_prediction = if kind == "regression" { "numeric" } else { "categorical" };
    serde_json::from_value(json!({
        "version": 1, "model": "oracle", "topics": ["t"], "features": features,
        "prediction": output(column("prediction"), of_prediction),
        "score": output(column("score"), "numeric"),
        "performance": {
            "task": kind, "label_column": column("label"), "labels": {"topics": ["l"]}, "class_scores": class_scores,
        },
    }))
    .unwrap()
}

/// What ingest makes of the rows.
fn rows_of(
    spec: &Value,
    model: &Model,
    reference: &Reference,
    layout: &PerformanceLayout,
    rows: &RecordBatch,
) -> (Vec<Prediction>, Vec<Option<Label>>) {
    let named = |name: &str| rows.column_by_name(name).unwrap_or_else(|| panic!("no column {name}"));
    let texts = |name: &str| column::categories(named(name)).unwrap();
    let numbers = |name: &str| {
        column::numbers(named(name)).unwrap().into_iter().map(|value| value.unwrap_or(f64::NAN)).collect::<Vec<f64>>()
    };
    let mut predictions = vec![Prediction::default(); rows.num_rows()];
    if let Some(column) = &model.prediction {
        if layout.task() == Task::Regression {
            predictions.iter_mut().zip(numbers(&column.path)).for_each(|(row, value)| row.value = value);
        } else {
            let classes = texts(&column.path).into_iter().map(|text| text.map(|text| layout.class_of(&text)));
            predictions.iter_mut().zip(classes).for_each(|(row, class)| row.class = class);
        }
    }
    if let Some(column) = &model.score {
        predictions.iter_mut().zip(numbers(&column.path)).for_each(|(row, score)| row.score = score);
    }
    for path in model.performance.as_ref().unwrap().class_scores.values() {
        predictions.iter_mut().zip(numbers(path)).for_each(|(row, score)| row.class_scores.push(score));
    }
    let columns = model.signals().into_iter().map(|signal| {
        let array: ArrayRef = match signal.kind {
            Kind::Numeric => Arc::new(Float64Array::from(column::numbers(named(last(&signal.path))).unwrap())),
            _ => Arc::new(StringArray::from(texts(last(&signal.path)))),
        };
        (signal.name, array)
    });
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    if let Some(completion) = Completion::of(reference, model) {
        completion.complete(&batch, &mut predictions);
    }
    let label = spec["performance"]["label"].as_str().unwrap();
    let labels = if layout.task() == Task::Regression {
        numbers(label).into_iter().map(|value| (!value.is_nan()).then_some(Label::Number(value))).collect()
    } else {
        texts(label).into_iter().map(|text| text.map(|text| Label::Class(layout.class_of(&text)))).collect()
    };
    (predictions, labels)
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap()
}

/// Rows of each window, in the oracle's order.
fn windows(spec: &Value, rows: &RecordBatch) -> Vec<Vec<usize>> {
    let window = &spec["window"];
    match window["kind"].as_str().unwrap() {
        "count" => {
            let size = window["size"].as_u64().unwrap() as usize;
            (0..rows.num_rows()).collect::<Vec<_>>().chunks(size).map(<[usize]>::to_vec).collect()
        }
        "column" => {
            let values = cast(rows.column_by_name(window["name"].as_str().unwrap()).unwrap(), &DataType::Utf8).unwrap();
            grouped(values.as_string::<i32>().iter().map(|value| value.unwrap().to_string()))
        }
        "tumbling" => {
            let column = rows.column_by_name(spec["timestamp"].as_str().unwrap()).unwrap();
            let times = cast(column, &DataType::Timestamp(TimeUnit::Millisecond, None)).unwrap();
            let times = cast(&times, &DataType::Int64).unwrap();
            let size_ms = window["size_s"].as_i64().unwrap() * 1_000;
            grouped(times.as_primitive::<Int64Type>().values().iter().map(|ms| ms.div_euclid(size_ms)))
        }
        other => panic!("windows of kind {other}"),
    }
}

fn grouped<K: Ord>(keys: impl Iterator<Item = K>) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<K, Vec<usize>> = BTreeMap::new();
    for (row, key) in keys.enumerate() {
        groups.entry(key).or_default().push(row);
    }
    groups.into_values().collect()
}

#[derive(Default)]
struct Report {
    compared: u64,
    /// Of those, exact ones.
    exact: u64,
    failures: Vec<String>,
    worst: BTreeMap<String, (f64, f64, String)>,
}

impl Report {
    /// Exact ones to 1e-9 of max(1, |expected|), others within their bound.
    fn check(&mut self, metric: &str, place: &str, ours: Option<&MetricValue>, expected: Option<f64>) {
        self.compared += 1;
        let Some(expected) = expected else { return };
        let Some(MetricValue { value: Some(value), bound, .. }) = ours else {
            self.failures.push(format!("{place} {metric}: ours {ours:?}, oracle {expected}"));
            return;
        };
        let (difference, scale) = ((value - expected).abs(), expected.abs().max(1.0));
        let bound = bound.unwrap_or(0.0);
        self.exact += u64::from(bound == 0.0);
        if difference > bound + 1e-9 * scale {
            self.failures.push(format!("{place} {metric}: ours {value:e} +- {bound:e}, oracle {expected:e}"));
        }
        let worst = self.worst.entry(metric.to_string()).or_default();
        if difference / scale >= worst.0 {
            *worst = (difference / scale, bound / scale, place.to_string());
        }
    }

    fn finish(self) {
        for (metric, (difference, bound, place)) in &self.worst {
            println!("{metric:25} largest difference {difference:.3e}, bound there {bound:.3e}, at {place}");
        }
        println!("{} compared, {} without a bound, {} differ", self.compared, self.exact, self.failures.len());
        assert!(self.failures.is_empty(), "{}", self.failures.iter().take(40).cloned().collect::<Vec<_>>().join("\n"));
    }
}

const SETS: [&str; 6] =
    ["elec2", "nml_car_loan", "bike_sharing", "nml_car_price_reg", "nml_credit_multiclass", "nyc_taxi"];

#[test]
#[ignore = "needs the oracle data: set DRIFTLINE_ORACLE_DIR"]
fn realised_metrics_and_estimates_from_profiles_equal_the_oracle() {
    let mut report = Report::default();
    for name in SETS {
        let set = Set::read(name);
        let metrics: &[(&str, &str)] = match set.baseline.layout().task() {
            Task::Binary => &BINARY,
            Task::Multiclass => &MULTICLASS,
            _ => &REGRESSION,
        };
        for window in set.expected["windows"].as_array().unwrap() {
            let index = window["index"].as_u64().unwrap() as usize;
            let profile = set.profile(index);
            let realised = profile.metrics(set.baseline.layout());
            let place = format!("{name} window {index}");
            for (ours, oracle) in metrics {
                report.check(ours, &place, realised.get(*ours), window["performance"][oracle].as_f64());
            }
            let expected = &set.cbpe["windows"][index]["cbpe_always_calibrated"];
            if expected.is_object() {
                let estimates = set.baseline.estimates(None, &profile);
                for key in ESTIMATES {
                    report.check(key, &place, estimates.get(key), expected[key].as_f64());
                }
            }
        }
    }
    assert!(report.compared > 1_000, "{} values compared", report.compared);
    report.finish();
}

/// How near the estimates of one set are to what came true, beside NannyML's.
fn against_nannyml(set: &Set, part: &str, metrics: &[(&str, &str)], windows: std::ops::Range<usize>) -> Vec<[f64; 2]> {
    let mut mean_errors = Vec::new();
    for (ours, peer) in metrics {
        let (mut errors, mut within, mut given) = ([0.0; 2], 0, 0);
        for index in windows.clone() {
            let estimate = set.baseline.estimates(None, &set.profile(index))[*ours];
            let row = &set.nannyml[part][index];
            let number = |key: &str| row[format!("{peer}|{key}")].as_f64().unwrap();
            let (value, [least, most]) = (estimate.value.unwrap(), estimate.interval.unwrap());
            let (realised, theirs) = (number("realized"), number("value"));
            println!(
                "{} {index:2} {ours}: {value:.4} [{least:.4}, {most:.4}], NannyML {theirs:.4}, realised {realised:.4}",
                set.name
            );
            errors[0] += (value - realised).abs();
            errors[1] += (theirs - realised).abs();
            within += u32::from((least..=most).contains(&realised));
            given += 1;
        }
        let mean = errors.map(|error| error / f64::from(given));
        println!(
            "{} {ours}: mean error {:.5}, NannyML {:.5}; {within} of {given} in the band",
            set.name, mean[0], mean[1]
        );
        mean_errors.push(mean);
    }
    mean_errors
}

#[test]
#[ignore = "needs the oracle data: set DRIFTLINE_ORACLE_DIR"]
fn estimates_of_several_classes_are_those_of_nannyml() {
    let set = Set::read("nml_credit_multiclass");
    let metrics = [
        ("est_accuracy", "accuracy"),
        ("est_precision_macro", "precision"),
        ("est_recall_macro", "recall"),
        ("est_f1_macro", "f1"),
        ("est_roc_auc_ovr_macro", "roc_auc"),
    ];
    against_nannyml(&set, "cbpe", &metrics, 0..10);
    for index in 0..10 {
        let estimates = set.baseline.estimates(None, &set.profile(index));
        for (ours, peer) in metrics {
            let theirs = set.nannyml["cbpe"][index][format!("{peer}|value")].as_f64().unwrap();
            let difference = (estimates[ours].value.unwrap() - theirs).abs();
            assert!(difference < 2e-3, "window {index} {ours}: {difference} from NannyML's {theirs}");
        }
    }
}

#[test]
#[ignore = "needs the oracle data: set DRIFTLINE_ORACLE_DIR"]
fn estimates_of_the_car_loan_model_hold_before_the_shift() {
    let set = Set::read("nml_car_loan");
    let metrics = [
        ("est_accuracy", "accuracy"),
        ("est_precision", "precision"),
        ("est_recall", "recall"),
        ("est_f1", "f1"),
        ("est_specificity", "specificity"),
        ("est_roc_auc", "roc_auc"),
        ("est_pr_auc", "average_precision"),
    ];
    against_nannyml(&set, "cbpe", &metrics, 0..5);
    against_nannyml(&set, "cbpe", &metrics, 5..10);
    for index in 0..10 {
        println!("nml_car_loan {index} {:?}", set.baseline.shifts(None, &set.profile(index)));
    }
}

#[test]
#[ignore = "needs the oracle data: set DRIFTLINE_ORACLE_DIR"]
fn expected_losses_are_as_near_as_those_of_nannyml() {
    let metrics = [("est_mae", "mae"), ("est_rmse", "rmse")];
    // NannyML learns from the counts of two kinds of riders as well, which sum to the label.
    for (name, allowed) in [("nml_car_price_reg", 1.4), ("bike_sharing", 1.4)] {
        let set = Set::read(name);
        let Some(Expectation::Regression(losses)) = set.reference.performance.as_ref().map(|p| &p.expectation) else {
            panic!("{name}: no losses were learned");
        };
        println!("{name}: {} trees, {:?}", losses.trees(), losses.held_out());
        for [ours, theirs] in against_nannyml(&set, "dle", &metrics, 0..set.windows.len()) {
            assert!(ours < allowed * theirs, "{name}: mean error {ours}, NannyML {theirs}");
        }
        for index in 0..set.windows.len() {
            println!("{name} {index} {:?}", set.baseline.shifts(None, &set.profile(index)));
        }
    }
}
