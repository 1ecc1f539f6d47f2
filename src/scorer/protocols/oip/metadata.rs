//! What server and models say of themselves.

use serde_json::{Value, json};

use crate::scorer::engine::{Signature, TensorSpec};

/// Extensions of the protocol that are served over HTTP.
pub const EXTENSIONS: [&str; 4] = ["binary_tensor_data", "model_configuration", "statistics", "model_repository"];

pub fn server() -> Value {
    json!({"name": "driftline-scorer", "version": env!("CARGO_PKG_VERSION"), "extensions": EXTENSIONS})
}

/// `signature` is that of `versions`' first that answers; none: not known (a proxy to a server without metadata).
pub fn model(name: &str, versions: &[&str], platform: &str, signature: Option<&Signature>) -> Value {
    let tensors = |specs: &[TensorSpec]| specs.iter().map(tensor).collect::<Vec<_>>();
    json!({
        "name": name,
        "versions": versions,
        "platform": platform,
        "inputs": signature.map(|signature| tensors(&signature.inputs)).unwrap_or_default(),
        "outputs": signature.map(|signature| tensors(&signature.outputs)).unwrap_or_default(),
    })
}

fn tensor(spec: &TensorSpec) -> Value {
    json!({"name": spec.name, "datatype": spec.datatype.name(), "shape": shape(spec)})
}

/// -1 where any size goes.
fn shape(spec: &TensorSpec) -> Vec<i64> {
    let size = |size: &Option<usize>| size.and_then(|size| i64::try_from(size).ok()).unwrap_or(-1);
    spec.shape.iter().map(size).collect()
}

/// As Triton's model configuration extension has it, as far as it says something here. Its `dims` leave the batch out.
pub fn config(name: &str, platform: &str, signature: Option<&Signature>, max_batch_rows: usize) -> Value {
    let batches = signature.is_some_and(|signature| signature.batches);
    let tensors = |specs: &[TensorSpec]| {
        let one = |spec: &TensorSpec| {
            let dims: Vec<i64> = shape(spec).into_iter().skip(usize::from(batches)).collect();
            json!({"name": spec.name, "data_type": format!("TYPE_{}", config_type(spec)), "dims": dims})
        };
        specs.iter().map(one).collect::<Vec<_>>()
    };
    json!({
        "name": name,
        "platform": platform,
        "backend": "onnxruntime",
        "max_batch_size": if batches { max_batch_rows } else { 0 },
        "input": signature.map(|signature| tensors(&signature.inputs)).unwrap_or_default(),
        "output": signature.map(|signature| tensors(&signature.outputs)).unwrap_or_default(),
    })
}

fn config_type(spec: &TensorSpec) -> &'static str {
    match spec.datatype.name() {
        "BYTES" => "STRING",
        other => other,
    }
}
