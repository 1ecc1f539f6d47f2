//! A sample of one numeric column: its values sorted, its size with the missing ones, its moments.

use crate::stats::quantile::quantile_type7;

/// Finite values of one column in one window or in the reference.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    sorted: Vec<f64>,
    /// Rows with and without a value.
    pub rows: u64,
    pub mean: f64,
    /// Sum of squared distances from the mean.
    squares: f64,
}

impl Sample {
    /// From the values of all rows in any order; NaN is a missing value. Infinite values are the caller's error to
    /// report; they would sort to the ends here.
    pub fn new(values: impl IntoIterator<Item = f64>) -> Self {
        let mut rows = 0;
        let mut keys: Vec<i64> = Vec::new();
        for value in values {
            rows += 1;
            if !value.is_nan() {
                // + 0.0 makes one zero of the two
                keys.push(order_key(value + 0.0));
            }
        }
        keys.sort_unstable();
        let sorted: Vec<f64> = keys.into_iter().map(from_order_key).collect();
        let count = sorted.len() as f64;
        let (mean, squares) = match (sorted.first(), sorted.last()) {
            // exactly, where summing would leave rounding errors to be taken for a spread
            (Some(first), Some(last)) if first == last => (*first, 0.0),
            _ => {
                let mean = blocked_sum(&sorted, |value| value) / count;
                (mean, blocked_sum(&sorted, |value| (value - mean) * (value - mean)))
            }
        };
        Self { sorted, rows, mean, squares }
    }

    pub fn sorted(&self) -> &[f64] {
        &self.sorted
    }

    /// Values that are not missing.
    pub fn n(&self) -> u64 {
        self.sorted.len() as u64
    }

    /// Share of rows without a value; `None` where there are no rows.
    pub fn missing_rate(&self) -> Option<f64> {
        (self.rows > 0).then(|| (self.rows - self.n()) as f64 / self.rows as f64)
    }

    /// Population variance (divided by n); NaN for an empty sample.
    pub fn variance(&self) -> f64 {
        self.squares / self.n() as f64
    }

    /// Sample variance (divided by n - 1); NaN below two values.
    pub fn sample_variance(&self) -> f64 {
        if self.n() < 2 { f64::NAN } else { self.squares / (self.n() - 1) as f64 }
    }

    /// Population standard deviation.
    pub fn std(&self) -> f64 {
        self.variance().sqrt()
    }

    /// Smallest value; NaN for an empty sample.
    pub fn min(&self) -> f64 {
        self.sorted.first().copied().unwrap_or(f64::NAN)
    }

    /// Largest value; NaN for an empty sample.
    pub fn max(&self) -> f64 {
        self.sorted.last().copied().unwrap_or(f64::NAN)
    }

    pub fn quantile(&self, numerator: u64, denominator: u64) -> f64 {
        quantile_type7(&self.sorted, numerator, denominator)
    }

    /// Values below `edge`.
    pub fn count_below(&self, edge: f64) -> usize {
        self.sorted.partition_point(|&value| value < edge)
    }

    /// Number of different values.
    pub fn distinct(&self) -> u64 {
        let changes = self.sorted.windows(2).filter(|pair| pair[0] != pair[1]).count() as u64;
        if self.sorted.is_empty() { 0 } else { changes + 1 }
    }
}

/// Integers sort faster than floats; this map keeps the order of all values that are not NaN.
fn order_key(value: f64) -> i64 {
    let bits = value.to_bits() as i64;
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

fn from_order_key(key: i64) -> f64 {
    f64::from_bits((key ^ (((key >> 63) as u64) >> 1) as i64) as u64)
}

/// Sum in blocks, then of the blocks: the rounding error stays far below that of a running sum.
pub(super) fn blocked_sum(values: &[f64], term: impl Fn(f64) -> f64) -> f64 {
    values.chunks(256).map(|block| block.iter().map(|&value| term(value)).sum::<f64>()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_any_values_and_drops_missing_ones() {
        let sample = Sample::new([3.5, f64::NAN, -0.0, -7.0, 0.0, 1e300, -1e-300]);
        assert_eq!(sample.sorted(), [-7.0, -1e-300, 0.0, 0.0, 3.5, 1e300]);
        assert!(sample.sorted().iter().all(|value| value.to_bits() != (-0.0_f64).to_bits()));
        assert_eq!((sample.rows, sample.n(), sample.distinct()), (7, 6, 5));
        assert_eq!(sample.missing_rate(), Some(1.0 / 7.0));
    }

    #[test]
    fn moments_of_one_to_twelve() {
        let sample = Sample::new((1..=12).map(f64::from));
        assert_eq!(sample.mean, 6.5);
        assert!((sample.std() - 3.452052529534663).abs() < 1e-15, "{}", sample.std());
        assert!((sample.sample_variance().sqrt() - 3.605551275463989).abs() < 1e-15);
    }

    #[test]
    fn a_constant_has_no_spread_at_all() {
        let sample = Sample::new(vec![0.414912; 11_328]);
        assert_eq!((sample.mean, sample.std()), (0.414912, 0.0));
    }

    #[test]
    fn an_empty_sample_has_no_moments() {
        let sample = Sample::new([f64::NAN]);
        assert!(sample.mean.is_nan() && sample.std().is_nan() && sample.min().is_nan());
        assert_eq!((sample.missing_rate(), sample.distinct()), (Some(1.0), 0));
        assert_eq!(Sample::new([]).missing_rate(), None);
    }
}
