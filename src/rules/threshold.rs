//! What `auto` stood for, as a number in the metric's own unit.
//!
//! `psi > auto` is decided by its p-value. The number shown is the size that this very change would have had at the
//! limit of significance: sums of squares such as the stability index grow with the square of a change, distances
//! with the change itself.

use crate::stats::metric::FeatureStats;
use crate::stats::null::normal::{LEAST_P, equivalent_of_p};

/// Threshold of `metric` at `level`, the largest p-value that is significant; `value` and `p_value` are those of the
/// window. `None` where the value does not say.
pub fn automatic(metric: &str, value: f64, p_value: f64, level: f64, stats: &FeatureStats) -> Option<f64> {
    if !(level > 0.0 && level < 1.0 && value > 0.0) {
        return None;
    }
    if metric == "drift" {
        return Some(-level.log10());
    }
    let shrunk = match stats.law.filter(|_| is_of_shares(metric)) {
        Some(law) if law.statistic > 0.0 => {
            // Two tests of one feature share its level; without a p-value to compare, both are taken to be there.
            let of_law = law.p_value();
            let tests = if of_law > LEAST_P { (p_value / of_law).max(1.0) } else { 2.0 };
            (law.critical(level / tests) / law.statistic).sqrt()
        }
        _ if p_value > LEAST_P && p_value < 1.0 => equivalent_of_p(level) / equivalent_of_p(p_value),
        _ => return None,
    };
    let threshold = if is_square(metric) { value * shrunk * shrunk } else { value * shrunk };
    Some(threshold).filter(|threshold| threshold.is_finite())
}

/// Tested by the shares of bins or categories, of which `FeatureStats::law` is the law.
fn is_of_shares(metric: &str) -> bool {
    matches!(
        metric,
        "psi" | "psi_eps1e6" | "psi_laplace05" | "js" | "hellinger" | "tv" | "kl_cur_ref" | "kl_ref_cur" | "cramers_v"
    ) || metric.starts_with("chi_square")
}

fn is_square(metric: &str) -> bool {
    ["psi", "kl", "chi_square"].iter().any(|square| metric.starts_with(square))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::null::{Inflation, NullLaw};

    #[test]
    fn a_threshold_parts_values_as_their_p_values_do() {
        let law = NullLaw::new(20.0, 9.0, Inflation::NONE);
        let stats = FeatureStats { law: Some(law), ..FeatureStats::default() };
        let p = law.p_value();
        for (metric, value) in [("psi", 0.02), ("js", 0.05), ("ks", 0.1)] {
            for level in [p * 0.5, p * 2.0] {
                let threshold = automatic(metric, value, p, level, &stats).unwrap();
                assert_eq!(value > threshold, p < level, "{metric}: threshold {threshold} at {level}");
            }
        }
    }

    #[test]
    fn an_index_of_many_rows_has_the_threshold_of_its_law() {
        // 10 bins, 100 000 rows a side: PSI is the statistic times 2e-5; chi-square with 9 degrees at 1e-4 is 33.7.
        let law = NullLaw::new(40_000.0, 9.0, Inflation::NONE);
        let stats = FeatureStats { law: Some(law), ..FeatureStats::default() };
        let threshold = automatic("psi", 0.8, 0.0, 2e-4, &stats).unwrap();
        assert!((threshold - 33.7 * 2e-5).abs() < 1e-5, "{threshold}");
        assert_eq!(automatic("drift", 300.0, 0.0, 1e-4, &stats), Some(4.0));
        assert_eq!(automatic("ks", 0.9, 0.0, 1e-4, &stats), None, "a probability of 0 says nothing of its limit");
    }
}
