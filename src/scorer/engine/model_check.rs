//! What a model's bytes are looked through for before ONNX Runtime sees them: how many nodes, and whether weights would be
//! read from other files. ONNX Runtime would follow such a path from the working directory.
//!
//! The protocol buffers of ONNX are walked without being decoded: a message takes no memory, so a small file that claims
//! millions of nodes costs nothing before it is refused. Numbers of fields are those of `onnx.proto`.

use prost::bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint};

use super::EngineError;

/// What a model may at most be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelLimits {
    pub max_model_bytes: usize,
    pub max_nodes: usize,
}

/// Graphs in graphs: `If` in `Loop` in `Scan` and so on.
const MAX_DEPTH: usize = 64;
/// Marks ONNX Runtime's own format, which none of these checks would see through.
const ORT_FORMAT: &[u8] = b"ORTM";

/// Counts the nodes of a model, those of subgraphs and functions included.
///
/// # Errors
/// The model is over a limit, refers to other files, or is no ONNX model at all.
pub fn check_model(model: &[u8], limits: &ModelLimits) -> Result<usize, EngineError> {
    if model.len() > limits.max_model_bytes {
        return Err(EngineError::Model(format!(
            "the model has {} bytes, at most {} are loaded: raise `engine.max_model_bytes`",
            model.len(),
            limits.max_model_bytes
        )));
    }
    if model.get(4..8) == Some(ORT_FORMAT) {
        return Err(EngineError::Model("the model is in ONNX Runtime's own format: register the ONNX model".into()));
    }
    let mut walk = Walk { nodes: 0, max_nodes: limits.max_nodes, graphs: 0 };
    walk.message(Message::Model, model, 0)?;
    if walk.graphs == 0 {
        return Err(EngineError::Model("the bytes are no ONNX model: they have no graph".into()));
    }
    Ok(walk.nodes)
}

/// The messages on the way to nodes and weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    Model,
    Graph,
    Function,
    Node,
    Attribute,
    SparseTensor,
    Tensor,
}

impl Message {
    /// What stands in a field of this message, if it is of concern here.
    const fn field(self, number: u32) -> Option<Self> {
        match (self, number) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) => Some(Self::Graph),
            (Self::Model, 25) => Some(Self::Function),
            (Self::Graph, 1) | (Self::Function, 7) => Some(Self::Node),
            (Self::Node, 5) | (Self::Function, 11) => Some(Self::Attribute),
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::SparseTensor, 1 | 2) => Some(Self::Tensor),
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Some(Self::SparseTensor),
            _ => None,
        }
    }
}

/// `TensorProto.external_data` and `TensorProto.data_location`, which is 1 for EXTERNAL.
const EXTERNAL_DATA: u32 = 13;
const DATA_LOCATION: u32 = 14;

struct Walk {
    nodes: usize,
    max_nodes: usize,
    graphs: usize,
}

impl Walk {
    fn message(&mut self, message: Message, mut bytes: &[u8], depth: usize) -> Result<(), EngineError> {
        if depth > MAX_DEPTH {
            return Err(EngineError::Model(format!("the model's graphs are nested more than {MAX_DEPTH} deep")));
        }
        match message {
            Message::Graph => self.graphs += 1,
            Message::Node => self.nodes += 1,
            _ => {}
        }
        if self.nodes > self.max_nodes {
            return Err(EngineError::Model(format!(
                "the model has more than {} nodes: raise `engine.max_nodes` if it is meant to be so large",
                self.max_nodes
            )));
        }
        while !bytes.is_empty() {
            let (number, wire) = decode_key(&mut bytes).map_err(|_| not_onnx())?;
            let value = field(&mut bytes, wire)?;
            match (message, number, value) {
                (Message::Tensor, EXTERNAL_DATA, _) | (Message::Tensor, DATA_LOCATION, Field::Number(1)) => {
                    return Err(EngineError::Model(
                        "the model keeps weights in another file, which is never read: save it as one file \
                         (onnx.save_model(..., save_as_external_data=False))"
                            .into(),
                    ));
                }
                (_, _, Field::Bytes(inner)) => {
                    if let Some(inside) = message.field(number) {
                        self.message(inside, inner, depth + 1)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Other,
}

/// Takes one field's value off the front.
fn field<'a>(bytes: &mut &'a [u8], wire: WireType) -> Result<Field<'a>, EngineError> {
    let skip = match wire {
        WireType::Varint => return decode_varint(bytes).map(Field::Number).map_err(|_| not_onnx()),
        WireType::SixtyFourBit => 8,
        WireType::ThirtyTwoBit => 4,
        WireType::LengthDelimited => {
            let length = decode_varint(bytes).map_err(|_| not_onnx())?;
            let length = usize::try_from(length).map_err(|_| not_onnx())?;
            let (inner, rest) = bytes.split_at_checked(length).ok_or_else(not_onnx)?;
            *bytes = rest;
            return Ok(Field::Bytes(inner));
        }
        // Groups are of another age; ONNX has none.
        WireType::StartGroup | WireType::EndGroup => return Err(not_onnx()),
    };
    if bytes.len() < skip {
        return Err(not_onnx());
    }
    bytes.advance(skip);
    Ok(Field::Other)
}

fn not_onnx() -> EngineError {
    EngineError::Model("the bytes are no ONNX model, or were cut off".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ModelLimits = ModelLimits { max_model_bytes: 1 << 20, max_nodes: 100 };

    fn fixture(name: &str) -> Vec<u8> {
        std::fs::read(format!("{}/tests/fixtures/scorer/{name}.onnx", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    /// A field with bytes in it.
    fn wrap(number: u8, inner: &[u8]) -> Vec<u8> {
        let mut bytes = vec![(number << 3) | 2];
        prost::encoding::encode_varint(inner.len() as u64, &mut bytes);
        [bytes, inner.to_vec()].concat()
    }

    #[test]
    fn nodes_are_counted() {
        assert_eq!(check_model(&fixture("mlp"), &LIMITS), Ok(6));
        assert_eq!(check_model(&fixture("linear"), &LIMITS), Ok(2));
        let error = check_model(&fixture("mlp"), &ModelLimits { max_nodes: 5, ..LIMITS }).unwrap_err();
        assert!(error.to_string().contains("more than 5 nodes"), "{error}");
        let error = check_model(&fixture("mlp"), &ModelLimits { max_model_bytes: 100, ..LIMITS }).unwrap_err();
        assert!(error.to_string().contains("at most 100 are loaded"), "{error}");
    }

    #[test]
    fn weights_in_another_file_are_refused() {
        let error = check_model(&fixture("external"), &LIMITS).unwrap_err();
        assert!(error.to_string().contains("keeps weights in another file"), "{error}");
        // In an attribute of a node of a subgraph, too.
        let tensor = [(DATA_LOCATION as u8) << 3, 1];
        let inner_node = wrap(1, &wrap(5, &wrap(5, &tensor)));
        let node = wrap(1, &wrap(5, &wrap(6, &inner_node)));
        assert_eq!(check_model(&wrap(7, &node), &LIMITS).unwrap_err(), error);
    }

    #[test]
    fn what_is_no_model_is_refused_wherever_it_is_cut() {
        let whole = fixture("mlp");
        for length in 0..whole.len() {
            let cut = check_model(&whole[..length], &LIMITS);
            // A cut between two fields of the model itself is a shorter message; it has a graph only near its end.
            assert!(cut.is_err() || length > whole.len() - 64, "cut to {length} bytes: {cut:?}");
        }
        assert!(check_model(b"", &LIMITS).is_err());
        assert!(check_model(b"\x08\x00\x00\x00ORTM", &LIMITS).unwrap_err().to_string().contains("own format"));
    }

    #[test]
    fn graphs_without_end_are_refused() {
        let mut graph = wrap(1, &[]);
        for _ in 0..40 {
            graph = wrap(1, &wrap(5, &wrap(6, &graph)));
        }
        let error = check_model(&wrap(7, &graph), &LIMITS).unwrap_err();
        assert!(error.to_string().contains("more than 64 deep"), "{error}");
    }
}
