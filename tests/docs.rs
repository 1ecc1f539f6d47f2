//! What the README and the pages in `docs/` say is so: files in them are valid, commands exist, links lead
//! somewhere, and names are those of the code.
//!
//! A block marked `yaml` is a whole service file, model or rules file; `yaml fragment` is not looked at. A table
//! below `<!-- keys: service -->` (`model`, `rule`, or `<!-- metrics -->`) lists exactly what the code has.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use driftline::cli::check::{CheckArgs, check};
use driftline::cli::schema::SchemaOf;
use driftline::config::template::PLACEHOLDERS;
use driftline::event::Reason;
use driftline::http::metrics;
use driftline::rules::metrics::METRICS;
use driftline::rules::performance_metrics::PERFORMANCE_METRICS;
use driftline::telemetry::Metrics;
use serde_json::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every page with its path relative to the project.
fn pages() -> Vec<(String, String)> {
    let mut paths: Vec<PathBuf> = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"].map(PathBuf::from).to_vec();
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        let name = entry.unwrap().file_name();
        if name.to_string_lossy().ends_with(".md") {
            paths.push(Path::new("docs").join(name));
        }
    }
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(root().join(&path)).unwrap();
        (path.display().to_string(), text)
    };
    paths.into_iter().map(read).collect()
}

fn page(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// A fenced block, with the line of its fence.
struct Block {
    info: String,
    line: usize,
    text: String,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut is_open = false;
    for (index, line) in text.lines().enumerate() {
        match line.strip_prefix("```") {
            Some(_) if is_open => is_open = false,
            Some(info) => {
                is_open = true;
                found.push(Block { info: info.trim().to_string(), line: index + 1, text: String::new() });
            }
            None if is_open => {
                let block = found.last_mut().unwrap();
                block.text.push_str(line);
                block.text.push('\n');
            }
            None => {}
        }
    }
    found
}

/// Blocks of commands, and commands indented by four spaces outside of blocks.
fn command_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for block in blocks(text).iter().filter(|block| block.info == "sh") {
        lines.extend(block.text.replace("\\\n", " ").lines().map(str::to_string));
    }
    let mut in_block = false;
    for line in text.lines() {
        if line.starts_with("```") {
            in_block = !in_block;
        } else if let (false, Some(command)) = (in_block, line.strip_prefix("    ")) {
            lines.push(command.to_string());
        }
    }
    lines
}

/// The words after `driftline` or `cargo run ... --`, up to a pipe or a comment.
fn arguments(line: &str) -> Option<Vec<String>> {
    let words: Vec<&str> = line.split_whitespace().take_while(|word| !word.starts_with(['|', '>', '#'])).collect();
    let after = match words.as_slice() {
        ["driftline", rest @ ..] => rest,
        ["cargo", "run", rest @ ..] => {
            let separator = rest.iter().position(|word| *word == "--")?;
            &rest[separator + 1..]
        }
        _ => return None,
    };
    Some(after.iter().map(|word| word.to_string()).collect())
}

fn help(subcommand: &[String]) -> Option<String> {
    let output =
        Command::new(env!("CARGO_BIN_EXE_driftline")).args(subcommand).arg("--help").output().expect("the binary runs");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn has_word(text: &str, wanted: &str) -> bool {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).any(|word| word == wanted)
}

#[test]
fn every_command_line_parses() {
    let mut helps: BTreeMap<Vec<String>, String> = BTreeMap::new();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (path, text) in pages() {
        for line in command_lines(&text) {
            let Some(words) = arguments(&line) else { continue };
            seen += 1;
            let depth = match words.first().map(String::as_str) {
                Some("reference" | "dashboards" | "alerts" | "silence" | "deliveries" | "actions") => 2,
                _ => 1,
            };
            let subcommand: Vec<String> = words.iter().take(depth).cloned().collect();
            if !helps.contains_key(&subcommand) {
                match help(&subcommand) {
                    Some(text) => drop(helps.insert(subcommand.clone(), text)),
                    None => {
                        wrong.push(format!("{path}: `{line}`: no subcommand `{}`", subcommand.join(" ")));
                        continue;
                    }
                }
            }
            for word in words.iter().filter(|word| word.starts_with("--")) {
                let flag = word.split('=').next().unwrap();
                if !has_word(&helps[&subcommand], flag) {
                    wrong.push(format!("{path}: `{line}`: no flag `{flag}`"));
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(seen >= 10, "only {seen} commands found: are they still marked `sh`?");
}

fn has_key(text: &str, keys: &[&str]) -> bool {
    text.lines().any(|line| keys.iter().any(|key| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':'))))
}

#[test]
fn every_whole_yaml_file_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    let model = root().join("examples/quickstart/models/fraud.yaml");
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (path, text) in pages() {
        for block in blocks(&text).into_iter().filter(|block| block.info == "yaml") {
            seen += 1;
            let file = folder.path().join(format!("block-{seen}.yaml"));
            std::fs::write(&file, &block.text).unwrap();
            let is_rules = has_key(&block.text, &["rules", "receivers"]) && !has_key(&block.text, &["kafka", "models"]);
            let files = if is_rules { vec![model.clone(), file] } else { vec![file] };
            let args = CheckArgs { files, deny_warnings: true, ..CheckArgs::default() };
            let mut out = Vec::new();
            let code = check(&args, &BTreeMap::new(), false, &mut out);
            if code != 0 {
                wrong.push(format!("{path}:{}: {}", block.line, String::from_utf8_lossy(&out)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen >= 5, "only {seen} blocks found: are they still marked `yaml`?");
}

#[test]
fn every_relative_link_leads_to_a_file() {
    let mut dead = Vec::new();
    for (path, text) in pages() {
        let folder = Path::new(&path).parent().unwrap().to_path_buf();
        for rest in text.split("](").skip(1) {
            let target = rest.split([')', '#']).next().unwrap();
            let is_elsewhere = target.is_empty() || target.contains("://") || target.starts_with("mailto:");
            if !is_elsewhere && !root().join(&folder).join(target).exists() {
                dead.push(format!("{path}: {target}"));
            }
        }
    }
    assert_eq!(dead, Vec::<String>::new());
}

#[test]
fn every_metric_named_is_exported() {
    let mut exported: BTreeSet<String> = metrics::names(&Metrics::new().unwrap()).unwrap().into_iter().collect();
    exported.extend(driftline::scorer::metrics::Metrics::all_names().unwrap());
    let mut unknown = Vec::new();
    for (path, text) in pages() {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        for word in words.filter(|word| word.starts_with("driftline_")) {
            let base = ["_bucket", "_count", "_sum"].iter().find_map(|suffix| word.strip_suffix(suffix));
            if !exported.contains(word) && !base.is_some_and(|base| exported.contains(base)) {
                unknown.push(format!("{path}: {word}"));
            }
        }
    }
    assert_eq!(unknown, Vec::<String>::new());
}

/// Whoever scrapes the scorer finds in its page what each number means.
#[test]
fn every_metric_of_the_scorer_is_documented() {
    let rows = table(&page("docs/scorer.md"), "<!-- metrics -->");
    let documented: BTreeSet<String> = rows.into_iter().map(|row| row[0].clone()).collect();
    let exported: BTreeSet<String> = driftline::scorer::metrics::Metrics::all_names().unwrap().into_iter().collect();
    assert_eq!(documented, exported);
}

/// Rows of the first table after `marker`: cells without their backticks.
fn table(text: &str, marker: &str) -> Vec<Vec<String>> {
    let (_, after) = text.split_once(marker).unwrap_or_else(|| panic!("no `{marker}`"));
    let rows = after.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split(" | ").map(|cell| cell.trim().trim_matches('`').to_string()).collect()
    };
    rows.skip(2).map(cells).collect()
}

fn resolve<'a>(schema: &'a Value, node: &'a Value) -> &'a Value {
    let pointer = node.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
    pointer.and_then(|pointer| schema.pointer(pointer)).unwrap_or(node)
}

/// Every key that is not itself an object of keys, with its default as the table writes it. A secret is one key.
fn keys(schema: &Value, node: &Value, prefix: &str, found: &mut BTreeMap<String, String>) {
    for (name, property) in node["properties"].as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        let target = resolve(schema, property);
        let is_secret = property.get("$ref").and_then(Value::as_str).is_some_and(|name| name.ends_with("/Secret"));
        if target.get("properties").is_some() && !is_secret {
            keys(schema, target, &format!("{path}."), found);
            continue;
        }
        let default = match property.get("default") {
            None | Some(Value::Null) => "none".to_string(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        found.insert(path, default);
    }
}

fn documented(path: &str, marker: &str) -> BTreeMap<String, String> {
    table(&page(path), marker).into_iter().map(|cells| (cells[0].clone(), cells[1].clone())).collect()
}

#[test]
fn keys_and_defaults_are_those_of_the_schemas() {
    for (path, marker, of) in [
        ("docs/deployment.md", "<!-- keys: service -->", SchemaOf::Service),
        ("docs/models.md", "<!-- keys: model -->", SchemaOf::Model),
        ("docs/gate.md", "<!-- keys: gate -->", SchemaOf::Gate),
    ] {
        let schema = of.schema();
        let mut expected = BTreeMap::new();
        keys(&schema, &schema, "", &mut expected);
        assert_eq!(documented(path, marker), expected, "{path}");
    }
    let schema = SchemaOf::Rules.schema();
    let rule = schema.pointer("/$defs/Rule/properties").and_then(Value::as_object).unwrap();
    let expected: BTreeSet<String> = rule.keys().cloned().collect();
    let found: BTreeSet<String> = documented("docs/rules.md", "<!-- keys: rule -->").into_keys().collect();
    assert_eq!(found, expected);
}

#[test]
fn keys_of_actions_are_those_of_the_schema() {
    let schema = SchemaOf::Rules.schema();
    let action = schema.pointer("/$defs/Action/properties").and_then(Value::as_object).unwrap();
    let expected: BTreeSet<String> = action.keys().cloned().collect();
    let cells = documented("docs/retraining.md", "<!-- keys: action -->").into_keys();
    let found: BTreeSet<String> =
        cells.flat_map(|cell| cell.split("`, `").map(str::to_string).collect::<Vec<_>>()).collect();
    assert_eq!(found, expected);
}

#[test]
fn placeholders_are_those_that_are_filled_in() {
    let expected: BTreeSet<String> = PLACEHOLDERS.iter().map(|(name, _)| name.to_string()).collect();
    let found: BTreeSet<String> = documented("docs/rules.md", "<!-- placeholders -->").into_keys().collect();
    assert_eq!(found, expected);
}

#[test]
fn metrics_of_rules_and_reasons_of_dead_letters_are_all_documented() {
    let expected: BTreeSet<String> = METRICS.iter().map(|metric| metric.name.to_string()).collect();
    let found: BTreeSet<String> = documented("docs/rules.md", "<!-- metrics -->").into_keys().collect();
    assert_eq!(found, expected);
    let of_performance: BTreeSet<String> = PERFORMANCE_METRICS.iter().map(|row| row.metric.name.to_string()).collect();
    let found: BTreeSet<String> = documented("docs/rules.md", "<!-- performance metrics -->").into_keys().collect();
    assert_eq!(found, of_performance);
    let expected: BTreeSet<String> = expected.union(&of_performance).cloned().collect();
    let statistics = page("docs/statistics.md");
    let models = page("docs/models.md");
    // Of rankings: `ndcg@k`.
    let is_defined = |name: &str| ["`", "@"].iter().any(|end| statistics.contains(&format!("`{name}{end}")));
    let undefined = expected.iter().filter(|name| *name != "row_count" && !is_defined(name));
    let unexplained = Reason::ALL.iter().filter(|reason| !models.contains(&format!("`{reason}`")));
    let missing: Vec<String> = undefined.cloned().chain(unexplained.map(ToString::to_string)).collect();
    assert_eq!(missing, Vec::<String>::new());
}

/// The table of promises names tests as `name` in tests/FILE.rs.
#[test]
fn every_test_named_as_proof_exists() {
    let readme = page("README.md");
    let mut sources = String::new();
    for entry in std::fs::read_dir(root().join("tests")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
    let rows = table(&readme, "## What it promises, and the tests of it");
    assert!(rows.len() >= 10, "only {} promises found", rows.len());
    let mut missing = Vec::new();
    for row in &rows {
        for name in row[1].split('`').filter(|part| part.contains('_') && !part.contains([' ', '/'])) {
            // The conformance suite makes its tests of a list of names.
            if !sources.contains(&format!("fn {name}(")) && !sources.contains(&format!("    {name},\n")) {
                missing.push(name.to_string());
            }
        }
        for file in row[1].split_whitespace().filter(|word| word.starts_with("tests/")) {
            let file = file.trim_end_matches([',', ';', '.']);
            if !root().join(file).exists() {
                missing.push(file.to_string());
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}
