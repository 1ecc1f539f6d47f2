//! The shipped rules find every drift of the generated stream and nothing else, without a broker: reference, profiles,
//! statistics and rules as the service uses them. Needs the generated data: `DRIFTLINE_SYNTH` is the directory with
//! `reference.parquet`, `current.parquet` and `drift_plan.json`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "default_rules/mod.rs"]
mod default_rules;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use driftline::config::model::{Kind, Model};
use driftline::config::parse_model_str;
use driftline::reference::table::Table;
use driftline::reference::{Reference, Source};
use driftline::stats::evaluate::evaluate;
use driftline::stats::layout::Layout;
use driftline::stats::profile::Profile;
use driftline::windows::result::{Segment, Window, WindowResult};

const HOUR_MS: i64 = 3_600_000;

fn model() -> Model {
    let features: String = (0..20).map(|i| format!("  num_{i:02}: numeric\n")).collect();
    let categories: String = (0..5).map(|i| format!("  cat_{i}: categorical\n")).collect();
    let yaml = format!(
        "version: 1\nmodel: fraud-scorer\ntopics: [t]\nfields: {{timestamp: event_time, features: \"*\"}}\nscore: {{path: score, type: numeric}}\nreferences: {{training: {{path: t}}}}\nfeatures:\n{features}{categories}"
    );
    parse_model_str("model.yaml", &yaml).unwrap().value
}

/// Profiles of a feature, one an hour.
fn profiles(table: &Table, name: &str, kind: Kind, layout: &Layout, hours: &[i64]) -> BTreeMap<i64, Profile> {
    let mut profiles: BTreeMap<i64, Profile> = BTreeMap::new();
    match kind {
        Kind::Vector => panic!("no feature of this stream is a vector"),
        Kind::Numeric => {
            for (value, hour) in table.numeric(name).unwrap().into_iter().zip(hours) {
                if let (Profile::Numeric(profile), Layout::Numeric(layout)) =
                    (profiles.entry(*hour).or_insert_with(|| Profile::new(layout)), layout)
                {
                    profile.add(value, layout);
                }
            }
        }
        Kind::Categorical => {
            for (value, hour) in table.categories(name).unwrap().into_iter().zip(hours) {
                if let (Profile::Categorical(profile), Layout::Categorical(layout)) =
                    (profiles.entry(*hour).or_insert_with(|| Profile::new(layout)), layout)
                {
                    match value {
                        Some(category) => profile.add(&category, layout),
                        None => profile.add_nulls(1),
                    }
                }
            }
        }
    }
    profiles
}

#[test]
#[ignore = "needs the generated data: DRIFTLINE_SYNTH"]
fn the_shipped_rules_find_every_drift_and_nothing_else() {
    let directory = std::env::var("DRIFTLINE_SYNTH").expect("DRIFTLINE_SYNTH");
    let data = Path::new(&directory);
    let model = Arc::new(model());
    let rows = Table::read(&data.join("reference.parquet")).unwrap();
    let reference =
        Reference::build(&model, "training", &rows.batches, &BTreeMap::new(), Source::default(), 0).unwrap();
    let calibrated: Vec<&String> =
        reference.features.iter().filter(|(_, f)| !f.calibration.is_empty()).map(|(name, _)| name).collect();
    eprintln!("features whose windows differ beyond chance: {calibrated:?}");
    let current = Table::read(&data.join("current.parquet")).unwrap();
    let hours: Vec<i64> =
        current.epoch_ms("event_time").unwrap().into_iter().map(|time| time.unwrap().div_euclid(HOUR_MS)).collect();
    let mut results: BTreeMap<i64, WindowResult> = BTreeMap::new();
    for signal in model.signals() {
        let feature = &reference.features[&signal.name];
        let column = if signal.name == "prediction.score" { "score" } else { &signal.name };
        for (hour, profile) in profiles(&current, column, signal.kind, &feature.layout, &hours) {
            let window = Window { start_ms: hour * HOUR_MS, end_ms: (hour + 1) * HOUR_MS };
            let result = results.entry(hour).or_insert_with(|| WindowResult {
                model: model.model.clone(),
                version: "1.4.2".into(),
                segment: Segment::default(),
                window,
                revision: 0,
                reference: "training".into(),
                reference_id: reference.id.clone(),
                rows: profile.rows(),
                complete: true,
                features: BTreeMap::new(),
                baseline: None,
                quality: None,
                changes: Vec::new(),
                performance: None,
            });
            result.features.insert(signal.name.clone(), evaluate(feature, &profile));
        }
    }
    let results: Vec<WindowResult> = results.into_values().collect();
    assert_eq!(results.len(), default_rules::HOURS);
    default_rules::assert_all_found(&model, &results, data);
}
