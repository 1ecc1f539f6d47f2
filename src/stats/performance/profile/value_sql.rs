//! The business value of a row as an SQL expression, planned once by DataFusion and evaluated on batches of rows.
//!
//! It may name `label`, `prediction`, `score` and the model's numeric features: those features go along with each
//! prediction until its label comes. Its functions must depend on nothing but their arguments, because what is taken
//! back has to be what was added.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch, RecordBatchOptions, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError, cast::as_float64_array};
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::{ColumnarValue, Expr, ExprSchemable, ScalarUDF, Volatility, cast, create_udf};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::SessionConfig;

use super::layout::PerformanceLayout;
use super::prediction::{Label, Prediction};
use crate::config::model::{Kind, Model};
use crate::config::performance::Task;

type OfOneNumber = fn(f64) -> f64;

/// The functions of one number that expressions may use beside SQL's operators, `CASE`, `coalesce`, `greatest` and the
/// like.
const FUNCTIONS: [(&str, OfOneNumber); 7] = [
    ("abs", f64::abs),
    ("ceil", f64::ceil),
    ("exp", f64::exp),
    ("floor", f64::floor),
    ("ln", f64::ln),
    ("round", f64::round),
    ("sqrt", f64::sqrt),
];

#[derive(Debug, Clone)]
pub struct ValueExpression {
    expression: Arc<dyn PhysicalExpr>,
    schema: SchemaRef,
    columns: Vec<Source>,
    carried: Vec<String>,
}

/// Where a column of the batch comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Label,
    Prediction,
    Score,
    /// Place in [`Prediction::carried`].
    Carried(usize),
}

impl ValueExpression {
    /// The error says what is wrong with the expression, in a sentence.
    pub fn plan(sql: &str, model: &Model, task: Task) -> Result<Self, String> {
        if task == Task::Ranking {
            return Err("a ranked list has no single `label` to compute a value from".into());
        }
        let mut config = SessionConfig::new();
        // Features are called as the model file writes them.
        config.options_mut().sql_parser.enable_ident_normalization = false;
        let session = SessionContext::new_with_config(config);
        functions_of_one_number().for_each(|function| session.register_udf(function));
        let known = DFSchema::try_from(Schema::new(known_fields(model, task))).map_err(plain)?;
        let expression = session.parse_sql_expr(sql, &known).map_err(|error| {
            let error = plain(error);
            match model.features.iter().find(|(name, feature)| feature.kind() != Kind::Numeric && has_word(sql, name)) {
                Some((name, _)) => format!("`{name}` is no numeric feature, and only those are kept for it: {error}"),
                None => error,
            }
        })?;
        refuse_more_than_the_row(&expression)?;
        let names: Vec<String> = expression.column_refs().iter().map(|column| column.name.clone()).collect();
        let is_used = |field: &&Field| names.contains(field.name());
        let fields: Vec<Field> = known_fields(model, task).iter().filter(is_used).cloned().collect();
        let mut carried = Vec::new();
        let columns = fields.iter().map(|field| match field.name().as_str() {
            "label" => Source::Label,
            "prediction" => Source::Prediction,
            "score" => Source::Score,
            feature => {
                carried.push(feature.to_string());
                Source::Carried(carried.len() - 1)
            }
        });
        let columns: Vec<Source> = columns.collect();
        let schema = Arc::new(Schema::new(fields));
        let used = DFSchema::try_from(Schema::clone(&schema)).map_err(plain)?;
        let kind = expression.get_type(&used).map_err(plain)?;
        if !kind.is_numeric() {
            return Err(format!("it gives {kind}, not a number"));
        }
        let expression = session.create_physical_expr(cast(expression, DataType::Float64), &used).map_err(plain)?;
        Ok(Self { expression, schema, columns, carried })
    }

    /// Features that have to go along with a prediction.
    pub fn carried(&self) -> &[String] {
        &self.carried
    }

    /// One number a row, NaN where it gives none.
    pub fn evaluate(&self, layout: &PerformanceLayout, rows: &[(&Prediction, &Label)]) -> Vec<f64> {
        let whole = self.evaluate_batch(layout, rows);
        whole.unwrap_or_else(|_| {
            // One row that cannot be computed (an integer divided by zero) must not cost the others.
            let one = |row| self.evaluate_batch(layout, std::slice::from_ref(row)).ok()?.first().copied();
            rows.iter().map(|row| one(row).unwrap_or(f64::NAN)).collect()
        })
    }

    fn evaluate_batch(
        &self,
        layout: &PerformanceLayout,
        rows: &[(&Prediction, &Label)],
    ) -> Result<Vec<f64>, DataFusionError> {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|source| column(*source, layout, rows)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        let values = self.expression.evaluate(&batch)?.into_array(rows.len())?;
        let values = values.as_primitive::<Float64Type>();
        Ok(values.iter().map(|value| value.unwrap_or(f64::NAN)).collect())
    }
}

/// What an expression may name: classes are 1 and 0 for binary models, else text.
fn known_fields(model: &Model, task: Task) -> Vec<Field> {
    let outcome = if task == Task::Multiclass { DataType::Utf8 } else { DataType::Float64 };
    let mut fields = vec![Field::new("label", outcome.clone(), true), Field::new("prediction", outcome, true)];
    if task == Task::Binary && model.score.is_some() {
        fields.push(Field::new("score", DataType::Float64, true));
    }
    let numeric = model.features.iter().filter(|(_, feature)| feature.kind() == Kind::Numeric);
    let taken: Vec<String> = fields.iter().map(|field| field.name().clone()).collect();
    let free = numeric.filter(|(name, _)| !taken.contains(name));
    fields.extend(free.map(|(name, _)| Field::new(name, DataType::Float64, true)));
    fields
}

fn column(source: Source, layout: &PerformanceLayout, rows: &[(&Prediction, &Label)]) -> ArrayRef {
    let class = |class: Option<u32>| class.map(|class| layout.class_name(class));
    let predicted = |prediction: &Prediction| layout.predicted_class(prediction);
    let given = |number: f64| (!number.is_nan()).then_some(number);
    let is_text = layout.task() == Task::Multiclass;
    let label_class = |label: &Label| match label {
        Label::Class(class) => Some(*class),
        _ => None,
    };
    match source {
        Source::Label if is_text => {
            Arc::new(StringArray::from_iter(rows.iter().map(|(_, label)| class(label_class(label)))))
        }
        Source::Prediction if is_text => {
            Arc::new(StringArray::from_iter(rows.iter().map(|(prediction, _)| class(predicted(prediction)))))
        }
        Source::Label => Arc::new(Float64Array::from_iter(rows.iter().map(|(_, label)| match label {
            Label::Class(class) => Some(f64::from(*class)),
            Label::Number(number) => given(*number),
            Label::Relevance(_) => None,
        }))),
        Source::Prediction => {
            Arc::new(Float64Array::from_iter(rows.iter().map(|(prediction, _)| match layout.task() {
                Task::Binary => predicted(prediction).map(f64::from),
                _ => given(prediction.value),
            })))
        }
        Source::Score => Arc::new(Float64Array::from_iter(rows.iter().map(|(prediction, _)| given(prediction.score)))),
        Source::Carried(at) => {
            let value = |prediction: &Prediction| prediction.carried.get(at).copied().and_then(given);
            Arc::new(Float64Array::from_iter(rows.iter().map(|(prediction, _)| value(prediction))))
        }
    }
}

/// `FUNCTIONS`, for DataFusion.
pub fn functions_of_one_number() -> impl Iterator<Item = ScalarUDF> {
    FUNCTIONS.iter().map(|(name, function)| of_one_number(name, *function))
}

fn of_one_number(name: &str, function: OfOneNumber) -> ScalarUDF {
    let run = move |arguments: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let Some(numbers) = arrays.first() else {
            return datafusion::common::exec_err!("a function of one number is called without any");
        };
        let values: Float64Array = as_float64_array(numbers)?.unary(function);
        Ok(ColumnarValue::Array(Arc::new(values)))
    };
    create_udf(name, vec![DataType::Float64], DataType::Float64, Volatility::Immutable, Arc::new(run))
}

/// Clocks and random numbers would give a row another value when it is taken back, and an aggregate needs more rows than
/// the one.
fn refuse_more_than_the_row(expression: &Expr) -> Result<(), String> {
    let mut refused = None;
    let visited = expression.apply(|part| {
        refused = match part {
            Expr::ScalarFunction(function) if function.func.signature().volatility != Volatility::Immutable => {
                Some(format!("`{}` gives another value each time", function.func.name()))
            }
            Expr::AggregateFunction(function) => Some(format!("`{}` needs more than one row", function.func.name())),
            Expr::WindowFunction(function) => Some(format!("`{}` needs more than one row", function.fun)),
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) => Some("it has a query within".into()),
            _ => None,
        };
        Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    visited.map_err(plain)?;
    refused.map_or(Ok(()), Err)
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.')).any(|part| part == word)
}

/// In one line, without DataFusion's prefixes.
fn plain(error: DataFusionError) -> String {
    let text = error.strip_backtrace();
    let text = text.lines().next().unwrap_or_default();
    let prefixes = ["Schema error: ", "Error during planning: ", "SQL error: ", "Invalid function "];
    prefixes.iter().fold(text.to_string(), |text, prefix| text.strip_prefix(prefix).unwrap_or(&text).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(task: &str) -> Model {
        serde_json::from_value(serde_json::json!({
            "version": 1, "model": "judged", "topics": ["predictions"],
            "features": {"amount": "numeric", "Fee": "numeric", "country": "categorical"},
            "prediction": {"path": "prediction", "type": "categorical"},
            "score": {"path": "score", "type": "numeric"},
            "performance": {"task": task, "label": {"path": "label", "type": "categorical"}},
        }))
        .unwrap()
    }

    fn values(model: &Model, sql: &str, rows: &[(Prediction, Label)]) -> Vec<f64> {
        let mut model = model.clone();
        let performance = model.performance.as_mut().unwrap();
        performance.value = Some(crate::config::performance::Value { sql: Some(sql.into()), ..Default::default() });
        let layout = PerformanceLayout::of(&model, &["a".into(), "b".into()]).unwrap();
        let rows: Vec<(&Prediction, &Label)> = rows.iter().map(|(prediction, label)| (prediction, label)).collect();
        layout.values(&rows)
    }

    #[test]
    fn an_expression_sees_label_prediction_score_and_features() {
        let row = |class, score, amount, label| {
            let carried = vec![amount];
            (Prediction { class: Some(class), score, carried, ..Prediction::default() }, Label::Class(label))
        };
        let rows = [row(1, 0.9, 200.0, 1), row(1, 0.7, 100.0, 0), row(0, 0.2, 50.0, 1), row(0, 0.1, f64::NAN, 0)];
        let sql = "CASE WHEN label = 1 AND prediction = 1 THEN amount WHEN label = 1 THEN -amount \
                   WHEN prediction = 1 THEN -5 ELSE abs(score - 1) END";
        assert_eq!(values(&model("binary"), sql, &rows), [200.0, -5.0, -50.0, 0.9]);
        assert_eq!(values(&model("binary"), "3", &rows), [3.0; 4]);
        // rows without a value, and one that cannot be computed
        let ours = values(&model("binary"), "10 / CAST(amount - 50 AS INT)", &rows);
        assert_eq!((ours[0], ours[1], ours[2].is_nan(), ours[3].is_nan()), (0.0, 0.0, true, true));
    }

    #[test]
    fn classes_are_text_where_there_are_several() {
        let row = |class, label| (Prediction { class: Some(class), ..Prediction::default() }, Label::Class(label));
        let sql = "CASE WHEN label = prediction THEN 1 WHEN label = 'b' THEN -10 ELSE -1 END";
        let ours = values(&model("multiclass"), sql, &[row(0, 0), row(0, 1), row(1, 0), row(1, 2)]);
        assert_eq!(ours, [1.0, -10.0, -1.0, -1.0]);
    }

    #[test]
    fn what_is_wrong_with_an_expression_is_said() {
        for (sql, expected) in [
            ("amount * (", "Expected"),
            ("amuont + 1", "amuont"),
            ("CASE WHEN country = 'IT' THEN 1 END", "`country` is no numeric feature"),
            ("label = 1", "it gives Boolean, not a number"),
            ("avg(amount)", "`avg` needs more than one row"),
            ("extract(year from now())", "another value each time"),
        ] {
            let error = ValueExpression::plan(sql, &model("binary"), Task::Binary).unwrap_err();
            assert!(error.contains(expected), "{sql}: {error}");
        }
        let planned = ValueExpression::plan("Fee + amount", &model("regression"), Task::Regression).unwrap();
        assert_eq!(planned.carried(), ["Fee", "amount"]);
    }
}
