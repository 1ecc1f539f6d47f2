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
    fn without_positives_there_is_no_recall() {
        let groups = score_groups(&[0.1, 0.2], &[0.0, 0.0]);
        assert_eq!((average_precision(&groups), trapezoidal_area(&groups)), (None, None));
        let groups = score_groups(&[0.1, 0.2], &[1.0, 1.0]);
        assert_eq!((average_precision(&groups), trapezoidal_area(&groups)), (Some(1.0), None));
    }
}
