//! The normal and Student's laws, as two-sided probabilities.

use statrs::function::beta::checked_beta_reg;
use statrs::function::erf::{erf_inv, erfc, erfc_inv};

/// Probabilities below this are given as this: the smallest that has a finite normal equivalent.
pub const LEAST_P: f64 = 1e-300;

/// P(|Z| >= z).
pub fn two_sided_p(z: f64) -> f64 {
    erfc(z.abs() / std::f64::consts::SQRT_2)
}

/// The z >= 0 with P(|Z| >= z) = `p`, the inverse of [`two_sided_p`]; `p` in [0, 1], below [`LEAST_P`] taken as that.
pub fn equivalent_of_p(p: f64) -> f64 {
    match p {
        p if p >= 1.0 || p.is_nan() => 0.0,
        p => std::f64::consts::SQRT_2 * erfc_inv(p.max(LEAST_P)),
    }
}

/// The x with P(Z <= x) = `share`, for shares inside (0, 1).
pub fn quantile(share: f64) -> f64 {
    std::f64::consts::SQRT_2 * erf_inv(2.0 * share - 1.0)
}

/// P(|T| >= t) of Student's law with `dof` degrees of freedom, not necessarily whole; infinite: the normal law.
pub fn student_two_sided_p(t: f64, dof: f64) -> f64 {
    if dof > 1e7 {
        return two_sided_p(t);
    }
    // A ratio below the smallest double is a probability of 0.
    checked_beta_reg(dof / 2.0, 0.5, dof / (dof + t * t)).unwrap_or(0.0)
}

/// Density of |T| at t >= 0: twice that of T.
pub fn student_two_sided_density(t: f64, dof: f64) -> f64 {
    use statrs::function::gamma::ln_gamma;
    if dof > 1e7 {
        return (2.0 / std::f64::consts::PI).sqrt() * (-0.5 * t * t).exp();
    }
    let constant = ln_gamma((dof + 1.0) / 2.0) - ln_gamma(dof / 2.0) - 0.5 * (dof * std::f64::consts::PI).ln();
    2.0 * (constant - (dof + 1.0) / 2.0 * (t * t / dof).ln_1p()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_are_scipys() {
        // scipy.stats.norm.sf, scipy.stats.t.sf, doubled
        for (ours, scipy) in [
            (two_sided_p(4.0), 6.334248366623996e-05),
            (two_sided_p(-4.0), 6.334248366623996e-05),
            (student_two_sided_p(4.0, 23.0), 0.0005625419150716335),
            (student_two_sided_p(4.0, 1.0), 0.15595826075473857),
            (student_two_sided_p(4.0, f64::INFINITY), 6.334248366623996e-05),
        ] {
            assert!((ours / scipy - 1.0).abs() < 1e-6, "ours {ours}, scipy {scipy}");
        }
    }

    #[test]
    fn equivalents_and_tails_are_inverse() {
        for p in [1.0, 0.5, 1e-3, 5e-5, 1e-20, 1e-200] {
            let back = two_sided_p(equivalent_of_p(p));
            assert!((back / p - 1.0).abs() < 1e-6, "{p} comes back as {back}");
        }
        assert!(equivalent_of_p(0.0).is_finite());
        assert!((quantile(0.975) - 1.959963984540054).abs() < 1e-9);
    }

    #[test]
    fn the_density_integrates_to_the_tail() {
        for dof in [1.0, 5.0, 23.0, f64::INFINITY] {
            let step = 1e-3;
            let below: f64 =
                (0..3_000).map(|i| step * student_two_sided_density((f64::from(i) + 0.5) * step, dof)).sum();
            let expected = 1.0 - student_two_sided_p(3.0, dof);
            assert!((below - expected).abs() < 1e-6, "dof {dof}: {below} instead of {expected}");
        }
    }
}
