//! How good the order of one list is, from the relevance of its items as the model ranked them, the first first.

/// Normalised discounted cumulative gain of the first `k` items (Järvelin and Kekäläinen, 2002), in [0, 1]: the sum of
/// relevance / log2(1 + rank) over that of the best order of the list. The gain is the relevance itself, as in
/// scikit-learn and trec_eval, not 2^relevance - 1. 0 where nothing is relevant, as in scikit-learn.
pub fn ndcg(relevance: &[f32], k: usize) -> f64 {
    let gain = |items: &[f32]| -> f64 {
        let ranked = items.iter().take(k).enumerate();
        ranked.map(|(before, item)| f64::from(*item) / (before as f64 + 2.0).log2()).sum()
    };
    let mut best = relevance.to_vec();
    best.sort_by(|a, b| b.total_cmp(a));
    let most = gain(&best);
    if most > 0.0 { gain(relevance) / most } else { 0.0 }
}

/// Share of the first `k` items with a relevance above 0; a shorter list is filled up with irrelevant ones, as in
/// trec_eval.
pub fn precision(relevance: &[f32], k: usize) -> f64 {
    let relevant = relevance.iter().take(k).filter(|item| **item > 0.0).count();
    if k == 0 { 0.0 } else { relevant as f64 / k as f64 }
}

/// One over the rank of the first item with a relevance above 0; 0 where there is none.
pub fn reciprocal_rank(relevance: &[f32]) -> f64 {
    relevance.iter().position(|item| *item > 0.0).map_or(0.0, |before| 1.0 / (before as f64 + 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_compared_with_the_best_one() {
        // by hand: (3 + 1 / log2 3 + 2 / 2) / (3 + 2 / log2 3 + 1 / 2)
        let expected = (3.0 + 1.0 / 3_f64.log2() + 1.0) / (3.0 + 2.0 / 3_f64.log2() + 0.5);
        let ours = ndcg(&[3.0, 1.0, 2.0, 0.0], 10);
        assert!((ours - expected).abs() < 1e-15, "{ours} instead of {expected}");
        assert_eq!((ndcg(&[3.0, 1.0, 2.0], 1), ndcg(&[0.0, 0.0], 5), ndcg(&[], 5)), (1.0, 0.0, 0.0));
    }

    #[test]
    fn short_lists_and_lists_of_nothing() {
        assert_eq!(precision(&[1.0, 0.0, 2.0], 2), 0.5);
        assert_eq!(precision(&[1.0], 10), 0.1);
        assert_eq!(reciprocal_rank(&[0.0, 0.0, 0.5, 1.0]), 1.0 / 3.0);
        assert_eq!(reciprocal_rank(&[0.0]), 0.0);
    }
}
