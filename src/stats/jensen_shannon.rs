//! Jensen-Shannon distance: the root of the Jensen-Shannon divergence, a metric.
//!
//! Lin, Divergence measures based on the Shannon entropy (1991); Endres and Schindelin (2003).

use super::chi_square;

/// Distance of two sets of shares, in [0, 1] for base 2; both sides are first normalised to sum 1, 0 log 0 = 0.
/// NaN where a side sums to 0.
pub fn jensen_shannon_distance(reference: &[f64], window: &[f64], base: f64) -> f64 {
    debug_assert_eq!(reference.len(), window.len());
    if reference == window {
        return 0.0;
    }
    let (sum_reference, sum_window): (f64, f64) = (reference.iter().sum(), window.iter().sum());
    let divergence: f64 = reference
        .iter()
        .zip(window)
        .map(|(&p, &q)| {
            let (p, q) = (p / sum_reference, q / sum_window);
            let middle = 0.5 * (p + q);
            relative_entropy(p, middle) + relative_entropy(q, middle)
        })
        .sum();
    // Rounding can leave a divergence near 0 on the wrong side of it.
    (0.5 * divergence / base.ln()).max(0.0).sqrt()
}

fn relative_entropy(share: f64, middle: f64) -> f64 {
    if share > 0.0 { share * (share / middle).ln() } else { 0.0 }
}

/// Probability of a distance (base 2) at least this large under one distribution: to second order the divergence in
/// nats is an eighth of the population stability index, whose law is known.
pub fn p_value(distance_base2: f64, bins: usize, n_reference: u64, n: u64) -> Option<f64> {
    if bins < 2 || n_reference == 0 || n == 0 {
        return None;
    }
    let divergence_nats = distance_base2 * distance_base2 * std::f64::consts::LN_2;
    let scale = 1.0 / n_reference as f64 + 1.0 / n as f64;
    Some(chi_square::survival(8.0 * divergence_nats / scale, (bins - 1) as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_equals_scipy() {
        let ours = jensen_shannon_distance(&[0.1, 0.4, 0.5, 0.0], &[0.2, 0.4, 0.3, 0.1], 2.0);
        let scipy = 0.28369353838577394;
        assert!((ours - scipy).abs() < 1e-14, "ours {ours}, scipy {scipy}");
    }

    #[test]
    fn disjoint_sides_are_at_distance_one() {
        assert_eq!(jensen_shannon_distance(&[1.0, 0.0], &[0.0, 1.0], 2.0), 1.0);
        assert_eq!(jensen_shannon_distance(&[0.3, 0.7], &[0.3, 0.7], 2.0), 0.0);
    }
}
