//! The model of tests that have no model file: one with the features that they name.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::distribution::{Drawn, Shape};
use crate::config::model::{Column, Feature, Fields, Format, Kind, Model, OnInvalid, ReferenceSource, Windowing};
use crate::config::performance::{Performance, Task};
use crate::config::rule_test_checks::{LABEL_KEY, name_and_version};
use crate::config::rule_tests::{Given, GivenReference};
use crate::config::rules::RuleFile;
use crate::config::segment::SegmentColumns;
use crate::config::units::Span;

/// `reference` is that of the test, or the file's default.
pub fn model(name: &str, given: &Given, reference: Option<&GivenReference>, rules: &[RuleFile]) -> Model {
    let mut kinds: BTreeMap<&str, Kind> = BTreeMap::new();
    let named = given.entries().into_iter().flat_map(|(_, window)| std::iter::once(&window.rows).chain(&window.also));
    let named = named.map(|rows| &rows.features).chain(reference.map(|reference| &reference.features));
    for (key, drawn) in named.flatten() {
        kinds.insert(key, kind(drawn));
    }
    let column = |key: &str| kinds.get(key).map(|kind| Column { path: key.to_string(), kind: *kind });
    let (prediction, score) = (column("prediction"), column("score"));
    let performance = kinds.contains_key(LABEL_KEY).then(|| performance(prediction.as_ref(), score.is_some()));
    let mut features: BTreeMap<String, Feature> = kinds
        .iter()
        .filter(|(key, _)| !["prediction", "score", LABEL_KEY].contains(*key))
        .map(|(key, kind)| (key.to_string(), Feature::Kind(*kind)))
        .collect();
    if features.is_empty() {
        features.insert("feature".into(), Feature::Kind(Kind::Numeric));
    }
    let source = ReferenceSource { path: "training.parquet".into(), columns: BTreeMap::new(), timestamp: None };
    let defaults = Windowing::default();
    let size: Span = given.window.unwrap_or(defaults.size);
    Model {
        version: 1,
        model: name_and_version(name).0.to_string(),
        topics: vec!["predictions".into()],
        format: Format::Json,
        fields: Fields { version: Some("version".into()), prediction_id: Some("id".into()), ..Fields::default() },
        segments: segments(rules, &features),
        features,
        prediction,
        score,
        joint: None,
        max_segments: 200,
        importance: BTreeMap::new(),
        unknown_features: None,
        on_invalid: OnInvalid::Missing,
        max_event_bytes: 1 << 20,
        max_future: Span::from_days(1),
        change_detectors: Vec::new(),
        performance,
        references: BTreeMap::from([("training".to_string(), source)]),
        windows: Windowing { size, ..defaults },
        metrics: None,
    }
}

fn kind(drawn: &Drawn) -> Kind {
    let shape = drawn.distribution().map(|distribution| distribution.shape);
    match shape.as_ref().map(Shape::is_numeric) {
        Ok(Some(false)) => Kind::Categorical,
        _ => Kind::Numeric,
    }
}

fn performance(prediction: Option<&Column>, has_score: bool) -> Performance {
    let task = match prediction.map(|column| column.kind) {
        _ if has_score => Task::Binary,
        Some(Kind::Numeric) => Task::Regression,
        _ => Task::Multiclass,
    };
    let kind = if task == Task::Regression { Kind::Numeric } else { Kind::Categorical };
    Performance {
        task,
        label: Some(Column { path: LABEL_KEY.into(), kind }),
        labels: None,
        label_column: None,
        positive: None,
        threshold: None,
        class_scores: BTreeMap::new(),
        top_k: Vec::new(),
        value: None,
    }
}

/// Columns that the rules look at apart, as far as the test has them.
fn segments(rules: &[RuleFile], features: &BTreeMap<String, Feature>) -> Vec<SegmentColumns> {
    let is_there = |columns: &SegmentColumns| {
        let kinds = columns.columns().into_iter().map(|column| features.get(column).map(Feature::kind));
        kinds.into_iter().all(|kind| kind == Some(Kind::Categorical))
    };
    let mut names: BTreeSet<String> = BTreeSet::new();
    let wanted = rules.iter().flat_map(|file| &file.rules).flat_map(|rule| &rule.segments);
    wanted.filter(|columns| is_there(columns) && names.insert(columns.name())).cloned().collect()
}
