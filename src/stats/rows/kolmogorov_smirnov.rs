//! Two-sample Kolmogorov-Smirnov statistic, and nannyml's binned approximation of it.

use super::ecdf::{Step, ties};
use super::histogram::{counts_closed, linspace};
use super::sample::Sample;

/// Largest distance of the two empirical distribution functions, and where.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KolmogorovSmirnov {
    /// In [0, 1].
    pub statistic: f64,
    /// A value at which the distance is reached; where several do, the one `scipy.stats.ks_2samp` names.
    pub location: f64,
}

/// `None` where a side is empty.
pub fn kolmogorov_smirnov(steps: &[Step]) -> Option<KolmogorovSmirnov> {
    let last = steps.last()?;
    if last.reference == 0 || last.window == 0 {
        return None;
    }
    let (reference_total, window_total) = (last.reference as f64, last.window as f64);
    let mut highest = (f64::NEG_INFINITY, f64::NAN);
    // scipy looks at the reference's values first, then at the window's: of equally low distances it names the
    // first in that order
    let mut lowest_at_reference = (f64::INFINITY, f64::NAN);
    let mut lowest_at_window_only = (f64::INFINITY, f64::NAN);
    let mut previous = 0;
    for step in steps {
        let distance = step.reference as f64 / reference_total - step.window as f64 / window_total;
        let lowest = if step.reference > previous {
            if distance > highest.0 {
                highest = (distance, step.value);
            }
            &mut lowest_at_reference
        } else {
            &mut lowest_at_window_only
        };
        if distance < lowest.0 {
            *lowest = (distance, step.value);
        }
        previous = step.reference;
    }
    let lowest =
        if lowest_at_reference.0 <= lowest_at_window_only.0 { lowest_at_reference } else { lowest_at_window_only };
    let depth = (-lowest.0).clamp(0.0, 1.0);
    let (statistic, location) = if depth > highest.0 { (depth, lowest.1) } else { highest };
    Some(KolmogorovSmirnov { statistic, location })
}

/// Where and how many: the reference side of `binned`, computed once.
#[derive(Debug, Clone)]
pub struct BinnedReference {
    edges: Vec<f64>,
    cumulative: Vec<f64>,
}

impl BinnedReference {
    const BINS: usize = 10_000;

    /// Equal-width bins over the reference's range; `None` where that has no width.
    pub fn new(reference: &Sample) -> Option<Self> {
        if reference.n() == 0 || reference.max() <= reference.min() {
            return None;
        }
        let edges = linspace(reference.min(), reference.max(), Self::BINS);
        let cumulative = cumulative_shares(reference, &edges, 0.0);
        Some(Self { edges, cumulative })
    }
}

/// nannyml's approximation for large references: the distance at the right edges of 10 000 equal-width bins over the
/// reference's range. A single outlier in the reference makes it blind; given for comparison only.
pub fn binned(reference: &BinnedReference, window: &Sample) -> f64 {
    let below = window.count_below(reference.edges[0]) as f64 / window.n() as f64;
    cumulative_shares(window, &reference.edges, below)
        .iter()
        .zip(&reference.cumulative)
        .map(|(window, reference)| (reference - window).abs())
        .fold(0.0, f64::max)
}

fn cumulative_shares(sample: &Sample, edges: &[f64], start: f64) -> Vec<f64> {
    let total = sample.n() as f64;
    let mut sum = 0.0;
    counts_closed(sample.sorted(), edges)
        .into_iter()
        .map(|count| {
            sum += count as f64 / total;
            start + sum
        })
        .collect()
}

/// Sum over ties of t^3 - t, which the rank statistics correct for; t counts both samples.
pub fn tie_term(steps: &[Step]) -> f64 {
    ties(steps)
        .map(|(_, reference, window)| {
            let tied = (reference + window) as f64;
            tied * tied * tied - tied
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::rows::ecdf::merge;

    #[test]
    fn ties_are_taken_after_the_last_of_them() {
        let reference = [[0.0; 70].as_slice(), &[1.0; 30]].concat();
        let window = [[0.0; 40].as_slice(), &[1.0; 60]].concat();
        let ks = kolmogorov_smirnov(&merge(&reference, &window)).unwrap();
        assert!((ks.statistic - 0.3).abs() < 1e-15, "{} instead of 0.3", ks.statistic);
        assert_eq!(ks.location, 0.0);
    }

    #[test]
    fn a_window_below_the_reference_is_seen_too() {
        let ks = kolmogorov_smirnov(&merge(&[5.0; 20], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0])).unwrap();
        assert_eq!((ks.statistic, ks.location), (0.5, 4.0));
        assert_eq!(kolmogorov_smirnov(&merge(&[1.0], &[])), None);
    }

    #[test]
    fn bins_see_what_leaves_the_range() {
        let reference = Sample::new((0..20).map(f64::from));
        let window = Sample::new((-10..10).map(f64::from));
        let bins = BinnedReference::new(&reference).unwrap();
        let distance = binned(&bins, &window);
        assert!((distance - 0.5).abs() < 1e-12, "{distance} instead of 0.5");
        assert!(BinnedReference::new(&Sample::new([5.0, 5.0])).is_none());
    }
}
