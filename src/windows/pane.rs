//! Panes: the profiles of one stretch of event time, as they stand in memory and in the `panes` topic.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::reference::Reference;
use crate::stats::profile::Profile;
use crate::stats::quality::{QUALITY_FEATURE, QualityError, QualityProfile};
use crate::stats::sql::is_state_name;
use crate::stats::sql::state::SqlState;

use super::result::{Segment, Window};

/// What a pane is of. Its JSON is the key of its record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PaneKey {
    pub model: String,
    pub version: String,
    pub start_ms: i64,
    pub pane_ms: i64,
    pub reference_id: String,
    pub segment: Segment,
}

impl PaneKey {
    pub fn window(&self) -> Window {
        Window { start_ms: self.start_ms, end_ms: self.start_ms + self.pane_ms }
    }
}

/// Events and profiles of one pane.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pane {
    pub rows: u64,
    pub profiles: BTreeMap<String, Profile>,
    /// Of all events; segments have none.
    pub quality: Option<QualityProfile>,
    /// States of rules' queries, by their name.
    pub sql: BTreeMap<String, SqlState>,
}

#[derive(Debug, thiserror::Error)]
pub enum PaneError {
    #[error("the reference {id} of model {model} is not at hand; restore its file in the references directory")]
    NoReference { model: String, id: String },
    #[error("reference {id} of model {model} has no feature `{feature}`")]
    NoFeature { model: String, id: String, feature: String },
    #[error("profile of `{feature}`: {message}")]
    Profile { feature: String, message: String },
    #[error(transparent)]
    Quality(#[from] QualityError),
    #[error("pane record: {0}")]
    Malformed(&'static str),
}

impl Pane {
    /// Adds one encoded profile.
    pub fn merge_state(&mut self, reference: &Reference, feature: &str, state: &[u8]) -> Result<(), PaneError> {
        if feature == QUALITY_FEATURE {
            self.quality.get_or_insert_default().merge(&QualityProfile::decode(state)?);
            return Ok(());
        }
        let profile = decode_profile(reference, feature, state)?;
        if self.profiles.contains_key(feature) {
            return self.merge_profile(feature, &profile);
        }
        self.profiles.insert(feature.to_string(), profile);
        Ok(())
    }

    pub fn merge(&mut self, other: &Pane) -> Result<(), PaneError> {
        self.merge_some(other, |_| true)
    }

    /// Adds the features that are wanted.
    pub fn merge_some(&mut self, other: &Pane, wanted: impl Fn(&str) -> bool) -> Result<(), PaneError> {
        self.rows += other.rows;
        for (feature, profile) in other.profiles.iter().filter(|(feature, _)| wanted(feature)) {
            self.merge_profile(feature, profile)?;
        }
        for (name, state) in other.sql.iter().filter(|(name, _)| wanted(name)) {
            self.sql.entry(name.clone()).or_default().merge(state);
        }
        if let Some(quality) = other.quality.as_ref().filter(|_| wanted(QUALITY_FEATURE)) {
            self.quality.get_or_insert_default().merge(quality);
        }
        Ok(())
    }

    fn merge_profile(&mut self, feature: &str, profile: &Profile) -> Result<(), PaneError> {
        match self.profiles.get_mut(feature) {
            Some(mine) => mine
                .merge(profile)
                .map_err(|error| PaneError::Profile { feature: feature.to_string(), message: error.to_string() }),
            None => {
                self.profiles.insert(feature.to_string(), profile.clone());
                Ok(())
            }
        }
    }

    /// `rows`, then per feature, for the quality of all under [`QUALITY_FEATURE`], and per query: name length, name, state length,
    /// state; integers u32/u64 little endian.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_some(|_| true)
    }

    /// As `encode`, with the features that are wanted.
    pub fn encode_some(&self, wanted: impl Fn(&str) -> bool) -> Vec<u8> {
        let mut bytes = self.rows.to_le_bytes().to_vec();
        let profiles = self.profiles.iter().filter(|(feature, _)| wanted(feature));
        let states = profiles.map(|(feature, profile)| (feature.as_str(), profile.encode()));
        let quality = self.quality.iter().filter(|_| wanted(QUALITY_FEATURE));
        let quality = quality.map(|quality| (QUALITY_FEATURE, quality.encode()));
        let queries = self.sql.iter().filter(|(name, _)| wanted(name));
        let queries = queries.map(|(name, state)| (name.as_str(), state.encode()));
        for (feature, state) in quality.chain(states).chain(queries) {
            bytes.extend_from_slice(&(feature.len() as u32).to_le_bytes());
            bytes.extend_from_slice(feature.as_bytes());
            bytes.extend_from_slice(&(state.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&state);
        }
        bytes
    }

    pub fn decode(reference: &Reference, bytes: &[u8]) -> Result<Self, PaneError> {
        Self::decode_some(reference, bytes, |_| true)
    }

    /// Reads the features that are wanted.
    pub fn decode_some(reference: &Reference, bytes: &[u8], wanted: impl Fn(&str) -> bool) -> Result<Self, PaneError> {
        let (rows, mut rest) = bytes.split_first_chunk::<8>().ok_or(PaneError::Malformed("truncated"))?;
        let mut pane = Pane { rows: u64::from_le_bytes(*rows), ..Pane::default() };
        while !rest.is_empty() {
            let feature = std::str::from_utf8(take_block(&mut rest)?).map_err(|_| PaneError::Malformed("name"))?;
            let state = take_block(&mut rest)?;
            match feature {
                unwanted if !wanted(unwanted) => {}
                QUALITY_FEATURE => pane.quality = Some(QualityProfile::decode(state)?),
                query if is_state_name(query) => {
                    let state = SqlState::decode(state).ok_or(PaneError::Malformed("state of a query"))?;
                    pane.sql.insert(query.to_string(), state);
                }
                feature => {
                    pane.profiles.insert(feature.to_string(), decode_profile(reference, feature, state)?);
                }
            }
        }
        Ok(pane)
    }
}

fn take_block<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], PaneError> {
    let (length, tail) = rest.split_first_chunk::<4>().ok_or(PaneError::Malformed("truncated"))?;
    let (block, tail) =
        tail.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or(PaneError::Malformed("truncated"))?;
    *rest = tail;
    Ok(block)
}

fn decode_profile(reference: &Reference, feature: &str, state: &[u8]) -> Result<Profile, PaneError> {
    let known = reference.features.get(feature).ok_or_else(|| PaneError::NoFeature {
        model: reference.model.clone(),
        id: reference.id.clone(),
        feature: feature.to_string(),
    })?;
    Profile::decode(state, &known.layout)
        .map_err(|error| PaneError::Profile { feature: feature.to_string(), message: error.to_string() })
}
