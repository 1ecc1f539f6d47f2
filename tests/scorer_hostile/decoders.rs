//! Requests made to break the scorer's decoders: each is a clear error, none a panic, and what is written reads back.

use driftline::scorer::protocols::oip::request::{InferRequest, decode};
use driftline::scorer::protocols::oip::response::encode;
use driftline::scorer::protocols::{binary, rows};
use driftline::scorer::score::{Arm, ScoreResponse};
use driftline::scorer::tensor::{DataType, Tensor, TensorData, TensorLimits};
use proptest::prelude::*;
use serde_json::{Value, json};

fn read(body: &[u8], header_length: Option<usize>) -> Result<InferRequest, String> {
    let limits = TensorLimits { max_rank: 4, max_elements: 1 << 16, max_tensors: 8 };
    decode(body, header_length, &limits).map_err(|error| error.to_string())
}

fn good() -> Value {
    json!({
        "id": "a",
        "parameters": {"binary_data_output": false, "timeout": 1000, "priority": "high", "entity": "e"},
        "inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [[1, 2], [3, 4]]}],
        "outputs": [{"name": "y", "parameters": {"binary_data": true}}],
    })
}

/// Values that no field of a request has.
fn wrong_values() -> Vec<Value> {
    vec![
        Value::Null,
        json!(-1),
        json!(1.5),
        json!(1e300),
        json!(u64::MAX),
        json!({}),
        json!({"a": [1]}),
        json!([[[[[[[[[[1]]]]]]]]]]),
        json!([u64::MAX, u64::MAX]),
        json!([-1]),
        json!([4_294_967_296_u64, 4_294_967_296_u64]),
        json!([0, u64::MAX]),
        json!("x".repeat(100_000)),
        json!("\u{0}\u{1b}[31m\u{202e}"),
        json!(vec![1; 1000]),
    ]
}

/// Every place of the good request, replaced by every wrong value, and taken out.
#[test]
fn every_field_wrong_in_turn_is_an_error_or_harmless() {
    fn places(value: &Value, at: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(object) => object.iter().for_each(|(key, inner)| {
                found.push(format!("{at}/{key}"));
                places(inner, &format!("{at}/{key}"), found);
            }),
            Value::Array(list) => list.iter().enumerate().for_each(|(index, inner)| {
                found.push(format!("{at}/{index}"));
                places(inner, &format!("{at}/{index}"), found);
            }),
            _ => {}
        }
    }
    let mut all = Vec::new();
    places(&good(), "", &mut all);
    let (mut refused, mut taken) = (0, Vec::new());
    for place in &all {
        for wrong in wrong_values() {
            let mut body = good();
            *body.pointer_mut(place).unwrap() = wrong.clone();
            match read(body.to_string().as_bytes(), None) {
                Err(error) => {
                    assert!(!error.is_empty() && error.len() < 1000, "{place}: {} bytes of error", error.len());
                    assert!(!error.contains('\u{1b}') && !error.contains('\u{0}'), "{place}: {error:?}");
                    refused += 1;
                }
                Ok(request) => taken.push((place.clone(), wrong, request)),
            }
        }
    }
    // What is taken has the shape that it says, and is what may stand there.
    for (place, wrong, request) in &taken {
        for input in &request.inputs {
            assert_eq!(input.shape().iter().product::<usize>(), input.data().len(), "{place} {wrong}");
        }
    }
    println!("{refused} refused, {} taken", taken.len());
    assert!(refused > 200, "{refused}");
    for required in ["name", "shape", "datatype", "data"] {
        let mut body = good();
        body["inputs"][0].as_object_mut().unwrap().remove(required);
        let error = read(body.to_string().as_bytes(), None).unwrap_err();
        assert!(error.contains(required), "{required}: {error}");
    }
    let mut body = good();
    body.as_object_mut().unwrap().remove("inputs");
    assert!(read(body.to_string().as_bytes(), None).unwrap_err().contains("inputs"));
}

#[test]
fn what_is_asked_for_and_not_there_is_refused_by_name() {
    for parameter in ["shared_memory_region", "classification", "sequence_id"] {
        let mut body = good();
        body["inputs"][0]["parameters"] = json!({parameter: 1});
        assert!(read(body.to_string().as_bytes(), None).unwrap_err().contains("not supported"), "{parameter}");
    }
    let twice = json!({"inputs": [good()["inputs"][0], good()["inputs"][0]]});
    assert!(read(twice.to_string().as_bytes(), None).unwrap_err().contains("twice"));
    let error = read(br#"{"inputs":[],"inputs":[]}"#, None).unwrap_err();
    assert!(error.contains("duplicate"), "{error}");
    assert!(read(&[0xFF, 0xFE], None).is_err());
    assert!(read(b"[".repeat(1_000_000).as_slice(), None).is_err());
}

/// A request with binary data of a number and two texts.
fn with_binary() -> (Vec<u8>, usize) {
    let header = json!({"inputs": [
        {"name": "n", "shape": [2], "datatype": "INT64", "parameters": {"binary_data_size": 16}},
        {"name": "t", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": 13}},
    ]})
    .to_string();
    let mut body = header.clone().into_bytes();
    binary::encode(&TensorData::Int64(vec![1, -2]), &mut body);
    binary::encode(&TensorData::Bytes(vec![b"hello".to_vec(), Vec::new()]), &mut body);
    (body, header.len())
}

#[test]
fn binary_data_cut_off_at_each_byte_are_an_error_and_lengths_that_lie_too() {
    let (body, length) = with_binary();
    assert_eq!(read(&body, Some(length)).unwrap().inputs.len(), 2);
    for end in 0..body.len() {
        assert!(read(&body[..end], Some(length)).is_err(), "{end} of {}", body.len());
    }
    for more in 1..20 {
        let longer = [body.as_slice(), &vec![0; more]].concat();
        assert!(read(&longer, Some(length)).unwrap_err().contains("add up"), "{more}");
    }
    for other in (0..body.len() + 10).filter(|other| *other != length).chain([usize::MAX]) {
        assert!(read(&body, Some(other)).is_err(), "header length {other}");
    }
    assert!(read(&body, None).is_err());
    // Each byte of the texts' lengths, every value that makes it lie.
    let first_length = length + 16;
    for at in first_length..first_length + 4 {
        for value in [1, 4, 6, 9, 127, 128, 255] {
            let mut lying = body.clone();
            if lying[at] != value {
                lying[at] = value;
                assert!(read(&lying, Some(length)).is_err(), "byte {at} as {value}");
            }
        }
    }
    for size in [0_u64, 1, 15, 17, 29, 1 << 40] {
        let lying = json!({"inputs": [
            {"name": "n", "shape": [2], "datatype": "INT64", "parameters": {"binary_data_size": size}},
        ]})
        .to_string();
        let body = [lying.as_bytes(), &[0; 16]].concat();
        assert!(read(&body, Some(lying.len())).is_err(), "{size}");
    }
}

fn data() -> impl Strategy<Value = TensorData> {
    prop_oneof![
        prop::collection::vec(any::<bool>(), 0..20).prop_map(TensorData::Bool),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(TensorData::Uint8),
        prop::collection::vec(any::<u64>(), 0..20).prop_map(TensorData::Uint64),
        prop::collection::vec(any::<i16>(), 0..20).prop_map(TensorData::Int16),
        prop::collection::vec(any::<i64>(), 0..20).prop_map(TensorData::Int64),
        prop::collection::vec(any::<u16>(), 0..20).prop_map(TensorData::Fp16),
        prop::collection::vec(-1e30_f32..1e30, 0..20).prop_map(TensorData::Fp32),
        prop::collection::vec(-1e300_f64..1e300, 0..20).prop_map(TensorData::Fp64),
        prop::collection::vec("\\PC{0,8}".prop_map(String::into_bytes), 0..20).prop_map(TensorData::Bytes),
    ]
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoders_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), length in any::<Option<u8>>()) {
        let _ = read(&bytes, length.map(usize::from));
        for datatype in DataType::ALL {
            let _ = binary::decode("x", datatype, bytes.len() / 4, &bytes);
        }
    }

    /// As valid as random JSON can be.
    #[test]
    fn no_json_makes_the_decoder_panic(data in "[\\[\\]0-9,.e\\-\" ntrufalse{}]{0,60}", shape in "[0-9,\\-]{0,12}", kind in 0..13_usize) {
        let datatype = DataType::ALL[kind].name();
        let body = format!(r#"{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":[{shape}],"data":{data}}}]}}"#);
        let _ = read(body.as_bytes(), None);
    }

    #[test]
    fn what_is_written_in_binary_reads_back(data in data()) {
        let mut bytes = Vec::new();
        binary::encode(&data, &mut bytes);
        prop_assert_eq!(Some(bytes.len()), binary::encoded_bytes(&data));
        prop_assert_eq!(binary::decode("x", data.datatype(), data.len(), &bytes).unwrap(), data);
    }

    #[test]
    fn what_is_written_in_json_reads_back(data in data()) {
        prop_assume!(data.datatype() != DataType::Fp16);
        let tensor = Tensor::new("x", vec![data.len()], data, &TensorLimits::default()).unwrap();
        let response = ScoreResponse {
            model: "m".into(), version: "1".into(), arm: Arm::Production, id: "i".into(),
            outputs: vec![tensor.clone()], engine: "fake", latency: std::time::Duration::ZERO,
        };
        let body = encode(&response, &[], false).unwrap();
        let answer: Value = serde_json::from_slice(&body.bytes).unwrap();
        let text = String::from_utf8(body.bytes).unwrap();
        prop_assert_eq!(&answer["model_version"], "1");
        // The outputs of an answer are written as the inputs of a request are.
        let request = format!("{{\"inputs\":{}", text.split_once("\"outputs\":").unwrap().1);
        prop_assert_eq!(read(request.as_bytes(), None).unwrap().inputs, vec![tensor.clone()]);
        let columns = rows::encode(rows::Form::Columns, &[tensor]).unwrap();
        prop_assert!(serde_json::from_slice::<Value>(&columns).is_ok());
    }
}
