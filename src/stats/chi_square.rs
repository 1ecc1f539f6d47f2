//! Pearson's chi-square test of homogeneity, reference against window.

use statrs::function::gamma::gamma_ur;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChiSquare {
    pub statistic: f64,
    /// Degrees of freedom: categories that occur on either side, less one.
    pub dof: u64,
    pub p_value: f64,
}

/// The 2 x K contingency table of counts per category, without Yates' correction. Categories absent from both sides
/// do not count. `None` where fewer than two categories are left or a side is empty.
pub fn contingency(reference_counts: &[u64], window_counts: &[u64]) -> Option<ChiSquare> {
    debug_assert_eq!(reference_counts.len(), window_counts.len());
    let n_reference = reference_counts.iter().sum::<u64>() as f64;
    let n = window_counts.iter().sum::<u64>() as f64;
    if n_reference == 0.0 || n == 0.0 {
        return None;
    }
    let (mut statistic, mut categories) = (0.0, 0u64);
    for (&observed_reference, &observed) in reference_counts.iter().zip(window_counts) {
        let total = observed_reference as f64 + observed as f64;
        if total == 0.0 {
            continue;
        }
        categories += 1;
        let expected_reference = total * (n_reference / (n_reference + n));
        let expected = total * (n / (n_reference + n));
        statistic += (observed_reference as f64 - expected_reference).powi(2) / expected_reference
            + (observed as f64 - expected).powi(2) / expected;
    }
    let dof = categories.checked_sub(1).filter(|dof| *dof > 0)?;
    Some(ChiSquare { statistic, dof, p_value: survival(statistic, dof as f64) })
}

/// Strength of association in [0, 1], free of the sample size: sqrt(statistic / (n_reference + n)) for two rows.
pub fn cramers_v(statistic: f64, n_reference: u64, n: u64) -> f64 {
    (statistic / (n_reference as f64 + n as f64)).sqrt()
}

/// Probability that a chi-square variable with `dof` > 0 degrees of freedom exceeds `statistic`.
pub fn survival(statistic: f64, dof: f64) -> f64 {
    // gamma_ur panics outside its domain, which a statistic of 0 or infinity lies on the edge of.
    if statistic.is_nan() || dof.is_nan() || dof <= 0.0 {
        return f64::NAN;
    }
    if statistic <= 0.0 {
        return 1.0;
    }
    if statistic.is_infinite() || dof.is_infinite() {
        return if dof.is_infinite() { 1.0 } else { 0.0 };
    }
    gamma_ur(dof / 2.0, statistic / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survival_equals_scipy() {
        for (statistic, dof, scipy) in [
            (3.84, 1.0, 0.05004352124870519),
            (16.9, 9.0, 0.0503051901243108),
            (250.0, 200.0, 0.009379131668826098),
            (900.0, 9.0, 6.186801032394592e-188),
            (4800.0, 5000.0, 0.9783403121346367),
        ] {
            let ours = survival(statistic, dof);
            assert!((ours / scipy - 1.0).abs() < 1e-9, "sf({statistic}, {dof}): ours {ours}, scipy {scipy}");
        }
        assert_eq!(survival(0.0, 3.0), 1.0);
        assert_eq!(survival(f64::INFINITY, 3.0), 0.0);
    }

    #[test]
    fn contingency_equals_scipy() {
        let ours = contingency(&[30, 50, 0, 20], &[25, 20, 0, 5]).unwrap();
        assert!((ours.statistic - 6.350649350649352).abs() < 1e-13, "ours {}", ours.statistic);
        assert!((ours.p_value - 0.04178053677321143).abs() < 1e-13, "ours {}", ours.p_value);
        assert_eq!(ours.dof, 2);
    }

    #[test]
    fn one_category_or_an_empty_side_has_no_test() {
        assert_eq!(contingency(&[5, 0], &[7, 0]), None);
        assert_eq!(contingency(&[5, 3], &[0, 0]), None);
    }
}
