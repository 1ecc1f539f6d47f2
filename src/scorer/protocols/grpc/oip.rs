//! The Open Inference Protocol's `ModelInfer`: typed contents, or raw contents as the binary data of HTTP.

use std::collections::HashMap;

use bytes::Bytes;

use super::generated::inference::infer_parameter::ParameterChoice;
use super::generated::inference::model_infer_request::InferInputTensor;
use super::generated::inference::model_infer_response::InferOutputTensor;
use super::generated::inference::model_metadata_response::TensorMetadata;
use super::generated::inference::{
    self as proto, InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse,
};
use crate::scorer::engine::{Signature, TensorSpec};
use crate::scorer::protocols::oip::request::{MAX_ID_BYTES, priority, refusal};
use crate::scorer::protocols::{DecodeError, binary, shown};
use crate::scorer::score::{Priority, ScoreResponse};
use crate::scorer::tensor::{self, DataType, Tensor, TensorData, TensorLimits};

/// Extensions of the protocol that are served over gRPC.
pub const EXTENSIONS: [&str; 3] = ["model_configuration", "statistics", "model_repository"];

/// A request as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Infer {
    pub model: String,
    /// Empty in the message: none.
    pub version: Option<String>,
    pub id: Option<String>,
    pub inputs: Vec<Tensor>,
    /// Empty: all.
    pub outputs: Vec<String>,
    pub entity: Option<String>,
    pub priority: Option<Priority>,
    /// Parameter `timeout`, microseconds; 0 is none.
    pub timeout_us: Option<u64>,
    /// The inputs were raw: the outputs are to be so too.
    pub raw: bool,
}

/// # Errors
/// The tensors are over a limit or contradict themselves, or a parameter asks for what is not there.
pub fn decode(request: ModelInferRequest, limits: &TensorLimits) -> Result<Infer, DecodeError> {
    let most = limits.max_tensors;
    if request.inputs.len() > most || request.outputs.len() > most {
        return Err(DecodeError::new(format!("a request has at most {most} inputs and outputs")));
    }
    let raw = !request.raw_input_contents.is_empty();
    if raw && request.raw_input_contents.len() != request.inputs.len() {
        return Err(DecodeError::new(format!(
            "`raw_input_contents` has {} entries, `inputs` has {}; send one for each input",
            request.raw_input_contents.len(),
            request.inputs.len()
        )));
    }
    let mut inputs: Vec<Tensor> = Vec::with_capacity(request.inputs.len());
    let mut raw_contents = request.raw_input_contents.into_iter();
    for input in request.inputs {
        if inputs.iter().any(|earlier| earlier.name() == input.name) {
            return Err(DecodeError::new(format!("input `{}` stands there twice", shown(&input.name))));
        }
        refuse(&input.parameters)?;
        inputs.push(self::input(input, raw_contents.next(), limits)?);
    }
    let mut outputs = Vec::with_capacity(request.outputs.len());
    for output in request.outputs {
        refuse(&output.parameters)?;
        outputs.push(output.name);
    }
    let parameters = parameters(&request.parameters)?;
    Ok(Infer {
        model: request.model_name,
        version: Some(request.model_version).filter(|version| !version.is_empty()),
        id: bounded("id", request.id)?,
        inputs,
        outputs,
        entity: parameters.entity,
        priority: parameters.priority,
        timeout_us: parameters.timeout_us,
        raw,
    })
}

#[derive(Default)]
struct Parameters {
    entity: Option<String>,
    priority: Option<Priority>,
    timeout_us: Option<u64>,
}

/// Those that mean something here; any other is passed over, as the protocol asks.
fn parameters(sent: &HashMap<String, InferParameter>) -> Result<Parameters, DecodeError> {
    refuse(sent)?;
    let mut parameters = Parameters::default();
    for (name, value) in sent {
        match (name.as_str(), value.parameter_choice.as_ref()) {
            ("entity", Some(ParameterChoice::StringParam(entity))) => {
                parameters.entity = bounded("entity", entity.clone())?;
            }
            ("entity", _) => return Err(DecodeError::new("parameter `entity` is not a text")),
            ("priority", Some(value)) => parameters.priority = Some(priority(&text(value))?),
            ("timeout", Some(value)) => {
                let us = text(value).parse().map_err(|_| {
                    DecodeError::new("parameter `timeout` is not a whole number of microseconds, 0 or more")
                })?;
                parameters.timeout_us = Some(us).filter(|us| *us > 0);
            }
            _ => {}
        }
    }
    Ok(parameters)
}

fn text(value: &ParameterChoice) -> String {
    match value {
        ParameterChoice::BoolParam(value) => value.to_string(),
        ParameterChoice::Int64Param(value) => value.to_string(),
        ParameterChoice::StringParam(value) => value.clone(),
        ParameterChoice::DoubleParam(value) => value.to_string(),
        ParameterChoice::Uint64Param(value) => value.to_string(),
    }
}

/// Clients send some parameters always, with a value that means "not at all".
fn refuse(sent: &HashMap<String, InferParameter>) -> Result<(), DecodeError> {
    for (name, value) in sent {
        let unused =
            value.parameter_choice.as_ref().is_none_or(|value| matches!(text(value).as_str(), "0" | "" | "false"));
        if let Some(message) = refusal(name).filter(|_| !unused) {
            return Err(DecodeError::new(message));
        }
    }
    Ok(())
}

fn bounded(what: &str, text: String) -> Result<Option<String>, DecodeError> {
    if text.len() > MAX_ID_BYTES {
        return Err(DecodeError::new(format!("`{what}` has {} bytes; at most {MAX_ID_BYTES} are taken", text.len())));
    }
    Ok(Some(text).filter(|text| !text.is_empty()))
}

fn input(input: InferInputTensor, raw: Option<Bytes>, limits: &TensorLimits) -> Result<Tensor, DecodeError> {
    let name = shown(&input.name);
    let datatype = DataType::parse(&input.datatype).ok_or_else(|| {
        let known: Vec<&str> = DataType::ALL.iter().map(|datatype| datatype.name()).collect();
        let datatype = shown(&input.datatype);
        DecodeError::new(format!("input `{name}` has the datatype `{datatype}`; known are {}", known.join(", ")))
    })?;
    let shape = shape(&name, &input.shape)?;
    // Before anything is read: a shape may ask for more than there is memory.
    let wanted = tensor::elements(&name, &shape, limits).map_err(|error| DecodeError::new(error.to_string()))?;
    let data = match (raw, input.contents) {
        (Some(_), Some(_)) => {
            return Err(DecodeError::new(format!("input `{name}` has both `contents` and raw contents; send one")));
        }
        (Some(raw), None) => binary::decode(&name, datatype, wanted, &raw)?,
        (None, contents) => typed(&name, datatype, contents.unwrap_or_default())?,
    };
    Tensor::new(input.name, shape, data, limits).map_err(|error| DecodeError::new(error.to_string()))
}

/// Dimensions as the protocols have them, signed.
///
/// # Errors
/// One is negative.
pub fn shape(name: &str, sizes: &[i64]) -> Result<Vec<usize>, DecodeError> {
    let size = |size: &i64| usize::try_from(*size);
    sizes.iter().map(size).collect::<Result<_, _>>().map_err(|_| {
        let sizes: Vec<&i64> = sizes.iter().take(16).collect();
        DecodeError::new(format!("tensor `{name}` has the shape {sizes:?}; no dimension can be negative"))
    })
}

fn typed(name: &str, datatype: DataType, contents: InferTensorContents) -> Result<TensorData, DecodeError> {
    let field = match datatype {
        DataType::Bool => "bool_contents",
        DataType::Int8 | DataType::Int16 | DataType::Int32 => "int_contents",
        DataType::Int64 => "int64_contents",
        DataType::Uint8 | DataType::Uint16 | DataType::Uint32 => "uint_contents",
        DataType::Uint64 => "uint64_contents",
        DataType::Fp32 => "fp32_contents",
        DataType::Fp64 => "fp64_contents",
        DataType::Bytes => "bytes_contents",
        DataType::Fp16 => {
            let message = format!("input `{name}`: FP16 has no typed contents; send it in `raw_input_contents`");
            return Err(DecodeError::new(message));
        }
    };
    let filled = [
        ("bool_contents", contents.bool_contents.len()),
        ("int_contents", contents.int_contents.len()),
        ("int64_contents", contents.int64_contents.len()),
        ("uint_contents", contents.uint_contents.len()),
        ("uint64_contents", contents.uint64_contents.len()),
        ("fp32_contents", contents.fp32_contents.len()),
        ("fp64_contents", contents.fp64_contents.len()),
        ("bytes_contents", contents.bytes_contents.len()),
    ];
    if let Some((other, _)) = filled.iter().find(|(other, length)| *length > 0 && *other != field) {
        let datatype = datatype.name();
        return Err(DecodeError::new(format!("input `{name}` is {datatype} and has `{other}`; send `{field}`")));
    }
    Ok(match datatype {
        DataType::Bool => TensorData::Bool(contents.bool_contents),
        DataType::Int8 => TensorData::Int8(narrow(name, datatype, &contents.int_contents)?),
        DataType::Int16 => TensorData::Int16(narrow(name, datatype, &contents.int_contents)?),
        DataType::Int32 => TensorData::Int32(contents.int_contents),
        DataType::Int64 => TensorData::Int64(contents.int64_contents),
        DataType::Uint8 => TensorData::Uint8(narrow(name, datatype, &contents.uint_contents)?),
        DataType::Uint16 => TensorData::Uint16(narrow(name, datatype, &contents.uint_contents)?),
        DataType::Uint32 => TensorData::Uint32(contents.uint_contents),
        DataType::Uint64 => TensorData::Uint64(contents.uint64_contents),
        DataType::Fp32 => TensorData::Fp32(contents.fp32_contents),
        DataType::Fp64 => TensorData::Fp64(contents.fp64_contents),
        DataType::Fp16 | DataType::Bytes => {
            TensorData::Bytes(contents.bytes_contents.iter().map(|text| text.to_vec()).collect())
        }
    })
}

/// Whole numbers that a message carries in a wider type.
///
/// # Errors
/// One is out of the range of its type.
pub fn narrow<W: Copy + std::fmt::Display, N: TryFrom<W>>(
    name: &str,
    datatype: DataType,
    values: &[W],
) -> Result<Vec<N>, DecodeError> {
    let one = |value: &W| {
        N::try_from(*value)
            .map_err(|_| DecodeError::new(format!("tensor `{name}` has {value}, which is no {}", datatype.name())))
    };
    values.iter().map(one).collect()
}

/// The answer; `raw` as `Infer::raw` says. FP16 has no typed contents, so outputs among which it is are raw.
///
/// # Errors
/// An element of `BYTES` is too long for its length to be written.
pub fn encode(response: ScoreResponse, raw: bool) -> Result<ModelInferResponse, String> {
    let raw = raw || response.outputs.iter().any(|output| output.datatype() == DataType::Fp16);
    let mut outputs = Vec::with_capacity(response.outputs.len());
    let mut raw_output_contents = Vec::new();
    for output in response.outputs {
        let datatype = output.datatype().name().to_string();
        let shape = output.shape().iter().map(|size| i64::try_from(*size).unwrap_or(i64::MAX)).collect();
        let name = output.name().to_string();
        let data = output.into_data();
        let contents = if raw {
            let length = binary::encoded_bytes(&data)
                .ok_or_else(|| format!("output `{name}` has an element that is too long to be sent"))?;
            let mut bytes = Vec::with_capacity(length);
            binary::encode(&data, &mut bytes);
            raw_output_contents.push(Bytes::from(bytes));
            None
        } else {
            Some(contents(data))
        };
        outputs.push(InferOutputTensor { name, datatype, shape, parameters: HashMap::new(), contents });
    }
    Ok(ModelInferResponse {
        model_name: response.model,
        model_version: response.version,
        id: response.id,
        parameters: HashMap::new(),
        outputs,
        raw_output_contents,
    })
}

fn contents(data: TensorData) -> InferTensorContents {
    let mut contents = InferTensorContents::default();
    match data {
        TensorData::Bool(values) => contents.bool_contents = values,
        TensorData::Uint8(values) => contents.uint_contents = values.into_iter().map(u32::from).collect(),
        TensorData::Uint16(values) | TensorData::Fp16(values) => {
            contents.uint_contents = values.into_iter().map(u32::from).collect();
        }
        TensorData::Uint32(values) => contents.uint_contents = values,
        TensorData::Uint64(values) => contents.uint64_contents = values,
        TensorData::Int8(values) => contents.int_contents = values.into_iter().map(i32::from).collect(),
        TensorData::Int16(values) => contents.int_contents = values.into_iter().map(i32::from).collect(),
        TensorData::Int32(values) => contents.int_contents = values,
        TensorData::Int64(values) => contents.int64_contents = values,
        TensorData::Fp32(values) => contents.fp32_contents = values,
        TensorData::Fp64(values) => contents.fp64_contents = values,
        TensorData::Bytes(texts) => contents.bytes_contents = texts.into_iter().map(Bytes::from).collect(),
    }
    contents
}

/// -1 where any size goes.
pub fn sizes(spec: &TensorSpec) -> Vec<i64> {
    spec.shape.iter().map(|size| size.and_then(|size| i64::try_from(size).ok()).unwrap_or(-1)).collect()
}

pub fn metadata(specs: &[TensorSpec]) -> Vec<TensorMetadata> {
    let one = |spec: &TensorSpec| TensorMetadata {
        name: spec.name.clone(),
        datatype: spec.datatype.name().into(),
        shape: sizes(spec),
    };
    specs.iter().map(one).collect()
}

/// As Triton's model configuration extension has it, as far as it says something here. Its `dims` leave the batch out.
pub fn config(name: &str, platform: &str, signature: Option<&Signature>, max_batch_rows: usize) -> proto::ModelConfig {
    let batches = signature.is_some_and(|signature| signature.batches);
    let dims = |spec: &TensorSpec| sizes(spec).into_iter().skip(usize::from(batches)).collect();
    let specs = |of: fn(&Signature) -> &[TensorSpec]| signature.map(of).unwrap_or_default();
    proto::ModelConfig {
        name: name.into(),
        platform: platform.into(),
        max_batch_size: if batches { i32::try_from(max_batch_rows).unwrap_or(i32::MAX) } else { 0 },
        input: specs(|signature| &signature.inputs)
            .iter()
            .map(|spec| proto::ModelInput {
                name: spec.name.clone(),
                data_type: config_type(spec.datatype).into(),
                dims: dims(spec),
            })
            .collect(),
        output: specs(|signature| &signature.outputs)
            .iter()
            .map(|spec| proto::ModelOutput {
                name: spec.name.clone(),
                data_type: config_type(spec.datatype).into(),
                dims: dims(spec),
            })
            .collect(),
        backend: "onnxruntime".into(),
    }
}

fn config_type(datatype: DataType) -> proto::DataType {
    match datatype {
        DataType::Bool => proto::DataType::TypeBool,
        DataType::Uint8 => proto::DataType::TypeUint8,
        DataType::Uint16 => proto::DataType::TypeUint16,
        DataType::Uint32 => proto::DataType::TypeUint32,
        DataType::Uint64 => proto::DataType::TypeUint64,
        DataType::Int8 => proto::DataType::TypeInt8,
        DataType::Int16 => proto::DataType::TypeInt16,
        DataType::Int32 => proto::DataType::TypeInt32,
        DataType::Int64 => proto::DataType::TypeInt64,
        DataType::Fp16 => proto::DataType::TypeFp16,
        DataType::Fp32 => proto::DataType::TypeFp32,
        DataType::Fp64 => proto::DataType::TypeFp64,
        DataType::Bytes => proto::DataType::TypeString,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::scorer::score::Arm;

    fn every_type() -> Vec<TensorData> {
        vec![
            TensorData::Bool(vec![true, false]),
            TensorData::Uint8(vec![0, u8::MAX]),
            TensorData::Uint16(vec![0, u16::MAX]),
            TensorData::Uint32(vec![0, u32::MAX]),
            TensorData::Uint64(vec![0, u64::MAX]),
            TensorData::Int8(vec![i8::MIN, i8::MAX]),
            TensorData::Int16(vec![i16::MIN, i16::MAX]),
            TensorData::Int32(vec![i32::MIN, i32::MAX]),
            TensorData::Int64(vec![i64::MIN, i64::MAX]),
            TensorData::Fp16(vec![0x3C00, 0x7BFF]),
            TensorData::Fp32(vec![0.1, f32::MAX]),
            TensorData::Fp64(vec![0.1, f64::MIN_POSITIVE]),
            TensorData::Bytes(vec![vec![], vec![0xFF, 0]]),
        ]
    }

    /// An answer as a request: the two messages carry tensors in the same way.
    fn echo(response: ModelInferResponse) -> ModelInferRequest {
        let inputs = response.outputs.into_iter().map(|output| InferInputTensor {
            name: output.name,
            datatype: output.datatype,
            shape: output.shape,
            parameters: HashMap::new(),
            contents: output.contents,
        });
        ModelInferRequest {
            model_name: response.model_name,
            model_version: response.model_version,
            id: response.id,
            inputs: inputs.collect(),
            raw_input_contents: response.raw_output_contents,
            ..ModelInferRequest::default()
        }
    }

    #[test]
    fn what_is_written_is_read_again_in_either_form() {
        let limits = TensorLimits::default();
        for raw in [false, true] {
            for data in every_type() {
                let tensor = Tensor::new("t", vec![2, 1], data, &limits).unwrap();
                let response = ScoreResponse {
                    model: "m".into(),
                    version: "3".into(),
                    arm: Arm::Production,
                    id: "id".into(),
                    outputs: vec![tensor.clone()],
                    engine: "test",
                    latency: Duration::ZERO,
                };
                let message = encode(response, raw).unwrap();
                let read = decode(echo(message), &limits).unwrap();
                assert_eq!(read.inputs, [tensor]);
                assert_eq!(
                    (read.model.as_str(), read.version.as_deref(), read.id.as_deref()),
                    ("m", Some("3"), Some("id"))
                );
            }
        }
    }

    fn request(input: InferInputTensor) -> ModelInferRequest {
        ModelInferRequest { inputs: vec![input], ..ModelInferRequest::default() }
    }

    fn floats(shape: &[i64], values: &[f32]) -> InferInputTensor {
        let contents = InferTensorContents { fp32_contents: values.to_vec(), ..InferTensorContents::default() };
        InferInputTensor {
            name: "x".into(),
            datatype: "FP32".into(),
            shape: shape.to_vec(),
            parameters: HashMap::new(),
            contents: Some(contents),
        }
    }

    fn error(request: ModelInferRequest) -> String {
        decode(request, &TensorLimits::default()).unwrap_err().0
    }

    #[test]
    fn every_header_that_lies_is_an_error_that_says_so() {
        assert!(error(request(floats(&[2], &[1.0]))).contains("1 elements"));
        assert!(error(request(floats(&[-1], &[1.0]))).contains("negative"));
        assert!(error(request(floats(&[i64::MAX, i64::MAX], &[1.0]))).contains("more than"));
        assert!(error(request(floats(&[0, i64::MAX], &[]))).contains("more than"));
        assert!(error(request(floats(&[1; 9], &[1.0]))).contains("9 dimensions"));
        let unknown = InferInputTensor { datatype: "FP31".into(), ..floats(&[1], &[1.0]) };
        assert!(error(request(unknown)).contains("FP31"));
        let other = InferInputTensor { datatype: "INT32".into(), ..floats(&[1], &[1.0]) };
        assert!(error(request(other)).contains("send `int_contents`"));
        let twice = ModelInferRequest { inputs: vec![floats(&[1], &[1.0]); 2], ..ModelInferRequest::default() };
        assert!(error(twice).contains("twice"));
        let mut both = request(floats(&[1], &[1.0]));
        both.raw_input_contents = vec![Bytes::from_static(&[0; 4])];
        assert!(error(both.clone()).contains("both"));
        both.raw_input_contents.push(Bytes::new());
        assert!(error(both).contains("2 entries"));
        let mut short = request(InferInputTensor { contents: None, ..floats(&[1], &[]) });
        short.raw_input_contents = vec![Bytes::from_static(&[0; 3])];
        assert!(error(short).contains("3 bytes"));
        let small = InferTensorContents { int_contents: vec![200], ..InferTensorContents::default() };
        let out_of_range = InferInputTensor { datatype: "INT8".into(), contents: Some(small), ..floats(&[1], &[]) };
        assert!(error(request(out_of_range)).contains("200, which is no INT8"));
    }

    #[test]
    fn parameters_are_those_of_http_and_shared_memory_is_refused() {
        let parameter = |choice| InferParameter { parameter_choice: Some(choice) };
        let mut message = request(floats(&[1], &[1.0]));
        message.parameters = HashMap::from([
            ("entity".into(), parameter(ParameterChoice::StringParam("card-7".into()))),
            ("priority".into(), parameter(ParameterChoice::Uint64Param(1))),
            ("timeout".into(), parameter(ParameterChoice::Int64Param(1500))),
            ("sequence_id".into(), parameter(ParameterChoice::Int64Param(0))),
            ("whatever".into(), parameter(ParameterChoice::DoubleParam(1.0))),
        ]);
        let read = decode(message.clone(), &TensorLimits::default()).unwrap();
        assert_eq!(
            (read.entity.as_deref(), read.priority, read.timeout_us),
            (Some("card-7"), Some(Priority::High), Some(1500))
        );
        let region = parameter(ParameterChoice::StringParam("region".into()));
        message.inputs[0].parameters.insert("shared_memory_region".into(), region);
        assert!(error(message).contains("shared memory"));
    }

    proptest! {
        #[test]
        fn no_message_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(message) = <ModelInferRequest as prost::Message>::decode(bytes.as_slice()) {
                let _ = decode(message, &TensorLimits::default());
            }
        }
    }
}
