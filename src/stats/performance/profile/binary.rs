//! What is kept of a binary model, and its metrics.

use super::binary_metrics::{Named, at_threshold, of_scores, of_table};
use super::layout::PerformanceLayout;
use super::prediction::Prediction;
use super::value_counts::{Group, ValueCounts};
use crate::stats::performance::confusion::Confusion;
use crate::stats::varint::Reader;

/// Rows by score, prediction and label; with a model that has no score all have the score 0.
#[derive(Debug, Clone, PartialEq)]
pub struct BinaryOutcomes {
    /// Every prediction: predicted negative, predicted positive.
    all: ValueCounts<2>,
    /// Labelled: by [`cell`].
    added: ValueCounts<4>,
    retracted: ValueCounts<4>,
}

/// Place of a row's counter: true negative, false positive, false negative, true positive.
pub(super) fn cell(label: u32, predicted: u32) -> usize {
    2 * usize::from(label == 1) + usize::from(predicted == 1)
}

pub(super) fn confusion(cells: [u64; 4]) -> Confusion {
    let [tn, fp, r#fn, tp] = cells.map(|count| count as f64);
    Confusion { true_positives: tp, false_positives: fp, false_negatives: r#fn, true_negatives: tn }
}

impl BinaryOutcomes {
    pub(super) fn new(layout: &PerformanceLayout) -> Self {
        let cap = layout.exact_values();
        Self { all: ValueCounts::new(cap), added: ValueCounts::new(cap), retracted: ValueCounts::new(cap) }
    }

    fn score(layout: &PerformanceLayout, prediction: &Prediction) -> f64 {
        if layout.has_score() { prediction.score } else { 0.0 }
    }

    pub(super) fn add_prediction(&mut self, layout: &PerformanceLayout, prediction: &Prediction) {
        let predicted = layout.predicted_class(prediction) == Some(1);
        self.all.increment(Self::score(layout, prediction), usize::from(predicted));
    }

    pub(super) fn change(&mut self, layout: &PerformanceLayout, prediction: &Prediction, label: u32, times: i64) {
        let Some(predicted) = layout.predicted_class(prediction) else { return };
        let counts = if times > 0 { &mut self.added } else { &mut self.retracted };
        counts.increment(Self::score(layout, prediction), cell(label, predicted));
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.all.merge(&other.all);
        self.added.merge(&other.added);
        self.retracted.merge(&other.retracted);
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        self.all.allocated_bytes() + self.added.allocated_bytes() + self.retracted.allocated_bytes()
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.all.encode(out);
        self.added.encode(out);
        self.retracted.encode(out);
    }

    pub(super) fn decode(reader: &mut Reader<'_>, layout: &PerformanceLayout) -> Option<Self> {
        let cap = layout.exact_values();
        Some(Self {
            all: ValueCounts::decode(reader, cap)?,
            added: ValueCounts::decode(reader, cap)?,
            retracted: ValueCounts::decode(reader, cap)?,
        })
    }

    /// Every prediction, ascending by score: predicted negative, predicted positive.
    pub fn predictions(&self) -> Vec<Group<2>> {
        self.all.groups()
    }

    /// Labelled predictions, ascending by score: true negatives, false positives, false negatives, true positives.
    pub fn labelled(&self) -> Vec<Group<4>> {
        self.added.groups_without(&self.retracted)
    }

    /// Labelled rows by label and predicted class.
    pub fn confusion(&self) -> [((u32, u32), u64); 4] {
        let (added, retracted) = (self.added.totals(), self.retracted.totals());
        [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(label, predicted)| {
            let at = cell(label, predicted);
            ((label, predicted), added[at].saturating_sub(retracted[at]))
        })
    }

    pub(super) fn metrics(&self, layout: &PerformanceLayout) -> Named {
        let groups = self.labelled();
        let mut cells = [0; 4];
        for group in &groups {
            cells.iter_mut().zip(group.counts).for_each(|(sum, count)| *sum += count);
        }
        let mut metrics = of_table(&confusion(cells));
        if layout.has_score() {
            metrics.extend(of_scores(&groups));
        }
        metrics
    }

    pub(super) fn metrics_at(&self, threshold: f64) -> Named {
        let groups = self.labelled();
        if groups.is_empty() { Vec::new() } else { at_threshold(&groups, threshold) }
    }
}
