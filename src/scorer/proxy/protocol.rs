//! What a peer's protocol has to say: paths, bodies, and how to read the answers. No input or output.

use super::{kserve_v1, oip, tensorflow, torchserve};
use crate::config::scorer::{PeerKind, ProxySettings};
use crate::scorer::engine::Signature;
use crate::scorer::proxy::version::PeerVersionFile;
use crate::scorer::score::ScoreError;
use crate::scorer::tensor::{DataType, Tensor};

/// What was learned of a peer when it first answered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Learned {
    pub signature: Option<Signature>,
    /// Tensors may go as binary data.
    pub binary: bool,
}

/// A body to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    pub bytes: Vec<u8>,
    /// Where its JSON ends and binary data begin, if they follow.
    pub header_length: Option<usize>,
}

/// A body that came, with the same.
#[derive(Debug, Clone, Copy)]
pub struct Came<'a> {
    pub bytes: &'a [u8],
    pub header_length: Option<usize>,
}

/// One protocol, for one model's version over there.
pub trait Protocol: Send + Sync {
    /// For events and metrics.
    fn engine(&self) -> &'static str;

    /// Asked by GET whether the model is ready.
    fn ready_path(&self) -> String;

    /// What that answer, a 200, says.
    fn is_ready(&self, _body: &[u8]) -> bool {
        true
    }

    /// Asked by GET for what `learn` needs.
    fn metadata_paths(&self) -> Vec<String> {
        Vec::new()
    }

    /// From the bodies of those that were answered with 200, in their order.
    fn learn(&self, _bodies: &[Option<Vec<u8>>]) -> Learned {
        Learned::default()
    }

    /// Asked by POST for scores.
    fn score_path(&self) -> String;

    /// # Errors
    /// The protocol has no form for these inputs: `Invalid`.
    fn encode(&self, inputs: &[Tensor], learned: &Learned) -> Result<Body, ScoreError>;

    /// # Errors
    /// It is no answer of the protocol; the reason.
    fn decode(&self, body: Came<'_>, learned: &Learned) -> Result<Vec<Tensor>, String>;

    /// Whether this status says that the server is in trouble, and not one request.
    fn is_trouble(&self, status: u16) -> bool {
        matches!(status, 502..=504)
    }
}

/// Outputs of a protocol that does not describe them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outputs(Vec<(String, DataType)>);

impl Outputs {
    fn of(settings: &ProxySettings) -> Self {
        let one = |output: &crate::config::scorer::PeerOutput| {
            (output.name.clone(), DataType::parse(&output.datatype).unwrap_or(DataType::Fp64))
        };
        Self(settings.outputs.iter().map(one).collect())
    }

    /// The only output.
    ///
    /// # Errors
    /// There are several; the reason.
    pub fn single(&self) -> Result<(&str, DataType), String> {
        match self.0.as_slice() {
            [] => Ok(("output", DataType::Fp64)),
            [(name, datatype)] => Ok((name, *datatype)),
            several => Err(format!("the peer answered with one output, {} are configured", several.len())),
        }
    }

    /// An output by its name; the type is FP64 where nobody says another.
    pub fn datatype(&self, name: &str) -> DataType {
        self.0.iter().find(|(known, _)| known == name).map_or(DataType::Fp64, |(_, datatype)| *datatype)
    }
}

pub fn protocol(settings: &ProxySettings, version: PeerVersionFile) -> Box<dyn Protocol> {
    let outputs = Outputs::of(settings);
    match settings.kind {
        PeerKind::Oip => Box::new(oip::Oip { version }),
        PeerKind::KserveV1 => Box::new(kserve_v1::KserveV1 { version, outputs }),
        PeerKind::Torchserve => Box::new(torchserve::TorchServe { version, outputs }),
        PeerKind::TfServing => Box::new(tensorflow::TfServing { version }),
    }
}
