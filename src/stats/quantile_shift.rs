//! Shift of a quantile, in standard deviations of the reference.

use super::layout::NumericLayout;
use super::metric::MetricValue;
use super::numeric_profile::NumericProfile;
use super::proportions;
use super::quantile;

/// (window's quantile - reference's) / standard deviation of the reference (ddof 0). Undefined for a constant
/// reference. Its p-value is that of [`p_value`].
pub fn shift(
    layout: &NumericLayout,
    reference: &NumericProfile,
    window: &NumericProfile,
    percent: u64,
) -> Option<MetricValue> {
    let (before, now) =
        (quantile::binned(layout, reference, percent, 100)?, quantile::binned(layout, window, percent, 100)?);
    let std = reference.std(layout)?;
    let in_deviations = |difference: f64| difference / std;
    let value = MetricValue::within(
        in_deviations(now.value - before.value),
        in_deviations(now.least - before.most),
        in_deviations(now.most - before.least),
    );
    Some(value.with_p(p_value(layout, reference, window, percent)))
}

/// Mood's median test (1950), at any percentile: do as many values of the window lie below the reference's percentile
/// as the reference says? Where values tie with it, also: at or below it; of the two, twice the smaller.
pub fn p_value(
    layout: &NumericLayout,
    reference: &NumericProfile,
    window: &NumericProfile,
    percent: u64,
) -> Option<f64> {
    let edge = layout.percentiles().get((percent as usize).checked_sub(1)?)?;
    let below = |edge: f64| {
        let of = |profile: &NumericProfile| profile.regroup(layout, &[edge])[0];
        let (hits_reference, hits) = (of(reference), of(window));
        let p_value = proportions::two_sided_p(hits_reference, reference.n(), hits, window.n());
        p_value.map(|p_value| (p_value, (hits_reference, hits)))
    };
    let ((below, hits_below), (up_to, hits_up_to)) = (below(*edge)?, below(edge.next_up())?);
    Some(if hits_below == hits_up_to { below } else { (2.0 * below.min(up_to)).min(1.0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shift_of(reference: &[f64], window: &[f64], percent: u64) -> MetricValue {
        let mut sorted = reference.to_vec();
        sorted.sort_by(f64::total_cmp);
        let layout = NumericLayout::of_sorted(&sorted);
        let profile_of = |values: &[f64]| {
            let mut profile = NumericProfile::new(&layout);
            values.iter().for_each(|value| profile.add(*value, &layout));
            profile
        };
        shift(&layout, &profile_of(reference), &profile_of(window), percent).unwrap()
    }

    #[test]
    fn a_median_one_deviation_higher_is_seen_and_is_no_chance() {
        let reference: Vec<f64> = (0..1_000).map(f64::from).collect();
        let std = (999_999.0f64 / 12.0).sqrt();
        let window: Vec<f64> = reference.iter().map(|value| value + std).collect();
        for percent in [50, 95] {
            let found = shift_of(&reference, &window, percent);
            let (value, bound) = (found.value.unwrap(), found.bound.unwrap());
            assert!((value - 1.0).abs() <= bound + 1e-12, "p{percent}: {found:?}");
            assert!(found.p_value.unwrap() < 1e-6, "p{percent}: {found:?}");
        }
        assert_eq!(shift_of(&reference, &reference, 50).p_value, Some(1.0));
    }

    #[test]
    fn ties_at_the_median_are_looked_at_from_both_sides() {
        // Nothing is below 0 on either side, but half of the window has left it.
        let reference: Vec<f64> = (0..400).map(|i| if i < 300 { 0.0 } else { 1.0 }).collect();
        let window: Vec<f64> = (0..400).map(|i| if i < 150 { 0.0 } else { 1.0 }).collect();
        let found = shift_of(&reference, &window, 50);
        assert!(found.p_value.unwrap() < 1e-9 && found.value.unwrap() > 2.0, "{found:?}");
    }
}
