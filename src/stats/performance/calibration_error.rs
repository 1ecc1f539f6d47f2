//! Expected calibration error: how far the share of positives is from the mean score, over bins of the score.

use super::mean;

const BINS: usize = 10;

/// Over ten bins of equal width; a score on an edge, as ten times it is rounded, belongs to the bin above. In [0, 1];
/// `NaN` without rows.
pub fn by_width(positive: &[bool], scores: &[f64]) -> f64 {
    let mut rows = [0_u64; BINS];
    let mut positives = [0_u64; BINS];
    let mut score_sums = [0.0; BINS];
    for (positive, score) in positive.iter().zip(scores) {
        let bin = ((score * BINS as f64) as usize).min(BINS - 1);
        rows[bin] += 1;
        positives[bin] += u64::from(*positive);
        score_sums[bin] += score;
    }
    let total = scores.len() as f64;
    let filled = (0..BINS).filter(|bin| rows[*bin] > 0);
    let errors = filled.map(|bin| {
        let count = rows[bin] as f64;
        count / total * (positives[bin] as f64 / count - score_sums[bin] / count).abs()
    });
    if total > 0.0 { errors.sum() } else { f64::NAN }
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
