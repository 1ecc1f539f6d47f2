//! What is kept of a model that predicts a number, and its metrics.

use super::layout::PerformanceLayout;
use super::moments::{Moments, read_signed, write_signed};
use super::prediction::Prediction;
use super::value_counts::{Group, ValueCounts};
use crate::stats::exact_sum::ExactSum;
use crate::stats::metric::MetricValue;
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

/// Sums of powers of labels, alone and with squared errors.
#[derive(Debug, Clone, Default, PartialEq)]
struct LabelSums {
    first: ExactSum,
    /// Without rounding: with what each square loses.
    second: ExactSum,
    third: ExactSum,
    fourth: ExactSum,
    /// Of squared error times label, and times squared label.
    with_error: [ExactSum; 2],
}

impl LabelSums {
    fn add(&mut self, label: f64, squared_error: f64, sign: f64) {
        let square = label * label;
        self.first.add(sign * label);
        self.second.add(sign * square);
        self.second.add(sign * label.mul_add(label, -square));
        self.third.add(sign * square * label);
        self.fourth.add(sign * square * square);
        self.with_error[0].add(sign * squared_error * label);
        self.with_error[1].add(sign * squared_error * square);
    }

    fn all(&self) -> [&ExactSum; 6] {
        let [once, twice] = &self.with_error;
        [&self.first, &self.second, &self.third, &self.fourth, once, twice]
    }

    fn all_mut(&mut self) -> [&mut ExactSum; 6] {
        let [once, twice] = &mut self.with_error;
        [&mut self.first, &mut self.second, &mut self.third, &mut self.fourth, once, twice]
    }
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
        self.label.all_mut().into_iter().zip(other.label.all()).for_each(|(mine, theirs)| mine.merge(theirs));
        self.without_logarithm += other.without_logarithm;
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        let counts = self.added.allocated_bytes() + self.retracted.allocated_bytes();
        let moments: usize = self.moments().iter().map(|moments| moments.allocated_bytes()).sum();
        let sums: usize = self.label.all().iter().map(|sum| sum.allocated_bytes()).sum();
        counts + moments + sums
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.added.encode(out);
        self.retracted.encode(out);
        self.moments().iter().for_each(|moments| moments.encode(out));
        self.label.all().iter().for_each(|sum| sum.encode(out));
        write_signed(self.without_logarithm, out);
    }

    pub(super) fn decode(reader: &mut Reader<'_>, layout: &PerformanceLayout) -> Option<Self> {
        let mut read = Self::new(layout);
        read.added = ValueCounts::decode(reader, layout.exact_values())?;
        read.retracted = ValueCounts::decode(reader, layout.exact_values())?;
        for moments in read.moments_mut() {
            *moments = Moments::decode(reader)?;
        }
        for sum in read.label.all_mut() {
            *sum = ExactSum::decode(reader)?;
        }
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

    /// Labelled predictions, ascending by error.
    pub fn errors(&self) -> Vec<Group<1>> {
        self.added.groups_without(&self.retracted)
    }

    pub(super) fn metrics(&self) -> Vec<(String, MetricValue)> {
        let value = |value: Option<f64>| value.map_or(MetricValue::undefined(), MetricValue::exact);
        let squared = self.squared.mean();
        [
            ("mae", self.absolute.mean()),
            ("mse", squared),
            ("rmse", squared.map(f64::sqrt)),
            ("mape", self.share.mean()),
            ("bias", self.error.mean()),
        ]
        .map(|(name, mean)| (name.to_string(), value(mean)))
        .into()
    }
}
