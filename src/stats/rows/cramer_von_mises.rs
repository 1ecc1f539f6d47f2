//! Two-sample Cramer-von Mises test (Anderson, 1962), with mid-ranks.

use statrs::function::gamma::{gamma, ln_gamma};

use super::ecdf::{Step, ties};

/// T and its p-value from the limiting law after matching mean and variance (unreliable below about 1e-6). `None`
/// where a side has fewer than two values.
pub fn cramer_von_mises(steps: &[Step]) -> Option<(f64, f64)> {
    let last = steps.last()?;
    if last.reference < 2 || last.window < 2 {
        return None;
    }
    let (nx, ny) = (last.reference as f64, last.window as f64);
    let (mut reference_squares, mut window_squares) = (0.0, 0.0);
    let (mut reference_before, mut window_before) = (0_u64, 0_u64);
    for (_, reference, window) in ties(steps) {
        // all tied rows share one rank in the pooled sample, but are counted on within their own
        let pooled_before = (reference_before + window_before) as f64;
        let rank = pooled_before + ((reference + window) as f64 + 1.0) / 2.0;
        reference_squares += squared_rank_distances(rank, reference_before, reference);
        window_squares += squared_rank_distances(rank, window_before, window);
        reference_before += reference;
        window_before += window;
    }
    let u = nx * reference_squares + ny * window_squares;
    let (k, rows) = (nx * ny, nx + ny);
    let t = u / (k * rows) - (4.0 * k - 1.0) / (6.0 * rows);
    let mean = (1.0 + 1.0 / rows) / 6.0;
    let variance =
        (rows + 1.0) * (4.0 * k * rows - 3.0 * (nx * nx + ny * ny) - 2.0 * k) / (45.0 * rows * rows * 4.0 * k);
    let standardised = 1.0 / 6.0 + (t - mean) / (45.0 * variance).sqrt();
    let p = if standardised < 0.003 { 1.0 } else { (1.0 - limit_cdf(standardised)).max(0.0) };
    Some((t, p))
}

/// Sum of (rank - i)^2 over i = before + 1 ..= before + count, in closed form.
fn squared_rank_distances(rank: f64, before: u64, count: u64) -> f64 {
    let count = count as f64;
    let middle = before as f64 + (count + 1.0) / 2.0;
    count * (rank - middle).powi(2) + count * (count * count - 1.0) / 12.0
}

/// Distribution function of the limiting law (Csorgo and Faraway, 1996, equation 1.2).
///
/// The series is ended as scipy ends it, at the first term below 1e-7. What is left out is of that size, a little
/// more far out, where p is below 1e-5 and should be read as "very small" only.
fn limit_cdf(x: f64) -> f64 {
    const LAST_TERM: f64 = 1e-7;
    const MAX_TERMS: u32 = 1_000_000;
    let mut total = 0.0;
    for k in 0..MAX_TERMS {
        let index = f64::from(k);
        let y = 4.0 * index + 1.0;
        let q = y * y / (16.0 * x);
        let weight =
            (ln_gamma(index + 0.5) - ln_gamma(index + 1.0)).exp() / (std::f64::consts::PI.powf(1.5) * x.sqrt());
        let term = weight * y.sqrt() * scaled_bessel_k_quarter(q);
        total += term;
        if term < LAST_TERM {
            break;
        }
    }
    total
}

/// exp(-q) K_{1/4}(q), q > 0.
fn scaled_bessel_k_quarter(q: f64) -> f64 {
    if q < 2.0 { bessel_k_quarter_by_series(q) * (-q).exp() } else { scaled_bessel_k_quarter_by_integral(q) }
}

/// K = (I_{-1/4} - I_{1/4}) pi / (2 sin(pi/4)), both I by their power series; below 2 little cancels.
fn bessel_k_quarter_by_series(q: f64) -> f64 {
    const ORDER: f64 = 0.25;
    let quarter_square = q * q / 4.0;
    let power_series = |order: f64| {
        let mut term = (q / 2.0).powf(order) / gamma(order + 1.0);
        let mut sum = term;
        for m in 1..40 {
            term *= quarter_square / (f64::from(m) * (f64::from(m) + order));
            sum += term;
            if term < 1e-17 * sum {
                break;
            }
        }
        sum
    };
    let sine = (std::f64::consts::PI * ORDER).sin();
    std::f64::consts::FRAC_PI_2 * (power_series(-ORDER) - power_series(ORDER)) / sine
}

/// By the trapezoidal rule on `integral exp(-q (1 + cosh t)) cosh(t/4) dt`, which converges exponentially.
fn scaled_bessel_k_quarter_by_integral(q: f64) -> f64 {
    const INTERVALS: u32 = 60;
    let end = (1.0 + 45.0 / q).acosh();
    let width = end / f64::from(INTERVALS);
    let value = |t: f64| (-q * (1.0 + t.cosh())).exp() * (t / 4.0).cosh();
    let inner: f64 = (1..=INTERVALS).map(|i| value(f64::from(i) * width)).sum();
    width * (0.5 * value(0.0) + inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::rows::ecdf::merge;

    #[test]
    fn disjoint_samples_equal_scipy() {
        let reference: Vec<f64> = (0..20).map(f64::from).collect();
        let window: Vec<f64> = (100..120).map(f64::from).collect();
        let (t, p) = cramer_von_mises(&merge(&reference, &window)).unwrap();
        assert!((t - 3.3375).abs() < 1e-12, "{t}");
        assert!((p - 1.1199134064554528e-08).abs() < 1e-10, "{p}");
    }

    #[test]
    fn identical_samples_have_p_one() {
        let values: Vec<f64> = (1..=12).map(f64::from).collect();
        let (t, p) = cramer_von_mises(&merge(&values, &values)).unwrap();
        assert!(t.abs() < 1e-12, "{t}");
        assert!((p - 1.0).abs() < 1e-9, "{p}");
        assert_eq!(cramer_von_mises(&merge(&values, &[1.0])), None);
    }

    #[test]
    fn bessel_function_equals_tables() {
        // scipy.special.kv(0.25, q) * exp(-q)
        for (q, expected) in [(0.01, 6.104391113501434), (1.0, 0.15846030751445725), (5.0, 2.501329905299072e-05)] {
            let ours = scaled_bessel_k_quarter(q);
            assert!((ours / expected - 1.0).abs() < 1e-12, "q = {q}: {ours} instead of {expected}");
        }
        let (series, integral) = (bessel_k_quarter_by_series(2.0) * (-2.0_f64).exp(), scaled_bessel_k_quarter(2.0));
        assert!((series / integral - 1.0).abs() < 1e-12, "{series} and {integral}");
    }
}
