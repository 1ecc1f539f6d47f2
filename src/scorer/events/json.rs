//! One row as an event in the schema of `schemas/events/prediction.schema.json`.
//!
//! A number is written in the fewest digits that give it back in its own type: `0.1` for an FP32 of 0.1. What is no
//! number is null, a missing value; an infinity is the text `Infinity`, which the monitor counts as an invalid value.

use crate::scorer::tensor::{Tensor, TensorData};

use super::layout::{Columns, OutputColumn, Parts, write_text};
use super::{EventLayout, ScoredEvent};

impl EventLayout {
    /// Appends one row's event to `out`.
    pub(super) fn write_row(&self, event: &ScoredEvent, row: usize, prediction_id: &str, out: &mut Vec<u8>) {
        let parts = self.parts(event);
        out.extend_from_slice(b"{\"timestamp\":");
        write_json(&event.event_time_ms, out);
        out.push(b',');
        out.extend_from_slice(&self.names);
        out.extend_from_slice(b"\"prediction_id\":");
        write_text(prediction_id, out);
        out.extend_from_slice(b",\"features\":{");
        write_features(parts, event, row, out);
        out.push(b'}');
        write_output(b",\"prediction\":", parts.prediction.as_ref(), event, row, out);
        write_output(b",\"score\":", parts.score.as_ref(), event, row, out);
        out.extend_from_slice(b",\"arm\":\"");
        out.extend_from_slice(event.arm.name().as_bytes());
        out.extend_from_slice(b"\",\"engine\":");
        write_text(event.engine, out);
        out.extend_from_slice(b",\"latency_us\":");
        write_json(&(event.latency.as_micros() as u64), out);
        out.extend_from_slice(&parts.schema);
        if let Some(entity) = &event.entity {
            out.extend_from_slice(b",\"entity\":");
            write_text(entity, out);
        }
        out.extend_from_slice(b",\"request_id\":");
        write_text(&event.request_id, out);
        out.push(b'}');
    }
}

fn write_features(parts: &Parts, event: &ScoredEvent, row: usize, out: &mut Vec<u8>) {
    let mut is_first = true;
    let mut separate = |out: &mut Vec<u8>| {
        if !std::mem::take(&mut is_first) {
            out.push(b',');
        }
    };
    for (index, tensor) in event.inputs.iter().enumerate() {
        // As a rule in the signature's order.
        let in_place = parts.inputs.get(index).filter(|layout| layout.name == tensor.name());
        let by_name = || parts.inputs.iter().find(|layout| layout.name == tensor.name());
        let Some(layout) = in_place.or_else(by_name) else { continue };
        let (start, width) = row_range(tensor, row);
        match &layout.columns {
            Columns::Named(keys) => {
                for (column, key) in keys.iter().enumerate().take(width) {
                    separate(out);
                    out.extend_from_slice(key);
                    write_element(tensor.data(), start + column, parts.empty_is_null, out);
                }
            }
            Columns::Vector(key) => {
                separate(out);
                out.extend_from_slice(key);
                out.push(b'[');
                for column in 0..width {
                    if column > 0 {
                        out.push(b',');
                    }
                    write_element(tensor.data(), start + column, parts.empty_is_null, out);
                }
                out.push(b']');
            }
        }
    }
}

fn write_output(key: &[u8], column: Option<&OutputColumn>, event: &ScoredEvent, row: usize, out: &mut Vec<u8>) {
    let Some(wanted) = column else { return };
    let Some(tensor) = event.outputs.iter().find(|tensor| tensor.name() == wanted.output) else { return };
    let (start, width) = row_range(tensor, row);
    let column = wanted.column.unwrap_or(width.saturating_sub(1));
    if column < width {
        out.extend_from_slice(key);
        write_element(tensor.data(), start + column, false, out);
    }
}

/// Index of a row's first element, and elements in a row.
fn row_range(tensor: &Tensor, row: usize) -> (usize, usize) {
    let width = tensor.data().len() / tensor.rows().max(1);
    (row * width, width)
}

fn write_json<T: serde::Serialize>(value: &T, out: &mut Vec<u8>) {
    // Writing a number to memory does not fail.
    let _ = serde_json::to_writer(out, value);
}

fn write_element(data: &TensorData, index: usize, empty_is_null: bool, out: &mut Vec<u8>) {
    macro_rules! element {
        ($values:expr) => {
            match $values.get(index) {
                Some(value) => write_json(value, out),
                None => out.extend_from_slice(b"null"),
            }
        };
    }
    match data {
        TensorData::Bool(values) => element!(values),
        TensorData::Uint8(values) => element!(values),
        TensorData::Uint16(values) => element!(values),
        TensorData::Uint32(values) => element!(values),
        TensorData::Uint64(values) => element!(values),
        TensorData::Int8(values) => element!(values),
        TensorData::Int16(values) => element!(values),
        TensorData::Int32(values) => element!(values),
        TensorData::Int64(values) => element!(values),
        TensorData::Fp16(values) => write_f32(values.get(index).map_or(f32::NAN, |bits| half_to_f32(*bits)), out),
        TensorData::Fp32(values) => write_f32(values.get(index).copied().unwrap_or(f32::NAN), out),
        TensorData::Fp64(values) => {
            let value = values.get(index).copied().unwrap_or(f64::NAN);
            if value.is_finite() { write_json(&value, out) } else { write_unreal(value, out) }
        }
        TensorData::Bytes(values) => match values.get(index) {
            Some(value) if !(empty_is_null && value.is_empty()) => write_text(&String::from_utf8_lossy(value), out),
            _ => out.extend_from_slice(b"null"),
        },
    }
}

fn write_f32(value: f32, out: &mut Vec<u8>) {
    if value.is_finite() { write_json(&value, out) } else { write_unreal(f64::from(value), out) }
}

fn write_unreal(value: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(match value {
        f64::INFINITY => b"\"Infinity\"",
        f64::NEG_INFINITY => b"\"-Infinity\"",
        _ => b"null",
    });
}

/// IEEE 754 half precision; exact.
pub fn half_to_f32(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(bits >> 10 & 0x1f);
    let fraction = f32::from(bits & 0x3ff);
    match (exponent, fraction) {
        (0x1f, 0.0) => sign * f32::INFINITY,
        (0x1f, _) => f32::NAN,
        // Without a leading one: steps of 2^-24.
        (0, _) => sign * fraction * 2.0_f32.powi(-24),
        _ => sign * (1.0 + fraction / 1024.0) * 2.0_f32.powi(exponent - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::half_to_f32;

    #[test]
    fn half_precision_is_read_exactly() {
        let known = [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 2.0_f32.powi(-24)),
            (0x03ff, 1023.0 * 2.0_f32.powi(-24)),
            (0x0400, 2.0_f32.powi(-14)),
            (0x3555, 0.333_251_95),
            (0x7c00, f32::INFINITY),
            (0xfc00, f32::NEG_INFINITY),
        ];
        for (bits, value) in known {
            assert_eq!(half_to_f32(bits), value, "{bits:#06x}");
        }
        assert!(half_to_f32(0x7e00).is_nan());
    }
}
