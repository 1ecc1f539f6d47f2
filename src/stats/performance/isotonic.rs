//! Isotonic calibration: the rising step function nearest to the labels, made continuous.
//!
//! Least squares by pooling neighbours that fall (Ayer and others, An empirical distribution function for sampling
//! with incomplete information, 1955); rows of equal score are averaged first. Between the scores it was fitted on it
//! is linear, beyond them constant, as in scikit-learn.

/// A fitted curve from score to probability.
#[derive(Debug, Clone, PartialEq)]
pub struct Isotonic {
    /// Distinct scores, ascending, and the fitted value at each.
    points: Vec<(f64, f64)>,
}

/// Neighbouring scores that share a value.
#[derive(Debug, Clone, Copy)]
struct Block {
    mean: f64,
    weight: f64,
    scores: usize,
}

impl Isotonic {
    /// `None` without rows. Scores are finite.
    pub fn fit(scores: &[f64], positive: &[bool]) -> Option<Self> {
        let mut rows: Vec<(f64, bool)> = scores.iter().copied().zip(positive.iter().copied()).collect();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut distinct: Vec<f64> = Vec::new();
        let mut counts: Vec<(u64, u64)> = Vec::new();
        for (score, positive) in rows {
            match counts.last_mut() {
                Some((positives, rows)) if distinct.last() == Some(&score) => {
                    *positives += u64::from(positive);
                    *rows += 1;
                }
                _ => {
                    distinct.push(score);
                    counts.push((u64::from(positive), 1));
                }
            }
        }
        let mut blocks: Vec<Block> = Vec::new();
        for (positives, rows) in counts {
            let weight = rows as f64;
            let mut block = Block { mean: positives as f64 / weight, weight, scores: 1 };
            while let Some(before) = blocks.pop_if(|before| before.mean >= block.mean) {
                let weight = before.weight + block.weight;
                let mean = (before.mean * before.weight + block.mean * block.weight) / weight;
                block = Block { mean, weight, scores: before.scores + block.scores };
            }
            blocks.push(block);
        }
        let fitted = blocks.iter().flat_map(|block| std::iter::repeat_n(block.mean, block.scores));
        let points: Vec<(f64, f64)> = distinct.into_iter().zip(fitted).collect();
        (!points.is_empty()).then_some(Self { points })
    }

    /// Probability of a positive at a score.
    pub fn at(&self, score: f64) -> f64 {
        let above = self.points.partition_point(|(known, _)| *known < score);
        match (above.checked_sub(1).map(|below| self.points[below]), self.points.get(above).copied()) {
            (_, Some((known, value))) if known == score => value,
            (None, Some((_, value))) | (Some((_, value)), None) => value,
            (Some((low, low_value)), Some((high, high_value))) => {
                low_value + (high_value - low_value) / (high - low) * (score - low)
            }
            (None, None) => f64::NAN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_that_fall_are_pooled_and_gaps_bridged() {
        // at 0.2: one of two; at 0.3 none, so both are 1/3; at 0.6 one of one
        let fit = Isotonic::fit(&[0.6, 0.2, 0.3, 0.2], &[true, true, false, false]).unwrap();
        for (score, expected) in [(0.0, 1.0 / 3.0), (0.2, 1.0 / 3.0), (0.3, 1.0 / 3.0), (0.45, 2.0 / 3.0), (0.9, 1.0)] {
            assert!((fit.at(score) - expected).abs() < 1e-15, "{score}: {} instead of {expected}", fit.at(score));
        }
        assert_eq!(Isotonic::fit(&[], &[]), None);
    }

    #[test]
    fn a_perfect_order_is_kept() {
        let fit = Isotonic::fit(&[0.1, 0.2, 0.8, 0.9], &[false, false, true, true]).unwrap();
        assert_eq!([0.1, 0.2, 0.8, 0.9].map(|score| fit.at(score)), [0.0, 0.0, 1.0, 1.0]);
        assert!((fit.at(0.5) - 0.5).abs() < 1e-15);
    }
}
