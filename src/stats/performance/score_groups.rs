//! Rows by score, highest first, equal scores together: what every metric of ranking is a pass over.

/// Weight of positives and of negatives among the rows of one score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoreGroup {
    pub positive: f64,
    pub negative: f64,
}

/// The groups from the highest score down. `positives` is the weight of each row as a positive, in [0, 1]: 1 or 0
/// where its label is known, a probability where it is not; the rest of 1 is its weight as a negative. Scores are
/// finite.
pub fn score_groups(scores: &[f64], positives: &[f64]) -> Vec<ScoreGroup> {
    let mut rows: Vec<(f64, f64)> = scores.iter().copied().zip(positives.iter().copied()).collect();
    // Stable, so that sums of weights are added in the order of the rows.
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut groups: Vec<ScoreGroup> = Vec::new();
    let mut score = f64::NAN;
    for (next, weight) in rows {
        match groups.last_mut() {
            Some(group) if next == score => {
                group.positive += weight;
                group.negative += 1.0 - weight;
            }
            _ => groups.push(ScoreGroup { positive: weight, negative: 1.0 - weight }),
        }
        score = next;
    }
    groups
}

/// Total weight of positives and of negatives.
pub fn totals(groups: &[ScoreGroup]) -> (f64, f64) {
    groups.iter().fold((0.0, 0.0), |(positive, negative), group| (positive + group.positive, negative + group.negative))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_scores_are_one_group() {
        let groups = score_groups(&[0.2, 0.9, 0.2, 0.5], &[1.0, 1.0, 0.0, 0.25]);
        let plain: Vec<(f64, f64)> = groups.iter().map(|group| (group.positive, group.negative)).collect();
        assert_eq!(plain, [(1.0, 0.0), (0.25, 0.75), (1.0, 1.0)]);
        assert_eq!(totals(&groups), (2.25, 1.75));
    }

    #[test]
    fn zeros_of_either_sign_are_one_score() {
        assert_eq!(score_groups(&[0.0, -0.0], &[1.0, 0.0]).len(), 1);
    }
}
