//! Bin edges and counts, by the rules of the tools that made them common.
//!
//! Two kinds of bins: *open* ones are cut at inner edges and reach to infinity on both sides, a value on an edge
//! belongs to the upper bin; *closed* ones cover [first edge, last edge], the last edge included, and leave out
//! what lies beyond (`numpy.histogram`).

use super::sample::Sample;

/// `bins + 1` equally spaced edges from `start` to `stop`, to the bit those of `numpy.linspace`.
pub fn linspace(start: f64, stop: f64, bins: usize) -> Vec<f64> {
    let range = stop - start;
    let step = range / bins as f64;
    let at = |i: usize| {
        let offset = if step == 0.0 { i as f64 / bins as f64 * range } else { i as f64 * step };
        offset + start
    };
    let mut edges: Vec<f64> = (0..bins).map(at).collect();
    edges.push(stop);
    edges
}

/// Inner edges at the sample's quantiles i/bins, each once: fewer bins where many values are equal.
pub fn quantile_edges(sample: &Sample, bins: u64) -> Vec<f64> {
    let mut edges: Vec<f64> = (1..bins).map(|i| sample.quantile(i, bins)).collect();
    edges.sort_unstable_by(f64::total_cmp);
    edges.dedup();
    edges
}

/// Inner edges that cut the sample's range in `bins` equal widths; one edge at the value where all are equal.
pub fn width_edges(sample: &Sample, bins: usize) -> Vec<f64> {
    if sample.max() > sample.min() {
        linspace(sample.min(), sample.max(), bins)[1..bins].to_vec()
    } else {
        vec![sample.min()]
    }
}

/// Closed bins by Doane's rule (1976): Sturges' with a correction for skewness.
pub fn doane_edges(sample: &Sample) -> Vec<f64> {
    let n = sample.n() as f64;
    let std = sample.std();
    let mut width = 0.0;
    if sample.n() > 2 && std > 0.0 {
        let skewness = super::sample::blocked_sum(sample.sorted(), |x| ((x - sample.mean) / std).powi(3)) / n;
        let skewness_std = (6.0 * (n - 2.0) / ((n + 1.0) * (n + 3.0))).sqrt();
        width = (sample.max() - sample.min()) / (1.0 + n.log2() + (1.0 + skewness.abs() / skewness_std).log2());
    }
    closed_edges(sample.min(), sample.max(), width)
}

/// Closed bins over both samples together by Sturges' rule (1926).
pub fn sturges_edges(reference: &Sample, window: &Sample) -> Vec<f64> {
    let (low, high) = common_range(reference, window);
    let width = (high - low) / (((reference.n() + window.n()) as f64).log2() + 1.0);
    closed_edges(low, high, width)
}

/// `bins` closed bins of equal width over both samples together.
pub fn common_width_edges(reference: &Sample, window: &Sample, bins: usize) -> Vec<f64> {
    let (low, high) = common_range(reference, window);
    if high > low { linspace(low, high, bins) } else { linspace(low - 0.5, high + 0.5, bins) }
}

fn common_range(reference: &Sample, window: &Sample) -> (f64, f64) {
    (reference.min().min(window.min()), reference.max().max(window.max()))
}

fn closed_edges(low: f64, high: f64, width: f64) -> Vec<f64> {
    if high <= low {
        return vec![low - 0.5, high + 0.5];
    }
    let bins = if width > 0.0 { ((high - low) / width).ceil() as usize } else { 1 };
    linspace(low, high, bins.max(1))
}

/// Counts of open bins: the bin of a value is the number of edges that are not above it.
pub fn counts_open(sorted: &[f64], inner_edges: &[f64]) -> Vec<u64> {
    let mut counts = Vec::with_capacity(inner_edges.len() + 1);
    let mut below = 0;
    for &edge in inner_edges {
        let next = below + sorted[below..].partition_point(|&value| value < edge);
        counts.push((next - below) as u64);
        below = next;
    }
    counts.push((sorted.len() - below) as u64);
    counts
}

/// Counts of closed bins; values outside the edges are in none.
pub fn counts_closed(sorted: &[f64], edges: &[f64]) -> Vec<u64> {
    let Some((&last, lower)) = edges.split_last() else { return Vec::new() };
    let mut counts = Vec::with_capacity(lower.len());
    let mut previous: Option<usize> = None;
    for &edge in lower {
        let from = previous.unwrap_or(0);
        let position = from + gallop(&sorted[from..], edge);
        if previous.is_some() {
            counts.push((position - from) as u64);
        }
        previous = Some(position);
    }
    let from = previous.unwrap_or(0);
    counts.push(sorted[from..].partition_point(|&value| value <= last) as u64);
    counts
}

/// Values at the front that are below `edge`, cheap where they are few.
fn gallop(sorted: &[f64], edge: f64) -> usize {
    let mut reach = 1;
    while reach < sorted.len() && sorted[reach - 1] < edge {
        reach *= 2;
    }
    let end = reach.min(sorted.len());
    sorted[..end].partition_point(|&value| value < edge)
}

/// Counts as shares of `total`.
pub fn shares(counts: &[u64], total: u64) -> Vec<f64> {
    counts.iter().map(|&count| count as f64 / total as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_an_edge_belongs_to_the_upper_bin() {
        assert_eq!(counts_open(&[0.0, 1.0, 1.0, 2.0, 3.0], &[1.0, 2.0]), [1, 2, 2]);
    }

    #[test]
    fn closed_bins_hold_their_last_edge_and_nothing_beyond() {
        assert_eq!(counts_closed(&[-1.0, 0.0, 0.5, 1.0, 2.0, 2.5], &[0.0, 1.0, 2.0]), [2, 2]);
        assert_eq!(counts_closed(&[], &[0.0, 1.0]), [0]);
    }

    #[test]
    fn linspace_rounds_as_numpy_does() {
        // numpy.linspace(0.1, 0.7, 7)
        let expected = [0.1, 0.2, 0.30000000000000004, 0.4, 0.5, 0.6, 0.7].map(|x: f64| (x * 1e15).round());
        assert_eq!(linspace(0.1, 0.7, 6).iter().map(|x| (x * 1e15).round()).collect::<Vec<_>>(), expected);
        assert_eq!(linspace(1.0, 2.0, 3).last(), Some(&2.0));
    }

    #[test]
    fn ties_merge_quantile_edges() {
        let sample = Sample::new([[0.0; 70].as_slice(), &[1.0; 30]].concat());
        assert_eq!(quantile_edges(&sample, 10), [0.0, 0.29999999999999716, 1.0]);
        assert_eq!(width_edges(&Sample::new([5.0; 3]), 10), [5.0]);
    }

    #[test]
    fn doane_of_few_or_equal_values_is_one_bin() {
        assert_eq!(doane_edges(&Sample::new([5.0; 20])), [4.5, 5.5]);
        assert_eq!(doane_edges(&Sample::new((0..20).map(f64::from))).len() - 1, 6);
    }
}
