//! A peer that is TorchServe: JSON to the model's handler at `/predictions/NAME`, JSON back.

use serde_json::value::RawValue;

use super::nested;
use super::protocol::{Body, Came, Learned, Outputs, Protocol};
use super::version::PeerVersionFile;
use crate::scorer::score::ScoreError;
use crate::scorer::tensor::{Tensor, TensorLimits};

pub struct TorchServe {
    pub version: PeerVersionFile,
    pub outputs: Outputs,
}

impl Protocol for TorchServe {
    fn engine(&self) -> &'static str {
        "proxy-torchserve"
    }

    /// What a model's workers do stands on its management address only.
    fn ready_path(&self) -> String {
        "ping".into()
    }

    fn is_ready(&self, body: &[u8]) -> bool {
        let said = serde_json::from_slice::<serde_json::Value>(body).ok();
        let status = said.and_then(|said| said.get("status").and_then(|status| status.as_str().map(str::to_string)));
        status.is_none_or(|status| matches!(status.as_str(), "Healthy" | "Partial Healthy"))
    }

    fn score_path(&self) -> String {
        let version = self.version.version.as_ref().map(|version| format!("/{version}")).unwrap_or_default();
        format!("predictions/{}{version}", self.version.model)
    }

    /// What a handler takes is its own affair: rows as lists of one input, or an object of several.
    fn encode(&self, inputs: &[Tensor], _learned: &Learned) -> Result<Body, ScoreError> {
        let mut out = Vec::new();
        if let [input] = inputs {
            nested::write(input, &nested::exact(input)?, &mut out)?;
            return Ok(Body { bytes: out, header_length: None });
        }
        out.push(b'{');
        for (index, input) in inputs.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let name = serde_json::Value::from(input.name());
            out.extend_from_slice(format!("{comma}{name}:").as_bytes());
            nested::write(input, &nested::exact(input)?, &mut out)?;
        }
        out.push(b'}');
        Ok(Body { bytes: out, header_length: None })
    }

    fn decode(&self, body: Came<'_>, _learned: &Learned) -> Result<Vec<Tensor>, String> {
        let json: &RawValue = serde_json::from_slice(body.bytes).map_err(|error| error.to_string())?;
        let (name, datatype) = self.outputs.single()?;
        Ok(vec![nested::read(name, datatype, json, &TensorLimits::default())?])
    }

    /// It answers 503 where a handler fails on one request, too.
    fn is_trouble(&self, status: u16) -> bool {
        matches!(status, 502 | 504)
    }
}
