//! What all stages share: the model, its reference, the rules, and logs full of events.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use driftline::config::model::Model;
use driftline::config::receivers::TextOrSecret;
use driftline::config::rules::RuleFile;
use driftline::config::{parse_model_str, parse_rules_str};
use driftline::event::Decoder;
use driftline::log::{Log, OutRecord, Records, TopicSpec};
use driftline::reference::{Reference, Source};
use driftline::rules::RuleSet;
use driftline::windows::state::References;

use crate::events::{EventPool, PARTITIONS, START_MS, model_file};
use crate::{AnyError, FLUSH_EVENTS, SLAB_EVENTS};

pub const HOUR_MS: i64 = 3_600_000;
/// Windows that the events fill, and that a run waits for.
pub const WINDOWS: usize = 8;
/// Events of the window after these, so that the flush that closes the last one is not held up by lack of input.
pub const TAIL_EVENTS: usize = FLUSH_EVENTS + FLUSH_EVENTS / 2;

const RULES: &str = "
version: 1
defaults: {window: 1h, min_samples: 1000}
rules:
  - name: feature-drift
    model: bench@*
    when: {warn: psi > 0.10, critical: psi > 0.25}
    significance: {test: auto, alpha: 0.01, correction: benjamini-hochberg}
routes: [{match: {}, to: [hook]}]
receivers: {hook: {webhook: {url: 'http://127.0.0.1:1/', allow_private: true}}}
";

pub struct World {
    pub topic: String,
    pub model: Arc<Model>,
    pub reference: Arc<Reference>,
    pub rules: Arc<RuleSet>,
    pub pool: EventPool,
    /// One flush of events, as polls return them.
    pub slabs: Vec<Records>,
}

impl World {
    pub fn new() -> Result<Self, AnyError> {
        // A name of its own: on Kafka the topics of earlier runs stay.
        let topic = format!("driftline-bench-{}-{}", chrono::Utc::now().timestamp(), std::process::id());
        let model = parse_model_str("model.yaml", &model_file(&topic).to_string());
        let model = Arc::new(model.map_err(|errors| errors.text(false))?.value);
        let pool = EventPool::new(FLUSH_EVENTS, 1, 0.0)?;
        let slabs: Vec<Records> =
            (0..FLUSH_EVENTS).step_by(SLAB_EVENTS).map(|first| pool.slab(&topic, first, SLAB_EVENTS)).collect();
        let mut decoder = Decoder::new(std::slice::from_ref(&model))?;
        let mut batches: Vec<RecordBatch> = Vec::new();
        for slab in &slabs {
            batches.extend(decoder.decode(slab, START_MS)?.batches.into_iter().map(|decoded| decoded.batch));
        }
        let reference = Reference::build(&model, "training", &batches, &BTreeMap::new(), Source::default(), 0)?;
        let rules = Arc::new(rule_set(rule_file("http://127.0.0.1:1/")?, &model)?);
        Ok(Self { topic, model, reference: Arc::new(reference), rules, pool, slabs })
    }
}

/// The rules, with alerts sent to `hook`.
pub fn rule_file(hook: &str) -> Result<RuleFile, AnyError> {
    let mut rules = parse_rules_str("rules.yaml", RULES).map_err(|errors| errors.text(false))?.value;
    for webhook in rules.receivers.values_mut().filter_map(|receiver| receiver.webhook.as_mut()) {
        webhook.url = TextOrSecret::Text(hook.to_string());
    }
    Ok(rules)
}

pub fn rule_set(rules: RuleFile, model: &Arc<Model>) -> Result<RuleSet, AnyError> {
    let compiled = RuleSet::compile(&[("rules.yaml".to_string(), rules)], std::slice::from_ref(model));
    compiled.map_err(|errors| {
        let messages: Vec<String> = errors.into_iter().map(|error| error.problem.message).collect();
        messages.join("; ").into()
    })
}

pub struct OneReference(pub Arc<Reference>);

impl References for OneReference {
    fn find(&self, model: &str, id: &str) -> Option<Arc<Reference>> {
        (self.0.model == model && self.0.id == id).then(|| self.0.clone())
    }
}

/// A record of the source topic; partitions take turns.
pub fn out_record(topic: &Arc<str>, index: usize, event: Vec<u8>) -> OutRecord {
    let partition = Some((index % PARTITIONS) as i32);
    OutRecord { topic: topic.clone(), partition, value: Some(event), ..OutRecord::default() }
}

pub fn create_source_topic(log: &dyn Log, topic: &str) -> Result<(), AnyError> {
    let spec = TopicSpec { name: topic.into(), partitions: PARTITIONS as i32, replication: 1, config: vec![] };
    Ok(log.create_topics(&[spec])?)
}

/// A log that gets its events when a stage first needs them: stages before that are not charged with their memory.
pub struct FilledLog<'w> {
    log: Box<dyn Log>,
    world: &'w World,
    events: usize,
    filled: Cell<bool>,
}

impl<'w> FilledLog<'w> {
    pub fn new(log: Box<dyn Log>, world: &'w World, events: usize) -> Self {
        Self { log, world, events, filled: Cell::new(false) }
    }

    /// `events` events over all windows, then the tail.
    pub fn get(&self) -> Result<&dyn Log, AnyError> {
        if !self.filled.replace(true) {
            create_source_topic(&*self.log, &self.world.topic)?;
            let topic: Arc<str> = self.world.topic.as_str().into();
            let all: Vec<usize> = (0..self.events + TAIL_EVENTS).collect();
            for chunk in all.chunks(SLAB_EVENTS) {
                let event = |index: usize| self.world.pool.event(index, "v7", self.time_ms(index));
                self.log.append(chunk.iter().map(|index| out_record(&topic, *index, event(*index))).collect())?;
            }
        }
        Ok(&*self.log)
    }

    fn time_ms(&self, index: usize) -> i64 {
        let end_ms = WINDOWS as i64 * HOUR_MS;
        START_MS
            + match index.checked_sub(self.events) {
                None => index as i64 * end_ms / self.events as i64,
                Some(tail) => end_ms + tail as i64 * HOUR_MS / TAIL_EVENTS as i64,
            }
    }
}
