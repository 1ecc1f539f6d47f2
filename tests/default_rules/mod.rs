//! What the shipped rules find in the generated stream, cell by cell: a feature in an hour.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use driftline::config::model::Model;
use driftline::config::parse_rules_str;
use driftline::rules::RuleSet;
use driftline::rules::evaluate::evaluate;
use driftline::windows::result::WindowResult;
use serde_json::Value;

const HOUR_MS: i64 = 3_600_000;
pub const FEATURES: usize = 25;
pub const HOURS: usize = 24;

/// Feature and hour of the day.
pub type Cell = (String, i64);

/// Cells in which a rule of rules/starter.yaml has a finding, by rule.
pub fn found(model: &Arc<Model>, results: &[WindowResult]) -> BTreeMap<String, BTreeSet<Cell>> {
    let mut file = parse_rules_str("starter.yaml", include_str!("../../rules/starter.yaml")).unwrap().value;
    file.rules.retain(|rule| ["feature-drift", "nulls-jump"].contains(&rule.name.as_str()));
    let rules = RuleSet::compile(&[("starter.yaml".into(), file)], std::slice::from_ref(model)).unwrap();
    let mut found: BTreeMap<String, BTreeSet<Cell>> = BTreeMap::new();
    for rule in rules.rules() {
        let cells = found.entry(rule.name.clone()).or_default();
        for result in results {
            let hour = result.window.start_ms.rem_euclid(24 * HOUR_MS) / HOUR_MS;
            for judgement in evaluate(rule, &[result]).judgements {
                if let (Some(breach), Some(feature)) = (judgement.breach, judgement.pair.feature) {
                    eprintln!("{} {feature}@{hour}: {} {:?}", rule.name, breach.condition, breach.decider.value.value);
                    cells.insert((feature, hour));
                }
            }
        }
    }
    found
}

/// Cells with injected drift: of the distribution, and of the share of missing values.
pub fn planned(data: &Path) -> (BTreeSet<Cell>, BTreeSet<Cell>) {
    let plan = std::fs::read(data.join("drift_plan.json")).expect("the plan of the generated stream");
    let plan: Value = serde_json::from_slice(&plan).unwrap();
    let (mut distribution, mut missing) = (BTreeSet::new(), BTreeSet::new());
    for drift in plan["drift"].as_array().unwrap() {
        let column = drift["column"].as_str().unwrap();
        if !column.starts_with("num_") && !column.starts_with("cat_") {
            continue;
        }
        let cells = if drift["kind"] == "missing" { &mut missing } else { &mut distribution };
        cells
            .extend(drift["hours"].as_array().unwrap().iter().map(|hour| (column.to_string(), hour.as_i64().unwrap())));
    }
    (distribution, missing)
}

/// All 28 drifted cells are found, each by the rule that is about its kind of drift, and nothing else is.
pub fn assert_all_found(model: &Arc<Model>, results: &[WindowResult], data: &Path) {
    let (distribution, missing) = planned(data);
    assert_eq!((distribution.len(), missing.len()), (25, 3));
    let found = found(model, results);
    let drifted = &found["feature-drift"];
    let jumped = &found["nulls-jump"];
    let lost: Vec<&Cell> = distribution.difference(drifted).chain(missing.difference(jumped)).collect();
    assert!(lost.is_empty(), "not found: {lost:?}");
    let all: BTreeSet<&Cell> = distribution.union(&missing).collect();
    let clean = FEATURES * HOURS - all.len();
    let alarms: BTreeSet<&Cell> = drifted.union(jumped).filter(|cell| !all.contains(cell)).collect();
    // One window in a hundred may have a finding by either rule: of 24 windows, none is what to expect.
    assert!(alarms.is_empty(), "{} false alarms in {clean} clean cells: {alarms:?}", alarms.len());
    eprintln!("28 of 28 drifted cells found, {} false alarms in {clean} clean cells", alarms.len());
}
