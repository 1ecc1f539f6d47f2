//! What a back-test costs: rows a second through the whole engine, beside reading the same Parquet file and nothing else.
//!
//!     cargo bench --bench backtest
//!
//! `DRIFTLINE_BENCH_ROWS` (default 1 000 000) rows of 20 numeric and 5 categorical features, a row every 30 s, windows of a
//! day, the rules of `rules/starter.yaml`; median of `DRIFTLINE_BENCH_ROUNDS` (3).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use driftline::backtest::history::{HistoryFile, read};
use driftline::backtest::{Engine, EngineOptions, Trail};
use driftline::config::model::Model;
use driftline::config::{load_rules, parse_model_str};
use driftline::reference::table::TableFile;
use driftline::reference::{Reference, Source};
use driftline::rules::RuleSet;
use parquet::arrow::ArrowWriter;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const NUMERIC: usize = 20;
const CATEGORICAL: usize = 5;
const START_MS: i64 = 1_767_225_600_000;
const EVERY_MS: i64 = 30_000;
const BATCH_ROWS: usize = 65_536;

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

fn model() -> Arc<Model> {
    let numeric = (0..NUMERIC).map(|index| format!("  num_{index}: numeric\n"));
    let categorical = (0..CATEGORICAL).map(|index| format!("  cat_{index}: categorical\n"));
    let features: String = numeric.chain(categorical).collect();
    let text = format!(
        "version: 1\nmodel: bench\ntopics: [t]\nfields: {{timestamp: at, features: '*'}}\nfeatures:\n{features}\
         references: {{training: {{path: t}}}}\nwindows: {{size: 1d, watermark_delay: 0s}}\n"
    );
    Arc::new(parse_model_str("model.yaml", &text).unwrap().value)
}

fn batch(random: &mut StdRng, first: usize, rows: usize) -> RecordBatch {
    let times = (first..first + rows).map(|row| START_MS + row as i64 * EVERY_MS);
    let mut columns: Vec<(String, ArrayRef)> =
        vec![("at".into(), Arc::new(TimestampMillisecondArray::from_iter_values(times)))];
    for index in 0..NUMERIC {
        let values = (0..rows).map(|_| random.random::<f64>() + random.random::<f64>());
        columns.push((format!("num_{index}"), Arc::new(Float64Array::from_iter_values(values))));
    }
    for index in 0..CATEGORICAL {
        let values = (0..rows).map(|_| format!("c{}", random.random_range(0..8)));
        columns.push((format!("cat_{index}"), Arc::new(StringArray::from_iter_values(values))));
    }
    RecordBatch::try_from_iter(columns).unwrap()
}

fn write(path: &Path, rows: usize) {
    let mut random = StdRng::seed_from_u64(5);
    let mut writer: Option<ArrowWriter<File>> = None;
    for first in (0..rows).step_by(BATCH_ROWS) {
        let batch = batch(&mut random, first, BATCH_ROWS.min(rows - first));
        let writer = writer
            .get_or_insert_with(|| ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap());
        writer.write(&batch).unwrap();
    }
    writer.unwrap().close().unwrap();
}

/// Seconds to read every column, and no more.
fn reading(path: &Path) -> f64 {
    let started = Instant::now();
    let file = TableFile::open(path).unwrap();
    let names = file.column_names();
    let rows: usize = file.stream(&names).unwrap().map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(rows, file.rows);
    started.elapsed().as_secs_f64()
}

fn trying(path: &Path, model: &Arc<Model>, rules: &Arc<RuleSet>, reference: &Arc<Reference>) -> (f64, Trail) {
    let started = Instant::now();
    let references = BTreeMap::from([(model.model.clone(), reference.clone())]);
    let models = std::slice::from_ref(model);
    let mut engine = Engine::new(models, rules.clone(), &references, EngineOptions::default()).unwrap();
    let file = HistoryFile { path: path.to_path_buf(), ..HistoryFile::default() };
    read(&mut engine, model, &file, &mut |_, _| {}).unwrap();
    let trail = engine.finish().unwrap();
    (started.elapsed().as_secs_f64(), trail)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let (rows, rounds) = (number("DRIFTLINE_BENCH_ROWS", 1_000_000), number("DRIFTLINE_BENCH_ROUNDS", 3));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.parquet");
    write(&path, rows);
    let model = model();
    let starter = load_rules(&Path::new(env!("CARGO_MANIFEST_DIR")).join("rules/starter.yaml")).unwrap().value;
    let rules = Arc::new(RuleSet::compile(&[("starter.yaml".into(), starter)], std::slice::from_ref(&model)).unwrap());
    let training = batch(&mut StdRng::seed_from_u64(6), 0, 20_000);
    let reference = Reference::build(&model, "training", &[training], &BTreeMap::new(), Source::default(), 0).unwrap();
    let reference = Arc::new(reference);
    let (mut read_s, mut tried_s) = (Vec::new(), Vec::new());
    let mut windows = 0;
    for _ in 0..rounds {
        read_s.push(reading(&path));
        let (seconds, trail) = trying(&path, &model, &rules, &reference);
        tried_s.push(seconds);
        windows = trail.windows_closed.values().sum();
        assert_eq!(trail.total_rows(), rows as u64);
    }
    let (read_s, tried_s) = (median(read_s), median(tried_s));
    println!("{rows} rows, {} features, {windows} windows", NUMERIC + CATEGORICAL);
    println!("reading the Parquet file alone: {read_s:.2} s, {:.2} M rows/s", rows as f64 / read_s / 1e6);
    println!("back-test: {tried_s:.2} s, {:.2} M rows a minute", rows as f64 / tried_s / 1e6 * 60.0);
    println!("back-test to reading alone: {:.1}", tried_s / read_s);
}
