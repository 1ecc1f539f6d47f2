//! How well the model did on the reference's rows, where these hold the labels, and what that tells of rows without.
//!
//! `build` reads labels and outputs from the reference's columns and `signals` the values that the expected loss is
//! learned from; [`PerformanceReference`] is what is kept of it, `stored` its form in the reference's file. For a model it
//! is opened as a [`PerformanceBaseline`] (`baseline`), which is what the other stages ask: figures to compare with,
//! estimates without labels, the shift of what scores mean. [`Completion`] (`complete`) gives each prediction what the
//! estimates need of it. `diff` compares two references' performance.

mod baseline;
pub(super) mod build;
mod complete;
pub mod diff;
mod signals;
pub(super) mod stored;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use baseline::PerformanceBaseline;
pub use build::{JudgedRows, JudgedSegment, judged_rows, why_not};
pub use complete::Completion;

use super::segments::SegmentKey;
use crate::config::model::{Column, Feature, Model};
use crate::config::performance::Performance;
use crate::stats::performance::direct_loss::DirectLoss;
use crate::stats::performance::isotonic::Isotonic;
use crate::stats::performance::profile::{PerformanceLayout, PerformanceProfile};

/// Performance on the reference's labelled rows.
#[derive(Debug, Clone, PartialEq)]
pub struct PerformanceReference {
    /// By what rows were judged when it was built.
    pub judged_by: JudgedBy,
    /// The different labels as text, sorted; empty for numbers and ranked lists.
    pub classes: Vec<String>,
    /// Of all rows.
    pub profile: PerformanceProfile,
    /// Of the rows of each segment.
    pub segments: BTreeMap<SegmentKey, PerformanceProfile>,
    pub expectation: Expectation,
}

/// What the reference teaches about rows without labels.
#[derive(Debug, Clone, PartialEq)]
pub enum Expectation {
    /// Too few rows, one class only, no score, or a task for which there is no estimate.
    None,
    /// The chance of a positive by score.
    Binary(Isotonic),
    /// The chance of each class by its own score, in the order of the layout's classes.
    Multiclass(Vec<Isotonic>),
    Regression(Box<DirectLoss>),
}

/// The part of a model file that decides what a row counts as.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgedBy {
    performance: Performance,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prediction: Option<Column>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    score: Option<Column>,
    /// Where the business value is an expression over them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    features: BTreeMap<String, Feature>,
}

impl JudgedBy {
    /// `None` where the model file has no `performance`. Where labels come from, and when, does not matter.
    pub fn of(model: &Model) -> Option<Self> {
        let performance = model.performance.as_ref()?;
        let by_expression = performance.value.as_ref().is_some_and(|value| value.sql.is_some());
        Some(Self {
            performance: Performance { label: None, labels: None, label_column: None, ..performance.clone() },
            prediction: model.prediction.clone(),
            score: model.score.clone(),
            features: if by_expression { model.features.clone() } else { BTreeMap::new() },
        })
    }

    /// The layout of profiles of rows that are judged so.
    fn layout(&self, classes: &[String]) -> Option<Arc<PerformanceLayout>> {
        let model = serde_json::json!({
            "version": 1,
            "model": "judged",
            "topics": [],
            "features": self.features,
            "prediction": self.prediction,
            "score": self.score,
            "performance": self.performance,
        });
        PerformanceLayout::of(&serde_json::from_value(model).ok()?, classes)
    }
}

impl PerformanceReference {
    /// The layout of its profiles; equal to that of any model that judges rows alike.
    pub fn layout(&self) -> Option<Arc<PerformanceLayout>> {
        self.judged_by.layout(&self.classes)
    }
}
