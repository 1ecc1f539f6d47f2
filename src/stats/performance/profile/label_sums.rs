//! Sums over labels that are numbers: what their variance, and how much of it predictions explain, is computed from.

use super::moments::Moments;
use crate::stats::exact_sum::ExactSum;
use crate::stats::metric::MetricValue;
use crate::stats::performance::intervals::{normal, within};
use crate::stats::varint::Reader;

/// A fourth central moment below this part of the fourth power of the mean is rounding.
const LEAST_FOURTH: f64 = 1e-11;
/// A spread below this part of the mean is rounding: labels that are all equal.
const LEAST_SPREAD: f64 = 1e-15;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct LabelSums {
    first: ExactSum,
    /// With what each square loses by rounding: exact.
    second: ExactSum,
    third: ExactSum,
    fourth: ExactSum,
    /// Of squared error times label, and times squared label.
    with_error: [ExactSum; 2],
}

/// The product and what it loses by rounding.
fn product(a: f64, b: f64) -> [f64; 2] {
    let rounded = a * b;
    [rounded, a.mul_add(b, -rounded)]
}

impl LabelSums {
    /// `sign` is 1, or -1 to take back.
    pub fn add(&mut self, label: f64, squared_error: f64, sign: f64) {
        let [square, rest] = product(label, label);
        let square_and_rest = [sign * square, sign * rest];
        self.first.add(sign * label);
        square_and_rest.into_iter().for_each(|part| self.second.add(part));
        self.third.add(sign * (square * label));
        self.fourth.add(sign * (square * square));
        self.with_error[0].add(sign * (squared_error * label));
        self.with_error[1].add(sign * (squared_error * square));
    }

    fn all(&self) -> [&ExactSum; 6] {
        let [once, twice] = &self.with_error;
        [&self.first, &self.second, &self.third, &self.fourth, once, twice]
    }

    fn all_mut(&mut self) -> [&mut ExactSum; 6] {
        let [once, twice] = &mut self.with_error;
        [&mut self.first, &mut self.second, &mut self.third, &mut self.fourth, once, twice]
    }

    pub fn merge(&mut self, other: &Self) {
        self.all_mut().into_iter().zip(other.all()).for_each(|(mine, theirs)| mine.merge(theirs));
    }

    pub fn allocated_bytes(&self) -> usize {
        self.all().iter().map(|sum| sum.allocated_bytes()).sum()
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        self.all().iter().for_each(|sum| sum.encode(out));
    }

    pub fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let mut read = Self::default();
        for sum in read.all_mut() {
            *sum = ExactSum::decode(reader)?;
        }
        Some(read)
    }

    /// Sum of squared deviations from the mean of `n` labels, and the mean. Squares minus a square of the sum would
    /// lose what labels far from 0 differ by: the terms are added without rounding.
    fn squared_deviations(&self, n: f64) -> (f64, f64) {
        let sum = self.first.value();
        let mean = sum / n;
        let mut rest = self.first.clone();
        rest.add(-sum);
        let mut around = self.second.clone();
        let mut add = |a: f64, b: f64| product(a, b).into_iter().for_each(|part| around.add(part));
        add(-2.0 * mean, sum);
        add(-2.0 * mean, rest.value());
        for part in product(mean, mean) {
            add(n, part);
        }
        // The mean is rounded too.
        let mut off = self.first.clone();
        product(-n, mean).into_iter().for_each(|part| off.add(part));
        let deviations = around.value() - off.value() * off.value() / n;
        let is_rounding = deviations <= n * (LEAST_SPREAD * mean).powi(2);
        (if is_rounding { 0.0 } else { deviations }, mean)
    }

    /// Share of the labels' variance that the predictions explain, at most 1, from the squared errors. Labels that are
    /// all equal have none: 1 where every prediction is right, else 0. Undefined for a single row.
    pub fn determination(&self, squared_errors: &Moments) -> MetricValue {
        let n = squared_errors.n() as f64;
        if n < 2.0 {
            return MetricValue::undefined();
        }
        let (total, mean) = self.squared_deviations(n);
        let unexplained = squared_errors.sum();
        if total == 0.0 {
            return MetricValue::exact(f64::from(u8::from(unexplained == 0.0)));
        }
        let ratio = unexplained / total;
        let variance = self.ratio_variance(squared_errors, ratio, mean, n).map(|sum| sum / (total * total));
        let interval = variance.and_then(|variance| normal(1.0 - ratio, variance));
        MetricValue::exact(1.0 - ratio).with_interval(within(interval, f64::NEG_INFINITY, 1.0))
    }

    /// Sum over rows of (squared error - ratio * squared deviation)²; `None` where rounding hides it.
    fn ratio_variance(&self, squared_errors: &Moments, ratio: f64, mean: f64, n: f64) -> Option<f64> {
        let [_, second, third, fourth, once, twice] = self.all().map(ExactSum::value);
        let crossed = twice - 2.0 * mean * once + mean * mean * squared_errors.sum();
        let central = fourth - 4.0 * mean * third + 6.0 * mean * mean * second - 3.0 * n * mean.powi(4);
        if central <= LEAST_FOURTH * n * mean.powi(4) {
            return None;
        }
        let sum = squared_errors.squares() - 2.0 * ratio * crossed + ratio * ratio * central;
        (sum >= 0.0).then_some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::performance::regression::regression_performance;

    fn determination(labels: &[f64], predictions: &[f64]) -> MetricValue {
        let (mut sums, mut squared) = (LabelSums::default(), Moments::default());
        for (label, prediction) in labels.iter().zip(predictions) {
            let error = prediction - label;
            sums.add(*label, error * error, 1.0);
            squared.add(error * error, 1);
        }
        sums.determination(&squared)
    }

    #[test]
    fn labels_far_from_zero_lose_nothing() {
        let labels: Vec<f64> = (0..500).map(|row| 1e8 + f64::from((row * 37) % 101) / 50.0).collect();
        let predictions: Vec<f64> = labels.iter().enumerate().map(|(row, y)| y + (row as f64).sin() / 4.0).collect();
        let ours = determination(&labels, &predictions).value.unwrap();
        // around 1e8, where the labels are whole numbers of 2^-26
        let moved: Vec<f64> = labels.iter().map(|label| label - 1e8).collect();
        let moved_predictions: Vec<f64> = predictions.iter().map(|prediction| prediction - 1e8).collect();
        let rows = regression_performance(&moved, &moved_predictions);
        let expected = rows.iter().find(|(name, _)| *name == "r2").unwrap().1.unwrap();
        assert!((ours - expected).abs() < 1e-12, "{ours} instead of {expected}");
    }

    #[test]
    fn equal_labels_are_explained_wholly_or_not_at_all() {
        assert_eq!(determination(&[0.1; 3], &[0.1; 3]).value, Some(1.0));
        assert_eq!(determination(&[0.1; 3], &[0.1, 0.2, 0.1]).value, Some(0.0));
        assert_eq!(determination(&[0.1], &[0.1]).value, None);
    }
}
