//! A model's field mapping, compiled once: dotted paths become a tree of keys that is walked along each event.

use std::collections::BTreeSet;

use hashbrown::HashMap;

use super::columns::{EVENT_TIME, PREDICTION_ID, QUALITY_FEATURE, VERSION};
use crate::config::model::{Kind, Model, UnknownFeatures};

/// A model that cannot be read from events; found at start and by `check`, never while events flow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("model `{model}`: {problem}")]
pub struct DecoderError {
    pub model: String,
    pub problem: String,
}

pub(super) type NodeId = u32;
pub(super) const ROOT: NodeId = 0;
/// No node.
pub(super) const NONE: NodeId = NodeId::MAX;

/// What becomes of the value at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    EventTime,
    Version,
    PredictionId,
    /// Read while routing; kept in the tree so that it is a known key and cannot stand twice.
    ModelName,
    Number(usize),
    Category(usize),
    Vector(usize),
    /// An array of numbers of any length.
    List(usize),
    /// The label of a label event.
    Label,
}

/// One key of the tree. A node has targets or children, never both.
#[derive(Debug)]
pub(super) struct Node {
    /// Dotted path from the root, for people.
    pub path: String,
    /// The key as JSON writes it, with its quotes.
    pub quoted: Vec<u8>,
    pub targets: Vec<Target>,
    pub children: HashMap<String, NodeId>,
    /// What becomes of an event with a key that is not among the children.
    pub unlisted: UnknownFeatures,
    /// The child that came first in the last event, and the sibling that followed this node: producers write
    /// keys in the same order again and again, so the next key is compared with these before it is looked up.
    pub first_child: NodeId,
    pub next_sibling: NodeId,
    /// Number of the event in which this node was last met, to see a key that stands twice.
    pub seen_in_event: u64,
}

#[derive(Debug)]
pub(super) struct Mapping {
    pub nodes: Vec<Node>,
    pub event_time: NodeId,
    /// Where each signal stands.
    pub signals: Vec<NodeId>,
    /// By signal: an invalid value is missing, and does not cost the event.
    pub keeps_invalid: Vec<bool>,
    /// Signals that must have a value, and where.
    pub required: Vec<(usize, NodeId)>,
    /// Path of the model's name, where the topic carries several.
    pub model_name: Option<Vec<String>>,
    /// Room for the vector at hand.
    pub vector: Vec<f32>,
}

impl Mapping {
    pub fn compile(model: &Model) -> Result<Self, DecoderError> {
        Self::build(model).map_err(|problem| DecoderError { model: model.model.clone(), problem })
    }

    fn build(model: &Model) -> Result<Self, String> {
        let fields = &model.fields;
        let mut mapping = Self::empty();
        mapping.event_time = mapping.add(&fields.timestamp, Target::EventTime)?;
        for (path, target) in [
            (&fields.model, Target::ModelName),
            (&fields.version, Target::Version),
            (&fields.prediction_id, Target::PredictionId),
        ] {
            if let Some(path) = path {
                mapping.add(path, target)?;
            }
        }
        mapping.model_name = fields.model.as_deref().map(split_path).transpose()?;
        let mut names =
            BTreeSet::from([EVENT_TIME.to_string(), VERSION.into(), PREDICTION_ID.into(), QUALITY_FEATURE.into()]);
        for (index, signal) in model.signals().into_iter().chain(model.outcome_columns()).enumerate() {
            if !names.insert(signal.name.clone()) {
                return Err(format!(
                    "the feature name `{}` is taken by a standard column; name the feature otherwise and give its `path`",
                    signal.name
                ));
            }
            let target = match signal.kind {
                Kind::Numeric => Target::Number(index),
                Kind::Categorical => Target::Category(index),
                Kind::Vector if signal.dimension == 0 => Target::List(index),
                Kind::Vector => Target::Vector(index),
            };
            let node = mapping.add(&signal.path, target)?;
            mapping.signals.push(node);
            mapping.keeps_invalid.push(signal.keeps_invalid);
            if signal.required {
                mapping.required.push((index, node));
            }
        }
        let features = match fields.features.strip_suffix(".*") {
            Some(prefix) => mapping.descend(prefix)?,
            None if fields.features == "*" => ROOT,
            None => return Err(format!("`fields.features` is `{}`: write `features.*` or `*`", fields.features)),
        };
        mapping.nodes[features as usize].unlisted = model.unknown_features();
        mapping.check_nodes()?;
        Ok(mapping)
    }

    fn empty() -> Self {
        Self {
            nodes: vec![Node::new("", "")],
            event_time: ROOT,
            signals: vec![],
            keeps_invalid: vec![],
            required: vec![],
            model_name: None,
            vector: vec![],
        }
    }

    /// A tree of these paths alone; `model_name` is among them.
    pub fn of_paths<'p>(
        paths: impl Iterator<Item = (&'p str, Target)>,
        model_name: Option<&str>,
    ) -> Result<Self, String> {
        let mut mapping = Self::empty();
        for (path, target) in paths {
            mapping.add(path, target)?;
        }
        mapping.model_name = model_name.map(split_path).transpose()?;
        mapping.check_nodes()?;
        Ok(mapping)
    }

    fn check_nodes(&self) -> Result<(), String> {
        if let Some(node) = self.nodes.iter().find(|node| !node.targets.is_empty() && !node.children.is_empty()) {
            return Err(format!("`{}` is mapped both as a value and as an object with fields", node.path));
        }
        let is_array = |target: &Target| matches!(target, Target::Vector(_) | Target::List(_));
        let shared = |node: &&Node| node.targets.len() > 1 && node.targets.iter().any(is_array);
        match self.nodes.iter().find(shared) {
            Some(node) => Err(format!("`{}` is mapped both as a vector and as something else", node.path)),
            None => Ok(()),
        }
    }

    fn add(&mut self, path: &str, target: Target) -> Result<NodeId, String> {
        let node = self.descend(path)?;
        self.nodes[node as usize].targets.push(target);
        Ok(node)
    }

    /// The node at `path`, made where it does not exist.
    fn descend(&mut self, path: &str) -> Result<NodeId, String> {
        let mut node = ROOT;
        for key in split_path(path)? {
            let known = self.nodes[node as usize].children.get(&key).copied();
            node = match known {
                Some(child) => child,
                None => {
                    let child = NodeId::try_from(self.nodes.len()).map_err(|_| "too many fields".to_string())?;
                    let parent = &mut self.nodes[node as usize];
                    let separator = if parent.path.is_empty() { "" } else { "." };
                    let child_path = format!("{}{separator}{}", parent.path, key.replace('.', "\\."));
                    parent.children.insert(key.clone(), child);
                    self.nodes.push(Node::new(&key, &child_path));
                    child
                }
            };
        }
        Ok(node)
    }
}

impl Node {
    fn new(key: &str, path: &str) -> Self {
        Self {
            path: path.to_string(),
            quoted: serde_json::Value::from(key).to_string().into_bytes(),
            targets: Vec::new(),
            children: HashMap::new(),
            unlisted: UnknownFeatures::Ignore,
            first_child: NONE,
            next_sibling: NONE,
            seen_in_event: 0,
        }
    }
}

/// The keys of a dotted path; `\.` is a dot inside a key, any other backslash is itself.
fn split_path(path: &str) -> Result<Vec<String>, String> {
    let mut keys = vec![String::new()];
    let mut characters = path.chars().peekable();
    while let Some(character) = characters.next() {
        let escaped_dot = character == '\\' && characters.next_if_eq(&'.').is_some();
        match character {
            '.' => keys.push(String::new()),
            _ => {
                if let Some(key) = keys.last_mut() {
                    key.push(if escaped_dot { '.' } else { character });
                }
            }
        }
    }
    if keys.iter().any(String::is_empty) {
        return Err(format!("the path `{path}` has an empty part; a dot inside a key is written `\\.`"));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(yaml_like: serde_json::Value) -> Result<Mapping, DecoderError> {
        Mapping::compile(&serde_json::from_value(yaml_like).unwrap())
    }

    #[test]
    fn paths_split_at_dots_that_are_not_escaped() {
        assert_eq!(split_path("a.b.c").unwrap(), ["a", "b", "c"]);
        assert_eq!(split_path(r"a\.b.c").unwrap(), ["a.b", "c"]);
        assert_eq!(split_path(r"a\b.\\.c").unwrap(), [r"a\b", r"\.c"]);
        for bad in ["", ".", "a..b", "a.", ".a"] {
            assert!(split_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_mapping_that_can_never_fit_is_refused_at_start() {
        let base = serde_json::json!({"version": 1, "model": "m", "topics": ["t"], "features": {"a": "numeric"}});
        assert!(compile(base.clone()).is_ok());
        for (key, value, says) in [
            ("features", serde_json::json!({"version": "numeric"}), "standard column"),
            ("features", serde_json::json!({"a": {"type": "numeric", "path": "timestamp.a"}}), "both as a value"),
            ("fields", serde_json::json!({"features": "features"}), "write `features.*`"),
            ("fields", serde_json::json!({"timestamp": "a..b"}), "empty part"),
            ("score", serde_json::json!({"path": "features", "type": "numeric"}), "both as a value"),
        ] {
            let mut model = base.clone();
            model[key] = value;
            let error = compile(model).unwrap_err().to_string();
            assert!(error.starts_with("model `m`: ") && error.contains(says), "{error}");
        }
    }
}
