//! The Grafana dashboards: in step with the code that writes them and with the metrics that exist.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::Path;

use driftline::http::{dashboards, metrics};
use driftline::telemetry::Metrics;
use serde_json::Value;

fn dashboards() -> Vec<(String, Value)> {
    let files = dashboards::files().into_iter().filter(|(path, _)| path.ends_with(".json"));
    files.map(|(path, text)| (path, serde_json::from_str(&text).unwrap())).collect()
}

/// Every expression, of panels, annotations and variables.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                match value.as_str() {
                    Some(text) if key == "expr" || key == "definition" => found.push(text.to_string()),
                    _ => expressions(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

fn metric_names(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("driftline_"))
}

fn used() -> BTreeSet<String> {
    let mut all = Vec::new();
    for (_, dashboard) in dashboards() {
        expressions(&dashboard, &mut all);
    }
    all.iter().flat_map(|expression| metric_names(expression)).map(str::to_string).collect()
}

/// A histogram is read through its buckets, count or sum.
fn family(name: &str, exported: &BTreeSet<String>) -> String {
    let base = ["_bucket", "_count", "_sum"].iter().find_map(|suffix| name.strip_suffix(suffix));
    base.filter(|base| exported.contains(*base)).unwrap_or(name).to_string()
}

fn exported() -> BTreeSet<String> {
    let of_monitor = metrics::names(&Metrics::new().unwrap()).unwrap();
    of_monitor.into_iter().chain(driftline::scorer::metrics::Metrics::all_names().unwrap()).collect()
}

#[test]
fn committed_files_equal_the_generated_ones() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana");
    let mut generated = BTreeSet::new();
    for (path, content) in dashboards::files() {
        let committed = std::fs::read_to_string(root.join(&path)).unwrap_or_default();
        assert!(committed == content, "grafana/{path} is stale: run `driftline dashboards export grafana`");
        generated.insert(root.join(path));
    }
    for folder in ["dashboards", "provisioning/datasources", "provisioning/dashboards"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            assert!(generated.contains(&path), "{} is not generated", path.display());
        }
    }
}

#[test]
fn every_metric_in_an_expression_is_exported() {
    let exported = exported();
    let unknown: Vec<String> = used().into_iter().filter(|name| !exported.contains(&family(name, &exported))).collect();
    assert_eq!(unknown, Vec::<String>::new());
}

#[test]
fn every_exported_metric_is_on_a_panel_or_exempt() {
    let exported = exported();
    let mut shown: BTreeSet<String> = used().iter().map(|name| family(name, &exported)).collect();
    for (name, _) in dashboards::EXEMPT {
        assert!(exported.contains(name), "`{name}` is exempt but not exported");
        assert!(shown.insert(name.to_string()), "`{name}` is exempt but on a panel");
    }
    let hidden: Vec<&String> = exported.difference(&shown).collect();
    assert_eq!(hidden, Vec::<&String>::new());
}

#[test]
fn panels_do_not_overlap_and_ids_are_unique() {
    for (path, dashboard) in dashboards() {
        let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for panel in dashboard["panels"].as_array().unwrap() {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{path}: {}", panel["title"]);
            let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            assert!(at("x") + at("w") <= 24, "{path}: {}", panel["title"]);
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(taken.insert((x, y)), "{path}: {} at {x},{y}", panel["title"]);
                }
            }
        }
    }
}

#[test]
fn every_chosen_variable_is_declared() {
    for (path, dashboard) in dashboards() {
        let declared: BTreeSet<&str> = dashboard["templating"]["list"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].as_str().unwrap())
            .collect();
        let mut all = Vec::new();
        expressions(&dashboard, &mut all);
        for expression in all {
            for name in expression.split('$').skip(1) {
                let name: String = name.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                assert!(name.starts_with("__") || declared.contains(name.as_str()), "{path}: ${name} in {expression}");
            }
        }
    }
}
