//! The curve of true against false positive rate, and the distance of the two classes' scores.

use super::ratio;
use super::score_groups::{ScoreGroup, totals};

/// Area under the curve: the chance that a positive has a higher score than a negative, ties counting half (Hanley and
/// McNeil, 1982). In [0, 1]; `None` with one class only.
pub fn roc_auc(groups: &[ScoreGroup]) -> Option<f64> {
    let (positives, negatives) = totals(groups);
    let mut higher = 0.0;
    let area: f64 = groups
        .iter()
        .map(|group| {
            higher += group.positive;
            group.negative * (higher - group.positive / 2.0)
        })
        .sum();
    ratio(area, positives * negatives)
}

/// Gini coefficient of an area: 2 area - 1, in [-1, 1].
pub fn gini(area: f64) -> f64 {
    2.0 * area - 1.0
}

/// Kolmogorov-Smirnov distance between the scores of the classes, in [0, 1]; `None` with one class only.
pub fn score_distance(groups: &[ScoreGroup]) -> Option<f64> {
    let (positives, negatives) = totals(groups);
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    let (mut positive, mut negative) = (0.0, 0.0);
    let distances = groups.iter().map(|group| {
        positive += group.positive;
        negative += group.negative;
        f64::abs(positive / positives - negative / negatives)
    });
    Some(distances.fold(0.0, f64::max))
}

#[cfg(test)]
mod tests {
    use super::super::score_groups::score_groups;
    use super::*;

    #[test]
    fn ties_count_half() {
        let groups = score_groups(&[0.5; 5], &[0.0, 1.0, 0.0, 1.0, 1.0]);
        assert_eq!((roc_auc(&groups), score_distance(&groups)), (Some(0.5), Some(0.0)));
        // of four pairs three are in order
        let groups = score_groups(&[0.1, 0.2, 0.3, 0.4], &[0.0, 1.0, 0.0, 1.0]);
        assert_eq!((roc_auc(&groups), score_distance(&groups)), (Some(0.75), Some(0.5)));
    }

    #[test]
    fn one_class_has_no_curve() {
        let groups = score_groups(&[0.1, 0.2], &[1.0, 1.0]);
        assert_eq!((roc_auc(&groups), score_distance(&groups)), (None, None));
    }
}
