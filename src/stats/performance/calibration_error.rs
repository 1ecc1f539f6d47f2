//! Expected calibration error: how far the share of positives is from the mean score, over bins of the score.

use super::mean;

const BINS: usize = 10;

/// Rows in ten bins of equal width of the score; a score on an edge, as ten times it is rounded, belongs to the bin above.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WidthBins {
    rows: [f64; BINS],
    positives: [f64; BINS],
    score_sums: [f64; BINS],
    /// Of label - score.
    squares: [f64; BINS],
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
        self.squares[bin] += positives * (1.0 - score).powi(2) + negatives * score * score;
    }

    /// Of each filled bin: its share of the rows, the share of positives less the mean score, and the sampling variance
    /// of that difference.
    pub fn gaps(&self) -> Vec<Gap> {
        let total: f64 = self.rows.iter().sum();
        let filled = (0..BINS).filter(|bin| self.rows[*bin] > 0.0);
        let gaps = filled.map(|bin| {
            let count = self.rows[bin];
            let gap = self.positives[bin] / count - self.score_sums[bin] / count;
            let variance = (self.squares[bin] / count - gap * gap).max(0.0) / count;
            Gap { share: count / total, gap, variance }
        });
        gaps.collect()
    }

    /// In [0, 1]; `NaN` without rows.
    pub fn error(&self) -> f64 {
        let gaps = self.gaps();
        if gaps.is_empty() { f64::NAN } else { gaps.iter().map(|bin| bin.share * bin.gap.abs()).sum() }
    }
}

/// How far one bin is from being calibrated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gap {
    pub share: f64,
    pub gap: f64,
    pub variance: f64,
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
