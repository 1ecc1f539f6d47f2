//! Count, sum and sum of squares of numbers, each of which may be taken back.

use crate::stats::exact_sum::ExactSum;
use crate::stats::metric::MetricValue;
use crate::stats::performance::intervals::{of_mean, within};
use crate::stats::varint::{self, Reader};

/// Adds up in any order to the bit, also where numbers are taken back before they were added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moments {
    n: i64,
    sum: ExactSum,
    squares: ExactSum,
}

impl Moments {
    /// Adds a finite number `times` times, 1, or -1 to take it back; others change nothing.
    pub fn add(&mut self, value: f64, times: i64) {
        if !value.is_finite() || !(value * value).is_finite() {
            return;
        }
        self.n = self.n.wrapping_add(times);
        let sign = times as f64;
        self.sum.add(sign * value);
        self.squares.add(sign * (value * value));
    }

    pub fn merge(&mut self, other: &Self) {
        self.n = self.n.wrapping_add(other.n);
        self.sum.merge(&other.sum);
        self.squares.merge(&other.squares);
    }

    /// How many are left.
    pub fn n(&self) -> u64 {
        u64::try_from(self.n).unwrap_or(0)
    }

    pub fn sum(&self) -> f64 {
        self.sum.value()
    }

    pub fn squares(&self) -> f64 {
        self.squares.value()
    }

    /// `None` without numbers.
    pub fn mean(&self) -> Option<f64> {
        (self.n > 0).then(|| self.sum() / self.n as f64)
    }

    /// With ddof 1; `None` for fewer than two numbers.
    pub fn variance(&self) -> Option<f64> {
        let (n, mean) = (self.n as f64, self.mean()?);
        (self.n > 1).then(|| ((self.squares() - n * mean * mean) / (n - 1.0)).max(0.0))
    }

    /// The mean, with the interval of a mean within what the numbers can be.
    pub fn metric(&self, least: f64, most: f64) -> MetricValue {
        let Some(mean) = self.mean() else { return MetricValue::undefined() };
        let interval = self.variance().and_then(|variance| of_mean(mean, variance, self.n as f64));
        MetricValue::exact(mean).with_interval(within(interval, least, most))
    }

    pub fn allocated_bytes(&self) -> usize {
        self.sum.allocated_bytes() + self.squares.allocated_bytes()
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        write_signed(self.n, out);
        self.sum.encode(out);
        self.squares.encode(out);
    }

    pub fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self { n: read_signed(reader)?, sum: ExactSum::decode(reader)?, squares: ExactSum::decode(reader)? })
    }
}

/// Small numbers of either sign are short.
pub fn write_signed(value: i64, out: &mut Vec<u8>) {
    varint::write((value << 1 ^ value >> 63) as u64, out);
}

pub fn read_signed(reader: &mut Reader<'_>) -> Option<i64> {
    let bits = reader.varint()?;
    Some((bits >> 1) as i64 ^ -((bits & 1) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_back_leaves_nothing() {
        let mut moments = Moments::default();
        moments.add(0.1, -1);
        moments.add(1e10, 1);
        moments.add(3.0, 1);
        moments.add(0.1, 1);
        moments.add(1e10, -1);
        moments.add(f64::INFINITY, 1);
        assert_eq!((moments.n(), moments.sum(), moments.squares()), (1, 3.0, 9.0));
        let mut bytes = Vec::new();
        moments.encode(&mut bytes);
        assert_eq!(Moments::decode(&mut Reader::new(&bytes)), Some(moments));
    }

    #[test]
    fn signed_numbers_read_back() {
        for value in [0, -1, 1, 63, -64, i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            write_signed(value, &mut bytes);
            assert_eq!(read_signed(&mut Reader::new(&bytes)), Some(value));
        }
    }
}
