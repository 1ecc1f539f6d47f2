//! Two-sample Anderson-Darling test (Scholz and Stephens, 1987), mid-rank version.

use super::ecdf::{Step, ties};

/// Critical values of the normalised statistic for two samples are `B0 + B1 + B2` at these significance levels
/// (Scholz and Stephens, table 1, with one degree of freedom).
const LEVELS: [f64; 7] = [0.25, 0.1, 0.05, 0.025, 0.01, 0.005, 0.001];
const B0: [f64; 7] = [0.675, 1.281, 1.645, 1.96, 2.326, 2.573, 3.085];
const B1: [f64; 7] = [-0.245, 0.25, 0.678, 1.149, 1.822, 2.364, 3.615];
const B2: [f64; 7] = [-0.105, -0.305, -0.362, -0.391, -0.396, -0.345, -0.154];

/// Normalised statistic `(A2 - 1) / sigma`, and p interpolated between the published levels, so in [0.001, 0.25].
/// `None` below four rows, for an empty side, and where all values are equal.
pub fn anderson_darling(steps: &[Step]) -> Option<(f64, f64)> {
    let last = steps.last()?;
    let rows = last.reference + last.window;
    if last.reference == 0 || last.window == 0 || rows < 4 || steps.len() < 2 {
        return None;
    }
    let statistic = (mid_rank_statistic(steps) - 1.0) / variance(last.reference, last.window).sqrt();
    Some((statistic, p_value(statistic)))
}

fn mid_rank_statistic(steps: &[Step]) -> f64 {
    let Some(last) = steps.last() else { return f64::NAN };
    let (nx, ny) = (last.reference as f64, last.window as f64);
    let rows = nx + ny;
    let (mut reference_before, mut window_before) = (0.0, 0.0);
    let (mut reference_sum, mut window_sum) = (0.0, 0.0);
    for (_, reference, window) in ties(steps) {
        let (reference, window) = (reference as f64, window as f64);
        let tied = reference + window;
        let pooled = reference_before + window_before + tied / 2.0;
        let weight = tied / rows / (pooled * (rows - pooled) - rows * tied / 4.0);
        reference_sum += weight * (rows * (reference_before + reference / 2.0) - pooled * nx).powi(2);
        window_sum += weight * (rows * (window_before + window / 2.0) - pooled * ny).powi(2);
        reference_before += reference;
        window_before += window;
    }
    (reference_sum / nx + window_sum / ny) * (rows - 1.0) / rows
}

/// Variance of A2 under no difference, k = 2 samples (Scholz and Stephens, equation 4).
fn variance(n_reference: u64, n: u64) -> f64 {
    const K: f64 = 2.0;
    let rows = n_reference + n;
    let capital_h = 1.0 / n_reference as f64 + 1.0 / n as f64;
    let mut h = 0.0;
    let mut g = 0.0;
    // g = sum over i < j < rows of 1 / ((rows - i) j), accumulated from the short sums up
    for i in 1..rows - 1 {
        h += 1.0 / (rows - i) as f64;
        g += h / (i + 1) as f64;
    }
    h += 1.0;
    let size = rows as f64;
    let a = (4.0 * g - 6.0) * (K - 1.0) + (10.0 - 6.0 * g) * capital_h;
    let b = (2.0 * g - 4.0) * K * K + 8.0 * h * K + (2.0 * g - 14.0 * h - 4.0) * capital_h - 8.0 * h + 4.0 * g - 6.0;
    let c = (6.0 * h + 2.0 * g - 2.0) * K * K + (4.0 * h - 4.0 * g + 6.0) * K + (2.0 * h - 6.0) * capital_h + 4.0 * h;
    let d = (2.0 * h + 6.0) * K * K - 4.0 * h * K;
    (a * size.powi(3) + b * size.powi(2) + c * size + d) / ((size - 1.0) * (size - 2.0) * (size - 3.0))
}

/// ln p as a quadratic in the statistic, fitted by least squares through the published levels.
fn p_value(statistic: f64) -> f64 {
    let critical: [f64; 7] = std::array::from_fn(|i| B0[i] + B1[i] + B2[i]);
    if statistic < critical[0] {
        return LEVELS[0];
    }
    if statistic > critical[6] {
        return LEVELS[6];
    }
    let mean = critical.iter().sum::<f64>() / 7.0;
    let centred = critical.map(|x| x - mean);
    let ln_levels = LEVELS.map(f64::ln);
    let power = |k: i32| centred.iter().map(|x| x.powi(k)).sum::<f64>();
    let moment = |k: i32| centred.iter().zip(ln_levels).map(|(x, y)| x.powi(k) * y).sum::<f64>();
    let rows = [[power(0), power(1), power(2)], [power(1), power(2), power(3)], [power(2), power(3), power(4)]];
    let right = [moment(0), moment(1), moment(2)];
    let total = determinant(rows);
    let coefficient = |column: usize| {
        let mut replaced = rows;
        for (row, value) in replaced.iter_mut().zip(right) {
            row[column] = value;
        }
        determinant(replaced) / total
    };
    let x = statistic - mean;
    (coefficient(0) + coefficient(1) * x + coefficient(2) * x * x).exp()
}

fn determinant(m: [[f64; 3]; 3]) -> f64 {
    m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
        + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::rows::ecdf::merge;

    #[test]
    fn equals_scipy_without_and_with_ties() {
        let reference: Vec<f64> = (0..20).map(f64::from).collect();
        let window: Vec<f64> = (100..120).map(f64::from).collect();
        let (statistic, p) = anderson_darling(&merge(&reference, &window)).unwrap();
        assert!((statistic - 20.043912434676297).abs() < 1e-10, "{statistic}");
        assert_eq!(p, 0.001);
        let spread: Vec<f64> = (0..10).map(f64::from).collect();
        let (statistic, p) = anderson_darling(&merge(&[5.0; 20], &spread)).unwrap();
        assert!((statistic - 1.1800426316794583).abs() < 1e-11, "{statistic}");
        assert!((p - 0.10622670413272697).abs() < 1e-9, "{p}");
    }

    #[test]
    fn one_value_everywhere_is_no_test() {
        assert_eq!(anderson_darling(&merge(&[5.0; 20], &[5.0; 10])), None);
    }
}
