//! The project's own way from rows to findings: reference, profiles, statistics, rules as shipped.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use driftline::config::model::Model;
use driftline::config::{parse_model_str, parse_rules_str};
use driftline::reference::{Reference, Source};
use driftline::rules::RuleSet;
use driftline::rules::evaluate::evaluate as judge;
use driftline::stats::categorical_profile::CategoricalProfile;
use driftline::stats::evaluate::evaluate;
use driftline::stats::layout::Layout;
use driftline::stats::metric::FeatureStats;
use driftline::stats::numeric_profile::NumericProfile;
use driftline::stats::profile::{FeatureReference, Profile};
use driftline::windows::result::{Segment, Window, WindowResult};

use super::stream::{Change, Random, Stream, Value};
use super::{AnyError, HOUR_MS, REFERENCE_HOURS};

const START_MS: i64 = 1_760_000_400_000;

pub struct World {
    pub model: Model,
    pub reference: Reference,
    /// Rows of the reference, by feature, in the order of time.
    pub reference_values: Vec<Vec<Value>>,
    rules: RuleSet,
}

/// One feature of one window.
pub struct Seen {
    pub values: Vec<Value>,
    pub stats: FeatureStats,
}

impl World {
    /// A reference of `n` rows, judged by rules/starter.yaml, whose `min_samples` is lowered to 50 so that windows
    /// of 100 events are judged at all.
    pub fn new(stream: &Stream, n: usize, random: &mut Random) -> Result<Self, AnyError> {
        let mut yaml =
            String::from("version: 1\nmodel: bench\ntopics: [t]\nreferences: {training: {path: t}}\nfeatures:\n");
        for feature in 0..stream.features {
            let kind = if Stream::is_categorical(feature) { "categorical" } else { "numeric" };
            yaml += &format!("  {}: {kind}\n", Stream::name(feature));
        }
        let model = Arc::new(parse_model_str("model.yaml", &yaml).map_err(|errors| errors.text(false))?.value);
        let hour_of = |row: usize| (row as i64 * REFERENCE_HOURS) / n as i64;
        let of = |feature| (0..n).map(|row| stream.value(feature, hour_of(row), Change::None, random)).collect();
        let reference_values: Vec<Vec<Value>> = (0..stream.features).map(of).collect();
        let times = (0..n).map(|row| START_MS + hour_of(row) * HOUR_MS);
        let mut columns: Vec<(String, ArrayRef)> =
            vec![("timestamp".into(), Arc::new(Int64Array::from_iter_values(times)))];
        for (feature, values) in reference_values.iter().enumerate() {
            columns.push((Stream::name(feature), column(feature, values)));
        }
        let batch = RecordBatch::try_from_iter(columns)?;
        let reference = Reference::build(&model, "training", &[batch], &BTreeMap::new(), Source::default(), 0)?;
        let starter = include_str!("../../rules/starter.yaml").replace("min_samples: 500", "min_samples: 50");
        let mut file = parse_rules_str("starter.yaml", &starter).map_err(|errors| errors.text(false))?.value;
        // The others ask about the score, or about the traffic.
        file.rules.retain(|rule| ["feature-drift", "nulls-jump"].contains(&rule.name.as_str()));
        let rules = RuleSet::compile(&[("starter.yaml".into(), file)], std::slice::from_ref(&model));
        let rules = rules.map_err(|problems| format!("{problems:?}"))?;
        Ok(Self { model: (*model).clone(), reference, reference_values, rules })
    }

    /// `m` values of a feature in the `hour`-th window after the reference, and what the statistics make of them.
    pub fn seen(
        &self,
        stream: &Stream,
        feature: usize,
        hour: i64,
        m: usize,
        change: Change,
        random: &mut Random,
    ) -> Result<Seen, AnyError> {
        let reference = self.feature(feature)?;
        let values: Vec<Value> =
            (0..m).map(|_| stream.value(feature, REFERENCE_HOURS + hour, change, random)).collect();
        let stats = evaluate(reference, &profile(&reference.layout, &values));
        Ok(Seen { values, stats })
    }

    pub fn feature(&self, feature: usize) -> Result<&FeatureReference, AnyError> {
        let name = Stream::name(feature);
        self.reference.features.get(&name).ok_or_else(|| format!("no feature {name}").into())
    }

    /// Features with a finding of this rule of rules/starter.yaml, at any severity.
    pub fn found(&self, rule: &str, m: usize, features: BTreeMap<String, FeatureStats>) -> Result<usize, AnyError> {
        let result = WindowResult {
            model: "bench".into(),
            version: "1".into(),
            segment: Segment::default(),
            window: Window { start_ms: START_MS, end_ms: START_MS + HOUR_MS },
            revision: 0,
            reference: "training".into(),
            reference_id: self.reference.id.clone(),
            rows: m as u64,
            complete: true,
            features,
            baseline: None,
            quality: None,
            changes: Vec::new(),
            performance: None,
        };
        let rule = self.rules.rules().iter().find(|known| known.name == rule).ok_or("no such rule")?;
        let evaluation = judge(rule, &[&result]);
        Ok(evaluation.judgements.iter().filter(|judgement| judgement.breach.is_some()).count())
    }
}

fn column(feature: usize, values: &[Value]) -> ArrayRef {
    if Stream::is_categorical(feature) {
        return Arc::new(StringArray::from_iter(values.iter().map(|value| match value {
            Value::Category(category) => Some(category_name(*category)),
            _ => None,
        })));
    }
    Arc::new(Float64Array::from_iter(values.iter().map(|value| match value {
        Value::Number(number) => Some(*number),
        _ => None,
    })))
}

fn category_name(category: u32) -> String {
    format!("c{category:02}")
}

pub fn profile(layout: &Layout, values: &[Value]) -> Profile {
    match layout {
        // No value of these streams is a vector.
        Layout::Vector(_) => Profile::new(layout),
        Layout::Numeric(layout) => {
            let mut profile = NumericProfile::new(layout);
            for value in values {
                match value {
                    Value::Number(number) => profile.add(*number, layout),
                    _ => profile.add_nulls(1),
                }
            }
            Profile::Numeric(Box::new(profile))
        }
        Layout::Categorical(layout) => {
            let mut profile = CategoricalProfile::new(layout);
            let mut counts = [0u64; super::stream::CATEGORIES];
            for value in values {
                match value {
                    Value::Category(category) => counts[*category as usize] += 1,
                    _ => profile.add_nulls(1),
                }
            }
            for (category, count) in (0..).zip(counts) {
                let name = category_name(category);
                match layout.position(&name) {
                    Some(position) => (0..count).for_each(|_| profile.add_position(position)),
                    None => (0..count).for_each(|_| profile.add(&name, layout)),
                }
            }
            Profile::Categorical(profile)
        }
    }
}
