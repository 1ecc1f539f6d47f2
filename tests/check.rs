//! `driftline check` finds every mistake at once, at its place, with the fix.
//!
//! A fixture `X.good.yaml` has no findings; `X.bad.yaml` has those of `X.bad.expected`. To accept new output:
//! `UPDATE_GOLDEN=1 cargo test --test check`, and read the difference.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use driftline::cli::check::{CheckArgs, CheckFormat, check};
use driftline::cli::schema::SchemaOf;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn args(config: Option<PathBuf>, files: Vec<PathBuf>) -> CheckArgs {
    CheckArgs { config, files, format: CheckFormat::Text, deny_warnings: false }
}

/// Output and exit code, with the project's directory taken out of paths.
fn checked(args: &CheckArgs) -> (String, u8) {
    let mut out = Vec::new();
    let code = check(args, &BTreeMap::new(), false, &mut out);
    let text = String::from_utf8(out).unwrap();
    (text.replace(&format!("{}/", root().display()), ""), code)
}

fn assert_golden(path: &Path, found: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, found).unwrap();
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == expected, "{}\n--- found\n{found}\n--- expected\n{expected}", path.display());
}

fn fixtures(folder: &str, ending: &str) -> Vec<PathBuf> {
    let folder = root().join("tests/fixtures/config").join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(ending));
    files.sort();
    assert!(!files.is_empty(), "no fixtures in {}", folder.display());
    files
}

/// The file under test, and the model that rules are about: one whose predictions are judged for rules on performance.
fn files_of(fixture: &Path) -> Vec<PathBuf> {
    let on_performance = fixture.file_name().unwrap().to_string_lossy().starts_with("performance");
    let model = if on_performance { "judged.model.yaml" } else { "fraud.model.yaml" };
    let folder = fixture.parent().unwrap();
    let beside = |name: &str| root().join("tests/fixtures/config").join(name);
    if folder.ends_with("rules") {
        vec![beside(model), fixture.to_path_buf()]
    } else if folder.ends_with("rule-tests") {
        vec![beside("fraud.model.yaml"), beside("tested.rules.yaml"), fixture.to_path_buf()]
    } else {
        vec![fixture.to_path_buf()]
    }
}

#[test]
fn every_mistake_is_reported_at_its_place_with_its_fix() {
    for folder in ["rules", "model", "rule-tests", "service"] {
        for fixture in fixtures(folder, ".bad.yaml") {
            let (found, code) = checked(&args(None, files_of(&fixture)));
            assert_eq!(code, 1, "{}: {found}", fixture.display());
            assert_golden(&fixture.with_extension("expected"), &found);
        }
    }
}

#[test]
fn a_right_file_has_no_findings() {
    for folder in ["rules", "model", "rule-tests", "service"] {
        for fixture in fixtures(folder, ".good.yaml") {
            let (found, code) = checked(&args(None, files_of(&fixture)));
            assert_eq!(code, 0, "{}: {found}", fixture.display());
        }
    }
}

#[test]
fn the_examples_pass() {
    let (found, code) = checked(&args(Some(root().join("examples/quickstart/driftline.yaml")), Vec::new()));
    assert_eq!((found.trim(), code), ("1 model, 6 rules: no errors, no warnings", 0));
    let starter = vec![root().join("examples/quickstart/models/fraud.yaml"), root().join("rules/starter.yaml")];
    let (found, code) = checked(&args(None, starter));
    assert_eq!((found.trim(), code), ("2 files: no errors, no warnings", 0));
    let receivers = vec![root().join("examples/quickstart/models/fraud.yaml"), root().join("examples/receivers.yaml")];
    let (found, code) = checked(&args(None, receivers));
    assert_eq!((found.trim(), code), ("2 files: no errors, no warnings", 0));
    let on_performance =
        vec![root().join("tests/fixtures/config/judged.model.yaml"), root().join("rules/performance.yaml")];
    let (found, code) = checked(&args(None, on_performance));
    assert_eq!((found.trim(), code), ("2 files: no errors, no warnings", 0));
}

#[test]
fn exit_codes_tell_warnings_errors_and_unreadable_files_apart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.yaml");
    std::fs::write(&file, "version: 1\nreceivers: {hook: {webhook: {url: 'https://ops.example.com'}}}\n").unwrap();
    let warned = args(None, vec![file]);
    assert_eq!(checked(&warned).1, 0, "{}", checked(&warned).0);
    assert_eq!(checked(&CheckArgs { deny_warnings: true, ..warned }).1, 3);
    assert_eq!(checked(&args(None, vec![folder.path().join("nothing.yaml")])).1, 4);
    assert_eq!(checked(&args(Some(folder.path().join("nothing.yaml")), Vec::new())).1, 4);
}

#[test]
fn json_has_what_text_has() {
    let fixture = root().join("tests/fixtures/config/rules/secret.bad.yaml");
    let mut out = Vec::new();
    let args = CheckArgs { format: CheckFormat::Json, ..args(None, files_of(&fixture)) };
    assert_eq!(check(&args, &BTreeMap::new(), false, &mut out), 1);
    let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
    let first = &json["diagnostics"][0];
    assert_eq!(json["errors"], 2, "{json:#}");
    assert_eq!((&first["line"], &first["column"], &first["code"]), (&5.into(), &60.into(), &"literal-secret".into()));
}

#[test]
fn a_secret_in_a_file_is_not_repeated() {
    let fixture = root().join("tests/fixtures/config/rules/secret.bad.yaml");
    let (found, _) = checked(&args(None, files_of(&fixture)));
    assert!(found.contains("literal-secret") && !found.contains("whsec_c2VjcmV0"), "{found}");
}

#[test]
fn a_service_is_checked_across_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let model = std::fs::read_to_string(root().join("tests/fixtures/config/fraud.model.yaml")).unwrap();
    write("driftline.yaml", "models: [models/*.yaml, extra/*.yaml]\nrules: [rules/*.yaml, rules/gone.yaml]\n");
    write("models/a.yaml", &model);
    write("models/b.yaml", &model);
    let labelled = "version: 1\nmodel: late\ntopics: [late]\nfields: {prediction_id: id}\nfeatures: {a: numeric}\n\
        score: {path: s, type: numeric}\nperformance: {task: binary, labels: {topics: [labels, loans]}}\n";
    write("models/c.yaml", labelled);
    write("models/d.yaml", "version: 1\nmodel: loans\ntopics: [loans]\nfeatures: {a: numeric}\n");
    write("rules/one.yaml", "version: 1\nrules:\n  - {name: a, model: fraud, when: {warn: psi > 0.1}}\n");
    write("rules/one.test.yaml", "this is not a rules file");
    write(
        "rules/two.yaml",
        "version: 1\nrules:\n  - {name: a, model: fraud, when: {warn: psi > 0.1}}\nroutes: [{to: [oncall]}]\nreceivers: {oncall: {email: {to: [ml@example.com]}}}\n",
    );
    let (found, code) = checked(&args(Some(folder.path().join("driftline.yaml")), Vec::new()));
    let found = found.replace(&format!("{}/", folder.path().display()), "");
    let headers: Vec<&str> = found.lines().filter(|line| line.contains("error[")).collect();
    let expected = [
        "driftline.yaml:1:25: error[no-file]: no file matches `extra/*.yaml`",
        "driftline.yaml:2:23: error[no-file]: no file matches `rules/gone.yaml`",
        "models/b.yaml:2:8: error[duplicate-model]: another model is named `fraud`",
        "models/c.yaml:7:55: error[contradiction]: `loans` has the predictions of `loans`, which takes every event of it",
        "rules/two.yaml:3:12: error[duplicate-rule]: another rule is named `a`",
        "rules/two.yaml:5:22: error[no-smtp]: no mail server is configured",
    ];
    assert_eq!((headers.as_slice(), code), (expected.as_slice(), 1), "{found}");
}

#[test]
fn published_schemas_are_those_of_the_types() {
    for of in SchemaOf::ALL {
        let path = root().join("schemas").join(of.file_name());
        assert_golden(&path, &format!("{:#}\n", of.schema()));
    }
}
