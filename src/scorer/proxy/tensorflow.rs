//! A peer that is TensorFlow Serving, by its REST API in the columnar form: `{"inputs": ...}` to `{"outputs": ...}`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::nested;
use super::protocol::{Body, Came, Learned, Protocol};
use super::version::PeerVersionFile;
use crate::scorer::engine::{Signature, TensorSpec};
use crate::scorer::score::ScoreError;
use crate::scorer::tensor::{DataType, Tensor, TensorLimits};

pub struct TfServing {
    pub version: PeerVersionFile,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    outputs: &'a RawValue,
}

impl TfServing {
    fn path(&self, end: &str) -> String {
        let version = self.version.version.as_ref().map(|version| format!("/versions/{version}")).unwrap_or_default();
        format!("v1/models/{}{version}{end}", self.version.model)
    }
}

impl Protocol for TfServing {
    fn engine(&self) -> &'static str {
        "proxy-tf-serving"
    }

    fn ready_path(&self) -> String {
        self.path("")
    }

    fn is_ready(&self, body: &[u8]) -> bool {
        let said = serde_json::from_slice::<Value>(body).unwrap_or_default();
        let states = said.get("model_version_status").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        states.iter().any(|state| state.get("state").and_then(Value::as_str) == Some("AVAILABLE"))
    }

    fn metadata_paths(&self) -> Vec<String> {
        vec![self.path("/metadata")]
    }

    fn learn(&self, bodies: &[Option<Vec<u8>>]) -> Learned {
        let body = bodies.first().and_then(Option::as_deref).unwrap_or_default();
        let said = serde_json::from_slice::<Value>(body).unwrap_or_default();
        Learned { signature: signature(&said), binary: false }
    }

    fn score_path(&self) -> String {
        self.path(":predict")
    }

    fn encode(&self, inputs: &[Tensor], _learned: &Learned) -> Result<Body, ScoreError> {
        let mut out = Vec::from(&b"{\"inputs\":{"[..]);
        for (index, input) in inputs.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let name = Value::from(input.name());
            out.extend_from_slice(format!("{comma}{name}:").as_bytes());
            nested::write(input, &nested::exact(input)?, &mut out)?;
        }
        out.extend_from_slice(b"}}");
        Ok(Body { bytes: out, header_length: None })
    }

    fn decode(&self, body: Came<'_>, learned: &Learned) -> Result<Vec<Tensor>, String> {
        let answer: Answer<'_> = serde_json::from_slice(body.bytes).map_err(|error| error.to_string())?;
        let limits = TensorLimits::default();
        let known = learned.signature.as_ref().map(|signature| signature.outputs.as_slice()).unwrap_or_default();
        // One output stands there without its name.
        if !answer.outputs.get().starts_with('{') {
            let (name, datatype) =
                known.first().map_or(("output", DataType::Fp64), |spec| (spec.name.as_str(), spec.datatype));
            return Ok(vec![nested::read(name, datatype, answer.outputs, &limits)?]);
        }
        let outputs: BTreeMap<String, &RawValue> =
            serde_json::from_str(answer.outputs.get()).map_err(|error| error.to_string())?;
        if outputs.len() > limits.max_tensors {
            return Err(format!("it has {} outputs; at most {} are read", outputs.len(), limits.max_tensors));
        }
        let datatype =
            |name: &str| known.iter().find(|spec| spec.name == name).map_or(DataType::Fp64, |spec| spec.datatype);
        outputs.iter().map(|(name, json)| nested::read(name, datatype(name), json, &limits)).collect()
    }
}

/// Of `serving_default`. None where it says a type or shape that is not known here.
fn signature(said: &Value) -> Option<Signature> {
    let default = said.pointer("/metadata/signature_def/signature_def/serving_default")?;
    let specs = |key: &str| default.get(key)?.as_object()?.iter().map(spec).collect::<Option<Vec<_>>>();
    let (inputs, outputs) = (specs("inputs")?, specs("outputs")?);
    if inputs.is_empty() || outputs.is_empty() {
        return None;
    }
    let batches = inputs.iter().chain(&outputs).all(|spec| spec.shape.first() == Some(&None));
    Some(Signature { inputs, outputs, batches })
}

fn spec((name, said): (&String, &Value)) -> Option<TensorSpec> {
    let datatype = match said.get("dtype")?.as_str()? {
        "DT_FLOAT" => DataType::Fp32,
        "DT_DOUBLE" => DataType::Fp64,
        "DT_HALF" => DataType::Fp16,
        "DT_STRING" => DataType::Bytes,
        other => DataType::parse(other.strip_prefix("DT_")?)?,
    };
    let shape = said.get("tensor_shape")?;
    if shape.get("unknown_rank").and_then(Value::as_bool) == Some(true) {
        return None;
    }
    // 64-bit numbers are texts in this JSON.
    let size = |dim: &Value| {
        let size = dim.get("size")?;
        size.as_i64().or_else(|| size.as_str()?.parse().ok())
    };
    let sizes: Vec<Option<usize>> = match shape.get("dim").and_then(Value::as_array) {
        Some(dims) => dims.iter().map(|dim| size(dim).and_then(|size| usize::try_from(size).ok())).collect(),
        None => Vec::new(),
    };
    Some(TensorSpec { name: name.clone(), datatype, shape: sizes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scorer::tensor::TensorData;

    const METADATA: &str = r#"{"model_spec":{"name":"m","signature_name":"","version":"1"},"metadata":{"signature_def":
        {"signature_def":{"serving_default":{"inputs":{"x":{"dtype":"DT_FLOAT","tensor_shape":{"dim":[{"size":"-1","name":""},
        {"size":"8","name":""}],"unknown_rank":false},"name":"x:0"}},"outputs":{"score":{"dtype":"DT_FLOAT","tensor_shape":
        {"dim":[{"size":"-1","name":""},{"size":"1","name":""}],"unknown_rank":false},"name":"y:0"}},
        "method_name":"tensorflow/serving/predict"}}}}}"#;

    #[test]
    fn names_and_types_come_from_the_metadata() {
        let peer = TfServing { version: PeerVersionFile { model: "m".into(), version: Some("1".into()) } };
        let learned = peer.learn(&[Some(METADATA.as_bytes().to_vec())]);
        assert_eq!(learned.signature.as_ref().unwrap().inputs[0].shape, [None, Some(8)]);
        let came = |bytes: &'static str| Came { bytes: bytes.as_bytes(), header_length: None };
        let one = peer.decode(came(r#"{"outputs": [[0.1]]}"#), &learned).unwrap();
        assert_eq!((one[0].name(), one[0].data()), ("score", &TensorData::Fp32(vec![0.1])));
        let two = peer.decode(came(r#"{"outputs": {"a": [1], "score": [[0.1]]}}"#), &learned).unwrap();
        assert_eq!((two.len(), two[1].datatype()), (2, DataType::Fp32));
        assert!(peer.decode(came(r#"{"error": "x"}"#), &learned).is_err());
        assert_eq!(peer.score_path(), "v1/models/m/versions/1:predict");
        assert!(peer.is_ready(br#"{"model_version_status":[{"version":"1","state":"AVAILABLE"}]}"#));
        assert!(!peer.is_ready(br#"{"model_version_status":[{"version":"1","state":"LOADING"}]}"#));
    }
}
