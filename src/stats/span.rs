//! What a reference's values fix beside its quantiles: its ends, and with them bins of equal width.

use super::rows::histogram::{doane_edges, linspace};
use super::rows::sample::Sample;

/// Bins of equal width between the ends, of `psi_w10`.
const WIDTHS: usize = 10;
/// Doane's rule gives about log2 n + log2 of the skewness; more than this is forged.
const MOST_DOANE_BINS: u32 = 1_000;

/// Ends and numbers of a reference's values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    pub min: f64,
    pub max: f64,
    /// Number of different values.
    pub distinct: u64,
    /// Number of bins by Doane's rule (1976), between the ends.
    pub doane_bins: u32,
}

impl Span {
    /// Of finite values, ascending, without -0.0; `None` of an empty slice.
    pub fn of_sorted(sorted: &[f64]) -> Option<Self> {
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let sample = Sample::new(sorted.iter().copied());
        let doane_bins = (doane_edges(&sample).len() - 1).min(MOST_DOANE_BINS as usize) as u32;
        Some(Self { min: min + 0.0, max: max + 0.0, distinct: sample.distinct(), doane_bins })
    }

    /// Whether it can be that of a sample.
    pub fn is_tidy(&self) -> bool {
        let number = |value: f64| value.is_finite() && value.to_bits() != (-0.0f64).to_bits();
        number(self.min)
            && number(self.max)
            && self.min <= self.max
            && self.distinct > 0
            && (1..=MOST_DOANE_BINS).contains(&self.doane_bins)
    }

    /// Inner edges of ten bins of equal width, those of `numpy.linspace`; of a constant its value. Empty where the
    /// range is beyond the doubles.
    pub fn width_edges(&self) -> Vec<f64> {
        if self.min == self.max {
            return vec![self.min];
        }
        tidy(&linspace(self.min, self.max, WIDTHS)[1..WIDTHS])
    }

    /// Edges that cut a value's bins as `numpy.histogram` does by Doane's rule: below the range, the bins, whose last
    /// one holds its upper end, and beyond. Empty where the range is beyond the doubles.
    pub fn doane_edges(&self) -> Vec<f64> {
        let (low, high) = if self.min == self.max { (self.min - 0.5, self.max + 0.5) } else { (self.min, self.max) };
        let mut edges = linspace(low, high, self.doane_bins as usize);
        if let Some(last) = edges.last_mut() {
            *last = last.next_up();
        }
        tidy(&edges)
    }
}

/// Finite, ascending, once each, with one zero; none at all where any is not finite.
fn tidy(edges: &[f64]) -> Vec<f64> {
    if !edges.iter().all(|edge| edge.is_finite()) {
        return Vec::new();
    }
    let mut edges: Vec<f64> = edges.iter().map(|edge| edge + 0.0).collect();
    edges.sort_unstable_by(f64::total_cmp);
    edges.dedup();
    edges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_of_a_range_a_constant_and_more_than_the_doubles() {
        let span = Span::of_sorted(&[0.0, 1.0, 1.0, 20.0]).unwrap();
        assert_eq!((span.distinct, span.width_edges().len()), (3, 9));
        assert_eq!(span.width_edges()[0], 2.0);
        assert_eq!(span.doane_edges().last(), Some(&20.0f64.next_up()));
        let constant = Span::of_sorted(&[5.0; 3]).unwrap();
        assert_eq!(constant.width_edges(), [5.0]);
        assert_eq!(constant.doane_edges(), [4.5, 5.5f64.next_up()]);
        let vast = Span::of_sorted(&[-f64::MAX, f64::MAX]).unwrap();
        assert!(vast.is_tidy() && vast.width_edges().is_empty() && vast.doane_edges().is_empty(), "{vast:?}");
        assert_eq!(Span::of_sorted(&[]), None);
    }
}
