//! Corrections for looking at many features at once.

use crate::config::rules::Correction;

/// Adjusted p-values, in the order given: a value at or below alpha is significant at that level for the family.
///
/// Benjamini-Hochberg bounds the expected share of false findings in this family (Benjamini and Hochberg 1995,
/// step-up, valid for independent and positively dependent p-values); Benjamini-Yekutieli does so under any
/// dependence, at the price of a factor of about ln(m) + 0.58 (2001); Bonferroni bounds the chance of any false
/// finding. Where nothing has drifted all three bound that chance. None says anything over time: see `budget`.
pub fn adjust(correction: Correction, p_values: &[f64]) -> Vec<f64> {
    let family = p_values.len() as f64;
    match correction {
        Correction::None => p_values.to_vec(),
        Correction::Bonferroni => p_values.iter().map(|p| (p * family).min(1.0)).collect(),
        Correction::BenjaminiHochberg => step_up(p_values, family),
        Correction::BenjaminiYekutieli => step_up(p_values, family * harmonic(p_values.len())),
    }
}

/// The largest p-value that is significant at `alpha` in this family: what an automatic threshold stands for.
pub fn cut(correction: Correction, alpha: f64, p_values: &[f64]) -> f64 {
    let family = p_values.len().max(1);
    let found = || adjust(correction, p_values).iter().filter(|p| **p <= alpha).count().max(1) as f64;
    match correction {
        Correction::None => alpha,
        Correction::Bonferroni => alpha / family as f64,
        Correction::BenjaminiHochberg => alpha * found() / family as f64,
        Correction::BenjaminiYekutieli => alpha * found() / (family as f64 * harmonic(family)),
    }
}

/// Smallest of `p * factor / rank` over the p-values at least as large.
fn step_up(p_values: &[f64], factor: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|left, right| p_values[*left].total_cmp(&p_values[*right]));
    let mut adjusted = vec![1.0; p_values.len()];
    let mut smallest: f64 = 1.0;
    for (rank, index) in order.into_iter().enumerate().rev() {
        smallest = smallest.min(p_values[index] * factor / (rank + 1) as f64);
        adjusted[index] = smallest;
    }
    adjusted
}

/// 1 + 1/2 + ... + 1/m.
fn harmonic(m: usize) -> f64 {
    (1..=m).map(|k| 1.0 / k as f64).sum()
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

    /// `scipy.stats.false_discovery_control([0.01, 0.04, 0.03, 0.5, 0.002], method="by")`.
    #[test]
    fn benjamini_yekutieli_is_scipys() {
        let found = adjust(Correction::BenjaminiYekutieli, &[0.01, 0.04, 0.03, 0.5, 0.002]);
        assert_close(
            &found,
            &[0.05708333333333333, 0.11416666666666667, 0.11416666666666667, 1.0, 0.022833333333333334],
        );
    }

    #[test]
    fn the_cut_parts_what_is_significant_from_what_is_not() {
        let p_values = [0.01, 0.04, 0.03, 0.5, 0.002, 0.021];
        for correction in
            [Correction::None, Correction::Bonferroni, Correction::BenjaminiHochberg, Correction::BenjaminiYekutieli]
        {
            for alpha in [1e-3, 0.02, 0.05, 0.2] {
                let cut = cut(correction, alpha, &p_values) * (1.0 + 1e-12);
                let by_cut: Vec<bool> = p_values.iter().map(|p| *p <= cut).collect();
                let by_p: Vec<bool> = adjust(correction, &p_values).iter().map(|p| *p <= alpha).collect();
                assert_eq!(by_cut, by_p, "{correction:?} at {alpha}: cut {cut}");
            }
        }
    }

    #[test]
    fn bonferroni_multiplies_and_stops_at_one() {
        assert_close(&adjust(Correction::Bonferroni, &[0.01, 0.4, 0.9]), &[0.03, 1.0, 1.0]);
        assert_close(&adjust(Correction::None, &[0.01, 0.4]), &[0.01, 0.4]);
        assert_close(&adjust(Correction::BenjaminiHochberg, &[]), &[]);
    }
}
