//! Pearson's chi-square on counts: two samples of the same law (contingency), or a sample of a known law.

use statrs::function::gamma::checked_gamma_ur;

/// A chi-square statistic with its degrees of freedom and p-value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChiSquare {
    pub statistic: f64,
    pub dof: u64,
    /// Probability of a statistic at least this large when nothing has drifted.
    pub p_value: f64,
}

/// Test of a 2 x K contingency table, no continuity correction, dof = K - 1. Bins that are empty on both sides are
/// left out; `None` where a side is empty or fewer than two bins remain.
pub fn contingency(reference_counts: &[u64], window_counts: &[u64]) -> Option<ChiSquare> {
    tabulate(reference_counts, window_counts, |_| 0.0)
}

/// The same with Yates' continuity correction where dof = 1: `|observed - expected|` is reduced by 0.5, not below 0.
pub fn contingency_yates(reference_counts: &[u64], window_counts: &[u64]) -> Option<ChiSquare> {
    tabulate(reference_counts, window_counts, |dof| if dof == 1 { 0.5 } else { 0.0 })
}

fn tabulate(reference_counts: &[u64], window_counts: &[u64], correction_for: impl Fn(u64) -> f64) -> Option<ChiSquare> {
    let reference_total: u64 = reference_counts.iter().sum();
    let window_total: u64 = window_counts.iter().sum();
    let table = || reference_counts.iter().zip(window_counts).filter(|(r, w)| **r + **w > 0);
    let columns = table().count() as u64;
    if reference_total == 0 || window_total == 0 || columns < 2 {
        return None;
    }
    let dof = columns - 1;
    let correction = correction_for(dof);
    let total = (reference_total + window_total) as f64;
    let (reference_share, window_share) = (reference_total as f64 / total, window_total as f64 / total);
    let cell = |observed: u64, expected: f64| {
        let distance = (observed as f64 - expected).abs();
        let corrected = distance - correction.min(distance);
        corrected * corrected / expected
    };
    let statistic: f64 = table()
        .map(|(&reference, &window)| {
            let column = (reference + window) as f64;
            cell(reference, column * reference_share) + cell(window, column * window_share)
        })
        .sum();
    Some(ChiSquare { statistic, dof, p_value: survival(statistic, dof as f64) })
}

/// Goodness of fit of the window to the reference's shares taken as exact. A category that the reference does not
/// have makes the statistic infinite and p zero. `bins` counts those that are not empty on both sides; dof is
/// `bins - 1`, and 1 where there is a single bin.
pub fn goodness_of_fit(reference_counts: &[u64], window_counts: &[u64]) -> Option<ChiSquare> {
    let reference_total: u64 = reference_counts.iter().sum();
    let window_total: u64 = window_counts.iter().sum();
    if reference_total == 0 || window_total == 0 {
        return None;
    }
    let mut statistic = 0.0;
    let mut bins = 0;
    for (&reference, &window) in reference_counts.iter().zip(window_counts) {
        if reference + window == 0 {
            continue;
        }
        bins += 1;
        let expected = reference as f64 / reference_total as f64 * window_total as f64;
        statistic += if reference == 0 { f64::INFINITY } else { (window as f64 - expected).powi(2) / expected };
    }
    let dof = (bins - 1).max(1);
    Some(ChiSquare { statistic, dof, p_value: survival(statistic, dof as f64) })
}

/// Cramer's V of a 2 x K table: `sqrt(chi2 / rows)`, in [0, 1].
pub fn cramers_v(statistic: f64, n_reference: u64, n: u64) -> f64 {
    (statistic / (n_reference + n) as f64).sqrt()
}

/// P(X >= statistic) of the chi-square law: the regularised upper incomplete gamma function Q(dof/2, statistic/2).
pub fn survival(statistic: f64, dof: f64) -> f64 {
    if statistic.is_nan() || dof.is_nan() {
        return f64::NAN;
    }
    if statistic <= 0.0 {
        return 1.0;
    }
    if statistic.is_infinite() {
        return 0.0;
    }
    checked_gamma_ur(dof / 2.0, statistic / 2.0).map_or(f64::NAN, |p| p.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(ours: f64, expected: f64) {
        assert!((ours - expected).abs() <= 1e-12 * expected.abs().max(1e-300), "{ours} instead of {expected}");
    }

    #[test]
    fn all_categories_unseen_gives_the_number_of_rows() {
        let test = contingency(&[10, 0], &[0, 10]).unwrap();
        close(test.statistic, 20.0);
        assert_eq!(test.dof, 1);
        // scipy.stats.chi2.sf(20, 1)
        close(test.p_value, 7.744216431044088e-06);
        let yates = contingency_yates(&[10, 0], &[0, 10]).unwrap();
        close(yates.statistic, 16.2);
        close(yates.p_value, 5.699411623331848e-05);
    }

    #[test]
    fn a_bin_empty_on_both_sides_changes_nothing() {
        assert_eq!(contingency(&[5, 0, 9], &[7, 0, 3]), contingency(&[5, 9], &[7, 3]));
        assert_eq!(contingency(&[5, 0], &[7, 0]), None);
        assert_eq!(contingency(&[5, 1], &[0, 0]), None);
    }

    #[test]
    fn a_category_unknown_to_the_reference_cannot_fit() {
        let test = goodness_of_fit(&[10, 0], &[9, 1]).unwrap();
        assert_eq!((test.statistic, test.p_value), (f64::INFINITY, 0.0));
    }

    #[test]
    fn survival_holds_in_the_tail_and_at_many_degrees() {
        // scipy.stats.chi2.sf
        for (statistic, dof, expected) in [
            (1.0, 1.0, 0.31731050786291415),
            (300.0, 2.0, 7.175095973164448e-66),
            (1000.0, 1000.0, 0.49405285382923964),
            (1300.0, 1000.0, 3.8897364994868366e-10),
            (3000.0, 1000.0, 1.6436845843568014e-198),
        ] {
            let ours = survival(statistic, dof);
            assert!((ours / expected - 1.0).abs() <= 1e-9, "sf({statistic}, {dof}) = {ours} instead of {expected}");
        }
    }
}
