//! Elements of tensors as bytes: little-endian, row-major, as the binary tensor data extension has them; each element of
//! `BYTES` stands behind its length of four bytes.

use super::DecodeError;
use crate::scorer::tensor::{DataType, TensorData};

/// Bytes of an element's length.
const LENGTH_BYTES: usize = 4;

/// Reads exactly `elements` elements, and all of `bytes`. `name` names the tensor in errors.
///
/// # Errors
/// There are too many bytes or too few, or a value that its type does not have.
pub fn decode(name: &str, datatype: DataType, elements: usize, bytes: &[u8]) -> Result<TensorData, DecodeError> {
    if let Some(size) = datatype.element_bytes() {
        let wanted = elements.checked_mul(size);
        if wanted != Some(bytes.len()) {
            return Err(DecodeError::new(format!(
                "tensor `{name}` has {} bytes of binary data; {elements} elements of {} take {}",
                bytes.len(),
                datatype.name(),
                wanted.map_or("more than there can be".to_string(), |wanted| wanted.to_string()),
            )));
        }
    }
    Ok(match datatype {
        DataType::Bool => TensorData::Bool(bools(name, bytes)?),
        DataType::Uint8 => TensorData::Uint8(bytes.to_vec()),
        DataType::Uint16 => TensorData::Uint16(numbers(bytes, u16::from_le_bytes)),
        DataType::Uint32 => TensorData::Uint32(numbers(bytes, u32::from_le_bytes)),
        DataType::Uint64 => TensorData::Uint64(numbers(bytes, u64::from_le_bytes)),
        DataType::Int8 => TensorData::Int8(numbers(bytes, i8::from_le_bytes)),
        DataType::Int16 => TensorData::Int16(numbers(bytes, i16::from_le_bytes)),
        DataType::Int32 => TensorData::Int32(numbers(bytes, i32::from_le_bytes)),
        DataType::Int64 => TensorData::Int64(numbers(bytes, i64::from_le_bytes)),
        DataType::Fp16 => TensorData::Fp16(numbers(bytes, u16::from_le_bytes)),
        DataType::Fp32 => TensorData::Fp32(numbers(bytes, f32::from_le_bytes)),
        DataType::Fp64 => TensorData::Fp64(numbers(bytes, f64::from_le_bytes)),
        DataType::Bytes => TensorData::Bytes(texts(name, elements, bytes)?),
    })
}

fn numbers<T, const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (chunks, _) = bytes.as_chunks::<N>();
    chunks.iter().map(|chunk| read(*chunk)).collect()
}

fn bools(name: &str, bytes: &[u8]) -> Result<Vec<bool>, DecodeError> {
    let read = |byte: &u8| match byte {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(DecodeError::new(format!("tensor `{name}` has a BOOL of {other}; it can be 0 or 1"))),
    };
    bytes.iter().map(read).collect()
}

fn texts(name: &str, elements: usize, bytes: &[u8]) -> Result<Vec<Vec<u8>>, DecodeError> {
    let short = |index: usize| {
        DecodeError::new(format!("the binary data of tensor `{name}` ends within element {index} of {elements}"))
    };
    // What the lengths alone take: no memory is asked for beyond what the bytes warrant.
    if elements.checked_mul(LENGTH_BYTES).is_none_or(|least| least > bytes.len()) {
        return Err(short(bytes.len() / LENGTH_BYTES));
    }
    let mut rest = bytes;
    let mut texts = Vec::with_capacity(elements);
    for index in 0..elements {
        let (length, after) = rest.split_first_chunk::<LENGTH_BYTES>().ok_or_else(|| short(index))?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| short(index))?;
        let (text, after) = after.split_at_checked(length).ok_or_else(|| short(index))?;
        texts.push(text.to_vec());
        rest = after;
    }
    if !rest.is_empty() {
        let message = format!("the binary data of tensor `{name}` has {} bytes after its last element", rest.len());
        return Err(DecodeError::new(message));
    }
    Ok(texts)
}

/// Bytes that `encode` writes. None where an element of `BYTES` is too long for its length to be written.
pub fn encoded_bytes(data: &TensorData) -> Option<usize> {
    match (data, data.datatype().element_bytes()) {
        (TensorData::Bytes(texts), _) => texts.iter().try_fold(0_usize, |sum, text| {
            u32::try_from(text.len()).ok()?;
            sum.checked_add(LENGTH_BYTES)?.checked_add(text.len())
        }),
        (_, Some(size)) => data.len().checked_mul(size),
        (_, None) => None,
    }
}

/// Writes the elements as `decode` reads them; `encoded_bytes` has said that they can be.
pub fn encode(data: &TensorData, out: &mut Vec<u8>) {
    match data {
        TensorData::Bool(values) => out.extend(values.iter().map(|value| u8::from(*value))),
        TensorData::Uint8(values) => out.extend_from_slice(values),
        TensorData::Uint16(values) | TensorData::Fp16(values) => write(values, u16::to_le_bytes, out),
        TensorData::Uint32(values) => write(values, u32::to_le_bytes, out),
        TensorData::Uint64(values) => write(values, u64::to_le_bytes, out),
        TensorData::Int8(values) => write(values, i8::to_le_bytes, out),
        TensorData::Int16(values) => write(values, i16::to_le_bytes, out),
        TensorData::Int32(values) => write(values, i32::to_le_bytes, out),
        TensorData::Int64(values) => write(values, i64::to_le_bytes, out),
        TensorData::Fp32(values) => write(values, f32::to_le_bytes, out),
        TensorData::Fp64(values) => write(values, f64::to_le_bytes, out),
        TensorData::Bytes(texts) => {
            for text in texts {
                let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
                out.extend_from_slice(&length.to_le_bytes());
                out.extend_from_slice(text);
            }
        }
    }
}

fn write<T: Copy, const N: usize>(values: &[T], bytes: impl Fn(T) -> [u8; N], out: &mut Vec<u8>) {
    out.reserve(values.len() * N);
    for value in values {
        out.extend_from_slice(&bytes(*value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_that_lie_are_errors_and_ask_for_no_memory() {
        for bytes in [&[][..], &[1, 0, 0], &[5, 0, 0, 0, b'a'], &[0xFF; 4], &[0xFF, 0xFF, 0xFF, 0xFF, b'a']] {
            let error = decode("x", DataType::Bytes, 1, bytes).unwrap_err();
            assert!(error.0.contains("ends within element 0"), "{error}");
        }
        assert!(decode("x", DataType::Bytes, usize::MAX, &[0; 16]).is_err());
        assert!(decode("x", DataType::Fp64, usize::MAX, &[0; 16]).is_err());
        let error = decode("x", DataType::Bytes, 1, &[1, 0, 0, 0, b'a', b'b']).unwrap_err();
        assert!(error.0.contains("1 bytes after its last element"), "{error}");
    }

    #[test]
    fn values_that_a_type_has_not_are_errors() {
        assert!(decode("x", DataType::Bool, 2, &[0, 2]).is_err());
        assert_eq!(decode("x", DataType::Bool, 2, &[0, 1]).unwrap(), TensorData::Bool(vec![false, true]));
    }
}
