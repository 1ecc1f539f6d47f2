//! All statistics of a categorical feature, reference counts against window counts, under the keys of
//! docs/statistics.md.

use super::histogram::shares;
use super::numeric::{Depth, Metrics, put};
use crate::stats::chi_square::{contingency, contingency_yates, cramers_v, goodness_of_fit};
use crate::stats::evidently::fill_zeros;
use crate::stats::hellinger::hellinger_distance;
use crate::stats::jensen_shannon::jensen_shannon_distance;
use crate::stats::kullback_leibler::kullback_leibler_divergence;
use crate::stats::psi::{SCOUTER_FLOOR, SHARE_FLOOR, population_stability_index};
use crate::stats::total_variation::{largest_share_difference, total_variation_distance};

/// Rows per category on both sides, over one list of categories; a category may be absent from either or both.
#[derive(Debug, Clone, Copy)]
pub struct CategoryCounts<'a> {
    pub reference: &'a [u64],
    pub window: &'a [u64],
    /// Rows with and without a value.
    pub reference_rows: u64,
    pub window_rows: u64,
}

/// Every metric of one window.
pub fn compare_categories(counts: CategoryCounts<'_>, depth: Depth) -> Metrics {
    let (reference, window): (Vec<u64>, Vec<u64>) =
        counts.reference.iter().zip(counts.window).filter(|(r, w)| **r + **w > 0).unzip();
    let (n_ref, n): (u64, u64) = (reference.iter().sum(), window.iter().sum());
    let missing_rate = |rows: u64, n: u64| (rows > 0).then(|| (rows - n) as f64 / rows as f64);
    let mut metrics: Metrics = vec![
        ("n_ref", Some(n_ref as f64)),
        ("n", Some(n as f64)),
        ("missing_rate_ref", missing_rate(counts.reference_rows, n_ref)),
        ("missing_rate", missing_rate(counts.window_rows, n)),
    ];
    if n_ref == 0 || n == 0 {
        return metrics;
    }
    count_categories(&reference, &window, &mut metrics);
    let (p, q) = (shares(&reference, n_ref), shares(&window, n));
    put(&mut metrics, "psi", population_stability_index(&p, &q, SHARE_FLOOR));
    put(&mut metrics, "js", jensen_shannon_distance(&p, &q, 2.0));
    if let Some(test) = contingency(&reference, &window) {
        put(&mut metrics, "chi2", test.statistic);
        put(&mut metrics, "chi2_p", test.p_value);
        put(&mut metrics, "chi2_dof", test.dof as f64);
        put(&mut metrics, "cramers_v", cramers_v(test.statistic, n_ref, n));
    }
    if depth >= Depth::Full {
        compare_further(&reference, &window, counts, &mut metrics);
    }
    metrics
}

fn count_categories(reference: &[u64], window: &[u64], metrics: &mut Metrics) {
    let both = || reference.iter().zip(window);
    let n: u64 = window.iter().sum();
    let unseen_rows: u64 = both().filter(|(r, _)| **r == 0).map(|(_, w)| w).sum();
    let count = |wanted: fn(u64, u64) -> bool| both().filter(|(r, w)| wanted(**r, **w)).count() as f64;
    put(metrics, "cardinality_ref", count(|r, _| r > 0));
    put(metrics, "cardinality", count(|_, w| w > 0));
    put(metrics, "unseen_categories", count(|r, w| r == 0 && w > 0));
    put(metrics, "unseen_rate", unseen_rows as f64 / n as f64);
    put(metrics, "lost_categories", count(|r, w| r > 0 && w == 0));
}

fn compare_further(reference: &[u64], window: &[u64], counts: CategoryCounts<'_>, metrics: &mut Metrics) {
    let (n_ref, n): (u64, u64) = (reference.iter().sum(), window.iter().sum());
    let (p, q) = (shares(reference, n_ref), shares(window, n));
    put(metrics, "psi_eps1e6", population_stability_index(&p, &q, 1e-6));
    let with_missing = |counts: &[u64], n: u64, rows: u64| {
        let mut counts = counts.to_vec();
        counts.push(rows - n);
        shares(&counts, rows)
    };
    let p_rows = with_missing(reference, n_ref, counts.reference_rows);
    let q_rows = with_missing(window, n, counts.window_rows);
    put(metrics, "psi_missbin", population_stability_index(&p_rows, &q_rows, SHARE_FLOOR));
    // Scouter has bins for the reference's categories only, as shares of all values.
    let listed = p.iter().zip(&q).filter(|(before, _)| **before > 0.0).map(|(before, now)| (*before, *now));
    let (p_listed, q_listed): (Vec<f64>, Vec<f64>) = listed.unzip();
    let scouter = population_stability_index(&p_listed, &q_listed, SCOUTER_FLOOR);
    put(metrics, "psi_scouter", scouter);
    put(metrics, "psi_evidently", population_stability_index(&fill_zeros(&p), &fill_zeros(&q), 0.0));
    put(metrics, "js_base_e", jensen_shannon_distance(&p, &q, std::f64::consts::E));
    put(metrics, "hellinger", hellinger_distance(&p, &q));
    put(metrics, "tv", total_variation_distance(&p, &q));
    put(metrics, "linf", largest_share_difference(&p, &q));
    put(metrics, "kl_cur_ref", kullback_leibler_divergence(&p, &q, SHARE_FLOOR));
    put(metrics, "kl_ref_cur", kullback_leibler_divergence(&q, &p, SHARE_FLOOR));
    if let Some(test) = contingency_yates(reference, window) {
        put(metrics, "chi2_yates", test.statistic);
        put(metrics, "chi2_yates_p", test.p_value);
    }
    if let Some(test) = goodness_of_fit(reference, window) {
        put(metrics, "chi2_gof", test.statistic);
        put(metrics, "chi2_gof_p", test.p_value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(reference: &[u64], window: &[u64], rows: (u64, u64)) -> Metrics {
        let counts = CategoryCounts { reference, window, reference_rows: rows.0, window_rows: rows.1 };
        compare_categories(counts, Depth::Full)
    }

    fn value(metrics: &Metrics, key: &str) -> Option<f64> {
        metrics.iter().find(|(name, _)| *name == key).unwrap_or_else(|| panic!("no {key}")).1
    }

    #[test]
    fn an_unseen_category_counts_by_the_floor() {
        let metrics = compare(&[10, 0], &[0, 10], (10, 10));
        for (key, expected) in [
            ("psi", Some(18.41883867587797)),
            ("psi_eps1e6", Some(27.63099348490743)),
            ("kl_cur_ref", Some(9.209419337938986)),
            ("chi2_yates", Some(16.2)),
            ("chi2_gof", None),
            ("chi2_gof_p", Some(0.0)),
            ("unseen_rate", Some(1.0)),
            ("lost_categories", Some(1.0)),
        ] {
            match (value(&metrics, key), expected) {
                (Some(ours), Some(expected)) => assert!((ours - expected).abs() < 1e-12, "{key}: {ours}, {expected}"),
                (ours, expected) => assert_eq!(ours, expected, "{key}"),
            }
        }
    }

    #[test]
    fn missing_rows_are_no_category() {
        let metrics = compare(&[50, 40, 0], &[5, 3, 0], (100, 10));
        assert_eq!(value(&metrics, "missing_rate_ref"), Some(0.1));
        assert_eq!(value(&metrics, "missing_rate"), Some(0.2));
        assert_eq!(value(&metrics, "unseen_categories"), Some(0.0));
        assert_eq!(value(&metrics, "cardinality"), Some(2.0));
    }

    #[test]
    fn one_category_leaves_nothing_to_test() {
        let metrics = compare(&[10], &[7], (10, 7));
        assert!(metrics.iter().all(|(key, _)| *key != "chi2"));
        assert_eq!(value(&metrics, "chi2_gof_p"), Some(1.0));
    }
}
