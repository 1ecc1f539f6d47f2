//! Quantiles of a sorted sample, linear between order statistics (type 7 of Hyndman and Fan, 1996).

use super::layout::NumericLayout;
use super::numeric_profile::NumericProfile;

/// Quantile `numerator / denominator` of values sorted ascending; to the bit what `numpy.quantile` gives for the
/// same fraction. NaN for an empty slice.
pub fn quantile_type7(sorted: &[f64], numerator: u64, denominator: u64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let position = last as f64 * (numerator as f64 / denominator as f64);
    let lower = position.floor() as usize;
    if lower >= last {
        return sorted[last];
    }
    interpolate(sorted[lower], sorted[lower + 1], position - lower as f64)
}

/// numpy's interpolation: from the nearer end, so that t = 1 gives exactly `to`.
fn interpolate(from: f64, to: f64, t: f64) -> f64 {
    let difference = to - from;
    if t >= 0.5 { to - difference * (1.0 - t) } else { from + difference * t }
}

/// A quantile of a profile, somewhere in [least, most].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BinnedQuantile {
    pub least: f64,
    pub value: f64,
    pub most: f64,
}

/// Type 7 quantile `numerator / denominator` of the values of a profile, whose places inside a bin are unknown; the
/// value is that of values spread evenly. `None` for an empty profile.
pub fn binned(
    layout: &NumericLayout,
    profile: &NumericProfile,
    numerator: u64,
    denominator: u64,
) -> Option<BinnedQuantile> {
    let last = profile.n().checked_sub(1)?;
    let position = last as f64 * (numerator as f64 / denominator as f64);
    let lower = (position.floor() as u64).min(last);
    let (from, to) = (ranked(layout, profile, lower)?, ranked(layout, profile, (lower + 1).min(last))?);
    let between = |from: f64, to: f64| interpolate(from, to, position - lower as f64);
    Some(BinnedQuantile {
        least: between(from.least, to.least),
        value: between(from.value, to.value),
        most: between(from.most, to.most),
    })
}

/// The value of this rank, 0 the least.
fn ranked(layout: &NumericLayout, profile: &NumericProfile, rank: u64) -> Option<BinnedQuantile> {
    let (min, max) = (profile.min()?, profile.max()?);
    if rank == 0 || rank + 1 == profile.n() {
        let value = if rank == 0 { min } else { max };
        return Some(BinnedQuantile { least: value, value, most: value });
    }
    let mut below = 0;
    for (bin, &count) in profile.counts().iter().enumerate() {
        if rank < below + count {
            let least = bin.checked_sub(1).map_or(min, |bin| layout.edges()[bin].max(min));
            let most = layout.edges().get(bin).map_or(max, |edge| edge.next_down().min(max));
            let share = ((rank - below) as f64 + 0.5) / count as f64;
            return Some(BinnedQuantile { least, value: interpolate(least, most, share), most });
        }
        below += count;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deciles_of_one_to_twelve_equal_numpy_to_the_bit() {
        let values: Vec<f64> = (1..=12).map(f64::from).collect();
        let deciles: Vec<f64> = (1..10).map(|i| quantile_type7(&values, i, 10)).collect();
        assert_eq!(deciles, [2.1, 3.2, 4.3, 5.4, 6.5, 7.6, 8.7, 9.8, 10.9]);
        // numpy.quantile(range(20), i / 10): rounding shows
        let values: Vec<f64> = (0..20).map(f64::from).collect();
        assert_eq!(quantile_type7(&values, 1, 10), 1.9000000000000001);
        assert_eq!(quantile_type7(&values, 7, 10), 13.299999999999999);
        assert_eq!(quantile_type7(&values, 8, 10), 15.200000000000001);
    }

    #[test]
    fn a_quantile_of_a_profile_lies_within_its_bin() {
        let values: Vec<f64> = (0..5_000).map(|i| (f64::from(i) * 0.37).sin().exp()).collect();
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let layout = NumericLayout::of_sorted(&sorted);
        let mut profile = NumericProfile::new(&layout);
        values.iter().filter(|value| **value < 2.0).for_each(|value| profile.add(*value, &layout));
        let kept: Vec<f64> = sorted.iter().copied().filter(|value| *value < 2.0).collect();
        for percent in [0, 1, 25, 50, 75, 99, 100] {
            let found = binned(&layout, &profile, percent, 100).unwrap();
            let exact = quantile_type7(&kept, percent, 100);
            assert!(found.least <= exact && exact <= found.most, "p{percent}: {exact} outside {found:?}");
            assert!(found.most - found.least < 0.02, "p{percent}: {found:?}");
        }
        assert_eq!(binned(&layout, &NumericProfile::new(&layout), 1, 2), None);
    }

    #[test]
    fn ends_and_single_values() {
        assert_eq!(quantile_type7(&[3.0], 99, 100), 3.0);
        assert_eq!(quantile_type7(&[1.0, 2.0], 0, 1), 1.0);
        assert_eq!(quantile_type7(&[1.0, 2.0], 1, 1), 2.0);
        assert!(quantile_type7(&[], 1, 2).is_nan());
    }
}
