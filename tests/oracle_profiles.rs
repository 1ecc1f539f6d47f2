//! Statistics from profiles equal those that numpy and scipy compute from the rows: exact ones to rounding, the
//! Kolmogorov-Smirnov and Wasserstein distances within the bound that is reported with them, however the rows are
//! split. Needs the oracle's data sets and expected values, which are not part of this repository:
//! `DRIFTLINE_ORACLE_DIR` holds `data/NAME/{reference,current}.parquet`, `data/NAME/spec.json` and
//! `oracle/expected/NAME.json`; `DRIFTLINE_ORACLE_SYNTH`, if set, a directory with the generated million rows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use datafusion::arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch, StringArray};
use datafusion::arrow::compute::{cast, concat_batches};
use datafusion::arrow::datatypes::{DataType, Int64Type, TimeUnit};
use driftline::config::model::Model;
use driftline::reference::{FeatureReference, Reference, Source, column};
use driftline::stats::calibration::Calibration;
use driftline::stats::evaluate::evaluate;
use driftline::stats::layout::Layout;
use driftline::stats::metric::FeatureStats;
use driftline::stats::profile::Profile;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

/// Pieces that every window is cut into, profiled apart, encoded, decoded and merged in an order that is not theirs.
const PIECES: usize = 7;

/// Ours, the oracle's, absolute tolerance relative to max(1, |expected|).
const NUMERIC: [(&str, &str, f64); 9] = [
    ("psi", "psi_q10", 1e-9),
    ("psi_q20", "psi_q20", 1e-9),
    ("psi_missbin", "psi_q10_missbin", 1e-9),
    ("js", "js_q10", 1e-7),
    ("null_rate", "missing_rate", 1e-9),
    ("mean", "mean", 1e-9),
    ("std", "std_ddof0", 1e-9),
    ("min", "min", 0.0),
    ("max", "max", 0.0),
];
const CATEGORICAL: [(&str, &str, f64); 8] = [
    ("psi", "psi", 1e-9),
    ("js", "js", 1e-7),
    ("chi_square", "chi2", 1e-9),
    ("cramers_v", "cramers_v", 1e-9),
    ("null_rate", "missing_rate", 1e-9),
    ("unseen_rate", "unseen_rate", 1e-9),
    ("unseen_categories", "unseen_categories", 0.0),
    ("lost_categories", "lost_categories", 0.0),
];

#[derive(Default)]
struct Report {
    compared: u64,
    failures: Vec<String>,
    /// Largest difference per metric, and where.
    worst: BTreeMap<String, (f64, String)>,
}

impl Report {
    fn check(&mut self, metric: &str, place: &str, ours: Option<f64>, expected: Option<f64>, tolerance: f64) {
        self.compared += 1;
        let (Some(ours), Some(expected)) = (ours, expected) else {
            if ours.is_some() != expected.is_some() {
                self.failures.push(format!("{place} {metric}: ours {ours:?}, oracle {expected:?}"));
            }
            return;
        };
        let difference = (ours - expected).abs() / expected.abs().max(1.0);
        self.note(metric, difference, place);
        if difference > tolerance {
            self.failures
                .push(format!("{place} {metric}: ours {ours:e}, oracle {expected:e}, tolerance {tolerance:e}"));
        }
    }

    fn note(&mut self, metric: &str, size: f64, place: &str) {
        let worst = self.worst.entry(metric.to_string()).or_default();
        if size > worst.0 {
            *worst = (size, place.to_string());
        }
    }

    fn check_feature(&mut self, place: &str, kind: Kind, stats: &FeatureStats, expected: &Value) {
        let oracle = |key: &str| expected.get(key).and_then(Value::as_f64);
        self.check("n", place, Some(stats.n as f64), oracle("n"), 0.0);
        self.check("n_ref", place, Some(stats.n_reference as f64), oracle("n_ref"), 0.0);
        let exact: &[_] = if kind == Kind::Numeric { &NUMERIC } else { &CATEGORICAL };
        for (name, key, tolerance) in exact {
            let ours = stats.metrics.get(*name).and_then(|metric| metric.value);
            self.check(name, place, ours, oracle(key), *tolerance);
        }
        match kind {
            Kind::Numeric => self.check_bounded(place, stats, expected),
            Kind::Categorical => {
                let p = stats.metrics.get("chi_square").and_then(|metric| metric.p_value);
                self.check("chi_square p", place, p, oracle("chi2_p"), 1e-9);
            }
        }
    }

    fn check_bounded(&mut self, place: &str, stats: &FeatureStats, expected: &Value) {
        let oracle = |key: &str| expected.get(key).and_then(Value::as_f64);
        for (name, key) in [("ks", "ks"), ("wasserstein", "wasserstein"), ("wasserstein_norm", "wasserstein_std0")] {
            let metric = stats.metrics.get(name);
            let ours = metric.and_then(|metric| metric.value);
            let bound = metric.and_then(|metric| metric.bound).unwrap_or(0.0);
            let (Some(ours), Some(expected)) = (ours, oracle(key)) else {
                self.check(name, place, ours, oracle(key), 0.0);
                continue;
            };
            self.compared += 1;
            let rounding = 1e-9 * expected.abs().max(1.0);
            let difference = (ours - expected).abs();
            let below = name != "ks" || ours <= expected + 1e-12;
            if difference > bound + if name == "ks" { 1e-12 } else { rounding } || !below {
                self.failures.push(format!("{place} {name}: ours {ours:e} +- {bound:e}, oracle {expected:e}"));
            }
            if name == "ks" && bound > 1e-3 + 1e-12 {
                self.failures.push(format!("{place} ks: the bound {bound:e} exceeds a thousandth"));
            }
            self.note(&format!("{name} (difference)"), difference, place);
            self.note(&format!("{name} (bound)"), bound, place);
            // Relative to a distance that matters: a tenth of the reference's standard deviation.
            if name == "wasserstein" && oracle("wasserstein_std0") > Some(0.1) {
                self.note("wasserstein (difference, relative)", difference / expected, place);
                self.note("wasserstein (bound, relative)", bound / expected, place);
            }
        }
        let p = stats.metrics.get("ks").filter(|metric| metric.bound.is_none()).and_then(|metric| metric.p_value);
        if let Some(p) = p {
            self.check("ks p (where exact)", place, Some(p), oracle("ks_p_stephens"), 1e-9);
        }
    }

    fn finish(self) {
        for (metric, (size, place)) in &self.worst {
            println!("{metric:55} largest {size:.3e} at {place}");
        }
        println!("{} values compared, {} differ", self.compared, self.failures.len());
        assert!(self.failures.is_empty(), "{}", self.failures.iter().take(30).cloned().collect::<Vec<_>>().join("\n"));
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Numeric,
    Categorical,
}

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

fn names(spec: &Value, key: &str) -> Vec<String> {
    spec[key].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_string()).collect()
}

fn model_of(numeric: &[String], categorical: &[String]) -> Model {
    let kinds =
        numeric.iter().map(|name| (name, "numeric")).chain(categorical.iter().map(|name| (name, "categorical")));
    let features: serde_json::Map<String, Value> = kinds.map(|(name, kind)| (name.clone(), json!(kind))).collect();
    serde_json::from_value(json!({"version": 1, "model": "oracle", "topics": ["t"], "features": features})).unwrap()
}

/// Without what its own windows taught: the oracle knows no such thing.
fn reference_of(model: &Model, rows: RecordBatch) -> Reference {
    let mut reference = Reference::build(model, "training", &[rows], &BTreeMap::new(), Source::default(), 0).unwrap();
    reference.features.values_mut().for_each(|feature| feature.calibration = Calibration::default());
    reference
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

enum Column {
    Numbers(Vec<Option<f64>>),
    Categories(Vec<Option<String>>),
}

impl Column {
    fn of(array: &ArrayRef, layout: &Layout) -> Self {
        match layout {
            Layout::Numeric(_) => Column::Numbers(column::numbers(array).unwrap()),
            Layout::Categorical(_) => Column::Categories(column::categories(array).unwrap()),
            Layout::Vector(_) => panic!("no column of the oracle is a vector"),
        }
    }

    fn profile(&self, rows: &[usize], layout: &Layout) -> Profile {
        let mut profile = Profile::new(layout);
        for row in rows {
            match (&mut profile, self, layout) {
                (Profile::Numeric(profile), Column::Numbers(values), Layout::Numeric(layout)) => match values[*row] {
                    Some(value) => profile.add(value, layout),
                    None => profile.add_nulls(1),
                },
                (Profile::Categorical(profile), Column::Categories(values), Layout::Categorical(layout)) => {
                    match &values[*row] {
                        Some(value) => profile.add(value, layout),
                        None => profile.add_nulls(1),
                    }
                }
                _ => panic!("column, layout and profile are of one kind"),
            }
        }
        profile
    }
}

/// Profiles the rows in pieces that interleave, and merges what was decoded from their bytes, last piece first.
fn merged_profile(column: &Column, rows: &[usize], layout: &Layout) -> Profile {
    let mut merged = Profile::new(layout);
    for piece in (0..PIECES).rev() {
        let rows: Vec<usize> = rows.iter().copied().skip(piece).step_by(PIECES).collect();
        let bytes = column.profile(&rows, layout).encode();
        merged.merge(&Profile::decode(&bytes, layout).unwrap()).unwrap();
    }
    merged
}

fn kind_of(feature: &FeatureReference) -> Kind {
    match feature.layout {
        Layout::Numeric(_) => Kind::Numeric,
        Layout::Categorical(_) => Kind::Categorical,
        Layout::Vector(_) => panic!("no column of the oracle is a vector"),
    }
}

fn compare(name: &str, spec: &Value, data: &Path, expected: &Path, report: &mut Report) {
    let model = model_of(&names(spec, "numeric"), &names(spec, "categorical"));
    let reference = reference_of(&model, read_parquet(&data.join("reference.parquet")));
    let current = read_parquet(&data.join("current.parquet"));
    let expected = read_json(expected);
    let windows = windows(spec, &current);
    for feature in reference.features.values() {
        let column = Column::of(current.column_by_name(&feature.name).unwrap(), &feature.layout);
        for window in expected["windows"].as_array().unwrap() {
            let index = window["index"].as_u64().unwrap() as usize;
            let stats = evaluate(feature, &merged_profile(&column, &windows[index], &feature.layout));
            let place = format!("{name} window {index} {}", feature.name);
            report.check_feature(&place, kind_of(feature), &stats, &window["features"][&feature.name]);
        }
    }
}

#[test]
#[ignore = "needs the oracle data: set DRIFTLINE_ORACLE_DIR"]
fn statistics_of_real_data_equal_the_oracle() {
    let directory = oracle_directory();
    let mut report = Report::default();
    let mut sets = 0;
    for entry in std::fs::read_dir(directory.join("data")).unwrap() {
        let data = entry.unwrap().path();
        if !data.join("spec.json").exists() {
            continue;
        }
        let name = data.file_name().unwrap().to_str().unwrap().to_string();
        let expected = directory.join("oracle/expected").join(format!("{name}.json"));
        compare(&name, &read_json(&data.join("spec.json")), &data, &expected, &mut report);
        sets += 1;
    }
    if let Ok(synthetic) = std::env::var("DRIFTLINE_ORACLE_SYNTH") {
        let expected = directory.join("oracle/expected/synth_1m.json");
        let spec = read_json(&expected)["spec"].clone();
        compare("synth_1m", &spec, Path::new(&synthetic), &expected, &mut report);
    }
    assert!(sets >= 6, "only {sets} data sets with a spec.json in {}", directory.display());
    report.finish();
}

#[test]
#[ignore = "needs the oracle data: set DRIFTLINE_ORACLE_DIR"]
fn statistics_of_edge_cases_equal_the_oracle() {
    let cases = read_json(&oracle_directory().join("oracle/expected/edge_cases.json"));
    let mut report = Report::default();
    for (kind, key) in [(Kind::Numeric, "numeric"), (Kind::Categorical, "categorical")] {
        for case in cases[key].as_array().unwrap() {
            let name = vec!["x".to_string()];
            let model = if kind == Kind::Numeric { model_of(&name, &[]) } else { model_of(&[], &name) };
            let rows = |side: &str, rows: &str| column_with_missing(kind, &case[side], case[rows].as_u64().unwrap());
            let (before, now) = (rows("ref", "ref_rows"), rows("cur", "cur_rows"));
            if before.is_empty() {
                continue;
            }
            let batch = RecordBatch::try_from_iter([("x", before)]).unwrap();
            let reference = reference_of(&model, batch);
            let feature = &reference.features["x"];
            let every: Vec<usize> = (0..now.len()).collect();
            let window = merged_profile(&Column::of(&now, &feature.layout), &every, &feature.layout);
            let place = format!("{key} {}", case["name"]);
            report.check_feature(&place, kind, &evaluate(feature, &window), &case["expected"]);
        }
    }
    report.finish();
}

/// Values (or counts per category) as a column, with nulls up to the number of rows.
fn column_with_missing(kind: Kind, values: &Value, rows: u64) -> ArrayRef {
    use std::sync::Arc;
    match kind {
        Kind::Numeric => {
            let mut column: Vec<Option<f64>> = values.as_array().unwrap().iter().map(Value::as_f64).collect();
            column.resize(rows as usize, None);
            Arc::new(Float64Array::from(column))
        }
        Kind::Categorical => {
            let mut column: Vec<Option<String>> = Vec::new();
            for (category, count) in values.as_object().unwrap() {
                column.extend((0..count.as_u64().unwrap()).map(|_| Some(category.clone())));
            }
            column.resize(rows as usize, None);
            Arc::new(StringArray::from(column))
        }
    }
}
