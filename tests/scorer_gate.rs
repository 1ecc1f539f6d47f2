//! `driftline gate` on files: a registry, rows with labels, a model file, and the exit codes and reports that pipelines
//! read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scorer_support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Parser;
use driftline::cli::gate::{GateArgs, gate};
use driftline::config::gate::parse_gate_str;
use driftline::scorer::registry::register::Registration;
use driftline::scorer::registry::{Change, ChangeRequest, Registry};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use scorer_support::FakeEngine;

const MONITOR: &str = "version: 1
model: credit
topics: [predictions]
features: {amount: numeric, years: numeric, country: categorical}
score: {path: score, type: numeric}
segments: [country]
performance: {task: binary, label: {path: label, type: numeric}}
references: {training: {path: reference.jsonl}}
";

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: GateArgs,
}

struct World {
    dir: tempfile::TempDir,
}

/// `years` says nothing of the label in Germany, and as much as `amount` elsewhere.
fn rows(count: usize, seed: u64, shift: f64) -> String {
    let mut random = StdRng::seed_from_u64(seed);
    let mut text = String::new();
    for _ in 0..count {
        let amount: f64 = random.random_range(-1.0..1.0) + shift;
        let years: f64 = random.random_range(-1.0..1.0);
        let country = if random.random_bool(0.3) { "DE" } else { "FR" };
        let of_years = if country == "DE" { 0.0 } else { years };
        let risk = 1.0 / (1.0 + (-3.0 * (amount + of_years)).exp());
        let label = u8::from(random.random_bool(risk));
        writeln!(
            text,
            r#"{{"amount": {amount}, "years": {years}, "country": "{country}", "score": 0.5, "label": {label}}}"#
        )
        .unwrap();
    }
    text
}

impl World {
    fn new(models: &[&str]) -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap() };
        world.write("monitor.yaml", MONITOR);
        world.write("holdout.jsonl", &rows(3_000, 1, 0.0));
        world.write("reference.jsonl", &rows(3_000, 2, 0.0));
        std::fs::create_dir(world.path("registry")).unwrap();
        let registry = Registry::open(&world.path("registry")).unwrap();
        for model in models {
            let files = BTreeMap::from([("model.onnx".to_string(), model.as_bytes().to_vec())]);
            let registration = Registration { model: "credit".into(), files, ..Registration::default() };
            registry.register(&registration, None, 0).unwrap();
        }
        let promote = Change::Promote { version: "1".into(), force: false };
        let request = ChangeRequest {
            change: promote,
            expected_generation: None,
            expected_production: None,
            by: "test".into(),
            reason: String::new(),
            request_id: None,
        };
        registry.change("credit", &request, 1).unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Exit code, standard output, standard error.
    fn gate(&self, more: &[&str]) -> (u8, String, String) {
        let own = |name: &str| self.path(name).display().to_string();
        let (registry, monitor, data) = (own("registry"), own("monitor.yaml"), own("holdout.jsonl"));
        let mut line = vec!["gate", "--registry", &registry, "--monitor", &monitor];
        if !more.contains(&"--data") {
            line.extend(["--data", &data]);
        }
        if !more.contains(&"--candidate") {
            line.extend(["--candidate", "2"]);
        }
        let args = Line::try_parse_from(line.into_iter().chain(more.iter().copied())).unwrap().args;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = gate(&args, &FakeEngine::default(), &mut out, &mut err);
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }
}

/// Weights of amount and years.
const GOOD: &str = "linear 0.2 0.2 + 0.5";
const SAME_ORDER: &str = "linear 0.1 0.1 + 0.5";
const BLIND: &str = "linear 0.2 0 + 0.5";
const INVERTED: &str = "linear -0.2 -0.2 + 0.5";

#[test]
fn a_version_that_is_as_good_passes_and_the_reports_agree() {
    let world = World::new(&[GOOD, SAME_ORDER]);
    let files = ["gate.json", "gate.html", "gate.xml"].map(|name| world.path(name).display().to_string());
    let (code, out, err) = world.gate(&["--report", &files[0], "--report", &files[1], "--report", &files[2]]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.starts_with("credit: version 2 against version 1: pass\n3000 rows, 3000 with a label\n"), "{out}");
    let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&files[0]).unwrap()).unwrap();
    assert_eq!(json["outcome"], "pass");
    let checks = json["checks"].as_array().unwrap().len();
    let auc = &json["measurements"]["metrics"]["roc_auc"];
    assert_eq!(auc["candidate"], auc["against"], "the same order of scores is the same area");
    assert_eq!(auc["difference"]["standard_error"], 0.0);
    assert!(std::fs::read_to_string(&files[1]).unwrap().contains("<h1>credit: version 2 against version 1</h1>"));
    let xml = std::fs::read_to_string(&files[2]).unwrap();
    assert!(xml.contains(&format!("tests=\"{checks}\" failures=\"0\" errors=\"0\"")), "{xml}");
    assert_eq!(xml.matches("<testcase ").count(), checks);
}

#[test]
fn a_version_that_is_worse_is_refused_with_the_numbers() {
    let world = World::new(&[GOOD, BLIND]);
    let (code, out, _) = world.gate(&[]);
    assert_eq!(code, 1, "{out}");
    let line = out.lines().find(|line| line.contains("roc_auc against production")).unwrap();
    assert!(line.contains("REFUSED") && line.contains("at most 0.01 worse than version 1"), "{line}");
    let slice = |country: &str| {
        let wanted = format!("roc_auc where country={country}");
        out.lines().find(|line| line.contains(&wanted)).unwrap_or_else(|| panic!("no {wanted} in {out}"))
    };
    assert!(slice("FR").contains("REFUSED"), "{}", slice("FR"));
    assert!(slice("DE").contains("pass"), "without the years it does better there: {}", slice("DE"));
    let (code, out, _) = World::new(&[GOOD, INVERTED]).gate(&["--format", "junit"]);
    assert_eq!(code, 1);
    assert!(out.contains("<failure message="), "{out}");
}

#[test]
fn a_worse_version_that_the_gate_file_puts_up_with_passes() {
    let world = World::new(&[GOOD, BLIND]);
    let gate = world.write("gate.yaml", "version: 1\nmetrics: {roc_auc: {min: 0.6, margin: 30%}}\n");
    let (code, out, err) = world.gate(&["--gate", &gate.display().to_string()]);
    assert_eq!(code, 0, "{out}{err}");
}

#[test]
fn few_rows_and_what_cannot_be_read_are_undecided() {
    let world = World::new(&[GOOD, BLIND]);
    let few = world.write("few.jsonl", &rows(60, 3, 0.0)).display().to_string();
    let (code, out, _) = world.gate(&["--data", &few]);
    assert_eq!(code, 4, "{out}");
    assert!(out.contains("undecided  labelled rows"), "{out}");
    let broken = world.write("broken.jsonl", "{\"amount\": 1, \n").display().to_string();
    let (code, _, err) = world.gate(&["--data", &broken]);
    assert_eq!(code, 4, "{err}");
}

#[test]
fn rows_that_drifted_and_rows_that_do_not_fit_are_refused() {
    let world = World::new(&[GOOD, SAME_ORDER]);
    let drifted = world.write("drifted.jsonl", &rows(3_000, 4, 1.5)).display().to_string();
    let (code, out, _) = world.gate(&["--data", &drifted]);
    assert_eq!(code, 1);
    assert!(out.lines().any(|line| line.contains("REFUSED") && line.contains("drift of amount")), "{out}");
    let renamed = rows(600, 5, 0.0).replace("\"amount\"", "\"amuont\"");
    let renamed = world.write("renamed.jsonl", &renamed).display().to_string();
    let (code, out, _) = world.gate(&["--data", &renamed]);
    assert_eq!(code, 1);
    assert!(out.contains("did you mean `amuont`?"), "{out}");
}

#[test]
fn a_model_that_takes_other_features_is_refused() {
    let world = World::new(&[GOOD, "linear 1 1 1 + 0"]);
    let (code, out, _) = world.gate(&[]);
    assert_eq!(code, 1);
    assert!(out.contains("input `features` has 3 columns, the features are 2"), "{out}");
}

#[test]
fn a_truncated_version_is_refused_and_a_command_line_that_does_not_fit_is_usage() {
    let world = World::new(&[GOOD, SAME_ORDER]);
    for (more, wanted) in [
        (vec!["--candidate", "9"], "has no version 9"),
        (vec!["--candidate", "1"], "version 1 is production itself"),
        (vec!["--candidate", "canary"], "has no such version now"),
        (vec!["--model", "none"], "there is no model none"),
        (vec!["--report", "report.pdf"], "name a report .json, .html, .xml (JUnit) or .txt"),
        (vec!["--data", "nowhere.parquet"], "no such file"),
    ] {
        let (code, _, err) = world.gate(&more);
        assert_eq!(code, 2, "{more:?}: {err}");
        assert!(err.contains(wanted), "{more:?}: {err}");
    }
    let gate = world.write("gate.yaml", "version: 1\nmetrics: {roc_acu: {margin: 0.1}}\n");
    let (code, _, err) = world.gate(&["--gate", &gate.display().to_string()]);
    assert_eq!(code, 2);
    assert!(err.contains("did you mean `roc_auc`?"), "{err}");
    let model = world.path("registry/models/credit/versions/2/model.onnx");
    let mut permissions = std::fs::metadata(&model).unwrap().permissions();
    #[allow(clippy::permissions_set_readonly_false)]
    permissions.set_readonly(false);
    std::fs::set_permissions(&model, permissions).unwrap();
    std::fs::write(&model, "linear 0.1").unwrap();
    let (code, _, err) = world.gate(&[]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("cut off or changed"), "{err}");
}

#[test]
fn the_gate_file_of_the_documents_and_of_the_example_are_valid() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/gate.md")).unwrap();
    let block = page.split("```yaml fragment\n").nth(1).unwrap().split("```").next().unwrap();
    parse_gate_str("docs/gate.md", block).unwrap();
    let example = std::fs::read_to_string(root.join("examples/closed-loop/gate.yaml")).unwrap();
    parse_gate_str("examples/closed-loop/gate.yaml", &example).unwrap();
}
