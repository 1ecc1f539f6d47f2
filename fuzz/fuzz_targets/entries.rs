//! What is done with any bytes, and what must hold afterwards: one function for each fuzz target, called by
//! `tests/scorer_hostile/corpus.rs` too. To add one: a function here, a file beside this one, a `[[bin]]` in Cargo.toml, a
//! directory in `corpus`, a row in that test.

use driftline::scorer::engine::model_check::{ModelLimits, check_model};
use driftline::scorer::engine::{Signature, TensorSpec};
use driftline::scorer::protocols::oip::request::{InferRequest, decode};
use driftline::scorer::protocols::oip::{raw, response};
use driftline::scorer::protocols::rows as rows_protocol;
use driftline::scorer::registry::manifest::Manifest;
use driftline::scorer::registry::state::ServingState;
use driftline::scorer::score::{Arm, ScoreResponse};
use driftline::scorer::serve::http::headers::overrides;
use driftline::scorer::serve::http::route::{RouteError, route};
use driftline::scorer::tensor::{DataType, Tensor, TensorLimits};
use hyper::Method;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

const LIMITS: TensorLimits = TensorLimits { max_rank: 4, max_elements: 1 << 16, max_tensors: 8 };

/// An error is for a person: not empty, short whatever it is about, and safe to print.
fn check_error(error: &str) {
    assert!(!error.is_empty() && error.len() < 2_000, "an error of {} bytes", error.len());
    assert!(!error.chars().any(char::is_control), "{error:?}");
}

fn check_tensors(tensors: &[Tensor]) {
    assert!(tensors.len() <= 256);
    for tensor in tensors {
        let elements: usize = tensor.shape().iter().product();
        assert_eq!(elements, tensor.data().len());
        assert!(elements <= LIMITS.max_elements && tensor.shape().len() <= LIMITS.max_rank);
    }
}

/// Bits and all: what is no number equals nothing, itself included.
fn written(tensor: &Tensor) -> String {
    format!("{tensor:?}")
}

/// What was read is written as an answer and read again.
fn check_request(request: &InferRequest) {
    check_tensors(&request.inputs);
    for text in request.id.iter().chain(&request.entity).chain(request.outputs.iter().map(|output| &output.name)) {
        assert!(text.len() <= 512);
    }
    let answer = ScoreResponse {
        model: "m".into(),
        version: "1".into(),
        arm: Arm::Production,
        id: "i".into(),
        outputs: request.inputs.clone(),
        engine: "fuzz",
        latency: std::time::Duration::ZERO,
    };
    let body = response::encode(&answer, &[], true).expect("what was read can be written");
    let length = body.header_length.unwrap_or(body.bytes.len());
    let (json, binary) = body.bytes.split_at(length);
    let json = std::str::from_utf8(json).expect("JSON is UTF-8");
    let outputs = json.split_once("\"outputs\":").expect("an answer has outputs").1;
    let again = [b"{\"inputs\":", outputs.as_bytes(), binary].concat();
    let length = again.len() - binary.len();
    let again = decode(&again, Some(length), &LIMITS).expect("what was written can be read");
    let (one, other): (Vec<_>, Vec<_>) =
        (request.inputs.iter().map(written).collect(), again.inputs.iter().map(written).collect());
    assert_eq!(one, other);
}

/// A request of the Open Inference Protocol in JSON.
pub fn oip_json(data: &[u8]) {
    match decode(data, None, &LIMITS) {
        Ok(request) => check_request(&request),
        Err(error) => check_error(&error.to_string()),
    }
}

/// Two bytes are the length of the JSON, the rest is the body; 0: a body without JSON.
pub fn oip_binary(data: &[u8]) {
    let Some((length, body)) = data.split_first_chunk::<2>() else { return };
    let read = match u16::from_le_bytes(*length) {
        0 => {
            let input = TensorSpec { name: "x".into(), datatype: DataType::Fp32, shape: vec![None, None] };
            let signature = Signature { inputs: vec![input], outputs: Vec::new(), batches: true };
            raw::decode(body, &signature, &LIMITS)
        }
        length => decode(body, Some(usize::from(length)), &LIMITS),
    };
    match read {
        Ok(request) => check_request(&request),
        Err(error) => check_error(&error.to_string()),
    }
}

/// Rows and columns, for a model with one input and for one with several.
pub fn rows(data: &[u8]) {
    let input = |name: &str, datatype, shape| TensorSpec { name: name.into(), datatype, shape };
    let one = vec![input("x", DataType::Fp32, vec![None, Some(2)])];
    let several = vec![
        input("a", DataType::Int64, vec![None, Some(1)]),
        input("b", DataType::Bytes, vec![None, None]),
        input("c", DataType::Bool, vec![None]),
    ];
    for inputs in [one, several] {
        let signature = Signature { inputs, outputs: Vec::new(), batches: true };
        match rows_protocol::decode(data, &signature, &LIMITS) {
            Ok((form, tensors)) => {
                check_tensors(&tensors);
                // Texts that are no UTF-8 have a form in JSON too; what has none says so.
                if let Err(error) = rows_protocol::encode(form, &tensors) {
                    check_error(&error);
                }
            }
            Err(error) => check_error(&error.to_string()),
        }
    }
}

/// A first line of a path, then lines of headers.
pub fn head(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    if let Some(path) = lines.next().and_then(|path| std::str::from_utf8(path).ok()) {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            if let Err(RouteError::BadName(error)) = route(&method, path) {
                check_error(&error);
            }
        }
    }
    let mut headers = HeaderMap::new();
    for line in lines.take(100) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(&value[1..])) else {
            continue;
        };
        headers.append(name, value);
    }
    match overrides(&headers) {
        Ok(read) => {
            for text in [&read.id, &read.entity, &read.version, &read.arm].into_iter().flatten() {
                assert!(text.len() <= 512);
            }
            assert!(read.version.is_none_or(|version| !version.contains('/') && version != ".."));
        }
        Err(refusal) => check_error(&refusal.message),
    }
}

/// A version's manifest and a model's state. What is read stays the same through its own text.
pub fn registry(data: &[u8]) {
    if let Ok(manifest) = Manifest::parse(data) {
        let bytes = manifest.pretty_bytes().expect("what was read can be written");
        let again = Manifest::parse(&bytes).expect("what was written can be read");
        assert_eq!(again.canonical_bytes(), manifest.canonical_bytes());
    }
    if let Ok(state) = serde_json::from_slice::<ServingState>(data) {
        let text = serde_json::to_vec(&state).expect("what was read can be written");
        let again: ServingState = serde_json::from_slice(&text).expect("what was written can be read");
        assert_eq!(again, state);
    }
}

/// A model before the engine sees it.
pub fn model(data: &[u8]) {
    let limits = ModelLimits { max_model_bytes: 1 << 16, max_nodes: 1000 };
    match check_model(data, &limits) {
        Ok(nodes) => assert!(nodes <= limits.max_nodes),
        Err(error) => check_error(&error.to_string()),
    }
}
