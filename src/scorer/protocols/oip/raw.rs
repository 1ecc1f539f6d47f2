//! A raw binary request: a body without JSON (`Inference-Header-Content-Length: 0`), which is all of the model's only
//! input. Datatype and shape are the model's; of a model that batches it is one row.

use super::HEADER_LENGTH;
use super::request::InferRequest;
use crate::scorer::engine::{Signature, TensorSpec};
use crate::scorer::protocols::{DecodeError, binary};
use crate::scorer::tensor::{self, Tensor, TensorLimits};

/// Reads a body for a model of this signature. All outputs are wanted as binary data, as the extension has it.
///
/// # Errors
/// The model has several inputs, or one whose shape the body's length does not tell; or the length fits no shape.
pub fn decode(body: &[u8], signature: &Signature, limits: &TensorLimits) -> Result<InferRequest, DecodeError> {
    let [input] = signature.inputs.as_slice() else {
        return Err(refused(format!("the model has {} inputs", signature.inputs.len())));
    };
    let shape = shape(input, signature.batches, body.len(), limits)?;
    let wanted = tensor::elements(&input.name, &shape, limits).map_err(|error| DecodeError::new(error.to_string()))?;
    let data = binary::decode(&input.name, input.datatype, wanted, body)?;
    let tensor = Tensor::new(&input.name, shape, data, limits).map_err(|error| DecodeError::new(error.to_string()))?;
    Ok(InferRequest {
        id: None,
        inputs: vec![tensor],
        outputs: Vec::new(),
        binary_outputs: true,
        entity: None,
        priority: None,
        timeout_us: None,
    })
}

fn refused(reason: String) -> DecodeError {
    DecodeError::new(format!(
        "a body without JSON (`{HEADER_LENGTH}: 0`) is not enough here: {reason}; send JSON before the binary data"
    ))
}

/// One row; the one other dimension that may be of any size is what the length makes it.
fn shape(input: &TensorSpec, batches: bool, bytes: usize, limits: &TensorLimits) -> Result<Vec<usize>, DecodeError> {
    let name = &input.name;
    let size = input
        .datatype
        .element_bytes()
        .ok_or_else(|| refused(format!("input `{name}` is of elements of any length")))?;
    let mut shape = input.shape.clone();
    if let Some(first) = shape.first_mut().filter(|_| batches) {
        *first = Some(1);
    }
    let free = shape.iter().filter(|size| size.is_none()).count();
    if free > 1 {
        return Err(refused(format!("{free} dimensions of input `{name}` are of any size")));
    }
    let known: Vec<usize> = shape.iter().flatten().copied().collect();
    let elements = tensor::elements(name, &known, limits).map_err(|error| DecodeError::new(error.to_string()))?;
    let unit = elements.saturating_mul(size).max(1);
    if free == 1 && !bytes.is_multiple_of(unit) {
        return Err(DecodeError::new(format!(
            "the body has {bytes} bytes, input `{name}` takes a whole number of times {unit}"
        )));
    }
    Ok(shape.into_iter().map(|size| size.unwrap_or(bytes / unit)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scorer::tensor::{DataType, TensorData};

    fn read(datatype: DataType, shape: &[Option<usize>], batches: bool, body: &[u8]) -> Result<Tensor, String> {
        let input = TensorSpec { name: "x".into(), datatype, shape: shape.to_vec() };
        let signature = Signature { inputs: vec![input], outputs: Vec::new(), batches };
        let read = decode(body, &signature, &TensorLimits::default()).map_err(|error| error.to_string())?;
        assert!(read.binary_outputs);
        Ok(read.inputs[0].clone())
    }

    #[test]
    fn the_length_tells_the_shape() {
        let one = [1.0_f32, 2.0].iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let row = read(DataType::Fp32, &[None, Some(2)], true, &one).unwrap();
        assert_eq!((row.shape(), row.data()), (&[1, 2][..], &TensorData::Fp32(vec![1.0, 2.0])));
        assert_eq!(read(DataType::Fp32, &[None, None], true, &one).unwrap().shape(), [1, 2]);
        assert_eq!(read(DataType::Fp32, &[None], false, &one).unwrap().shape(), [2]);
        assert_eq!(read(DataType::Uint8, &[Some(2), None, Some(2)], false, &one).unwrap().shape(), [2, 2, 2]);
    }

    #[test]
    fn what_the_length_does_not_tell_is_refused_with_the_reason() {
        for (datatype, shape, batches, bytes, said) in [
            (DataType::Fp32, &[None, Some(2)][..], true, 16, "has 16 bytes of binary data; 2 elements of FP32 take 8"),
            (DataType::Fp32, &[None, Some(2)], true, 0, "has 0 bytes"),
            (DataType::Fp32, &[None, None], false, 8, "2 dimensions of input `x` are of any size"),
            (DataType::Fp32, &[None, Some(2)], false, 12, "a whole number of times 8"),
            (DataType::Bytes, &[Some(1)], false, 8, "elements of any length"),
            (DataType::Fp64, &[Some(usize::MAX), Some(2), None], false, 8, "more than"),
        ] {
            let error = read(datatype, shape, batches, &vec![0; bytes]).unwrap_err();
            assert!(error.contains(said), "{datatype:?} {shape:?} {bytes}: {error}");
        }
        let none = Signature { inputs: Vec::new(), outputs: Vec::new(), batches: false };
        assert!(decode(&[], &none, &TensorLimits::default()).unwrap_err().0.contains("0 inputs"));
    }
}
