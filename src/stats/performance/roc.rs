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

/// Sampling variance of the area (DeLong, DeLong and Clarke-Pearson, 1988), of groups of whole rows; `None` with fewer
/// than two rows of a class.
pub fn roc_auc_variance(groups: &[ScoreGroup]) -> Option<f64> {
    let (positives, negatives) = totals(groups);
    if positives < 2.0 || negatives < 2.0 {
        return None;
    }
    let area = roc_auc(groups)?;
    // Of a row: the share of the other class that it is on the right side of, less the mean share, which is the area.
    let (mut higher, mut lower) = (0.0, negatives);
    let (mut of_positives, mut of_negatives) = (0.0, 0.0);
    for group in groups {
        lower -= group.negative;
        let below = (lower + group.negative / 2.0) / negatives;
        let above = (higher + group.positive / 2.0) / positives;
        of_positives += group.positive * (below - area).powi(2);
        of_negatives += group.negative * (above - area).powi(2);
        higher += group.positive;
    }
    Some(of_positives / (positives - 1.0) / positives + of_negatives / (negatives - 1.0) / negatives)
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

    /// By the definition, pair by pair.
    fn variance_of_pairs(positives: &[f64], negatives: &[f64]) -> f64 {
        let side = |high: f64, low: f64| if high > low { 1.0 } else { f64::from(u8::from(high == low)) / 2.0 };
        let area_of = |shares: &[f64]| shares.iter().sum::<f64>() / shares.len() as f64;
        let spread = |shares: Vec<f64>| {
            let (centre, n) = (area_of(&shares), shares.len() as f64);
            shares.iter().map(|share| (share - centre).powi(2)).sum::<f64>() / (n - 1.0) / n
        };
        let of_positive = |high: &f64| area_of(&negatives.iter().map(|low| side(*high, *low)).collect::<Vec<f64>>());
        let of_negative = |low: &f64| area_of(&positives.iter().map(|high| side(*high, *low)).collect::<Vec<f64>>());
        spread(positives.iter().map(of_positive).collect()) + spread(negatives.iter().map(of_negative).collect())
    }

    #[test]
    fn the_variance_is_delongs() {
        let scores: Vec<f64> = (0..60).map(|row| f64::from((row * 37 + row * row * 11) % 23) / 23.0).collect();
        let labels: Vec<f64> = (0..60).map(|row| f64::from(u8::from((row * 7) % 5 < 2))).collect();
        let of_class = |class: f64| -> Vec<f64> {
            scores.iter().zip(&labels).filter(|(_, label)| **label == class).map(|(score, _)| *score).collect()
        };
        let ours = roc_auc_variance(&score_groups(&scores, &labels)).unwrap();
        let expected = variance_of_pairs(&of_class(1.0), &of_class(0.0));
        assert!((ours - expected).abs() < 1e-15 && expected > 1e-3, "{ours} instead of {expected}");
        assert_eq!(roc_auc_variance(&score_groups(&[0.1, 0.2, 0.3], &[1.0, 0.0, 0.0])), None);
    }

    #[test]
    fn one_class_has_no_curve() {
        let groups = score_groups(&[0.1, 0.2], &[1.0, 1.0]);
        assert_eq!((roc_auc(&groups), score_distance(&groups)), (None, None));
    }
}
