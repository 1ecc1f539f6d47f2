//! Kullback-Leibler divergence, natural logarithm.

use super::psi;

/// `sum q ln(q / p)`: what coding the window by the reference's shares costs, in nats. Shares below the floor
/// are raised to it and not renormalised. Swap the arguments for the other direction.
pub fn kullback_leibler_divergence(reference: &[f64], window: &[f64], floor: f64) -> f64 {
    reference
        .iter()
        .zip(window)
        .map(|(&p, &q)| {
            let (p, q) = (p.max(floor), q.max(floor));
            q * (q / p).ln()
        })
        .sum()
}

/// Probability of a divergence at least this large under one distribution: to second order either direction is half
/// the population stability index, whose law is known.
pub fn p_value(divergence: f64, bins: usize, n_reference: u64, n: u64) -> Option<f64> {
    psi::p_value(2.0 * divergence, bins, n_reference, n)
}

/// Relative entropy of `first` to `second` after normalising both to sum 1. Every share must be positive.
pub fn relative_entropy(first: &[f64], second: &[f64]) -> f64 {
    let (first_total, second_total) = (first.iter().sum::<f64>(), second.iter().sum::<f64>());
    first
        .iter()
        .zip(second)
        .map(|(&p, &q)| {
            let (p, q) = (p / first_total, q / second_total);
            if p > 0.0 { p * (p / q).ln() } else { 0.0 }
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn direction_matters() {
        let (reference, window) = ([0.5, 0.5], [0.25, 0.75]);
        let forward = kullback_leibler_divergence(&reference, &window, 1e-4);
        let expected = 0.25 * 0.5_f64.ln() + 0.75 * 1.5_f64.ln();
        assert!((forward - expected).abs() < 1e-15, "{forward} instead of {expected}");
        let backward = kullback_leibler_divergence(&window, &reference, 1e-4);
        let expected = 0.5 * 2.0_f64.ln() + 0.5 * (2.0_f64 / 3.0).ln();
        assert!((backward - expected).abs() < 1e-15, "{backward} instead of {expected}");
    }

    #[test]
    fn relative_entropy_does_not_depend_on_scale() {
        let (once, twice) = (relative_entropy(&[1.0, 3.0], &[2.0, 2.0]), relative_entropy(&[2.0, 6.0], &[0.5, 0.5]));
        assert!((once - twice).abs() < 1e-15, "{once} and {twice}");
    }
}
