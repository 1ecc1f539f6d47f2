//! Raw features of JSON rows: lines of a file, events of a topic.

use serde_json::{Map, Value};

use super::tensors::{time_of_number, time_of_text};
use super::{RawColumn, RawInput, TransformError};

/// The raw columns of rows, in the order of `inputs`. A feature stands in the row's object `features` where there is one,
/// else in the row itself; absent and null are missing.
///
/// # Errors
/// A value has a type that the raw feature cannot be read from.
pub fn raw_columns(inputs: &[RawInput], rows: &[&Map<String, Value>]) -> Result<Vec<RawColumn>, TransformError> {
    inputs.iter().map(|input| column(input, rows)).collect()
}

fn column(input: &RawInput, rows: &[&Map<String, Value>]) -> Result<RawColumn, TransformError> {
    let mut column = RawColumn::with_capacity(input.kind, rows.len());
    for (row, object) in rows.iter().enumerate() {
        let features = object.get("features").and_then(Value::as_object).unwrap_or(object);
        let value = features.get(&input.name).unwrap_or(&Value::Null);
        let wrong = || TransformError::Row {
            row,
            feature: input.name.clone(),
            reason: format!("{} is no {:?}", shown(value), input.kind).to_lowercase(),
        };
        match &mut column {
            RawColumn::Number(numbers) => numbers.push(number(value).ok_or_else(wrong)?),
            RawColumn::Text(texts) => texts.push(match value {
                Value::Null => None,
                Value::String(text) => input.text(text),
                Value::Number(number) if !number.is_f64() => input.text(&number.to_string()),
                _ => return Err(wrong()),
            }),
            RawColumn::Time(times) => times.push(match value {
                Value::Null => None,
                Value::String(text) => time_of_text(text),
                Value::Number(number) => number.as_f64().and_then(time_of_number),
                _ => return Err(wrong()),
            }),
        }
    }
    Ok(column)
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Null => Some(f64::NAN),
        Value::Bool(yes) => Some(f64::from(u8::from(*yes))),
        Value::Number(number) => number.as_f64(),
        // As events have what JSON has no number for.
        Value::String(text) if text == "Infinity" => Some(f64::INFINITY),
        Value::String(text) if text == "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

fn shown(value: &Value) -> String {
    value.to_string().chars().take(40).collect()
}
