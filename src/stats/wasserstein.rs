//! Wasserstein-1 distance (earth mover's distance): the area between two distribution functions.
//!
//! From bins it is known up to what the rows do inside a bin. The bound is rigorous, and small even where a window
//! has left the reference's range for bins of the tails, because the means are exact: with A the area where the
//! reference's function is the higher one and B where the window's is, A - B is the difference of the means, so that
//! knowing the smaller of the two areas is enough.

use super::cells::Cells;
use super::kolmogorov_smirnov::BinnedDistance;

/// An estimate of an area with the least and most it can be.
#[derive(Debug, Clone, Copy, Default)]
struct Area {
    least: f64,
    estimate: f64,
    most: f64,
}

impl Area {
    fn plus(self, other: Area, width: f64) -> Area {
        Area {
            least: self.least + width * other.least,
            estimate: self.estimate + width * other.estimate,
            most: self.most + width * other.most,
        }
    }
}

/// The distance in the feature's unit; |value - distance of the rows| <= bound, but for rounding. The means are those
/// of the rows.
pub fn binned_distance(cells: &Cells, mean_reference: f64, mean_window: f64) -> BinnedDistance {
    let (mut reference_above, mut window_above) = (Area::default(), Area::default());
    for cell in cells.all() {
        let (mut start, end) = cells.shares(cell);
        if cell.single {
            start = end;
        }
        reference_above = reference_above.plus(excess(start.0, end.0, start.1, end.1), cell.width());
        window_above = window_above.plus(excess(start.1, end.1, start.0, end.0), cell.width());
    }
    // Reference above: the window lies higher, its mean is the larger one.
    let difference = mean_window - mean_reference;
    let least = (difference + 2.0 * window_above.least)
        .max(2.0 * reference_above.least - difference)
        .max(reference_above.least + window_above.least)
        .max(difference.abs());
    let most = (difference + 2.0 * window_above.most)
        .min(2.0 * reference_above.most - difference)
        .min(reference_above.most + window_above.most)
        .max(least);
    let known_better = |a: &Area, b: &Area| a.most - a.least < b.most - b.least;
    let estimate = if known_better(&window_above, &reference_above) {
        difference + 2.0 * window_above.estimate
    } else {
        2.0 * reference_above.estimate - difference
    };
    let value = if estimate.is_finite() { estimate.clamp(least, most) } else { least };
    BinnedDistance { value, bound: (most - value).max(value - least) }
}

/// Mean height by which F exceeds G within a bin where F rises from `f_start` to `f_end` and G likewise, at places
/// unknown: least, with both rising evenly, most.
fn excess(f_start: f64, f_end: f64, g_start: f64, g_end: f64) -> Area {
    let least = (f_start - g_end).max(0.0);
    let most = (f_end - g_start).max(0.0);
    let (left, right) = (f_start - g_start, f_end - g_end);
    let estimate = if left >= 0.0 && right >= 0.0 {
        0.5 * (left + right)
    } else if left <= 0.0 && right <= 0.0 {
        0.0
    } else {
        // The positive triangle of a line through zero.
        let height = left.max(right);
        0.5 * height * height / (left - right).abs()
    };
    Area { least, estimate: estimate.clamp(least, most), most }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::layout::NumericLayout;
    use crate::stats::numeric_profile::NumericProfile;

    fn distance(layout_of: &[f64], reference: &[f64], window: &[f64]) -> BinnedDistance {
        let layout = NumericLayout::of_sorted(layout_of);
        let profile_of = |values: &[f64]| {
            let mut profile = NumericProfile::new(&layout);
            values.iter().for_each(|value| profile.add(*value, &layout));
            profile
        };
        let (reference, window) = (profile_of(reference), profile_of(window));
        let cells = Cells::new(&layout, &reference, &window).unwrap();
        binned_distance(&cells, reference.mean().unwrap(), window.mean().unwrap())
    }

    #[test]
    fn a_shift_beyond_the_range_is_the_difference_of_the_means() {
        // 0 and 1 against 1000 and 3001: every row moves up, whatever the tail's bins hide.
        assert_eq!(distance(&[0.0, 1.0], &[0.0, 1.0], &[1000.0, 3001.0]), BinnedDistance { value: 2000.0, bound: 0.0 });
    }

    #[test]
    fn the_bound_covers_every_placement_inside_a_shared_bin() {
        // Layouts of other values leave both sides in few bins: {100, 104} against {102, 102} is 2 apart.
        let found = distance(&[0.0], &[100.0, 104.0], &[102.0, 102.0]);
        assert!(found.value - found.bound <= 2.0 && 2.0 <= found.value + found.bound, "{found:?}");
        let same = distance(&[0.0], &[100.0, 104.0], &[100.0, 104.0]);
        assert!(same.value - same.bound <= 0.0 && same.bound > 0.0, "{same:?}");
    }

    #[test]
    fn values_with_bins_of_their_own_hide_nothing() {
        let found = distance(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0], &[1.0, 3.0, 3.0]);
        assert_eq!(found.bound, 0.0);
        assert!((found.value - 1.0 / 3.0).abs() < 1e-15, "{found:?}");
    }
}
