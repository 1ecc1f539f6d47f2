//! Corrections for looking at many features at once.

use crate::config::rules::Correction;

/// Adjusted p-values, in the order given: a value at or below alpha is significant at that level for the family.
///
/// Benjamini-Hochberg bounds the expected share of false findings in this family (Benjamini and Hochberg 1995,
/// step-up, valid under positive dependence); Bonferroni the chance of any. Neither says anything over time.
pub fn adjust(correction: Correction, p_values: &[f64]) -> Vec<f64> {
    let family = p_values.len() as f64;
    match correction {
        Correction::None => p_values.to_vec(),
        Correction::Bonferroni => p_values.iter().map(|p| (p * family).min(1.0)).collect(),
        Correction::BenjaminiHochberg => {
            let mut order: Vec<usize> = (0..p_values.len()).collect();
            order.sort_by(|left, right| p_values[*left].total_cmp(&p_values[*right]));
            let mut adjusted = vec![1.0; p_values.len()];
            let mut smallest: f64 = 1.0;
            for (rank, index) in order.into_iter().enumerate().rev() {
                smallest = smallest.min(p_values[index] * family / (rank + 1) as f64);
                adjusted[index] = smallest;
            }
            adjusted
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(found: &[f64], expected: &[f64]) {
        let close = found.len() == expected.len()
            && found.iter().zip(expected).all(|(left, right)| (left - right).abs() < 1e-12);
        assert!(close, "{found:?} against {expected:?}");
    }

    /// `scipy.stats.false_discovery_control([0.01, 0.04, 0.03, 0.5, 0.002], method="bh")`.
    #[test]
    fn benjamini_hochberg_is_scipys() {
        let found = adjust(Correction::BenjaminiHochberg, &[0.01, 0.04, 0.03, 0.5, 0.002]);
        assert_close(&found, &[0.025, 0.05, 0.05, 0.5, 0.01]);
    }

    #[test]
    fn bonferroni_multiplies_and_stops_at_one() {
        assert_close(&adjust(Correction::Bonferroni, &[0.01, 0.4, 0.9]), &[0.03, 1.0, 1.0]);
        assert_close(&adjust(Correction::None, &[0.01, 0.4]), &[0.01, 0.4]);
        assert_close(&adjust(Correction::BenjaminiHochberg, &[]), &[]);
    }
}
