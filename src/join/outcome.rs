//! What the join has to tell since the last flush.

use std::collections::BTreeMap;

use crate::event::Reason;
use crate::ingest::joins::JoinLabel;
use crate::ingest::signals::SignalValue;

/// What became of a prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PredictionOutcome {
    /// It is kept for its label.
    Kept,
    /// One with the same id is kept already: the first one counts.
    Duplicate,
    /// Older than the delay when it was read.
    TooLate,
    /// Left out by the sampling over budget.
    Unsampled,
    /// Kept, then left out because the sampling became sparser; its window counts it no longer.
    Evicted,
}

impl PredictionOutcome {
    pub const ALL: [PredictionOutcome; 5] =
        [Self::Kept, Self::Duplicate, Self::TooLate, Self::Unsampled, Self::Evicted];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Duplicate => "duplicate",
            Self::TooLate => "too_late",
            Self::Unsampled => "unsampled",
            Self::Evicted => "evicted",
        }
    }
}

/// What became of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LabelOutcome {
    /// The first one of a prediction.
    Matched,
    /// It differs from the one before, which it replaces.
    Corrected,
    /// Equal to the one before.
    Duplicate,
    /// Given before the one that is known: nothing changes.
    Outdated,
    /// It came before its prediction, and waits; if that comes it is counted as matched too.
    Early,
    /// Its prediction is past the delay. Dead-lettered.
    TooLate,
    /// It waited as long as the delay, and no prediction came. Dead-lettered.
    Unmatched,
    /// Its prediction is left out by the sampling over budget.
    Unsampled,
}

impl LabelOutcome {
    pub const ALL: [LabelOutcome; 8] = [
        Self::Matched,
        Self::Corrected,
        Self::Duplicate,
        Self::Outdated,
        Self::Early,
        Self::TooLate,
        Self::Unmatched,
        Self::Unsampled,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Matched => "matched",
            Self::Corrected => "corrected",
            Self::Duplicate => "duplicate",
            Self::Outdated => "outdated",
            Self::Early => "early",
            Self::TooLate => "too_late",
            Self::Unmatched => "unmatched",
            Self::Unsampled => "unsampled",
        }
    }
}

/// A label that met no prediction.
#[derive(Debug, Clone, PartialEq)]
pub struct LostLabel {
    pub label: JoinLabel,
    pub reason: Reason,
}

impl LostLabel {
    /// For a person. Ids may be of any length, details not.
    pub fn detail(&self) -> String {
        let id: String = self.label.prediction_id.chars().take(80).collect();
        match self.reason {
            Reason::LabelTooLate => format!(
                "the label of prediction {id:?} came when that was past the label delay (performance.labels.delay)"
            ),
            _ => format!(
                "no prediction with id {id:?} came within the label delay (performance.labels.delay) of this label: the \
                 id is unknown, or its prediction is older than the delay"
            ),
        }
    }
}

/// Of one model, beside its profiles.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    pub predictions: BTreeMap<PredictionOutcome, u64>,
    pub labels: BTreeMap<LabelOutcome, u64>,
    pub lost: Vec<LostLabel>,
    /// By version: the errors of matched predictions, by ascending offset.
    pub errors: BTreeMap<String, Vec<SignalValue>>,
}
