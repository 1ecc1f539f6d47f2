//! What is kept of a model that predicts a number, and its metrics.

use super::binary_metrics::Named;
use super::label_sums::LabelSums;
use super::layout::PerformanceLayout;
use super::moments::{Moments, read_signed, write_signed};
use super::prediction::Prediction;
use super::regression_metrics::{of_errors, root};
use super::value_counts::{Group, ValueCounts};
use crate::stats::varint::Reader;

/// Labels smaller than this are taken for it when errors are divided by them (scikit-learn's bound).
const LEAST_LABEL: f64 = f64::EPSILON;

/// Errors are prediction - label.
#[derive(Debug, Clone, PartialEq)]
pub struct RegressionOutcomes {
    /// Absolute and squared error that the reference leads to expect, of every prediction that has it.
    expected: [Moments; 2],
    added: ValueCounts<1>,
    retracted: ValueCounts<1>,
    error: Moments,
    absolute: Moments,
    squared: Moments,
    /// Absolute error over the absolute label.
    share: Moments,
    /// Squared difference of ln(1 + value), of rows where both are above -1, and the number of the others.
    logarithmic: Moments,
    without_logarithm: i64,
    label: LabelSums,
}

impl RegressionOutcomes {
    pub(super) fn new(layout: &PerformanceLayout) -> Self {
        Self {
            expected: Default::default(),
            added: ValueCounts::new(layout.exact_values()),
            retracted: ValueCounts::new(layout.exact_values()),
            error: Moments::default(),
            absolute: Moments::default(),
            squared: Moments::default(),
            share: Moments::default(),
            logarithmic: Moments::default(),
            without_logarithm: 0,
            label: LabelSums::default(),
        }
    }

    pub(super) fn add_prediction(&mut self, prediction: &Prediction) {
        if let Some(losses) = prediction.expected_loss {
            self.expected.iter_mut().zip(losses).for_each(|(moments, loss)| moments.add(loss, 1));
        }
    }

    pub(super) fn change(&mut self, prediction: &Prediction, label: f64, times: i64) {
        let error = prediction.value - label;
        let counts = if times > 0 { &mut self.added } else { &mut self.retracted };
        counts.increment(error, 0);
        self.error.add(error, times);
        self.absolute.add(error.abs(), times);
        self.squared.add(error * error, times);
        self.share.add(error.abs() / label.abs().max(LEAST_LABEL), times);
        self.label.add(label, error * error, times as f64);
        if prediction.value > -1.0 && label > -1.0 {
            self.logarithmic.add((prediction.value.ln_1p() - label.ln_1p()).powi(2), times);
        } else {
            self.without_logarithm += times;
        }
    }

    fn moments(&self) -> [&Moments; 7] {
        let [absolute, squared] = &self.expected;
        [absolute, squared, &self.error, &self.absolute, &self.squared, &self.share, &self.logarithmic]
    }

    fn moments_mut(&mut self) -> [&mut Moments; 7] {
        let [absolute, squared] = &mut self.expected;
        [
            absolute,
            squared,
            &mut self.error,
            &mut self.absolute,
            &mut self.squared,
            &mut self.share,
            &mut self.logarithmic,
        ]
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.added.merge(&other.added);
        self.retracted.merge(&other.retracted);
        self.moments_mut().into_iter().zip(other.moments()).for_each(|(mine, theirs)| mine.merge(theirs));
        self.label.merge(&other.label);
        self.without_logarithm += other.without_logarithm;
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        let counts = self.added.allocated_bytes() + self.retracted.allocated_bytes();
        let moments: usize = self.moments().iter().map(|moments| moments.allocated_bytes()).sum();
        counts + moments + self.label.allocated_bytes()
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.added.encode(out);
        self.retracted.encode(out);
        self.moments().iter().for_each(|moments| moments.encode(out));
        self.label.encode(out);
        write_signed(self.without_logarithm, out);
    }

    pub(super) fn decode(reader: &mut Reader<'_>, layout: &PerformanceLayout) -> Option<Self> {
        let mut read = Self::new(layout);
        read.added = ValueCounts::decode(reader, layout.exact_values())?;
        read.retracted = ValueCounts::decode(reader, layout.exact_values())?;
        for moments in read.moments_mut() {
            *moments = Moments::decode(reader)?;
        }
        read.label = LabelSums::decode(reader)?;
        read.without_logarithm = read_signed(reader).filter(|count| count.unsigned_abs() < 1 << 62)?;
        Some(read)
    }

    /// Absolute error that the reference leads to expect, of every prediction that has it.
    pub fn expected_absolute(&self) -> &Moments {
        &self.expected[0]
    }

    /// Squared error that the reference leads to expect.
    pub fn expected_squared(&self) -> &Moments {
        &self.expected[1]
    }

    /// Prediction less label, of the labelled predictions.
    pub fn error(&self) -> &Moments {
        &self.error
    }

    /// Labelled predictions, ascending by error.
    pub fn errors(&self) -> Vec<Group<1>> {
        self.added.groups_without(&self.retracted)
    }

    pub(super) fn metrics(&self) -> Named {
        let mut metrics = vec![
            ("mae", self.absolute.metric(0.0, f64::INFINITY)),
            ("mse", self.squared.metric(0.0, f64::INFINITY)),
            ("rmse", root(self.squared.metric(0.0, f64::INFINITY))),
            ("mape", self.share.metric(0.0, f64::INFINITY)),
            ("bias", self.error.metric(f64::NEG_INFINITY, f64::INFINITY)),
            ("r2", self.label.determination(&self.squared)),
        ];
        metrics.extend(of_errors(&self.errors()));
        if self.without_logarithm == 0 {
            let logarithmic = self.logarithmic.metric(0.0, f64::INFINITY);
            metrics.extend([("msle", logarithmic), ("rmsle", root(logarithmic))]);
        }
        metrics
    }
}
