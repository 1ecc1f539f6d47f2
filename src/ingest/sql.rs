//! The queries of rules in ingest: their aggregates in `Partial` mode over the events of a flush, by version, pane and
//! the segment that a query is grouped by.
//!
//! Their states go out as rows of the long schema like profiles do, one for every row count of the model's own plan, so
//! that whoever merges them knows of how many events they are. A query that fails on an event costs its own value and
//! nothing else.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{
    DataType, Field, Int32Type, Int64Type, Schema, SchemaRef, TimestampMillisecondType,
};
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::{ExecutionPlan, collect};

use super::aggregate::AggregateError;
use super::partial::PartialRow;
use super::segments::{Membership, SegmentKeys};
use crate::config::model::Model;
use crate::event::VERSION;
use crate::reference::Reference;
use crate::stats::sql::state::{NoValue, given_up};
use crate::stats::sql::{MAX_STATE_BYTES, SqlMetric, SqlQuery};

/// Keys behind the columns of a query.
const KEYS: [&str; 3] = ["key version", "key pane", "key segment"];

/// Every query that rules ask of one model, each once. Planned once, run at every flush.
pub struct SqlPlans {
    plans: Vec<SqlPlan>,
    pane_ms: i64,
    version_column: usize,
    segments: SegmentKeys,
    context: Arc<TaskContext>,
}

struct SqlPlan {
    query: Arc<SqlQuery>,
    /// Of the segment that it is grouped by.
    split: Option<usize>,
    schema: SchemaRef,
    group_by: Arc<PhysicalGroupBy>,
    functions: Vec<Arc<AggregateFunctionExpr>>,
    filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
}

/// Version, pane start, value of the segment.
type GroupKey = (String, i64, String);

impl SqlPlans {
    /// `schema` is that of the model's decoded batches.
    pub fn new(
        metrics: &[SqlMetric],
        model: &Model,
        reference: &Reference,
        schema: &Schema,
        pane_ms: i64,
    ) -> Result<Self, AggregateError> {
        let failed = |message: String| AggregateError::Plan { model: model.model.clone(), message };
        let segments = SegmentKeys::new(model, reference, schema).map_err(&failed)?;
        let version_column = schema.index_of(VERSION).map_err(|_| failed(format!("no column `{VERSION}`")))?;
        let mut plans: Vec<SqlPlan> = Vec::new();
        for metric in metrics {
            if plans.iter().all(|plan| plan.query.state_name != metric.query.state_name) {
                plans.push(SqlPlan::new(metric.query.clone(), &segments)?);
            }
        }
        Ok(Self { plans, pane_ms, version_column, segments, context: Arc::new(TaskContext::default()) })
    }

    pub fn is_empty(&self) -> bool {
        self.plans.is_empty()
    }

    /// States of every query, for each row count among `totals`: what the model's own plan made of the same batches. The
    /// second are the queries that failed, and why.
    pub async fn run(&self, batches: &[RecordBatch], totals: &[PartialRow]) -> (Vec<PartialRow>, Vec<String>) {
        let (mut rows, mut failures) = (Vec::new(), Vec::new());
        for plan in &self.plans {
            let states = self.states(plan, batches).await;
            let failed = states.as_ref().err().map(ToString::to_string);
            let states = states.unwrap_or_default();
            let column = plan.query.segment.as_deref().unwrap_or_default();
            for total in totals.iter().filter(|row| row.feature.is_empty() && row.segment_column == column) {
                let key = (total.version.clone(), total.pane_start_ms, total.segment_value.clone());
                let state = match &failed {
                    Some(_) => given_up(NoValue::QueryFailed),
                    None => states.get(&key).cloned().unwrap_or_default(),
                };
                rows.push(PartialRow { feature: plan.query.state_name.clone(), state, ..total.clone() });
            }
            failures.extend(failed);
        }
        (rows, failures)
    }

    async fn states(
        &self,
        plan: &SqlPlan,
        batches: &[RecordBatch],
    ) -> Result<HashMap<GroupKey, Vec<u8>>, DataFusionError> {
        let inputs = batches.iter().map(|batch| self.input(plan, batch)).collect::<Result<Vec<_>, _>>()?;
        let source = MemorySourceConfig::try_new_exec(&[inputs], plan.schema.clone(), None)?;
        let aggregation: Arc<dyn ExecutionPlan> = Arc::new(AggregateExec::try_new(
            AggregateMode::Partial,
            plan.group_by.clone(),
            plan.functions.clone(),
            plan.filters.clone(),
            source,
            plan.schema.clone(),
        )?);
        let mut states: HashMap<GroupKey, Vec<u8>> = HashMap::new();
        for groups in collect(aggregation, self.context.clone()).await? {
            let versions = groups.column(0).as_string::<i32>();
            let panes = groups.column(1).as_primitive::<Int64Type>();
            let keys = if plan.split.is_some() { 3 } else { 2 };
            for group in 0..groups.num_rows() {
                let segment = plan.split.map_or("", |split| {
                    let place = groups.column(2).as_primitive::<Int32Type>().value(group) as usize;
                    self.segments.segment(Membership::Part { split, value: place }).1
                });
                let key = (versions.value(group).to_string(), panes.value(group), segment.to_string());
                let mut state = plan.query.encode(&groups.columns()[keys..], group)?;
                // A plan may give one group in two pieces.
                match states.remove(&key) {
                    Some(refused) if refused.len() <= 1 => state = refused,
                    Some(other) => state = plan.query.merge(&[other, state])?,
                    None => {}
                }
                if state.len() > MAX_STATE_BYTES {
                    state = given_up(NoValue::StateTooLarge);
                }
                states.insert(key, state);
            }
        }
        Ok(states)
    }

    /// The columns of the query with the keys behind them, of the events that `WHERE` lets through.
    fn input(&self, plan: &SqlPlan, batch: &RecordBatch) -> Result<RecordBatch, DataFusionError> {
        let input = plan.query.input(batch)?;
        let mask = plan.query.mask(&input)?;
        let times = batch.column(0).as_primitive::<TimestampMillisecondType>();
        let panes: Int64Array =
            times.values().iter().map(|time| time.div_euclid(self.pane_ms) * self.pane_ms).collect();
        let mut columns: Vec<ArrayRef> = input.columns().to_vec();
        columns.push(batch.column(self.version_column).clone());
        columns.push(Arc::new(panes));
        if let Some(split) = plan.split {
            columns.push(Arc::new(Int32Array::from(self.segments.places(split, batch))));
        }
        let whole = RecordBatch::try_new(plan.schema.clone(), columns)?;
        Ok(match mask {
            Some(mask) => filter_record_batch(&whole, &mask)?,
            None => whole,
        })
    }
}

impl SqlPlan {
    fn new(query: Arc<SqlQuery>, segments: &SegmentKeys) -> Result<Self, AggregateError> {
        let split = query.segment.as_deref().and_then(|segment| segments.split_named(segment));
        let mut fields: Vec<Arc<Field>> = query.input_schema().fields().iter().cloned().collect();
        let first_key = fields.len();
        let kinds = [DataType::Utf8, DataType::Int64, DataType::Int32];
        let wanted = if split.is_some() { 3 } else { 2 };
        let keys = KEYS.iter().zip(kinds).take(wanted);
        fields.extend(keys.map(|(name, kind)| Arc::new(Field::new(*name, kind, false))));
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let key = |index: usize| -> (Arc<dyn PhysicalExpr>, String) {
            (Arc::new(Column::new(KEYS[index], first_key + index)), KEYS[index].to_string())
        };
        let group_by = Arc::new(PhysicalGroupBy::new_single((0..wanted).map(key).collect()));
        let seen =
            AggregateExprBuilder::new(count_udaf(), vec![key(1).0]).schema(schema.clone()).alias("seen").build()?;
        let mut functions = vec![Arc::new(seen)];
        let mut filters = vec![None];
        for aggregated in query.aggregates() {
            functions.push(aggregated.function.clone());
            filters.push(aggregated.filter.clone());
        }
        Ok(Self { query, split, schema, group_by, functions, filters })
    }
}
