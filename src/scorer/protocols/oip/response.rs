//! The answer to an inference request: JSON, then the binary data of outputs in their order.

use super::request::WantedOutput;
use crate::scorer::protocols::{binary, elements};
use crate::scorer::score::ScoreResponse;
use crate::scorer::tensor::Tensor;

/// A body, and where binary data begin in it if there are any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    pub bytes: Vec<u8>,
    pub header_length: Option<usize>,
}

/// Writes the answer; outputs that `wanted` does not name take `binary_default`.
///
/// # Errors
/// An output cannot be written as it was asked for; the message says how it can.
pub fn encode(response: &ScoreResponse, wanted: &[WantedOutput], binary_default: bool) -> Result<Body, String> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(b"{\"model_name\":");
    json(&response.model, &mut out)?;
    out.extend_from_slice(b",\"model_version\":");
    json(&response.version, &mut out)?;
    out.extend_from_slice(b",\"id\":");
    json(&response.id, &mut out)?;
    out.extend_from_slice(b",\"outputs\":[");
    let mut binary_outputs = Vec::new();
    for (index, output) in response.outputs.iter().enumerate() {
        let asked = wanted.iter().find(|asked| asked.name == output.name()).and_then(|asked| asked.binary);
        let is_binary = asked.unwrap_or(binary_default);
        if index > 0 {
            out.push(b',');
        }
        tensor(output, is_binary, &mut out)?;
        if is_binary {
            binary_outputs.push(output);
        }
    }
    out.extend_from_slice(b"]}");
    let header_length = (!binary_outputs.is_empty()).then_some(out.len());
    for output in binary_outputs {
        binary::encode(output.data(), &mut out);
    }
    Ok(Body { bytes: out, header_length })
}

fn tensor(output: &Tensor, is_binary: bool, out: &mut Vec<u8>) -> Result<(), String> {
    out.extend_from_slice(b"{\"name\":");
    json(output.name(), out)?;
    out.extend_from_slice(b",\"datatype\":\"");
    out.extend_from_slice(output.datatype().name().as_bytes());
    out.extend_from_slice(b"\",\"shape\":");
    json(output.shape(), out)?;
    if is_binary {
        let size = binary::encoded_bytes(output.data())
            .ok_or_else(|| format!("output `{}` has an element of more than 4 GiB", output.name()))?;
        out.extend_from_slice(b",\"parameters\":{\"binary_data_size\":");
        json(&size, out)?;
        out.extend_from_slice(b"}}");
    } else {
        out.extend_from_slice(b",\"data\":[");
        elements::encode(output.name(), output.data(), 0..output.data().len(), out)?;
        out.extend_from_slice(b"]}");
    }
    Ok(())
}

fn json<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), String> {
    serde_json::to_writer(out, value).map_err(|error| error.to_string())
}
