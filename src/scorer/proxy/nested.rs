//! Tensors as nested lists of JSON, for protocols that have no other form.

use serde_json::value::RawValue;

use crate::scorer::protocols::elements;
use crate::scorer::score::ScoreError;
use crate::scorer::tensor::{DataType, Tensor, TensorData, TensorLimits};

/// Elements as they are written: an f32 as the f64 of the same value, since a reader that goes by way of f64 would round
/// the shortest text of an f32 twice.
///
/// # Errors
/// The type has no form in JSON, or a number is not finite: `Invalid`.
pub fn exact(tensor: &Tensor) -> Result<TensorData, ScoreError> {
    let finite = match tensor.data() {
        TensorData::Fp32(values) => values.iter().all(|value| value.is_finite()),
        TensorData::Fp64(values) => values.iter().all(|value| value.is_finite()),
        _ => true,
    };
    if !finite {
        let message =
            format!("input `{}` has a number that is not finite, which this peer's JSON cannot carry", tensor.name());
        return Err(ScoreError::Invalid(message));
    }
    Ok(match tensor.data() {
        TensorData::Fp32(values) => TensorData::Fp64(values.iter().copied().map(f64::from).collect()),
        data => data.clone(),
    })
}

/// Writes `data`, the elements of `tensor`, as lists in lists by its shape.
///
/// # Errors
/// As `exact`.
pub fn write(tensor: &Tensor, data: &TensorData, out: &mut Vec<u8>) -> Result<(), ScoreError> {
    lists(tensor, data, tensor.shape(), 0, out)
}

/// Writes row `row` of the first dimension.
///
/// # Errors
/// As `exact`.
pub fn write_row(tensor: &Tensor, data: &TensorData, row: usize, out: &mut Vec<u8>) -> Result<(), ScoreError> {
    let shape = tensor.shape().get(1..).unwrap_or_default();
    lists(tensor, data, shape, row * shape.iter().product::<usize>(), out)
}

fn lists(tensor: &Tensor, data: &TensorData, shape: &[usize], at: usize, out: &mut Vec<u8>) -> Result<(), ScoreError> {
    let elements = |range, out: &mut Vec<u8>| {
        elements::encode(tensor.name(), data, range, out).map_err(|_| {
            let message = format!("input `{}` holds what this peer's JSON cannot carry", tensor.name());
            ScoreError::Invalid(message)
        })
    };
    let Some((size, rest)) = shape.split_first() else { return elements(at..at + 1, out) };
    out.push(b'[');
    if rest.is_empty() {
        elements(at..at + size, out)?;
    } else {
        let step: usize = rest.iter().product();
        for index in 0..*size {
            if index > 0 {
                out.push(b',');
            }
            lists(tensor, data, rest, at + index * step, out)?;
        }
    }
    out.push(b']');
    Ok(())
}

/// Reads lists in lists; their nesting is the shape. A single value is a list of one: one row's score.
///
/// # Errors
/// They are no tensor of that type; the reason.
pub fn read(name: &str, datatype: DataType, json: &RawValue, limits: &TensorLimits) -> Result<Tensor, String> {
    let (mut shape, data) =
        elements::decode(&format!("output `{name}`"), datatype, json, limits).map_err(|error| error.0)?;
    if shape.is_empty() {
        shape = vec![1];
    }
    Tensor::new(name, shape, data, limits).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_to_the_bit() {
        let limits = TensorLimits::default();
        let values = vec![0.1_f32, -1.0e-40, 16_777_217.0, 3.402_823_5e38, 1.0, -0.0];
        let tensor = Tensor::new("x", vec![3, 1, 2], TensorData::Fp32(values), &limits).unwrap();
        let mut out = Vec::new();
        write(&tensor, &exact(&tensor).unwrap(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("[[[0.10000000149011612,"), "{text}");
        let raw = RawValue::from_string(text).unwrap();
        assert_eq!(read("x", DataType::Fp32, &raw, &limits).unwrap(), tensor);
        let mut row = Vec::new();
        write_row(&tensor, &exact(&tensor).unwrap(), 2, &mut row).unwrap();
        assert_eq!(String::from_utf8(row).unwrap(), "[[1.0,-0.0]]");
    }

    #[test]
    fn what_is_not_finite_is_refused() {
        let tensor = Tensor::new("x", vec![1], TensorData::Fp32(vec![f32::NAN]), &TensorLimits::default()).unwrap();
        assert!(matches!(exact(&tensor), Err(ScoreError::Invalid(message)) if message.contains("`x`")));
    }
}
