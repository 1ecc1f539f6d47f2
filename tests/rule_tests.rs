//! `driftline test`: the tests of the example rules pass, a test can fail and says why, and a file that is wrong is told so
//! at its place. To accept new output: `UPDATE_GOLDEN=1 cargo test --test rule_tests`, and read the difference.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use driftline::cli::test::{TestArgs, TestFormat, test};
use serde_json::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn args(paths: &[&Path]) -> TestArgs {
    let paths = paths.iter().map(|path| path.to_path_buf()).collect();
    TestArgs { paths, config: None, filter: None, format: TestFormat::Text }
}

/// Exit code and output, with what changes from run to run taken out of it.
fn ran(args: &TestArgs, stdin: &str) -> (u8, String) {
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    let code = test(args, &mut || Ok(stdin.to_string()), false, &mut out, &mut errors);
    out.extend(errors);
    let text = String::from_utf8(out).unwrap().replace(&format!("{}/", root().display()), "");
    (code, without_times(&text))
}

/// `(0.84 s)` as `(- s)`, `time="0.840"` as `time="-"`.
fn without_times(text: &str) -> String {
    let times = regex::Regex::new(r#"(\(|time=")[0-9]+\.[0-9]+( s\)|")"#).unwrap();
    times.replace_all(text, "$1-$2").into_owned()
}

fn assert_golden(name: &str, found: &str) {
    let path = root().join("tests/fixtures/rule-tests").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{}\n--- found\n{found}\n--- expected\n{expected}", path.display());
}

/// Files of tests below a folder that ship with the project.
fn shipped(folder: &str) -> Vec<PathBuf> {
    let files = driftline::rule_test::suite::files_below(&root().join(folder)).unwrap();
    assert!(!files.is_empty(), "no tests in {folder}");
    files
}

#[test]
fn the_tests_of_the_example_rules_pass() {
    let files: Vec<PathBuf> = shipped("rules").into_iter().chain(shipped("examples")).collect();
    std::thread::scope(|scope| {
        let runs: Vec<_> = files.iter().map(|file| scope.spawn(move || ran(&args(&[file]), ""))).collect();
        for run in runs {
            let (code, text) = run.join().unwrap();
            assert_eq!(code, 0, "{text}");
        }
    });
}

/// A rule that ships and that no test names could break without anybody hearing of it.
#[test]
fn every_example_rule_has_a_test_that_names_it() {
    let mut uncovered = Vec::new();
    for file in std::fs::read_dir(root().join("rules")).unwrap().map(|entry| entry.unwrap().path()) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        if !name.ends_with(".yaml") || name.ends_with(".test.yaml") {
            continue;
        }
        let rules = driftline::config::load_rules(&file).map_err(|found| found.text(false)).unwrap().value;
        let tests = file.with_file_name(name.replace(".yaml", ".test.yaml"));
        let tests = driftline::config::load::open_rule_tests(&tests, &name).into_result();
        let tests = tests.map_err(|found| found.text(false)).unwrap().value;
        let covered: Vec<&str> = tests.covered().collect();
        uncovered
            .extend(rules.rules.iter().map(|rule| rule.name.clone()).filter(|rule| !covered.contains(&rule.as_str())));
    }
    assert_eq!(uncovered, Vec::<String>::new());
}

#[test]
fn the_example_of_the_manual_needs_no_model_file() {
    let folder = tempfile::tempdir().unwrap();
    let rules = "version: 1\nrules:\n  - name: feature-drift\n    model: fraud@*\n    when: {warn: psi > 0.10, critical: psi > 0.25}\n    for: 2 windows\n";
    std::fs::write(folder.path().join("drift.yaml"), rules).unwrap();
    let tests = "\
tests:
  - name: a shifted amount pages within two windows
    given:
      model: fraud@3
      reference: {rows: 10000, amount: normal(100, 20)}
      windows:
        - {repeat: 3, rows: 1000, amount: normal(100, 20)}
        - {repeat: 4, rows: 1000, amount: normal(130, 20)}
    expect:
      - {at: window 3, none: true}
      - {at: window 6, rule: feature-drift, severity: critical, features: [amount]}
";
    let file = folder.path().join("drift.test.yaml");
    std::fs::write(&file, tests).unwrap();
    let (code, text) = ran(&args(&[folder.path()]), "");
    assert_eq!(code, 0, "{text}");
    assert!(text.ends_with("1 test: 1 passed, 0 failed (- s)\n"), "{text}");
    // From standard input the rules must be named.
    let (code, text) = ran(&args(&[Path::new("-")]), tests);
    assert!(code == 1 && text.contains("standard input has no rules file beside it"), "{code}: {text}");
    let named = format!("rules: ['{}']\n{tests}", folder.path().join("drift.yaml").display());
    assert_eq!(ran(&args(&[Path::new("-")]), &named).0, 0);
}

/// Proof that tests can fail, and of what people see then.
#[test]
fn a_test_that_fails_shows_both_sides_and_what_the_rules_said() {
    let file = root().join("tests/fixtures/rule-tests/failing.test.yaml");
    let (code, text) = ran(&args(&[&file]), "");
    assert_eq!(code, 1);
    assert_golden("failing.expected", &text);
    let junit = TestArgs { format: TestFormat::Junit, ..args(&[&file]) };
    assert_golden("failing.expected.xml", &ran(&junit, "").1);
    let json = TestArgs { format: TestFormat::Json, ..args(&[&file]) };
    let report: Value = serde_json::from_str(&ran(&json, "").1).unwrap();
    let tests = report["tests"].as_array().unwrap();
    assert_eq!((&report["passed"], tests.len()), (&1.into(), report["failed"].as_u64().unwrap() as usize + 1));
    for test in tests.iter().filter(|test| test["passed"] == false) {
        assert!(!test["failures"].as_array().unwrap().is_empty() || test["error"].is_string(), "{test:#}");
    }
}

#[test]
fn a_filter_picks_tests_and_nothing_to_run_is_no_success() {
    let file = root().join("tests/fixtures/rule-tests/failing.test.yaml");
    let filtered = |filter: &str| ran(&TestArgs { filter: Some(filter.into()), ..args(&[&file]) }, "");
    let (code, text) = filtered("that passes");
    assert!(code == 0 && text.contains("1 test: 1 passed"), "{text}");
    let (code, text) = filtered("no such test");
    assert!(code == 4 && text.contains("no test's name contains `no such test`"), "{text}");
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(ran(&args(&[empty.path()]), "").0, 4);
    let rules = "version: 1\nrules:\n  - {name: r, model: fraud, when: {warn: psi > 0.1}}\n";
    std::fs::write(empty.path().join("b.yaml"), rules).unwrap();
    let unread = "tests:\n  - name: t\n    given: {model: fraud, reference: {file: gone.csv}, windows: [{rows: 10}]}\n    expect: [{at: end, none: true}]\n";
    std::fs::write(empty.path().join("b.test.yaml"), unread).unwrap();
    let (code, text) = ran(&args(&[&empty.path().join("b.test.yaml")]), "");
    assert!(code == 4 && text.contains("could not run: the reference: ") && text.contains("gone.csv"), "{text}");
    let gone = empty.path().join("gone.test.yaml");
    let (code, text) = ran(&args(&[&gone]), "");
    assert!(code == 4 && text.contains("gone.test.yaml: error[unreadable]"), "{text}");
}

#[test]
fn wrong_files_are_told_at_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let given = "given: {model: fraud@3, windows: [{rows: 10}]}, expect: [{at: end, none: true}]";
    let tests = write("a.test.yaml", &format!("tests:\n  - {{name: t, {given}}}\n"));
    let (code, text) = ran(&args(&[&tests]), "");
    assert!(code == 1 && text.contains("a.test.yaml:1:1: error[no-file]: there is no file"), "{text}");
    assert!(text.contains("help: name the rules files under test: `rules: [../rules/starter.yaml]`"), "{text}");
    write("a.yaml", "version: 1\nrules:\n  - {name: r, model: fraud, when: {warn: 'psi >> 0.1'}}\n");
    let (code, text) = ran(&args(&[&tests]), "");
    assert!(code == 1 && text.contains("a.yaml:3:") && text.contains("error[expression]"), "{text}");
    write("a.yaml", "version: 1\nrules:\n  - {name: r, model: fraud, when: {warn: psi > 0.1}}\n");
    assert_eq!(ran(&args(&[&tests]), "").0, 0);
    let missing =
        write("b.test.yaml", &format!("rules: [c.yaml]\nmodels: [m.yaml]\ntests:\n  - {{name: t, {given}}}\n"));
    let (code, text) = ran(&args(&[&missing]), "");
    assert!(code == 1 && text.contains("b.test.yaml:1:9: error[no-file]"), "{text}");
    assert!(text.contains("b.test.yaml:2:10: error[no-file]"), "{text}");
}

/// The models of a service are those of the tests beside its rules, found from the tests upward.
#[test]
fn a_service_gives_its_models_to_the_tests_beside_its_rules() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    };
    let service = write("driftline.yaml", "models: [models/*.yaml]\nrules: [rules/*.yaml]\n");
    write(
        "models/fraud.yaml",
        "version: 1\nmodel: fraud\ntopics: [t]\nfields: {version: v}\nfeatures: {amount: numeric}\nreferences: {training: {path: x}}\n",
    );
    write("rules/drift.yaml", "version: 1\nrules:\n  - {name: r, model: fraud, when: {warn: psi > 0.1}}\n");
    let wrong = "tests:\n  - name: t\n    given:\n      model: frud@3\n      windows: [{rows: 10}]\n    expect: [{at: end, none: true}]\n";
    let tests = write("rules/drift.test.yaml", wrong);
    let (code, text) = ran(&args(&[&tests]), "");
    assert!(code == 1 && text.contains("drift.test.yaml:4:14: error[unknown-model]"), "{text}");
    assert!(text.contains("did you mean `fraud`?"), "{text}");
    write("rules/drift.test.yaml", &wrong.replace("frud", "fraud"));
    let named = TestArgs { config: Some(service), ..args(&[]) };
    let (code, text) = ran(&named, "");
    assert!(code == 0 && text.contains("1 test: 1 passed"), "{text}");
}

/// The same events whenever and wherever: output to the byte.
#[test]
fn a_test_says_the_same_however_often_it_runs() {
    let file = root().join("tests/fixtures/rule-tests/failing.test.yaml");
    let json = TestArgs { format: TestFormat::Json, ..args(&[&file]) };
    let once = || {
        let mut report: Value = serde_json::from_str(&ran(&json, "").1).unwrap();
        report["seconds"] = 0.into();
        report["tests"].as_array_mut().unwrap().iter_mut().for_each(|test| test["seconds"] = 0.into());
        report
    };
    assert_eq!(once(), once());
}
