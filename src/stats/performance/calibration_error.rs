//! Expected calibration error: how far the share of positives is from the mean score, over bins of the score.

use std::sync::OnceLock;

use super::mean;

/// Draws that stand for the sampling law of the error.
const DRAWS: usize = 1_000;
const SEED: u64 = 0x6563_655f_7731_3000;
/// The largest multiple of the observed gaps that is looked at, and how often the search for the ends is halved.
const MOST_TIMES: f64 = 16.0;
const HALVINGS: usize = 12;
const BINS: usize = 10;

/// Rows in ten bins of equal width of the score; a score on an edge, as ten times it is rounded, belongs to the bin above.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WidthBins {
    rows: [f64; BINS],
    positives: [f64; BINS],
    score_sums: [f64; BINS],
}

impl WidthBins {
    pub fn bin_of(score: f64) -> usize {
        ((score * BINS as f64) as usize).min(BINS - 1)
    }

    /// Adds rows of one score, by their labels.
    pub fn add(&mut self, score: f64, positives: f64, negatives: f64) {
        let bin = Self::bin_of(score);
        self.rows[bin] += positives + negatives;
        self.positives[bin] += positives;
        self.score_sums[bin] += score * (positives + negatives);
    }

    fn filled(&self) -> impl Iterator<Item = Gap> {
        let total: f64 = self.rows.iter().sum();
        let filled = (0..BINS).filter(|bin| self.rows[*bin] > 0.0);
        filled.map(move |bin| {
            let count = self.rows[bin];
            let gap = self.positives[bin] / count - self.score_sums[bin] / count;
            // One row of each class more, so that a bin of few rows is not taken for certain.
            let chance = (self.positives[bin] + 1.0) / (count + 2.0);
            Gap { share: count / total, gap, variance: chance * (1.0 - chance) / count }
        })
    }

    /// In [0, 1]; `NaN` without rows.
    pub fn error(&self) -> f64 {
        let error = self.filled().map(|bin| bin.share * bin.gap.abs()).sum();
        if self.filled().next().is_some() { error } else { f64::NAN }
    }

    /// 95% interval of the error. It is a sum of absolute values, which noise alone makes larger than it is: the interval
    /// holds the multiples of the observed gaps under which the observed error is no outlier, by a parametric bootstrap
    /// with a fixed seed. Its lower end is 0 where a calibrated score would show as much. `None` without rows.
    pub fn error_interval(&self) -> Option<[f64; 2]> {
        let error = self.error();
        if error.is_nan() {
            return None;
        }
        let rows: f64 = self.rows.iter().sum();
        let terms: Vec<(f64, f64)> =
            self.filled().map(|bin| (bin.share * bin.gap, bin.share * bin.variance.sqrt())).collect();
        // Other rows fall into other bins, with other gaps.
        let squares: f64 = self.filled().map(|bin| bin.share * bin.gap * bin.gap).sum();
        let between = ((squares - error * error).max(0.0) / rows).sqrt();
        // Share of the draws below the observed error, were the gaps so many times as large; it falls as they grow.
        let below = |times: f64| {
            let drawn = noise().iter().filter(|(of_bins, of_rows)| {
                let bins = terms.iter().zip(of_bins);
                let sum: f64 = bins.map(|((gap, deviation), z)| (times * gap + deviation * z).abs()).sum();
                sum + times * between * of_rows < error
            });
            drawn.count() as f64 / DRAWS as f64
        };
        let times_of = |level: f64| {
            let (mut low, mut high) = (0.0, MOST_TIMES);
            if below(low) <= level {
                return low;
            }
            for _ in 0..HALVINGS {
                let middle = (low + high) / 2.0;
                if below(middle) > level { low = middle } else { high = middle }
            }
            high
        };
        let [least, most] = [0.975, 0.025].map(|level| times_of(level) * error);
        Some([least.clamp(0.0, error), most.clamp(error, error.max(1.0))])
    }
}

/// How far one bin is from being calibrated: its share of the rows, the share of positives less the mean score, and the
/// sampling variance of that difference.
#[derive(Debug, Clone, Copy)]
struct Gap {
    share: f64,
    gap: f64,
    variance: f64,
}

/// For each bin, and for the rows' places among them.
type Draw = ([f64; BINS], f64);

/// Standard normal numbers, the same in every process.
fn noise() -> &'static Vec<Draw> {
    static NOISE: OnceLock<Vec<Draw>> = OnceLock::new();
    NOISE.get_or_init(|| {
        let mut state = SEED;
        let mut draw = || (std::array::from_fn(|_| normal_number(&mut state)), normal_number(&mut state));
        (0..DRAWS).map(|_| draw()).collect()
    })
}

/// By Box and Muller, from splitmix64.
fn normal_number(state: &mut u64) -> f64 {
    let mut uniform = || {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = *state;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        ((bits >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    };
    let (radius, angle) = (uniform(), uniform());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

/// Over ten bins of equal width, in [0, 1]; `NaN` without rows.
pub fn by_width(positive: &[bool], scores: &[f64]) -> f64 {
    let mut bins = WidthBins::default();
    for (positive, score) in positive.iter().zip(scores) {
        bins.add(*score, f64::from(u8::from(*positive)), f64::from(u8::from(!*positive)));
    }
    bins.error()
}

/// Over slices of n/10 rows in order of score, the last of which takes the rest; rows of equal score stay in their
/// order, so that slices may part them. `None` below ten rows.
pub fn by_count(positive: &[bool], scores: &[f64]) -> Option<f64> {
    let total = scores.len();
    let size = total / BINS;
    if size == 0 {
        return None;
    }
    let mut rows: Vec<(f64, bool)> = scores.iter().copied().zip(positive.iter().copied()).collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let slices = total / size;
    let errors = (0..slices).map(|slice| {
        let end = if slice + 1 == slices { total } else { (slice + 1) * size };
        let rows = &rows[slice * size..end];
        let score = mean(rows.iter().map(|(score, _)| *score));
        let share = mean(rows.iter().map(|(_, positive)| f64::from(u8::from(*positive))));
        rows.len() as f64 / total as f64 * (score - share).abs()
    });
    Some(errors.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_on_an_edge_belongs_above() {
        let scores = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];
        let positive = [0, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1].map(|label| label == 1);
        assert!((by_width(&positive, &scores) - 0.4090909090909091).abs() < 1e-15);
        assert!((by_count(&positive, &scores).unwrap() - 0.4090909090909091).abs() < 1e-15);
    }

    #[test]
    fn fewer_than_ten_rows_fill_no_slices() {
        assert_eq!(by_count(&[true; 9], &[0.5; 9]), None);
        // nineteen slices of one row each
        assert!((by_count(&[true; 19], &[0.5; 19]).unwrap() - 0.5).abs() < 1e-15);
    }
}
