//! Columns of reference data as numbers, categories and vectors.

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};

/// A column that is not what the model says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnProblem {
    /// The column holds values of another type; what would do.
    Type { found: String, wanted: &'static str },
    /// An infinite value; row of this array, from 0.
    Infinite { row: usize },
    /// A list of another length than the vector has; row of this array, from 0.
    Length { row: usize, found: usize, wanted: usize },
}

/// Any numeric type as doubles; null and NaN are `None`.
pub fn numbers(array: &ArrayRef) -> Result<Vec<Option<f64>>, ColumnProblem> {
    let wrong_type = || ColumnProblem::Type {
        found: array.data_type().to_string(),
        wanted: "numbers; declare the feature `categorical` or convert the column",
    };
    let array = plain(array).ok_or_else(wrong_type)?;
    if !(array.data_type().is_numeric() || array.data_type() == &DataType::Null) {
        return Err(wrong_type());
    }
    let doubles = cast(&array, &DataType::Float64).map_err(|_| wrong_type())?;
    let doubles = doubles.as_primitive::<Float64Type>();
    if let Some(row) = doubles.iter().position(|value| value.is_some_and(f64::is_infinite)) {
        return Err(ColumnProblem::Infinite { row });
    }
    Ok(doubles.iter().map(|value| value.filter(|value| !value.is_nan())).collect())
}

/// Text, booleans, integers and doubles as categories; null and NaN are `None`. The form is that of Python's `str`:
/// `True`, `7`, `1.0`.
pub fn categories(array: &ArrayRef) -> Result<Vec<Option<String>>, ColumnProblem> {
    let wrong_type =
        || ColumnProblem::Type { found: array.data_type().to_string(), wanted: "text, booleans, integers or doubles" };
    let array = plain(array).ok_or_else(wrong_type)?;
    match array.data_type() {
        DataType::Boolean => Ok(array.as_boolean().iter().map(|value| value.map(|v| of_bool(v).to_string())).collect()),
        DataType::Float16 | DataType::Float64 => {
            let doubles = cast(&array, &DataType::Float64).map_err(|_| wrong_type())?;
            let doubles = doubles.as_primitive::<Float64Type>();
            Ok(doubles.iter().map(|value| value.filter(|v| !v.is_nan()).map(of_double)).collect())
        }
        DataType::Float32 => {
            // The shortest digits that name the single, as Python prints it, not those of the double it widens to.
            let singles = array.as_primitive::<datafusion::arrow::datatypes::Float32Type>();
            let widened = |value: f32| format!("{value:e}").parse().unwrap_or_else(|_| f64::from(value));
            Ok(singles.iter().map(|value| value.filter(|v| !v.is_nan()).map(|v| of_double(widened(v)))).collect())
        }
        of_text if of_text.is_integer() || of_text.is_string() || of_text == &DataType::Null => {
            let text = cast(&array, &DataType::Utf8).map_err(|_| wrong_type())?;
            Ok(text.as_string::<i32>().iter().map(|value| value.map(str::to_string)).collect())
        }
        _ => Err(wrong_type()),
    }
}

/// Lists of `dimension` numbers of any type as doubles; a missing list is `None`, a missing or NaN entry NaN.
pub fn vectors(array: &ArrayRef, dimension: usize) -> Result<Vec<Option<Vec<f64>>>, ColumnProblem> {
    let wrong_type = || ColumnProblem::Type {
        found: array.data_type().to_string(),
        wanted: "lists of numbers (Parquet lists, JSONL arrays; CSV has none)",
    };
    let lists: Vec<Option<ArrayRef>> = match array.data_type() {
        DataType::Null => return Ok(vec![None; array.len()]),
        DataType::List(_) => array.as_list::<i32>().iter().collect(),
        DataType::LargeList(_) => array.as_list::<i64>().iter().collect(),
        DataType::FixedSizeList(_, _) => array.as_fixed_size_list().iter().collect(),
        _ => return Err(wrong_type()),
    };
    let mut vectors = Vec::with_capacity(lists.len());
    for (row, list) in lists.into_iter().enumerate() {
        let Some(list) = list else {
            vectors.push(None);
            continue;
        };
        let entries = numbers(&list).map_err(|problem| match problem {
            ColumnProblem::Infinite { .. } => ColumnProblem::Infinite { row },
            _ => wrong_type(),
        })?;
        if entries.len() != dimension {
            return Err(ColumnProblem::Length { row, found: entries.len(), wanted: dimension });
        }
        vectors.push(Some(entries.into_iter().map(|entry| entry.unwrap_or(f64::NAN)).collect()));
    }
    Ok(vectors)
}

/// Lists of numbers of any type and length as doubles; a missing list is `None`, a missing or NaN entry NaN.
pub fn lists(array: &ArrayRef) -> Result<Vec<Option<Vec<f64>>>, ColumnProblem> {
    let entries = |list: ArrayRef| -> Result<Vec<f64>, ColumnProblem> {
        Ok(numbers(&list)?.into_iter().map(|entry| entry.unwrap_or(f64::NAN)).collect())
    };
    let lists: Vec<Option<ArrayRef>> = match array.data_type() {
        DataType::Null => return Ok(vec![None; array.len()]),
        DataType::List(_) => array.as_list::<i32>().iter().collect(),
        DataType::LargeList(_) => array.as_list::<i64>().iter().collect(),
        DataType::FixedSizeList(_, _) => array.as_fixed_size_list().iter().collect(),
        other => {
            let wanted = "lists of numbers (Parquet lists, JSONL arrays; CSV has none)";
            return Err(ColumnProblem::Type { found: other.to_string(), wanted });
        }
    };
    lists.into_iter().map(|list| list.map(entries).transpose()).collect()
}

/// Dictionaries unpacked.
fn plain(array: &ArrayRef) -> Option<ArrayRef> {
    match array.data_type() {
        DataType::Dictionary(_, values) => cast(array, values).ok(),
        _ => Some(array.clone()),
    }
}

fn of_bool(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}

/// A double as Python's `str` writes it: shortest digits that read back, `1.0`, `1e+16`, `1e-05`, `inf`.
fn of_double(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let magnitude = value.abs();
    if magnitude == 0.0 || (1e-4..1e16).contains(&magnitude) {
        let digits = format!("{value}");
        return if digits.contains('.') { digits } else { format!("{digits}.0") };
    }
    let scientific = format!("{value:e}");
    match scientific.split_once('e').map(|(mantissa, exponent)| (mantissa, exponent.parse::<i32>())) {
        Some((mantissa, Ok(exponent))) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{mantissa}e{sign}{:02}", exponent.abs())
        }
        _ => scientific,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use datafusion::arrow::array::{
        BooleanArray, DictionaryArray, Float32Array, Float64Array, Int64Array, StringArray, UInt8Array,
    };
    use datafusion::arrow::datatypes::Int32Type;

    #[test]
    fn doubles_read_as_python_writes_them() {
        for (value, python) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (-2.5, "-2.5"),
            (1e16, "1e+16"),
            (9999999999999998.0, "9999999999999998.0"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-0.0, "-0.0"),
            (123456789.0, "123456789.0"),
        ] {
            assert_eq!(of_double(value), python);
        }
    }

    #[test]
    fn categories_have_the_string_form_of_the_event_values() {
        let text = |array: ArrayRef| categories(&array).unwrap().into_iter().flatten().collect::<Vec<_>>();
        assert_eq!(text(Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))), ["True", "False"]);
        assert_eq!(text(Arc::new(Int64Array::from(vec![-7, 12]))), ["-7", "12"]);
        assert_eq!(text(Arc::new(Float64Array::from(vec![1.0, f64::NAN]))), ["1.0"]);
        assert_eq!(text(Arc::new(Float32Array::from(vec![0.1]))), ["0.1"]);
        assert_eq!(text(Arc::new(StringArray::from(vec!["", "é"]))), ["", "é"]);
        let dictionary: DictionaryArray<Int32Type> = vec!["b", "a", "b"].into_iter().collect();
        assert_eq!(text(Arc::new(dictionary)), ["b", "a", "b"]);
    }

    #[test]
    fn numbers_of_any_type_are_doubles_and_text_is_refused() {
        let of = |array: ArrayRef| numbers(&array);
        assert_eq!(of(Arc::new(UInt8Array::from(vec![Some(3), None]))), Ok(vec![Some(3.0), None]));
        assert_eq!(of(Arc::new(Float64Array::from(vec![f64::NAN, 0.5]))), Ok(vec![None, Some(0.5)]));
        let infinite = of(Arc::new(Float64Array::from(vec![0.0, f64::NEG_INFINITY])));
        assert_eq!(infinite, Err(ColumnProblem::Infinite { row: 1 }));
        assert!(matches!(of(Arc::new(StringArray::from(vec!["1"]))), Err(ColumnProblem::Type { .. })));
    }
}
