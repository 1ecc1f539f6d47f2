//! What a pane keeps of a model's performance: every prediction, and those whose label is known, as counts and sums that
//! add up in any order to the bit and can be taken back.
//!
//! `layout` says what the rows of a model are, `prediction` is one row, and `binary`, `multiclass`, `regression` and
//! `ranking` hold what is kept of each task and its metrics, under the names of docs/statistics.md. They are made of
//! `value_counts` (scores and errors, exact up to a number of different ones) and `moments`; `value` is what an outcome
//! is worth. To add a metric: a line in
//! the `metrics` of its task, what it needs in that task's state, encoded, a row in docs/statistics.md. To add a task: a
//! file with its outcomes, a line in each match of [`PerformanceProfile`].

mod binary;
mod binary_metrics;
mod label_sums;
mod layout;
mod moments;
mod multiclass;
mod multiclass_metrics;
mod prediction;
mod ranking;
mod regression;
mod regression_metrics;
mod value;
mod value_counts;
mod value_sql;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use binary::BinaryOutcomes;
pub use layout::{MOST_CLASSES, MOST_VALUES, PerformanceLayout};
pub use moments::Moments;
pub use multiclass::{ClassGroup, MulticlassOutcomes};
pub use prediction::{Label, Prediction};
pub use ranking::RankingOutcomes;
pub use regression::RegressionOutcomes;
pub use value_counts::{Group, ValueCounts};
pub use value_sql::{ValueExpression, functions_of_one_number};

use crate::config::performance::Task;
use crate::stats::metric::MetricValue;
use crate::stats::varint::Reader;
use binary_metrics::Named;
use moments::{read_signed, write_signed};

/// Most cells of a table of counts that is told: one of 50 classes.
pub const MOST_CELLS: usize = 2_500;
/// Of the encoded form.
const FORMAT: u8 = 1;

/// One segment of one model version in one pane, or any sum of those.
#[derive(Debug, Clone, PartialEq)]
pub struct PerformanceProfile {
    /// Every prediction, and those of them that lack something their task needs.
    predictions: i64,
    incomplete_predictions: i64,
    /// Predictions that can be met by a label.
    sampled: i64,
    /// Labels met, and those of them that are in no metric because prediction or label lack something.
    labelled: i64,
    incomplete_labelled: i64,
    /// Of labelled predictions that have one.
    value: Moments,
    /// Of the layout.
    fingerprint: u32,
    outcomes: Outcomes,
}

#[derive(Debug, Clone, PartialEq)]
enum Outcomes {
    Binary(BinaryOutcomes),
    Multiclass(MulticlassOutcomes),
    Regression(Box<RegressionOutcomes>),
    Ranking(RankingOutcomes),
}

/// How many rows of one label were predicted as one class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfusionCell {
    pub label: String,
    pub prediction: String,
    pub rows: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    #[error(
        "performance profile of format {0}, this version reads {FORMAT}: build the reference again, or start afresh"
    )]
    Format(u8),
    #[error("performance profile of another task, other classes or other columns than the model file has now")]
    Layout,
    #[error("damaged performance profile")]
    Damaged,
}

impl PerformanceProfile {
    pub fn new(layout: &PerformanceLayout) -> Self {
        Self {
            predictions: 0,
            incomplete_predictions: 0,
            sampled: 0,
            labelled: 0,
            incomplete_labelled: 0,
            value: Moments::default(),
            fingerprint: layout.fingerprint(),
            outcomes: Outcomes::new(layout),
        }
    }

    /// Counts a prediction, whether or not its label will be known: what estimates without labels need.
    pub fn add_prediction(&mut self, layout: &PerformanceLayout, prediction: &Prediction) {
        self.predictions += 1;
        if !layout.is_complete(prediction) {
            self.incomplete_predictions += 1;
            return;
        }
        match &mut self.outcomes {
            Outcomes::Binary(outcomes) => outcomes.add_prediction(layout, prediction),
            Outcomes::Multiclass(outcomes) => outcomes.add_prediction(layout, prediction),
            Outcomes::Regression(outcomes) => outcomes.add_prediction(prediction),
            Outcomes::Ranking(_) => {}
        }
    }

    /// Counts a prediction that can be met by a label: the denominator of label coverage.
    pub fn sample_prediction(&mut self) {
        self.sampled += 1;
    }

    /// Takes back one that no longer can.
    pub fn unsample_prediction(&mut self) {
        self.sampled -= 1;
    }

    /// Counts a prediction with its label.
    pub fn add_labelled(&mut self, layout: &PerformanceLayout, prediction: &Prediction, label: &Label) {
        let value = value_of(layout, prediction, label);
        self.add_valued(layout, prediction, label, value);
    }

    /// Takes back what [`add_labelled`](Self::add_labelled) counted of the same prediction and label, in this profile or
    /// in one that it is merged with.
    pub fn retract_labelled(&mut self, layout: &PerformanceLayout, prediction: &Prediction, label: &Label) {
        let value = value_of(layout, prediction, label);
        self.retract_valued(layout, prediction, label, value);
    }

    /// [`add_labelled`](Self::add_labelled) with the row's worth, computed for many rows together by
    /// [`PerformanceLayout::values`].
    pub fn add_valued(&mut self, layout: &PerformanceLayout, prediction: &Prediction, label: &Label, value: f64) {
        self.change(layout, prediction, label, value, 1);
    }

    /// [`retract_labelled`](Self::retract_labelled) with the row's worth.
    pub fn retract_valued(&mut self, layout: &PerformanceLayout, prediction: &Prediction, label: &Label, value: f64) {
        self.change(layout, prediction, label, value, -1);
    }

    fn change(&mut self, layout: &PerformanceLayout, prediction: &Prediction, label: &Label, value: f64, times: i64) {
        self.labelled += times;
        if !layout.counts(prediction, label) {
            self.incomplete_labelled += times;
            return;
        }
        self.value.add(value, times);
        match (&mut self.outcomes, label) {
            (Outcomes::Binary(outcomes), Label::Class(class)) => outcomes.change(layout, prediction, *class, times),
            (Outcomes::Multiclass(outcomes), Label::Class(class)) => outcomes.change(layout, prediction, *class, times),
            (Outcomes::Regression(outcomes), Label::Number(number)) => outcomes.change(prediction, *number, times),
            (Outcomes::Ranking(outcomes), Label::Relevance(items)) => outcomes.change(layout, items, times),
            _ => {}
        }
    }

    /// Adds another profile of the same layout.
    pub fn merge(&mut self, other: &Self) {
        self.predictions += other.predictions;
        self.incomplete_predictions += other.incomplete_predictions;
        self.sampled += other.sampled;
        self.labelled += other.labelled;
        self.incomplete_labelled += other.incomplete_labelled;
        self.value.merge(&other.value);
        match (&mut self.outcomes, &other.outcomes) {
            (Outcomes::Binary(mine), Outcomes::Binary(theirs)) => mine.merge(theirs),
            (Outcomes::Multiclass(mine), Outcomes::Multiclass(theirs)) => mine.merge(theirs),
            (Outcomes::Regression(mine), Outcomes::Regression(theirs)) => mine.merge(theirs),
            (Outcomes::Ranking(mine), Outcomes::Ranking(theirs)) => mine.merge(theirs),
            _ => debug_assert!(false, "profiles of different tasks are merged"),
        }
    }

    pub fn is_empty(&self) -> bool {
        [self.predictions, self.sampled, self.labelled] == [0; 3]
    }

    /// Every prediction, those that lack something among them.
    pub fn predictions(&self) -> u64 {
        u64::try_from(self.predictions).unwrap_or(0)
    }

    /// Predictions that lack something that the task needs.
    pub fn incomplete_predictions(&self) -> u64 {
        u64::try_from(self.incomplete_predictions).unwrap_or(0)
    }

    /// Predictions that can be met by a label.
    pub fn sampled(&self) -> u64 {
        u64::try_from(self.sampled).unwrap_or(0)
    }

    /// Predictions whose label is known; of those, [`incomplete`](Self::incomplete) are in no metric.
    pub fn labelled(&self) -> u64 {
        u64::try_from(self.labelled).unwrap_or(0)
    }

    /// Labelled predictions in no metric: the score or the class is missing, or the label is not of the task's kind.
    pub fn incomplete(&self) -> u64 {
        u64::try_from(self.incomplete_labelled).unwrap_or(0)
    }

    /// Memory held, in bytes.
    pub fn allocated_bytes(&self) -> usize {
        let outcomes = match &self.outcomes {
            Outcomes::Binary(outcomes) => outcomes.allocated_bytes(),
            Outcomes::Multiclass(outcomes) => outcomes.allocated_bytes(),
            Outcomes::Regression(outcomes) => outcomes.allocated_bytes(),
            Outcomes::Ranking(outcomes) => outcomes.allocated_bytes(),
        };
        size_of::<Self>() + self.value.allocated_bytes() + outcomes
    }

    /// What is kept of a binary model.
    pub fn binary(&self) -> Option<&BinaryOutcomes> {
        match &self.outcomes {
            Outcomes::Binary(outcomes) => Some(outcomes),
            _ => None,
        }
    }

    /// What is kept of a model with several classes.
    pub fn multiclass(&self) -> Option<&MulticlassOutcomes> {
        match &self.outcomes {
            Outcomes::Multiclass(outcomes) => Some(outcomes),
            _ => None,
        }
    }

    /// What is kept of a model that predicts a number.
    pub fn regression(&self) -> Option<&RegressionOutcomes> {
        match &self.outcomes {
            Outcomes::Regression(outcomes) => Some(outcomes),
            _ => None,
        }
    }

    /// The realised metrics of the task, of the rows whose label is known; empty without any.
    pub fn metrics(&self, layout: &PerformanceLayout) -> BTreeMap<String, MetricValue> {
        if self.labelled - self.incomplete_labelled <= 0 {
            return BTreeMap::new();
        }
        let named = |metrics: Named| metrics.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
        let mut metrics: Vec<(String, MetricValue)> = match &self.outcomes {
            Outcomes::Binary(outcomes) => named(outcomes.metrics(layout)),
            Outcomes::Multiclass(outcomes) => named(outcomes.metrics()),
            Outcomes::Regression(outcomes) => named(outcomes.metrics()),
            Outcomes::Ranking(outcomes) => outcomes.metrics(layout),
        };
        if layout.worth().is_some() {
            let each = self.value.metric(f64::NEG_INFINITY, f64::INFINITY);
            let n = self.value.n() as f64;
            let all = MetricValue { interval: each.interval.map(|ends| ends.map(|end| n * end)), ..each };
            metrics.push(("value_per_prediction".into(), each));
            metrics.push(("value".into(), MetricValue { value: Some(self.value.sum()), ..all }));
        }
        metrics.into_iter().map(|(name, value)| (name, value.tidy())).collect()
    }

    /// The metrics of a binary model's table of counts, were its scores positive from `threshold` up; empty for other
    /// tasks, and without scores or labels.
    pub fn metrics_at(&self, layout: &PerformanceLayout, threshold: f64) -> BTreeMap<String, MetricValue> {
        match &self.outcomes {
            Outcomes::Binary(outcomes) if layout.has_score() => outcomes
                .metrics_at(threshold)
                .into_iter()
                .map(|(name, value)| (name.to_string(), value.tidy()))
                .collect(),
            _ => BTreeMap::new(),
        }
    }

    /// Labelled rows by label and predicted class, both by name, in the order of the layout; cells without rows are left
    /// out. Empty for tasks without classes, and where more than [`MOST_CELLS`] cells have rows.
    pub fn confusion(&self, layout: &PerformanceLayout) -> Vec<ConfusionCell> {
        let cells: Vec<((u32, u32), u64)> = match &self.outcomes {
            Outcomes::Binary(outcomes) => outcomes.confusion().into_iter().collect(),
            Outcomes::Multiclass(outcomes) => outcomes.confusion().into_iter().collect(),
            Outcomes::Regression(_) | Outcomes::Ranking(_) => Vec::new(),
        };
        let name = |class| layout.class_name(class).to_string();
        let mut filled: Vec<_> = cells.into_iter().filter(|(_, rows)| *rows > 0).collect();
        if filled.len() > MOST_CELLS {
            filled.clear();
        }
        filled
            .into_iter()
            .map(|((label, predicted), rows)| ConfusionCell { label: name(label), prediction: name(predicted), rows })
            .collect()
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        out.extend(self.fingerprint.to_le_bytes());
        for count in
            [self.predictions, self.incomplete_predictions, self.sampled, self.labelled, self.incomplete_labelled]
        {
            write_signed(count, &mut out);
        }
        self.value.encode(&mut out);
        match &self.outcomes {
            Outcomes::Binary(outcomes) => outcomes.encode(&mut out),
            Outcomes::Multiclass(outcomes) => outcomes.encode(&mut out),
            Outcomes::Regression(outcomes) => outcomes.encode(&mut out),
            Outcomes::Ranking(outcomes) => outcomes.encode(&mut out),
        }
        out
    }

    /// Reads what [`encode`](Self::encode) wrote under an equal layout.
    pub fn decode(bytes: &[u8], layout: &PerformanceLayout) -> Result<Self, ProfileError> {
        let mut reader = Reader::new(bytes);
        let format = reader.byte().ok_or(ProfileError::Damaged)?;
        if format != FORMAT {
            return Err(ProfileError::Format(format));
        }
        let fingerprint = reader.bytes(4).ok_or(ProfileError::Damaged)?;
        if fingerprint != layout.fingerprint().to_le_bytes() {
            return Err(ProfileError::Layout);
        }
        let profile = Self::decode_counts(&mut reader, layout).ok_or(ProfileError::Damaged)?;
        if reader.remaining() > 0 { Err(ProfileError::Damaged) } else { Ok(profile) }
    }

    fn decode_counts(reader: &mut Reader<'_>, layout: &PerformanceLayout) -> Option<Self> {
        let mut count = || read_signed(reader).filter(|count| count.unsigned_abs() < 1 << 62);
        Some(Self {
            predictions: count()?,
            incomplete_predictions: count()?,
            sampled: count()?,
            labelled: count()?,
            incomplete_labelled: count()?,
            value: Moments::decode(reader)?,
            fingerprint: layout.fingerprint(),
            outcomes: Outcomes::decode(reader, layout)?,
        })
    }
}

fn value_of(layout: &PerformanceLayout, prediction: &Prediction, label: &Label) -> f64 {
    let value = layout.worth().map(|_| layout.values(&[(prediction, label)]));
    value.and_then(|values| values.first().copied()).unwrap_or(f64::NAN)
}

impl Outcomes {
    fn new(layout: &PerformanceLayout) -> Self {
        match layout.task() {
            Task::Binary => Self::Binary(BinaryOutcomes::new(layout)),
            Task::Multiclass => Self::Multiclass(MulticlassOutcomes::new(layout)),
            Task::Regression => Self::Regression(Box::new(RegressionOutcomes::new(layout))),
            Task::Ranking => Self::Ranking(RankingOutcomes::new(layout)),
        }
    }

    fn decode(reader: &mut Reader<'_>, layout: &PerformanceLayout) -> Option<Self> {
        Some(match layout.task() {
            Task::Binary => Self::Binary(BinaryOutcomes::decode(reader, layout)?),
            Task::Multiclass => Self::Multiclass(MulticlassOutcomes::decode(reader, layout)?),
            Task::Regression => Self::Regression(Box::new(RegressionOutcomes::decode(reader, layout)?)),
            Task::Ranking => Self::Ranking(RankingOutcomes::decode(reader, layout)?),
        })
    }
}
