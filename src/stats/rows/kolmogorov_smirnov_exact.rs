//! Exact two-sample law of the Kolmogorov-Smirnov statistic (Hodges, 1958), for continuous data.

/// P(D >= statistic) over all orders of `n_reference + n` values, by following lattice paths; takes about
/// `n_reference * n * statistic` steps. NaN where a side is empty.
///
/// `path(i, j)`, the probability that a random path to (i, j) has met the boundary, is the mean of its two
/// predecessors weighted by i and j; all terms are positive, so small probabilities stay accurate.
pub fn p_value_exact(statistic: f64, n_reference: u64, n: u64) -> f64 {
    let (larger, smaller) = (n_reference.max(n), n_reference.min(n));
    if smaller == 0 {
        return f64::NAN;
    }
    let divisor = greatest_common_divisor(larger, smaller);
    let (step_larger, step_smaller) = (larger / divisor, smaller / divisor);
    let boundary = (statistic * (step_larger * smaller) as f64).round() as i64;
    if boundary == 0 {
        return 1.0;
    }
    // inside: |i * step_smaller - j * step_larger| < boundary
    let (step_larger, step_smaller) = (step_larger as i64, step_smaller as i64);
    let columns = smaller as i64;
    let first_inside = |i: i64| ((i * step_smaller - boundary).div_euclid(step_larger) + 1).max(0);
    let last_inside = |i: i64| (i * step_smaller + boundary - 1).div_euclid(step_larger).min(columns);
    let mut path = vec![1.0; smaller as usize + 1];
    path[..=last_inside(0) as usize].fill(0.0);
    for i in 1..=larger as i64 {
        let (first, last) = (first_inside(i), last_inside(i));
        if first > last {
            return 1.0;
        }
        if first > 0 {
            path[first as usize - 1] = 1.0;
        }
        for j in first..=last {
            let from_below = path[j as usize] * i as f64;
            let from_left = if j == 0 { 0.0 } else { path[j as usize - 1] * j as f64 };
            path[j as usize] = (from_below + from_left) / (i + j) as f64;
        }
    }
    path[smaller as usize].clamp(0.0, 1.0)
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(ours: f64, expected: f64) {
        assert!((ours / expected - 1.0).abs() < 1e-10, "{ours} instead of {expected}");
    }

    #[test]
    fn disjoint_samples_have_two_orders_of_all() {
        // 2 / C(40, 20) and 2 / C(30, 10)
        close(p_value_exact(1.0, 20, 20), 1.4508889103849681e-11);
        close(p_value_exact(1.0, 20, 10), 6.656678320846238e-08);
        close(p_value_exact(1.0, 1, 1), 1.0);
    }

    #[test]
    fn unequal_samples_equal_scipy() {
        // scipy.stats.ks_2samp(method="exact")
        close(p_value_exact(0.84, 50, 1), 0.35294117647058826);
        close(p_value_exact(0.5, 20, 10), 0.062288669185220906);
        assert_eq!(p_value_exact(0.0, 12, 12), 1.0);
    }
}
