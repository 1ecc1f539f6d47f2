//! Tensors as ONNX Runtime's values and back. Inputs are lent, not copied; outputs are copied once.

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use ort::session::SessionInputValue;
use ort::value::{DynValue, Tensor as OrtTensor, TensorElementType, TensorRef, ValueType};

use super::EngineError;
use crate::scorer::tensor::{DataType, Tensor, TensorData, TensorLimits};

/// What the runtime gives was made by a model within its limits.
const OUTPUT_LIMITS: TensorLimits =
    TensorLimits { max_rank: usize::MAX, max_elements: isize::MAX as usize, max_tensors: usize::MAX };

/// The protocol's name for an element type of ONNX; none for those that no protocol here carries.
pub(super) const fn datatype(element: TensorElementType) -> Option<DataType> {
    Some(match element {
        TensorElementType::Bool => DataType::Bool,
        TensorElementType::Uint8 => DataType::Uint8,
        TensorElementType::Uint16 => DataType::Uint16,
        TensorElementType::Uint32 => DataType::Uint32,
        TensorElementType::Uint64 => DataType::Uint64,
        TensorElementType::Int8 => DataType::Int8,
        TensorElementType::Int16 => DataType::Int16,
        TensorElementType::Int32 => DataType::Int32,
        TensorElementType::Int64 => DataType::Int64,
        TensorElementType::Float16 => DataType::Fp16,
        TensorElementType::Float32 => DataType::Fp32,
        TensorElementType::Float64 => DataType::Fp64,
        TensorElementType::String => DataType::Bytes,
        _ => return None,
    })
}

/// A tensor as an input.
///
/// # Errors
/// A text is not UTF-8 or has a NUL; the runtime has no memory for it.
pub(super) fn input(tensor: &Tensor) -> Result<SessionInputValue<'_>, EngineError> {
    macro_rules! lend {
        ($values:expr) => {
            TensorRef::from_array_view((tensor.shape(), $values)).map(SessionInputValue::from)
        };
    }
    let value = match tensor.data() {
        TensorData::Bool(values) => lend!(values.as_slice()),
        TensorData::Uint8(values) => lend!(values.as_slice()),
        TensorData::Uint16(values) => lend!(values.as_slice()),
        TensorData::Uint32(values) => lend!(values.as_slice()),
        TensorData::Uint64(values) => lend!(values.as_slice()),
        TensorData::Int8(values) => lend!(values.as_slice()),
        TensorData::Int16(values) => lend!(values.as_slice()),
        TensorData::Int32(values) => lend!(values.as_slice()),
        TensorData::Int64(values) => lend!(values.as_slice()),
        TensorData::Fp16(values) => lend!(values.as_slice().reinterpret_cast::<half::f16>()),
        TensorData::Fp32(values) => lend!(values.as_slice()),
        TensorData::Fp64(values) => lend!(values.as_slice()),
        TensorData::Bytes(values) => {
            let texts = values.iter().enumerate().map(|(index, value)| text(tensor.name(), index, value));
            let texts = texts.collect::<Result<Vec<String>, _>>()?;
            OrtTensor::from_string_array((tensor.shape(), texts.as_slice())).map(SessionInputValue::from)
        }
    };
    value.map_err(|error| EngineError::Compute(format!("input `{}`: {}", tensor.name(), brief(error.message()))))
}

/// What ONNX Runtime's strings can be.
fn text(name: &str, index: usize, value: &[u8]) -> Result<String, EngineError> {
    match std::str::from_utf8(value) {
        Ok(text) if !text.contains('\0') => Ok(text.to_string()),
        _ => Err(EngineError::Input(format!(
            "input `{name}`: element {index} is not UTF-8 text without NUL, which the model takes"
        ))),
    }
}

/// An output as a tensor.
///
/// # Errors
/// It is no tensor of a type that is served, or not where the CPU can read it.
pub(super) fn output(name: &str, value: &DynValue) -> Result<Tensor, EngineError> {
    let failed = |text: &str| EngineError::Compute(format!("output `{name}`: {text}"));
    let ValueType::Tensor { ty, shape, .. } = value.dtype() else {
        return Err(failed("the model gave no tensor"));
    };
    let shape: Vec<usize> = shape.iter().map(|size| usize::try_from(*size).unwrap_or(0)).collect();
    let value = value.view().downcast::<ort::value::DynTensorValueType>().map_err(|error| failed(error.message()))?;
    macro_rules! copy {
        ($element:ty, $variant:ident) => {
            value.try_extract_tensor::<$element>().map(|(_, values)| TensorData::$variant(values.to_vec()))
        };
    }
    let data = match datatype(*ty) {
        Some(DataType::Bool) => copy!(bool, Bool),
        Some(DataType::Uint8) => copy!(u8, Uint8),
        Some(DataType::Uint16) => copy!(u16, Uint16),
        Some(DataType::Uint32) => copy!(u32, Uint32),
        Some(DataType::Uint64) => copy!(u64, Uint64),
        Some(DataType::Int8) => copy!(i8, Int8),
        Some(DataType::Int16) => copy!(i16, Int16),
        Some(DataType::Int32) => copy!(i32, Int32),
        Some(DataType::Int64) => copy!(i64, Int64),
        Some(DataType::Fp32) => copy!(f32, Fp32),
        Some(DataType::Fp64) => copy!(f64, Fp64),
        Some(DataType::Fp16) => value.try_extract_tensor::<half::f16>().map(|(_, values)| {
            let bits: &[u16] = values.reinterpret_cast();
            TensorData::Fp16(bits.to_vec())
        }),
        Some(DataType::Bytes) => value
            .try_extract_strings()
            .map(|(_, texts)| TensorData::Bytes(texts.into_iter().map(String::into_bytes).collect())),
        None => return Err(failed(&format!("elements of type {ty} are not served"))),
    };
    let data = data.map_err(|error| failed(brief(error.message())))?;
    Tensor::new(name, shape, data, &OUTPUT_LIMITS).map_err(|error| failed(&error.to_string()))
}

/// The runtime's message without where in its own sources it was written, and no longer than a log line.
pub(super) fn brief(message: &str) -> &str {
    const LONGEST: usize = 400;
    let line = message.lines().next().unwrap_or_default();
    let line = line.split_once("Status Message: ").map_or(line, |(_, status)| status);
    // `/onnxruntime_src/.../gather.cc:54 virtual onnxruntime::common::Status ...(...) const what was wrong`
    let line = match line.rsplit_once(") const ").or_else(|| line.rsplit_once(") ")) {
        Some((source, rest)) if source.contains(".cc:") || source.contains(".h:") => rest,
        _ => line,
    };
    let end = line.char_indices().map(|(index, _)| index).take_while(|index| *index < LONGEST).last();
    let end = end.and_then(|last| line[last..].chars().next().map(|last_char| last + last_char.len_utf8()));
    line.get(..end.unwrap_or(0)).unwrap_or(line).trim()
}
