//! The laws under no drift that the vector statistics share.

use statrs::distribution::{ContinuousCDF, Normal};

use super::eigen::Symmetric;
use crate::stats::chi_square;

/// Sums of the eigenvalues of a covariance matrix, of their squares and of their cubes: all that
/// [`SquaredDistanceLaw::p_value`] needs of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SquaredDistanceLaw {
    pub traces: [f64; 3],
}

impl SquaredDistanceLaw {
    /// From rows of the reference. The traces of powers of a sample covariance are too large by what its noise adds;
    /// the leading terms of that are taken off (Gaussian moments of a Wishart matrix).
    pub fn of_rows(rows: &[Vec<f64>], dimension: usize) -> Self {
        let covariance = Symmetric::covariance(rows, dimension);
        let degrees = (rows.len() as f64 - 1.0).max(1.0);
        let first = covariance.trace();
        let (square, cube) = covariance.traces_of_powers();
        // No smaller than equal eigenvalues would give (Cauchy and Schwarz).
        let least = |power: i32| first.powi(power) / (dimension as f64).powi(power - 1);
        let second = ((square - first * first / degrees) / (1.0 + 1.0 / degrees)).max(least(2));
        let third = (cube - 3.0 * first * second / degrees - first.powi(3) / degrees.powi(2)).max(least(3));
        Self { traces: [first, second, third.max(second * second / first.max(f64::MIN_POSITIVE))] }
    }

    /// The law of rows that scatter `first` in all, in the proportions of this one's.
    pub fn scaled_to(&self, first: f64) -> Self {
        let [own, second, third] = self.traces;
        let ratio = if own > 0.0 { first.max(0.0) / own } else { 0.0 };
        Self { traces: [own * ratio, second * ratio.powi(2), third * ratio.powi(3)] }
    }

    /// Probability of a squared distance at least this large between the means of `n_reference` and `n` rows of one
    /// population. By the central limit theorem it is a sum of squared normals, weighted by the eigenvalues times
    /// 1/n_reference + 1/n; that sum is met in mean, variance and skewness by a shifted gamma law (Hall 1983,
    /// Buckley and Eagleson 1988). `None` where the reference does not scatter at all.
    pub fn p_value(&self, squared_distance: f64, n_reference: u64, n: u64) -> Option<f64> {
        let weight = 1.0 / n_reference as f64 + 1.0 / n as f64;
        let [first, second, third] = self.traces;
        if !(first > 0.0 && second > 0.0 && third > 0.0 && weight.is_finite()) {
            return None;
        }
        let (mean, variance) = (weight * first, 2.0 * weight * weight * second);
        let skewness = 8.0 * third / (2.0 * second).powf(1.5);
        Some(gamma_tails((squared_distance - mean) / variance.sqrt(), skewness).1)
    }
}

/// Probabilities of a value at most and at least `standardised`, under the gamma law (Pearson's type III) of mean
/// zero, variance one and this skewness; the normal law where it has none.
pub fn gamma_tails(standardised: f64, skewness: f64) -> (f64, f64) {
    /// Below this the two laws' tail probabilities at 3 standard deviations differ by less than 2% of themselves.
    const LEAST_SKEWNESS: f64 = 3e-3;
    if skewness < 0.0 {
        let (lower, upper) = gamma_tails(-standardised, -skewness);
        return (upper, lower);
    }
    if skewness < LEAST_SKEWNESS {
        let Ok(normal) = Normal::new(0.0, 1.0) else { return (1.0, 1.0) };
        return (normal.cdf(standardised), normal.sf(standardised));
    }
    let degrees = 8.0 / (skewness * skewness);
    let statistic = standardised * (2.0 * degrees).sqrt() + degrees;
    if statistic <= 0.0 {
        return (0.0, 1.0);
    }
    let upper = chi_square::survival(statistic, degrees);
    (1.0 - upper, upper)
}

/// Both tails, where either direction is drift.
pub fn two_sided((lower, upper): (f64, f64)) -> f64 {
    (2.0 * lower.min(upper)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::vector::arithmetic::Random;

    #[test]
    fn weighted_sums_of_squared_normals_exceed_their_quantiles_as_often_as_said() {
        let weights: Vec<f64> = (0..30).map(|at| 0.7f64.powi(at)).collect();
        let power = |exponent| weights.iter().map(|weight| weight.powi(exponent)).sum::<f64>();
        let law = SquaredDistanceLaw { traces: [power(1), power(2), power(3)] };
        let mut random = Random::new(7);
        let draws = 40_000;
        let mut below = [0; 2];
        for _ in 0..draws {
            let sum: f64 = weights.iter().map(|weight| weight * random.normal().powi(2)).sum();
            // 1/n_reference + 1/n = 1/50.
            let p = law.p_value(sum / 50.0, 100, 100).unwrap();
            below[0] += u32::from(p <= 0.05);
            below[1] += u32::from(p <= 0.01);
        }
        let shares = below.map(|count| f64::from(count) / f64::from(draws));
        assert!((0.045..0.055).contains(&shares[0]) && (0.008..0.012).contains(&shares[1]), "{shares:?}");
    }

    #[test]
    fn the_gamma_law_without_skewness_is_the_normal_one() {
        for at in [-3.0, -1.0, 0.0, 1.0, 2.5] {
            let (exact, near) = (gamma_tails(at, 0.0), gamma_tails(at, 3.1e-3));
            assert!((exact.0 - near.0).abs() < 1e-3 && (exact.1 - near.1).abs() < 1e-3, "{exact:?} {near:?}");
        }
        assert_eq!(gamma_tails(1.0, -0.5).0, gamma_tails(-1.0, 0.5).1);
    }

    #[test]
    fn traces_of_a_sample_are_those_of_its_population() {
        let mut random = Random::new(8);
        let spread: Vec<f64> = (0..40).map(|at| 0.9f64.powi(at)).collect();
        let rows: Vec<Vec<f64>> = (0..300).map(|_| spread.iter().map(|sd| sd * random.normal()).collect()).collect();
        let law = SquaredDistanceLaw::of_rows(&rows, 40);
        for (power, found) in (1..).zip(law.traces) {
            let expected: f64 = spread.iter().map(|sd| sd.powi(2 * power)).sum();
            assert!((found / expected - 1.0).abs() < 0.12, "trace of power {power}: {found} for {expected}");
        }
    }
}
