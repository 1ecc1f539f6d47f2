//! Where a reference cuts a numeric feature into bins.
//!
//! Bins are half open: bin of v = number of edges <= v, so a value on an edge belongs to the bin above it. Edges are
//!
//! - the 99 percentiles of the reference (type 7), among them those of 10, 20, 25 and 50 bins, so that the population
//!   stability index of these is exact;
//! - between them, edges at reference values so that no bin holds more than a thousandth of the reference: the
//!   Kolmogorov-Smirnov distance is then known within 1/1000 whatever the window looks like;
//! - around a value that alone holds more (a heavy tie), and around every value of a reference with few distinct ones:
//!   the value and the next double, a bin of its own;
//! - the next double after every tenth percentile, for bins that hold their upper edge, and after the 95th; ten bins of
//!   equal width; Doane's bins ([`Span`]): about 60 edges in all, so that statistics on these bins are exact too;
//! - in the tails, inside and beyond the reference's ends, edges at growing distances, so that how far out a value
//!   lies, and what left the range, is still measured.

/// Percentiles kept apart: every bin count that divides 100 is exact.
pub const PERCENTILES: u64 = 100;
/// Largest share of the reference in a bin that holds more than one value.
const FINEST_BINS: usize = 1_000;
/// A reference with at most this many distinct values has a bin for each of them: its statistics are exact. No fewer than
/// [`FINEST_BINS`], or the bins of a small reference would hold more than a thousandth each.
const MOST_DISTINCT_VALUES: usize = 1_000;
/// The furthest edge lies 2^12 times the reference's range beyond its end.
const TAIL_DOUBLINGS: u32 = 12;
/// How much further from the median each edge of the tails lies than the one before.
const GEOMETRIC_GROWTH: f64 = 1.25;
/// Most such edges on one side: at 1.25 they reach 10^15 times the middle of the reference.
const MOST_GEOMETRIC_EDGES: usize = 160;
/// Where the middle 90% of the reference is one value, the first such edge lies this share of its range away.
const LEAST_BULK: f64 = 1e-3;

use super::quantile::quantile_type7;
use super::span::Span;

/// Inner edges, ascending without duplicates, and percentiles 1 to 99 (with duplicates where values tie), of
/// finite `sorted` values. Both empty for an empty reference.
pub fn edges_and_percentiles(sorted: &[f64], span: Option<&Span>) -> (Vec<f64>, Vec<f64>) {
    let (Some(&min), Some(&max)) = (sorted.first(), sorted.last()) else { return (Vec::new(), Vec::new()) };
    let percentiles: Vec<f64> = (1..PERCENTILES).map(|i| finite_percentile(sorted, i)).collect();
    let mut edges = percentiles.clone();
    edges.extend(derived_edges(&percentiles, span));
    edges.extend(value_edges(sorted, &percentiles));
    edges.extend(tail_edges(positive_zero(min), positive_zero(max)));
    edges.extend(geometric_edges(min, max, &percentiles));
    edges.retain(|edge| edge.is_finite());
    edges.sort_unstable_by(f64::total_cmp);
    edges.dedup();
    (edges, percentiles)
}

/// Edges of bins that percentiles and ends fix: what a stored layout must have beside its percentiles.
pub fn derived_edges(percentiles: &[f64], span: Option<&Span>) -> Vec<f64> {
    let after = |percent: usize| percentiles.get(percent - 1).map(|percentile| positive_zero(percentile.next_up()));
    let mut edges: Vec<f64> = (1..10).map(|decile| 10 * decile).chain([95]).filter_map(after).collect();
    edges.extend(span.iter().flat_map(|span| [span.width_edges(), span.doane_edges()].concat()));
    edges.retain(|edge| edge.is_finite());
    edges
}

/// Inner edges of bins (lo, hi] at the deciles, as edges of bins [lo, hi): a value on a decile belongs to the bin below.
pub fn deciles_from_above(percentiles: &[f64]) -> Vec<f64> {
    let mut edges = quantile_edges(percentiles, 10);
    edges.iter_mut().for_each(|edge| *edge = positive_zero(edge.next_up()));
    edges
}

/// Inner edges of `bins` equally filled bins, out of the percentiles: `numpy.unique(numpy.quantile(x, i / bins))`.
/// `bins` divides 100.
pub fn quantile_edges(percentiles: &[f64], bins: usize) -> Vec<f64> {
    let step = PERCENTILES as usize / bins;
    let mut edges: Vec<f64> = (1..bins).filter_map(|i| percentiles.get(i * step - 1).copied()).collect();
    // Interpolation can put two quantiles of one gap an ulp the wrong way round.
    edges.sort_unstable_by(f64::total_cmp);
    edges.dedup();
    edges
}

/// Between neighbours further apart than the largest double, interpolation overflows: take the lower one.
fn finite_percentile(sorted: &[f64], percent: u64) -> f64 {
    let percentile = quantile_type7(sorted, percent, PERCENTILES);
    if percentile.is_finite() {
        return positive_zero(percentile);
    }
    let below = sorted.len().saturating_sub(1) * percent as usize / PERCENTILES as usize;
    sorted.get(below).copied().map_or(0.0, positive_zero)
}

/// -0.0 and 0.0 are one value; edges are compared by their bits in keys and hashes.
pub fn positive_zero(value: f64) -> f64 {
    value + 0.0
}

/// Edges at reference values: bins of their own, and no bin fuller than 1 / [`FINEST_BINS`].
fn value_edges(sorted: &[f64], percentiles: &[f64]) -> Vec<f64> {
    let few_distinct = has_at_most_distinct(sorted, MOST_DISTINCT_VALUES);
    let fullest = (sorted.len() / FINEST_BINS).max(1);
    let mut edges = Vec::new();
    let mut in_bin = 0;
    let mut next_percentile = 0;
    for tied in sorted.chunk_by(|a, b| a == b) {
        let Some(&first) = tied.first() else { continue };
        let value = positive_zero(first);
        while percentiles.get(next_percentile).is_some_and(|percentile| *percentile <= value) {
            next_percentile += 1;
            in_bin = 0;
        }
        if few_distinct || tied.len() > fullest {
            edges.push(value);
            edges.push(value.next_up());
            in_bin = 0;
        } else if in_bin + tied.len() > fullest {
            edges.push(value);
            in_bin = tied.len();
        } else {
            in_bin += tied.len();
        }
    }
    edges
}

fn has_at_most_distinct(sorted: &[f64], most: usize) -> bool {
    sorted.chunk_by(|a, b| a == b).take(most + 1).count() <= most
}

/// The reference's ends and edges beyond them, at multiples of its range.
fn tail_edges(min: f64, max: f64) -> Vec<f64> {
    let unit = range_unit(min, max);
    let distances = [0.1, 0.25, 0.5].into_iter().chain((0..=TAIL_DOUBLINGS).map(|power| f64::from(1u32 << power)));
    let mut edges = vec![min, max.next_up()];
    for distance in distances {
        edges.push(positive_zero(min - unit * distance));
        edges.push(positive_zero(max + unit * distance));
    }
    edges
}

/// A constant reference has no range of its own; its magnitude is the next best unit.
fn range_unit(min: f64, max: f64) -> f64 {
    match (max - min, max.abs()) {
        (range, _) if range > 0.0 => range,
        (_, magnitude) if magnitude > 0.0 => magnitude,
        _ => 1.0,
    }
}

/// Edges from the middle 90% outwards, each a quarter further from the median than the one before, to where
/// [`tail_edges`] ends. A heavy tail puts its last thousandth on nearly all of its range: without these, one bin
/// would hide how far out a value lies, and the Wasserstein distance would be known to a fraction of the range only.
fn geometric_edges(min: f64, max: f64, percentiles: &[f64]) -> Vec<f64> {
    let percentile = |percent: usize| percentiles.get(percent - 1).copied().unwrap_or(0.0);
    let (centre, bulk) = (percentile(50), percentile(95) - percentile(5));
    let range = range_unit(min, max);
    let unit = if bulk > 0.0 { 0.5 * bulk } else { range * LEAST_BULK };
    let furthest = range * f64::from(1u32 << TAIL_DOUBLINGS);
    let growth = (furthest / unit).powf(1.0 / MOST_GEOMETRIC_EDGES as f64).max(GEOMETRIC_GROWTH);
    let mut edges = Vec::new();
    let mut distance = unit;
    while distance < furthest && edges.len() < 2 * MOST_GEOMETRIC_EDGES {
        edges.push(positive_zero(centre - distance));
        edges.push(positive_zero(centre + distance));
        distance *= growth;
    }
    edges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masses(sorted: &[f64], edges: &[f64]) -> Vec<usize> {
        let mut counts = vec![0; edges.len() + 1];
        for value in sorted {
            counts[edges.partition_point(|edge| edge <= value)] += 1;
        }
        counts
    }

    #[test]
    fn no_bin_of_a_continuous_reference_holds_more_than_a_thousandth() {
        for n in [1_500usize, 8_645, 100_000] {
            let sorted: Vec<f64> = (0..n).map(|i| (i as f64 / n as f64).powi(3)).collect();
            let (edges, _) = edges_and_percentiles(&sorted, Span::of_sorted(&sorted).as_ref());
            let fullest = masses(&sorted, &edges).into_iter().max().unwrap();
            assert!(fullest <= (n / 1_000).max(1), "n {n}: fullest bin {fullest} of {} edges", edges.len());
            assert!(edges.len() < 2_000, "n {n}: {} edges", edges.len());
        }
    }

    #[test]
    fn a_heavy_tie_has_a_bin_of_its_own() {
        let mut sorted: Vec<f64> = vec![0.0; 6_000];
        sorted.extend((0..4_000).map(|i| 1.0 + f64::from(i) * 1e-3));
        let (edges, _) = edges_and_percentiles(&sorted, Span::of_sorted(&sorted).as_ref());
        let bin = edges.partition_point(|edge| *edge <= 0.0);
        assert_eq!((edges[bin - 1], edges[bin]), (0.0, 5e-324));
    }

    #[test]
    fn few_distinct_values_have_a_bin_each() {
        let sorted: Vec<f64> = (0..1_000).map(|i| f64::from(i / 10)).collect();
        let (edges, _) = edges_and_percentiles(&sorted, Span::of_sorted(&sorted).as_ref());
        for value in 0..100 {
            let bin = edges.partition_point(|edge| *edge <= f64::from(value));
            assert_eq!(edges[bin - 1], f64::from(value));
            assert_eq!(edges[bin], f64::from(value).next_up());
        }
    }

    #[test]
    fn coarse_edges_are_among_the_fine_ones() {
        let sorted: Vec<f64> = (0..977).map(|i| (f64::from(i) * 0.7).sin()).collect::<Vec<_>>();
        let mut sorted = sorted;
        sorted.sort_by(f64::total_cmp);
        let (edges, percentiles) = edges_and_percentiles(&sorted, Span::of_sorted(&sorted).as_ref());
        for bins in [10, 20, 25, 50] {
            let coarse = quantile_edges(&percentiles, bins as usize);
            let direct: Vec<f64> = (1..bins).map(|i| quantile_type7(&sorted, i, bins)).collect();
            assert_eq!(coarse, direct, "{bins} bins");
            assert!(coarse.iter().all(|edge| edges.contains(edge)), "{bins} bins");
        }
    }

    #[test]
    fn signed_zeros_and_extreme_ranges_leave_finite_ascending_edges() {
        for sorted in [vec![-0.0, 0.0], vec![-f64::MAX, 0.0, f64::MAX], vec![5e-324], vec![f64::MAX; 3]] {
            let (edges, _) = edges_and_percentiles(&sorted, Span::of_sorted(&sorted).as_ref());
            assert!(edges.iter().all(|edge| edge.is_finite() && edge.to_bits() != (-0.0f64).to_bits()), "{edges:?}");
            assert!(edges.windows(2).all(|pair| pair[0] < pair[1]), "{edges:?}");
        }
        assert_eq!(edges_and_percentiles(&[], None), (Vec::new(), Vec::new()));
    }
}
