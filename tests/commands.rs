//! What `init`, `config show`, `completions` and `man` write is right: by the binary itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use driftline::cli::config::{ShowArgs, show};
use driftline::config::layers::layered;

fn driftline(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_driftline"));
    command.args(args).current_dir(folder).env_remove("DRIFTLINE_CONFIG").env("NO_COLOR", "1");
    command.output().unwrap()
}

/// Standard output, where the exit code is the one that is expected.
fn output(folder: &Path, args: &[&str], code: i32) -> String {
    let output = driftline(folder, args);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{args:?}\n{out}\n{err}");
    format!("{out}{err}")
}

#[test]
fn what_init_writes_passes_check_and_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let written = output(folder.path(), &["init", "fresh"], 0);
    for name in ["driftline.yaml", "models/fraud.yaml", "rules/fraud.yaml", "rules/fraud.test.yaml"] {
        assert!(
            written.contains(&format!("fresh/{name}")) && folder.path().join("fresh").join(name).is_file(),
            "{written}"
        );
    }
    let checked = output(&folder.path().join("fresh"), &["check", "--deny-warnings"], 0);
    assert!(checked.contains("no errors, no warnings"), "{checked}");
    output(&folder.path().join("fresh"), &["test"], 0);
    std::fs::remove_file(folder.path().join("fresh/driftline.yaml")).unwrap();
    let before = std::fs::read_to_string(folder.path().join("fresh/models/fraud.yaml")).unwrap();
    let refused = output(folder.path(), &["init", "fresh", "--model", "fraud"], 1);
    assert!(refused.contains("fresh/models/fraud.yaml") && refused.contains("would be overwritten"), "{refused}");
    assert!(!folder.path().join("fresh/driftline.yaml").exists(), "all or nothing");
    assert_eq!(std::fs::read_to_string(folder.path().join("fresh/models/fraud.yaml")).unwrap(), before);
}

#[test]
fn init_learns_the_model_from_sample_events() {
    let folder = tempfile::tempdir().unwrap();
    let event = |index: usize| {
        format!(
            r#"{{"ts": {}, "request_id": "r{index}", "model": "churn", "model_version": "7", "inputs": {{"spend.eur": {}, "plan": "{}", "user": {{"age": {}}}, "note": "{index}-text"}}, "probability": {}}}"#,
            1_767_225_600_000_u64 + index as u64 * 1_000,
            index as f64 * 0.5,
            ["free", "paid"][index % 2],
            20 + index % 40,
            index as f64 / 200.0
        )
    };
    let mut sample: Vec<String> = (0..120).map(event).collect();
    sample.push("not json".into());
    std::fs::write(folder.path().join("events.jsonl"), sample.join("\n")).unwrap();
    let said = output(folder.path(), &["init", ".", "--from-sample", "events.jsonl", "--topic", "scores"], 0);
    assert!(
        said.contains("1 of 121 events are no JSON object") && said.contains("`inputs.note` is left out"),
        "{said}"
    );
    let model = std::fs::read_to_string(folder.path().join("models/churn.yaml")).unwrap();
    for line in [
        "topics: [scores]",
        "  timestamp: ts",
        "  model: model",
        "  version: model_version",
        "  prediction_id: request_id",
        "  features: inputs.*",
        "  plan: categorical",
        "  spend.eur: numeric",
        "  user_age: {type: numeric, path: inputs.user.age}",
        "score: {path: probability, type: numeric}",
        "segments: [plan]",
    ] {
        assert!(model.lines().any(|found| found == line), "no `{line}` in\n{model}");
    }
    let checked = output(folder.path(), &["check", "--deny-warnings"], 0);
    assert!(checked.contains("1 model"), "{checked}");
    output(folder.path(), &["test"], 0);
    // The events are those of the model: none of them is rejected.
    let loaded = driftline::config::load_model(&folder.path().join("models/churn.yaml")).unwrap();
    let decoder = driftline::event::Decoder::new(&[std::sync::Arc::new(loaded.value)]);
    assert!(decoder.is_ok(), "{:?}", decoder.err());
}

#[test]
fn init_says_what_is_wrong_with_a_sample() {
    let folder = tempfile::tempdir().unwrap();
    for (text, code, wanted) in [
        ("", 1, "no events"),
        ("[1]\n", 1, "none of 1 events is a JSON object"),
        ("{\"a\": 1}\n", 1, "no field holds the time"),
    ] {
        std::fs::write(folder.path().join("sample"), text).unwrap();
        let said = output(folder.path(), &["init", "x", "--from-sample", "sample"], code);
        assert!(said.contains(wanted), "{said}");
        assert!(!folder.path().join("x").exists());
    }
    assert!(output(folder.path(), &["init", "x", "--from-sample", "gone"], 4).contains("gone"));
    assert!(output(folder.path(), &["init", "x", "--model", "a b"], 2).contains("not a model name"));
}

fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

const SERVICE: &str = "app: night\nkafka:\n  partitions: 8\n  properties:\n    sasl.password: {env: KAFKA_PASSWORD}\n    \
    security.protocol: sasl_ssl\nsmtp: {url: 'smtps://mail.example.com', from: a@example.com, password: {file: /run/s}}\n";

fn shown(text: &str, variables: &BTreeMap<String, String>, origin: bool, json: bool) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("driftline.yaml");
    std::fs::write(&path, text).unwrap();
    let format = if json { driftline::cli::check::Format::Json } else { driftline::cli::check::Format::Text };
    let args = ShowArgs { config: Some(path), origin, format };
    show(&args, variables).unwrap().replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn the_configuration_shown_says_where_each_value_comes_from() {
    let variables = variables(&[("DRIFTLINE__KAFKA__PARTITIONS", "12"), ("DRIFTLINE__HTTP__BIND", "0.0.0.0:80")]);
    let text = shown(SERVICE, &variables, true, false);
    for (value, origin) in [
        ("app: night", "driftline.yaml:1"),
        ("instance: \"0\"", "default"),
        ("partitions: 12", "environment: DRIFTLINE__KAFKA__PARTITIONS"),
        ("bind: 0.0.0.0:80", "environment: DRIFTLINE__HTTP__BIND"),
        ("sasl.password: {env: KAFKA_PASSWORD}", "driftline.yaml:5"),
        ("password: {file: /run/s}", "driftline.yaml:7"),
        ("models: [models/*.yaml]", "default"),
    ] {
        let found =
            text.lines().any(|line| line.trim_start().starts_with(value) && line.ends_with(&format!("# {origin}")));
        assert!(found, "no `{value}  # {origin}` in\n{text}");
    }
    let json: serde_json::Value = serde_json::from_str(&shown(SERVICE, &variables, true, true)).unwrap();
    assert_eq!(json["origins"]["kafka.partitions"]["variable"], "DRIFTLINE__KAFKA__PARTITIONS", "{json:#}");
    assert_eq!(json["origins"]["app"]["line"], 1);
}

#[test]
fn the_configuration_shown_is_a_service_file_that_says_the_same() {
    let variables = variables(&[("DRIFTLINE__KAFKA__PARTITIONS", "12")]);
    let text = shown(SERVICE, &variables, true, false);
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first.yaml"), folder.path().join("second.yaml"));
    std::fs::write(&first, SERVICE).unwrap();
    std::fs::write(&second, &text).unwrap();
    let read_again = layered(Some(&second), &BTreeMap::new()).unwrap_or_else(|error| panic!("{error}\n{text}")).service;
    assert_eq!(read_again, layered(Some(&first), &variables).unwrap().service, "{text}");
}

#[test]
fn the_configuration_shown_holds_no_secret() {
    let variables = variables(&[("DRIFTLINE__KAFKA__PROPERTIES__SASL_PASSWORD", "s3cr3t")]);
    for json in [false, true] {
        let text = shown("app: night\n", &variables, true, json);
        assert!(!text.contains("s3cr3t") && text.contains("DRIFTLINE__KAFKA__PROPERTIES__SASL_PASSWORD"), "{text}");
    }
}

#[test]
fn a_wrong_service_file_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("driftline.yaml"), "kafka: {partitons: 3}\n").unwrap();
    assert!(output(folder.path(), &["config", "show"], 1).contains("driftline.yaml:1:9: error[unknown-key]"));
    assert!(output(folder.path(), &["config", "show", "--config", "gone.yaml"], 4).contains("gone.yaml"));
}

#[test]
fn shells_and_man_know_every_subcommand() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = output(folder.path(), &["completions", shell], 0);
        for word in ["check", "init", "reference", "completions"] {
            assert!(script.contains(word), "{shell} lacks {word}");
        }
    }
    output(folder.path(), &["man", "pages"], 0);
    for page in ["driftline.1", "driftline-check.1", "driftline-reference-build.1", "driftline-config-show.1"] {
        let text = std::fs::read_to_string(folder.path().join("pages").join(page)).unwrap();
        assert!(text.contains(".TH"), "{page}: {text}");
    }
    assert!(output(folder.path(), &["man"], 0).contains(".TH"));
}
