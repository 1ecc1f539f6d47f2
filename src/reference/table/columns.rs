//! Columns as what statistics take: numbers with NaN for missing, categories as codes, times as epoch milliseconds.

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit};
use hashbrown::HashMap;

use super::TableError;

/// Code of a missing category.
pub const MISSING: u32 = u32::MAX;

fn wrong_type(column: &str, found: &DataType, wanted: &'static str) -> TableError {
    let found = match found {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(_, _) => "text".to_string(),
        DataType::Boolean => "boolean".to_string(),
        other => other.to_string(),
    };
    TableError::WrongType { column: column.to_string(), found, wanted }
}

pub fn append_numbers(values: &mut Vec<f64>, array: &ArrayRef, column: &str) -> Result<(), TableError> {
    const WANTED: &str = "numeric";
    let data_type = array.data_type();
    if !(data_type.is_numeric() || matches!(data_type, DataType::Boolean | DataType::Null)) {
        return Err(wrong_type(column, data_type, WANTED));
    }
    let floats = cast(array, &DataType::Float64).map_err(|_| wrong_type(column, data_type, WANTED))?;
    let floats: &Float64Array = floats.as_primitive();
    let start = values.len();
    if floats.null_count() == 0 {
        values.extend_from_slice(floats.values());
    } else {
        values.extend(floats.iter().map(|value| value.unwrap_or(f64::NAN)));
    }
    match values[start..].iter().position(|value| value.is_infinite()) {
        Some(offset) => Err(TableError::Infinite { column: column.to_string(), row: start + offset + 1 }),
        None => Ok(()),
    }
}

/// Categories by position, in order of first appearance.
#[derive(Debug, Clone, Default)]
pub struct CategoryIndex {
    names: Vec<String>,
    positions: HashMap<String, u32>,
}

impl CategoryIndex {
    pub fn names(&self) -> &[String] {
        &self.names
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The category's position; a new category gets the next one.
    pub fn code(&mut self, name: &str) -> u32 {
        if let Some(code) = self.positions.get(name) {
            return *code;
        }
        let code = self.names.len() as u32;
        self.names.push(name.to_string());
        self.positions.insert(name.to_string(), code);
        code
    }

    pub(super) fn append_codes(
        &mut self,
        codes: &mut Vec<u32>,
        array: &ArrayRef,
        column: &str,
    ) -> Result<(), TableError> {
        match array.data_type() {
            DataType::Null => codes.resize(codes.len() + array.len(), MISSING),
            DataType::Utf8 => self.append_texts(codes, array.as_string::<i32>().iter()),
            DataType::LargeUtf8 => self.append_texts(codes, array.as_string::<i64>().iter()),
            DataType::Utf8View => self.append_texts(codes, array.as_string_view().iter()),
            DataType::Boolean => {
                self.append_texts(codes, array.as_boolean().iter().map(|value| value.map(boolean_text)))
            }
            DataType::Dictionary(_, _) => {
                let dictionary = array.as_any_dictionary();
                let mut value_codes = Vec::with_capacity(dictionary.values().len());
                self.append_codes(&mut value_codes, dictionary.values(), column)?;
                let keys = dictionary.normalized_keys();
                codes.extend(
                    keys.iter().enumerate().map(
                        |(row, key)| {
                            if dictionary.is_null(row) { MISSING } else { value_codes[*key] }
                        },
                    ),
                );
            }
            _ => self.append_numbers(codes, array, column)?,
        }
        Ok(())
    }

    fn append_texts<'a>(&mut self, codes: &mut Vec<u32>, texts: impl Iterator<Item = Option<&'a str>>) {
        codes.extend(texts.map(|text| text.map_or(MISSING, |text| self.code(text))));
    }

    /// Numbers as categories: each distinct one is written out once.
    fn append_numbers(&mut self, codes: &mut Vec<u32>, array: &ArrayRef, column: &str) -> Result<(), TableError> {
        let mut known: HashMap<u64, u32> = HashMap::new();
        for row in 0..array.len() {
            let code = match number_bits(array, row, column)? {
                None => MISSING,
                Some((bits, text)) => match known.get(&bits) {
                    Some(code) => *code,
                    None => {
                        let code = self.code(&text());
                        known.insert(bits, code);
                        code
                    }
                },
            };
            codes.push(code);
        }
        Ok(())
    }
}

type LazyText = Box<dyn FnOnce() -> String>;

fn number_bits(array: &ArrayRef, row: usize, column: &str) -> Result<Option<(u64, LazyText)>, TableError> {
    use datafusion::arrow::datatypes::{Float32Type, UInt64Type};
    if array.is_null(row) {
        return Ok(None);
    }
    let wrong = || wrong_type(column, array.data_type(), "text, boolean or numeric");
    match array.data_type() {
        DataType::Float64 => {
            let value = array.as_primitive::<Float64Type>().value(row);
            Ok((!value.is_nan()).then(|| (value.to_bits(), Box::new(move || python_float(value)) as LazyText)))
        }
        DataType::Float32 => {
            let value = array.as_primitive::<Float32Type>().value(row);
            let text = move || python_number(&format!("{value:e}"));
            Ok((!value.is_nan()).then(|| (u64::from(value.to_bits()), Box::new(text) as LazyText)))
        }
        DataType::UInt64 => {
            let value = array.as_primitive::<UInt64Type>().value(row);
            Ok(Some((value, Box::new(move || value.to_string()))))
        }
        integer if integer.is_integer() => {
            let single = cast(&array.slice(row, 1), &DataType::Int64).map_err(|_| wrong())?;
            let value = single.as_primitive::<Int64Type>().value(0);
            Ok(Some((value as u64, Box::new(move || value.to_string()))))
        }
        _ => Err(wrong()),
    }
}

fn boolean_text(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}

/// String form of a category that is a number, as `category_text` of its JSON: `1.0` stays `1.0`, `1` stays `1`.
pub fn category_text(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::Bool(value) => Some(boolean_text(*value).to_string()),
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(number) => Some(match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(value), _, _) => value.to_string(),
            (_, Some(value), _) => value.to_string(),
            (_, _, Some(value)) => python_float(value),
            _ => number.to_string(),
        }),
        _ => None,
    }
}

/// A float as Python's `str` writes it: shortest digits that parse back, an exponent below 1e-4 and from 1e16 on.
pub fn python_float(value: f64) -> String {
    python_number(&format!("{value:e}"))
}

/// From `d.ddde±x`, which holds the shortest digits.
fn python_number(scientific: &str) -> String {
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific.to_string() };
    let Ok(exponent) = exponent.parse::<i32>() else { return scientific.to_string() };
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    if !(-4..16).contains(&exponent) {
        let exponent_sign = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{mantissa}e{exponent_sign}{:02}", exponent.abs());
    }
    if exponent < 0 {
        let zeros = "0".repeat(exponent.unsigned_abs() as usize - 1);
        return format!("{sign}0.{zeros}{digits}");
    }
    let whole_digits = exponent as usize + 1;
    if digits.len() <= whole_digits {
        format!("{sign}{digits}{}.0", "0".repeat(whole_digits - digits.len()))
    } else {
        format!("{sign}{}.{}", &digits[..whole_digits], &digits[whole_digits..])
    }
}

pub fn append_times(times: &mut Vec<Option<i64>>, array: &ArrayRef, column: &str) -> Result<(), TableError> {
    let wrong = |_| wrong_type(column, array.data_type(), "a time");
    match array.data_type() {
        DataType::Null => times.resize(times.len() + array.len(), None),
        DataType::Timestamp(unit, _) => {
            let per_ms = |value: i64| match unit {
                TimeUnit::Second => value * 1_000,
                TimeUnit::Millisecond => value,
                TimeUnit::Microsecond => value.div_euclid(1_000),
                TimeUnit::Nanosecond => value.div_euclid(1_000_000),
            };
            let integers = cast(array, &DataType::Int64).map_err(wrong)?;
            times.extend(integers.as_primitive::<Int64Type>().iter().map(|value| value.map(per_ms)));
        }
        DataType::Date32 | DataType::Date64 => {
            let dates = cast(array, &DataType::Timestamp(TimeUnit::Millisecond, None)).map_err(wrong)?;
            append_times(times, &dates, column)?;
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(_, _) => {
            let texts = cast(array, &DataType::Utf8).map_err(wrong)?;
            for text in texts.as_string::<i32>().iter() {
                let time = match text {
                    None => None,
                    Some(text) => Some(parse_epoch_ms(text).ok_or_else(|| TableError::NotATime {
                        column: column.to_string(),
                        row: times.len() + 1,
                        value: text.to_string(),
                    })?),
                };
                times.push(time);
            }
        }
        numeric if numeric.is_numeric() => {
            let mut numbers = Vec::with_capacity(array.len());
            append_numbers(&mut numbers, array, column)?;
            times.extend(numbers.into_iter().map(|number| (!number.is_nan()).then(|| epoch_ms_of_number(number))));
        }
        other => return Err(wrong_type(column, other, "a time")),
    }
    Ok(())
}

/// Seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by size: each unit serves the years 1973
/// to 5138.
pub fn epoch_ms_of_number(number: f64) -> i64 {
    let size = number.abs();
    let ms = if size < 1e11 {
        number * 1e3
    } else if size < 1e14 {
        number
    } else if size < 1e17 {
        number / 1e3
    } else {
        number / 1e6
    };
    ms.floor() as i64
}

/// RFC 3339, or ISO 8601 without a zone (then UTC), or a date; rounded down to the millisecond.
pub fn parse_epoch_ms(text: &str) -> Option<i64> {
    let text = text.trim();
    for format in ["%+", "%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f%#z"] {
        if let Ok(time) = DateTime::parse_from_str(text, format) {
            return Some(time.timestamp_millis());
        }
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text, format) {
            return Some(time.and_utc().timestamp_millis());
        }
    }
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_millis())
}
