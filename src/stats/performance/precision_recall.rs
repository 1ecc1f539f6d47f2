//! The curve of precision against recall.

use super::ratio;
use super::score_groups::{ScoreGroup, totals};

/// Recall gained at each score from the highest down, and the precision there.
fn steps(groups: &[ScoreGroup], positives: f64) -> impl Iterator<Item = (f64, f64)> + '_ {
    let (mut positive, mut rows) = (0.0, 0.0);
    groups.iter().map(move |group| {
        positive += group.positive;
        rows += group.positive + group.negative;
        (group.positive / positives, positive / rows)
    })
}

/// Average precision: sum of the precision at each score times the recall gained there. In [0, 1]; `None` without a
/// positive.
pub fn average_precision(groups: &[ScoreGroup]) -> Option<f64> {
    let (positives, _) = totals(groups);
    ratio(1.0, positives)?;
    Some(steps(groups, positives).map(|(gained, precision)| gained * precision).sum())
}

/// Sampling variance of the average precision of groups of whole rows: the sum over rows of the square of what one more
/// row like it would change (the infinitesimal jackknife). `None` without a positive.
pub fn average_precision_variance(groups: &[ScoreGroup]) -> Option<f64> {
    let (positives, _) = totals(groups);
    let area = average_precision(groups)?;
    let (mut positive, mut rows) = totals_of_rows(groups);
    let (mut by_positive, mut by_negative, mut variance) = (0.0, 0.0, 0.0);
    // From the lowest score up: a row changes the precision at its own score and at every lower one.
    for group in groups.iter().rev() {
        let gained = group.positive / positives;
        by_positive += gained * (rows - positive) / (rows * rows);
        by_negative -= gained * positive / (rows * rows);
        let change = (positive / rows - area) / positives + by_positive;
        variance += group.positive * change * change + group.negative * by_negative * by_negative;
        positive -= group.positive;
        rows -= group.positive + group.negative;
    }
    Some(variance)
}

fn totals_of_rows(groups: &[ScoreGroup]) -> (f64, f64) {
    let (positives, negatives) = totals(groups);
    (positives, positives + negatives)
}

/// Area by the trapezoidal rule from the point (recall 0, precision 1). Its straight lines are not attainable and
/// flatter the model: `average_precision` is the figure to use. `None` with one class only.
pub fn trapezoidal_area(groups: &[ScoreGroup]) -> Option<f64> {
    let (positives, negatives) = totals(groups);
    ratio(1.0, positives * negatives)?;
    let mut before = 1.0;
    let areas = steps(groups, positives).map(|(gained, precision)| {
        let area = gained * (before + precision) / 2.0;
        before = precision;
        area
    });
    Some(areas.sum())
}

#[cfg(test)]
mod tests {
    use super::super::score_groups::score_groups;
    use super::*;

    #[test]
    fn equals_scikit_learn() {
        let groups = score_groups(&[0.1, 0.2, 0.8, 0.9], &[1.0, 1.0, 0.0, 0.0]);
        assert!((average_precision(&groups).unwrap() - 0.41666666666666663).abs() < 1e-15);
        assert!((trapezoidal_area(&groups).unwrap() - 0.29166666666666663).abs() < 1e-15);
    }

    #[test]
    fn the_variance_is_that_of_small_changes_of_every_row() {
        let scores: Vec<f64> = (0..40).map(|row| f64::from((row * 37 + row * row * 11) % 17) / 17.0).collect();
        let labels: Vec<f64> = (0..40).map(|row| f64::from(u8::from((row * 7) % 5 < 2))).collect();
        let groups = score_groups(&scores, &labels);
        let step = 1e-6;
        let mut expected = 0.0;
        for at in 0..groups.len() {
            let changed = |positive: f64, negative: f64| {
                let mut groups = groups.clone();
                groups[at].positive += positive;
                groups[at].negative += negative;
                average_precision(&groups).unwrap()
            };
            let by_positive = (changed(step, 0.0) - changed(-step, 0.0)) / (2.0 * step);
            let by_negative = (changed(0.0, step) - changed(0.0, -step)) / (2.0 * step);
            expected += groups[at].positive * by_positive.powi(2) + groups[at].negative * by_negative.powi(2);
        }
        let ours = average_precision_variance(&groups).unwrap();
        assert!((ours / expected - 1.0).abs() < 1e-6, "{ours} instead of {expected}");
    }

    #[test]
    fn without_positives_there_is_no_recall() {
        let groups = score_groups(&[0.1, 0.2], &[0.0, 0.0]);
        assert_eq!((average_precision(&groups), trapezoidal_area(&groups)), (None, None));
        let groups = score_groups(&[0.1, 0.2], &[1.0, 1.0]);
        assert_eq!((average_precision(&groups), trapezoidal_area(&groups)), (Some(1.0), None));
    }
}
