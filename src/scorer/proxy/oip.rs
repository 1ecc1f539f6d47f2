//! A peer that speaks the Open Inference Protocol over HTTP: Triton, MLServer, KServe. Tensors go as binary data where the
//! server says that it takes them.

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::nested;
use super::protocol::{Body, Came, Learned, Protocol};
use super::version::PeerVersionFile;
use crate::scorer::engine::{Signature, TensorSpec};
use crate::scorer::protocols::{binary, elements, shown};
use crate::scorer::score::ScoreError;
use crate::scorer::tensor::{self, DataType, Tensor, TensorLimits};

pub struct Oip {
    pub version: PeerVersionFile,
}

#[derive(Deserialize)]
struct Server {
    #[serde(default)]
    extensions: Vec<String>,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default)]
    inputs: Vec<Described>,
    #[serde(default)]
    outputs: Vec<Described>,
}

#[derive(Deserialize)]
struct Described {
    name: String,
    datatype: String,
    shape: Vec<i64>,
}

impl Described {
    fn spec(&self) -> Option<TensorSpec> {
        let size = |size: &i64| usize::try_from(*size).ok();
        let datatype = DataType::parse(&self.datatype)?;
        Some(TensorSpec { name: self.name.clone(), datatype, shape: self.shape.iter().map(size).collect() })
    }
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    outputs: Vec<Output<'a>>,
}

#[derive(Deserialize)]
struct Output<'a> {
    name: String,
    datatype: String,
    shape: Vec<usize>,
    #[serde(default)]
    parameters: Option<Parameters>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Parameters {
    #[serde(default)]
    binary_data_size: Option<usize>,
}

impl Oip {
    fn path(&self, end: &str) -> String {
        let version = self.version.version.as_ref().map(|version| format!("/versions/{version}")).unwrap_or_default();
        format!("v2/models/{}{version}{end}", self.version.model)
    }
}

impl Protocol for Oip {
    fn engine(&self) -> &'static str {
        "proxy-oip"
    }

    fn ready_path(&self) -> String {
        self.path("/ready")
    }

    fn is_ready(&self, body: &[u8]) -> bool {
        // Some answer 200 with the state in the body, some with no body at all.
        let said = serde_json::from_slice::<serde_json::Value>(body).ok();
        said.and_then(|said| said.get("ready").and_then(serde_json::Value::as_bool)).unwrap_or(true)
    }

    fn metadata_paths(&self) -> Vec<String> {
        vec!["v2".into(), self.path("")]
    }

    fn learn(&self, bodies: &[Option<Vec<u8>>]) -> Learned {
        let body = |index: usize| bodies.get(index).and_then(Option::as_deref).unwrap_or_default();
        let server = serde_json::from_slice::<Server>(body(0)).ok();
        let model = serde_json::from_slice::<Model>(body(1)).ok();
        Learned {
            signature: model.and_then(|model| signature(&model)),
            binary: server.is_some_and(|server| server.extensions.iter().any(|name| name == "binary_tensor_data")),
        }
    }

    fn score_path(&self) -> String {
        self.path("/infer")
    }

    fn encode(&self, inputs: &[Tensor], learned: &Learned) -> Result<Body, ScoreError> {
        let mut json = Vec::from(&b"{\"inputs\":["[..]);
        let mut data = Vec::new();
        for (index, input) in inputs.iter().enumerate() {
            if index > 0 {
                json.push(b',');
            }
            let head = json!({"name": input.name(), "datatype": input.datatype().name(), "shape": input.shape()});
            let head = head.to_string();
            json.extend_from_slice(head.trim_end_matches('}').as_bytes());
            if learned.binary {
                let before = data.len();
                if binary::encoded_bytes(input.data()).is_none() {
                    let message = format!("input `{}` has an element that is too long to be sent", input.name());
                    return Err(ScoreError::Invalid(message));
                }
                binary::encode(input.data(), &mut data);
                let size = format!(",\"parameters\":{{\"binary_data_size\":{}}}}}", data.len() - before);
                json.extend_from_slice(size.as_bytes());
            } else {
                json.extend_from_slice(b",\"data\":[");
                let exact = nested::exact(input)?;
                elements::encode(input.name(), &exact, 0..exact.len(), &mut json).map_err(|_| {
                    let message = format!("input `{}` holds what this peer's JSON cannot carry", input.name());
                    ScoreError::Invalid(message)
                })?;
                json.extend_from_slice(b"]}");
            }
        }
        json.push(b']');
        if learned.binary {
            json.extend_from_slice(b",\"parameters\":{\"binary_data_output\":true}");
        }
        json.push(b'}');
        let header_length = learned.binary.then_some(json.len());
        json.append(&mut data);
        Ok(Body { bytes: json, header_length })
    }

    fn decode(&self, body: Came<'_>, _learned: &Learned) -> Result<Vec<Tensor>, String> {
        let (json, mut data) = match body.header_length {
            Some(length) => body.bytes.split_at_checked(length).ok_or("its body is shorter than its own JSON")?,
            None => (body.bytes, &[][..]),
        };
        let answer: Answer<'_> = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let limits = TensorLimits::default();
        if answer.outputs.len() > limits.max_tensors {
            return Err(format!("it has {} outputs; at most {} are read", answer.outputs.len(), limits.max_tensors));
        }
        answer.outputs.into_iter().map(|output| self::output(output, &mut data, &limits)).collect()
    }
}

fn output(output: Output<'_>, data: &mut &[u8], limits: &TensorLimits) -> Result<Tensor, String> {
    let name = shown(&output.name);
    let datatype = DataType::parse(&output.datatype)
        .ok_or_else(|| format!("output `{name}` has the unknown datatype `{}`", shown(&output.datatype)))?;
    let wanted = tensor::elements(&name, &output.shape, limits).map_err(|error| error.to_string())?;
    let size = output.parameters.and_then(|parameters| parameters.binary_data_size);
    let elements = match (size, output.data) {
        (Some(size), _) => {
            let (own, rest) =
                data.split_at_checked(size).ok_or_else(|| format!("the binary data of output `{name}` are cut off"))?;
            *data = rest;
            binary::decode(&name, datatype, wanted, own).map_err(|error| error.0)?
        }
        (None, Some(json)) => {
            elements::decode(&format!("output `{name}`"), datatype, json, limits).map_err(|error| error.0)?.1
        }
        (None, None) => return Err(format!("output `{name}` has no data")),
    };
    Tensor::new(output.name, output.shape, elements, limits).map_err(|error| error.to_string())
}

/// None where a server describes nothing, or with a type that is not known here.
fn signature(model: &Model) -> Option<Signature> {
    if model.inputs.is_empty() || model.outputs.is_empty() {
        return None;
    }
    let inputs: Vec<TensorSpec> = model.inputs.iter().map(Described::spec).collect::<Option<_>>()?;
    let outputs: Vec<TensorSpec> = model.outputs.iter().map(Described::spec).collect::<Option<_>>()?;
    let batches = inputs.iter().chain(&outputs).all(|spec| spec.shape.first() == Some(&None));
    Some(Signature { inputs, outputs, batches })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scorer::tensor::TensorData;

    fn peer() -> Oip {
        Oip { version: PeerVersionFile { model: "m".into(), version: Some("3".into()) } }
    }

    #[test]
    fn a_request_is_what_our_own_server_reads_in_either_form() {
        let limits = TensorLimits::default();
        let inputs = vec![
            Tensor::new("x", vec![2, 2], TensorData::Fp32(vec![0.1, 0.2, 0.3, -0.0]), &limits).unwrap(),
            Tensor::new("t", vec![2], TensorData::Bytes(vec![b"a\"".to_vec(), b"".to_vec()]), &limits).unwrap(),
        ];
        for binary in [false, true] {
            let learned = Learned { signature: None, binary };
            let body = peer().encode(&inputs, &learned).unwrap();
            assert_eq!(body.header_length.is_some(), binary);
            // An answer is written as a request is, but for the word.
            let text = String::from_utf8_lossy(&body.bytes).replacen("inputs", "outputs", 1).into_bytes();
            let came = Came { bytes: &text, header_length: body.header_length.map(|length| length + 1) };
            // FP32 bytes are not UTF-8 in general; these are compared from the JSON form only.
            if !binary {
                assert_eq!(peer().decode(came, &learned).unwrap(), inputs);
            }
        }
        assert_eq!(peer().score_path(), "v2/models/m/versions/3/infer");
    }

    #[test]
    fn binary_answers_are_read_and_lies_are_errors() {
        let mut body =
            br#"{"outputs":[{"name":"y","datatype":"FP32","shape":[2],"parameters":{"binary_data_size":8}}]}"#.to_vec();
        let head = body.len();
        let header_length = Some(head);
        body.extend([0.5_f32, f32::NAN].iter().flat_map(|value| value.to_le_bytes()));
        let learned = Learned::default();
        let read = peer().decode(Came { bytes: &body, header_length }, &learned).unwrap();
        assert!(matches!(read[0].data(), TensorData::Fp32(values) if values[0] == 0.5 && values[1].is_nan()));
        for cut in [body.len() - 1, head, head - 1] {
            assert!(peer().decode(Came { bytes: &body[..cut], header_length }, &learned).is_err(), "{cut}");
        }
        assert!(peer().decode(Came { bytes: b"[]", header_length: None }, &learned).is_err());
    }

    #[test]
    fn metadata_give_the_signature_and_the_extension() {
        let server = br#"{"name":"triton","extensions":["binary_tensor_data"]}"#.to_vec();
        let model = br#"{"inputs":[{"name":"x","datatype":"FP32","shape":[-1,8]}],
            "outputs":[{"name":"y","datatype":"FP32","shape":[-1,1]}]}"#
            .to_vec();
        let learned = peer().learn(&[Some(server), Some(model)]);
        let signature = learned.signature.unwrap();
        assert!(learned.binary && signature.batches);
        assert_eq!(signature.inputs[0].shape, [None, Some(8)]);
        assert_eq!(peer().learn(&[None, Some(b"{}".to_vec())]), Learned::default());
    }
}
