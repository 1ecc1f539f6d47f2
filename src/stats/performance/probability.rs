//! How good a score is as a probability.

use super::mean;

/// Scores are kept this far from 0 and 1, so that one certain mistake does not make the whole infinite (scikit-learn's
/// bound, the spacing of doubles at 1).
const LEAST_PROBABILITY: f64 = f64::EPSILON;

/// Natural logarithm of the probability given to what happened, at least that of `LEAST_PROBABILITY`.
pub fn log_probability(probability: f64) -> f64 {
    probability.clamp(LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY).ln()
}

/// -ln of the probability that a score gives to a row's class.
pub fn row_loss(positive: bool, score: f64) -> f64 {
    // Clipped first: 1 - score alone would round a tiny score away.
    let score = score.clamp(LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY);
    if positive { -score.ln() } else { -(1.0 - score).ln() }
}

/// Mean of -ln of the probability given to the label, at least 0. `NaN` without rows.
pub fn log_loss(positive: &[bool], scores: &[f64]) -> f64 {
    mean(positive.iter().zip(scores).map(|(positive, score)| row_loss(*positive, *score)))
}

/// Mean squared distance of score and label (Brier, 1950), in [0, 1]. `NaN` without rows.
pub fn brier_score(positive: &[bool], scores: &[f64]) -> f64 {
    mean(positive.iter().zip(scores).map(|(positive, score)| (score - f64::from(u8::from(*positive))).powi(2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certain_mistake_costs_much_but_not_everything() {
        let loss = log_loss(&[false, true, true, false], &[0.0, 1.0, 0.0, 1.0]);
        assert!((loss - 18.021826694558577).abs() < 1e-12, "{loss}");
        assert_eq!(brier_score(&[false, true, true, false], &[0.0, 1.0, 0.0, 1.0]), 0.5);
    }
}
