//! References: what a model's features looked like when all was well.
//!
//! `build` turns rows into a [`Reference`], `column` says how a column of a file is read as numbers or categories,
//! `store` keeps references as files, addressed by their content, `promotions` knows which one is in force and which
//! were, `diff` compares two of them, `moving` says what references that follow the stream are the union of. To add
//! another source of references, hand its rows to `Reference::build` as Arrow batches. `table` reads the files that
//! references and reports are made from. To add a file format: one file in `table/` with a function from a path to a
//! `Table`, and its extension in `table::Format`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub mod build;
pub mod column;
pub mod diff;
pub mod moving;
pub mod promotions;
pub mod segments;
pub mod store;
pub mod table;

pub use crate::stats::profile::FeatureReference;
pub use build::ReferenceError;
pub use moving::MovingReference;
pub use segments::SegmentReferences;
pub use store::{ReferenceStore, StoreError};

/// Fewer values than this leave less than 50 in each of ten bins: their shares are then known to no better than 14%
/// of themselves, and the index moves by chance as much as by drift.
const FEWEST_VALUES: u64 = 500;

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
}

impl Reference {
    /// What makes this reference a weak yardstick, one sentence per finding, for people.
    pub fn warnings(&self) -> Vec<String> {
        self.features.values().filter_map(|feature| weakness(feature, self.rows)).collect()
    }
}

fn weakness(feature: &FeatureReference, rows: u64) -> Option<String> {
    use crate::stats::layout::{Layout, MOST_CATEGORIES};
    let (name, n) = (&feature.name, feature.profile.n());
    if n == 0 {
        return Some(format!("`{name}`: all {rows} values are missing; only its null rate can be watched"));
    }
    if n < FEWEST_VALUES {
        return Some(format!("`{name}`: {n} values are few for its bins; drift below chance variation is not seen"));
    }
    match &feature.layout {
        Layout::Categorical(layout) if layout.truncated() => Some(format!(
            "`{name}`: more than {MOST_CATEGORIES} categories; the rarer ones are counted together and unseen ones \
             are not told apart: is it an identifier?"
        )),
        Layout::Numeric(layout) => match (layout.percentiles().first(), layout.percentiles().last()) {
            (Some(low), Some(high)) if low == high => {
                Some(format!("`{name}`: nearly all values are {low}; the stability index sees moves downward only"))
            }
            _ => None,
        },
        Layout::Categorical(_) => None,
    }
}
