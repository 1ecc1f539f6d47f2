//! Tests that may be looked at at any time: whenever one stops, its chance of a false alarm is at most what was promised.
//!
//! Each gives an e-value: under its null hypothesis the e-value is a supermartingale that starts at 1, so by Ville's
//! inequality it ever reaches 1 / alpha with a chance of at most alpha. `bernoulli` compares two rates, `categorical` two
//! distributions over categories, `normal_mixture` two means; `beta_binomial` bounds one rate. Definitions and sources are in
//! docs/scorer-traffic.md. E-values are kept as natural logarithms.
//!
//! To add a test: a file with its state (counts or log e-values, mergeable or folded block by block), what it is of, its
//! source, a simulation under the null hypothesis, and its figures by SciPy in `golden`.

pub mod bernoulli;
pub mod beta_binomial;
pub mod categorical;
pub mod normal_mixture;

/// The logarithm that an e-value has to reach for a chance of a false alarm.
pub fn log_threshold(alpha: f64) -> f64 {
    -alpha.ln()
}

/// Logarithm of the mean of e-values given by their logarithms: a mean of e-values is one again.
pub fn log_mean_exp(logs: &[f64]) -> f64 {
    let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !largest.is_finite() {
        return largest;
    }
    let sum: f64 = logs.iter().map(|log| (log - largest).exp()).sum();
    largest + (sum / logs.len() as f64).ln()
}

#[cfg(test)]
mod golden;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_e_values_does_not_overflow() {
        assert!((log_mean_exp(&[0.0, 3.0_f64.ln()]) - 2.0_f64.ln()).abs() < 1e-15);
        assert!((log_mean_exp(&[2_000.0, 2_000.0]) - 2_000.0).abs() < 1e-12);
        assert!((log_threshold(0.05) - 20.0_f64.ln()).abs() < 1e-15);
    }
}
