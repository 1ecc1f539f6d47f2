//! Is a share of the window another share than that of the reference? Exact where counts are small.

use statrs::function::erf::erfc;
use statrs::function::factorial::ln_binomial;

/// Smallest expected count from which the normal approximation replaces the exact law, whose sum would have thousands
/// of terms. Measured against scipy's hypergeom at unequal sides: from 100 000 it is within 1% of p at p = 0.006, 2.5%
/// at 1e-4, 5% at 3e-6; from 1 000 it would be off by a quarter at 1e-4, and too small on one side.
const NORMAL_FROM: f64 = 100_000.0;

/// Beyond this, counts are forged, and sums of them overflow.
const MOST_ROWS: u64 = 1 << 62;

/// Two-sided probability of shares at least this far apart when `hits_reference` of `n_reference` and `hits` of `n`
/// come from one population: twice the smaller tail of Fisher's exact test (a z-test calls one null in a window
/// significant at 1e-20 where the reference has none; the exact law says n / (n + n_reference)). `None` where a side
/// is empty.
pub fn two_sided_p(hits_reference: u64, n_reference: u64, hits: u64, n: u64) -> Option<f64> {
    let upper = upper_tail_p(hits_reference, n_reference, hits, n)?;
    let misses = n.checked_sub(hits)?;
    let lower = upper_tail_p(n_reference.checked_sub(hits_reference)?, n_reference, misses, n)?;
    Some((2.0 * upper.min(lower)).min(1.0))
}

/// One-sided: probability of at least `hits` in the window, given the hits of both sides together. `None` where a
/// side is empty or has more hits than rows.
pub fn upper_tail_p(hits_reference: u64, n_reference: u64, hits: u64, n: u64) -> Option<f64> {
    if n_reference == 0 || n == 0 || hits_reference > n_reference || hits > n {
        return None;
    }
    let all = n_reference.checked_add(n).filter(|all| *all <= MOST_ROWS)?;
    let all_hits = hits_reference + hits;
    if hits == 0 || all_hits == all {
        return Some(1.0);
    }
    let share = all_hits as f64 / all as f64;
    let expected = share * n as f64;
    let expected_reference = share * n_reference as f64;
    let smallest =
        expected.min(n as f64 - expected).min(expected_reference).min(n_reference as f64 - expected_reference);
    if smallest >= NORMAL_FROM {
        let deviation = (share * (1.0 - share) * n as f64 * (n_reference as f64 / all as f64)).sqrt();
        // Continuity correction: at least `hits` starts half a count below it.
        let z = (hits as f64 - 0.5 - expected) / deviation;
        return Some(0.5 * erfc(z / std::f64::consts::SQRT_2));
    }
    Some(hypergeometric_upper_tail(hits, n, all_hits, all))
}

/// P(X >= hits), X hits among `n` drawn from `all` of which `all_hits` are hits.
fn hypergeometric_upper_tail(hits: u64, n: u64, all_hits: u64, all: u64) -> f64 {
    let misses = all - all_hits;
    let probability = |x: u64| (ln_binomial(all_hits, x) + ln_binomial(misses, n - x) - ln_binomial(all, n)).exp();
    let ratio_up = |x: u64| {
        // P(x + 1) / P(x)
        (all_hits - x) as f64 / (x + 1) as f64 * ((n - x) as f64 / (misses + x + 1 - n) as f64)
    };
    let (lowest, highest) = (n.saturating_sub(misses), n.min(all_hits));
    let mean = n as f64 * (all_hits as f64 / all as f64);
    if hits <= lowest {
        return 1.0;
    }
    if hits as f64 > mean {
        // Terms fall from here on: sum upwards until they no longer matter.
        let (mut term, mut sum, mut x) = (probability(hits), 0.0, hits);
        while x <= highest {
            sum += term;
            if x == highest || term <= sum * 1e-17 {
                break;
            }
            term *= ratio_up(x);
            x += 1;
        }
        return sum.min(1.0);
    }
    // Below the mean the complement is the short sum: P(X <= hits - 1), downwards.
    let (mut term, mut sum, mut x) = (probability(hits - 1), 0.0, hits - 1);
    loop {
        sum += term;
        if x == lowest || term <= sum * 1e-17 {
            break;
        }
        x -= 1;
        term /= ratio_up(x);
    }
    (1.0 - sum).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_counts_equal_fishers_exact_test() {
        let ours = upper_tail_p(1, 100_000, 3, 1_000).unwrap();
        let scipy = 3.842177795957368e-06;
        assert!((ours / scipy - 1.0).abs() < 1e-7, "ours {ours}, scipy {scipy}");
    }

    #[test]
    fn one_null_in_a_window_is_no_news() {
        let p = two_sided_p(0, 100_000, 1, 1_000).unwrap();
        let expected = 2.0 * 1_000.0 / 101_000.0;
        assert!((p / expected - 1.0).abs() < 1e-6, "ours {p}, expected {expected}");
    }

    #[test]
    fn the_normal_approximation_meets_the_exact_law() {
        // scipy: hypergeom.sf(101086, 22000000, 1100000, 2000000)
        let scipy = 0.00011130939783458205;
        let exact = hypergeometric_upper_tail(101_087, 2_000_000, 1_100_000, 22_000_000);
        assert!((exact / scipy - 1.0).abs() < 1e-6, "ours {exact}, scipy {scipy}");
        let normal = upper_tail_p(998_913, 20_000_000, 101_087, 2_000_000).unwrap();
        assert!((normal / scipy - 1.0).abs() < 0.025 && normal != exact, "normal {normal}, scipy {scipy}");
    }

    #[test]
    fn equal_shares_and_impossible_counts() {
        assert_eq!(two_sided_p(10, 100, 10, 100), Some(1.0));
        assert_eq!(two_sided_p(0, 100, 0, 100), Some(1.0));
        assert_eq!(two_sided_p(100, 100, 50, 50), Some(1.0));
        assert_eq!(two_sided_p(1, 0, 1, 5), None);
        assert_eq!(upper_tail_p(0, 10, 6, 5), None);
    }

    #[test]
    fn tails_are_symmetric_in_direction() {
        let more = two_sided_p(100, 10_000, 40, 1_000).unwrap();
        let fewer = two_sided_p(9_900, 10_000, 960, 1_000).unwrap();
        assert!((more / fewer - 1.0).abs() < 1e-6, "more hits {more}, fewer misses {fewer}");
        assert!(more < 1e-8, "{more}");
    }
}
