//! References: what a model's features looked like when all was well.
//!
//! `build` turns rows into a [`Reference`], `calibrate` learns from its own windows how far windows differ, `column`
//! says how a column of a file is read as numbers or categories, `vectors` reads vector and joint signals, `store`
//! keeps references as files, addressed by their content (`stored_vector`: their vector layouts), `promotions` knows which one is in force and which were, `diff` compares two of them, `weakness`
//! says which are too small, `window` reads the rows of a file as a window, `moving` what references that follow the stream are the union of. `table` reads the
//! files that references and reports are made from, `stream` a stretch of the model's topics, `topic` any topic of
//! JSON objects; to add another source, hand its rows to `Reference::build` as Arrow batches. To add a file format: one
//! file in `table/` with a function from a path to a `Table`, and its extension in `table::Format`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub mod build;
mod calibrate;
pub mod column;
pub mod diff;
pub mod importance;
pub mod moving;
pub mod performance;
pub mod promotions;
pub mod segments;
pub mod store;
mod stored_vector;
pub mod stream;
pub mod table;
pub mod topic;
mod vectors;
pub mod weakness;
pub mod window;

pub use crate::stats::profile::FeatureReference;
pub use build::ReferenceError;
pub use moving::MovingReference;
pub use performance::{PerformanceBaseline, PerformanceReference};
pub use segments::SegmentReferences;
pub use store::{ReferenceStore, StoreError};

/// What one model's signals looked like in one set of rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// Content address: the first 16 hexadecimal digits of the SHA-256 of everything but `created_ms`. Part of the
    /// key of every profile that is compared with this reference.
    pub id: String,
    pub model: String,
    /// Name rules compare with, such as `training`.
    pub name: String,
    /// When it was built, epoch milliseconds.
    pub created_ms: i64,
    pub rows: u64,
    pub source: Source,
    /// By signal name.
    pub features: BTreeMap<String, FeatureReference>,
    /// The same among the rows of each segment.
    pub segments: SegmentReferences,
    /// How much the model's output depends on each feature, 0 to 1, as [`importance`] learns it; empty where the
    /// model has no output to learn it from.
    pub importance: BTreeMap<String, f64>,
    /// How well the model did on these rows; `None` where they hold no labels, or the model file does not say how it is
    /// judged.
    pub performance: Option<PerformanceReference>,
}

/// What a reference was built from: a file, or a stretch of the stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// File name, without its directory; empty: the stream.
    pub file: String,
    /// SHA-256 of the file, hexadecimal; empty for the stream.
    pub sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<Stretch>,
    /// Version of the model that the data belong to; `None`: not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// A stretch of event time in the model's topics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stretch {
    /// Event time, [from, to), epoch milliseconds.
    pub from_ms: i64,
    pub to_ms: i64,
    /// Offsets of the first event taken and after the last one, by topic and partition.
    pub offsets: BTreeMap<String, BTreeMap<i32, (i64, i64)>>,
    /// Event times within the stretch between which events were found, epoch milliseconds: a topic may be younger than
    /// what was asked of it. `None`: built before this was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found_ms: Option<(i64, i64)>,
}
