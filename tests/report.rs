//! `driftline report`, run as a user runs it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_driftline"))
            .current_dir(self.directory.path())
            .arg("report")
            .args(arguments)
            .output()
            .unwrap()
    }

    /// Standard output of a run that must succeed.
    fn report(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), errors.as_str()), (Some(0), ""));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Exit code and message of a run that must fail.
    fn failure(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.run(arguments);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).trim_end().to_string())
    }
}

/// 400 reference rows and 900 current ones over three days, in CSV: on the second day `amount` doubles and a fifth of
/// `country` is new; on the third nothing drifts. `id` is different in every row.
fn shop(files: &Files) {
    let row = |i: usize, day: usize, drifted: bool| {
        // a permutation of 0..100, so that every window has the same values in another order
        let spread = (i * 37) % 100;
        let amount = if drifted { 200 + 2 * spread } else { 100 + spread };
        let country = if drifted && i.is_multiple_of(5) { "nl" } else { ["de", "fr"][i % 2] };
        let hour = (i % 24) as u64;
        format!("{day}-{i},2026-01-0{day}T{hour:02}:00:00Z,{amount},{country},{}\n", i.is_multiple_of(3))
    };
    let header = "id,at,amount,country,returned\n";
    let reference: String = (0..400).map(|i| row(i, 1, false)).collect();
    let current: String = (0..900).map(|i| row(i, 2 + i / 300, (300..600).contains(&i))).collect();
    files.write("reference.csv", &format!("{header}{reference}"));
    files.write("current.csv", &format!("{header}{current}"));
}

const SHOP: [&str; 4] = ["--reference", "reference.csv", "--current", "current.csv"];

fn with<'a>(base: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [base, more].concat()
}

fn value(lines: &str, window: u64, feature: &str, metric: &str) -> serde_json::Value {
    lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .find(|line| line["window"] == window && line["feature"] == feature && line["metric"] == metric)
        .unwrap_or_else(|| panic!("no line for window {window}, {feature}, {metric}"))["value"]
        .clone()
}

#[test]
fn text_names_what_drifted_and_by_how_much() {
    let files = Files::new();
    shop(&files);
    let text = files.report(&with(&SHOP, &["--windows", "time:1d", "--timestamp", "at", "--exclude", "id"]));
    insta::assert_snapshot!(text, @r"
    reference  reference.csv  400 rows
    current    current.csv  900 rows
    compared   3 features in 3 windows (time:1d)

    window 0  2026-01-02 00:00 to 2026-01-03 00:00 UTC  300 rows: no drift
    window 1  2026-01-03 00:00 to 2026-01-04 00:00 UTC  300 rows: 2 of 3 features drifted
      amount   PSI 8.283   KS 1.000      p < 1e-6   median 149.5 -> 299
      country  PSI 1.564   chi2 87.5     p < 1e-6   new `nl` 0.0% -> 20.0%
    window 2  2026-01-04 00:00 to 2026-01-05 00:00 UTC  300 rows: no drift

    1 of 3 windows drifted; windows by feature: amount (1), country (1)
    drift means PSI > 0.1 and adjusted p < 0.01 (Benjamini-Hochberg over the tests of a window)
    ");
}

#[test]
fn text_says_when_nothing_drifted_and_by_which_measure() {
    let files = Files::new();
    shop(&files);
    let text = files.report(&[
        "--reference",
        "reference.csv",
        "--current",
        "reference.csv",
        "--features",
        "amount,country",
        "--psi-above",
        "0.2",
    ]);
    insta::assert_snapshot!(text, @r"
    reference  reference.csv  400 rows
    current    reference.csv  400 rows
    compared   2 features in 1 window (all)

    window 0  all rows  400 rows: no drift

    nothing drifted in 1 window
    drift means PSI > 0.2 and adjusted p < 0.01 (Benjamini-Hochberg over the tests of a window)
    ");
}

#[test]
fn windows_too_small_to_judge_are_said_to_be() {
    let files = Files::new();
    shop(&files);
    let text = files.report(&with(&SHOP, &["--windows", "count:400", "--features", "amount"]));
    insta::assert_snapshot!(text, @r"
    reference  reference.csv  400 rows
    current    current.csv  900 rows
    compared   1 feature in 3 windows (count:400)

    window 0  rows 0 to 399  400 rows: 1 of 1 feature drifted
      amount  PSI 0.330   KS 0.250      p < 1e-6   median 149.5 -> 166
    window 1  rows 400 to 799  400 rows: 1 of 1 feature drifted
      amount  PSI 1.079   KS 0.500      p < 1e-6   median 149.5 -> 199.5
    window 2  rows 800 to 899  100 rows: too small to judge (under 200 rows on one side)

    2 of 3 windows drifted; 1 window too small to judge; windows by feature: amount (2)
    drift means PSI > 0.1 and adjusted p < 0.01 (Benjamini-Hochberg over the tests of a window)
    ");
}

#[test]
fn lines_hold_one_value_each_by_window_feature_and_metric() {
    let files = Files::new();
    shop(&files);
    let lines = files.report(&with(&SHOP, &["--windows", "count:300", "--format", "jsonl", "--exclude", "id,at"]));
    assert_eq!(value(&lines, 0, "amount", "n"), 300.0);
    assert_eq!(value(&lines, 0, "amount", "ks"), 0.0);
    assert_eq!(value(&lines, 1, "amount", "ks"), 1.0);
    // the reference holds 100 to 199, the window 200 to 398 in steps of two: by the means, 299 - 149.5
    let distance = value(&lines, 1, "amount", "wasserstein").as_f64().unwrap();
    assert!((distance - 149.5).abs() < 1e-9, "{distance} instead of 149.5");
    assert_eq!(value(&lines, 1, "country", "unseen_rate"), 0.2);
    assert_eq!(value(&lines, 2, "country", "psi"), 0.0);
    assert_eq!(value(&lines, 2, "returned", "cardinality"), 2.0);
}

/// What bins cannot know.
const NEEDS_ROWS: [&str; 8] = [
    "ks_location",
    "ks_p_exact",
    "ks_nannyml_binned",
    "psi_evidently",
    "kl_evidently",
    "js_evidently",
    "psi_frouros",
    "doane_bins",
];

#[test]
fn profiles_give_what_the_rows_give_or_say_how_far_off_they_can_be() {
    let files = Files::new();
    let mut rows = String::from("x,word\n");
    (0..6_000).for_each(|i| {
        rows.push_str(&format!("{},{}\n", (f64::from(i) * 0.61).sin().exp(), ["a", "b", "c"][i as usize % 3]))
    });
    files.write("reference.csv", &rows);
    let mut rows = String::from("x,word\n");
    (0..900).for_each(|i| {
        rows.push_str(&format!("{},{}\n", 0.1 + (f64::from(i) * 0.37).sin().exp(), ["a", "b", "d"][i as usize % 3]))
    });
    files.write("current.csv", &rows);
    let base = with(&SHOP, &["--windows", "count:450", "--format", "jsonl"]);
    let read = |lines: String| -> std::collections::BTreeMap<(u64, String, String), serde_json::Value> {
        let lines = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_string();
        lines
            .map(|line| ((line["window"].as_u64().unwrap(), text(&line["feature"]), text(&line["metric"])), line))
            .collect()
    };
    let (of_rows, of_profiles) = (read(files.report(&base)), read(files.report(&with(&base, &["--profile"]))));
    let mut bounded = std::collections::BTreeSet::new();
    for (key, line) in &of_profiles {
        let (value, exact) = (line["value"].as_f64(), of_rows[key]["value"].as_f64());
        let bound = line["bound"].as_f64().unwrap_or(0.0);
        let near = value
            .zip(exact)
            .map_or(value == exact, |(value, exact)| (value - exact).abs() <= bound + 1e-7 * exact.abs().max(1.0));
        assert!(near, "{key:?}: {value:?} with the bound {bound}, rows {exact:?}");
        if bound > 0.0 {
            bounded.insert(key.2.as_str());
        }
    }
    assert!(bounded.contains("ks") && bounded.contains("cvm") && !bounded.contains("psi_q10"), "{bounded:?}");
    let absent: Vec<_> = of_rows.keys().filter(|key| !of_profiles.contains_key(key)).collect();
    let unexpected: Vec<_> = absent.iter().filter(|key| !NEEDS_ROWS.contains(&key.2.as_str())).collect();
    assert!(unexpected.is_empty(), "not given: {unexpected:?}");
    let of_words = (0, "word".to_string(), "psi_evidently".to_string());
    assert!(of_profiles.contains_key(&of_words) && !absent.is_empty());
}

#[test]
fn the_same_rows_give_the_same_lines_from_every_format() {
    let files = Files::new();
    let mut csv = String::from("x,word,flag\n");
    let mut json = String::new();
    for i in 0..50 {
        let x = f64::from(i) / 10.0;
        let word = ["a", "b", "c"][i as usize % 3];
        csv.push_str(&format!("{x},{word},{}\n", i % 2 == 0));
        json.push_str(&format!("{{\"x\":{x},\"word\":\"{word}\",\"flag\":{}}}\n", i % 2 == 0));
    }
    files.write("rows.csv", &csv);
    files.write("rows.jsonl", &json);
    write_parquet(&files.directory.path().join("rows.parquet"), 50);
    let lines = |name: &str| {
        files.report(&["--reference", name, "--current", name, "--windows", "count:20", "--format", "jsonl"])
    };
    let expected = lines("rows.csv");
    assert!(expected.lines().count() > 300, "{} lines", expected.lines().count());
    assert_eq!(lines("rows.jsonl"), expected);
    assert_eq!(lines("rows.parquet"), expected);
}

fn write_parquet(path: &Path, rows: usize) {
    use datafusion::arrow::array::{BooleanArray, Float64Array, RecordBatch, StringArray};
    use std::sync::Arc;
    let batch = RecordBatch::try_from_iter([
        ("x", Arc::new(Float64Array::from_iter_values((0..rows).map(|i| i as f64 / 10.0))) as _),
        ("word", Arc::new(StringArray::from_iter_values((0..rows).map(|i| ["a", "b", "c"][i % 3]))) as _),
        ("flag", Arc::new(BooleanArray::from((0..rows).map(|i| i % 2 == 0).collect::<Vec<_>>())) as _),
    ])
    .unwrap();
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn windows_by_column_ascend_by_value_and_leave_rows_without_one_out() {
    let files = Files::new();
    files.write("r.csv", "x,month\n1,1\n2,1\n");
    files.write("c.csv", "x,month\n1,10\n2,9\n3,\n4,10\n");
    let document =
        files.report(&["--reference", "r.csv", "--current", "c.csv", "--windows", "column:month", "--format", "json"]);
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    let windows: Vec<(&str, u64)> = document["windows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|window| (window["key"].as_str().unwrap(), window["rows"].as_u64().unwrap()))
        .collect();
    assert_eq!(windows, [("9", 1), ("10", 2)]);
    assert_eq!(document["notes"][0], "1 rows without a value in `month` are in no window");
    assert!(document["windows"][0]["features"].get("month").is_none(), "the column that cuts is not compared");
}

#[test]
fn performance_columns_must_exist_and_stay_features() {
    let files = Files::new();
    files.write("r.csv", "x,y,p,s\n1,1,0,0.2\n2,0,1,0.9\n");
    let base = ["--reference", "r.csv", "--current", "r.csv", "--format", "jsonl", "--task", "binary", "--label", "y"];
    let lines = files.report(&with(&base, &["--prediction", "p", "--score", "s", "--positive", "1"]));
    assert_eq!(value(&lines, 0, "s", "n"), 2.0);
    assert_eq!(value(&lines, 0, "p", "ks"), 0.0);
    let (code, message) = files.failure(&with(&base, &["--prediction", "q"]));
    assert_eq!(
        (code, message.as_str()),
        (
            Some(2),
            "driftline report: current file r.csv: no column `q` (did you mean `p`?); the columns are: x, y, p, s"
        )
    );
    let (code, message) = files.failure(&with(&base, &["--score", "yes=s"]));
    assert_eq!((code, message.contains("write --score s")), (Some(2), true), "{message}");
}

#[test]
fn a_mistake_is_named_with_its_place_and_its_remedy() {
    let files = Files::new();
    shop(&files);
    files.write("infinite.csv", "amount\n1\n2\n-inf\n");
    files.write("words.csv", "amount,country\nlow,de\nhigh,fr\n");
    files.write("empty.csv", "amount\n");
    let reference = ["--reference", "reference.csv"];
    let expect = |more: &[&str], code: i32, parts: &[&str]| {
        let (found, message) = files.failure(&with(&reference, more));
        assert_eq!(found, Some(code), "{message}");
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
    };
    expect(&["--current", "gone.csv"], 4, &["gone.csv: no such file"]);
    expect(&["--current", "empty.csv"], 4, &["empty.csv: holds no rows"]);
    expect(
        &["--current", "infinite.csv", "--features", "amount"],
        4,
        &["current file infinite.csv: column `amount` is infinite in row 3"],
    );
    expect(
        &["--current", "words.csv"],
        2,
        &["column `amount` is numeric in the reference and text", "--exclude amount"],
    );
    expect(&["--current", "current.csv", "--features", "amonut"], 2, &["no column `amonut`", "did you mean `amount`?"]);
    expect(&["--current", "current.csv", "--windows", "weekly"], 2, &["write `all`, `count:5000`, `time:1h`"]);
    expect(&["--current", "current.csv", "--windows", "time:1h"], 2, &["needs --timestamp"]);
    expect(
        &["--current", "current.csv", "--windows", "time:1h", "--timestamp", "country"],
        4,
        &["column `country` holds `de` in row 1", "RFC 3339"],
    );
}

#[test]
fn drift_can_fail_a_pipeline() {
    let files = Files::new();
    shop(&files);
    let arguments = with(&SHOP, &["--windows", "count:300", "--features", "amount", "--fail-on-drift"]);
    assert_eq!(files.run(&arguments).status.code(), Some(1));
    let same =
        ["--reference", "reference.csv", "--current", "reference.csv", "--fail-on-drift", "--features", "amount"];
    assert_eq!(files.run(&same).status.code(), Some(0));
}

#[test]
fn no_colour_reaches_a_pipe() {
    let files = Files::new();
    shop(&files);
    let text = files.report(&with(&SHOP, &["--features", "amount", "--windows", "count:300"]));
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn an_identifier_is_left_out_and_said_so_unless_asked_for() {
    let files = Files::new();
    let rows: String = (0..1_500).map(|i| format!("user-{i},{}\n", i % 7)).collect();
    files.write("r.csv", &format!("user,x\n{rows}"));
    let same = ["--reference", "r.csv", "--current", "r.csv"];
    let text = files.report(&same);
    assert!(text.contains("compared   1 feature in"), "{text}");
    assert!(text.contains("note: `user` has 1500 categories in 1500 rows, it looks like an identifier"), "{text}");
    assert!(files.report(&with(&same, &["--features", "user,x"])).contains("compared   2 features in"));
}

/// 600 rows of a binary model: right until row 300, then wrong every third time; the last 100 labels are missing.
fn scored(files: &Files) {
    let row = |i: usize, drifted: bool| {
        let label = i.is_multiple_of(2);
        let wrong = if drifted { i.is_multiple_of(3) } else { i.is_multiple_of(10) };
        let prediction = label != wrong;
        let score = if prediction { 0.7 + 0.02 * (i % 10) as f64 } else { 0.1 + 0.02 * (i % 10) as f64 };
        (i, label, u8::from(prediction), score)
    };
    let line = |(i, label, prediction, score): (usize, bool, u8, f64), labelled: bool| {
        let label = if labelled { u8::from(label).to_string() } else { String::new() };
        format!("2026-01-01T{:02}:{:02}:00Z,{},{label},{prediction},{score:.2}\n", i / 60, i % 60, i % 7)
    };
    let header = "at,x,y,p,s\n";
    let reference: String = (0..400).map(|i| line(row(i, false), true)).collect();
    let current: String = (0..600).map(|i| line(row(i, i >= 300), i < 500)).collect();
    files.write("scored.csv", &format!("{header}{reference}"));
    files.write("live.csv", &format!("{header}{current}"));
}

const SCORED: [&str; 13] = [
    "--reference",
    "scored.csv",
    "--current",
    "live.csv",
    "--features",
    "x",
    "--task",
    "binary",
    "--label",
    "y",
    "--prediction",
    "p",
    "--score=s",
];

#[test]
fn performance_is_realised_where_labels_are_known_and_estimated_where_not() {
    let files = Files::new();
    scored(&files);
    let text = files.report(&with(&SCORED, &["--windows", "count:200"]));
    insta::assert_snapshot!(text, @r"
    reference  scored.csv  400 rows
    current    live.csv  600 rows
    compared   1 feature in 3 windows (count:200)

    window 0  rows 0 to 199  200 rows: no drift
      performance on 200 labels: accuracy 0.9 (reference 0.9), f1 0.8889 (reference 0.8889), roc_auc 0.8 (reference 0.8)
      estimated by its scores: accuracy 0.9, f1 0.8889, roc_auc 0.9
    window 1  rows 200 to 399  200 rows: no drift
      performance on 200 labels: accuracy 0.78 (reference 0.9), f1 0.7684 (reference 0.8889), roc_auc 0.7161 (reference 0.8)
      estimated by its scores: accuracy 0.9056, f1 0.9046, roc_auc 0.9143
    window 2  rows 400 to 599  200 rows: no drift
      performance on 100 labels: accuracy 0.67 (reference 0.9), f1 0.6667 (reference 0.8889), roc_auc 0.6272 (reference 0.8)
      estimated by its scores: accuracy 0.9103, f1 0.9167, roc_auc 0.9256

    nothing drifted in 3 windows
    drift means PSI > 0.1 and adjusted p < 0.01 (Benjamini-Hochberg over the tests of a window)
    ");
    let lines = files.report(&with(&SCORED, &["--windows", "count:200", "--format", "jsonl"]));
    // right but for every tenth row
    assert_eq!(value(&lines, 0, "_performance", "accuracy"), 0.9);
    assert_eq!(value(&lines, 2, "_performance", "n"), 100.0);
    assert_eq!(value(&lines, 0, "_performance", "tp"), 80.0);
    // estimates count every row, labelled or not
    let expected_rows: f64 = ["exp_tp", "exp_fp", "exp_fn", "exp_tn"]
        .iter()
        .map(|key| value(&lines, 2, "_performance", key).as_f64().unwrap())
        .sum();
    assert!((expected_rows - 200.0).abs() < 1e-9, "{expected_rows} rows");
}

#[test]
fn a_reference_without_labels_leaves_estimates_out_and_says_so() {
    let files = Files::new();
    scored(&files);
    files.write("unlabelled.csv", "x,p,s\n1,1,0.9\n2,0,0.1\n");
    let arguments = with(&["--reference", "unlabelled.csv"], &SCORED[2..]);
    let text = files.report(&arguments);
    assert!(text.contains("note: `y` is not in the reference: its performance and estimates are not given"), "{text}");
    assert!(!text.contains("estimated"), "{text}");
}

#[test]
fn detectors_say_at_which_row_and_time_a_signal_changed() {
    let files = Files::new();
    scored(&files);
    let detectors = ["--detectors", "adwin(clock=1),ddm", "--signal", "error", "--timestamp", "at"];
    let text = files.report(&[SCORED.as_slice(), &detectors, &["--windows", "count:200"]].concat());
    let told: Vec<&str> = text.lines().filter(|line| line.contains("error by") || line.contains("seen at")).collect();
    insta::assert_debug_snapshot!(told, @r#"
    [
        "error by adwin(clock=1): 1 change in 500 values",
        "  seen at row 447  2026-01-01T07:27:00Z  window 2",
        "error by ddm: 1 change in 500 values",
        "  seen at row 348  2026-01-01T05:48:00Z  window 1",
    ]
    "#);
    let lines =
        files.report(&[SCORED.as_slice(), &detectors, &["--format", "jsonl", "--windows", "count:200"]].concat());
    let change = lines.lines().find(|line| line.contains("change_point") && line.contains("ddm")).unwrap();
    insta::assert_snapshot!(change, @r#"{"window":1,"feature":"error","metric":"change_point","value":348,"detector":"ddm","event_time":"2026-01-01T05:48:00Z"}"#);
    let document = files.report(&[SCORED.as_slice(), &detectors, &["--format", "json"]].concat());
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["changes"][0]["signal"], "error");
    assert_eq!(document["changes"][0]["values"], 500);
}

#[test]
fn detectors_refuse_what_they_cannot_take() {
    let files = Files::new();
    scored(&files);
    let base = ["--reference", "scored.csv", "--current", "live.csv"];
    let expect = |more: &[&str], parts: &[&str]| {
        let (code, message) = files.failure(&with(&base, more));
        assert_eq!(code, Some(2), "{message}");
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
    };
    expect(
        &["--detectors", "ddm", "--signal", "s"],
        &["--detectors ddm: takes 0 or 1, and `s` holds 0.1 in row 1 (the first is 1)"],
    );
    expect(&["--detectors", "ddm", "--signal", "error"], &["for the model's errors give --task"]);
    expect(&["--detectors", "ddm", "--signal", "z"], &["no column `z`"]);
    expect(&["--detectors", "dmm", "--signal", "s"], &["`dmm` is not a change detector; there are adwin"]);
    expect(&["--detectors", "ddm"], &["--signal"]);
}

#[test]
fn features_together_are_compared_by_their_first_complete_rows() {
    let files = Files::new();
    // the same values in each column, but in the current file they go together
    let rows = |together: bool| -> String {
        let pair = |i: usize| (i % 20, if together { i % 20 } else { (i * 7 + i / 20) % 20 });
        (0..400).map(pair).map(|(x, y)| format!("{x},{y}\n")).collect()
    };
    files.write("r.csv", &format!("x,y\n{}", rows(false)));
    files.write("c.csv", &format!("x,y\n{}", rows(true)));
    let lines = files.report(&["--reference", "r.csv", "--current", "c.csv", "--mmd", "--format", "jsonl"]);
    assert_eq!(value(&lines, 0, "x", "ks"), 0.0);
    assert_eq!(value(&lines, 0, "y", "ks"), 0.0);
    let discrepancy = value(&lines, 0, "_joint", "mmd2_unbiased").as_f64().unwrap();
    assert!(discrepancy > 0.05, "{discrepancy}");
    let same = files.report(&["--reference", "r.csv", "--current", "r.csv", "--mmd"]);
    assert!(same.contains("all numeric features together: MMD^2 "), "{same}");
}
