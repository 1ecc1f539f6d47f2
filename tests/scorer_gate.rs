//! `driftline gate` on files: a registry, rows with labels, a model file, and the exit codes and reports that pipelines
//! read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scorer_support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Parser;
use driftline::cli::gate::{GateArgs, gate};
use driftline::config::gate::parse_gate_str;
use driftline::scorer::engine::{Engine, EngineError, LoadedModel, Session, Signature, TensorSpec};
use driftline::scorer::registry::manifest::Lineage;
use driftline::scorer::registry::register::Registration;
use driftline::scorer::registry::signing::SigningKey;
use driftline::scorer::registry::{Change, ChangeRequest, GateOutcome, Registry, sha256_hex};
use driftline::scorer::tensor::{DataType, Tensor, TensorData};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use scorer_support::{FakeEngine, fp32};

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

/// The fake engine's models, and such with a habit, the word before theirs.
struct Odd;

#[derive(Clone, Copy, PartialEq)]
enum OddHabit {
    None,
    /// Takes 2 ms a batch.
    Slow,
    /// Scores a row that is alone otherwise than one among others.
    Uneven,
    /// Gives another output of floating point before the score.
    Twice,
}

struct OddModel {
    inner: Arc<dyn LoadedModel>,
    habit: OddHabit,
    signature: Signature,
}

struct OddSession {
    inner: Box<dyn Session>,
    habit: OddHabit,
}

impl Engine for Odd {
    fn name(&self) -> &'static str {
        "odd"
    }

    fn load(&self, model: &[u8]) -> Result<Arc<dyn LoadedModel>, EngineError> {
        let text = String::from_utf8_lossy(model).into_owned();
        let habits = [("slow ", OddHabit::Slow), ("uneven ", OddHabit::Uneven), ("twice ", OddHabit::Twice)];
        let found = habits.into_iter().find_map(|(word, habit)| Some((text.strip_prefix(word)?, habit)));
        let (rest, habit) = found.unwrap_or((&text, OddHabit::None));
        let inner = FakeEngine::default().load(rest.as_bytes())?;
        let mut signature = inner.signature().clone();
        if habit == OddHabit::Twice {
            let raw = TensorSpec { name: "raw".into(), datatype: DataType::Fp32, shape: vec![None, Some(1)] };
            signature.outputs = vec![raw, TensorSpec { name: "risk".into(), ..signature.outputs[0].clone() }];
        }
        Ok(Arc::new(OddModel { inner, habit, signature }))
    }
}

impl LoadedModel for OddModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn engine(&self) -> &'static str {
        "odd"
    }

    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(OddSession { inner: self.inner.session()?, habit: self.habit }))
    }
}

impl Session for OddSession {
    fn score(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        let outputs = self.inner.score(inputs)?;
        let TensorData::Fp32(values) = outputs[0].data() else { panic!("no FP32") };
        let with = |name: &str, map: &dyn Fn(f32) -> f32| {
            fp32(name, vec![values.len(), 1], values.iter().map(|value| map(*value)).collect())
        };
        Ok(match self.habit {
            OddHabit::Uneven if values.len() == 1 => vec![with("score", &|value| value + 0.001)],
            OddHabit::Twice => vec![with("raw", &|value| -value), with("risk", &|value| value)],
            OddHabit::Slow => {
                std::thread::sleep(std::time::Duration::from_millis(2));
                outputs
            }
            _ => outputs,
        })
    }
}

/// Of the audit: version, what it was compared with, outcome, digest of the report, reason.
type Verdict = (String, Option<String>, GateOutcome, Option<String>, String);

impl World {
    fn new(models: &[&str]) -> Self {
        Self::with(models, None, None)
    }

    /// Versions with this transform, signed with this key; the first is in production.
    fn with(models: &[&str], transform: Option<&str>, key: Option<&SigningKey>) -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap() };
        world.write("monitor.yaml", MONITOR);
        world.write("holdout.jsonl", &rows(3_000, 1, 0.0));
        world.write("reference.jsonl", &rows(3_000, 2, 0.0));
        std::fs::create_dir(world.path("registry")).unwrap();
        for model in models {
            world.register(model, transform, key);
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
        world.registry().change("credit", &request, 1).unwrap();
        world
    }

    fn registry(&self) -> Registry {
        Registry::open(&self.path("registry")).unwrap()
    }

    fn register(&self, model: &str, transform: Option<&str>, key: Option<&SigningKey>) {
        let mut files = BTreeMap::from([("model.onnx".to_string(), model.as_bytes().to_vec())]);
        files.extend(transform.map(|text| ("transform.yaml".to_string(), text.as_bytes().to_vec())));
        let lineage = Lineage { transform: transform.map(|text| sha256_hex(text.as_bytes())), ..Lineage::default() };
        let registration = Registration { model: "credit".into(), files, lineage, ..Registration::default() };
        self.registry().register(&registration, key, 0).unwrap();
    }

    fn verdicts(&self) -> Vec<Verdict> {
        let entries = self.registry().audit("credit").unwrap().into_iter();
        let verdict = |entry: driftline::scorer::registry::audit::AuditEntry| match entry.what {
            Change::Verdict { version, against, outcome, report_sha256 } => {
                Some((version, against, outcome, report_sha256, entry.reason))
            }
            _ => None,
        };
        entries.filter_map(verdict).collect()
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
        let code = gate(&args, &Odd, &mut out, &mut err);
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

/// Names of the checks of a report in JSON that have this outcome.
fn checks_that_are(outcome: &str, report: &str) -> Vec<String> {
    let report: serde_json::Value = serde_json::from_str(report).unwrap_or_else(|error| panic!("{error}: {report}"));
    let checks = report["checks"].as_array().unwrap().iter();
    checks.filter(|check| check["outcome"] == outcome).map(|check| check["name"].as_str().unwrap().into()).collect()
}

/// Every way to be bad that the gate knows of, each alone: the check that is about it fails, and no other.
#[test]
fn each_fault_fails_its_own_check_and_no_other() {
    let slow = format!("slow {SAME_ORDER}");
    let uneven = format!("uneven {SAME_ORDER}");
    let large = format!("{SAME_ORDER}{}", " ".repeat(100));
    let edited = |edit: &dyn Fn(usize, &str) -> String| -> String {
        let lines = rows(3_000, 1, 0.0);
        lines.lines().enumerate().map(|(at, line)| edit(at, line) + "\n").collect()
    };
    let as_it_is = rows(3_000, 1, 0.0);
    let renamed = as_it_is.replace("\"amount\"", "\"amuont\"");
    let missing =
        edited(&|at, line| if at % 5 == 0 { line.replace("\"years\": ", "\"yaers\": ") } else { line.into() });
    let far = edited(&|at, line| {
        if at % 5 == 0 { line.replace("\"years\": ", "\"years\": 7, \"was\": ") } else { line.into() }
    });
    let unseen = edited(&|at, line| if at % 5 == 0 { line.replace("FR", "XX") } else { line.into() });
    let drifted = rows(3_000, 4, 0.5);
    let any_drift = "data: {max_psi: 100}\n";
    for (candidate, data, gate, fault) in [
        (SAME_ORDER, &renamed, "", "schema"),
        (SAME_ORDER, &drifted, "data: {max_out_of_range: 100%}\n", "drift of amount"),
        (SAME_ORDER, &missing, any_drift, "missing values of years"),
        (SAME_ORDER, &far, any_drift, "values out of range of years"),
        (SAME_ORDER, &unseen, any_drift, "unseen categories of country"),
        ("linear 1 1 1 + 0", &as_it_is, "", "names and types"),
        (&uneven, &as_it_is, "", "parity of scores"),
        (
            BLIND,
            &as_it_is,
            "metrics: {roc_auc: {margin: 0.01}}\nslices: {min_rows: 9999}\n",
            "roc_auc against production",
        ),
        (SAME_ORDER, &as_it_is, "metrics: {roc_auc: {min: 0.95}}\n", "roc_auc"),
        (SAME_ORDER, &as_it_is, "metrics: {brier: {max: 0.05}}\n", "brier"),
        (BLIND, &as_it_is, "metrics: {roc_auc: {margin: 0.4}}\nslices: {margin: 0.02}\n", "roc_auc where country=FR"),
        (&slow, &as_it_is, "latency: {max_p99: 1ms}\n", "latency, 99th percentile"),
        (&slow, &as_it_is, "latency: {max_ratio: 1.5}\n", "latency, median"),
        (&large, &as_it_is, "size: {max_bytes: 50}\n", "size"),
        (&large, &as_it_is, "size: {max_ratio: 2}\n", "size against production"),
    ] {
        let world = World::new(&[GOOD, candidate]);
        let data = world.write("rows.jsonl", data).display().to_string();
        let gate = world.write("gate.yaml", &format!("version: 1\n{gate}")).display().to_string();
        let (code, out, err) = world.gate(&["--data", &data, "--gate", &gate, "--format", "json"]);
        assert_eq!(code, 1, "{fault}: {out}{err}");
        assert_eq!(checks_that_are("refused", &out), [fault], "{fault}: {out}");
        let (_, _, outcome, _, reason) = world.verdicts().remove(0);
        assert_eq!((outcome, reason), (GateOutcome::Refused, format!("refused: {fault}")));
    }
}

#[test]
fn a_verdict_stands_in_the_audit_with_the_digest_of_its_report_and_changes_nothing_that_serves() {
    let world = World::new(&[GOOD, SAME_ORDER, BLIND]);
    let before = world.registry().state("credit").unwrap();
    let report = world.path("gate.json").display().to_string();
    assert_eq!(world.gate(&["--report", &report, "--by", "ci"]).0, 0);
    assert_eq!(world.gate(&["--candidate", "3", "--against", "2"]).0, 1);
    assert_eq!(world.gate(&["--no-audit"]).0, 0);
    let digest = sha256_hex(&std::fs::read(&report).unwrap());
    let verdicts = world.verdicts();
    assert_eq!(verdicts.len(), 2, "{verdicts:?}");
    let (version, against, outcome, report, reason) = verdicts[0].clone();
    assert_eq!((version.as_str(), against.as_deref()), ("2", Some("1")));
    assert_eq!((outcome, report), (GateOutcome::Pass, Some(digest)));
    assert!(reason.starts_with("pass: ") && reason.ends_with(" checks"), "{reason}");
    assert_eq!(
        (verdicts[1].0.as_str(), verdicts[1].1.as_deref(), verdicts[1].2),
        ("3", Some("2"), GateOutcome::Refused)
    );
    assert_eq!(world.registry().state("credit").unwrap(), before, "whoever saw this generation may still change it");
    let entries = world.registry().audit("credit").unwrap();
    assert_eq!((entries[1].by.as_str(), entries[1].generation), ("ci", before.generation));
    // The next change goes on from there, and the audit has everything once.
    let request = ChangeRequest {
        change: Change::Promote { version: "2".into(), force: false },
        expected_generation: Some(before.generation),
        expected_production: None,
        by: "test".into(),
        reason: String::new(),
        request_id: None,
    };
    world.registry().change("credit", &request, 2).unwrap();
    let named: Vec<_> =
        world.registry().audit("credit").unwrap().iter().map(|entry| (entry.what.name(), entry.generation)).collect();
    assert_eq!(named, [("promote", 1), ("verdict", 1), ("verdict", 1), ("promote", 2)]);
    let scorer = std::process::Command::new(env!("CARGO_BIN_EXE_driftline-scorer"))
        .args(["audit", "credit", "--registry", &world.path("registry").display().to_string()])
        .output()
        .unwrap();
    let text = String::from_utf8(scorer.stdout).unwrap();
    assert!(text.contains("verdict      version 2 against version 1: pass by ci: pass: "), "{text}");
}

#[test]
fn a_verdict_cut_off_by_a_crash_is_none() {
    let world = World::new(&[GOOD, SAME_ORDER]);
    assert_eq!(world.gate(&[]).0, 0);
    let audit = world.path("registry/models/credit/audit.jsonl");
    let whole = std::fs::read(&audit).unwrap();
    let promoted = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for length in [promoted + 1, (promoted + whole.len()) / 2, whole.len() - 1] {
        std::fs::write(&audit, &whole[..length]).unwrap();
        assert_eq!(world.verdicts().len(), 0, "{length} of {} bytes", whole.len());
        assert_eq!(world.gate(&[]).0, 0);
        assert_eq!(world.verdicts().len(), 1, "{length} of {} bytes", whole.len());
    }
}

#[test]
fn only_versions_of_trusted_keys_are_judged_where_signatures_are_asked_for() {
    let (key, _) = SigningKey::generate().unwrap();
    let (stranger, _) = SigningKey::generate().unwrap();
    let world = World::with(&[GOOD, SAME_ORDER], None, Some(&key));
    world.register(&format!("{SAME_ORDER} "), None, None);
    world.register(&format!("{SAME_ORDER}  "), None, Some(&stranger));
    let trusted = key.public().base64();
    let asked = ["--require-signature", "--trusted-key", &trusted];
    assert_eq!(world.gate(&asked).0, 0);
    for (version, told) in [("3", "it is not signed"), ("4", "which is not trusted")] {
        let line = [&["--candidate", version][..], &asked].concat();
        let (code, _, err) = world.gate(&line);
        assert_eq!(code, 1, "{err}");
        assert!(err.contains(told), "{err}");
        let (judged, _, outcome, report, reason) = world.verdicts().pop().unwrap();
        assert_eq!((judged.as_str(), outcome, report), (version, GateOutcome::Refused, None));
        assert!(reason.contains(told), "{reason}");
        assert_eq!(world.gate(&["--candidate", version]).0, 0, "where none are asked for it is judged");
    }
    // As the scorer's settings have it.
    let settings = format!("version: 1\nsignatures: {{require: true, trusted_keys: [\"{trusted}\"]}}\n");
    let settings = world.write("scorer.yaml", &settings).display().to_string();
    assert_eq!(world.gate(&["--config", &settings]).0, 0);
    assert_eq!(world.gate(&["--config", &settings, "--candidate", "3"]).0, 1);
    // That production is not to be trusted says nothing of the candidate.
    let (code, _, err) = world.gate(&["--config", &settings, "--candidate", "2", "--against", "3"]);
    assert_eq!(code, 4, "{err}");
    assert_eq!(world.gate(&["--require-signature"]).0, 2);
}

const TRANSFORM: &str = "version: 1
output: features
inputs: {amount: number, years: number, country: text}
features:
  - {from: amount, steps: [{impute: 0}, {standard: {mean: 0.5, std: 2}}]}
  - {from: years, steps: [{impute: 0}]}
  - {from: country, steps: [{one_hot: {categories: [DE, FR]}}]}
";
/// Of the transform's columns; twice the weight for an amount that was halved.
const TRANSFORMED: &str = "linear 0.4 0.2 0 0 + 0.5";

#[test]
fn a_version_with_a_transform_is_judged_on_the_features_that_it_serves_with() {
    let world = World::with(&[TRANSFORMED, "linear 0.8 0.4 0.1 0 + 0.1"], Some(TRANSFORM), None);
    let (code, out, err) = world.gate(&["--format", "json"]);
    assert_eq!(code, 0, "{out}{err}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let features = &report["measurements"]["features"];
    assert_eq!(features["candidate"], serde_json::json!(["amount", "country", "years"]));
    assert_eq!(features["transform"], sha256_hex(TRANSFORM.as_bytes()));
    assert_eq!((features["feature_differences"].as_u64(), features["parity_rows"].as_u64()), (Some(0), Some(500)));
    assert!(checks_that_are("pass", &out).contains(&"parity of features".to_string()), "{out}");
    // What it says is what the same model says of features that somebody else computed.
    let plain = World::new(&[GOOD, SAME_ORDER]).gate(&["--format", "json"]).1;
    let plain: serde_json::Value = serde_json::from_str(&plain).unwrap();
    let of = |report: &serde_json::Value| report["measurements"]["metrics"]["roc_auc"]["against"].as_f64().unwrap();
    assert!((of(&report) - of(&plain)).abs() < 1e-3, "{} and {}", of(&report), of(&plain));
    for (transform, model, told) in [
        (
            TRANSFORM
                .replace("number, country", "text, country")
                .replace("{from: years, steps: [{impute: 0}]}", "{from: years, steps: [{cast: number}]}"),
            TRANSFORMED,
            "`years` is numeric in the model file, its transform takes text",
        ),
        (
            TRANSFORM.replace("years: number", "income: number").replace("from: years", "from: income"),
            TRANSFORMED,
            "its transform takes `income`, which is no feature of the model file",
        ),
        (TRANSFORM.to_string(), GOOD, "with 4 columns; the model takes `features` of FP32 with 2 columns"),
    ] {
        world.register(&format!("{model} "), Some(&transform), None);
        let (code, out, err) = world.gate(&["--candidate", "latest", "--format", "json"]);
        assert_eq!(code, 1, "{out}{err}");
        assert_eq!(checks_that_are("refused", &out), ["names and types"], "{out}");
        assert!(out.contains(told), "{told} is not in {out}");
    }
    let other = "version: 1\nmodels: {credit: {transform: {id: \"0000000000000000000000000000000000000000000000000000000000000000\"}}}\n";
    let settings = world.write("scorer.yaml", other).display().to_string();
    let (code, _, err) = world.gate(&["--config", &settings]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("must have the id 0000"), "{err}");
}

#[test]
fn the_output_that_the_settings_call_the_score_is_judged() {
    let world = World::new(&[GOOD, &format!("twice {SAME_ORDER}")]);
    let (code, out, _) = world.gate(&[]);
    assert_eq!(code, 1);
    assert!(out.contains("none of the outputs `raw`, `risk` is a score"), "{out}");
    let settings = |score: &str| {
        let text = format!("version: 1\nmodels: {{credit: {{events: {{score: \"{score}\"}}}}}}\n");
        world.write(&format!("{score}.yaml"), &text).display().to_string()
    };
    // The settings are those of all versions: both must have the output.
    world.register(&format!("twice {GOOD}"), None, None);
    let (code, out, err) = world.gate(&["--config", &settings("risk:0"), "--against", "3"]);
    assert_eq!(code, 0, "{out}{err}");
    let (code, out, err) = world.gate(&["--config", &settings("raw"), "--against", "3", "--format", "json"]);
    assert_eq!(code, 0, "{out}{err}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let auc = report["measurements"]["metrics"]["roc_auc"]["candidate"].as_f64().unwrap();
    assert!(auc < 0.3, "the other output says the opposite: {auc}");
    let (code, _, err) = world.gate(&["--config", &settings("nothing")]);
    assert_eq!(code, 1);
    assert!(err.contains("`events.score` names output `nothing`"), "{err}");
}

#[test]
fn a_first_version_passes_by_its_limits_alone() {
    let world = World::new(&[GOOD, SAME_ORDER]);
    for (gate, code, told) in [
        ("", 4, "undecided  limits"),
        ("metrics: {roc_auc: {min: 0.7}}\n", 0, "Judged by: roc_auc at least 0.7"),
        ("metrics: {roc_auc: {min: 0.95}}\n", 1, "REFUSED    roc_auc"),
        ("metrics: {roc_auc: {min: 0.7}}\nrequire: {comparison: true}\n", 1, "REFUSED    comparison"),
        ("require: {limits: false}\n", 0, "Judged by: no limit of a metric"),
    ] {
        let file = world.write("gate.yaml", &format!("version: 1\n{gate}")).display().to_string();
        let (found, out, err) = world.gate(&["--against", "none", "--gate", &file]);
        assert_eq!(found, code, "{gate}: {out}{err}");
        assert!(out.contains(told), "{told} is not in {out}");
        assert!(out.contains("nothing was compared with: no version was to be compared with"), "{out}");
    }
}

#[test]
fn the_gate_file_of_the_documents_and_of_the_example_are_valid() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/gate.md")).unwrap();
    let block = page.split("```yaml fragment\n").nth(1).unwrap().split("```").next().unwrap();
    parse_gate_str("docs/gate.md", block).into_result().unwrap();
    let example = std::fs::read_to_string(root.join("examples/closed-loop/gate.yaml")).unwrap();
    parse_gate_str("examples/closed-loop/gate.yaml", &example).into_result().unwrap();
}
