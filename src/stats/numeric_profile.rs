//! What a pane keeps of a numeric feature: counts per bin, extremes, exact sums.

use super::counts::Counts;
use super::edges::positive_zero;
use super::exact_sum::ExactSum;
use super::layout::NumericLayout;
use super::varint::{self, Reader};
use super::welch::Moments;

/// Mergeable by addition in any order, to the bit: integers, extremes and exact sums only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumericProfile {
    /// Finite values per bin of the layout.
    counts: Counts,
    nulls: u64,
    nans: u64,
    positive_infinities: u64,
    negative_infinities: u64,
    /// Bits of the extremes of the finite values, -0.0 taken as 0.0; `None`: no finite value.
    extremes: Option<Extremes>,
    sum: ExactSum,
    /// Of (v - centre)^2, each square rounded to a double (and capped at the largest one): a function of v alone, so
    /// that its exact sum does not depend on the order.
    squares: ExactSum,
}

#[derive(Debug, Clone, Copy)]
struct Extremes {
    min: f64,
    max: f64,
}

/// Neither is NaN nor -0.0.
impl PartialEq for Extremes {
    fn eq(&self, other: &Self) -> bool {
        self.min == other.min && self.max == other.max
    }
}

impl Eq for Extremes {}

impl NumericProfile {
    pub fn new(layout: &NumericLayout) -> Self {
        Self {
            counts: Counts::new(layout.bins()),
            nulls: 0,
            nans: 0,
            positive_infinities: 0,
            negative_infinities: 0,
            extremes: None,
            sum: ExactSum::default(),
            squares: ExactSum::default(),
        }
    }

    #[inline]
    pub fn add(&mut self, value: f64, layout: &NumericLayout) {
        if !value.is_finite() {
            return self.add_non_finite(value);
        }
        self.counts.increment(layout.bin(value));
        let value = positive_zero(value);
        match &mut self.extremes {
            Some(extremes) => {
                extremes.min = extremes.min.min(value);
                extremes.max = extremes.max.max(value);
            }
            None => self.extremes = Some(Extremes { min: value, max: value }),
        }
        self.sum.add(value);
        let deviation = value - layout.centre();
        self.squares.add((deviation * deviation).min(f64::MAX));
    }

    #[cold]
    fn add_non_finite(&mut self, value: f64) {
        if value.is_nan() {
            self.nans += 1;
        } else if value > 0.0 {
            self.positive_infinities += 1;
        } else {
            self.negative_infinities += 1;
        }
    }

    #[inline]
    pub fn add_nulls(&mut self, count: u64) {
        self.nulls += count;
    }

    /// Both profiles are of one layout; the caller has checked that they have the same number of bins.
    pub(super) fn merge(&mut self, other: &Self) {
        self.counts.merge(&other.counts);
        self.nulls = self.nulls.saturating_add(other.nulls);
        self.nans = self.nans.saturating_add(other.nans);
        self.positive_infinities = self.positive_infinities.saturating_add(other.positive_infinities);
        self.negative_infinities = self.negative_infinities.saturating_add(other.negative_infinities);
        self.extremes = match (self.extremes, other.extremes) {
            (Some(a), Some(b)) => Some(Extremes { min: a.min.min(b.min), max: a.max.max(b.max) }),
            (a, b) => a.or(b),
        };
        self.sum.merge(&other.sum);
        self.squares.merge(&other.squares);
    }

    /// Finite values per bin of the layout, in its order; laid out anew by every call.
    pub fn counts(&self) -> Vec<u64> {
        self.counts.to_vec()
    }

    /// Number of bins.
    pub fn bins(&self) -> usize {
        self.counts.size()
    }

    /// Memory held outside of the struct, in bytes.
    pub(super) fn allocated_bytes(&self) -> usize {
        self.counts.allocated_bytes() + self.sum.allocated_bytes() + self.squares.allocated_bytes()
    }

    /// Finite values.
    pub fn n(&self) -> u64 {
        self.counts.total()
    }

    /// Null and NaN: both are a missing value.
    pub fn missing(&self) -> u64 {
        self.nulls.saturating_add(self.nans)
    }

    pub fn nans(&self) -> u64 {
        self.nans
    }

    /// Infinite values: neither missing nor in a bin.
    pub fn infinite(&self) -> u64 {
        self.positive_infinities.saturating_add(self.negative_infinities)
    }

    pub fn min(&self) -> Option<f64> {
        self.extremes.map(|extremes| extremes.min)
    }

    pub fn max(&self) -> Option<f64> {
        self.extremes.map(|extremes| extremes.max)
    }

    /// Correctly rounded sum over n; `None` without values.
    pub fn mean(&self) -> Option<f64> {
        let n = self.n();
        (n > 0).then(|| self.sum.value() / n as f64)
    }

    /// Population standard deviation (ddof 0); `None` without values.
    pub fn std(&self, layout: &NumericLayout) -> Option<f64> {
        if self.extremes?.min == self.extremes?.max {
            // Exactly, where rounding errors of the sums would be taken for a spread.
            return Some(0.0);
        }
        let n = self.n() as f64;
        let from_centre = self.mean()? - layout.centre();
        Some((self.squares.value() / n - from_centre * from_centre).max(0.0).sqrt())
    }

    /// What Welch's test needs. `None` without values.
    pub fn moments(&self, layout: &NumericLayout) -> Option<Moments> {
        let (n, std) = (self.n(), self.std(layout)?);
        // 0 / 0 for a single value: it has no sample variance.
        Some(Moments { n, mean: self.mean()?, variance: std * std * (n as f64 / (n as f64 - 1.0)) })
    }

    /// Fourth central moment over the squared variance, 3 for a normal law, with the values of a bin taken to lie in
    /// its middle: an estimate, good enough for the width of a law. `None` without values or spread.
    pub fn kurtosis(&self, layout: &NumericLayout) -> Option<f64> {
        let (extremes, mean, std) = (self.extremes?, self.mean()?, self.std(layout)?);
        let fourth_power = |(bin, count): (usize, &u64)| {
            let from = if bin == 0 { extremes.min } else { layout.edges()[bin - 1].max(extremes.min) };
            let to = layout.edges().get(bin).map_or(extremes.max, |edge| edge.min(extremes.max));
            let distance = (0.5 * from + 0.5 * to - mean) / std;
            *count as f64 * distance.powi(4)
        };
        let counts = self.counts.to_vec();
        let filled = counts.iter().enumerate().filter(|(_, count)| **count > 0);
        let kurtosis = filled.map(fourth_power).sum::<f64>() / self.n() as f64;
        kurtosis.is_finite().then_some(kurtosis)
    }

    /// Counts below each edge of `coarse`, as counts per bin of it. Every edge of `coarse` is an edge of the layout.
    pub fn regroup(&self, layout: &NumericLayout, coarse: &[f64]) -> Vec<u64> {
        let mut regrouped = vec![0u64; coarse.len() + 1];
        let mut bin = 0;
        self.counts.each(|fine, count| {
            // The lower end of fine bin i is edge i - 1.
            while fine > 0 && bin < coarse.len() && coarse[bin] <= layout.edges()[fine - 1] {
                bin += 1;
            }
            regrouped[bin] = regrouped[bin].saturating_add(count);
        });
        regrouped
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        varint::write(self.counts.size() as u64, out);
        for count in [self.nulls, self.nans, self.positive_infinities, self.negative_infinities] {
            varint::write(count, out);
        }
        self.counts.encode(out);
        if let Some(extremes) = self.extremes {
            out.extend_from_slice(&extremes.min.to_le_bytes());
            out.extend_from_slice(&extremes.max.to_le_bytes());
            self.sum.encode(out);
            self.squares.encode(out);
        }
    }

    /// `None` for bytes that [`NumericProfile::encode`] does not emit under this layout.
    pub(super) fn decode(reader: &mut Reader<'_>, layout: &NumericLayout) -> Option<Self> {
        let mut profile = Self::new(layout);
        if reader.varint()? != layout.bins() as u64 {
            return None;
        }
        profile.nulls = reader.varint()?;
        profile.nans = reader.varint()?;
        profile.positive_infinities = reader.varint()?;
        profile.negative_infinities = reader.varint()?;
        profile.counts = Counts::decode(reader, layout.bins())?;
        if profile.n() > 0 {
            let (min, max) = (reader.double()?, reader.double()?);
            let tidy = |value: f64| value.is_finite() && value.to_bits() != (-0.0f64).to_bits();
            if !(tidy(min) && tidy(max) && min <= max) {
                return None;
            }
            profile.extremes = Some(Extremes { min, max });
            profile.sum = ExactSum::decode(reader)?;
            profile.squares = ExactSum::decode(reader)?;
        }
        Some(profile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile_of(values: &[f64], layout: &NumericLayout) -> NumericProfile {
        let mut profile = NumericProfile::new(layout);
        values.iter().for_each(|value| profile.add(*value, layout));
        profile
    }

    #[test]
    fn moments_are_those_of_the_rows() {
        let layout = NumericLayout::of_sorted(&[1e9, 1e9 + 1.0, 1e9 + 2.0]);
        let profile = profile_of(&[1e9 + 1.0, 1e9 + 3.0, f64::NAN, f64::INFINITY], &layout);
        assert_eq!((profile.n(), profile.missing(), profile.infinite()), (2, 1, 1));
        assert_eq!((profile.mean(), profile.std(&layout)), (Some(1e9 + 2.0), Some(1.0)));
        assert_eq!((profile.min(), profile.max()), (Some(1e9 + 1.0), Some(1e9 + 3.0)));
    }

    #[test]
    fn kurtosis_of_even_spread_and_of_two_values() {
        let even: Vec<f64> = (0..10_000).map(f64::from).collect();
        let layout = NumericLayout::of_sorted(&even);
        let kurtosis = profile_of(&even, &layout).kurtosis(&layout).unwrap();
        assert!((kurtosis - 1.8).abs() < 0.01, "{kurtosis} instead of 9/5");
        let two = profile_of(&[0.0, 9_999.0], &layout).kurtosis(&layout).unwrap();
        assert!((two - 1.0).abs() < 1e-2, "{two} instead of 1");
        assert_eq!(profile_of(&[5.0, 5.0], &layout).kurtosis(&layout), None);
    }

    #[test]
    fn coarse_bins_hold_the_counts_of_their_fine_ones() {
        let sorted: Vec<f64> = (0..1_000).map(f64::from).collect();
        let layout = NumericLayout::of_sorted(&sorted);
        let profile = profile_of(&sorted, &layout);
        let coarse = super::super::edges::quantile_edges(layout.percentiles(), 10);
        assert_eq!(profile.regroup(&layout, &coarse), vec![100; 10]);
        assert_eq!(profile.regroup(&layout, &[]), vec![1_000]);
    }

    #[test]
    fn signed_zeros_are_one_value() {
        let layout = NumericLayout::of_sorted(&[0.0, 1.0]);
        assert_eq!(profile_of(&[0.0, -0.0], &layout), profile_of(&[-0.0, 0.0], &layout));
    }
}
