//! Exact law of the one-sample Kolmogorov-Smirnov statistic, P(D_n >= x).
//!
//! No single formula is both exact and cheap everywhere; which one serves where is the map of Simard and
//! L'Ecuyer (2011), "Computing the Two-Sided Kolmogorov-Smirnov Distribution", Journal of Statistical Software 39(11).

use std::f64::consts::PI;

use statrs::function::gamma::ln_gamma;

/// P(D_n >= x) for n values of a continuous distribution; NaN for n = 0.
pub fn one_sample_survival(n: u64, x: f64) -> f64 {
    if n == 0 || x.is_nan() {
        return f64::NAN;
    }
    if x >= 1.0 {
        return 0.0;
    }
    if x <= 0.0 {
        return 1.0;
    }
    let size = n as f64;
    let nx = size * x;
    let nx_squared = nx * x;
    if nx <= 0.5 {
        return 1.0;
    }
    if nx <= 1.0 {
        return (1.0 - ruben_gambino_cdf(n, nx)).clamp(0.0, 1.0);
    }
    if nx >= size - 1.0 {
        return (2.0 * (1.0 - x).powf(size)).clamp(0.0, 1.0);
    }
    if nx_squared >= 370.0 {
        return 0.0;
    }
    let one_sided_suffices = x >= 0.5 || nx_squared > if n <= 140 { 4.0 } else { 2.2 };
    if one_sided_suffices {
        return (2.0 * one_sided_survival(n, x)).clamp(0.0, 1.0);
    }
    let cdf =
        if n <= 140 || (n <= 100_000 && nx * x.sqrt() <= 1.4) { durbin_matrix_cdf(n, x) } else { pelz_good_cdf(n, x) };
    (1.0 - cdf).clamp(0.0, 1.0)
}

/// `n! / n^n (2 nx - 1)^n`, for 1/2 <= nx <= 1.
fn ruben_gambino_cdf(n: u64, nx: f64) -> f64 {
    let size = n as f64;
    (ln_gamma(size + 1.0) + size * ((2.0 * nx - 1.0).ln() - size.ln())).exp()
}

/// P(D_n+ >= x), Birnbaum and Tingey's sum `x sum_j C(n, j) (x + j/n)^(j-1) (1 - x - j/n)^(n-j)`.
///
/// For many values the summand is a smooth bump that vanishes with all its derivatives at both ends, so that
/// every h-th term times h gives the same sum to rounding (trapezoidal rule on a periodic function); its width is
/// about `n / (4 sqrt(n) x)` terms, and h leaves 16 terms to that width.
pub fn one_sided_survival(n: u64, x: f64) -> f64 {
    const EVERY_TERM_BELOW: u64 = 4_000;
    let stride = if n < EVERY_TERM_BELOW {
        1
    } else {
        let sixteenth_of_width = (n as f64).sqrt() / (64.0 * x);
        (sixteenth_of_width as u64).clamp(1, n / 1_000)
    };
    one_sided_sum(n, x, stride)
}

fn one_sided_sum(n: u64, x: f64, stride: u64) -> f64 {
    let size = n as f64;
    let last = (size * (1.0 - x)).floor() as u64;
    let ln_n_factorial = ln_gamma(size + 1.0);
    let mut sum = 0.0;
    let mut j = 0;
    while j <= last {
        let index = j as f64;
        let (above, below) = (x + index / size, 1.0 - x - index / size);
        let power_below =
            if below <= 0.0 { if j == n { 0.0 } else { f64::NEG_INFINITY } } else { (size - index) * below.ln() };
        let ln_binomial = ln_n_factorial - ln_gamma(index + 1.0) - ln_gamma(size - index + 1.0);
        sum += (ln_binomial + (index - 1.0) * above.ln() + power_below).exp();
        j += stride;
    }
    x * sum * stride as f64
}

/// Square matrix whose entries are true values times `2^-exponent`.
struct ScaledMatrix {
    size: usize,
    entries: Vec<f64>,
    exponent: i32,
}

const SCALE_BITS: i32 = 256;

impl ScaledMatrix {
    fn multiply(&self, other: &Self) -> Self {
        let size = self.size;
        let mut entries = vec![0.0; size * size];
        for row in 0..size {
            let target = &mut entries[row * size..(row + 1) * size];
            for inner in 0..size {
                let factor = self.entries[row * size + inner];
                if factor != 0.0 {
                    let source = &other.entries[inner * size..(inner + 1) * size];
                    for (cell, value) in target.iter_mut().zip(source) {
                        *cell += factor * value;
                    }
                }
            }
        }
        let mut product = Self { size, entries, exponent: self.exponent + other.exponent };
        let middle = product.entries[(size / 2) * size + size / 2];
        if middle > 2.0_f64.powi(SCALE_BITS) {
            let scale = 2.0_f64.powi(-SCALE_BITS);
            product.entries.iter_mut().for_each(|cell| *cell *= scale);
            product.exponent += SCALE_BITS;
        }
        product
    }
}

/// P(D_n <= x) as `n!/n^n` times the middle element of the n-th power of Durbin's matrix (Marsaglia, Tsang and
/// Wang, 2003). All entries are non-negative: nothing cancels.
fn durbin_matrix_cdf(n: u64, x: f64) -> f64 {
    let nx = n as f64 * x;
    let k = nx.ceil() as usize;
    let h = k as f64 - nx;
    let size = 2 * k - 1;
    let mut inverse_factorial = vec![1.0; size + 1];
    for i in 1..=size {
        inverse_factorial[i] = inverse_factorial[i - 1] / i as f64;
    }
    let mut entries = vec![0.0; size * size];
    for row in 0..size {
        for column in 0..size.min(row + 2) {
            entries[row * size + column] = inverse_factorial[row + 1 - column];
        }
    }
    let corner = (2.0 * h - 1.0).max(0.0).powi(size as i32) - 2.0 * h.powi(size as i32);
    for i in 0..size {
        let edge = (1.0 - h.powi(i as i32 + 1)) * inverse_factorial[i + 1];
        entries[i * size] = edge;
        entries[(size - 1) * size + (size - 1 - i)] = edge;
    }
    entries[(size - 1) * size] = (1.0 + corner) * inverse_factorial[size];

    let mut base = ScaledMatrix { size, entries, exponent: 0 };
    let mut power: Option<ScaledMatrix> = None;
    let mut remaining = n;
    while remaining > 0 {
        if remaining % 2 == 1 {
            power = Some(match power {
                Some(power) => power.multiply(&base),
                None => ScaledMatrix { size, entries: base.entries.clone(), exponent: base.exponent },
            });
        }
        remaining /= 2;
        if remaining > 0 {
            base = base.multiply(&base);
        }
    }
    let Some(power) = power else { return f64::NAN };
    let middle = power.entries[(k - 1) * size + k - 1];
    let mut ln_scale = f64::from(power.exponent) * std::f64::consts::LN_2;
    ln_scale += ln_gamma(n as f64 + 1.0) - n as f64 * (n as f64).ln();
    middle * ln_scale.exp()
}

/// P(D_n <= x) by the expansion of Pelz and Good (1976) in powers of 1/sqrt(n), each coefficient a theta series.
fn pelz_good_cdf(n: u64, x: f64) -> f64 {
    let root_n = (n as f64).sqrt();
    let z = root_n * x;
    let (z2, z4, z6, z8) = (z.powi(2), z.powi(4), z.powi(6), z.powi(8));
    let (pi2, pi4, pi6) = (PI.powi(2), PI.powi(4), PI.powi(6));
    let root_two_pi = (2.0 * PI).sqrt();
    let terms = (16.0 * z / PI).ceil() as u32 + 1;
    let mut k = [0.0_f64; 4];
    for i in (0..terms).rev() {
        // half-integers: s = (i + 1/2)^2 in Pelz and Good's series
        let s = (f64::from(i) + 0.5).powi(2);
        let weight = 2.0 * (-pi2 * s / (2.0 * z2)).exp();
        k[0] += weight;
        k[1] += weight * (pi2 * s - z2);
        k[2] += weight * (6.0 * z6 + 2.0 * z4 + pi2 * (2.0 * z4 - 5.0 * z2) * s + pi4 * (1.0 - 2.0 * z2) * s * s);
        k[3] += weight
            * (-30.0 * z6 - 90.0 * z8
                + pi2 * (135.0 * z4 - 96.0 * z6) * s
                + pi4 * (-60.0 * z2 + 212.0 * z4) * s * s
                + pi6 * (5.0 - 30.0 * z2) * s * s * s);
    }
    let (mut whole_second, mut whole_third) = (0.0, 0.0);
    for i in (1..=terms).rev() {
        let s = f64::from(i).powi(2);
        let weight = 2.0 * (-pi2 * s / (2.0 * z2)).exp();
        whole_second += weight * pi2 * s;
        whole_third += weight * (3.0 * pi2 * s * z2 - pi4 * s * s);
    }
    let half = root_two_pi / 2.0;
    let orders = [
        half / z * k[0],
        half / (6.0 * z4) * k[1],
        half / (72.0 * z.powi(7)) * k[2] - half / (36.0 * z.powi(3)) * whole_second,
        half / (6480.0 * z.powi(10)) * k[3] + half / (216.0 * z6) * whole_third,
    ];
    orders.iter().rev().fold(0.0, |sum, order| sum / root_n + order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_branch_equals_scipy() {
        // scipy.stats.kstwo.sf(x, n)
        for (x, n, expected) in [
            (0.3, 7, 0.46626387699002947),
            (0.12, 7, 0.999588559873074),
            (0.6, 20, 2.0483011649719853e-07),
            (0.1, 100, 0.2526927570063874),
            (0.2, 100, 0.0005551927327988775),
            (0.25, 100, 5.408871776434847e-06),
            (0.06, 100, 0.8428847956274123),
            (0.02, 5000, 0.03613941395325637),
            (0.003, 50000, 0.7579000443487147),
            (0.001, 30000, 1.0),
            (0.005, 30000, 0.4398876725102874),
            (0.02, 29200, 1.4102458331360016e-10),
            (0.0049, 29200, 0.48328521618012965),
            (0.08, 29200, 5.315024215573901e-163),
        ] {
            let ours = one_sample_survival(n, x);
            assert!((ours / expected - 1.0).abs() < 1e-8, "P(D_{n} >= {x}) = {ours} instead of {expected}");
        }
    }

    #[test]
    fn thinning_the_sum_changes_nothing() {
        for (n, x) in [(4_000, 0.0235), (10_000, 0.0149), (29_200, 0.02), (50_000, 0.01), (50_000, 0.08), (6_000, 0.2)]
        {
            let (thinned, full) = (one_sided_survival(n, x), one_sided_sum(n, x, 1));
            assert!((thinned / full - 1.0).abs() < 1e-10, "P(D+_{n} >= {x}): {thinned} and {full}");
        }
    }

    #[test]
    fn ends_are_certain() {
        assert_eq!(one_sample_survival(10, 0.0), 1.0);
        assert_eq!(one_sample_survival(10, 0.05), 1.0);
        assert_eq!(one_sample_survival(10, 1.0), 0.0);
        assert!(one_sample_survival(0, 0.5).is_nan());
    }
}
