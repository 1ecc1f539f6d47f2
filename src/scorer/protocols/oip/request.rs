//! An inference request: `{"id", "parameters", "inputs", "outputs"}`, then the binary data of inputs in their order.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::scorer::protocols::capped::Capped;
use crate::scorer::protocols::{DecodeError, binary, elements, shown, told};
use crate::scorer::score::Priority;
use crate::scorer::tensor::{self, DataType, Tensor, TensorLimits};

/// Longest id, entity and name of a tensor that are taken, bytes: they are echoed, and written to events.
pub const MAX_ID_BYTES: usize = 512;

/// A request as it was read; which model it is for is in its path.
#[derive(Debug, Clone, PartialEq)]
pub struct InferRequest {
    pub id: Option<String>,
    pub inputs: Vec<Tensor>,
    /// Empty: all.
    pub outputs: Vec<WantedOutput>,
    /// For outputs that say nothing themselves: whether they are wanted as binary data.
    pub binary_outputs: bool,
    /// Parameter `entity`.
    pub entity: Option<String>,
    /// Parameter `priority`.
    pub priority: Option<Priority>,
    /// Parameter `timeout`, microseconds.
    pub timeout_us: Option<u64>,
}

/// An output that is asked for by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedOutput {
    pub name: String,
    /// None: as the request's `binary_data_output` has it.
    pub binary: Option<bool>,
}

const MAX_TENSORS: usize = 256;
/// More than any limit on the rank: the tensor's own error names it better.
const MAX_DIMENSIONS: usize = 64;

#[derive(Deserialize)]
struct RawRequest<'a> {
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    parameters: Parameters<'a>,
    #[serde(borrow)]
    inputs: Capped<RawInput<'a>, MAX_TENSORS>,
    #[serde(borrow, default)]
    outputs: Capped<RawOutput<'a>, MAX_TENSORS>,
}

#[derive(Deserialize)]
struct RawInput<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    shape: Capped<usize, MAX_DIMENSIONS>,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    #[serde(borrow, default)]
    parameters: Parameters<'a>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawOutput<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    parameters: Parameters<'a>,
}

/// The parameters that mean something here; any other is passed over, as the protocol asks.
#[derive(Default)]
struct Parameters<'a> {
    binary_data_size: Option<usize>,
    binary_data: Option<bool>,
    binary_data_output: Option<bool>,
    entity: Option<Cow<'a, str>>,
    priority: Option<&'a RawValue>,
    timeout_us: Option<u64>,
    /// Of a feature that is not there, and asked for.
    refused: Option<&'static str>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Parameters<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Known;
        impl<'de> Visitor<'de> for Known {
            type Value = Parameters<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of parameters")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut known = Parameters::default();
                while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                    match key.as_ref() {
                        "binary_data_size" => known.binary_data_size = Some(map.next_value()?),
                        "binary_data" => known.binary_data = Some(map.next_value()?),
                        "binary_data_output" => known.binary_data_output = Some(map.next_value()?),
                        "entity" => known.entity = Some(map.next_value()?),
                        "priority" => known.priority = Some(map.next_value()?),
                        "timeout" => known.timeout_us = Some(map.next_value()?),
                        other => {
                            known.refused = known.refused.or(refusal(other));
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(known)
            }
        }
        deserializer.deserialize_map(Known)
    }
}

/// To pass these over would give another answer than was asked for.
pub fn refusal(parameter: &str) -> Option<&'static str> {
    match parameter {
        "shared_memory_region" | "shared_memory_offset" | "shared_memory_byte_size" => {
            Some("shared memory is not supported; send the data in the request")
        }
        "classification" => Some("the classification extension is not supported; ask for the output as it is"),
        "sequence_id" | "sequence_start" | "sequence_end" => {
            Some("sequences are not supported: a model keeps nothing between requests")
        }
        _ => None,
    }
}

/// Reads a body. `header_length` is that of the JSON, where the request says that binary data follow it.
///
/// # Errors
/// The body is no request, or its tensors are over a limit or contradict themselves; the message says where.
pub fn decode(body: &[u8], header_length: Option<usize>, limits: &TensorLimits) -> Result<InferRequest, DecodeError> {
    let (json, mut binary) = match header_length {
        None => (body, &[][..]),
        Some(length) => body.split_at_checked(length).ok_or_else(|| {
            let message = format!("{HEADER_LENGTH} is {length}, the body has {} bytes", body.len());
            DecodeError::new(message)
        })?,
    };
    let raw: RawRequest<'_> = serde_json::from_slice(json)
        .map_err(|error| DecodeError::new(format!("the body is no inference request: {}", told(&error))))?;
    refuse_if(raw.parameters.refused)?;
    let most = limits.max_tensors.min(MAX_TENSORS);
    if raw.inputs.0.len() > most || raw.outputs.0.len() > most {
        return Err(DecodeError::new(format!("a request has at most {most} inputs and outputs")));
    }
    let mut inputs: Vec<Tensor> = Vec::with_capacity(raw.inputs.0.len());
    for input in raw.inputs.0 {
        if inputs.iter().any(|earlier| earlier.name() == input.name) {
            return Err(DecodeError::new(format!("input `{}` stands there twice", shown(&input.name))));
        }
        inputs.push(self::input(input, &mut binary, limits)?);
    }
    if !binary.is_empty() {
        return Err(DecodeError::new(format!(
            "{} bytes of binary data follow those of the last input; `binary_data_size` of the inputs must add up",
            binary.len()
        )));
    }
    let outputs = raw.outputs.0.into_iter().map(output).collect::<Result<Vec<_>, _>>()?;
    Ok(InferRequest {
        id: raw.id.map(|id| text("id", id)).transpose()?.filter(|id| !id.is_empty()),
        inputs,
        outputs,
        binary_outputs: raw.parameters.binary_data_output.unwrap_or(false),
        entity: raw.parameters.entity.map(|entity| text("entity", entity)).transpose()?,
        priority: raw.parameters.priority.map(|value| priority(value.get())).transpose()?,
        timeout_us: raw.parameters.timeout_us,
    })
}

use super::HEADER_LENGTH;

fn refuse_if(refused: Option<&'static str>) -> Result<(), DecodeError> {
    refused.map_or(Ok(()), |message| Err(DecodeError::new(message)))
}

fn output(raw: RawOutput<'_>) -> Result<WantedOutput, DecodeError> {
    refuse_if(raw.parameters.refused)?;
    check_length("the name of an output", &raw.name)?;
    Ok(WantedOutput { name: raw.name.into_owned(), binary: raw.parameters.binary_data })
}

fn input(raw: RawInput<'_>, binary: &mut &[u8], limits: &TensorLimits) -> Result<Tensor, DecodeError> {
    refuse_if(raw.parameters.refused)?;
    check_length("the name of an input", &raw.name)?;
    let name = shown(&raw.name);
    let datatype = DataType::parse(&raw.datatype).ok_or_else(|| {
        let known: Vec<&str> = DataType::ALL.iter().map(|datatype| datatype.name()).collect();
        let message =
            format!("input `{name}` has the datatype `{}`; known are {}", shown(&raw.datatype), known.join(", "));
        DecodeError::new(message)
    })?;
    let shape = raw.shape.0;
    // Before anything is read: a shape may ask for more than there is memory.
    let wanted = tensor::elements(&name, &shape, limits).map_err(|error| DecodeError::new(error.to_string()))?;
    let data = match (raw.data, raw.parameters.binary_data_size) {
        (Some(_), Some(_)) => {
            let message = format!("input `{name}` has both `data` and `binary_data_size`; send one of them");
            return Err(DecodeError::new(message));
        }
        (None, None) => {
            let message = format!("input `{name}` has neither `data` nor the parameter `binary_data_size`");
            return Err(DecodeError::new(message));
        }
        (Some(json), None) => {
            let what = format!("input `{name}`");
            let (nesting, data) = elements::decode(&what, datatype, json, limits)?;
            // One list of all elements, or lists as the shape has them.
            if nesting.len() > 1 && nesting != shape {
                let message = format!("{what} has the shape {shape:?}, the lists of its data {nesting:?}");
                return Err(DecodeError::new(message));
            }
            data
        }
        (None, Some(size)) => {
            let (own, rest) = binary.split_at_checked(size).ok_or_else(|| {
                let message = format!(
                    "input `{name}` has a `binary_data_size` of {size}; the body has {} more bytes of binary data",
                    binary.len()
                );
                DecodeError::new(message)
            })?;
            *binary = rest;
            binary::decode(&name, datatype, wanted, own)?
        }
    };
    // The tensor's own error would repeat the name as it came.
    if data.len() != wanted {
        let message = format!("input `{name}` has {} elements, its shape {shape:?} asks for {wanted}", data.len());
        return Err(DecodeError::new(message));
    }
    Tensor::new(raw.name, shape, data, limits).map_err(|error| DecodeError::new(error.to_string()))
}

fn text(what: &str, value: Cow<'_, str>) -> Result<String, DecodeError> {
    check_length(&format!("`{what}`"), &value)?;
    Ok(value.into_owned())
}

/// Texts that are kept, or repeated in answers: a request of many megabytes must not get one of as many.
fn check_length(what: &str, text: &str) -> Result<(), DecodeError> {
    match text.len() {
        ..=MAX_ID_BYTES => Ok(()),
        length => Err(DecodeError::new(format!("{what} has {length} bytes; at most {MAX_ID_BYTES} are taken"))),
    }
}

/// `"high"`, `"normal"`, `"low"`; or Triton's numbers: 0 the default, 1 the highest.
///
/// # Errors
/// It is neither.
pub fn priority(json: &str) -> Result<Priority, DecodeError> {
    match json.trim_matches('"') {
        "high" | "1" => Ok(Priority::High),
        "normal" | "0" | "2" => Ok(Priority::Normal),
        "low" => Ok(Priority::Low),
        number if number.parse::<u64>().is_ok() => Ok(Priority::Low),
        other => Err(DecodeError::new(format!("`{}` is no priority; send high, normal or low", shown(other)))),
    }
}
