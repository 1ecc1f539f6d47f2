//! One feature transform: what serves is what trained. And what is built on it: files and topics scored by the code that
//! serves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scorer_support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use async_trait::async_trait;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{Float32Type, TimeUnit};
use driftline::config::scorer::TransformSettings;
use driftline::log::embedded::EmbeddedLog;
use driftline::log::{Log, OutRecord, TopicSpec};
use driftline::scorer::backend::Backend;
use driftline::scorer::batch::topic::{TopicCounts, TopicJob, run_topic};
use driftline::scorer::batch::{Featurizer, FileOptions, RowScorer, run_file};
use driftline::scorer::engine::{Engine, Signature, TensorSpec};
use driftline::scorer::events::LayoutOptions;
use driftline::scorer::registry::manifest::Lineage;
use driftline::scorer::registry::register::Registration;
use driftline::scorer::registry::{Registry, sha256_hex};
use driftline::scorer::score::{Priority, ScoreError};
use driftline::scorer::tensor::{DataType, Tensor, TensorData, TensorLimits};
use driftline::scorer::transform::backend::{of_version, wrap};
use driftline::scorer::transform::{FeatureTransform, RawColumn, arrow, rows};
use proptest::prelude::*;
use scorer_support::FakeEngine;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

const TRANSFORM: &str = "\
version: 1
output: features
inputs:
  amount: number
  limit: number
  country: {type: text, missing: ['?']}
  plan: text
  signup: time
  night: boolean
  code: text
features:
  - {from: amount}
  - {from: amount, name: amount_log, steps: [{impute: 0}, {clip: {min: 0}}, log1p, {standard: {mean: 3.1, std: 1.7}}]}
  - {from: amount, name: share, steps: [{ratio: {by: limit}}, {impute: -1}]}
  - {from: amount, name: amount_bin, steps: [{bin: {edges: [0, 10, 100, 1000]}}]}
  - {from: limit, name: limit_scaled, steps: [{min_max: {min: -5, max: 12.5}}]}
  - {from: country, steps: [{one_hot: {categories: [DE, FR], unseen: other}}]}
  - {from: plan, steps: [{impute: free}, {ordinal: {categories: [free, pro]}}]}
  - {from: signup, name: hour, steps: [{date_part: hour}]}
  - {from: signup, name: weekday, steps: [{date_part: day_of_week}]}
  - {from: signup, name: age, steps: [{date_part: epoch_seconds}]}
  - {from: night}
  - {from: code, steps: [{cast: number}]}
  - {from: amount, name: amount_text, steps: [{cast: text}, {ordinal: {categories: ['1.0', '1e+16'], unseen: 7}}]}
";

fn transform() -> Arc<FeatureTransform> {
    let parsed = FeatureTransform::parse("transform.yaml", TRANSFORM.as_bytes());
    Arc::new(parsed.unwrap_or_else(|found| panic!("{found}")))
}

/// One row as a producer has it.
#[derive(Debug, Clone)]
struct Row {
    amount: Option<f64>,
    limit: Option<f64>,
    country: Option<String>,
    plan: Option<String>,
    signup_us: Option<i64>,
    night: bool,
    code: Option<String>,
}

fn any_number() -> impl Strategy<Value = Option<f64>> {
    let special = prop::sample::select(vec![
        0.0,
        -0.0,
        1.0,
        1e16,
        -1.0,
        0.1,
        f64::MIN_POSITIVE,
        5e-324,
        f64::MAX,
        f64::MIN,
        f64::EPSILON,
        1e-5,
    ]);
    prop_oneof![
        1 => Just(None),
        2 => special.prop_map(Some),
        4 => (-1e4..1e4_f64).prop_map(Some),
        1 => any::<f64>().prop_filter_map("JSON has finite numbers only", |x| x.is_finite().then_some(Some(x))),
    ]
}

fn any_text(known: &'static [&'static str]) -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        1 => Just(None),
        5 => prop::sample::select(known).prop_map(|text| Some(text.to_string())),
        1 => any::<String>().prop_map(Some),
    ]
}

prop_compose! {
    fn any_row()(
        amount in any_number(),
        limit in any_number(),
        country in any_text(&["DE", "FR", "?", "", "de", "US"]),
        plan in any_text(&["free", "pro", "team"]),
        // The years 1 to 9999, to the microsecond.
        signup_us in prop::option::of(-62_135_596_800_000_000_i64..253_402_300_799_999_999),
        night in any::<bool>(),
        code in any_text(&["1", "2.5", "-3e2", "nan", "inf", "x", " 7 ", "1e999"]),
    ) -> Row {
        Row { amount, limit, country, plan, signup_us, night, code }
    }
}

fn tensor(name: &str, data: TensorData) -> Tensor {
    Tensor::new(name, vec![data.len()], data, &TensorLimits::default()).unwrap()
}

fn rfc3339(us: i64) -> String {
    let time = chrono::DateTime::from_timestamp_micros(us).unwrap();
    time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

/// As a client sends them: NaN and the empty text for what is missing.
fn tensors(rows: &[Row]) -> Vec<Tensor> {
    let numbers =
        |of: fn(&Row) -> Option<f64>| TensorData::Fp64(rows.iter().map(|row| of(row).unwrap_or(f64::NAN)).collect());
    let texts = |of: &dyn Fn(&Row) -> Option<String>| {
        TensorData::Bytes(rows.iter().map(|row| of(row).unwrap_or_default().into_bytes()).collect())
    };
    vec![
        tensor("amount", numbers(|row| row.amount)),
        tensor("limit", numbers(|row| row.limit)),
        tensor("country", texts(&|row| row.country.clone())),
        tensor("plan", texts(&|row| row.plan.clone())),
        tensor("signup", texts(&|row| row.signup_us.map(rfc3339))),
        tensor("night", TensorData::Bool(rows.iter().map(|row| row.night).collect())),
        tensor("code", texts(&|row| row.code.clone())),
    ]
}

fn batch(rows: &[Row]) -> RecordBatch {
    let numbers = |of: fn(&Row) -> Option<f64>| -> ArrayRef { Arc::new(rows.iter().map(of).collect::<Float64Array>()) };
    let texts = |of: fn(&Row) -> Option<String>| -> ArrayRef { Arc::new(rows.iter().map(of).collect::<StringArray>()) };
    let dictionary = datafusion::arrow::compute::cast(
        &texts(|row| row.country.clone()),
        &datafusion::arrow::datatypes::DataType::Dictionary(
            Box::new(datafusion::arrow::datatypes::DataType::Int32),
            Box::new(datafusion::arrow::datatypes::DataType::Utf8),
        ),
    );
    let times: TimestampMicrosecondArray = rows.iter().map(|row| row.signup_us).collect();
    assert_eq!(times.data_type(), &datafusion::arrow::datatypes::DataType::Timestamp(TimeUnit::Microsecond, None));
    let night: BooleanArray = rows.iter().map(|row| Some(row.night)).collect();
    RecordBatch::try_from_iter([
        ("code", texts(|row| row.code.clone())),
        ("amount", numbers(|row| row.amount)),
        ("limit", numbers(|row| row.limit)),
        ("country", dictionary.unwrap()),
        ("plan", texts(|row| row.plan.clone())),
        ("signup", Arc::new(times) as ArrayRef),
        ("night", Arc::new(night) as ArrayRef),
    ])
    .unwrap()
}

fn objects(rows: &[Row]) -> Vec<Map<String, Value>> {
    let object = |row: &Row| {
        let features = json!({
            "amount": row.amount, "limit": row.limit, "country": row.country, "plan": row.plan,
            "signup": row.signup_us.map(rfc3339), "night": row.night, "code": row.code,
        });
        // Through the text: what is parsed is what a producer wrote.
        serde_json::from_str(&features.to_string()).unwrap()
    };
    rows.iter().map(object).collect()
}

/// Takes what the transform gives, and keeps it.
struct Kept {
    columns: usize,
    inputs: Mutex<Vec<Tensor>>,
}

#[async_trait]
impl Backend for Kept {
    fn signature(&self) -> Option<Arc<Signature>> {
        let spec = |name: &str, width| TensorSpec {
            name: name.into(),
            datatype: DataType::Fp32,
            shape: vec![None, Some(width)],
        };
        let (inputs, outputs) = (vec![spec("features", self.columns)], vec![spec("score", 1)]);
        Some(Arc::new(Signature { inputs, outputs, batches: true }))
    }

    fn engine(&self) -> &'static str {
        "kept"
    }

    fn ready(&self) -> bool {
        true
    }

    async fn score(&self, inputs: Vec<Tensor>, _: Priority, _: Option<Instant>) -> Result<Vec<Tensor>, ScoreError> {
        self.inputs.lock().unwrap().extend(inputs);
        Ok(Vec::new())
    }
}

fn bits(data: &TensorData) -> Vec<u32> {
    match data {
        TensorData::Fp32(values) => values.iter().map(|value| value.to_bits()).collect(),
        other => panic!("{:?}", other.datatype()),
    }
}

fn online(transform: &Arc<FeatureTransform>, rows: &[Row]) -> Vec<u32> {
    let kept = Arc::new(Kept { columns: transform.columns().len(), inputs: Mutex::default() });
    let served = wrap(Some(transform.clone()), kept.clone()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(served.score(tensors(rows), Priority::Normal, None)).unwrap();
    let inputs = kept.inputs.lock().unwrap();
    bits(inputs[0].data())
}

fn of_raw(transform: &FeatureTransform, raw: &[RawColumn], rows: usize) -> Vec<u32> {
    bits(&transform.apply(raw, rows).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    /// 50 times 200 rows: what is served, what is read from a table and what is read from JSON are the same bits.
    #[test]
    fn features_served_and_features_trained_on_are_the_same_bits(rows in prop::collection::vec(any_row(), 200)) {
        let transform = transform();
        let served = online(&transform, &rows);
        let from_table = arrow::raw_columns(transform.inputs(), &batch(&rows)).unwrap();
        prop_assert_eq!(&served, &of_raw(&transform, &from_table, rows.len()));
        let objects = objects(&rows);
        let from_json = rows::raw_columns(transform.inputs(), &objects.iter().collect::<Vec<_>>()).unwrap();
        prop_assert_eq!(&served, &of_raw(&transform, &from_json, rows.len()));
        let one_by_one: Vec<u32> = rows.iter().flat_map(|row| online(&transform, std::slice::from_ref(row))).collect();
        prop_assert_eq!(&served, &one_by_one);
    }
}

#[test]
fn a_row_becomes_the_columns_that_the_file_says() {
    let transform = transform();
    let columns = [
        "amount",
        "amount_log",
        "share",
        "amount_bin",
        "limit_scaled",
        "country=DE",
        "country=FR",
        "country=_other",
        "plan",
        "hour",
        "weekday",
        "age",
        "night",
        "code",
        "amount_text",
    ];
    assert_eq!(transform.columns(), columns);
    let row = Row {
        amount: Some(20.0),
        limit: Some(5.0),
        country: Some("US".into()),
        plan: None,
        signup_us: Some(1_795_537_000_250_000),
        night: true,
        code: Some("-3e2".into()),
    };
    let missing = Row {
        amount: None,
        limit: None,
        country: Some("?".into()),
        plan: None,
        signup_us: None,
        night: false,
        code: None,
    };
    let (raw, rows) =
        driftline::scorer::transform::tensors::raw_columns(transform.inputs(), &tensors(&[row, missing])).unwrap();
    let TensorData::Fp32(values) = transform.apply(&raw, rows).unwrap() else { panic!("FP32") };
    let log = ((20.0_f64.ln_1p() - 3.1) / 1.7) as f32;
    let scaled = (10.0_f64 / 17.5) as f32;
    let expected =
        [20.0, log, 4.0, 2.0, scaled, 0.0, 0.0, 1.0, 0.0, 16.0, 1.0, 1_795_537_000.25_f64 as f32, 1.0, -300.0, 7.0];
    assert_eq!(values[..15], expected);
    let of_missing: Vec<String> = values[15..].iter().map(ToString::to_string).collect();
    let log = ((0.0 - 3.1) / 1.7_f64) as f32;
    let expected =
        ["NaN", &log.to_string(), "-1", "NaN", "NaN", "0", "0", "0", "0", "NaN", "NaN", "NaN", "0", "NaN", "NaN"];
    assert_eq!(of_missing, expected);
}

#[test]
fn every_mistake_of_a_transform_is_said_at_its_place() {
    let text = "version: 1\ninputs: {a: number, t: text, at: time}\nfeatures:\n\
                - {from: b}\n\
                - {from: t}\n\
                - {from: at, steps: [log1p]}\n\
                - {from: a, steps: [{standard: {mean: 0, std: 0}}]}\n\
                - {from: a, steps: [{bin: {edges: [2, 1]}}]}\n\
                - {from: t, steps: [{one_hot: {categories: [x, x]}}]}\n\
                - {from: a, name: r, steps: [{ratio: {by: t}}]}\n\
                - {from: a}\n- {from: a}\n";
    let found = FeatureTransform::parse("transform.yaml", text.as_bytes()).unwrap_err().to_string();
    for (line, message) in [
        (4, "`b` is no raw feature of `inputs`"),
        (5, "`t` ends as a text, a column is a number"),
        (6, "`log1p` takes a number, here the value is a time"),
        (7, "`std` is not above 0"),
        (8, "`edges` must be given in ascending order"),
        (9, "`categories` must name 1 to"),
        (10, "`t` is no number"),
        (12, "another column is called `a` too"),
    ] {
        let place = format!("transform.yaml:{line}:");
        let said = found.lines().any(|said| said.contains(&place) && said.contains(message));
        assert!(said, "{place} {message} is not in\n{found}");
    }
}

#[test]
fn a_version_whose_transform_is_not_the_one_it_was_trained_on_is_not_served() {
    let directory = tempfile::tempdir().unwrap();
    let registry = Registry::open(directory.path()).unwrap();
    let register = |files: &[(&str, &str)], transform: Option<&str>| {
        let files: BTreeMap<_, _> =
            files.iter().map(|(name, text)| (name.to_string(), text.as_bytes().to_vec())).collect();
        let lineage = Lineage { transform: transform.map(str::to_string), ..Lineage::default() };
        let registration = Registration { model: "m".into(), files, lineage, ..Registration::default() };
        let version = registry.register(&registration, None, 0).unwrap().manifest.version;
        registry.open_version("m", &version).unwrap()
    };
    let id = sha256_hex(TRANSFORM.as_bytes());
    let (model, file) = (("model.onnx", "linear 1 + 0"), ("transform.yaml", TRANSFORM));
    let sound = register(&[model, file], Some(&id));
    assert_eq!(of_version(&sound, None).unwrap().unwrap().id(), id);
    let other = format!("{TRANSFORM}# another comment is another transform\n");
    let error = of_version(&register(&[model, ("transform.yaml", &other)], Some(&id)), None).unwrap_err();
    assert!(error.contains("the model was trained on other features"), "{error}");
    let error = of_version(&register(&[model], Some(&id)), None).unwrap_err();
    assert!(error.contains("is missing, and the manifest names the transform"), "{error}");
    let pinned = TransformSettings { id: Some("0".repeat(64)) };
    let error = of_version(&sound, Some(&pinned)).unwrap_err();
    assert!(error.contains("must have the id 000"), "{error}");
    let plain = register(&[model], None);
    assert!(of_version(&plain, None).unwrap().is_none());
    assert!(of_version(&plain, Some(&pinned)).is_err());
}

#[test]
fn a_model_that_takes_something_else_is_refused() {
    let refused = |columns| {
        let kept = Kept { columns, inputs: Mutex::default() };
        wrap(Some(transform()), Arc::new(kept)).err().unwrap()
    };
    let error = refused(3);
    assert!(error.contains("with 15 columns; the model takes `features` of FP32 with 3 columns"), "{error}");
}

#[test]
fn a_request_with_wrong_raw_features_is_told_which() {
    let transform = transform();
    let row = Row { amount: None, limit: None, country: None, plan: None, signup_us: None, night: false, code: None };
    let mut inputs = tensors(&[row]);
    inputs[0] = tensor("amount", TensorData::Fp32(vec![1.0]));
    let error = |inputs: &[Tensor]| {
        driftline::scorer::transform::tensors::raw_columns(transform.inputs(), inputs).unwrap_err().to_string()
    };
    assert_eq!(error(&inputs), "raw feature `amount`: is FP32, FP64 is taken");
    inputs[0] = tensor("amount", TensorData::Fp64(vec![1.0, 2.0]));
    assert_eq!(error(&inputs), "raw feature `code`: has 1 rows, others have 2");
    inputs[0] = tensor("amount", TensorData::Fp64(vec![1.0]));
    inputs[6] = tensor("code", TensorData::Bytes(vec![vec![0xff]]));
    assert_eq!(error(&inputs), "raw feature `code`: the text of row 0 is not UTF-8");
    inputs.pop();
    assert_eq!(error(&inputs), "raw feature `code`: the request has no tensor of this name");
}

// Files and topics.

fn write_parquet(path: &Path, batch: &RecordBatch) {
    let file = std::fs::File::create(path).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

fn read_parquet(path: &Path) -> RecordBatch {
    let file = std::fs::File::open(path).unwrap();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let schema = reader.schema().clone();
    let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    datafusion::arrow::compute::concat_batches(&schema, &batches).unwrap()
}

fn sample_rows(count: usize) -> Vec<Row> {
    let row = |index: usize| Row {
        amount: (!index.is_multiple_of(7)).then_some(index as f64 / 3.0),
        limit: Some((index % 11) as f64),
        country: ["DE", "FR", "US", ""].get(index % 5).map(|text| text.to_string()),
        plan: Some(["free", "pro"][index % 2].into()),
        signup_us: Some(1_600_000_000_000_000 + index as i64 * 7_777_777),
        night: index.is_multiple_of(3),
        code: Some(index.to_string()),
    };
    (0..count).map(row).collect()
}

#[test]
fn training_data_has_the_features_that_are_served() {
    let directory = tempfile::tempdir().unwrap();
    let rows = sample_rows(10_000);
    let (input, output) = (directory.path().join("raw.parquet"), directory.path().join("features.parquet"));
    write_parquet(&input, &batch(&rows));
    let transform = transform();
    let options = FileOptions { keep: Some(vec!["code".into()]) };
    // The raw `code` stays, and there is a feature of that name.
    let clash = run_file(&mut Featurizer::new(transform.clone()), &input, &output, &options, &|_, _| {}).unwrap_err();
    assert!(clash.to_string().contains("has a column `code` already"), "{clash}");
    assert!(!output.exists(), "what fails leaves nothing behind");
    let options = FileOptions { keep: Some(vec!["signup".into()]) };
    let told = Mutex::new(Vec::new());
    let progress = |done, total| told.lock().unwrap().push((done, total));
    let count = run_file(&mut Featurizer::new(transform.clone()), &input, &output, &options, &progress).unwrap();
    assert_eq!(count, 10_000);
    assert_eq!(told.lock().unwrap().last(), Some(&(10_000, Some(10_000))));
    let written = read_parquet(&output);
    assert_eq!(written.num_columns(), 1 + transform.columns().len());
    let served = online(&transform, &rows);
    for (index, name) in transform.columns().iter().enumerate() {
        let column = written.column_by_name(name).unwrap().as_primitive::<Float32Type>();
        let trained: Vec<u32> = column.values().iter().map(|value| value.to_bits()).collect();
        let served: Vec<u32> = served.iter().skip(index).step_by(transform.columns().len()).copied().collect();
        assert_eq!(trained, served, "{name}");
    }
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "no temporary file stays: {left:?}");
}

/// The command, on the same rows as table and as lines.
#[test]
fn the_command_writes_the_features_that_are_served() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let rows = sample_rows(10_000);
    std::fs::write(path("transform.yaml"), TRANSFORM.replace("- {from: code,", "- {from: code, name: number,"))
        .unwrap();
    let transform = Arc::new(
        FeatureTransform::parse("transform.yaml", &std::fs::read(path("transform.yaml")).unwrap())
            .unwrap_or_else(|found| panic!("{found}")),
    );
    write_parquet(&path("raw.parquet"), &batch(&rows));
    let lines: Vec<String> = objects(&rows).into_iter().map(|object| Value::Object(object).to_string()).collect();
    std::fs::write(path("raw.jsonl"), lines.join("\n")).unwrap();
    let featurize = |input: &str, output: &str| {
        std::process::Command::new(env!("CARGO_BIN_EXE_driftline-scorer"))
            .args(["featurize", "--transform", "transform.yaml", "--keep", "code", input, output])
            .current_dir(directory.path())
            .output()
            .unwrap()
    };
    for (input, output) in [("raw.parquet", "features.parquet"), ("raw.jsonl", "features.jsonl")] {
        let done = featurize(input, output);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let said = String::from_utf8(done.stdout).unwrap();
        assert_eq!(said, format!("10000 rows; transform {}\n", transform.id()));
    }
    let served = online(&transform, &rows);
    let table = read_parquet(&path("features.parquet"));
    let lines = std::fs::read_to_string(path("features.jsonl")).unwrap();
    let lines: Vec<Map<String, Value>> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let width = transform.columns().len();
    for (index, name) in transform.columns().iter().enumerate() {
        let served: Vec<u32> = served.iter().skip(index).step_by(width).copied().collect();
        let column = table.column_by_name(name).unwrap().as_primitive::<Float32Type>();
        let trained: Vec<u32> = column.values().iter().map(|value| value.to_bits()).collect();
        assert_eq!(trained, served, "{name} of the table");
        // JSON has no word for what is no number: null.
        let number = |line: &Map<String, Value>| line[name].as_f64().map_or(f32::NAN, |value| value as f32);
        for (line, served) in lines.iter().map(number).zip(&served) {
            let served = f32::from_bits(*served);
            assert!(line.to_bits() == served.to_bits() || line.is_nan() && served.is_nan(), "{name}: {line} {served}");
        }
    }
    // What cannot be done says what and where, and leaves nothing behind.
    std::fs::write(path("bad.jsonl"), "{\"amount\": 1}\n{\"amount\": \"one\"}\n").unwrap();
    let failed = featurize("bad.jsonl", "none.jsonl");
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(!failed.status.success() && said.contains("error: ") && !path("none.jsonl").exists(), "{said}");
}

/// `score = 2 a - b + 0.5`.
fn scorer(features: &[&str]) -> RowScorer {
    let loaded = FakeEngine::default().load(b"linear 2 -1 + 0.5").unwrap();
    let options = LayoutOptions {
        feature_names: features.iter().map(|name| name.to_string()).collect(),
        ..LayoutOptions::default()
    };
    RowScorer::new(&*loaded, None, ("m", "3"), options, "").unwrap()
}

#[test]
fn a_file_of_lines_is_scored_and_its_own_text_stays() {
    let directory = tempfile::tempdir().unwrap();
    let (input, output) = (directory.path().join("in.jsonl"), directory.path().join("out.jsonl"));
    let lines = "{\"id\": 1,  \"a\": 1.5, \"b\": 2}\n\n{\"b\":0,\"a\":-1,\"id\":\"x\"}\n";
    std::fs::write(&input, lines).unwrap();
    let count = run_file(&mut scorer(&["a", "b"]), &input, &output, &FileOptions::default(), &|_, _| {}).unwrap();
    assert_eq!(count, 2);
    let expected = "{\"id\": 1,  \"a\": 1.5, \"b\": 2,\"score\":1.5,\"model_version\":\"3\"}\n\
                    {\"b\":0,\"a\":-1,\"id\":\"x\",\"score\":-1.5,\"model_version\":\"3\"}\n";
    assert_eq!(std::fs::read_to_string(&output).unwrap(), expected);
    for (wrong, said) in [
        ("{\"a\":1,\"b\":\"two\"}\n", "feature `b` of row 0: \"two\" is no number"),
        ("{\"a\":1,\"b\":2}\n{\"a\":\n", "line 2 is no JSON object"),
        ("{\"a\":1,\"b\":2,\"score\":0}\n", "row 0 has `score` already"),
        ("[1]\n", "line 1 is no JSON object"),
    ] {
        std::fs::write(&input, wrong).unwrap();
        let error =
            run_file(&mut scorer(&["a", "b"]), &input, &output, &FileOptions::default(), &|_, _| {}).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
        assert_eq!(std::fs::read_to_string(&output).unwrap(), expected, "the earlier output stays");
    }
}

#[test]
fn a_parquet_file_is_scored_in_pieces_and_columns_stay() {
    let directory = tempfile::tempdir().unwrap();
    let (input, output) = (directory.path().join("in.parquet"), directory.path().join("out.parquet"));
    let numbers = |scale: f64| -> ArrayRef {
        Arc::new((0..10_001).map(|row| Some(f64::from(row) * scale)).collect::<Float64Array>())
    };
    let batch =
        RecordBatch::try_from_iter([("a", numbers(1.0)), ("b", numbers(0.5)), ("other", numbers(7.0))]).unwrap();
    write_parquet(&input, &batch);
    let count = run_file(&mut scorer(&["a", "b"]), &input, &output, &FileOptions::default(), &|_, _| {}).unwrap();
    assert_eq!(count, 10_001);
    let written = read_parquet(&output);
    let names: Vec<_> = written.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["a", "b", "other", "score", "model_version"]);
    assert_eq!(written.column(2), batch.column(2));
    let scores = written.column(3).as_primitive::<Float32Type>();
    for (row, score) in scores.values().iter().enumerate() {
        assert_eq!(*score, row as f32 * 1.5 + 0.5, "row {row}");
    }
}

fn records(log: &dyn Log, topic: &str) -> Vec<Value> {
    let mut found = Vec::new();
    for partition in 0..log.partition_count(topic).unwrap().unwrap() {
        driftline::log::read_to_end(log, topic, partition, |_, value| {
            found.push(serde_json::from_slice(value.unwrap()).unwrap_or(Value::Null));
        })
        .unwrap();
    }
    found
}

#[test]
fn a_topic_is_scored_once_by_runs_that_follow_each_other() {
    let log = EmbeddedLog::default();
    let spec = |name: &str| TopicSpec { name: name.into(), partitions: 3, replication: 1, config: Vec::new() };
    log.create_topics(&[spec("in"), spec("out"), spec("dead")]).unwrap();
    let record = |value: String| OutRecord {
        topic: "in".into(),
        key: Some(value.as_bytes().to_vec()),
        value: Some(value.into_bytes()),
        ..OutRecord::default()
    };
    let job = TopicJob {
        from: "in".into(),
        to: "out".into(),
        dead_letter: "dead".into(),
        group: "g".into(),
        instance: "0".into(),
        until_end: true,
    };
    let run = || run_topic(&log, &mut scorer(&["a", "b"]), &job, &CancellationToken::new(), &|_| {}).unwrap();
    let rows = (0..500).map(|id| record(json!({"id": id, "features": {"a": id, "b": 1}, "score": "old"}).to_string()));
    log.append(rows.collect()).unwrap();
    assert_eq!(run(), TopicCounts { scored: 500, dead_lettered: 0 });
    let more = vec![
        record("no json".into()),
        record(json!({"id": 500, "a": 1, "b": "x"}).to_string()),
        record(json!({"id": 501, "a": 1}).to_string()),
    ];
    log.append(more).unwrap();
    assert_eq!(run(), TopicCounts { scored: 1, dead_lettered: 2 }, "what was scored is not read again");
    let mut out = records(&log, "out");
    out.sort_by_key(|row| row["id"].as_u64());
    let ids: Vec<_> = out.iter().map(|row| row["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, (0..500).chain([501]).collect::<Vec<_>>());
    for row in &out[..500] {
        let expected = 2.0 * row["id"].as_f64().unwrap() - 0.5;
        assert_eq!((row["score"].as_f64(), &row["version"], &row["model"]), (Some(expected), &json!("3"), &json!("m")));
    }
    assert_eq!(out[500]["score"], Value::Null, "a missing feature is no number, and so is its score");
    assert_eq!(records(&log, "dead").len(), 2);
}
