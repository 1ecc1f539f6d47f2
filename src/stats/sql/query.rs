//! A query, planned: what of it runs on the events of a flush, what merges states, what makes the value.
//!
//! DataFusion plans the text as a projection over one aggregation of the filtered table. The parts are taken out of that
//! plan: the filter and the aggregates, which ingest runs in `Partial` mode; the aggregates' accumulators, which merge
//! their states and finish them; and the projection, which makes one number of what they give.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::concat;
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef};
use datafusion::catalog::empty::EmptyTable;
use datafusion::common::{DFSchema, DataFusionError, Result, ScalarValue, TableReference, exec_err};
use datafusion::execution::SessionState;
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::logical_plan::{Aggregate, LogicalPlan};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{
    Accumulator, EmitTo, Expr, ExprSchemable, GroupsAccumulator, Operator, Volatility, cast,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::{AggregateFunctionExpr, LoweredAggregateBuilder};
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::tokenizer::{Location, Span};
use futures::FutureExt;
use sha2::{Digest, Sha256};

use super::check::{self, Checked, Known, SHAPE, SqlProblem};
use super::functions::mergeable;
use super::state::{NoValue, SqlState};
use super::{TABLE, state_name};
use crate::config::model::{Model, PREDICTION_SIGNAL, SCORE_SIGNAL};
use crate::event::{EVENT_TIME, PREDICTION_ID, VERSION, schema};
use crate::stats::performance::profile::functions_of_one_number;

/// Changes with how states are written: those of another format never merge.
const STATE_FORMAT: u32 = 1;

/// One aggregation over the events of a model's window. Equal queries have equal states.
#[derive(Debug)]
pub struct SqlQuery {
    /// Where its state stands among the profiles of features; the same on any replica.
    pub state_name: String,
    /// Name of the segment that it is grouped by, as results name it; `None`: it is of all events.
    pub segment: Option<String>,
    pub warnings: Vec<SqlProblem>,
    /// Its columns, by their place in decoded batches.
    columns: Vec<usize>,
    input_schema: SchemaRef,
    filter: Option<Arc<dyn PhysicalExpr>>,
    aggregates: Vec<Aggregated>,
    /// Events that `WHERE` let through, then the states of the aggregates.
    state_schema: SchemaRef,
    /// What the aggregates give.
    answer_schema: SchemaRef,
    value: Arc<dyn PhysicalExpr>,
}

impl PartialEq for SqlQuery {
    fn eq(&self, other: &Self) -> bool {
        self.state_name == other.state_name && self.columns == other.columns
    }
}

/// One aggregate with its `FILTER`.
#[derive(Debug, Clone)]
pub struct Aggregated {
    pub function: Arc<AggregateFunctionExpr>,
    pub filter: Option<Arc<dyn PhysicalExpr>>,
}

impl SqlQuery {
    /// Everything that is wrong with it, for this model.
    pub fn plan(sql: &str, model: &Model) -> Result<Self, Vec<SqlProblem>> {
        let table = Table::of(model);
        let state = session(&table).map_err(|error| vec![problem(sql, &error)])?;
        let Checked { statement, segment, value_index } = check::read(sql, model, &known(&state, &table))?;
        let canonical = statement.to_string();
        let planned = state.statement_to_plan(Statement::Statement(Box::new(statement))).now_or_never();
        let planned = planned.unwrap_or_else(|| exec_err!("the planner waits for something"));
        let analyzed =
            planned.and_then(|plan| state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {}));
        let plan = analyzed.map_err(|error| vec![problem(sql, &error)])?;
        let wrong_shape = || vec![SqlProblem::new("sql-shape", None, "this is not one aggregation").help(SHAPE)];
        let LogicalPlan::Projection(projection) = &plan else { return Err(wrong_shape()) };
        let LogicalPlan::Aggregate(aggregate) = &*projection.input else { return Err(wrong_shape()) };
        let value = projection.expr.get(value_index).ok_or_else(wrong_shape)?.clone().unalias();
        Lowering { state: &state, table: &table, aggregate }.lower(&canonical, segment, value).map_err(|failed| {
            match failed {
                Failed::Planner(error) => vec![problem(sql, &error)],
                Failed::Query(found) => vec![found],
            }
        })
    }

    /// Columns, without keys.
    pub fn input_schema(&self) -> &SchemaRef {
        &self.input_schema
    }

    pub fn aggregates(&self) -> &[Aggregated] {
        &self.aggregates
    }

    /// Its columns of a decoded batch.
    pub fn input(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let columns = self.columns.iter().map(|column| batch.column(*column).clone()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(self.input_schema.clone(), columns, &options)?)
    }

    /// Which events `WHERE` lets through; `None`: all.
    pub fn mask(&self, input: &RecordBatch) -> Result<Option<BooleanArray>> {
        let Some(filter) = &self.filter else { return Ok(None) };
        Ok(Some(filter.evaluate(input)?.into_array(input.num_rows())?.as_boolean().clone()))
    }

    /// One state of many: `columns` are the count of events and the states of the aggregates.
    pub fn encode(&self, columns: &[ArrayRef], row: usize) -> Result<Vec<u8>> {
        let columns = columns.iter().map(|column| column.slice(row, 1)).collect();
        let batch = RecordBatch::try_new(self.state_schema.clone(), columns)?;
        let mut bytes = Vec::new();
        let mut writer = StreamWriter::try_new(&mut bytes, &self.state_schema)?;
        writer.write(&batch)?;
        writer.finish()?;
        drop(writer);
        Ok(bytes)
    }

    /// States put together into one.
    pub fn merge(&self, parts: &[Vec<u8>]) -> Result<Vec<u8>> {
        let (seen, mergers) = self.accumulate(parts)?;
        let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![seen as i64]))];
        for merger in mergers {
            columns.extend(merger.state()?);
        }
        self.encode(&columns, 0)
    }

    /// Events that `WHERE` let through, and the value, which is finite.
    pub fn value(&self, state: &SqlState) -> (u64, Result<f64, NoValue>) {
        if let Some(reason) = state.given_up {
            return (0, Err(reason));
        }
        let Ok((seen, mergers)) = self.accumulate(&state.parts) else { return (0, Err(NoValue::QueryFailed)) };
        // Of a group without events SQL has no row.
        if seen == 0 && self.segment.is_some() {
            return (0, Err(NoValue::Undefined));
        }
        match self.finish(mergers) {
            Ok(Some(value)) if value.is_finite() => (seen, Ok(value)),
            Ok(_) => (seen, Err(NoValue::Undefined)),
            Err(_) => (seen, Err(NoValue::QueryFailed)),
        }
    }

    fn accumulate(&self, parts: &[Vec<u8>]) -> Result<(u64, Vec<Merger>)> {
        let mut batches = Vec::with_capacity(parts.len());
        for part in parts {
            for batch in StreamReader::try_new(part.as_slice(), None)? {
                let batch = batch?;
                if batch.schema_ref().fields() != self.state_schema.fields() {
                    return exec_err!("the state of another query");
                }
                batches.push(batch);
            }
        }
        let counts = batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec());
        let seen = counts.map(i64::unsigned_abs).sum();
        let mut mergers = Vec::with_capacity(self.aggregates.len());
        let mut next = 1;
        for aggregate in &self.aggregates {
            let width = aggregate.function.state_fields()?.len();
            let column = |at: usize| -> Result<ArrayRef> {
                let parts: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(at).as_ref()).collect();
                Ok(concat(&parts)?)
            };
            mergers.push(match batches.is_empty() {
                true => Merger::One(aggregate.function.create_accumulator()?),
                false => {
                    let states = (next..next + width).map(column).collect::<Result<Vec<_>>>()?;
                    Merger::of(&aggregate.function, &states, batches.len())?
                }
            });
            next += width;
        }
        Ok((seen, mergers))
    }

    fn finish(&self, mergers: Vec<Merger>) -> Result<Option<f64>> {
        let answers = mergers.into_iter().map(Merger::evaluate).collect::<Result<Vec<_>>>()?;
        let batch = RecordBatch::try_new(self.answer_schema.clone(), answers)?;
        let value = self.value.evaluate(&batch)?.into_array(1)?;
        let value = value.as_primitive::<Float64Type>();
        Ok((!value.is_null(0)).then(|| value.value(0)))
    }
}

/// Merges states of one aggregate. Of some functions the accumulators for groups write states that the others cannot
/// read, so states are merged by the kind that wrote them.
enum Merger {
    One(Box<dyn Accumulator>),
    Groups(Box<dyn GroupsAccumulator>),
}

impl Merger {
    /// `states` have `rows` rows.
    fn of(function: &AggregateFunctionExpr, states: &[ArrayRef], rows: usize) -> Result<Self> {
        if !function.groups_accumulator_supported() {
            let mut accumulator = function.create_accumulator()?;
            accumulator.merge_batch(states)?;
            return Ok(Self::One(accumulator));
        }
        let mut accumulator = function.create_groups_accumulator()?;
        accumulator.merge_batch(states, &vec![0; rows], 1)?;
        Ok(Self::Groups(accumulator))
    }

    fn state(self) -> Result<Vec<ArrayRef>> {
        match self {
            Self::One(mut accumulator) => accumulator.state()?.iter().map(ScalarValue::to_array).collect(),
            Self::Groups(mut accumulator) => accumulator.state(EmitTo::All),
        }
    }

    fn evaluate(self) -> Result<ArrayRef> {
        match self {
            Self::One(mut accumulator) => accumulator.evaluate()?.to_array(),
            Self::Groups(mut accumulator) => accumulator.evaluate(EmitTo::All),
        }
    }
}

/// The columns of the table, with their places in decoded batches.
struct Table {
    schema: SchemaRef,
    places: Vec<usize>,
}

impl Table {
    /// `event_time`, `version`, `prediction_id`, features, `prediction` and `score`. A feature that is called like one of
    /// the others is left out.
    fn of(model: &Model) -> Self {
        let decoded = schema(model);
        let mut fields: Vec<Field> = Vec::new();
        let mut places = Vec::new();
        let outputs = [(PREDICTION_SIGNAL, "prediction"), (SCORE_SIGNAL, "score")];
        let standard = [EVENT_TIME, VERSION, PREDICTION_ID].map(|name| (name, name));
        let has_id = model.fields.prediction_id.is_some();
        let standard = standard.into_iter().filter(|(name, _)| has_id || *name != PREDICTION_ID);
        let features = model.features.keys().map(|name| (name.as_str(), name.as_str()));
        for (name, called) in standard.chain(outputs).chain(features) {
            let taken = fields.iter().any(|field| field.name() == called);
            if let Some((place, field)) = decoded.column_with_name(name).filter(|_| !taken) {
                fields.push(field.clone().with_name(called));
                places.push(place);
            }
        }
        Self { schema: Arc::new(Schema::new(fields)), places }
    }
}

fn session(table: &Table) -> Result<SessionState> {
    let mut config = SessionConfig::new().with_information_schema(false);
    let parser = &mut config.options_mut().sql_parser;
    // Features are called as the model file writes them.
    parser.enable_ident_normalization = false;
    parser.collect_spans = true;
    parser.map_string_types_to_utf8view = false;
    let session = SessionContext::new_with_config(config);
    functions_of_one_number().for_each(|function| session.register_udf(function));
    session.register_table(TABLE, Arc::new(EmptyTable::new(table.schema.clone())))?;
    Ok(session.state())
}

fn known(state: &SessionState, table: &Table) -> Known {
    let scalars = state.scalar_functions();
    let is_volatile = |name: &&String| {
        scalars.get(*name).is_some_and(|function| function.signature().volatility != Volatility::Immutable)
    };
    let aggregates = state.aggregate_functions().values();
    let aggregates: HashMap<&str, &[String]> =
        aggregates.map(|function| (function.name(), function.aliases())).collect();
    Known {
        columns: table.schema.fields().iter().map(|field| field.name().clone()).collect(),
        scalars: scalars.keys().cloned().collect(),
        volatile: scalars.keys().filter(is_volatile).cloned().collect(),
        aggregates: aggregates.into_iter().map(|(name, others)| (name.to_string(), others.to_vec())).collect(),
    }
}

/// What the planner says, in one sentence.
fn problem(sql: &str, error: &DataFusionError) -> SqlProblem {
    let span = error.diagnostic().and_then(|diagnostic| diagnostic.span);
    let at = span.and_then(|span| {
        let place = |at: datafusion::common::Location| Location { line: at.line, column: at.column };
        check::bytes(sql, Span { start: place(span.start), end: place(span.end) })
    });
    let said = error.strip_backtrace();
    // The planner puts its own words before, and a list of candidates behind.
    let first = said.lines().next().unwrap_or_default();
    let first = first.split(" You might need to add explicit type casts").next().unwrap_or_default();
    let sentence = first.rsplit("Error during planning: ").next().unwrap_or_default();
    let sentence = sentence.trim_end_matches(['.', ' ']);
    // A function that does not suit its arguments is named in quotes.
    let named = || check::call_of(sql, sentence.split('\'').nth(1)?);
    let at = at.or_else(named);
    let problem = SqlProblem::new("sql", at, format!("it cannot be planned: {}", check::lower_first(sentence)));
    problem.help("numbers are DOUBLE, categories VARCHAR: `CAST(... AS DOUBLE)` makes one of the other")
}

enum Failed {
    Planner(DataFusionError),
    Query(SqlProblem),
}

impl From<DataFusionError> for Failed {
    fn from(error: DataFusionError) -> Self {
        Failed::Planner(error)
    }
}

impl From<datafusion::arrow::error::ArrowError> for Failed {
    fn from(error: datafusion::arrow::error::ArrowError) -> Self {
        Failed::Planner(error.into())
    }
}

struct Lowering<'a> {
    state: &'a SessionState,
    table: &'a Table,
    aggregate: &'a Aggregate,
}

impl Lowering<'_> {
    fn lower(&self, canonical: &str, segment: Option<String>, value: Expr) -> Result<SqlQuery, Failed> {
        let mut predicate = None;
        if let LogicalPlan::Filter(filter) = &*self.aggregate.input {
            predicate = Some(filter.predicate.clone());
        }
        let (columns, input) = self.input(predicate.as_ref())?;
        let input_schema: SchemaRef = input.inner().clone();
        let filter = predicate.map(|predicate| self.state.create_physical_expr(predicate, &input)).transpose()?;
        let answers = self.answers()?;
        let mut aggregates = Vec::new();
        let mut states = vec![Field::new("seen", DataType::Int64, false)];
        for (index, expression) in self.aggregate.aggr_expr.iter().enumerate() {
            let expression = self.mergeable(expression.clone().unalias(), &input)?;
            let (context, properties) = (PhysicalPlanningContext::default(), self.state.execution_props());
            let lowered = LoweredAggregateBuilder::new(&expression, &input, &input_schema, properties, &context)
                .with_name(answers.field(index).name())
                .build()?;
            for field in lowered.aggregate.state_fields()? {
                states.push(Field::new(format!("state {}", states.len()), field.data_type().clone(), true));
            }
            aggregates.push(Aggregated { function: lowered.aggregate, filter: lowered.filter });
        }
        let kind = value.get_type(&answers)?;
        if !kind.is_numeric() && kind != DataType::Boolean {
            let what = if kind.is_string() { "text".to_string() } else { kind.to_string() };
            let message = format!("`value` is {what}: a metric is a number, or true and false");
            return Err(Failed::Query(SqlProblem::new("sql", None, message)));
        }
        let warnings = self.integer_division(&value, &answers)?;
        let value = self.state.create_physical_expr(cast(value, DataType::Float64), &answers)?;
        let state_schema = Arc::new(Schema::new(states));
        let identity = format!("{STATE_FORMAT}\n{canonical}\n{segment:?}\n{state_schema:?}\n{input_schema:?}");
        let digest = Sha256::digest(identity.as_bytes());
        let id: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Ok(SqlQuery {
            state_name: state_name(&id),
            segment,
            warnings,
            columns,
            input_schema,
            filter,
            aggregates,
            state_schema,
            answer_schema: answers.inner().clone(),
            value,
        })
    }

    /// The columns that the query uses: their places in decoded batches, and their fields.
    fn input(&self, predicate: Option<&Expr>) -> Result<(Vec<usize>, DFSchema)> {
        let expressions = self.aggregate.aggr_expr.iter().chain(predicate);
        let used: BTreeSet<String> =
            expressions.flat_map(|expression| expression.column_refs()).map(|column| column.name.clone()).collect();
        let (mut columns, mut fields) = (Vec::new(), Vec::new());
        for (qualifier, field) in self.aggregate.input.schema().iter() {
            let place = self.table.schema.index_of(field.name()).ok().and_then(|index| self.table.places.get(index));
            if let Some(place) = place.filter(|_| used.contains(field.name())) {
                columns.push(*place);
                fields.push((qualifier.cloned(), field.clone()));
            }
        }
        Ok((columns, DFSchema::new_with_metadata(fields, HashMap::new())?))
    }

    /// What the aggregates give, without the columns of `GROUP BY`.
    fn answers(&self) -> Result<DFSchema> {
        let fields = self.aggregate.schema.iter().skip(self.aggregate.group_expr.len());
        let fields = fields.map(|(qualifier, field)| {
            let nullable = Arc::new(field.as_ref().clone().with_nullable(true));
            (qualifier.cloned(), nullable)
        });
        let fields: Vec<(Option<TableReference>, Arc<Field>)> = fields.collect();
        DFSchema::new_with_metadata(fields, HashMap::new())
    }

    fn mergeable(&self, expression: Expr, input: &DFSchema) -> Result<Expr, Failed> {
        let Expr::AggregateFunction(function) = expression else {
            return Err(Failed::Query(SqlProblem::new("sql-shape", None, "this is not one aggregation").help(SHAPE)));
        };
        let types = function.params.args.iter().map(|argument| argument.get_type(input));
        let types = types.collect::<Result<Vec<_>>>()?;
        let replaced: AggregateFunction = mergeable(&function, &types)
            .map_err(|message| Failed::Query(SqlProblem::new("sql-order", None, message)))?;
        Ok(Expr::AggregateFunction(replaced))
    }

    /// `count(a) / count(b)` drops the fraction, which nobody wants.
    fn integer_division(&self, value: &Expr, answers: &DFSchema) -> Result<Vec<SqlProblem>> {
        use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
        let mut drops = false;
        value.apply(|part| {
            if let Expr::BinaryExpr(binary) = part
                && binary.op == Operator::Divide
            {
                drops |= binary.left.get_type(answers)?.is_integer() && binary.right.get_type(answers)?.is_integer();
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        if !drops {
            return Ok(Vec::new());
        }
        let message = "a whole number is divided by a whole number: the fraction is dropped";
        let help = "write `CAST(... AS DOUBLE)` around one of them";
        Ok(vec![SqlProblem { is_warning: true, ..SqlProblem::new("sql-integer-division", None, message).help(help) }])
    }
}
