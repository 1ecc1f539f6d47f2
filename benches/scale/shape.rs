//! The models that are measured, their events as decoded batches, and their references.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use datafusion::arrow::datatypes::DataType;
use driftline::config::model::Model;
use driftline::config::{parse_model_str, parse_rules_str};
use driftline::event::schema;
use driftline::reference::{Reference, Source};
use driftline::rules::RuleSet;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::AnyError;

/// 2025-01-01T00:00:00Z, epoch milliseconds.
pub const START_MS: i64 = 1_735_689_600_000;
pub const HOUR_MS: i64 = 3_600_000;
const BATCH_EVENTS: usize = 8_192;
const CATEGORIES: usize = 12;
/// The segment column, a feature like the others.
const SEGMENT: &str = "place";

/// How many features and segments, and how many events a flush brings.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub name: &'static str,
    /// Every fifth is categorical.
    pub features: usize,
    /// 1: the whole only.
    pub segments: usize,
    pub flush_events: usize,
}

pub struct World {
    pub shape: Shape,
    pub model: Arc<Model>,
    pub batches: Vec<RecordBatch>,
    pub reference: Arc<Reference>,
    pub rules: Arc<RuleSet>,
}

impl World {
    pub fn new(shape: Shape) -> Result<Self, AnyError> {
        let file = model_file(shape).to_string();
        let model = Arc::new(parse_model_str("model.yaml", &file).map_err(|errors| errors.text(false))?.value);
        let batches = batches(shape, &model)?;
        let reference = build_reference(&model, &batches)?;
        let rules = Arc::new(rules(&model, shape)?);
        Ok(Self { shape, model, batches, reference: Arc::new(reference), rules })
    }
}

pub fn build_reference(model: &Model, batches: &[RecordBatch]) -> Result<Reference, AnyError> {
    Ok(Reference::build(model, "training", batches, &BTreeMap::new(), Source::default(), 0)?)
}

fn model_file(shape: Shape) -> serde_json::Value {
    let kind = |index: usize| if index % 5 == 4 { "categorical" } else { "numeric" };
    let segments: &[&str] = if shape.segments > 1 { &[SEGMENT] } else { &[] };
    let others = (0..shape.features - segments.len()).map(|index| (format!("feature_{index:04}"), kind(index)));
    let features: BTreeMap<String, &str> =
        others.chain(segments.iter().map(|segment| (segment.to_string(), "categorical"))).collect();
    serde_json::json!({
        "version": 1, "model": "scale", "topics": ["events"], "fields": {"version": "version"},
        "features": features, "segments": segments, "max_segments": shape.segments.max(1),
        "references": {"training": {"path": "training.parquet"}},
        "windows": {"size": "1h", "watermark_delay": "0s", "allowed_lateness": "1h"},
    })
}

/// One flush of events, all of the first minutes of an hour. Numbers are uniform or log-normal; a segment's are moved
/// by a little, as those of real segments are.
fn batches(shape: Shape, model: &Model) -> Result<Vec<RecordBatch>, AnyError> {
    let schema = schema(model);
    let mut random = StdRng::seed_from_u64(1);
    let mut batches = Vec::new();
    for first in (0..shape.flush_events).step_by(BATCH_EVENTS) {
        let rows = BATCH_EVENTS.min(shape.flush_events - first);
        let places: Vec<usize> = (0..rows).map(|_| random.random_range(0..shape.segments)).collect();
        let columns = schema.fields().iter().enumerate().map(|(index, field)| -> ArrayRef {
            match (field.name().as_str(), field.data_type()) {
                (_, DataType::Timestamp(..)) => {
                    let times = (0..rows).map(|row| START_MS + ((first + row) % 600_000) as i64);
                    Arc::new(TimestampMillisecondArray::from_iter_values(times).with_timezone("UTC"))
                }
                ("version", _) => Arc::new(StringArray::from_iter_values((0..rows).map(|_| "v1"))),
                ("prediction_id", _) => Arc::new(StringArray::from(vec![None::<&str>; rows])),
                (SEGMENT, _) => {
                    Arc::new(StringArray::from_iter_values(places.iter().map(|place| format!("place-{place:04}"))))
                }
                (_, DataType::Float64) => Arc::new(Float64Array::from_iter_values(places.iter().map(|place| {
                    let value: f64 = random.random_range(-3.0..3.0) + *place as f64 / 10_000.0;
                    if index % 2 == 0 { value } else { value.exp() * 1_000.0 }
                }))),
                _ => Arc::new(StringArray::from_iter_values(
                    (0..rows).map(|_| format!("value_{}", random.random_range(0..CATEGORIES))),
                )),
            }
        });
        batches.push(RecordBatch::try_new(schema.clone(), columns.collect())?);
    }
    Ok(batches)
}

fn rules(model: &Arc<Model>, shape: Shape) -> Result<RuleSet, AnyError> {
    let segments = if shape.segments > 1 { SEGMENT } else { "" };
    let text = format!(
        "version: 1\nrules:\n  - name: drift\n    model: scale@*\n    segments: [{segments}]\n    min_samples: 50\n    \
         when: {{warn: psi > 0.10, critical: psi > 0.25}}\nroutes: [{{to: [hook]}}]\nreceivers: \
         {{hook: {{webhook: {{url: 'https://hook.example.com'}}}}}}\n"
    );
    let file = parse_rules_str("rules.yaml", &text).map_err(|errors| errors.text(false))?.value;
    RuleSet::compile(&[("rules.yaml".into(), file)], std::slice::from_ref(model)).map_err(|errors| {
        let messages: Vec<String> = errors.into_iter().map(|error| error.problem.message).collect();
        messages.join("; ").into()
    })
}
