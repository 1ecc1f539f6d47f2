//! How likely it is that all values of a window are one and the same.

use statrs::function::factorial::ln_binomial;

/// Probability that `n` values fall into one bin or category of the reference, whichever: each of them by the rule of
/// succession, `(c + 1) / (N + 2)`, so that a category that a small reference had alone is not taken for certain; over n
/// values `C(c + n, n) / C(N + 1 + n, n)`, summed over the bins (beta-binomial law with a uniform prior; Laplace 1774).
/// A bin that holds several values makes it larger than it is. `None` for an empty side.
pub fn p_value(counts_of_reference: &[u64], n: u64) -> Option<f64> {
    let total = counts_of_reference.iter().try_fold(0u64, |total, count| total.checked_add(*count))?;
    let drawn = total.checked_add(1)?.checked_add(n)?;
    if total == 0 || n == 0 {
        return None;
    }
    let all = ln_binomial(drawn, n);
    let in_one = |count: &u64| (ln_binomial(*count + n, n) - all).exp();
    Some(counts_of_reference.iter().filter(|count| **count > 0).map(in_one).sum::<f64>().min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_is_always_constant_and_many_of_an_even_split_are_not() {
        assert!((p_value(&[50, 50], 1).unwrap() - 1.0).abs() < 1e-12);
        // (51/102 * 52/103) twice.
        let expected = 2.0 * (51.0 / 102.0) * (52.0 / 103.0);
        assert!((p_value(&[50, 50], 2).unwrap() - expected).abs() < 1e-12);
        assert!(p_value(&[50, 50], 60).unwrap() < 1e-8);
    }

    #[test]
    fn a_nearly_constant_reference_allows_constant_windows() {
        assert!(p_value(&[99_990, 10], 500).unwrap() > 0.9);
        assert_eq!(p_value(&[], 5), None);
    }
}
