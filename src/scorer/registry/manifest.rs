//! `MANIFEST.json`: what a version is made of, where it comes from, and who vouches for it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scorer::engine::{Signature, TensorSpec};
use crate::scorer::names::check_name;
use crate::scorer::tensor::DataType;

/// The model's file; every version has it, but those that another server computes.
pub const MODEL_FILE: &str = "model.onnx";
/// What the version is on a server that computes it (`scorer::proxy`), in place of the model's file.
pub const PEER_FILE: &str = "peer.json";
pub const MANIFEST_FILE: &str = "MANIFEST.json";
/// Longest manifest that is read, bytes.
pub const MAX_MANIFEST_BYTES: u64 = 1 << 20;
/// Most files of a version.
pub const MAX_FILES: usize = 32;
/// Longest text of a manifest, bytes.
const MAX_TEXT_BYTES: usize = 1_024;

/// One version of one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format: 1.
    pub format: u32,
    pub model: String,
    pub version: String,
    pub created_at_ms: i64,
    /// Every file of the version but this one.
    pub files: BTreeMap<String, FileDigest>,
    /// What the model takes and gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<InputSchema>,
    #[serde(flatten)]
    pub lineage: Lineage,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<ManifestSignature>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileDigest {
    /// Lower-case hexadecimal.
    pub sha256: String,
    pub bytes: u64,
}

/// What a version was made from, so that it can be made again. All of it is optional, and none of it is interpreted here.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Lineage {
    /// Id of the feature transform that made the training data, and that serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transform: Option<String>,
    /// Digest of the training data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_data: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_commit: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u32>,
    /// Content address of the monitor's reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The run whose retraining manifest this version answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retraining_run: Option<String>,
    /// SHA-256 of that retraining manifest's bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retraining_manifest: Option<String>,
}

/// The model's inputs and outputs, in its own order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputSchema {
    pub inputs: Vec<TensorField>,
    pub outputs: Vec<TensorField>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TensorField {
    pub name: String,
    /// The Open Inference Protocol's name: `FP32`.
    pub datatype: String,
    /// -1 where any size goes.
    pub shape: Vec<i64>,
}

/// An ed25519 signature of the canonical bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ManifestSignature {
    /// `ed25519`.
    pub algorithm: String,
    /// First 16 hexadecimal digits of the public key's SHA-256.
    pub key_id: String,
    /// Base64 of its 64 bytes.
    pub value: String,
}

/// Whether there is a model's file, or what stands in its place, and not both.
pub fn has_model(has: impl Fn(&str) -> bool) -> bool {
    has(MODEL_FILE) != has(PEER_FILE)
}

impl From<&Signature> for InputSchema {
    fn from(signature: &Signature) -> Self {
        let fields = |specs: &[TensorSpec]| specs.iter().map(TensorField::from).collect();
        Self { inputs: fields(&signature.inputs), outputs: fields(&signature.outputs) }
    }
}

impl From<&TensorSpec> for TensorField {
    fn from(spec: &TensorSpec) -> Self {
        let size = |size: &Option<usize>| size.and_then(|size| i64::try_from(size).ok()).unwrap_or(-1);
        Self {
            name: spec.name.clone(),
            datatype: spec.datatype.name().into(),
            shape: spec.shape.iter().map(size).collect(),
        }
    }
}

impl Manifest {
    /// Reads and checks a manifest; says what is wrong with it.
    ///
    /// # Errors
    /// It is no JSON of this format, or has names, digests or texts that cannot be.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), String> {
        if self.format != 1 {
            return Err(format!("format {} is not known here: 1 is", self.format));
        }
        check_name("model", &self.model).map_err(|bad| bad.to_string())?;
        check_name("version", &self.version).map_err(|bad| bad.to_string())?;
        if !has_model(|file| self.files.contains_key(file)) {
            return Err(format!("`files` has no `{MODEL_FILE}` (or has a `{PEER_FILE}` beside it)"));
        }
        if self.files.len() > MAX_FILES {
            return Err(format!("{} files: at most {MAX_FILES} are allowed", self.files.len()));
        }
        for (name, digest) in &self.files {
            check_name("file", name).map_err(|bad| bad.to_string())?;
            let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            if digest.sha256.len() != 64 || !digest.sha256.bytes().all(is_hex) {
                return Err(format!("`{name}` has no SHA-256 of 64 hexadecimal digits in lower case"));
            }
        }
        for field in self.schema.iter().flat_map(|schema| schema.inputs.iter().chain(&schema.outputs)) {
            if DataType::parse(&field.datatype).is_none() {
                return Err(format!("tensor `{}` has the unknown type `{}`", field.name, field.datatype));
            }
        }
        self.lineage.check()
    }

    /// What is signed: the manifest without its signature as RFC 8785 writes JSON, after one line that says what it is.
    pub fn canonical_bytes(&self) -> Result<Vec<u8>, String> {
        let unsigned = Self { signature: None, ..self.clone() };
        // Keys are ASCII and numbers whole and small: sorted keys without spaces are all that RFC 8785 asks for.
        let value = serde_json::to_value(&unsigned).map_err(|error| error.to_string())?;
        Ok(format!("driftline-model-manifest-v1\n{value}").into_bytes())
    }

    /// Whether another manifest describes the same content: files, schema and origin, but not its name, time or signer.
    pub fn same_content(&self, other: &Self) -> bool {
        (&self.files, &self.schema, &self.lineage) == (&other.files, &other.schema, &other.lineage)
    }

    /// As the file is written: for people too.
    pub fn pretty_bytes(&self) -> Result<Vec<u8>, String> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|error| error.to_string())?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

impl Lineage {
    /// # Errors
    /// A text is empty, too long or has control characters.
    pub fn check(&self) -> Result<(), String> {
        let texts = [
            ("transform", &self.transform),
            ("training_data", &self.training_data),
            ("git_commit", &self.git_commit),
            ("reference", &self.reference),
            ("retraining_run", &self.retraining_run),
            ("retraining_manifest", &self.retraining_manifest),
        ];
        for (key, text) in texts {
            let Some(text) = text else { continue };
            if text.is_empty() || text.len() > MAX_TEXT_BYTES || text.chars().any(char::is_control) {
                return Err(format!("`{key}` must have 1 to {MAX_TEXT_BYTES} bytes without control characters"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: &str = r#"{
        "format": 1, "model": "fraud", "version": "3", "created_at_ms": 17,
        "files": {"model.onnx": {"sha256": "0000000000000000000000000000000000000000000000000000000000000000", "bytes": 5}},
        "seed": 42, "git_commit": "c0ffee"
    }"#;

    #[test]
    fn the_bytes_that_are_signed_are_written_down() {
        let manifest = Manifest::parse(WRITTEN.as_bytes()).unwrap();
        let canonical = String::from_utf8(manifest.canonical_bytes().unwrap()).unwrap();
        let wanted = "driftline-model-manifest-v1\n{\"created_at_ms\":17,\"files\":{\"model.onnx\":{\"bytes\":5,\"sha256\":\
            \"0000000000000000000000000000000000000000000000000000000000000000\"}},\"format\":1,\"git_commit\":\"c0ffee\",\
            \"model\":\"fraud\",\"seed\":42,\"version\":\"3\"}";
        assert_eq!(canonical, wanted);
        assert_eq!(Manifest::parse(&manifest.pretty_bytes().unwrap()), Ok(manifest));
    }

    #[test]
    fn a_manifest_with_anything_unknown_or_impossible_is_refused() {
        for (right, wrong) in [
            ("\"format\": 1", "\"format\": 2"),
            ("\"seed\": 42", "\"sneed\": 42"),
            ("\"seed\": 42", "\"seed\": -1"),
            ("\"fraud\"", "\"../fraud\""),
            ("\"3\"", "\"..\""),
            ("model.onnx", "other.onnx"),
            ("\"bytes\": 5", "\"bytes\": 5}, \"../x\": {\"sha256\": \"00\", \"bytes\": 1"),
            ("\"0000000000", "\"000000000"),
            ("\"c0ffee\"", "\"\""),
        ] {
            let changed = WRITTEN.replacen(right, wrong, 1);
            assert_ne!(changed, WRITTEN);
            assert!(Manifest::parse(changed.as_bytes()).is_err(), "{wrong}");
        }
    }
}
