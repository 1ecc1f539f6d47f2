//! Linear rank tests of level and spread, from counts over ordered bins.
//!
//! The values of both sides are ranked together (ties share their middle rank) and replaced by normal scores: the
//! quantile of the normal law at their rank. The sum of the window's scores tells a change of level (van der
//! Waerden, 1952), the sum of their squares a change of spread (Klotz, 1962). Where the data are normal, no test of
//! a moved mean is more powerful than the first, and it never has less power than the t-test against any shift
//! (Chernoff and Savage, 1958); yet its law depends on nothing but the ranks: mean, variance and skewness under
//! permutation are exact, for ties and heavy tails too.
//!
//! A window that lies higher or lower is wider about the common middle, too, by the square of how far it moved. Where
//! levels wander without any drift that square has a heavy tail, which no mean square of earlier windows foretells: so
//! what the level explains is taken off the spread, as far as it points the same way.

use super::normal;
use super::wilson_hilferty::normal_equivalent;

/// Normal equivalents; 0 where there is nothing to compare.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ScoreTests {
    /// Positive: the window lies higher.
    pub level: f64,
    /// Positive: the window is spread wider.
    pub spread: f64,
}

/// Normal scores of the middle ranks of bins with these counts; 0 for an empty bin.
pub fn normal_scores(counts: &[u64]) -> Vec<f64> {
    let all = counts.iter().map(|count| *count as f64).sum::<f64>();
    let mut below = 0.0;
    let score = |count: &u64| {
        if *count == 0 {
            return 0.0;
        }
        let middle = (below + 0.5 * *count as f64) / all;
        below += *count as f64;
        normal::quantile(middle)
    };
    counts.iter().map(score).collect()
}

/// Counts of both sides in the same ordered bins.
pub fn test(reference: &[u64], window: &[u64]) -> ScoreTests {
    let pooled: Vec<u64> = reference.iter().zip(window).map(|(left, right)| left.saturating_add(*right)).collect();
    let scores = normal_scores(&pooled);
    let squares: Vec<f64> = scores.iter().map(|score| score * score).collect();
    let explained = squares_of_level(&pooled, window, &scores);
    ScoreTests { level: deviate(&pooled, window, &scores, 0.0), spread: deviate(&pooled, window, &squares, explained) }
}

fn total(counts: &[u64]) -> f64 {
    counts.iter().map(|count| *count as f64).sum()
}

/// What a moved level alone adds to the window's sum of squares, about the mean of all squares. Negative where the
/// window is the larger side: then it is the reference that stands apart.
fn squares_of_level(pooled: &[u64], window: &[u64], scores: &[f64]) -> f64 {
    let (all, drawn) = (total(pooled), total(window));
    let left = all - drawn;
    if drawn < 1.0 || left < 1.0 {
        return 0.0;
    }
    let mean = |counts: &[u64], of: f64| {
        counts.iter().zip(scores).map(|(count, score)| *count as f64 * score).sum::<f64>() / of
    };
    let level = mean(window, drawn) - mean(pooled, all);
    drawn * level * level * (left * left - drawn * drawn) / (left * all)
}

/// Normal equivalent of the window's sum of scores under permutation, less what is `explained` of it: no further than
/// to 0.
fn deviate(pooled: &[u64], window: &[u64], scores: &[f64], explained: f64) -> f64 {
    let (all, drawn) = (total(pooled), total(window));
    let left = all - drawn;
    if drawn < 1.0 || left < 1.0 || all < 3.0 {
        return 0.0;
    }
    let weighted = |counts: &[u64], of: &dyn Fn(f64) -> f64| -> f64 {
        counts
            .iter()
            .zip(scores)
            .filter(|(count, _)| **count > 0)
            .map(|(count, score)| *count as f64 * of(*score))
            .sum()
    };
    let mean = weighted(pooled, &|score| score) / all;
    let squares = weighted(pooled, &|score| (score - mean).powi(2));
    let cubes = weighted(pooled, &|score| (score - mean).powi(3));
    let variance = drawn * left / (all * (all - 1.0)) * squares;
    if variance.is_nan() || variance <= 0.0 {
        return 0.0;
    }
    let third = drawn * left * (left - drawn) / (all * (all - 1.0) * (all - 2.0)) * cubes;
    let sum = weighted(window, &|score| score - mean);
    let sum = if sum > 0.0 { (sum - explained.max(0.0)).max(0.0) } else { (sum - explained.min(0.0)).min(0.0) };
    normal_equivalent(sum / variance.sqrt(), third / variance.powf(1.5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_and_spread_tell_apart_what_moved() {
        let reference = [1_000u64; 20];
        let mut higher = [50u64; 20];
        higher[0] = 0;
        higher[19] = 100;
        let mut wider = [50u64; 20];
        (wider[0], wider[19], wider[9], wider[10]) = (100, 100, 0, 0);
        let moved = test(&reference, &higher);
        assert!(moved.level > 5.0 && moved.spread.abs() < 1.5, "{moved:?}");
        let spread = test(&reference, &wider);
        assert!(spread.spread > 6.0 && spread.level.abs() < 0.1, "{spread:?}");
        let mirrored: Vec<u64> = higher.iter().rev().copied().collect();
        assert!((test(&reference, &mirrored).level + moved.level).abs() < 1e-9);
    }

    #[test]
    fn a_moved_level_is_no_spread() {
        // 20 bins of a uniform reference; the window is moved by two bins, and as wide as it was.
        let reference = [1_000u64; 20];
        let mut moved = [100u64; 20];
        (moved[0], moved[1], moved[19]) = (0, 0, 300);
        let tested = test(&reference, &moved);
        assert!(tested.level > 6.0 && tested.spread.abs() < 3.0, "{tested:?}");
        // Seen from the larger side, it is the same.
        let mirrored = test(&moved, &reference);
        assert!(mirrored.level < -6.0 && mirrored.spread.abs() < 3.0, "{mirrored:?}");
    }

    #[test]
    fn two_values_are_fishers_question() {
        // 0/1 data: the sum of scores is the count of ones; 3 of 100 against 1 of 1000, upper tail 0.0027 by scipy's
        // hypergeom.sf(2, 1100, 4, 100): a normal law would say 3e-7.
        let tested = test(&[999, 1], &[97, 3]);
        let p = normal::two_sided_p(tested.level);
        assert!(p > 1e-3, "{p}");
    }

    #[test]
    fn nothing_to_compare_is_no_deviation() {
        for (reference, window) in [([0, 0], [3, 4]), ([5, 0], [7, 0]), ([1, 0], [0, 1]), ([2, 2], [0, 0])] {
            assert_eq!(test(&reference, &window), ScoreTests::default(), "{reference:?} {window:?}");
        }
    }
}
