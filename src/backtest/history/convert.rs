//! Columns of a table as the columns of decoded events: the same types, and the same answer to values that are none.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, FixedSizeListBuilder, Float32Builder, Float64Array, ListBuilder,
    StringArray, new_null_array,
};
use datafusion::arrow::compute::{cast, take};
use datafusion::arrow::datatypes::{DataType, Field, Float64Type};

use crate::config::model::{Kind, Signal};
use crate::event::Reason;
use crate::reference::column::{self, ColumnProblem};
use crate::reference::table::{epoch_ms_of_number, parse_epoch_ms};

/// Which rows of a batch cannot be used, and why; the first reason counts.
pub(super) struct Rejections(Vec<Option<Reason>>);

impl Rejections {
    pub fn new(rows: usize) -> Self {
        Self(vec![None; rows])
    }

    pub fn note(&mut self, row: usize, reason: Reason) {
        if let Some(known) = self.0.get_mut(row) {
            known.get_or_insert(reason);
        }
    }

    pub fn reasons(&self) -> impl Iterator<Item = Reason> + '_ {
        self.0.iter().filter_map(|reason| *reason)
    }

    pub fn kept(&self) -> BooleanArray {
        self.0.iter().map(|reason| Some(reason.is_none())).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

/// Event times, epoch milliseconds, as times, numbers or texts stand for; 0 in rows that are rejected.
pub(super) fn times(
    array: &ArrayRef,
    column: &str,
    numbers: impl Fn(&ArrayRef) -> Result<Vec<Option<i64>>, String>,
    rejections: &mut Rejections,
) -> Result<Vec<i64>, String> {
    let plain = unpacked(array)?;
    let times: Vec<Option<i64>> = match plain.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let texts = cast(&plain, &DataType::Utf8).map_err(|error| error.to_string())?;
            let texts = texts.as_string::<i32>();
            let mut times = Vec::with_capacity(texts.len());
            for (row, text) in texts.iter().enumerate() {
                // One text among numbers makes texts of them all.
                let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
                let time = text.and_then(|text| parse_epoch_ms(text).or_else(|| number(text).map(epoch_ms_of_number)));
                if text.is_some() && time.is_none() {
                    rejections.note(row, Reason::BadTimestamp);
                }
                times.push(time);
            }
            times
        }
        DataType::Boolean => return Err(format!("column `{column}` is boolean, not a time")),
        _ => numbers(&plain)?,
    };
    let known = times.into_iter().enumerate().map(|(row, time)| {
        time.unwrap_or_else(|| {
            rejections.note(row, Reason::MissingField);
            0
        })
    });
    Ok(known.collect())
}

/// One signal's column.
pub(super) fn signal(
    array: &ArrayRef,
    signal: &Signal,
    column: &str,
    rejections: &mut Rejections,
) -> Result<ArrayRef, String> {
    let converted: ArrayRef = match signal.kind {
        Kind::Numeric => Arc::new(numbers(array, signal, column, rejections)?),
        Kind::Categorical => Arc::new(texts(array).map_err(|problem| worded(&problem, signal, column))?),
        Kind::Vector if signal.dimension == 0 => {
            let lists = column::lists(array).map_err(|problem| worded(&problem, signal, column))?;
            let mut builder = ListBuilder::new(Float32Builder::new()).with_field(item());
            for list in lists {
                list.iter().flatten().for_each(|value| builder.values().append_value(*value as f32));
                builder.append(list.is_some());
            }
            Arc::new(builder.finish())
        }
        Kind::Vector => {
            let vectors =
                column::vectors(array, signal.dimension).map_err(|problem| worded(&problem, signal, column))?;
            let mut builder =
                FixedSizeListBuilder::new(Float32Builder::new(), signal.dimension as i32).with_field(item());
            for vector in vectors {
                let whole = vector.filter(|vector| vector.iter().all(|value| value.is_finite()));
                match &whole {
                    Some(vector) => vector.iter().for_each(|value| builder.values().append_value(*value as f32)),
                    None => (0..signal.dimension).for_each(|_| builder.values().append_value(0.0)),
                }
                builder.append(whole.is_some());
            }
            Arc::new(builder.finish())
        }
    };
    if signal.required {
        (0..converted.len())
            .filter(|row| converted.is_null(*row))
            .for_each(|row| rejections.note(row, Reason::MissingField));
    }
    Ok(converted)
}

fn item() -> Arc<Field> {
    Arc::new(Field::new_list_field(DataType::Float32, false))
}

/// Texts of any column that can be categories; dictionaries are written out once.
pub(super) fn texts(array: &ArrayRef) -> Result<StringArray, ColumnProblem> {
    if array.data_type() == &DataType::Utf8 {
        return Ok(array.as_string::<i32>().clone());
    }
    if let Some(dictionary) = array.as_any_dictionary_opt() {
        let values: StringArray = column::categories(dictionary.values())?.into_iter().collect();
        if let Ok(taken) = take(&values, dictionary.keys(), None) {
            return Ok(taken.as_string::<i32>().clone());
        }
    }
    Ok(column::categories(array)?.into_iter().collect())
}

/// Numbers; NaN is a missing value, an infinite one costs its row unless the model keeps what is invalid as missing.
fn numbers(
    array: &ArrayRef,
    signal: &Signal,
    column: &str,
    rejections: &mut Rejections,
) -> Result<Float64Array, String> {
    let plain = unpacked(array)?;
    let doubles = match plain.data_type() {
        DataType::Null => new_null_array(&DataType::Float64, plain.len()),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            return written_numbers(&plain, signal, column, rejections);
        }
        number if number.is_numeric() => cast(&plain, &DataType::Float64).map_err(|error| error.to_string())?,
        other => return Err(format!("column `{column}` for `{}` holds {other}, not numbers", signal.name)),
    };
    let doubles = doubles.as_primitive::<Float64Type>();
    if doubles.null_count() == 0 && doubles.values().iter().all(|value| value.is_finite()) {
        return Ok(doubles.clone());
    }
    let checked = doubles.iter().enumerate().map(|(row, value)| {
        if value.is_some_and(f64::is_infinite) && !signal.keeps_invalid {
            rejections.note(row, Reason::NonFinite);
        }
        value.filter(|value| value.is_finite())
    });
    Ok(checked.collect())
}

/// A column that became text because of some of its cells.
fn written_numbers(
    array: &ArrayRef,
    signal: &Signal,
    column: &str,
    rejections: &mut Rejections,
) -> Result<Float64Array, String> {
    let texts = cast(array, &DataType::Utf8).map_err(|error| error.to_string())?;
    let texts = texts.as_string::<i32>();
    let read: Vec<Option<Result<f64, &str>>> =
        texts.iter().map(|text| text.map(|text| text.trim().parse::<f64>().map_err(|_| text))).collect();
    if let Some(example) = read.iter().flatten().find_map(|value| value.as_ref().err())
        && !read.iter().flatten().any(Result::is_ok)
    {
        return Err(format!(
            "column `{column}` for `{}` holds text such as `{example}`, not numbers; declare the feature `categorical`, \
             or name another column: --column {}=COLUMN",
            signal.name, signal.name
        ));
    }
    let checked = read.into_iter().enumerate().map(|(row, value)| match value {
        Some(Ok(value)) if value.is_finite() => Some(value),
        Some(Ok(value)) => {
            if value.is_infinite() && !signal.keeps_invalid {
                rejections.note(row, Reason::NonFinite);
            }
            None
        }
        Some(Err(_)) => {
            if !signal.keeps_invalid {
                rejections.note(row, Reason::WrongType);
            }
            None
        }
        None => None,
    });
    Ok(checked.collect())
}

/// Dictionaries unpacked.
fn unpacked(array: &ArrayRef) -> Result<ArrayRef, String> {
    match array.data_type() {
        DataType::Dictionary(_, values) => cast(array, values).map_err(|error| error.to_string()),
        _ => Ok(array.clone()),
    }
}

fn worded(problem: &ColumnProblem, signal: &Signal, column: &str) -> String {
    let name = &signal.name;
    match problem {
        ColumnProblem::Type { found, wanted } => {
            format!("column `{column}` for `{name}` holds {found}, wanted {wanted}")
        }
        ColumnProblem::Infinite { row } => {
            format!("column `{column}` for `{name}` holds an infinite value in row {} of a batch", row + 1)
        }
        ColumnProblem::Length { row, found, wanted } => format!(
            "column `{column}` for `{name}` holds {found} numbers in row {} of a batch, wanted {wanted}",
            row + 1
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{DictionaryArray, Int64Array};
    use datafusion::arrow::datatypes::Int32Type;

    fn numeric(keeps_invalid: bool) -> Signal {
        Signal {
            name: "amount".into(),
            kind: Kind::Numeric,
            path: "features.amount".into(),
            required: false,
            keeps_invalid,
            range: None,
            dimension: 0,
            members: Vec::new(),
        }
    }

    #[test]
    fn one_bad_cell_costs_one_row() {
        let cells: ArrayRef =
            Arc::new(StringArray::from(vec![Some("1.5"), Some("oops"), None, Some("inf"), Some("2")]));
        let mut rejections = Rejections::new(5);
        let converted = signal(&cells, &numeric(false), "amount", &mut rejections).unwrap();
        let values: Vec<Option<f64>> = converted.as_primitive::<Float64Type>().iter().collect();
        assert_eq!(values, [Some(1.5), None, None, None, Some(2.0)]);
        assert_eq!(rejections.reasons().collect::<Vec<_>>(), [Reason::WrongType, Reason::NonFinite]);
        assert_eq!(rejections.kept(), BooleanArray::from(vec![true, false, true, false, true]));
        let mut kept = Rejections::new(5);
        signal(&cells, &numeric(true), "amount", &mut kept).unwrap();
        assert!(kept.is_empty(), "a model that keeps invalid values loses none of these rows");
    }

    #[test]
    fn a_column_of_words_is_no_feature_of_numbers() {
        let cells: ArrayRef = Arc::new(StringArray::from(vec!["red", "blue"]));
        let error = signal(&cells, &numeric(false), "colour", &mut Rejections::new(2)).unwrap_err();
        assert!(error.contains("`red`") && error.contains("--column amount=COLUMN"), "{error}");
    }

    #[test]
    fn categories_have_the_form_that_events_have() {
        let dictionary: DictionaryArray<Int32Type> = vec![Some("b"), None, Some("a")].into_iter().collect();
        let of =
            |array: ArrayRef| texts(&array).unwrap().iter().map(|text| text.map(str::to_string)).collect::<Vec<_>>();
        assert_eq!(of(Arc::new(dictionary)), [Some("b".into()), None, Some("a".into())]);
        assert_eq!(of(Arc::new(Int64Array::from(vec![7, -1]))), [Some("7".into()), Some("-1".into())]);
        assert_eq!(of(Arc::new(Float64Array::from(vec![1.0, f64::NAN]))), [Some("1.0".into()), None]);
    }

    #[test]
    fn times_are_read_in_any_form_and_bad_ones_are_counted() {
        let cells: ArrayRef =
            Arc::new(StringArray::from(vec![Some("2026-01-01T00:00:00Z"), Some("soon"), None, Some("1767225600")]));
        let mut rejections = Rejections::new(4);
        let none = |_: &ArrayRef| Err("not asked".to_string());
        assert_eq!(times(&cells, "at", none, &mut rejections).unwrap(), [1_767_225_600_000, 0, 0, 1_767_225_600_000]);
        assert_eq!(rejections.reasons().collect::<Vec<_>>(), [Reason::BadTimestamp, Reason::MissingField]);
    }
}
