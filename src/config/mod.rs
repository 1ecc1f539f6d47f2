//! What users write: the service file, models and rules; their shape, and their validation with line:column.
//!
//! `service`, `model` and `rules` hold the types that serde and schemars derive from; the loader reads YAML
//! through a marked syntax tree, so that every error names its place. To add a key: add the field with its doc
//! comment (it becomes the schema's description), and a good and a bad fixture.

pub mod model;
pub mod rules;
pub mod service;
pub mod units;
