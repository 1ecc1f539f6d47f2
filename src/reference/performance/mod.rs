//! How well the model did on the reference's rows, where these hold the labels, and what that tells of rows without.
//!
//! `build` reads labels and outputs from the reference's columns, `signals` the values that the expected loss is learned
//! from; [`PerformanceReference`] is what is kept of it, `stored` its form in the reference's file. It is made ready for
//! one model by [`PerformanceBaseline`] (`baseline`), which is what the other stages ask: metrics to compare with,
//! estimates without labels, the shift of what scores mean, and what a prediction carries for all of these (`complete`).

mod baseline;
pub(super) mod build;
mod complete;
mod signals;
pub(super) mod stored;

use std::collections::BTreeMap;

pub use baseline::PerformanceBaseline;
pub use complete::Completion;

use super::segments::SegmentKey;
use crate::config::model::Model;
use crate::config::performance::{Performance, Task};
use crate::stats::performance::direct_loss::DirectLoss;
use crate::stats::performance::isotonic::Isotonic;
use crate::stats::performance::profile::PerformanceProfile;

/// Performance on the reference's labelled rows.
#[derive(Debug, Clone, PartialEq)]
pub struct PerformanceReference {
    /// By what rows were judged when it was built.
    pub judged_by: JudgedBy,
    /// The different labels as text, sorted; empty for numbers and ranked lists.
    pub classes: Vec<String>,
    /// Rows with a label.
    pub labelled: u64,
    /// Of all rows, and of those of each segment.
    pub profile: PerformanceProfile,
    pub segments: BTreeMap<SegmentKey, PerformanceProfile>,
    pub expectation: Expectation,
}

/// What the reference teaches about rows without labels.
#[derive(Debug, Clone, PartialEq)]
pub enum Expectation {
    /// Too few rows, one class only, no score, or a task for which nothing is known.
    None,
    /// The chance of a positive by score.
    Binary(Isotonic),
    /// The chance of each class by its own score, in the order of the layout's classes.
    Multiclass(Vec<Isotonic>),
    Regression(Box<DirectLoss>),
}

/// The part of a model file that decides what a row counts as.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgedBy {
    pub performance: Performance,
    /// Whether the event gives a prediction of its own, and a score.
    pub prediction: bool,
    pub score: bool,
}

impl JudgedBy {
    /// `None` where the model file has no `performance`. Where labels come from, and when, does not matter.
    pub fn of(model: &Model) -> Option<Self> {
        let performance = model.performance.as_ref()?;
        let judged = Performance { label: None, labels: None, label_column: None, ..performance.clone() };
        Some(Self { performance: judged, prediction: model.prediction.is_some(), score: model.score.is_some() })
    }

    pub fn task(&self) -> Task {
        self.performance.task
    }
}
