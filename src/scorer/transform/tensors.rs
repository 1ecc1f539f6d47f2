//! Raw features of a request: one tensor each, one value a row.

use crate::config::transform::RawKind;
use crate::reference::table::{epoch_ms_of_number, parse_epoch_ms};
use crate::scorer::tensor::{Tensor, TensorData};

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
