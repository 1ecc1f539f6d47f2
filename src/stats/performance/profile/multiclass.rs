//! What is kept of a model with several classes, and its metrics.

use std::collections::BTreeMap;

use super::binary_metrics::Named;
use super::layout::PerformanceLayout;
use super::moments::{Moments, read_signed, write_signed};
use super::multiclass_metrics::{mean_area, of_table};
use super::prediction::Prediction;
use super::value_counts::{Group, ValueCounts};
use crate::stats::performance::probability::log_probability;
use crate::stats::varint::{self, Reader};

/// Chances are counted in units of this, so that sums of them are whole numbers: 2^-32.
const CHANCE_UNIT: f64 = 1.0 / 4_294_967_296.0;

/// Classes are positions in the layout; all unknown ones share the position beyond the last.
#[derive(Debug, Clone, PartialEq)]
pub struct MulticlassOutcomes {
    classes: u32,
    /// Every prediction by predicted class, and the chances of each class by the reference's calibration, in
    /// [`CHANCE_UNIT`], by predicted class and class.
    predicted: BTreeMap<u32, u64>,
    chances: BTreeMap<(u32, u32), u64>,
    /// Labelled, by label and predicted class.
    confusion: BTreeMap<(u32, u32), i64>,
    /// -ln of the score of the label, where it has one.
    loss: Moments,
    /// One for each class; empty where the model has no scores.
    scores: Vec<ClassScores>,
}

/// Rows by the score of one class.
#[derive(Debug, Clone, PartialEq)]
struct ClassScores {
    /// Every prediction: rows, and chances of the class.
    all: ValueCounts<2>,
    /// Labelled: other classes, this class.
    added: ValueCounts<2>,
    retracted: ValueCounts<2>,
}

impl ClassScores {
    fn new(cap: usize) -> Self {
        Self { all: ValueCounts::new(cap), added: ValueCounts::new(cap), retracted: ValueCounts::new(cap) }
    }
}

impl MulticlassOutcomes {
    pub(super) fn new(layout: &PerformanceLayout) -> Self {
        let classes = layout.classes().len();
        let scored = if layout.has_class_scores() { classes } else { 0 };
        Self {
            classes: classes as u32,
            predicted: BTreeMap::new(),
            chances: BTreeMap::new(),
            confusion: BTreeMap::new(),
            loss: Moments::default(),
            scores: vec![ClassScores::new(layout.exact_values()); scored],
        }
    }

    pub(super) fn add_prediction(&mut self, layout: &PerformanceLayout, prediction: &Prediction) {
        let Some(predicted) = layout.predicted_class(prediction).map(|class| class.min(self.classes)) else { return };
        *self.predicted.entry(predicted).or_default() += 1;
        let chances: Vec<u64> = prediction.chances.iter().map(|chance| (chance / CHANCE_UNIT).round() as u64).collect();
        for (class, chance) in chances.iter().enumerate().filter(|(_, chance)| **chance > 0) {
            *self.chances.entry((predicted, class as u32)).or_default() += chance;
        }
        for (class, (scores, score)) in self.scores.iter_mut().zip(&prediction.class_scores).enumerate() {
            scores.all.add(*score, [1, chances.get(class).copied().unwrap_or(0)]);
        }
    }

    pub(super) fn change(&mut self, layout: &PerformanceLayout, prediction: &Prediction, label: u32, times: i64) {
        let Some(predicted) = layout.predicted_class(prediction) else { return };
        let cell = (label.min(self.classes), predicted.min(self.classes));
        change_cell(&mut self.confusion, cell, times);
        if let (Some(score), false) = (prediction.class_scores.get(label as usize), self.scores.is_empty()) {
            self.loss.add(-log_probability(*score), times);
        }
        for (class, (scores, score)) in self.scores.iter_mut().zip(&prediction.class_scores).enumerate() {
            let counts = if times > 0 { &mut scores.added } else { &mut scores.retracted };
            counts.increment(*score, usize::from(label as usize == class));
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (class, rows) in &other.predicted {
            *self.predicted.entry(*class).or_default() += rows;
        }
        for (cell, chance) in &other.chances {
            *self.chances.entry(*cell).or_default() += chance;
        }
        for (cell, rows) in &other.confusion {
            change_cell(&mut self.confusion, *cell, *rows);
        }
        self.loss.merge(&other.loss);
        for (mine, theirs) in self.scores.iter_mut().zip(&other.scores) {
            mine.all.merge(&theirs.all);
            mine.added.merge(&theirs.added);
            mine.retracted.merge(&theirs.retracted);
        }
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        let cells = self.chances.len() + self.confusion.len() + self.predicted.len();
        let scores: usize = (self.scores.iter())
            .map(|scores| {
                let counts = [&scores.all, &scores.added, &scores.retracted];
                size_of::<ClassScores>() + counts.iter().map(|counts| counts.allocated_bytes()).sum::<usize>()
            })
            .sum();
        // A B-tree's nodes are at least half full.
        cells * 2 * size_of::<((u32, u32), u64)>() + scores + self.loss.allocated_bytes()
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        varint::write(u64::from(self.classes), out);
        varint::write(self.predicted.len() as u64, out);
        for (class, rows) in &self.predicted {
            varint::write(u64::from(*class), out);
            varint::write(*rows, out);
        }
        varint::write(self.chances.len() as u64, out);
        for ((predicted, class), chance) in &self.chances {
            varint::write(u64::from(*predicted), out);
            varint::write(u64::from(*class), out);
            varint::write(*chance, out);
        }
        varint::write(self.confusion.len() as u64, out);
        for ((label, predicted), rows) in &self.confusion {
            varint::write(u64::from(*label), out);
            varint::write(u64::from(*predicted), out);
            write_signed(*rows, out);
        }
        self.loss.encode(out);
        for scores in &self.scores {
            [&scores.all, &scores.added, &scores.retracted].iter().for_each(|counts| counts.encode(out));
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>, layout: &PerformanceLayout) -> Option<Self> {
        let mut read = Self::new(layout);
        let classes = u64::from(read.classes);
        if reader.varint()? != classes {
            return None;
        }
        let class = |reader: &mut Reader<'_>| Some(reader.varint_up_to(classes)? as u32);
        for _ in 0..reader.varint_up_to(classes + 1)? {
            let (class, rows) = (class(reader)?, reader.varint_up_to(1 << 62)?);
            read.predicted.insert(class, rows);
        }
        for _ in 0..reader.varint_up_to((classes + 1) * classes)? {
            let cell = (class(reader)?, class(reader)?);
            read.chances.insert(cell, reader.varint()?);
        }
        for _ in 0..reader.varint_up_to((classes + 1) * (classes + 1))? {
            let cell = (class(reader)?, class(reader)?);
            let rows = read_signed(reader).filter(|rows| *rows != 0 && rows.unsigned_abs() < 1 << 62)?;
            read.confusion.insert(cell, rows);
        }
        read.loss = Moments::decode(reader)?;
        let cap = layout.exact_values();
        for scores in &mut read.scores {
            scores.all = ValueCounts::decode(reader, cap)?;
            scores.added = ValueCounts::decode(reader, cap)?;
            scores.retracted = ValueCounts::decode(reader, cap)?;
        }
        Some(read)
    }

    /// Every prediction that is complete, by predicted class.
    pub fn predicted(&self) -> &BTreeMap<u32, u64> {
        &self.predicted
    }

    /// Expected rows of each class by predicted class and class: the sum of [`Prediction::chances`], to 2^-33 a row.
    pub fn expected(&self) -> BTreeMap<(u32, u32), f64> {
        self.chances.iter().map(|(cell, chance)| (*cell, *chance as f64 * CHANCE_UNIT)).collect()
    }

    /// Every prediction by the score of one class, ascending: bounds of the score, rows, expected rows of the class.
    pub fn class_predictions(&self, class: usize) -> Vec<ClassGroup> {
        let groups = self.scores.get(class).map(|scores| scores.all.groups()).unwrap_or_default();
        let group = |group: Group<2>| ClassGroup {
            least: group.least,
            most: group.most,
            rows: group.counts[0],
            expected: group.counts[1] as f64 * CHANCE_UNIT,
        };
        groups.into_iter().map(group).collect()
    }

    /// Labelled predictions by the score of one class, ascending: rows of other classes, rows of this class.
    pub fn class_labelled(&self, class: usize) -> Vec<Group<2>> {
        self.scores.get(class).map(|scores| scores.added.groups_without(&scores.retracted)).unwrap_or_default()
    }

    /// Labelled rows by label and predicted class; the number of classes stands for all unknown ones.
    pub fn confusion(&self) -> BTreeMap<(u32, u32), u64> {
        self.confusion.iter().map(|(cell, rows)| (*cell, u64::try_from(*rows).unwrap_or(0))).collect()
    }

    pub(super) fn metrics(&self) -> Named {
        let mut metrics = of_table(&self.confusion(), self.classes as usize);
        if !self.scores.is_empty() {
            metrics.push(("log_loss", self.loss.metric(0.0, f64::INFINITY)));
            let classes: Vec<Vec<Group<2>>> = (0..self.scores.len()).map(|class| self.class_labelled(class)).collect();
            metrics.extend(mean_area(&classes).map(|area| ("roc_auc_ovr_macro", area)));
        }
        metrics
    }
}

/// Predictions whose score of a class lies in [least, most].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassGroup {
    pub least: f64,
    pub most: f64,
    pub rows: u64,
    /// Expected number of them that are of the class.
    pub expected: f64,
}

/// Cells of 0 are not kept: equal tables have equal bytes.
fn change_cell(table: &mut BTreeMap<(u32, u32), i64>, cell: (u32, u32), rows: i64) {
    let count = table.entry(cell).or_default();
    *count = count.wrapping_add(rows);
    if *count == 0 {
        table.remove(&cell);
    }
}
