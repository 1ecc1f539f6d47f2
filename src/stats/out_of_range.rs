//! How likely it is that so many new values lie outside of the range of old ones.

use statrs::function::factorial::ln_binomial;

/// Probability that at least `outside` of `n` values lie beyond the least or the greatest of `n_reference` others, all
/// drawn from one continuous distribution; whatever that is. `None` where a side is empty.
///
/// By symmetry the number outside has the law of the number of new values before the second old one in a random order
/// of all, so at least k are outside when the first k + 1 hold at most one old value (exceedances; Gumbel and
/// von Schelling 1950): `[C(n, k + 1) + N C(n, k)] / C(N + n, k + 1)`. Values tied with an end are inside, which makes
/// the true probability smaller.
pub fn p_value(outside: u64, n_reference: u64, n: u64) -> Option<f64> {
    let all = n_reference.checked_add(n)?;
    if n_reference == 0 || n == 0 || outside > n {
        return None;
    }
    if outside == 0 || n_reference == 1 {
        return Some(1.0);
    }
    let drawn = ln_binomial(all, outside + 1);
    let none_old = if outside < n { (ln_binomial(n, outside + 1) - drawn).exp() } else { 0.0 };
    let one_old = ((n_reference as f64).ln() + ln_binomial(n, outside) - drawn).exp();
    Some((none_old + one_old).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All orders of `n_reference` old and `n` new values, counted.
    fn counted(outside: u64, n_reference: u32, n: u32) -> f64 {
        let all = n_reference + n;
        let (mut hits, mut orders) = (0u32, 0u32);
        for order in (0u32..1 << all).filter(|order| order.count_ones() == n_reference) {
            orders += 1;
            let below = order.trailing_zeros();
            let above = all - (32 - order.leading_zeros());
            hits += u32::from(u64::from(below + above) >= outside);
        }
        f64::from(hits) / f64::from(orders)
    }

    #[test]
    fn equals_the_count_of_all_orders() {
        for (n_reference, n) in [(2, 3), (5, 4), (7, 7), (3, 9), (1, 4)] {
            for outside in 0..=u64::from(n) {
                let ours = p_value(outside, u64::from(n_reference), u64::from(n)).unwrap();
                let expected = counted(outside, n_reference, n);
                assert!((ours - expected).abs() < 1e-12, "{outside} of {n} against {n_reference}: {ours}, {expected}");
            }
        }
    }

    #[test]
    fn a_few_outside_of_many_are_no_news() {
        // 2 / 5001 of 1000 values are expected outside of 5000.
        assert!(p_value(1, 5_000, 1_000).unwrap() > 0.3);
        assert!(p_value(10, 5_000, 1_000).unwrap() < 1e-6);
        assert_eq!(p_value(1, 0, 5), None);
        assert_eq!(p_value(6, 5, 5), None);
    }
}
