//! Elements of tensors as JSON: flat or nested lists to a tensor's data, and back.
//!
//! A number is read from its own text into the element's type, so that an `FP32` is the one nearest to what was written:
//! by way of `f64` it would be rounded twice. `null` is not a number in `FP32` and `FP64`, which JSON has no word for.

use base64::Engine as _;
use serde_json::value::RawValue;

use super::{DecodeError, shown};
use crate::scorer::tensor::{DataType, TensorData, TensorLimits};

/// The elements of a list, flat or nested, and the shape that the nesting has; `[]` for a single value. `what` names it
/// in errors.
///
/// # Errors
/// The lists differ in length or depth, are over a limit, or an element is none of `datatype`.
pub fn decode(
    what: &str,
    datatype: DataType,
    json: &RawValue,
    limits: &TensorLimits,
) -> Result<(Vec<usize>, TensorData), DecodeError> {
    macro_rules! read {
        ($variant:ident, $read:expr) => {{
            let mut values = Vec::new();
            let shape = walk(what, json.get(), limits, |text| {
                let refuse = || refused(what, datatype, text);
                values.push($read(text).ok_or_else(refuse)?);
                Ok(())
            })?;
            Ok((shape, TensorData::$variant(values)))
        }};
    }
    match datatype {
        DataType::Bool => read!(Bool, boolean),
        DataType::Uint8 => read!(Uint8, |text: &str| text.parse().ok()),
        DataType::Uint16 => read!(Uint16, |text: &str| text.parse().ok()),
        DataType::Uint32 => read!(Uint32, |text: &str| text.parse().ok()),
        DataType::Uint64 => read!(Uint64, |text: &str| text.parse().ok()),
        DataType::Int8 => read!(Int8, |text: &str| text.parse().ok()),
        DataType::Int16 => read!(Int16, |text: &str| text.parse().ok()),
        DataType::Int32 => read!(Int32, |text: &str| text.parse().ok()),
        DataType::Int64 => read!(Int64, |text: &str| text.parse().ok()),
        DataType::Fp32 => read!(Fp32, single),
        DataType::Fp64 => read!(Fp64, double),
        DataType::Bytes => read!(Bytes, bytes),
        DataType::Fp16 => {
            Err(DecodeError::new(format!("{what}: FP16 has no form in JSON; send it as binary data, or send FP32")))
        }
    }
}

fn refused(what: &str, datatype: DataType, text: &str) -> DecodeError {
    DecodeError::new(format!("{what}: `{}` is not a value of {}", shown(text), datatype.name()))
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// Whether this is a number of JSON: Rust would also read `inf` and `NaN`, which a valid text cannot hold, and this is no
/// place to rely on it.
fn is_number(text: &str) -> bool {
    text.starts_with(|c: char| c == '-' || c.is_ascii_digit())
}

fn single(text: &str) -> Option<f32> {
    match text {
        "null" => Some(f32::NAN),
        _ if is_number(text) => text.parse().ok().filter(|value: &f32| value.is_finite()),
        _ => None,
    }
}

fn double(text: &str) -> Option<f64> {
    match text {
        "null" => Some(f64::NAN),
        _ if is_number(text) => text.parse().ok().filter(|value: &f64| value.is_finite()),
        _ => None,
    }
}

/// A text, or `{"b64": "..."}` for bytes that are none.
fn bytes(text: &str) -> Option<Vec<u8>> {
    if text.starts_with('"') {
        return serde_json::from_str::<String>(text).ok().map(String::into_bytes);
    }
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Encoded {
        b64: String,
    }
    let encoded: Encoded = serde_json::from_str(text).ok()?;
    base64::engine::general_purpose::STANDARD.decode(encoded.b64).ok()
}

/// What the lists of one depth hold and how long they are, once known.
#[derive(Default)]
struct Level {
    holds_lists: Option<bool>,
    length: Option<usize>,
    /// Elements so far of the list that is open.
    count: usize,
}

/// Calls `element` with the text of each element of a valid JSON text, and returns the shape of its lists.
fn walk(
    what: &str,
    json: &str,
    limits: &TensorLimits,
    mut element: impl FnMut(&str) -> Result<(), DecodeError>,
) -> Result<Vec<usize>, DecodeError> {
    let ragged = || DecodeError::new(format!("{what}: lists of one depth differ in length or in what they hold"));
    let mut levels: Vec<Level> = Vec::new();
    let mut open = 0;
    let mut total = 0_usize;
    let mut rest = json.trim_start();
    while let Some(first) = rest.as_bytes().first() {
        let taken = match first {
            b'[' => {
                hold(&mut levels, open, true).ok_or_else(ragged)?;
                if open == limits.max_rank {
                    return Err(DecodeError::new(format!("{what}: lists are nested deeper than {}", limits.max_rank)));
                }
                if levels.len() == open {
                    levels.push(Level::default());
                }
                levels[open].count = 0;
                open += 1;
                1
            }
            b']' => {
                open = open.checked_sub(1).ok_or_else(ragged)?;
                let level = &mut levels[open];
                if *level.length.get_or_insert(level.count) != level.count {
                    return Err(ragged());
                }
                1
            }
            b',' => 1,
            _ => {
                hold(&mut levels, open, false).ok_or_else(ragged)?;
                total += 1;
                if total > limits.max_elements {
                    return Err(DecodeError::new(format!("{what}: more than {} elements", limits.max_elements)));
                }
                let length = token_bytes(rest);
                element(rest.get(..length).unwrap_or(rest))?;
                length
            }
        };
        rest = rest.get(taken..).unwrap_or_default().trim_start();
    }
    Ok(levels.iter().map(|level| level.length.unwrap_or(0)).collect())
}

/// Counts one more element of the innermost open list. None if it holds elements of the other sort, or there is none open
/// and something was there before.
fn hold(levels: &mut [Level], open: usize, is_list: bool) -> Option<()> {
    let Some(parent) = open.checked_sub(1) else {
        return levels.is_empty().then_some(());
    };
    let level = levels.get_mut(parent)?;
    level.count += 1;
    (*level.holds_lists.get_or_insert(is_list) == is_list).then_some(())
}

/// Length of the scalar, text or object that a valid JSON text starts with; at least 1.
fn token_bytes(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut depth, mut in_text, mut at) = (0_usize, false, 0);
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match (in_text, byte) {
            (true, b'\\') => at += 1,
            (true, b'"') => in_text = false,
            (true, _) => {}
            (false, b'"') => in_text = true,
            (false, b'{' | b'[') => depth += 1,
            (false, b'}' | b']') if depth > 0 => depth -= 1,
            (false, b',' | b']' | b' ' | b'\t' | b'\n' | b'\r') if depth == 0 => return (at - 1).max(1),
            (false, _) => {}
        }
    }
    bytes.len()
}

/// Writes elements `range` of the data, flat, with commas between them and no brackets.
///
/// # Errors
/// The type has no form in JSON, or a text is not UTF-8; the message says to ask for binary data.
pub fn encode(name: &str, data: &TensorData, range: std::ops::Range<usize>, out: &mut Vec<u8>) -> Result<(), String> {
    macro_rules! write {
        ($values:expr) => {{
            for (index, value) in $values.get(range).unwrap_or_default().iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                // Writing to memory does not fail. What is not finite becomes `null`.
                serde_json::to_writer(&mut *out, value).map_err(|error| error.to_string())?;
            }
        }};
    }
    match data {
        TensorData::Bool(values) => write!(values),
        TensorData::Uint8(values) => write!(values),
        TensorData::Uint16(values) => write!(values),
        TensorData::Uint32(values) => write!(values),
        TensorData::Uint64(values) => write!(values),
        TensorData::Int8(values) => write!(values),
        TensorData::Int16(values) => write!(values),
        TensorData::Int32(values) => write!(values),
        TensorData::Int64(values) => write!(values),
        TensorData::Fp32(values) => write!(values),
        TensorData::Fp64(values) => write!(values),
        TensorData::Bytes(texts) => {
            for (index, text) in texts.get(range).unwrap_or_default().iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                let text = std::str::from_utf8(text)
                    .map_err(|_| format!("output `{name}` holds bytes that are no text; ask for binary data"))?;
                serde_json::to_writer(&mut *out, text).map_err(|error| error.to_string())?;
            }
        }
        TensorData::Fp16(_) => {
            return Err(format!("output `{name}` is FP16, which has no form in JSON; ask for binary data"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(datatype: DataType, json: &str) -> Result<(Vec<usize>, TensorData), DecodeError> {
        let raw: &RawValue = serde_json::from_str(json).unwrap();
        decode("input `x`", datatype, raw, &TensorLimits { max_rank: 3, max_elements: 6, max_tensors: 1 })
    }

    #[test]
    fn nesting_gives_the_shape() {
        for (json, shape, len) in [
            ("7", &[][..], 1),
            ("[]", &[0], 0),
            ("[ [ 1, 2,3 ] ,\n[4,5,6]]", &[2, 3], 6),
            ("[[],[]]", &[2, 0], 0),
            ("[[[1],[2]]]", &[1, 2, 1], 2),
        ] {
            let (found, data) = read(DataType::Int64, json).unwrap();
            assert_eq!((found.as_slice(), data.len()), (shape, len), "{json}");
        }
        for json in ["[[1],[2,3]]", "[1,[2]]", "[[1],2]", "[[],[1]]", "[[[[1]]]]", "[1,2,3,4,5,6,7]"] {
            assert!(read(DataType::Int64, json).is_err(), "{json}");
        }
    }

    #[test]
    fn a_number_is_rounded_once() {
        // Just above the middle between 1 and the next f32; by way of f64 it would be the middle, and round to 1.
        let (_, data) = read(DataType::Fp32, "[1.0000000596046447753906251, 0.1, -0.0]").unwrap();
        assert_eq!(data, TensorData::Fp32(vec![1.000_000_1, 0.1, -0.0]));
        let (_, data) = read(DataType::Fp64, "[null]").unwrap();
        assert!(matches!(data, TensorData::Fp64(values) if values[0].is_nan()));
    }

    #[test]
    fn what_is_no_value_of_the_type_is_refused_by_name() {
        for (datatype, json) in [
            (DataType::Fp32, "[1e39]"),
            (DataType::Fp32, "[\"1\"]"),
            (DataType::Fp64, "[1e999]"),
            (DataType::Int8, "[128]"),
            (DataType::Uint8, "[-1]"),
            (DataType::Int64, "[1.0]"),
            (DataType::Int64, "[null]"),
            (DataType::Bool, "[1]"),
            (DataType::Bytes, "[1]"),
            (DataType::Bytes, "[{\"b64\":\"!\"}]"),
            (DataType::Fp32, "[{\"a\":[1,2]}]"),
        ] {
            let error = read(datatype, json).unwrap_err();
            assert!(error.0.contains(datatype.name()) && error.0.contains("input `x`"), "{json}: {error}");
        }
        assert!(read(DataType::Fp16, "[1]").unwrap_err().0.contains("binary"));
    }

    #[test]
    fn texts_may_hold_what_looks_like_structure() {
        let (shape, data) = read(DataType::Bytes, r#"["a,]\"[", "\u00e4", {"b64":"/w=="}]"#).unwrap();
        assert_eq!(shape, [3]);
        assert_eq!(data, TensorData::Bytes(vec![b"a,]\"[".to_vec(), "ä".as_bytes().to_vec(), vec![0xFF]]));
    }

    #[test]
    fn what_is_not_finite_is_null_and_bytes_that_are_no_text_are_refused() {
        let mut out = Vec::new();
        encode("y", &TensorData::Fp32(vec![0.1, f32::NAN, f32::INFINITY]), 0..3, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "0.1,null,null");
        assert!(encode("y", &TensorData::Bytes(vec![vec![0xFF]]), 0..1, &mut Vec::new()).is_err());
    }
}
