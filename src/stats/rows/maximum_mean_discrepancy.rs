//! Maximum mean discrepancy of two samples of vectors (Gretton and others, A kernel two-sample test, 2012), with a
//! Gaussian kernel `exp(-d^2 / (2 sigma^2))`. It sees joint drift that no single feature shows.

/// Squared discrepancies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Discrepancy {
    /// Without the rows' kernels with themselves: has mean 0 under no drift, so may be negative. `NaN` where a side
    /// has fewer than two rows.
    pub unbiased: f64,
    /// With them: at least 0.
    pub biased: f64,
}

/// Rows standardised by a reference, all of one length.
#[derive(Debug, Clone, PartialEq)]
pub struct Standardised {
    means: Vec<f64>,
    deviations: Vec<f64>,
    pub rows: Vec<Vec<f64>>,
}

impl Standardised {
    /// Means and standard deviations (ddof 0) are those of `rows`; a constant column is only centred.
    pub fn new(rows: Vec<Vec<f64>>) -> Self {
        let columns = rows.first().map_or(0, Vec::len);
        let count = rows.len() as f64;
        let (mut means, mut deviations) = (Vec::new(), Vec::new());
        for column in 0..columns {
            let values: Vec<f64> = rows.iter().map(|row| row[column]).collect();
            let mean = pairwise_sum(&values) / count;
            let squares: Vec<f64> = values.iter().map(|value| (value - mean) * (value - mean)).collect();
            let deviation = (pairwise_sum(&squares) / count).sqrt();
            means.push(mean);
            deviations.push(if deviation == 0.0 { 1.0 } else { deviation });
        }
        let mut standardised = Self { means, deviations, rows: Vec::new() };
        standardised.rows = standardised.apply(&rows);
        standardised
    }

    pub fn apply(&self, rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let scale = |row: &Vec<f64>| {
            let scales = self.means.iter().zip(&self.deviations);
            row.iter().zip(scales).map(|(value, (mean, deviation))| (value - mean) / deviation).collect()
        };
        rows.iter().map(scale).collect()
    }
}

/// Sum in numpy's order: halves down to 128 values, each in eight interleaved sums. A column of one value that is no
/// short binary fraction keeps a deviation of rounding alone, and whatever differs from it is divided by that: only
/// the same rounding gives the same figure.
fn pairwise_sum(values: &[f64]) -> f64 {
    const LANES: usize = 8;
    const BLOCK: usize = 128;
    if values.len() > BLOCK {
        let half = values.len() / 2;
        let (left, right) = values.split_at(half - half % LANES);
        return pairwise_sum(left) + pairwise_sum(right);
    }
    let (whole, rest) = values.as_chunks::<LANES>();
    let Some((first, others)) = whole.split_first() else { return rest.iter().sum() };
    let mut lanes = *first;
    for chunk in others {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    rest.iter().fold(((a + b) + (c + d)) + ((e + f) + (g + h)), |sum, value| sum + value)
}

/// Squared distances of all pairs of the pooled rows, computed once for any kernel width.
#[derive(Debug, Clone)]
pub struct PairDistances {
    reference: usize,
    window: usize,
    /// Pair (i, j), j < i, stands at i (i - 1) / 2 + j; the reference's rows come first.
    squares: Vec<f64>,
}

impl PairDistances {
    pub fn new(reference: &[Vec<f64>], window: &[Vec<f64>]) -> Self {
        let pooled: Vec<&Vec<f64>> = reference.iter().chain(window).collect();
        let mut squares = Vec::with_capacity(pooled.len() * pooled.len().saturating_sub(1) / 2);
        for (i, row) in pooled.iter().enumerate() {
            for other in &pooled[..i] {
                squares.push(row.iter().zip(*other).map(|(a, b)| (a - b) * (a - b)).sum());
            }
        }
        Self { reference: reference.len(), window: window.len(), squares }
    }

    /// Half the median squared distance, as a width; `NaN` without pairs. Of two middle ones the lower is taken.
    pub fn median_width(&self) -> f64 {
        let Some(middle) = self.squares.len().checked_sub(1).map(|last| last / 2) else { return f64::NAN };
        let mut squares = self.squares.clone();
        let (_, median, _) = squares.select_nth_unstable_by(middle, f64::total_cmp);
        (0.5 * *median).sqrt()
    }

    pub fn discrepancy(&self, width: f64) -> Discrepancy {
        let kernel = |square: f64| (-square / (2.0 * width * width)).exp();
        let (mut in_reference, mut in_window, mut across) = (0.0, 0.0, 0.0);
        let mut pairs = self.squares.iter();
        for i in 0..self.reference + self.window {
            for (j, square) in pairs.by_ref().take(i).enumerate() {
                let sum = match (i < self.reference, j < self.reference) {
                    (true, _) => &mut in_reference,
                    (false, true) => &mut across,
                    (false, false) => &mut in_window,
                };
                *sum += kernel(*square);
            }
        }
        let (m, n) = (self.reference as f64, self.window as f64);
        let mean_across = across / (m * n);
        Discrepancy {
            unbiased: 2.0 * in_reference / (m * (m - 1.0)) + 2.0 * in_window / (n * (n - 1.0)) - 2.0 * mean_across,
            biased: (2.0 * in_reference + m) / (m * m) + (2.0 * in_window + n) / (n * n) - 2.0 * mean_across,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(values: &[f64]) -> Vec<Vec<f64>> {
        values.iter().map(|value| vec![*value]).collect()
    }

    #[test]
    fn one_place_against_another_is_two_less_twice_the_kernel() {
        let pairs = PairDistances::new(&rows(&[0.0, 0.0]), &rows(&[2.0, 2.0]));
        let expected = 2.0 - 2.0 * (-2.0_f64).exp();
        let found = pairs.discrepancy(1.0);
        assert!((found.unbiased - expected).abs() < 1e-15, "{}", found.unbiased);
        assert!((found.biased - expected).abs() < 1e-15, "{}", found.biased);
    }

    #[test]
    fn the_width_is_by_the_median_distance() {
        // squared distances 1, 9, 4, 16, 9, 1 of 0, 1, 3, 4: sorted 1, 1, 4, 9, 9, 16
        let pairs = PairDistances::new(&rows(&[0.0, 1.0]), &rows(&[3.0, 4.0]));
        assert_eq!(pairs.median_width(), 2.0_f64.sqrt());
        assert!(PairDistances::new(&[], &rows(&[1.0])).median_width().is_nan());
    }

    #[test]
    fn a_lone_row_has_no_unbiased_estimate() {
        assert!(PairDistances::new(&rows(&[0.0]), &rows(&[1.0, 2.0])).discrepancy(1.0).unbiased.is_nan());
    }

    #[test]
    fn the_order_of_summation_is_numpys() {
        // numpy.sum of [0.003467] * 500, of [0.1] * 137 and of [0.1] * 7; a plain sum of the first is
        // 1.7335000000000225
        assert_eq!(pairwise_sum(&[0.003467; 500]), 1.7334999999999998);
        assert_eq!(pairwise_sum(&[0.1; 137]), 13.7);
        assert_eq!(pairwise_sum(&[0.1; 7]), 0.7);
    }

    #[test]
    fn a_constant_column_is_only_centred() {
        let standardised = Standardised::new(vec![vec![5.0, 0.0], vec![5.0, 2.0]]);
        assert_eq!(standardised.rows, [[0.0, -1.0], [0.0, 1.0]]);
        assert_eq!(standardised.apply(&[vec![6.0, 3.0]]), [[1.0, 2.0]]);
    }
}
