//! References on the command line: built from files, listed, promoted, rolled back and compared; weak ones are named.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

const MODEL: &str =
    "version: 1\nmodel: fraud\ntopics: [predictions]\nfeatures: {amount: numeric, country: categorical}\n";

/// Output, messages and exit code.
fn driftline(dir: &Path, arguments: &[&str]) -> (String, String, i32) {
    let output = Command::new(env!("CARGO_BIN_EXE_driftline"))
        .current_dir(dir)
        .args(arguments)
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code().unwrap())
}

fn must(dir: &Path, arguments: &[&str]) -> String {
    let (out, messages, code) = driftline(dir, arguments);
    assert_eq!(code, 0, "driftline {arguments:?}: {out}{messages}");
    out
}

fn workspace() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("models")).unwrap();
    std::fs::write(dir.path().join("driftline.yaml"), "app: test\nrules: []\n").unwrap();
    std::fs::write(dir.path().join("models/fraud.yaml"), MODEL).unwrap();
    for (name, shift, countries) in [("march", 0, ["DE", "FR"]), ("april", 300, ["DE", "IT"])] {
        let mut csv = "amount,country\n".to_string();
        for row in 0..2_000 {
            csv.push_str(&format!("{},{}\n", row % 1_000 + shift, countries[row % 2]));
        }
        std::fs::write(dir.path().join(format!("{name}.csv")), csv).unwrap();
    }
    dir
}

fn build(dir: &Path, file: &str, more: &[&str]) -> String {
    let mut arguments = vec!["reference", "build", "--model", "fraud", "--from", file];
    arguments.extend(more);
    let out = must(dir, &arguments);
    out.split("id ").nth(1).unwrap().chars().take(16).collect()
}

fn in_force(dir: &Path) -> String {
    let listed: Value = serde_json::from_str(&must(dir, &["reference", "list", "--format", "json"])).unwrap();
    let current = listed.as_array().unwrap().iter().find(|listed| listed["in_force"] == true).unwrap();
    current["id"].as_str().unwrap().to_string()
}

#[test]
fn a_promotion_is_rolled_back_to_what_was_in_force_before() {
    let dir = workspace();
    let dir = dir.path();
    let march = build(dir, "march.csv", &["--for-version", "3"]);
    let april = build(dir, "april.csv", &["--no-promote"]);
    assert_ne!(march, april);
    assert_eq!(in_force(dir), march);
    must(dir, &["reference", "promote", "fraud", "training", &april]);
    assert_eq!(in_force(dir), april);
    let out = must(dir, &["reference", "rollback", "fraud"]);
    assert!(out.contains(&format!("{march} is in force instead of {april}")), "{out}");
    assert_eq!(in_force(dir), march);
    let (_, message, code) = driftline(dir, &["reference", "rollback", "fraud"]);
    assert!(code == 1 && message.contains("in force before the present one"), "{code} {message}");
    // The same file gives the same reference; building it again changes nothing.
    assert_eq!(build(dir, "march.csv", &["--for-version", "3"]), march);
    let listed = must(dir, &["reference", "list"]);
    assert!(listed.contains("2000 rows  march.csv  for version 3  in force"), "{listed}");
    let shown: Value =
        serde_json::from_str(&must(dir, &["reference", "show", "fraud", "training", "--format", "json"])).unwrap();
    assert_eq!(shown["source"]["version"], "3");
    let changes: Vec<(&str, bool)> = shown["promotions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| (change["id"].as_str().unwrap(), change["rolled_back"].as_bool().unwrap()))
        .collect();
    assert_eq!(changes, [(march.as_str(), true), (april.as_str(), false), (march.as_str(), false)]);
}

#[test]
fn a_diff_says_what_changed_between_two_references() {
    let dir = workspace();
    let dir = dir.path();
    let march = build(dir, "march.csv", &[]);
    build(dir, "april.csv", &[]);
    let diff: Value =
        serde_json::from_str(&must(dir, &["reference", "diff", "fraud", &march, "--format", "json"])).unwrap();
    let feature = |name: &str| {
        diff["features"].as_array().unwrap().iter().find(|feature| feature["name"] == name).unwrap().clone()
    };
    let ks = feature("amount")["ks"]["value"].as_f64().unwrap();
    assert!((ks - 0.3).abs() < 0.002, "moved by 300 of 1000: ks {ks}");
    assert_eq!(feature("country")["came"], serde_json::json!(["IT"]));
    assert_eq!(feature("country")["went"], serde_json::json!(["FR"]));
    let text = must(dir, &["reference", "diff", "fraud", &march]);
    for part in ["mean 499.5 -> 799.5", "came: IT; went: FR", "0% -> 0%"] {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
}

#[test]
fn weak_and_damaged_references_are_told_by_build_and_check() {
    let dir = workspace();
    let dir = dir.path();
    std::fs::write(dir.join("few.csv"), "amount,country\n1,DE\n2,DE\n3,FR\n").unwrap();
    let (_, messages, _) = driftline(dir, &["reference", "build", "--model", "fraud", "--from", "few.csv"]);
    assert!(messages.contains("`amount`: 3 values, about 0 in each of 10 bins"), "{messages}");
    let (out, _, code) = driftline(dir, &["check"]);
    assert!(code == 0 && out.contains("warning[weak-reference]: `amount`: 3 values"), "{code} {out}");
    let stored = dir.join("references/fraud/training").join(format!("{}.json", in_force(dir)));
    std::fs::write(&stored, std::fs::read_to_string(&stored).unwrap().replace("\"rows\":3", "\"rows\":4")).unwrap();
    let (out, _, code) = driftline(dir, &["check"]);
    assert!(code == 1 && out.contains("error[damaged-reference]") && out.contains("build it again"), "{code} {out}");
}

#[test]
fn a_stretch_needs_a_model_and_times() {
    let dir = workspace();
    let stretch = |more: &[&str]| {
        let mut arguments = vec!["reference", "build", "--model", "fraud", "--from-stream"];
        arguments.extend(more);
        driftline(dir.path(), &arguments)
    };
    assert_eq!(stretch(&["--since", "2026-01-01"]).2, 2);
    let (_, message, code) = stretch(&["--since", "yesterday", "--until", "2026-01-01"]);
    assert!(code == 2 && message.contains("`yesterday` is not a time; write RFC 3339"), "{code} {message}");
    let (_, message, code) = stretch(&["--since", "2026-01-02", "--until", "2026-01-01"]);
    assert!(code == 2 && message.contains("--since must be before --until"), "{code} {message}");
}
