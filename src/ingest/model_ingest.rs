//! What one model has gathered since the last flush, and the aggregates that it becomes. The role writes them to
//! `partials`, a back-test hands them on directly: both come to the same.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;

use super::aggregate::{AggregateError, ModelPlan};
use super::partial::PartialRow;
use super::performance::{PerformanceTally, Waiting};
use super::quality::QualityTally;
use super::signals::{SignalCollector, SignalRun};
use super::sql::SqlPlans;
use crate::config::model::Model;
use crate::event::{DecodedBatch, DecodedLabel, RejectedPlace, schema};
use crate::log::{RecordRef, Records};
use crate::reference::Reference;
use crate::stats::sql::SqlMetric;
use crate::telemetry::Complaints;

/// One model and what its events are compared with.
#[derive(Clone)]
pub struct IngestModel {
    pub model: Arc<Model>,
    pub reference: Arc<Reference>,
    /// Greatest common divisor of all window sizes and slides wanted of this model.
    pub pane_ms: i64,
    /// Queries that rules ask of its events.
    pub sql: Vec<SqlMetric>,
}

/// Since the last flush; what is not flushed is read again.
pub struct ModelIngest {
    watched: IngestModel,
    plan: ModelPlan,
    queries: SqlPlans,
    complaints: Complaints,
    quality: QualityTally,
    performance: Option<PerformanceTally>,
    signals: SignalCollector,
    batches: Vec<RecordBatch>,
}

impl ModelIngest {
    /// The error is one of the configuration: the model does not fit its reference.
    pub fn new(watched: &IngestModel) -> Result<Self, String> {
        let IngestModel { model, reference, pane_ms, sql } = watched;
        let plan = ModelPlan::new(model, reference.clone(), &schema(model), *pane_ms);
        let queries = SqlPlans::new(sql, model, reference, &schema(model), *pane_ms);
        let performance = PerformanceTally::new(model, reference, *pane_ms);
        Ok(Self {
            plan: plan.map_err(|error| error.to_string())?,
            queries: queries.map_err(|error| error.to_string())?,
            complaints: Complaints::default(),
            quality: QualityTally::new(model, &reference.id, *pane_ms),
            performance: performance.map_err(|error| format!("model {}: {error}", model.model))?,
            signals: SignalCollector::new(model),
            batches: Vec::new(),
            watched: watched.clone(),
        })
    }

    pub fn model(&self) -> &Arc<Model> {
        &self.watched.model
    }

    /// Takes in the accepted events of a slab.
    pub fn add_batch(&mut self, decoded: DecodedBatch, records: &Records, waiting: &mut Waiting) {
        self.quality.add_batch(&decoded, records);
        self.signals.add_batch(&decoded, records);
        if let Some(performance) = &mut self.performance {
            performance.add_batch(&decoded, records, waiting);
        }
        self.batches.push(decoded.batch);
    }

    pub fn add_label(&self, label: DecodedLabel, record: RecordRef<'_>, waiting: &mut Waiting) {
        if let Some(performance) = &self.performance {
            performance.add_label(label, record, waiting);
        }
    }

    /// Takes in a rejected event whose pane is known.
    pub fn add_rejected(&mut self, reason: &str, place: &RejectedPlace) {
        self.quality.add_rejected(reason, place);
    }

    /// Accepted events.
    pub fn rows(&self) -> u64 {
        self.batches.iter().map(|batch| batch.num_rows() as u64).sum()
    }

    /// Every aggregate of the flush. Takes the events: they are aggregated once.
    pub async fn take_partial_rows(&mut self) -> Result<Vec<PartialRow>, AggregateError> {
        let mut rows: Vec<PartialRow> = self.quality.rows().collect();
        rows.extend(self.performance.iter().flat_map(PerformanceTally::rows));
        let batches = std::mem::take(&mut self.batches);
        if !batches.is_empty() {
            let aggregated = self.plan.run(&batches).await?;
            if !self.queries.is_empty() {
                let (states, failures) = self.queries.run(&batches, &aggregated).await;
                rows.extend(states);
                self.complain(&failures);
            }
            rows.extend(aggregated);
        }
        Ok(rows)
    }

    /// Now and then: the reason names the event's value, so that no two of them are the same.
    fn complain(&mut self, failures: &[String]) {
        if let Some(error) = failures.first().filter(|_| self.complaints.is_news("a query failed")) {
            let model = &self.watched.model.model;
            tracing::warn!(%model, %error, "a rule's query failed on an event; its windows have no value");
        }
    }

    /// Values for change detectors, in runs that fit a part of a flush.
    pub fn signal_runs(&self) -> impl Iterator<Item = SignalRun> + '_ {
        self.signals.runs().chain(self.performance.iter().flat_map(PerformanceTally::error_runs))
    }

    pub fn clear(&mut self) {
        self.batches.clear();
        self.quality.clear();
        self.signals.clear();
        self.performance.iter_mut().for_each(PerformanceTally::clear);
    }
}
