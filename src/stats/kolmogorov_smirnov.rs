//! Laws of the two-sample Kolmogorov-Smirnov statistic D, the largest distance of two empirical distributions.
//!
//! All take D in [0, 1] and the numbers of values on both sides, and give the probability of a distance at least
//! as large when both samples come from one continuous distribution (with ties the test is conservative). `NaN`
//! where a side is empty. With the effective number `en = n_reference n / (n_reference + n)`:
//! - `p_value_limit`: Kolmogorov's limit law at `sqrt(en) D`;
//! - `p_value_stephens`: the same at `(sqrt(en) + 0.12 + 0.11 / sqrt(en)) D` (Stephens, 1970), good from en of about 4;
//! - `p_value_asymptotic`: the exact one-sample law at `round(en)`, which is what `scipy.stats.ks_2samp` calls
//!   asymptotic.

mod binned;
mod one_sample;

pub use binned::{BinnedDistance, binned_distance};
pub use one_sample::one_sample_survival;

fn effective_number(n_reference: u64, n: u64) -> f64 {
    let (larger, smaller) = (n_reference.max(n) as f64, n_reference.min(n) as f64);
    larger * smaller / (larger + smaller)
}

/// Limit law after Stephens' correction for small samples.
pub fn p_value_stephens(statistic: f64, n_reference: u64, n: u64) -> f64 {
    let root = effective_number(n_reference, n).sqrt();
    kolmogorov_survival((root + 0.12 + 0.11 / root) * statistic)
}

/// Kolmogorov's limit law, uncorrected.
pub fn p_value_limit(statistic: f64, n_reference: u64, n: u64) -> f64 {
    kolmogorov_survival(effective_number(n_reference, n).sqrt() * statistic)
}

/// Exact one-sample law at the effective number rounded half to even; NaN where that is 0.
pub fn p_value_asymptotic(statistic: f64, n_reference: u64, n: u64) -> f64 {
    let rounded = effective_number(n_reference, n).round_ties_even();
    if rounded.is_nan() { f64::NAN } else { one_sample_survival(rounded as u64, statistic) }
}

/// Kolmogorov's Q(z) = P(K >= z) = 2 sum (-1)^(k-1) exp(-2 k^2 z^2); for small z by the theta transform, whose
/// terms vanish faster there.
pub fn kolmogorov_survival(z: f64) -> f64 {
    use std::f64::consts::PI;
    if z.is_nan() {
        return f64::NAN;
    }
    if z <= 0.0 {
        return 1.0;
    }
    if z < 1.0 {
        let step = -PI * PI / (8.0 * z * z);
        let cdf: f64 = (0..20).map(|k| (step * f64::from((2 * k + 1) * (2 * k + 1))).exp()).sum();
        return (1.0 - (2.0 * PI).sqrt() / z * cdf).clamp(0.0, 1.0);
    }
    let mut sum = 0.0;
    for k in 1..20_i32 {
        let term = (-2.0 * f64::from(k * k) * z * z).exp();
        sum += if k % 2 == 1 { term } else { -term };
        if term < 1e-20 * sum {
            break;
        }
    }
    (2.0 * sum).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_law_equals_published_values_on_both_branches() {
        // scipy.stats.kstwobign.sf
        for (z, expected) in [
            (0.2, 0.999999999999495),
            (0.5, 0.9639452436648751),
            (1.0, 0.26999967167735456),
            (1.5, 0.022217962616525127),
            (3.0, 3.045995948942526e-08),
        ] {
            let ours = kolmogorov_survival(z);
            assert!((ours / expected - 1.0).abs() < 1e-13, "Q({z}) = {ours} instead of {expected}");
        }
        assert_eq!(kolmogorov_survival(0.0), 1.0);
        assert_eq!(kolmogorov_survival(50.0), 0.0);
    }

    #[test]
    fn branches_meet() {
        let (below, above) = (kolmogorov_survival(1.0 - 1e-12), kolmogorov_survival(1.0));
        assert!((below - above).abs() < 1e-11, "{below} and {above}");
    }

    #[test]
    fn disjoint_samples_of_twenty() {
        // D = 1, en = 10; the values of the oracle's case "disjoint"
        for (ours, expected) in [
            (p_value_limit(1.0, 20, 20), 4.122307244877101e-09),
            (p_value_stephens(1.0, 20, 20), 5.546615975073734e-10),
        ] {
            assert!((ours / expected - 1.0).abs() < 1e-12, "{ours} instead of {expected}");
        }
        assert_eq!(p_value_asymptotic(1.0, 20, 20), 0.0);
    }

    #[test]
    fn no_values_no_probability() {
        assert!(p_value_limit(0.0, 0, 0).is_nan());
        assert!(p_value_asymptotic(1.0, 1, 1).is_nan(), "en = 0.5 rounds to 0");
    }
}
