//! The machines of a whole service, driven by event time.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::TimestampMillisecondType;

use super::BacktestError;
use super::lane::{Lane, Seen};
use super::trail::Trail;
use super::{outgoing, runs};
use crate::config::model::Model;
use crate::dispatch::schedule::Limits;
use crate::event::{DecodedBatch, Decoder, schema};
use crate::log::Records;
use crate::reference::Reference;
use crate::rules::RuleSet;
use crate::telemetry::Metrics;
use crate::windows::result::ClosedWindow;

/// Hears of closed windows.
pub type WindowListener = Arc<dyn Fn(&ClosedWindow) + Send + Sync>;

/// What a caller may want otherwise.
#[derive(Default)]
pub struct EngineOptions {
    /// Keep every closed window in the trail; they take some kilobytes for each feature.
    pub keep_windows: bool,
    /// Keep every change of an alert's state in the trail.
    pub keep_states: bool,
    /// Hears of every closed window, as the rules do.
    pub on_window: Option<WindowListener>,
    /// Raw events further ahead of this instant than the model's `max_future` are rejected, epoch milliseconds;
    /// `None`: none is.
    pub now_ms: Option<i64>,
    /// Limits of the schedule that messages go through.
    pub limits: Limits,
}

/// Takes history in and answers with a [`Trail`]. Models do not hear of each other: each has its own clock.
pub struct Engine {
    lanes: Vec<Lane>,
    decoder: Decoder,
    options: EngineOptions,
    rules: Arc<RuleSet>,
    rejected: BTreeMap<String, u64>,
    unrouted: u64,
    runtime: tokio::runtime::Runtime,
}

impl Engine {
    /// `references` holds the reference in force of each model, by model name. Not to be called inside of an
    /// asynchronous runtime.
    pub fn new(
        models: &[Arc<Model>],
        rules: Arc<RuleSet>,
        references: &BTreeMap<String, Arc<Reference>>,
        options: EngineOptions,
    ) -> Result<Self, BacktestError> {
        let failed = |reason: String| BacktestError::Configuration(reason);
        let metrics = Metrics::new().map_err(|error| failed(error.to_string()))?;
        let mut lanes = Vec::with_capacity(models.len());
        for model in models {
            let reference = references
                .get(&model.model)
                .ok_or_else(|| BacktestError::NoReference { model: model.model.clone() })?;
            let seen = Seen::new(options.keep_windows, options.on_window.clone());
            lanes.push(Lane::new(model, reference, &rules, &metrics, seen, options.keep_states)?);
        }
        Ok(Self {
            lanes,
            decoder: Decoder::new(models).map_err(|error| failed(error.to_string()))?,
            options,
            rules,
            rejected: BTreeMap::new(),
            unrouted: 0,
            runtime: tokio::runtime::Builder::new_current_thread()
                .build()
                .map_err(|error| failed(error.to_string()))?,
        })
    }

    /// Takes in rows of one model, in the schema of `event::schema(model)` and in the order in which they would have been
    /// read from one partition: best by event time. What is out of order is late as it would be in production.
    pub fn push(&mut self, model: &str, batch: &RecordBatch) -> Result<(), BacktestError> {
        let index = self.index_of(model)?;
        let Some(lane) = self.lanes.get_mut(index) else { return Ok(()) };
        let rows = |reason: String| BacktestError::Rows { model: model.to_string(), reason };
        let wanted = schema(lane.model());
        if batch.schema().fields() != wanted.fields() {
            return Err(rows(format!(
                "columns are {:?}, not {:?}",
                names(batch),
                wanted.fields().iter().map(|field| field.name()).collect::<Vec<_>>()
            )));
        }
        let times = batch.column(0).as_primitive::<TimestampMillisecondType>();
        let records = lane.records_of(times.values());
        let decoded = DecodedBatch {
            model_index: index,
            batch: batch.clone(),
            record_indices: (0..batch.num_rows() as u32).collect(),
            sources: Vec::new(),
            flaws: Vec::new(),
            unlisted: Vec::new(),
        };
        lane.push(decoded, &records, &self.runtime)
    }

    /// Takes in raw events, and labels where a model's labels have topics of their own: in the order in which they would
    /// have been read. An event that cannot be decoded costs itself, and is counted.
    pub fn push_events(&mut self, records: &Records) -> Result<(), BacktestError> {
        let now_ms = self.options.now_ms.unwrap_or(i64::MAX / 4);
        let decoded = self
            .decoder
            .decode(records, now_ms)
            .map_err(|error| BacktestError::Configuration(format!("events cannot be decoded: {error}")))?;
        self.unrouted += decoded.unrouted;
        for rejected in &decoded.rejected {
            *self.rejected.entry(rejected.reason.as_str().to_string()).or_default() += 1;
            if let Some(place) = &rejected.place
                && let Some(lane) = self.lanes.get_mut(place.model_index)
            {
                lane.reject(rejected.reason.as_str(), place);
            }
        }
        for label in decoded.labels {
            let Some(record) = records.get(label.record) else { continue };
            if let Some(lane) = self.lanes.get_mut(label.model_index) {
                lane.label(label, record);
            }
        }
        for batch in decoded.batches {
            if let Some(lane) = self.lanes.get_mut(batch.model_index) {
                lane.push(batch, records, &self.runtime)?;
            }
        }
        Ok(())
    }

    /// Time passes without an event of any model until `until_ms`, epoch milliseconds: windows close, and who is absent is
    /// missed.
    pub fn advance(&mut self, until_ms: i64) -> Result<(), BacktestError> {
        self.lanes.iter_mut().try_for_each(|lane| lane.advance(until_ms, &self.runtime))
    }

    /// The end of history: what is open closes with what is there, and nobody is missed for what lies beyond.
    pub fn finish(mut self) -> Result<Trail, BacktestError> {
        for lane in &mut self.lanes {
            lane.finish(&self.runtime)?;
        }
        let mut trail = Trail { rejected: self.rejected, unrouted: self.unrouted, ..Trail::default() };
        self.lanes.into_iter().for_each(|lane| trail.take_lane(lane.into_outcome()));
        trail.order();
        trail.messages = outgoing::messages(&trail, &self.rules, self.options.limits);
        trail.runs = runs::runs(&trail, &self.rules).map_err(BacktestError::Configuration)?;
        Ok(trail)
    }

    /// Counts rows that never became events.
    pub fn note_rejected(&mut self, reason: &str, rows: u64) {
        *self.rejected.entry(reason.to_string()).or_default() += rows;
    }

    /// Events that could not be used so far, by reason.
    pub fn rejected(&self) -> &BTreeMap<String, u64> {
        &self.rejected
    }

    /// Events taken in so far.
    pub fn rows(&self) -> u64 {
        self.lanes.iter().map(Lane::rows).sum()
    }

    fn index_of(&self, model: &str) -> Result<usize, BacktestError> {
        let found = self.lanes.iter().position(|lane| lane.model().model == model);
        found.ok_or_else(|| BacktestError::UnknownModel {
            model: model.to_string(),
            known: self.lanes.iter().map(|lane| lane.model().model.clone()).collect(),
        })
    }
}

fn names(batch: &RecordBatch) -> Vec<String> {
    batch.schema().fields().iter().map(|field| field.name().clone()).collect()
}
