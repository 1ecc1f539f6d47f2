//! `driftline check` finds every mistake at once, at its place, with the fix.
//!
//! A fixture `X.good.yaml` has no findings; `X.bad.yaml` has those of `X.bad.expected`, and `X.warn.yaml` only warnings,
//! those of `X.warn.expected`. To accept new output:
//! `UPDATE_GOLDEN=1 cargo test --test check`, and read the difference.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use driftline::cli::check::{CheckArgs, CheckFormat, check};
use driftline::cli::schema::SchemaOf;
use driftline::config::codes::CODES;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn args(config: Option<PathBuf>, files: Vec<PathBuf>) -> CheckArgs {
    CheckArgs { config, files, ..CheckArgs::default() }
}

/// Output and exit code, with the project's directory taken out of paths.
fn checked(args: &CheckArgs) -> (String, u8) {
    let mut out = Vec::new();
    let code = check(args, &BTreeMap::new(), false, &mut out);
    let text = String::from_utf8(out).unwrap();
    (text.replace(&format!("{}/", root().display()), ""), code)
}

/// Of fixtures, by the kind of file.
const FOLDERS: [&str; 6] = ["rules", "model", "service", "rule-tests", "scorer", "gate"];

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
    let name = fixture.file_name().unwrap().to_string_lossy().into_owned();
    let model = match name.split(['-', '.']).next() {
        Some("performance") => "judged.model.yaml",
        Some("unversioned") => "unversioned.model.yaml",
        _ => "fraud.model.yaml",
    };
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
    for folder in FOLDERS {
        for fixture in fixtures(folder, ".bad.yaml") {
            let (found, code) = checked(&args(None, files_of(&fixture)));
            assert_eq!(code, 1, "{}: {found}", fixture.display());
            assert_golden(&fixture.with_extension("expected"), &found);
            assert_says_what_to_type(&fixture, &found);
        }
    }
}

#[test]
fn what_is_doubtful_is_a_warning() {
    for fixture in fixtures("rules", ".warn.yaml") {
        let (found, code) = checked(&args(None, files_of(&fixture)));
        assert_eq!(code, 0, "{}: {found}", fixture.display());
        assert!(found.contains("warning[") && !found.contains("error["), "{}: {found}", fixture.display());
        assert_golden(&fixture.with_extension("expected"), &found);
        assert_says_what_to_type(&fixture, &found);
    }
}

/// Each finding ends with its remedy.
fn assert_says_what_to_type(fixture: &Path, found: &str) {
    let headers = found.lines().filter(|line| line.contains(": error[") || line.contains(": warning[")).count();
    let helps = found.lines().filter(|line| line.starts_with("  help: ")).count();
    assert_eq!(helps, headers, "{}\n{found}", fixture.display());
}

#[test]
fn a_right_file_has_no_findings() {
    for folder in FOLDERS {
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
    // Windows of an hour: those of the quickstart are a minute, and chance has as many tries.
    let starter = vec![root().join("tests/fixtures/config/fraud.model.yaml"), root().join("rules/starter.yaml")];
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

/// Every key of the grammar in one file.
#[test]
fn the_grammar_by_example_has_no_errors() {
    let folder = root().join("tests/fixtures/config");
    let files = vec![folder.join("grammar.model.yaml"), folder.join("grammar.rules.yaml")];
    let (found, code) = checked(&args(None, files));
    assert_eq!(code, 0, "{found}");
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
fn a_file_that_is_none_of_ours_is_one_error() {
    let (found, code) = checked(&args(None, vec![root().join("tests/fixtures/config/unknown.yaml")]));
    assert_eq!(code, 1);
    assert!(found.contains("unknown.yaml:1:1: error[unknown-file]") && found.contains(": 1 error,"), "{found}");
}

#[test]
fn a_rename_that_would_lose_alerts_is_an_error_and_formerly_mends_it() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, rules: &str| {
        let path = folder.path().join(name);
        let routes = "routes: [{to: [hook]}]\nreceivers: {hook: {webhook: {url: 'https://ops.example.com'}}}\n";
        std::fs::write(&path, format!("version: 1\nrules:\n{rules}{routes}")).unwrap();
        path
    };
    let old = write(
        "old.yaml",
        "  - {name: drift, model: fraud, when: {warn: psi > 0.1}}\n  - {name: gone, model: fraud, when: {warn: ks > 0.3}}\n",
    );
    let renamed = "  - {name: amount-drift, model: fraud, when: {warn: psi > 0.1}}\n";
    let new = write("new.yaml", renamed);
    let model = root().join("tests/fixtures/config/fraud.model.yaml");
    let with_previous =
        |file: &Path| CheckArgs { previous: vec![old.clone()], ..args(None, vec![model.clone(), file.to_path_buf()]) };
    let (found, code) = checked(&with_previous(&new));
    assert_eq!(code, 1, "{found}");
    assert!(found.contains("new.yaml:3:12: error[rename]: `amount-drift` was `drift` before"), "{found}");
    assert!(found.contains("help: add `formerly: drift`"), "{found}");
    let mended = write("mended.yaml", &renamed.replace("model:", "formerly: drift, model:"));
    let (found, _) = checked(&with_previous(&mended));
    assert!(!found.contains("rename"), "{found}");
}

/// Every code that the source can report, found by reading it.
fn codes_in_source() -> std::collections::BTreeSet<String> {
    fn walk(folder: &Path, texts: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, texts);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                texts.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut texts = Vec::new();
    walk(&root().join("src"), &mut texts);
    let mut codes = std::collections::BTreeSet::new();
    for text in texts {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for call in ["Problem::error(", "Problem::warning("] {
            for rest in code.split(call).skip(1) {
                let literal = rest.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next());
                codes.extend(literal.filter(|code| !code.is_empty()).map(str::to_string));
            }
        }
    }
    codes
}

#[test]
fn every_code_is_listed_with_its_meaning_and_documented() {
    let listed: Vec<&str> = CODES.iter().map(|code| code.code).collect();
    let mut sorted = listed.clone();
    sorted.sort_unstable();
    assert_eq!(listed, sorted, "in the order of the alphabet");
    let mut found = codes_in_source();
    for folder in FOLDERS {
        for fixture in fixtures(folder, ".expected") {
            let text = std::fs::read_to_string(fixture).unwrap();
            let code = |line: &str| Some(line.split_once("[")?.1.split_once("]: ")?.0.to_string());
            let is_header = |line: &&str| line.contains(": error[") || line.contains(": warning[");
            found.extend(text.lines().filter(is_header).filter_map(code));
        }
    }
    let unlisted: Vec<String> = found.into_iter().filter(|code| !listed.contains(&code.as_str())).collect();
    assert_eq!(unlisted, Vec::<String>::new(), "add them to src/config/codes.rs");
    let page = std::fs::read_to_string(root().join("docs/check.md")).unwrap();
    for code in &CODES {
        let row = format!("| `{}` | {} | {} |", code.code, code.meaning, code.remedy);
        assert!(page.contains(&row), "docs/check.md lacks\n{row}");
    }
}

/// What the SARIF 2.1.0 schema demands of the parts that are used here, and what code hosts need beside it.
#[test]
fn sarif_is_what_code_hosts_read() {
    for name in ["rules/shape.bad.yaml", "rules/syntax-latin1.bad.yaml", "rules/secret.bad.yaml", "gone.yaml"] {
        let fixture = root().join("tests/fixtures/config").join(name);
        let mut out = Vec::new();
        let args = CheckArgs { format: CheckFormat::Sarif, ..args(None, vec![fixture]) };
        check(&args, &BTreeMap::new(), false, &mut out);
        let log: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(log["version"], "2.1.0");
        assert_eq!(log["runs"].as_array().unwrap().len(), 1);
        let run = &log["runs"][0];
        assert_eq!(run["tool"]["driver"]["name"], "driftline");
        assert_eq!(run["columnKind"], "unicodeCodePoints");
        assert!(run["invocations"][0]["executionSuccessful"].is_boolean());
        let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
        let results = run["results"].as_array().unwrap();
        assert!(!results.is_empty(), "{name}");
        for result in results {
            let index = result["ruleIndex"].as_u64().unwrap() as usize;
            assert_eq!(rules[index]["id"], result["ruleId"]);
            assert!(rules[index]["shortDescription"]["text"].is_string(), "{}", rules[index]);
            assert!(["error", "warning"].contains(&result["level"].as_str().unwrap()));
            let text = result["message"]["text"].as_str().unwrap();
            assert!(text.contains(" (help: ") && !text.contains("whsec_c2VjcmV0"), "{text}");
            let location = &result["locations"][0]["physicalLocation"];
            assert!(location["artifactLocation"]["uri"].as_str().unwrap().starts_with("file:///"));
            let Some(region) = location.get("region") else { continue };
            let at = |key: &str| region[key].as_u64().unwrap();
            assert!(at("startLine") >= 1 && at("startColumn") >= 1);
            assert!((at("endLine"), at("endColumn")) >= (at("startLine"), at("startColumn")), "{region}");
        }
    }
}

#[test]
fn a_text_comes_on_standard_input_too() {
    use std::io::Write;
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_driftline"))
        .args(["check", "--format", "json", "-"])
        .arg(root().join("tests/fixtures/config/fraud.model.yaml"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let rules = "version: 1\nrules:\n  - {name: a, model: froud, when: {warn: psi > 0.1}}\n";
    child.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{json:#}");
    let found: Vec<(&str, &str)> = json["diagnostics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (item["file"].as_str().unwrap(), item["code"].as_str().unwrap()))
        .collect();
    assert_eq!(found, [("stdin", "no-route"), ("stdin", "unknown-model")]);
}

/// What a schema can refuse it refuses in an editor as well; what it accepts is not an error of shape here.
#[test]
fn editors_see_what_check_sees_of_the_shape() {
    for (folder, of) in [
        ("rules", SchemaOf::Rules),
        ("model", SchemaOf::Model),
        ("service", SchemaOf::Service),
        ("scorer", SchemaOf::Scorer),
        ("gate", SchemaOf::Gate),
    ] {
        let validator = jsonschema::validator_for(&of.schema()).unwrap();
        let value = |path: &Path| {
            let text = std::fs::read_to_string(path).ok()?;
            driftline::config::yaml::parse(&text).ok().map(|(document, _)| document.value)
        };
        for fixture in fixtures(folder, ".good.yaml") {
            let errors: Vec<String> =
                validator.iter_errors(&value(&fixture).unwrap()).map(|error| error.to_string()).collect();
            assert_eq!(errors, Vec::<String>::new(), "{}", fixture.display());
        }
        let mut refused = 0;
        for fixture in fixtures(folder, "shape.bad.yaml") {
            let value = value(&fixture).unwrap();
            assert!(!validator.is_valid(&value), "{}", fixture.display());
            refused += 1;
        }
        assert!(refused >= 1, "no fixture of a wrong shape in {folder}");
    }
}

/// Editors show what each key is for: types and keys alike have a sentence.
#[test]
fn every_key_of_every_schema_is_described() {
    fn undescribed(schema: &serde_json::Value, node: &serde_json::Value, path: &str, found: &mut Vec<String>) {
        for (name, property) in node["properties"].as_object().into_iter().flatten() {
            let target =
                property["$ref"].as_str().and_then(|reference| schema.pointer(reference.trim_start_matches('#')));
            let own = property.get("description").or_else(|| target.and_then(|target| target.get("description")));
            if own.is_none() {
                found.push(format!("{path}.{name}"));
            }
        }
    }
    let mut found = Vec::new();
    for of in SchemaOf::ALL {
        let schema = of.schema();
        undescribed(&schema, &schema, of.file_name(), &mut found);
        for (name, definition) in schema["$defs"].as_object().into_iter().flatten() {
            undescribed(&schema, definition, name, &mut found);
        }
        assert!(!schema.to_string().contains("\"null\""), "{}: a key that is there has a value", of.file_name());
    }
    assert_eq!(found, Vec::<String>::new());
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
        "version: 1\nrules:\n  - {name: a, model: fraud, when: {warn: psi > 0.1}}\nroutes: [{to: [oncall, bus, own]}]\nreceivers:\n  oncall: {email: {to: [ml@example.com]}}\n  bus: {kafka: {topic: labels}}\n  own: {kafka: {topic: driftline.outbox}}\n",
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
        "rules/two.yaml:6:12: error[no-smtp]: no mail server is configured",
        "rules/two.yaml:7:24: error[source-topic]: model `late` reads `labels`: alerts would come in as its events",
        "rules/two.yaml:8:24: error[source-topic]: `driftline.outbox` is Driftline's own topic",
        "rules/one.test.yaml:1:1: error[wrong-type]: the file must be a mapping of keys, not the text `this is not a rules file`",
    ];
    assert_eq!((headers.as_slice(), code), (expected.as_slice(), 1), "{found}");
}

/// The service file's own mistakes do not hide those of the files that it names.
#[test]
fn a_wrong_service_file_does_not_hide_what_is_wrong_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("models")).unwrap();
    std::fs::write(folder.path().join("driftline.yaml"), "app: a b\nkafka: {partitons: 3}\nrules: []\n").unwrap();
    std::fs::write(folder.path().join("models/a.yaml"), "version: 1\nmodel: a\ntopics: []\nfeatures: {x: numric}\n")
        .unwrap();
    let (found, code) = checked(&args(Some(folder.path().join("driftline.yaml")), Vec::new()));
    let codes: Vec<&str> =
        found.lines().filter_map(|line| Some(line.split_once("error[")?.1.split_once(']')?.0)).collect();
    assert_eq!(
        (codes.as_slice(), code),
        (["bad-name", "unknown-key", "empty-list", "unknown-value"].as_slice(), 1),
        "{found}"
    );
}

#[test]
fn published_schemas_are_those_of_the_types() {
    for of in SchemaOf::ALL {
        let path = root().join("schemas").join(of.file_name());
        assert_golden(&path, &format!("{:#}\n", of.schema()));
    }
}
