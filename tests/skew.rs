//! `driftline skew`, run as a user runs it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Date32Array, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, TimestampSecondArray,
};
use driftline::log::{Log, OutRecord, TopicSpec};
use parquet::arrow::ArrowWriter;
use serde_json::Value;

mod support;

struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn write_parquet(&self, name: &str, columns: Vec<(&str, ArrayRef)>) {
        let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, a)| (name, a, true)));
        let batch = batch.unwrap();
        let mut writer = ArrowWriter::try_new(File::create(self.path(name)).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_driftline"))
            .current_dir(self.directory.path())
            .arg("skew")
            .args(arguments)
            .output()
            .unwrap()
    }

    /// Exit code and the document of a run with `--format json`.
    fn report(&self, arguments: &[&str]) -> (i32, Value) {
        let output = self.run(&[arguments, &["--format", "json"]].concat());
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(errors, "");
        (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap())
    }

    /// Exit code and message of a run that must fail.
    fn failure(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).trim_end().to_string())
    }
}

fn feature<'a>(report: &'a Value, name: &str) -> &'a Value {
    let features = report["features"].as_array().unwrap();
    features.iter().find(|feature| feature["feature"] == name).unwrap_or_else(|| panic!("no feature {name}"))
}

/// Equal, within tolerance, different, missing online, missing offline, missing on both sides.
fn outcomes(feature: &Value) -> [u64; 6] {
    ["equal", "within_tolerance", "different", "missing_online", "missing_offline", "both_missing"]
        .map(|key| feature[key].as_u64().unwrap())
}

/// 2026-03-01 00:00 UTC, in seconds.
const MIDNIGHT: i64 = 1_772_323_200;
const HOUR: i64 = 3_600;
const BY_ID: [&str; 6] = ["--online", "online.jsonl", "--offline", "offline.csv", "--id", "id"];

/// Six predictions; `amount` of b is a hundredth off, of c a third, d lacks it online; `country` of a is new.
fn shop(files: &Files) {
    files.write(
        "online.jsonl",
        r#"{"id": "a", "amount": 10.0, "country": "DE", "clicks": 3, "session": "x"}
{"id": "b", "amount": 20.2, "country": "fr", "clicks": "4"}
{"id": "c", "amount": 30.0, "country": "fr", "clicks": 5}
{"id": "d", "country": "fr", "clicks": 6}
{"id": "e", "amount": 50.0, "country": "fr", "clicks": 7}
{"id": "z", "amount": 1.0, "country": "fr", "clicks": 8}
"#,
    );
    files.write(
        "offline.csv",
        "id,amount,country,clicks,weight\na,10,de,3,1\nb,20,fr,4,1\nc,20,fr,5,1\nd,40,fr,6,1\ne,,fr,7,1\ny,1,fr,9,1\n",
    );
}

#[test]
fn values_are_compared_by_id_and_told_by_feature() {
    let files = Files::new();
    shop(&files);
    let (code, report) = files.report(&BY_ID);
    assert_eq!(code, 0);
    assert_eq!(report["rows"]["matched"], 5);
    assert_eq!(report["rows"]["online_unmatched"], 1);
    assert_eq!(report["rows"]["offline_unmatched_keys"], 1);
    let amount = feature(&report, "amount");
    assert_eq!(outcomes(amount), [1, 0, 2, 1, 1, 0]);
    assert_eq!(amount["mismatch_rate"], 0.8);
    assert_eq!(amount["largest_absolute_difference"], 10.0);
    // The numbers as text of one producer are numbers.
    assert_eq!(outcomes(feature(&report, "clicks")), [5, 0, 0, 0, 0, 0]);
    assert_eq!(outcomes(feature(&report, "country")), [4, 0, 1, 0, 0, 0]);
    assert_eq!(report["features"][0]["feature"], "amount", "the worst comes first");
    assert_eq!(report["notes"], serde_json::json!(["`session` is not in the offline data: not compared"]));
    let example = &amount["examples"][0];
    assert_eq!((example["key"].as_str(), example["online"].as_str()), (Some("id c"), Some("30")));
}

#[test]
fn a_tolerance_is_of_all_features_or_of_one() {
    let files = Files::new();
    shop(&files);
    let amount = |more: &[&str]| outcomes(feature(&files.report(&[&BY_ID, more].concat()).1, "amount"));
    assert_eq!(amount(&["--tolerance", "0.01"]), [1, 1, 1, 1, 1, 0]);
    assert_eq!(amount(&["--tolerance", "0.01", "--tolerance", "amount=0"]), [1, 0, 2, 1, 1, 0]);
    assert_eq!(amount(&["--absolute-tolerance", "amount=10"]), [1, 2, 0, 1, 1, 0]);
}

#[test]
fn the_exit_code_says_whether_a_feature_is_above_the_allowed_rate() {
    let files = Files::new();
    shop(&files);
    assert_eq!(files.report(&[&BY_ID[..], &["--max-rate", "80%"]].concat()).0, 0);
    let (code, report) = files.report(&[&BY_ID[..], &["--max-rate", "0.79"]].concat());
    assert_eq!(code, 1);
    assert_eq!(feature(&report, "amount")["above_max_rate"], true);
    assert_eq!(feature(&report, "country")["above_max_rate"], false);
}

#[test]
fn the_text_report_names_worst_features_first_with_examples() {
    let files = Files::new();
    shop(&files);
    let output = files.run(&[&BY_ID[..], &["--max-rate", "10%"]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    for line in [
        "matched  5 pairs, by `id`",
        "1 online row without a row on the offline side",
        "1 of 6 keys of the offline side not seen online",
        "amount           1          0          2          1          1          0         10  80.0% (37.6% to 96.4%)",
        "  missing online: 1 null",
        "  id c: online 30, offline 20",
        "  id a: online \"DE\", offline \"de\"",
        "2 of 3 features above the allowed rate of 10.0%",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
}

/// A log as Feast's feature server writes it: two files of a day each, statuses by number, times of values in seconds.
fn feast_log(files: &Files) {
    let write = |name: &str, rows: &[(i64, Option<f32>, i64, i32, i64)]| {
        let nothing: Vec<Option<&str>> = rows.iter().map(|_| Some("request")).collect();
        files.write_parquet(
            name,
            vec![
                ("driver_id", Arc::new(rows.iter().map(|row| Some(row.0)).collect::<Int64Array>())),
                ("stats__conv_rate", Arc::new(rows.iter().map(|row| row.1).collect::<Float32Array>())),
                (
                    "stats__conv_rate__timestamp",
                    Arc::new(TimestampSecondArray::from_iter_values(rows.iter().map(|row| row.2)).with_timezone_utc()),
                ),
                ("stats__conv_rate__status", Arc::new(rows.iter().map(|row| Some(row.3)).collect::<Int32Array>())),
                (
                    "__log_timestamp",
                    Arc::new(
                        TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.4 * 1_000_000))
                            .with_timezone_utc(),
                    ),
                ),
                ("__log_date", Arc::new(Date32Array::from_iter_values(rows.iter().map(|_| 20_513)))),
                ("__request_id", Arc::new(StringArray::from(nothing))),
            ],
        );
    };
    let one = MIDNIGHT + HOUR;
    write(
        "log/__log_date=2026-03-01/part-0.parquet",
        &[
            // The value of 01:00, read at 01:30, in 32 bits.
            (1001, Some(0.1), one, 1, one + HOUR / 2),
            // Read at 02:30, and still the value of 01:00: the online store lags behind.
            (1001, Some(0.1), one, 1, one + HOUR + HOUR / 2),
            (1002, None, 0, 3, one + HOUR / 2),
            // Too old, and yet written beside the status.
            (1003, Some(0.7), MIDNIGHT, 4, one + HOUR / 2),
        ],
    );
    write(
        "log/__log_date=2026-03-02/part-0.parquet",
        &[
            (1004, None, one, 2, one + HOUR / 2),
            // Before the first offline row, and after the last one is out of date.
            (1001, Some(0.1), MIDNIGHT - HOUR, 1, MIDNIGHT - HOUR),
            (1001, Some(0.2), one + HOUR, 1, one + 30 * HOUR),
            (1005, Some(0.5), one, 1, one),
        ],
    );
    files.write("log/_SUCCESS", "");
    let offline = [
        (1001, Some(0.1), MIDNIGHT + HOUR),
        (1001, Some(0.2), MIDNIGHT + 2 * HOUR),
        (1002, Some(0.3), MIDNIGHT),
        (1003, Some(0.7), MIDNIGHT),
        (1004, None, MIDNIGHT),
        (1006, Some(0.9), MIDNIGHT),
    ];
    files.write_parquet(
        "driver_stats.parquet",
        vec![
            (
                "event_timestamp",
                Arc::new(TimestampMicrosecondArray::from_iter_values(offline.map(|row| row.2 * 1_000_000))),
            ),
            ("driver_id", Arc::new(offline.iter().map(|row| Some(row.0)).collect::<Int64Array>())),
            ("conv_rate", Arc::new(offline.iter().map(|row| row.1).collect::<Float64Array>())),
        ],
    );
}

#[test]
fn a_log_of_feast_is_read_as_it_is_and_joined_at_the_point_in_time() {
    let files = Files::new();
    feast_log(&files);
    let (code, report) = files.report(&["--online", "log", "--offline", "driver_stats.parquet", "--max-age", "24h"]);
    assert_eq!(code, 0);
    assert_eq!(report["online"]["rows"], 8);
    let by = &report["matched_by"];
    assert_eq!(by["keys"], serde_json::json!(["driver_id"]));
    assert_eq!(
        (by["timestamp"].as_str(), by["offline_timestamp"].as_str()),
        (Some("__log_timestamp"), Some("event_timestamp"))
    );
    let rows = &report["rows"];
    let count = |name: &str| rows[name].as_u64().unwrap();
    let counts = ["matched", "online_unmatched", "online_outside_max_age", "offline_unmatched_keys"].map(count);
    assert_eq!(counts, [5, 2, 1, 1], "{rows}");
    let rate = feature(&report, "stats__conv_rate");
    assert_eq!(rate["offline_column"], "conv_rate");
    // 0.1 in 32 bits is within tolerance of 0.1; 0.1 for 0.2 is not; two are missing online, one on both sides.
    assert_eq!(outcomes(rate), [0, 1, 1, 2, 0, 1]);
    assert_eq!(rate["missing_online_reasons"], serde_json::json!({"null": 1, "not_found": 1, "outside_max_age": 1}));
    assert_eq!(rate["older_online"], 1);
    assert_eq!(rate["mismatch_rate"], 0.6);
    let example = &rate["examples"][0];
    assert_eq!(
        (example["key"].as_str(), example["time_ms"].as_i64()),
        (Some("driver_id 1001"), Some((MIDNIGHT + 2 * HOUR + HOUR / 2) * 1_000))
    );
    let reasons: Vec<&str> =
        rate["examples"].as_array().unwrap().iter().map(|e| e["online"].as_str().unwrap()).collect();
    assert_eq!(reasons[1..], ["missing (not_found)", "missing (outside_max_age)"]);
}

#[test]
fn without_a_maximum_age_an_old_value_is_still_valid() {
    let files = Files::new();
    feast_log(&files);
    let (_, report) = files.report(&["--online", "log", "--offline", "driver_stats.parquet"]);
    assert_eq!(report["rows"]["online_outside_max_age"], 0);
    assert_eq!(report["rows"]["matched"], 6);
}

#[test]
fn entities_of_several_columns_are_matched_with_their_own_times() {
    let files = Files::new();
    files.write("online.csv", "user,shop,at,x\n1,a,2026-03-01T10:00:00Z,1\n1,b,2026-03-01T10:00:00Z,5\n1,b,2026-03-01T10:00:00Z,2\n,b,2026-03-01T10:00:00Z,2\n1,b,,2\n");
    files.write("offline.csv", "user,shop,at,written,x\n1,a,2026-03-01T09:00:00Z,7,9\n1,a,2026-03-01T10:00:00Z,9,1\n1,a,2026-03-01T10:00:00Z,8,3\n1,b,2026-03-01T10:00:00Z,8,2\n1,b,2026-03-01T10:00:01Z,9,4\n");
    let (_, report) = files.report(&[
        "--online",
        "online.csv",
        "--offline",
        "offline.csv",
        "--entity",
        "user,shop",
        "--timestamp",
        "at",
        "--created-timestamp",
        "written",
    ]);
    assert_eq!(outcomes(feature(&report, "x")), [2, 0, 0, 0, 0, 0]);
    let rows = &report["rows"];
    let count = |name: &str| rows[name].as_u64().unwrap();
    assert_eq!(
        ["matched", "online_duplicates", "online_without_key", "online_without_time", "offline_duplicates"].map(count),
        [2, 1, 1, 1, 1]
    );
}

#[test]
fn a_model_file_says_which_features_and_where() {
    let files = Files::new();
    files.write(
        "model.yaml",
        "version: 1\nmodel: shop\ntopics: [served]\nfields: {prediction_id: meta.id}\nfeatures: {amount: numeric, country: categorical, weight: numeric}\n",
    );
    files.write(
        "online.jsonl",
        "{\"meta\": {\"id\": 7}, \"features\": {\"amount\": 1.5, \"country\": \"de\", \"note\": \"x\"}}\n",
    );
    files.write("offline.csv", "id,amount,country,weight\n7,1.5,fr,3\n");
    let (_, report) = files.report(&["--online", "online.jsonl", "--offline", "offline.csv", "--model", "model.yaml"]);
    assert_eq!(outcomes(feature(&report, "amount")), [1, 0, 0, 0, 0, 0]);
    assert_eq!(outcomes(feature(&report, "country")), [0, 0, 1, 0, 0, 0]);
    assert_eq!(report["notes"], serde_json::json!(["`weight` is not in the online data: not compared"]));
}

#[test]
fn lists_of_numbers_are_compared_number_by_number() {
    let files = Files::new();
    files.write("online.jsonl", "{\"id\": 1, \"v\": [1.0, 2.0]}\n{\"id\": 2, \"v\": [1.0]}\n{\"id\": 3}\n");
    files.write(
        "offline.jsonl",
        "{\"id\": 1, \"v\": [1.0, 2.0]}\n{\"id\": 2, \"v\": [1.0, 2.0]}\n{\"id\": 3, \"v\": [0.5]}\n",
    );
    let (_, report) = files.report(&["--online", "online.jsonl", "--offline", "offline.jsonl", "--id", "id"]);
    assert_eq!(outcomes(feature(&report, "v")), [1, 0, 1, 1, 0, 0]);
}

#[test]
fn what_does_not_fit_is_said_with_its_remedy() {
    let files = Files::new();
    shop(&files);
    let both = ["--online", "online.jsonl", "--offline", "offline.csv"];
    let (code, message) = files.failure(&both);
    assert_eq!(code, 2);
    assert!(message.contains("how do rows belong together? Give --id COLUMN"), "{message}");
    let (code, message) = files.failure(&[&both[..], &["--id", "idd"]].concat());
    assert_eq!(code, 2);
    assert!(message.contains("no column `idd` (did you mean `id`?)"), "{message}");
    let (code, message) = files.failure(&[&both[..], &["--id", "id", "--tolerance", "amuont=1"]].concat());
    assert_eq!(code, 2);
    assert!(message.contains("no feature `amuont` (did you mean `amount`?)"), "{message}");
    let (code, message) = files.failure(&[&both[..], &["--id", "id", "--max-age", "2h"]].concat());
    assert_eq!(code, 2);
    assert!(message.contains("--max-age needs a time of both sides"), "{message}");
    let (code, message) = files.failure(&["--online", "none.csv", "--offline", "offline.csv", "--id", "id"]);
    assert_eq!(code, 4);
    assert!(message.contains("online: none.csv: no such file"), "{message}");
    files.write("strangers.csv", "id,amount\n9,1\n");
    let (code, message) = files.failure(&["--online", "strangers.csv", "--offline", "offline.csv", "--id", "id"]);
    assert_eq!(code, 4);
    assert!(message.contains("nothing compared (`id` begins with `9` online and `a` offline)"), "{message}");
}

#[test]
#[ignore = "needs a Kafka broker: DRIFTLINE_TEST_KAFKA"]
fn topics_of_a_real_broker_are_compared() {
    let files = Files::new();
    let log = support::kafka_log();
    let (served, offline) = (support::unique("skew-served"), support::unique("skew-offline"));
    for topic in [&served, &offline] {
        log.create_topics(&[TopicSpec { name: topic.clone(), partitions: 3, replication: 1, config: vec![] }]).unwrap();
    }
    // Each tenth value is served otherwise, and each hundredth event is broken.
    let record = |topic: &str, row: i64, text: String| OutRecord {
        topic: topic.into(),
        partition: Some((row % 3) as i32),
        value: Some(text.into_bytes()),
        ..OutRecord::default()
    };
    let value = |row: i64| if row % 10 == 3 { -row } else { row };
    let served_rows = (0..1_000).map(|row| match row % 100 {
        99 => record(&served, row, "{broken".into()),
        _ => record(&served, row, format!("{{\"id\": {row}, \"features\": {{\"x\": {}}}}}", value(row))),
    });
    log.append(served_rows.collect()).unwrap();
    let offline_rows = (0..1_000).rev().map(|row| record(&offline, row, format!("{{\"id\": {row}, \"x\": {row}}}")));
    log.append(offline_rows.collect()).unwrap();
    files.write(
        "driftline.yaml",
        &format!("app: test\nrules: []\nkafka: {{bootstrap_servers: '{}'}}\n", support::broker()),
    );
    let model = format!(
        "version: 1\nmodel: shop\ntopics: [{served}]\nfields: {{prediction_id: id}}\nfeatures: {{x: numeric}}\n"
    );
    files.write("models/shop.yaml", &model);
    let (online, offline) = (format!("kafka:{served}"), format!("kafka:{offline}"));
    let both = ["--online", online.as_str(), "--offline", offline.as_str(), "--model", "models/shop.yaml"];
    let (code, report) = files.report(&[&both[..], &["--max-rate", "5%"]].concat());
    assert_eq!(code, 1);
    assert_eq!(outcomes(feature(&report, "x")), [890, 0, 100, 0, 0, 0]);
    assert_eq!(report["rows"]["offline_unmatched_keys"], 10);
    assert_eq!(report["notes"], serde_json::json!([format!("`{served}`: 10 of 1000 records are no JSON object")]));
    let (code, message) = files.failure(&[&both[..], &["--until", "2026-01-01"]].concat());
    assert_eq!(code, 4);
    assert!(message.contains("holds no JSON object in this stretch; 1000 records were read"), "{message}");
    let (code, message) = files.failure(&["--online", "kafka:nowhere", "--offline", &offline, "--id", "id"]);
    assert_eq!(code, 2, "{message}");
}
