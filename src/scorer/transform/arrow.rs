//! Raw features of Arrow batches: training data, and files to be scored.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit};

use crate::config::transform::RawKind;

use super::tensors::{time_of_number, time_of_text};
use super::{RawColumn, RawInput, TransformError};

/// The raw columns of a batch, in the order of `inputs`.
///
/// # Errors
/// A column is missing, or has a type that the raw feature cannot be read from.
pub fn raw_columns(inputs: &[RawInput], batch: &RecordBatch) -> Result<Vec<RawColumn>, TransformError> {
    inputs.iter().map(|input| column(input, batch)).collect()
}

fn column(input: &RawInput, batch: &RecordBatch) -> Result<RawColumn, TransformError> {
    let Some(array) = batch.column_by_name(&input.name) else {
        let schema = batch.schema();
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).take(50).collect();
        return Err(input.column_error(format!("there is no such column; the columns are: {}", names.join(", "))));
    };
    let array = match array.data_type() {
        DataType::Dictionary(_, values) => cast_to(input, array, values)?,
        _ => Arc::clone(array),
    };
    let kind = array.data_type();
    let is_text = matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let is_number = kind.is_numeric() && !matches!(kind, DataType::Decimal128(..) | DataType::Decimal256(..));
    match input.kind {
        RawKind::Number | RawKind::Boolean if is_number || matches!(kind, DataType::Boolean | DataType::Null) => {
            Ok(RawColumn::Number(numbers(input, &array)?))
        }
        RawKind::Text if is_text || kind.is_integer() || *kind == DataType::Null => {
            let texts = texts(input, &array)?;
            Ok(RawColumn::Text(texts.into_iter().map(|text| input.text(&text?)).collect()))
        }
        RawKind::Time if is_text => {
            let texts = texts(input, &array)?;
            Ok(RawColumn::Time(texts.into_iter().map(|text| time_of_text(&text?)).collect()))
        }
        RawKind::Time if is_number || *kind == DataType::Null => {
            Ok(RawColumn::Time(numbers(input, &array)?.into_iter().map(time_of_number).collect()))
        }
        RawKind::Time if matches!(kind, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64) => {
            times(input, &array)
        }
        wanted => Err(input.column_error(format!("the column is {kind}, which is no {wanted:?}").to_lowercase())),
    }
}

fn cast_to(input: &RawInput, array: &ArrayRef, kind: &DataType) -> Result<ArrayRef, TransformError> {
    cast(array, kind).map_err(|error| input.column_error(error.to_string()))
}

fn numbers(input: &RawInput, array: &ArrayRef) -> Result<Vec<f64>, TransformError> {
    let floats = cast_to(input, array, &DataType::Float64)?;
    Ok(floats.as_primitive::<Float64Type>().iter().map(|value| value.unwrap_or(f64::NAN)).collect())
}

fn texts(input: &RawInput, array: &ArrayRef) -> Result<Vec<Option<String>>, TransformError> {
    let texts = cast_to(input, array, &DataType::Utf8)?;
    Ok(texts.as_string::<i32>().iter().map(|text| text.map(str::to_string)).collect())
}

fn times(input: &RawInput, array: &ArrayRef) -> Result<RawColumn, TransformError> {
    // Rounded down, as a text's fraction is; Arrow's own cast rounds towards 1970.
    let per_ms = match array.data_type() {
        DataType::Timestamp(TimeUnit::Nanosecond, _) => 1_000_000,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
        _ => 1,
    };
    let to_ms = match array.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => 1_000,
        DataType::Date32 => 86_400_000,
        _ => 1,
    };
    let whole = match array.data_type() {
        DataType::Date32 => cast_to(input, &cast_to(input, array, &DataType::Int32)?, &DataType::Int64)?,
        _ => cast_to(input, array, &DataType::Int64)?,
    };
    let ms = |value: i64| value.div_euclid(per_ms).checked_mul(to_ms);
    Ok(RawColumn::Time(whole.as_primitive::<Int64Type>().iter().map(|value| value.and_then(ms)).collect()))
}
