//! TensorFlow Serving's `Predict`: its tensors, by element or as `tensor_content`, and its signatures.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::generated::tensorflow::serving::{ModelSpec, PredictRequest, PredictResponse, model_spec::VersionChoice};
use super::generated::tensorflow::tensor_shape_proto::Dim;
use super::generated::tensorflow::{DataType as TfType, SignatureDef, TensorInfo, TensorProto, TensorShapeProto};
use super::oip::narrow;
use crate::scorer::engine::{Signature, TensorSpec};
use crate::scorer::protocols::{DecodeError, binary, shown};
use crate::scorer::score::ScoreResponse;
use crate::scorer::tensor::{self, DataType, Tensor, TensorData, TensorLimits};

/// The only signature that models here have.
pub const SIGNATURE: &str = "serving_default";
/// Most elements of a tensor that may leave out equal ones at its end.
const MAX_FILLED: usize = 65_536;
const METHOD: &str = "tensorflow/serving/predict";

/// A request as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Predict {
    pub model: String,
    pub version: Option<String>,
    pub inputs: Vec<Tensor>,
    /// Empty: all.
    pub outputs: Vec<String>,
}

/// Model and version of a request. A label is taken as a version's name, for those that are no numbers.
///
/// # Errors
/// There is none, or it asks for another signature.
pub fn model(spec: Option<ModelSpec>) -> Result<(String, Option<String>), DecodeError> {
    let spec = spec.ok_or_else(|| DecodeError::new("`model_spec` is missing"))?;
    if !spec.signature_name.is_empty() && spec.signature_name != SIGNATURE {
        let message = format!("there is no signature `{}`; `{SIGNATURE}` is the only one", shown(&spec.signature_name));
        return Err(DecodeError::new(message));
    }
    let version = match spec.version_choice {
        Some(VersionChoice::Version(version)) => Some(version.value.to_string()),
        Some(VersionChoice::VersionLabel(label)) => Some(label),
        None => None,
    };
    Ok((spec.name, version))
}

/// # Errors
/// The tensors are over a limit or contradict themselves.
pub fn decode(request: PredictRequest, limits: &TensorLimits) -> Result<Predict, DecodeError> {
    let (model, version) = model(request.model_spec)?;
    if request.inputs.len() > limits.max_tensors || request.output_filter.len() > limits.max_tensors {
        return Err(DecodeError::new(format!("a request has at most {} inputs and outputs", limits.max_tensors)));
    }
    let inputs = request.inputs.into_iter().map(|(name, proto)| tensor(name, proto, limits));
    Ok(Predict { model, version, inputs: inputs.collect::<Result<_, _>>()?, outputs: request.output_filter })
}

fn tensor(name: String, proto: TensorProto, limits: &TensorLimits) -> Result<Tensor, DecodeError> {
    let shown = shown(&name);
    let datatype = datatype(proto.dtype()).ok_or_else(|| {
        DecodeError::new(format!("input `{shown}` has the dtype {}, which is not known", proto.dtype))
    })?;
    let shape = proto.tensor_shape.clone().unwrap_or_default();
    if shape.unknown_rank {
        return Err(DecodeError::new(format!("input `{shown}` has a shape of unknown rank")));
    }
    let sizes: Vec<i64> = shape.dim.iter().map(|dim| dim.size).collect();
    let shape = super::oip::shape(&shown, &sizes)?;
    let wanted = tensor::elements(&shown, &shape, limits).map_err(|error| DecodeError::new(error.to_string()))?;
    let data = if proto.tensor_content.is_empty() {
        fill(&shown, by_element(&shown, datatype, proto)?, wanted)?
    } else if datatype == DataType::Bytes {
        return Err(DecodeError::new(format!("input `{shown}`: texts go into `string_val`, not `tensor_content`")));
    } else {
        binary::decode(&shown, datatype, wanted, &proto.tensor_content)?
    };
    Tensor::new(name, shape, data, limits).map_err(|error| DecodeError::new(error.to_string()))
}

fn by_element(name: &str, datatype: DataType, proto: TensorProto) -> Result<TensorData, DecodeError> {
    Ok(match datatype {
        DataType::Bool => TensorData::Bool(proto.bool_val),
        DataType::Uint8 => TensorData::Uint8(narrow(name, datatype, &proto.int_val)?),
        DataType::Uint16 => TensorData::Uint16(narrow(name, datatype, &proto.int_val)?),
        DataType::Uint32 => TensorData::Uint32(proto.uint32_val),
        DataType::Uint64 => TensorData::Uint64(proto.uint64_val),
        DataType::Int8 => TensorData::Int8(narrow(name, datatype, &proto.int_val)?),
        DataType::Int16 => TensorData::Int16(narrow(name, datatype, &proto.int_val)?),
        DataType::Int32 => TensorData::Int32(proto.int_val),
        DataType::Int64 => TensorData::Int64(proto.int64_val),
        DataType::Fp16 => TensorData::Fp16(narrow(name, datatype, &proto.half_val)?),
        DataType::Fp32 => TensorData::Fp32(proto.float_val),
        DataType::Fp64 => TensorData::Fp64(proto.double_val),
        DataType::Bytes => TensorData::Bytes(proto.string_val.iter().map(|text| text.to_vec()).collect()),
    })
}

/// TensorFlow leaves out equal elements at the end: the last one that is there stands for the rest. Up to a limit, so that
/// a few bytes cannot ask for much memory.
fn fill(name: &str, mut data: TensorData, wanted: usize) -> Result<TensorData, DecodeError> {
    macro_rules! fill {
        ($($variant:ident),*) => {
            match &mut data {
                $(TensorData::$variant(values) => {
                    if values.len() < wanted && wanted <= MAX_FILLED && let Some(last) = values.last().cloned() {
                        values.resize(wanted, last);
                    }
                })*
                // A text repeated many times would take more memory than was sent.
                TensorData::Bytes(_) => {}
            }
        };
    }
    fill!(Bool, Uint8, Uint16, Uint32, Uint64, Int8, Int16, Int32, Int64, Fp16, Fp32, Fp64);
    if data.len() == wanted {
        return Ok(data);
    }
    Err(DecodeError::new(format!("input `{name}` has {} elements, its shape asks for {wanted}", data.len())))
}

fn datatype(dtype: TfType) -> Option<DataType> {
    Some(match dtype {
        TfType::DtInvalid => return None,
        TfType::DtFloat => DataType::Fp32,
        TfType::DtDouble => DataType::Fp64,
        TfType::DtInt32 => DataType::Int32,
        TfType::DtUint8 => DataType::Uint8,
        TfType::DtInt16 => DataType::Int16,
        TfType::DtInt8 => DataType::Int8,
        TfType::DtString => DataType::Bytes,
        TfType::DtInt64 => DataType::Int64,
        TfType::DtBool => DataType::Bool,
        TfType::DtUint16 => DataType::Uint16,
        TfType::DtHalf => DataType::Fp16,
        TfType::DtUint32 => DataType::Uint32,
        TfType::DtUint64 => DataType::Uint64,
    })
}

fn dtype(datatype: DataType) -> TfType {
    match datatype {
        DataType::Bool => TfType::DtBool,
        DataType::Uint8 => TfType::DtUint8,
        DataType::Uint16 => TfType::DtUint16,
        DataType::Uint32 => TfType::DtUint32,
        DataType::Uint64 => TfType::DtUint64,
        DataType::Int8 => TfType::DtInt8,
        DataType::Int16 => TfType::DtInt16,
        DataType::Int32 => TfType::DtInt32,
        DataType::Int64 => TfType::DtInt64,
        DataType::Fp16 => TfType::DtHalf,
        DataType::Fp32 => TfType::DtFloat,
        DataType::Fp64 => TfType::DtDouble,
        DataType::Bytes => TfType::DtString,
    }
}

/// The spec of an answer. A version that is no number goes as a label.
pub fn spec(model: String, version: &str) -> ModelSpec {
    let choice = match version.parse::<i64>() {
        Ok(value) => VersionChoice::Version(super::generated::tensorflow::serving::Int64Value { value }),
        Err(_) => VersionChoice::VersionLabel(version.into()),
    };
    ModelSpec { name: model, signature_name: SIGNATURE.into(), version_choice: Some(choice) }
}

pub fn encode(response: ScoreResponse) -> PredictResponse {
    let outputs = response.outputs.into_iter().map(|output| (output.name().to_string(), proto(output)));
    PredictResponse { outputs: outputs.collect(), model_spec: Some(spec(response.model, &response.version)) }
}

fn proto(tensor: Tensor) -> TensorProto {
    let dims = tensor.shape().iter().map(|size| i64::try_from(*size).unwrap_or(i64::MAX));
    let mut proto = TensorProto { tensor_shape: Some(shape(dims)), ..TensorProto::default() };
    proto.set_dtype(dtype(tensor.datatype()));
    match tensor.into_data() {
        TensorData::Fp32(values) => proto.float_val = values,
        TensorData::Fp64(values) => proto.double_val = values,
        TensorData::Int64(values) => proto.int64_val = values,
        TensorData::Int32(values) => proto.int_val = values,
        TensorData::Bool(values) => proto.bool_val = values,
        TensorData::Bytes(texts) => proto.string_val = texts.into_iter().map(Bytes::from).collect(),
        data => {
            let mut bytes = Vec::new();
            binary::encode(&data, &mut bytes);
            proto.tensor_content = Bytes::from(bytes);
        }
    }
    proto
}

fn shape(sizes: impl Iterator<Item = i64>) -> TensorShapeProto {
    TensorShapeProto { dim: sizes.map(|size| Dim { size, name: String::new() }).collect(), unknown_rank: false }
}

pub fn signature_def(signature: &Signature) -> SignatureDef {
    let infos = |specs: &[TensorSpec]| -> BTreeMap<String, TensorInfo> {
        let one = |spec: &TensorSpec| {
            let mut info = TensorInfo {
                name: spec.name.clone(),
                tensor_shape: Some(shape(super::oip::sizes(spec).into_iter())),
                ..TensorInfo::default()
            };
            info.set_dtype(dtype(spec.datatype));
            (spec.name.clone(), info)
        };
        specs.iter().map(one).collect()
    };
    SignatureDef { inputs: infos(&signature.inputs), outputs: infos(&signature.outputs), method_name: METHOD.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(proto: TensorProto) -> Result<Tensor, DecodeError> {
        tensor("x".into(), proto, &TensorLimits::default())
    }

    #[test]
    fn what_is_written_is_read_again() {
        for data in [
            TensorData::Fp32(vec![0.1, 0.1]),
            TensorData::Fp64(vec![0.1, f64::MAX]),
            TensorData::Int8(vec![-1, 1]),
            TensorData::Uint64(vec![0, u64::MAX]),
            TensorData::Fp16(vec![0x3C00, 1]),
            TensorData::Bool(vec![true, false]),
            TensorData::Bytes(vec![b"a".to_vec(), vec![0xFF]]),
        ] {
            let tensor = Tensor::new("x", vec![2, 1], data, &TensorLimits::default()).unwrap();
            assert_eq!(read(proto(tensor.clone())).unwrap(), tensor);
        }
    }

    #[test]
    fn elements_left_out_at_the_end_are_the_last_and_lies_are_errors() {
        let floats = |sizes: &[i64], values: &[f32]| TensorProto {
            dtype: TfType::DtFloat.into(),
            tensor_shape: Some(shape(sizes.iter().copied())),
            float_val: values.to_vec(),
            ..TensorProto::default()
        };
        assert_eq!(read(floats(&[3], &[1.0, 2.0])).unwrap().data(), &TensorData::Fp32(vec![1.0, 2.0, 2.0]));
        for (sizes, values) in [(&[2][..], &[][..]), (&[1], &[1.0, 2.0]), (&[-1], &[1.0]), (&[i64::MAX], &[1.0])] {
            assert!(read(floats(sizes, values)).is_err(), "{sizes:?}");
        }
        let no_type = TensorProto { dtype: 8, ..floats(&[1], &[1.0]) };
        assert!(read(no_type).unwrap_err().0.contains("dtype 8"));
        let short = TensorProto { tensor_content: Bytes::from_static(&[0; 7]), ..floats(&[2], &[]) };
        assert!(read(short).unwrap_err().0.contains("7 bytes"));
    }

    #[test]
    fn only_the_one_signature_is_served() {
        let spec = ModelSpec { signature_name: "other".into(), ..ModelSpec::default() };
        assert!(model(Some(spec)).unwrap_err().0.contains("serving_default"));
        assert_eq!(model(Some(super::spec("m".into(), "7"))).unwrap(), ("m".into(), Some("7".into())));
        assert_eq!(model(Some(super::spec("m".into(), "v7"))).unwrap(), ("m".into(), Some("v7".into())));
    }
}
