//! A peer that speaks KServe's first protocol: `{"instances": [...]}` to `{"predictions": [...]}`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::nested;
use super::protocol::{Body, Came, Learned, Outputs, Protocol};
use super::version::PeerVersionFile;
use crate::scorer::score::ScoreError;
use crate::scorer::tensor::{Tensor, TensorLimits};

pub struct KserveV1 {
    pub version: PeerVersionFile,
    pub outputs: Outputs,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    predictions: &'a RawValue,
}

impl Protocol for KserveV1 {
    fn engine(&self) -> &'static str {
        "proxy-kserve-v1"
    }

    fn ready_path(&self) -> String {
        format!("v1/models/{}", self.version.model)
    }

    fn is_ready(&self, body: &[u8]) -> bool {
        // `"ready"` is a truth value, or a text in older servers.
        let said = serde_json::from_slice::<serde_json::Value>(body).ok();
        let said = said.and_then(|said| said.get("ready").map(ToString::to_string));
        said.is_none_or(|said| said.trim_matches('"').eq_ignore_ascii_case("true"))
    }

    fn score_path(&self) -> String {
        format!("v1/models/{}:predict", self.version.model)
    }

    fn encode(&self, inputs: &[Tensor], _learned: &Learned) -> Result<Body, ScoreError> {
        let rows = inputs.first().map_or(0, Tensor::rows);
        if inputs.iter().any(|input| input.shape().is_empty() || input.rows() != rows) {
            let message = "every input needs the same number of rows: this peer's protocol goes row by row";
            return Err(ScoreError::Invalid(message.into()));
        }
        let data = inputs.iter().map(nested::exact).collect::<Result<Vec<_>, _>>()?;
        let mut out = Vec::from(&b"{\"instances\":["[..]);
        for row in 0..rows {
            if row > 0 {
                out.push(b',');
            }
            // One input is the row itself, several are an object by name.
            if let ([input], [data]) = (inputs, data.as_slice()) {
                nested::write_row(input, data, row, &mut out)?;
                continue;
            }
            out.push(b'{');
            for (index, (input, data)) in inputs.iter().zip(&data).enumerate() {
                let comma = if index > 0 { "," } else { "" };
                let name = serde_json::Value::from(input.name());
                out.extend_from_slice(format!("{comma}{name}:").as_bytes());
                nested::write_row(input, data, row, &mut out)?;
            }
            out.push(b'}');
        }
        out.extend_from_slice(b"]}");
        Ok(Body { bytes: out, header_length: None })
    }

    fn decode(&self, body: Came<'_>, _learned: &Learned) -> Result<Vec<Tensor>, String> {
        let answer: Answer<'_> = serde_json::from_slice(body.bytes).map_err(|error| error.to_string())?;
        predictions(answer.predictions, &self.outputs)
    }
}

/// Rows, each a value or an object of values by output.
fn predictions(json: &RawValue, outputs: &Outputs) -> Result<Vec<Tensor>, String> {
    let limits = TensorLimits::default();
    let has_objects = json.get().trim_start_matches(|c: char| c == '[' || c.is_ascii_whitespace()).starts_with('{');
    if !has_objects {
        let (name, datatype) = outputs.single()?;
        return Ok(vec![nested::read(name, datatype, json, &limits)?]);
    }
    let rows: Vec<BTreeMap<String, &RawValue>> = serde_json::from_str(json.get()).map_err(|error| error.to_string())?;
    let names: Vec<String> = rows.first().map(|row| row.keys().cloned().collect()).unwrap_or_default();
    if names.len() > limits.max_tensors {
        return Err(format!("it has {} outputs; at most {} are read", names.len(), limits.max_tensors));
    }
    let gather = |name: &String| {
        let values: Option<Vec<&str>> = rows.iter().map(|row| row.get(name).map(|value| value.get())).collect();
        let values = values.ok_or_else(|| format!("not every prediction has `{name}`"))?;
        let list = RawValue::from_string(format!("[{}]", values.join(","))).map_err(|error| error.to_string())?;
        nested::read(name, outputs.datatype(name), &list, &limits)
    };
    names.iter().map(gather).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::scorer::{PeerKind, ScorerConfig};
    use crate::scorer::tensor::TensorData;

    fn peer(outputs: &str) -> Box<dyn Protocol> {
        let text = format!(
            "version: 1\nmodels: {{m: {{proxy: {{kind: kserve-v1, url: 'http://127.0.0.1:1', versions: {{'1': {{model: m}}}}, outputs: {outputs}}}}}}}\n"
        );
        let config: ScorerConfig = crate::config::scorer::parse_scorer_str("t", &text).into_result().unwrap().value;
        let settings = config.models["m"].proxy.clone().unwrap();
        assert_eq!(settings.kind, PeerKind::KserveV1);
        super::super::protocol::protocol(&settings, PeerVersionFile { model: "m".into(), version: None })
    }

    fn read(outputs: &str, body: &str) -> Result<Vec<Tensor>, String> {
        peer(outputs).decode(Came { bytes: body.as_bytes(), header_length: None }, &Learned::default())
    }

    #[test]
    fn rows_go_as_values_or_as_objects() {
        let limits = TensorLimits::default();
        let x = Tensor::new("x", vec![2, 2], TensorData::Fp32(vec![0.5, 1.0, 2.0, 3.0]), &limits).unwrap();
        let n = Tensor::new("n", vec![2], TensorData::Int64(vec![7, 8]), &limits).unwrap();
        let text = |inputs: &[Tensor]| {
            String::from_utf8(peer("[]").encode(inputs, &Learned::default()).unwrap().bytes).unwrap()
        };
        assert_eq!(text(std::slice::from_ref(&x)), r#"{"instances":[[0.5,1.0],[2.0,3.0]]}"#);
        assert_eq!(text(&[x, n]), r#"{"instances":[{"x":[0.5,1.0],"n":7},{"x":[2.0,3.0],"n":8}]}"#);
    }

    #[test]
    fn predictions_are_read_as_values_or_as_objects() {
        let scores = read("[]", r#"{"predictions": [0.25, 1]}"#).unwrap();
        assert_eq!((scores[0].name(), scores[0].data()), ("output", &TensorData::Fp64(vec![0.25, 1.0])));
        let named = read("[{name: score, datatype: FP32}]", r#"{"predictions": [[0.1]]}"#).unwrap();
        assert_eq!(
            (named[0].name(), named[0].shape(), named[0].data()),
            ("score", &[1, 1][..], &TensorData::Fp32(vec![0.1]))
        );
        let several = read(
            "[{name: label, datatype: INT64}]",
            r#"{"predictions": [{"label": 1, "p": [0.5]}, {"label": 0, "p": [0.6]}]}"#,
        )
        .unwrap();
        assert_eq!(several[0].data(), &TensorData::Int64(vec![1, 0]));
        assert_eq!((several[1].name(), several[1].shape()), ("p", &[2, 1][..]));
        assert!(read("[]", r#"{"predictions": [{"a": 1}, {"b": 1}]}"#).is_err());
        assert!(read("[]", r#"{"predictions": ["a"]}"#).is_err());
        assert!(read("[]", "{}").is_err());
    }
}
