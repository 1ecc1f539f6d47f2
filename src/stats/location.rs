//! Where the middle of a numeric feature lies, in the reference and in the window: what people ask first.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::layout::NumericLayout;
use super::numeric_profile::NumericProfile;
use super::quantile;

/// Mean and median of the values on both sides, in the unit of the feature; absent where a sum leaves the doubles.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Location {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_reference: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<f64>,
    /// Known to within its bin, which holds at most a thousandth of the reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median_reference: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median: Option<f64>,
}

pub fn location(layout: &NumericLayout, reference: &NumericProfile, window: &NumericProfile) -> Location {
    let mean = |profile: &NumericProfile| profile.mean().filter(|mean| mean.is_finite());
    Location {
        mean_reference: mean(reference),
        mean: mean(window),
        median_reference: median(layout, reference),
        median: median(layout, window),
    }
}

/// Values of a bin taken to be spread evenly in it.
fn median(layout: &NumericLayout, profile: &NumericProfile) -> Option<f64> {
    quantile::binned(layout, profile, 1, 2).map(|median| median.value).filter(|median| median.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile_of(values: impl Iterator<Item = f64>, layout: &NumericLayout) -> NumericProfile {
        let mut profile = NumericProfile::new(layout);
        values.for_each(|value| profile.add(value, layout));
        profile
    }

    #[test]
    fn the_median_lies_in_its_bin_and_a_tie_is_exact() {
        let sorted: Vec<f64> = (0..10_001).map(f64::from).collect();
        let layout = NumericLayout::of_sorted(&sorted);
        let reference = profile_of(sorted.iter().copied(), &layout);
        let moved = profile_of(sorted.iter().map(|value| value / 2.0), &layout);
        let found = location(&layout, &reference, &moved);
        assert_eq!((found.mean_reference, found.mean), (Some(5_000.0), Some(2_500.0)));
        let off = |median: Option<f64>, exact: f64| (median.unwrap() - exact).abs();
        assert!(off(found.median_reference, 5_000.0) <= 10.0 && off(found.median, 2_500.0) <= 10.0, "{found:?}");
        let tied = NumericLayout::of_sorted(&[1.0, 7.0, 7.0, 7.0, 9.0]);
        assert_eq!(median(&tied, &profile_of([7.0, 7.0, 9.0].into_iter(), &tied)), Some(7.0));
    }

    #[test]
    fn a_side_without_values_has_no_middle() {
        let layout = NumericLayout::of_sorted(&[1.0, 2.0]);
        let (some, none) = (profile_of([1.0].into_iter(), &layout), NumericProfile::new(&layout));
        assert_eq!(location(&layout, &some, &none).median, None);
        assert_eq!(location(&layout, &some, &none).mean, None);
    }
}
