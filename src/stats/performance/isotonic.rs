//! Isotonic calibration: the rising step function nearest to the labels, made continuous.
//!
//! Least squares by pooling neighbours that fall (Ayer and others, An empirical distribution function for sampling
//! with incomplete information, 1955); rows of equal score are averaged first. Between the scores it was fitted on it
//! is linear, beyond them constant, as in scikit-learn. Of neighbours that share a value the first and the last are
//! kept: between them the curve is level whatever lies there.
//!
//! What the fit does not know: the value of pooled neighbours is a share among the rows that were pooled, and has the
//! variance of one. Shares of 0 and 1 among few rows would seem certain, so half a row of each kind is added for the
//! variance (Jeffreys' prior).

/// A fitted curve from score to probability.
#[derive(Debug, Clone, PartialEq)]
pub struct Isotonic {
    /// Kept scores, ascending, each with its block.
    points: Vec<(f64, u32)>,
    blocks: Vec<Block>,
}

/// Neighbouring scores that share a value.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Block {
    /// Rows of the fit, and the positives among them.
    rows: u64,
    positives: u64,
}

/// Rows of one score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoredRows {
    pub score: f64,
    pub rows: u64,
    pub positives: u64,
}

/// Where a score stands on the curve: between two blocks, the first of which has this weight and the second the rest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    pub blocks: [usize; 2],
    pub weight_of_first: f64,
}

impl Block {
    fn value(self) -> f64 {
        self.positives as f64 / self.rows as f64
    }

    /// Variance of the share as an estimate of the chance.
    fn variance(self) -> f64 {
        let smoothed = (self.positives as f64 + 0.5) / (self.rows as f64 + 1.0);
        smoothed * (1.0 - smoothed) / self.rows as f64
    }

    /// Whether the mean is at least that of the other, without rounding.
    fn reaches(self, other: Block) -> bool {
        u128::from(self.positives) * u128::from(other.rows) >= u128::from(other.positives) * u128::from(self.rows)
    }
}

impl Isotonic {
    /// `None` without rows. Scores are finite.
    pub fn fit(scores: &[f64], positive: &[bool]) -> Option<Self> {
        let rows = scores.iter().zip(positive);
        Self::fit_counts(rows.map(|(score, positive)| ScoredRows {
            score: *score,
            rows: 1,
            positives: u64::from(*positive),
        }))
    }

    /// The same from counts; a score may come more than once, in any order. `None` without rows.
    pub fn fit_counts(counts: impl IntoIterator<Item = ScoredRows>) -> Option<Self> {
        let mut counts: Vec<ScoredRows> = counts.into_iter().filter(|counted| counted.rows > 0).collect();
        counts.sort_by(|a, b| a.score.total_cmp(&b.score));
        counts.dedup_by(|next, kept| {
            let same = next.score == kept.score;
            if same {
                kept.rows += next.rows;
                kept.positives += next.positives;
            }
            same
        });
        // Each block with the places of its first and last score.
        let mut blocks: Vec<(Block, usize, usize)> = Vec::new();
        for (place, ScoredRows { rows, positives, .. }) in counts.iter().enumerate() {
            let (mut block, mut first) = (Block { rows: *rows, positives: *positives }, place);
            while let Some((before, start, _)) = blocks.pop_if(|(before, ..)| before.reaches(block)) {
                block = Block { rows: before.rows + block.rows, positives: before.positives + block.positives };
                first = start;
            }
            blocks.push((block, first, place));
        }
        let mut points = Vec::new();
        for (index, (_, first, last)) in (0u32..).zip(&blocks) {
            points.push((counts[*first].score, index));
            if last > first {
                points.push((counts[*last].score, index));
            }
        }
        (!points.is_empty()).then(|| Self { points, blocks: blocks.into_iter().map(|(block, ..)| block).collect() })
    }

    /// What [`Isotonic::parts`] gave; `None` where it is not a rising curve over ascending scores.
    pub fn from_parts(parts: Vec<(f64, f64, u64, u64)>) -> Option<Self> {
        let (mut points, mut blocks) = (Vec::new(), Vec::<Block>::new());
        let mut last_score = f64::NEG_INFINITY;
        for (first, last, rows, positives) in parts {
            let block = Block { rows, positives };
            let ascends = last_score < first && first <= last && first.is_finite() && last.is_finite();
            let rises = blocks.last().is_none_or(|before| !before.reaches(block));
            if !ascends || !rises || rows == 0 || positives > rows {
                return None;
            }
            last_score = last;
            let index = u32::try_from(blocks.len()).ok()?;
            points.push((first, index));
            if last > first {
                points.push((last, index));
            }
            blocks.push(block);
        }
        (!points.is_empty()).then_some(Self { points, blocks })
    }

    /// Of each level stretch its first and last score, its rows, and the positives among them.
    pub fn parts(&self) -> Vec<(f64, f64, u64, u64)> {
        let mut parts: Vec<(f64, f64, u64, u64)> = Vec::with_capacity(self.blocks.len());
        for (score, index) in &self.points {
            match parts.get_mut(*index as usize) {
                Some(part) => part.1 = *score,
                None => {
                    let block = self.blocks[*index as usize];
                    parts.push((*score, *score, block.rows, block.positives));
                }
            }
        }
        parts
    }

    /// Level stretches of the curve, each a value of its own.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Rows that it was fitted on.
    pub fn rows(&self) -> u64 {
        self.blocks.iter().map(|block| block.rows).sum()
    }

    /// Rows of the fit on a block.
    pub fn block_rows(&self, block: usize) -> u64 {
        self.blocks[block].rows
    }

    /// Variance of a block's value as an estimate of the chance there.
    pub fn variance(&self, block: usize) -> f64 {
        self.blocks[block].variance()
    }

    /// Probability of a positive at a score; `NaN` for `NaN`.
    pub fn at(&self, score: f64) -> f64 {
        if score.is_nan() {
            return f64::NAN;
        }
        let Place { blocks: [first, second], weight_of_first } = self.place(score);
        let (low, high) = (self.blocks[first].value(), self.blocks[second].value());
        if first == second { low } else { low + (high - low) * (1.0 - weight_of_first) }
    }

    /// Where a score that is not `NaN` stands.
    pub fn place(&self, score: f64) -> Place {
        let above = self.points.partition_point(|(known, _)| *known < score);
        let of = |point: (f64, u32)| Place { blocks: [point.1 as usize; 2], weight_of_first: 1.0 };
        match (above.checked_sub(1).map(|below| self.points[below]), self.points.get(above).copied()) {
            (_, Some(point)) if point.0 == score => of(point),
            (Some(low), Some(high)) if low.1 != high.1 => Place {
                blocks: [low.1 as usize, high.1 as usize],
                weight_of_first: 1.0 - (score - low.0) / (high.0 - low.0),
            },
            (_, Some(point)) | (Some(point), None) => of(point),
            (None, None) => of((score, 0)),
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

    #[test]
    fn counts_in_any_order_give_the_curve_of_the_rows_and_parts_read_back() {
        let scores: Vec<f64> = (0..500).map(|row| f64::from(row * 7919 % 101) / 100.0).collect();
        let positive: Vec<bool> = (0..500).map(|row| row * 31 % 97 < row * 7919 % 101).collect();
        let of_rows = Isotonic::fit(&scores, &positive).unwrap();
        let mut counts: Vec<ScoredRows> = (scores.iter().zip(&positive))
            .map(|(score, positive)| ScoredRows { score: *score, rows: 1, positives: u64::from(*positive) })
            .collect();
        counts.reverse();
        let of_counts = Isotonic::fit_counts(counts).unwrap();
        assert_eq!(of_counts, of_rows);
        assert_eq!(Isotonic::from_parts(of_rows.parts()), Some(of_rows.clone()));
        assert_eq!(of_rows.rows(), 500);
        assert!(of_rows.blocks() < 60, "{}", of_rows.blocks());
    }

    #[test]
    fn parts_that_fall_are_refused() {
        assert_eq!(Isotonic::from_parts(vec![(0.1, 0.2, 10, 6), (0.3, 0.4, 10, 5)]), None);
        assert_eq!(Isotonic::from_parts(vec![(0.1, 0.2, 10, 1), (0.2, 0.4, 10, 5)]), None);
        assert_eq!(Isotonic::from_parts(vec![(0.1, 0.2, 10, 11)]), None);
        assert_eq!(Isotonic::from_parts(Vec::new()), None);
    }
}
