//! Promise: `driftline backtest` tells the same of the same history in any form, says what to type where something does not
//! fit, and never loses more than the row that is bad.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const MODEL: &str = "
version: 1
model: fraud
topics: [predictions]
fields: {timestamp: at, version: version, prediction_id: id}
features: {amount: numeric, country: categorical}
score: {path: score, type: numeric}
segments: [country]
performance: {task: binary, label: {path: fraud, type: categorical}}
references: {training: {path: training.csv}}
windows: {size: 1h, watermark_delay: 0s}
";

const RULES: &str = "
version: 1
defaults: {window: 1h, min_samples: 50}
rules:
  - {name: drift, model: fraud@*, when: {warn: psi > 0.10, critical: psi > 0.25}, group_by: [model, feature]}
  - {name: worse, model: fraud@*, signal: performance, when: {warn: roc_auc < baseline - 0.1}}
routes: [{match: {severity: critical}, to: [pager]}, {to: [chat]}]
receivers:
  pager: {webhook: {url: 'https://pager.example.com'}}
  chat: {webhook: {url: 'https://chat.example.com'}}
";

/// 2026-01-01T00:00:00Z.
const START_MS: i64 = 1_767_225_600_000;
const HOUR_MS: i64 = 3_600_000;
const HOURS: i64 = 24;

struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / (1_u64 << 31) as f64
    }
}

#[derive(Clone)]
struct Row {
    at_ms: i64,
    amount: f64,
    country: &'static str,
    score: f64,
    fraud: u8,
}

/// Amounts are larger in hours 6 to 8 and in hour 15; scores say nothing from hour 18 on.
fn rows(seed: u64, calm: bool) -> Vec<Row> {
    let mut random = Random(seed);
    let row = |index: i64| {
        let at_ms = START_MS + index * HOUR_MS / 200;
        let hour = (at_ms - START_MS) / HOUR_MS;
        let moved = !calm && ((6..9).contains(&hour) || hour == 15);
        let score = random.next();
        let truth = if !calm && hour >= 18 { random.next() } else { score };
        Row {
            at_ms,
            amount: 100.0 * (random.next() + random.next()) + if moved { 80.0 } else { 0.0 },
            country: if random.next() < 0.5 { "DE" } else { "FR" },
            score,
            fraud: u8::from(truth > 0.7),
        }
    };
    (0..HOURS * 200).map(row).collect()
}

fn csv(rows: &[Row]) -> String {
    let mut text = "at,amount,country,score,fraud,version\n".to_string();
    for row in rows {
        text += &format!("{},{},{},{},{},3\n", row.at_ms, row.amount, row.country, row.score, row.fraud);
    }
    text
}

fn jsonl(rows: &[Row]) -> String {
    let event = |row: &Row| {
        serde_json::json!({
            "at": row.at_ms, "version": "3", "features": {"amount": row.amount, "country": row.country},
            "score": row.score, "fraud": row.fraud,
        })
        .to_string()
    };
    rows.iter().map(|row| event(row) + "\n").collect()
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.write("model.yaml", MODEL);
        place.write("rules.yaml", RULES);
        place.write("training.csv", &csv(&rows(1, true)));
        place.write("history.csv", &csv(&rows(2, false)));
        place
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_driftline"))
            .current_dir(self.path())
            .args(["backtest", "--model", "model.yaml", "--rules", "rules.yaml"])
            .args(arguments)
            .output()
            .unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[&["--format", "json"], arguments].concat());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {} {errors}", output.status);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Exit code, standard output and standard error.
    fn said(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = self.run(arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }
}

fn ids(document: &Value) -> Vec<String> {
    let episodes = document["episodes"].as_array().unwrap();
    let mut ids: Vec<String> = episodes
        .iter()
        .map(|episode| format!("{} {}", episode["rule"].as_str().unwrap(), episode["id"].as_str().unwrap()))
        .collect();
    ids.sort();
    ids
}

#[test]
fn the_same_history_tells_the_same_in_any_form_and_order() {
    let place = Place::new();
    let history = rows(2, false);
    let mut shuffled = history.clone();
    let mut random = Random(9);
    for index in (1..shuffled.len()).rev() {
        shuffled.swap(index, (random.next() * (index + 1) as f64) as usize);
    }
    place.write("shuffled.csv", &csv(&shuffled));
    place.write("history.jsonl", &jsonl(&history));
    place.write("shuffled.jsonl", &jsonl(&shuffled));
    let table = place.json(&["history.csv"]);
    let rules: Vec<String> = ids(&table).iter().map(|id| id.split(' ').next().unwrap().to_string()).collect();
    assert_eq!(rules, ["drift", "drift", "worse"], "{table:#}");
    assert_eq!(
        (table["history"][0]["in_order"].as_bool(), table["history"][0]["rows_used"].as_i64()),
        (Some(true), Some(4_800))
    );
    for (file, in_order) in [("shuffled.csv", false), ("history.jsonl", true), ("shuffled.jsonl", false)] {
        let other = place.json(&[file]);
        assert_eq!(ids(&other), ids(&table), "{file}");
        assert_eq!(other["history"][0]["in_order"].as_bool(), Some(in_order), "{file}");
    }
}

#[test]
fn rows_at_equal_distances_need_no_column_of_times() {
    let place = Place::new();
    let without: String =
        csv(&rows(2, false)).lines().map(|line| line.split_once(',').unwrap().1.to_string() + "\n").collect();
    place.write("untimed.csv", &without);
    let timed = place.json(&["history.csv"]);
    let untimed = place.json(&["--start", "2026-01-01", "--every", "18s", "untimed.csv"]);
    assert_eq!(ids(&untimed), ids(&timed));
    let (code, _, errors) = place.said(&["untimed.csv"]);
    assert_eq!(code, 2);
    assert!(errors.contains("no column `at`") && errors.contains("--start TIME --every SPAN"), "{errors}");
}

#[test]
fn a_bad_row_costs_itself_and_is_counted() {
    let place = Place::new();
    let whole = place.json(&["history.csv"]);
    let mut text = csv(&rows(2, false));
    text += "soon,1,DE,0.5,0,3\n";
    text += &format!("{},much,DE,0.5,0,3\n", START_MS + HOUR_MS);
    text += ",1,DE,0.5,0,3\n";
    text += &format!("{},inf,DE,0.5,0,3\n", START_MS + HOUR_MS);
    place.write("history.csv", &text);
    let damaged = place.json(&["history.csv"]);
    assert_eq!(ids(&damaged), ids(&whole));
    let counted = serde_json::json!({"bad_timestamp": 1, "wrong_type": 1, "missing_field": 1, "non_finite": 1});
    assert_eq!(damaged["rejected"], counted);
    place.write("events.jsonl", &(jsonl(&rows(2, false)) + "{\"at\": 1,\n[]\n"));
    let events = place.json(&["events.jsonl"]);
    assert_eq!(ids(&events), ids(&whole));
    assert_eq!(events["rejected"], serde_json::json!({"not_json": 1, "not_an_object": 1}));
}

#[test]
fn mistakes_say_what_to_type() {
    let place = Place::new();
    let history = csv(&rows(2, false));
    place.write("renamed.csv", &history.replacen("amount", "amout", 1));
    place.write("empty.csv", "at,amount,country,score,fraud,version\n");
    place.write("words.csv", "at,amount,country,score,fraud\n2026-01-01,much,DE,1,0\n");
    place.write("useless.csv", "at,amount,country,score,fraud\nsoon,1,DE,1,0\n");
    place.write("incidents.yaml", "incidents:\n  - {name: a, from: soon, until: 2026-01-01}\n");
    for (arguments, code, says) in [
        (vec!["renamed.csv"], 2, "did you mean `amout`?"),
        (vec!["renamed.csv"], 2, "--column amount=COLUMN"),
        (vec!["--column", "amont=x", "history.csv"], 2, "no signal `amont`"),
        (vec!["words.csv"], 2, "holds text such as `much`"),
        (vec!["empty.csv"], 4, "holds no rows"),
        (vec!["useless.csv"], 4, "1 bad_timestamp"),
        (vec!["nothing.parquet"], 4, "no such file"),
        (vec!["model.yaml"], 4, "name it .parquet, .csv or .jsonl"),
        (vec!["history.csv", "history.csv"], 2, "has two files"),
        (vec!["--suggest", "--max-alerts", "few", "history.csv"], 2, "write `3/week`"),
        (vec!["--labels", "incidents.yaml", "history.csv"], 1, "incidents.yaml:2:21"),
        (vec!["--labels-file", "history.csv", "history.csv"], 2, "a table holds its label as a column"),
        (vec!["--reference", "nothing.csv", "history.csv"], 4, "nothing.csv"),
        (vec!["--from-store", "history.csv"], 1, "no file matches `models/*.yaml`"),
    ] {
        let (found, _, errors) = place.said(&arguments);
        assert!(
            found == code && errors.contains(says),
            "{arguments:?}: exit {found}, wanted {code} and `{says}`:\n{errors}"
        );
    }
}

#[test]
fn the_examples_are_valid() {
    for example in ["taxi", "elec2"] {
        let output = Command::new(env!("CARGO_BIN_EXE_driftline"))
            .args(["check", "--deny-warnings", "--config", &format!("examples/{example}/driftline.yaml")])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{example}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn too_little_history_is_no_verdict() {
    let place = Place::new();
    place.write("short.csv", &csv(&rows(2, false)[..40]));
    let (code, out, errors) = place.said(&["short.csv"]);
    assert_eq!(code, 4);
    assert!(errors.contains("no rule could judge any window") && out.contains("insufficient_samples"), "{out}{errors}");
}

#[test]
fn another_set_of_rules_differs_in_what_it_differs() {
    let place = Place::new();
    place.write(
        "old.yaml",
        &RULES
            .replace("roc_auc < baseline - 0.1", "roc_auc < baseline - 0.9")
            .replace("critical: psi > 0.25", "critical: psi > 9"),
    );
    let document = place.json(&["--compare", "old.yaml", "history.csv"]);
    let comparison = &document["comparison"];
    assert_eq!(comparison["only_new"][0]["rule"], "worse");
    assert_eq!(comparison["only_old"], serde_json::json!([]));
    let changed = comparison["changed"].as_array().unwrap();
    assert!(!changed.is_empty(), "{comparison:#}");
    for change in changed {
        assert_eq!(
            (change["old"]["severity"].as_str(), change["new"]["severity"].as_str()),
            (Some("warn"), Some("critical"))
        );
        assert_eq!(change["differences"], serde_json::json!(["severity"]));
    }
    let same = place.json(&["--compare", "rules.yaml", "history.csv"]);
    assert_eq!(same["comparison"]["same"], 3, "{:#}", same["comparison"]);
}

#[test]
fn alerts_are_scored_against_what_really_happened() {
    let place = Place::new();
    place.write(
        "incidents.yaml",
        "incidents:\n\
         - {name: large amounts, from: 2026-01-01T06:00:00Z, until: 2026-01-01T09:00:00Z, rules: [drift]}\n\
         - {name: useless scores, from: 2026-01-01T18:00:00Z, until: 2026-01-02T00:00:00Z, rules: [worse]}\n\
         - {name: unseen, from: 2026-01-01T02:00:00Z, until: 2026-01-01T03:00:00Z}\n",
    );
    let document = place.json(&["--labels", "incidents.yaml", "history.csv"]);
    let score = &document["incidents"];
    let delays: Vec<Option<i64>> =
        score["incidents"].as_array().unwrap().iter().map(|one| one["delay_ms"].as_i64()).collect();
    assert_eq!(delays, [Some(HOUR_MS), Some(HOUR_MS), None], "a window is told at its end: {score:#}");
    // Hour 15 was no incident.
    assert_eq!((score["true_alerts"].as_u64(), score["false_alerts"].as_u64()), (Some(2), Some(1)));
}

#[test]
fn a_suggested_threshold_keeps_its_promise() {
    let place = Place::new();
    let document = place.json(&["--suggest", "--max-alerts", "1/day", "history.csv"]);
    let suggestions = document["suggestions"].as_array().unwrap();
    let drift = suggestions.iter().find(|one| one["rule"] == "drift" && one["severity"] == "warn").unwrap();
    assert_eq!(
        (drift["episodes_now"].as_u64(), drift["allowed"].as_u64()),
        (Some(2), Some(0)),
        "a day less a row: {drift:#}"
    );
    let document = place.json(&["--suggest", "--max-alerts", "2/day", "history.csv"]);
    let drift = document["suggestions"].as_array().unwrap().iter().find(|one| one["rule"] == "drift").unwrap().clone();
    assert_eq!(drift["allowed"].as_u64(), Some(1));
    let instead = drift["instead"].as_str().unwrap();
    place.write(
        "rules.yaml",
        &RULES.replace("{warn: psi > 0.10, critical: psi > 0.25}", &format!("{{warn: {instead}}}")),
    );
    let applied = place.json(&["history.csv"]);
    let episodes = ids(&applied).iter().filter(|id| id.starts_with("drift")).count() as u64;
    assert_eq!(Some(episodes), drift["episodes_then"].as_u64(), "with `{instead}`");
    assert!(episodes <= 1);
}

#[test]
fn the_page_stands_alone_and_escapes_what_it_shows() {
    let place = Place::new();
    place.write("rules.yaml", &RULES.replace("name: drift", "name: '<b>drift'"));
    let (code, _, errors) = place.said(&["--html", "report.html", "history.csv"]);
    assert_eq!(code, 0, "{errors}");
    let page = fs::read_to_string(place.path().join("report.html")).unwrap();
    for absent in ["<script", "<link", "src=", "url(", "@import", "<b>drift"] {
        assert!(!page.contains(absent), "the page has `{absent}`");
    }
    assert!(page.contains("default-src 'none'") && page.contains("&lt;b&gt;drift"));
    let strip = |class: &str| page.matches(&format!("<rect class=\"{class}\"")).count();
    assert!(strip("breached") >= 6 && strip("quiet") >= 20, "{} breached, {} quiet", strip("breached"), strip("quiet"));
}

#[test]
fn labels_that_come_apart_meet_their_predictions() {
    let place = Place::new();
    let apart = MODEL.replace(
        "performance: {task: binary, label: {path: fraud, type: categorical}}",
        "performance: {task: binary, labels: {topics: [verdicts], delay: 2h, fields: {prediction_id: about, label: fraud, timestamp: given}}}",
    );
    let history = rows(2, false);
    let in_event = place.json(&["history.csv"]);
    place.write(
        "model.yaml",
        &apart.replace("path: training.csv", "path: training.csv, columns: {performance.label: fraud}"),
    );
    let event = |(index, row): (usize, &Row)| {
        serde_json::json!({
            "at": row.at_ms, "id": format!("p{index}"), "version": "3", "score": row.score,
            "features": {"amount": row.amount, "country": row.country},
        })
        .to_string()
            + "\n"
    };
    let verdict = |(index, row): (usize, &Row)| {
        serde_json::json!({"about": format!("p{index}"), "fraud": row.fraud.to_string(), "given": row.at_ms + HOUR_MS})
            .to_string()
            + "\n"
    };
    place.write("events.jsonl", &history.iter().enumerate().map(event).collect::<String>());
    place.write("verdicts.jsonl", &history.iter().enumerate().map(verdict).collect::<String>());
    let joined = place.json(&["--labels-file", "verdicts.jsonl", "events.jsonl"]);
    assert_eq!(ids(&joined), ids(&in_event), "{joined:#}");
    let (_, out, _) = place.said(&["events.jsonl"]);
    assert!(out.contains("--labels-file") && !out.contains("worse warn"), "{out}");
}
