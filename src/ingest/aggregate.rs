//! The plan of ingest: events of one model to profiles, a DataFusion aggregation in `Partial` mode.
//!
//! Rows are grouped once, by version, the values of all segment columns together, and pane; the whole and each
//! segment column's values are then rolled up from those states, which merge exactly. So a segment column costs
//! a merge per group, not a pass per column. Values that are not kept apart are one value before rows are grouped:
//! a column of a million values makes no more groups than one of `max_segments`.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch};
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

use crate::config::model::{Kind, Model, Signal};
use crate::event::{EVENT_TIME, PREDICTION_ID};
use crate::reference::Reference;
use crate::stats::aggregate::profile_function;
use crate::stats::layout::Layout;
use crate::stats::profile::{FeatureReference, Profile};

use super::partial::PartialRow;
use super::segments::{KeyColumn, Membership, SegmentKeys};

const PANE_COLUMN: &str = "pane_start_ms";
#[derive(Debug, thiserror::Error)]
pub enum AggregateError {
    #[error("model {model}: {message}")]
    Plan { model: String, message: String },
    #[error("aggregation failed: {0}")]
    Run(#[from] DataFusionError),
    #[error("aggregation failed: {0}")]
    Arrow(#[from] datafusion::arrow::error::ArrowError),
    #[error("aggregation of `{feature}` failed: {message}")]
    Profile { feature: String, message: String },
}

/// A planned aggregation: built once, run at every flush.
pub struct ModelPlan {
    model: String,
    reference: Arc<Reference>,
    pane_ms: i64,
    input_schema: SchemaRef,
    group_by: Arc<PhysicalGroupBy>,
    aggregates: Vec<Arc<AggregateFunctionExpr>>,
    /// In the order of `aggregates`, after the row count.
    features: Vec<String>,
    segments: SegmentKeys,
    context: Arc<TaskContext>,
}

/// Version, pane start, segment.
type RolledKey = (String, i64, Membership);

impl ModelPlan {
    /// `schema` is that of the model's decoded batches.
    pub fn new(
        model: &Model,
        reference: Arc<Reference>,
        schema: &Schema,
        pane_ms: i64,
    ) -> Result<Self, AggregateError> {
        let failed = |message: String| AggregateError::Plan { model: model.model.clone(), message };
        let segments = SegmentKeys::new(model, &reference, schema).map_err(&failed)?;
        let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
        for key in segments.key_columns() {
            fields.push(Arc::new(Field::new(key.key(), DataType::Int32, false)));
        }
        fields.push(Arc::new(Field::new(PANE_COLUMN, DataType::Int64, false)));
        let input_schema: SchemaRef = Arc::new(Schema::new(fields));
        let column = |name: &str| -> Result<Arc<dyn PhysicalExpr>, AggregateError> {
            let index = input_schema.index_of(name).map_err(|_| failed(format!("no column `{name}`")))?;
            Ok(Arc::new(Column::new(name, index)))
        };
        let mut keys = vec![(column("version")?, "version".to_string())];
        // Added to the batch's own columns, in this order; a feature may have the same name.
        let added = segments.key_columns().iter().map(KeyColumn::key).chain([PANE_COLUMN.to_string()]);
        for (index, name) in (schema.fields().len()..).zip(added) {
            keys.push((Arc::new(Column::new(&name, index)), name));
        }

        let aggregate = |udaf, arguments, alias: &str| -> Result<Arc<AggregateFunctionExpr>, AggregateError> {
            let builder = AggregateExprBuilder::new(udaf, arguments).schema(input_schema.clone()).alias(alias);
            Ok(Arc::new(builder.build()?))
        };
        let mut aggregates = vec![aggregate(count_udaf(), vec![column(PANE_COLUMN)?], "rows")?];
        let mut features = Vec::new();
        for signal in model.watched_signals() {
            let feature = reference.features.get(&signal.name).ok_or_else(|| {
                failed(format!(
                    "reference `{}` ({}) has no feature `{}`; build it again: driftline reference build",
                    reference.name, reference.id, signal.name
                ))
            })?;
            check_range(&signal, feature, &reference).map_err(&failed)?;
            check_vector(&signal, feature, &reference).map_err(&failed)?;
            let alias = format!("profile {}", signal.name);
            let mut names: Vec<&str> = match signal.members.as_slice() {
                [] => vec![&signal.name],
                members => members.iter().map(String::as_str).collect(),
            };
            if signal.kind == Kind::Vector {
                // Who the event is decides who is sampled.
                names.extend([EVENT_TIME, PREDICTION_ID]);
            }
            let arguments = names.into_iter().map(column).collect::<Result<Vec<_>, _>>()?;
            aggregates.push(aggregate(profile_function(&feature.layout), arguments, &alias)?);
            features.push(signal.name);
        }
        Ok(Self {
            model: model.model.clone(),
            reference,
            pane_ms,
            input_schema,
            group_by: Arc::new(PhysicalGroupBy::new_single(keys)),
            aggregates,
            features,
            segments,
            context: Arc::new(TaskContext::default()),
        })
    }

    /// Aggregates decoded batches into rows of the long schema: the whole, then each segment.
    pub async fn run(&self, batches: &[RecordBatch]) -> Result<Vec<PartialRow>, AggregateError> {
        let batches = batches.iter().map(|batch| self.with_keys(batch)).collect::<Result<Vec<_>, _>>()?;
        let source = MemorySourceConfig::try_new_exec(&[batches], self.input_schema.clone(), None)?;
        let filters = vec![None; self.aggregates.len()];
        let plan: Arc<dyn ExecutionPlan> = Arc::new(AggregateExec::try_new(
            AggregateMode::Partial,
            self.group_by.clone(),
            self.aggregates.clone(),
            filters,
            source,
            self.input_schema.clone(),
        )?);
        let groups = collect(plan, self.context.clone()).await?;
        if self.segments.is_whole() { self.unpivot(&groups) } else { self.roll_up(&groups) }
    }

    /// The batch with a column for each key that it does not hold itself: the index of the segment, and the pane.
    fn with_keys(&self, batch: &RecordBatch) -> Result<RecordBatch, AggregateError> {
        let times = batch.column(0).as_primitive::<TimestampMillisecondType>();
        let panes: Int64Array =
            times.values().iter().map(|time| time.div_euclid(self.pane_ms) * self.pane_ms).collect();
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        for key in self.segments.key_columns() {
            columns.push(Arc::new(key.codes(batch).collect::<Int32Array>()));
        }
        columns.push(Arc::new(panes));
        Ok(RecordBatch::try_new(self.input_schema.clone(), columns)?)
    }

    fn row(&self, version: &str, segment: (&str, &str), pane_start_ms: i64, rows: u64) -> PartialRow {
        PartialRow {
            model: self.model.clone(),
            version: version.to_string(),
            segment_column: segment.0.to_string(),
            segment_value: segment.1.to_string(),
            reference_id: self.reference.id.clone(),
            pane_start_ms,
            pane_ms: self.pane_ms,
            feature: String::new(),
            rows,
            state: Vec::new(),
        }
    }

    /// Without segments the states of the plan are the rows, untouched.
    fn unpivot(&self, groups: &[RecordBatch]) -> Result<Vec<PartialRow>, AggregateError> {
        let mut rows = Vec::new();
        for batch in groups {
            let versions = batch.column(0).as_string::<i32>();
            let panes = batch.column(1).as_primitive::<Int64Type>();
            let counts = batch.column(2).as_primitive::<Int64Type>();
            for group in 0..batch.num_rows() {
                let total =
                    self.row(versions.value(group), ("", ""), panes.value(group), counts.value(group).unsigned_abs());
                for (index, feature) in self.features.iter().enumerate() {
                    let state = batch.column(3 + index).as_binary::<i32>().value(group).to_vec();
                    rows.push(PartialRow { feature: feature.clone(), state, ..total.clone() });
                }
                rows.push(total);
            }
        }
        Ok(rows)
    }

    fn roll_up(&self, groups: &[RecordBatch]) -> Result<Vec<PartialRow>, AggregateError> {
        let mut rolled: BTreeMap<RolledKey, (u64, Vec<Profile>)> = BTreeMap::new();
        let keys = self.segments.key_columns().len();
        let state_column = 1 + keys + 2;
        for batch in groups {
            let versions = batch.column(0).as_string::<i32>();
            let panes = batch.column(1 + keys).as_primitive::<Int64Type>();
            let counts = batch.column(2 + keys).as_primitive::<Int64Type>();
            for group in 0..batch.num_rows() {
                let mut profiles = Vec::with_capacity(self.features.len());
                for (index, feature) in self.features.iter().enumerate() {
                    let state = batch.column(state_column + index).as_binary::<i32>().value(group);
                    profiles.push(self.decode(feature, state)?);
                }
                for membership in self.segments.memberships(&self.codes(batch, group)) {
                    let key = (versions.value(group).to_string(), panes.value(group), membership);
                    let rows = counts.value(group).unsigned_abs();
                    match rolled.get_mut(&key) {
                        None => {
                            rolled.insert(key, (rows, profiles.clone()));
                        }
                        Some((total, merged)) => {
                            *total += rows;
                            for ((profile, other), feature) in merged.iter_mut().zip(&profiles).zip(&self.features) {
                                profile.merge(other).map_err(|error| self.profile_error(feature, &error))?;
                            }
                        }
                    }
                }
            }
        }
        let mut rows = Vec::with_capacity(rolled.len() * (self.features.len() + 1));
        for ((version, pane_start_ms, membership), (count, profiles)) in rolled {
            let total = self.row(&version, self.segments.segment(membership), pane_start_ms, count);
            for (feature, profile) in self.features.iter().zip(&profiles) {
                rows.push(PartialRow { feature: feature.clone(), state: profile.encode(), ..total.clone() });
            }
            rows.push(total);
        }
        Ok(rows)
    }

    fn codes(&self, batch: &RecordBatch, group: usize) -> Vec<i32> {
        let keys = 0..self.segments.key_columns().len();
        keys.map(|key| batch.column(1 + key).as_primitive::<Int32Type>().value(group)).collect()
    }

    fn decode(&self, feature: &str, state: &[u8]) -> Result<Profile, AggregateError> {
        let layout = self.reference.features.get(feature).map(|feature| &feature.layout).ok_or_else(|| {
            AggregateError::Profile { feature: feature.to_string(), message: "not in the reference".to_string() }
        })?;
        Profile::decode(state, layout).map_err(|error| self.profile_error(feature, &error))
    }

    fn profile_error(&self, feature: &str, error: &dyn std::fmt::Display) -> AggregateError {
        AggregateError::Profile { feature: feature.to_string(), message: error.to_string() }
    }
}

/// Counts outside of a range are exact only where the reference was built with it.
fn check_range(signal: &Signal, feature: &FeatureReference, reference: &Reference) -> Result<(), String> {
    let Layout::Numeric(layout) = &feature.layout else { return Ok(()) };
    let built_with = layout.range().filter(|range| range.configured).map(|range| (range.min, range.max));
    if built_with == signal.range {
        return Ok(());
    }
    let words = |range: Option<(f64, f64)>| match range {
        Some((min, max)) => format!("the range [{min}, {max}]"),
        None => "no range".to_string(),
    };
    Err(format!(
        "`{}` has {} in the model file, but reference `{}` ({}) was built with {}; build it again: driftline \
         reference build",
        signal.name,
        words(signal.range),
        reference.name,
        reference.id,
        words(built_with)
    ))
}

/// A vector of another dimension, or a joint signal of other features, is another signal.
fn check_vector(signal: &Signal, feature: &FeatureReference, reference: &Reference) -> Result<(), String> {
    let of_reference = match &feature.layout {
        Layout::Vector(layout) => (layout.dimension(), layout.parts().names.as_slice()),
        Layout::Numeric(_) | Layout::Categorical(_) => (0, Default::default()),
    };
    if of_reference == (signal.dimension, signal.members.as_slice()) {
        return Ok(());
    }
    let words = |(dimension, members): (usize, &[String])| match (dimension, members) {
        (0, _) => "no vector".to_string(),
        (_, []) => format!("a vector of {dimension}"),
        (_, members) => format!("put together from {}", members.join(", ")),
    };
    Err(format!(
        "`{}` is {} in the model file, but {} in reference `{}` ({}); build it again: driftline reference build",
        signal.name,
        words((signal.dimension, &signal.members)),
        words(of_reference),
        reference.name,
        reference.id
    ))
}
