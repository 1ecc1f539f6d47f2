//! Correction for asking many questions at once.

/// Benjamini and Hochberg's (1995) adjusted p-values, in the order given: below alpha, the expected share of false
/// alarms among all alarms is at most alpha. NaN (no test was possible) stays NaN and is not counted as a question.
pub fn benjamini_hochberg(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).filter(|&i| !p_values[i].is_nan()).collect();
    order.sort_unstable_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let questions = order.len() as f64;
    let mut adjusted = vec![f64::NAN; p_values.len()];
    let mut smallest_above = 1.0_f64;
    for (rank, &index) in order.iter().enumerate().rev() {
        smallest_above = smallest_above.min(p_values[index] * questions / (rank + 1) as f64);
        adjusted[index] = smallest_above;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_p_values_by_hand() {
        // 0.01*4/1, min(0.02*4/2, ...), min(0.03*4/3, 0.5), 0.5
        let adjusted = benjamini_hochberg(&[0.5, 0.01, 0.03, 0.02]);
        for (ours, expected) in adjusted.iter().zip([0.5, 0.04, 0.04, 0.04]) {
            assert!((ours - expected).abs() < 1e-15, "{ours} instead of {expected}");
        }
    }

    #[test]
    fn an_impossible_test_is_no_question() {
        let adjusted = benjamini_hochberg(&[f64::NAN, 0.02]);
        assert!(adjusted[0].is_nan());
        assert_eq!(adjusted[1], 0.02);
        assert!(benjamini_hochberg(&[]).is_empty());
    }
}
