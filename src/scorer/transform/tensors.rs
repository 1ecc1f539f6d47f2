//! Raw features of a request: one tensor each, one value a row.

use crate::config::transform::RawKind;
use crate::reference::table::{epoch_ms_of_number, parse_epoch_ms};
use crate::scorer::tensor::{Tensor, TensorData, TensorError, TensorLimits};

use super::{RawColumn, RawInput, TransformError};

impl RawInput {
    pub(super) fn column_error(&self, reason: impl Into<String>) -> TransformError {
        TransformError::Column { feature: self.name.clone(), reason: reason.into() }
    }

    /// A text as it counts: `None` where it means that the value is missing.
    pub(super) fn text(&self, text: &str) -> Option<String> {
        let is_missing = text.is_empty() || self.missing.iter().any(|missing| missing == text);
        (!is_missing).then(|| text.to_string())
    }
}

/// Epoch ms of a time as text: RFC 3339, ISO 8601, or a number of s, ms or µs; `None` where it is none of these.
pub(super) fn time_of_text(text: &str) -> Option<i64> {
    parse_epoch_ms(text).or_else(|| time_of_number(text.trim().parse().ok()?))
}

pub(super) fn time_of_number(number: f64) -> Option<i64> {
    number.is_finite().then(|| epoch_ms_of_number(number))
}

/// The raw columns of a request, in the order of `inputs`, and its rows.
///
/// # Errors
/// A tensor is missing, has another type, more than one value a row, or another number of rows.
pub fn raw_columns(inputs: &[RawInput], tensors: &[Tensor]) -> Result<(Vec<RawColumn>, usize), TransformError> {
    let mut columns = Vec::with_capacity(inputs.len());
    let mut rows = None;
    for input in inputs {
        let found = tensors.iter().find(|tensor| tensor.name() == input.name);
        let tensor = found.ok_or_else(|| input.column_error("the request has no tensor of this name"))?;
        let count = tensor.rows();
        if tensor.data().len() != count {
            return Err(input.column_error(format!("has the shape {:?}: one value a row is taken", tensor.shape())));
        }
        if *rows.get_or_insert(count) != count {
            return Err(input.column_error(format!("has {count} rows, others have {}", rows.unwrap_or(0))));
        }
        columns.push(column(input, tensor)?);
    }
    Ok((columns, rows.unwrap_or(0)))
}

/// The tensors of a request that bring these raw values, in the order of `inputs`: what a client would send. `None`: a
/// request cannot say it, as of a truth value that is missing.
///
/// # Errors
/// There are more rows than a request may have.
pub fn of_raw(inputs: &[RawInput], raw: &[RawColumn]) -> Result<Option<Vec<Tensor>>, TensorError> {
    let mut tensors = Vec::with_capacity(inputs.len());
    for (input, column) in inputs.iter().zip(raw) {
        let data = match column {
            RawColumn::Number(values) if input.kind == RawKind::Boolean => {
                if values.iter().any(|value| *value != 0.0 && *value != 1.0) {
                    return Ok(None);
                }
                TensorData::Bool(values.iter().map(|value| *value == 1.0).collect())
            }
            RawColumn::Number(values) => TensorData::Fp64(values.clone()),
            RawColumn::Text(texts) => {
                TensorData::Bytes(texts.iter().map(|text| text.clone().unwrap_or_default().into_bytes()).collect())
            }
            RawColumn::Time(times) => TensorData::Bytes(times.iter().map(|time| text_of_time(*time)).collect()),
        };
        tensors.push(Tensor::new(input.name.as_str(), vec![data.len()], data, &TensorLimits::default())?);
    }
    Ok(Some(tensors))
}

/// RFC 3339 in UTC; empty where there is none.
fn text_of_time(epoch_ms: Option<i64>) -> Vec<u8> {
    let time = epoch_ms.and_then(chrono::DateTime::from_timestamp_millis);
    time.map_or_else(Vec::new, |time| time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true).into_bytes())
}

fn column(input: &RawInput, tensor: &Tensor) -> Result<RawColumn, TransformError> {
    let number = |value: &f64| *value;
    Ok(match (input.kind, tensor.data()) {
        (RawKind::Number, TensorData::Fp64(values)) => RawColumn::Number(values.iter().map(number).collect()),
        (RawKind::Number, TensorData::Int32(values)) => {
            RawColumn::Number(values.iter().map(|value| f64::from(*value)).collect())
        }
        (RawKind::Boolean, TensorData::Bool(values)) => {
            RawColumn::Number(values.iter().map(|value| f64::from(u8::from(*value))).collect())
        }
        (RawKind::Text | RawKind::Time, TensorData::Bytes(values)) => {
            let mut column = RawColumn::with_capacity(input.kind, values.len());
            for (row, value) in values.iter().enumerate() {
                let text = std::str::from_utf8(value)
                    .map_err(|_| input.column_error(format!("the text of row {row} is not UTF-8")))?;
                match &mut column {
                    RawColumn::Text(texts) => texts.push(input.text(text)),
                    RawColumn::Time(times) => times.push(time_of_text(text)),
                    RawColumn::Number(_) => {}
                }
            }
            column
        }
        (kind, data) => {
            let wanted = match kind {
                RawKind::Number => "FP64",
                RawKind::Boolean => "BOOL",
                RawKind::Text | RawKind::Time => "BYTES",
            };
            return Err(input.column_error(format!("is {}, {wanted} is taken", data.datatype().name())));
        }
    })
}
