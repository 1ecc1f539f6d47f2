//! From where a restart reads `joins` again: an offset, and what was known there.
//!
//! The record stands in a compacted topic of its own, in the partition of the same number, and is written in the
//! transaction of a flush. The `panes` topic would do as well, but its reader takes everything in it for its own, and a
//! restart of the join would have to read all panes to find one record.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ingest::clocks::SourceClocks;

use super::sampling::Sampling;

/// Key of the record.
pub const CHECKPOINT_KEY: &[u8] = b"join";

/// Of the record.
const FORMAT: u32 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    format: u32,
    /// Of the first record to be read again.
    pub offset: i64,
    /// Latest wall clock of any flush before it, epoch milliseconds.
    pub at_ms: i64,
    pub clocks: SourceClocks,
    pub models: BTreeMap<String, ModelCheckpoint>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelCheckpoint {
    /// The join's event time before that record, epoch milliseconds.
    pub time_ms: Option<i64>,
    /// All changes up to now, those since that record too.
    pub sampling: Sampling,
}

#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("it cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("it has format {0}, this version reads {FORMAT}")]
    Format(u32),
}

impl Checkpoint {
    pub fn new(offset: i64, at_ms: i64, clocks: SourceClocks, models: BTreeMap<String, ModelCheckpoint>) -> Self {
        Self { format: FORMAT, offset, at_ms, clocks, models }
    }

    pub fn encode(&self) -> Result<Vec<u8>, CheckpointError> {
        Ok(serde_json::to_vec(self)?)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, CheckpointError> {
        #[derive(Deserialize)]
        struct OfFormat {
            format: u32,
        }
        let OfFormat { format } = serde_json::from_slice(bytes)?;
        if format == FORMAT { Ok(serde_json::from_slice(bytes)?) } else { Err(CheckpointError::Format(format)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_format_is_an_error_that_says_so() {
        let checkpoint = Checkpoint::new(7, 100, SourceClocks::default(), BTreeMap::new());
        let bytes = checkpoint.encode().unwrap();
        assert_eq!(Checkpoint::decode(&bytes).unwrap(), checkpoint);
        let error = Checkpoint::decode(b"{\"format\": 9}").unwrap_err();
        assert_eq!(error.to_string(), "it has format 9, this version reads 1");
        assert!(Checkpoint::decode(&bytes[..bytes.len() - 1]).is_err());
    }
}
