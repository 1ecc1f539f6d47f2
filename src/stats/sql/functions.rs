//! Which functions a query may use, and the aggregates that stand in for DataFusion's own.
//!
//! A window's value must not depend on where the stream was cut into flushes: a replay would give another one. Counts,
//! extremes and sets merge to the same whatever the split. Sums of doubles and what is made of them do not, nor does
//! t-digest; for these stand `Moments` and `Quantiles`, with one state column of their bytes. What depends on the
//! order of events altogether (`first_value`, `array_agg`) is not allowed.

use std::hash::Hash;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_datafusion_err, exec_err};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Expr, Signature, Volatility};

use super::moments::{Moments, Order};
use super::quantiles::Quantiles;

/// DataFusion's names of the aggregates that merge to the same value whatever the split, as they are.
const MERGE_AS_THEY_ARE: [&str; 11] = [
    "approx_distinct",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "count",
    "max",
    "median",
    "min",
    "percentile_cont",
];

/// DataFusion's names of the aggregates that others stand in for.
const REPLACED: [&str; 11] = [
    "approx_median",
    "approx_percentile_cont",
    "avg",
    "corr",
    "covar_pop",
    "covar_samp",
    "stddev",
    "stddev_pop",
    "sum",
    "var",
    "var_pop",
];

/// Aggregates that take `DISTINCT`: sets of values merge, sums over sets add up in no known order.
const OF_DISTINCT: [&str; 3] = ["count", "max", "min"];

/// Whether a query may use the aggregate of this name.
pub fn is_allowed(aggregate: &str) -> bool {
    allowed().any(|name| name == aggregate)
}

/// Names of every aggregate that a query may use.
pub fn allowed() -> impl Iterator<Item = &'static str> + Clone {
    MERGE_AS_THEY_ARE.into_iter().chain(REPLACED)
}

pub fn takes_distinct(aggregate: &str) -> bool {
    OF_DISTINCT.contains(&aggregate)
}

/// Whether the order within a group says which column a quantile is of.
pub fn takes_within_group(aggregate: &str) -> bool {
    matches!(aggregate, "percentile_cont" | "approx_percentile_cont")
}

/// What computes `function` to the same bits on any split. `types` are those of its arguments. The error is a sentence.
pub fn mergeable(function: &AggregateFunction, types: &[DataType]) -> Result<AggregateFunction, String> {
    let name = function.func.name();
    let of_doubles = types.first() == Some(&DataType::Float64);
    let kind = match name {
        "sum" if of_doubles => Kind::Sum,
        "avg" if of_doubles => Kind::Mean,
        "var" => Kind::Variance { sample: true, root: false },
        "var_pop" => Kind::Variance { sample: false, root: false },
        "stddev" => Kind::Variance { sample: true, root: true },
        "stddev_pop" => Kind::Variance { sample: false, root: true },
        "covar_samp" => Kind::Covariance { sample: true },
        "covar_pop" => Kind::Covariance { sample: false },
        "corr" => Kind::Correlation,
        "approx_median" | "approx_percentile_cont" if !of_doubles => {
            return Err(format!("`{name}` is of doubles here: write `CAST(... AS DOUBLE)`"));
        }
        "approx_median" => Kind::Quantile { per_million: 500_000 },
        "approx_percentile_cont" => Kind::Quantile { per_million: per_million(function)? },
        _ if is_allowed(name) => return Ok(function.clone()),
        _ => return Err(format!("`{name}` depends on how the events are split and put together")),
    };
    let mut replaced = function.clone();
    replaced.func = Arc::new(AggregateUDF::from(Mergeable::new(kind, name)));
    replaced.params.args.truncate(kind.columns());
    replaced.params.order_by = Vec::new();
    Ok(replaced)
}

/// The share of a quantile, which must be a number.
fn per_million(function: &AggregateFunction) -> Result<u32, String> {
    let argument = match function.params.args.get(1) {
        Some(Expr::Cast(written)) => Some(&*written.expr),
        other => other,
    };
    let share = match argument {
        Some(Expr::Literal(value, _)) => value.cast_to(&DataType::Float64).ok(),
        _ => None,
    };
    let share = match share {
        Some(ScalarValue::Float64(Some(share))) => share,
        _ => return Err("the share of `approx_percentile_cont` is a plain number, such as 0.95".into()),
    };
    let descending = function.params.order_by.first().is_some_and(|sort| !sort.asc);
    let share = if descending { 1.0 - share } else { share };
    match (0.0..=1.0).contains(&share) {
        true => Ok((share * 1e6).round() as u32),
        false => Err(format!("the share of `approx_percentile_cont` is from 0 to 1, not {share}")),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Sum,
    Mean,
    Variance { sample: bool, root: bool },
    Covariance { sample: bool },
    Correlation,
    Quantile { per_million: u32 },
}

impl Kind {
    /// How many columns it is of.
    fn columns(self) -> usize {
        if matches!(self, Kind::Covariance { .. } | Kind::Correlation) { 2 } else { 1 }
    }

    fn order(self) -> Order {
        match self {
            Kind::Sum | Kind::Mean | Kind::Quantile { .. } => Order::Sums,
            Kind::Variance { .. } => Order::Squares,
            Kind::Covariance { .. } | Kind::Correlation => Order::Products,
        }
    }
}

/// One of the aggregates that stand in for DataFusion's: doubles in, a double out, null without values.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Mergeable {
    kind: Kind,
    name: String,
    signature: Signature,
}

impl Mergeable {
    fn new(kind: Kind, name: &str) -> Self {
        let types = vec![DataType::Float64; kind.columns()];
        Self { kind, name: name.to_string(), signature: Signature::exact(types, Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for Mergeable {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "sums"), DataType::Binary, false))])
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return exec_err!("{} of distinct values depends on their order", self.name);
        }
        Ok(match self.kind {
            Kind::Quantile { per_million } => {
                Box::new(OfQuantiles { share: f64::from(per_million) / 1e6, sketch: Quantiles::default() })
            }
            kind => Box::new(OfMoments { kind, moments: Moments::default() }),
        })
    }
}

#[derive(Debug)]
struct OfMoments {
    kind: Kind,
    moments: Moments,
}

impl Accumulator for OfMoments {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let order = self.kind.order();
        match values {
            [only] => {
                for value in doubles(only)?.iter().flatten() {
                    self.moments.add(order, value, value);
                }
            }
            [left, right] => {
                for (x, y) in doubles(left)?.iter().zip(doubles(right)?) {
                    if let Some((x, y)) = x.zip(y) {
                        self.moments.add(order, x, y);
                    }
                }
            }
            _ => return exec_err!("an aggregate of one or two columns is given {}", values.len()),
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let value = match self.kind {
            Kind::Sum => self.moments.sum(),
            Kind::Mean => self.moments.mean(),
            Kind::Variance { sample, root } => {
                self.moments.variance(sample).map(|variance| if root { variance.sqrt() } else { variance })
            }
            Kind::Covariance { sample } => self.moments.covariance(sample),
            Kind::Correlation => self.moments.correlation(),
            Kind::Quantile { .. } => None,
        };
        Ok(ScalarValue::Float64(value))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Binary(Some(self.moments.encode()))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for state in encoded(states)? {
            let other = Moments::decode(state).ok_or_else(damaged)?;
            self.moments.merge(&other);
        }
        Ok(())
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.moments.allocated_bytes()
    }
}

#[derive(Debug)]
struct OfQuantiles {
    share: f64,
    sketch: Quantiles,
}

impl Accumulator for OfQuantiles {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let Some(values) = values.first() else { return exec_err!("a quantile is of one column") };
        doubles(values)?.iter().flatten().for_each(|value| self.sketch.add(value));
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.sketch.quantile(self.share)))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Binary(Some(self.sketch.encode()))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for state in encoded(states)? {
            let other = Quantiles::decode(state).ok_or_else(damaged)?;
            self.sketch.merge(&other);
        }
        Ok(())
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.sketch.allocated_bytes()
    }
}

fn doubles(values: &ArrayRef) -> Result<&datafusion::arrow::array::Float64Array> {
    let found = values.data_type();
    values.as_primitive_opt::<Float64Type>().ok_or_else(|| exec_datafusion_err!("doubles are needed, not {found}"))
}

fn encoded(states: &[ArrayRef]) -> Result<Vec<&[u8]>> {
    let Some(column) = states.first().and_then(|states| states.as_binary_opt::<i32>()) else { return Err(damaged()) };
    Ok(column.iter().flatten().collect())
}

fn damaged() -> DataFusionError {
    exec_datafusion_err!("the state of an aggregate is damaged")
}
