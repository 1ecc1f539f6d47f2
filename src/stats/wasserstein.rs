//! Wasserstein-1 distance (earth mover's distance): the area between two distribution functions.
//!
//! From bins it is known up to what the rows do inside a bin. The bound is rigorous, and small even where a window
//! has left the reference's range for bins of the tails, because the means are exact: with A the area where the
//! reference's function is the higher one and B where the window's is, A - B is the difference of the means, so that
//! knowing the smaller of the two areas is enough.

use super::kolmogorov_smirnov::BinnedDistance;

/// One side: counts per bin, exact mean and extremes of the same rows.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    pub counts: &'a [u64],
    pub mean: f64,
    pub min: f64,
    pub max: f64,
}

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

/// The distance in the feature's unit; |value - distance of the rows| <= bound, but for rounding. `edges` are the
/// inner edges of the bins. `None` where a side is empty.
pub fn binned_distance(reference: Side<'_>, window: Side<'_>, edges: &[f64]) -> Option<BinnedDistance> {
    let (n_reference, n) = (reference.counts.iter().sum::<u64>(), window.counts.iter().sum::<u64>());
    if n_reference == 0 || n == 0 {
        return None;
    }
    let (lowest, highest) = (reference.min.min(window.min), reference.max.max(window.max));
    let (mut reference_above, mut window_above) = (Area::default(), Area::default());
    let (mut below_reference, mut below) = (0u64, 0u64);
    for (bin, (&in_reference, &in_window)) in reference.counts.iter().zip(window.counts).enumerate() {
        let from = if bin == 0 { lowest } else { edges[bin - 1].max(lowest) };
        let to = edges.get(bin).map_or(highest, |edge| edge.min(highest));
        let start = (below_reference as f64 / n_reference as f64, below as f64 / n as f64);
        below_reference += in_reference;
        below += in_window;
        let end = (below_reference as f64 / n_reference as f64, below as f64 / n as f64);
        if to > from {
            reference_above = reference_above.plus(excess(start.0, end.0, start.1, end.1), to - from);
            window_above = window_above.plus(excess(start.1, end.1, start.0, end.0), to - from);
        }
    }
    // Reference above: the window lies higher, its mean is the larger one.
    let difference = window.mean - reference.mean;
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
    Some(BinnedDistance { value, bound: (most - value).max(value - least) })
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

    #[test]
    fn a_shift_beyond_the_range_is_the_difference_of_the_means() {
        // 0 and 1 against 1000 and 3001: every row moves up, whatever the last bin hides.
        let reference = Side { counts: &[0, 1, 1, 0], mean: 0.5, min: 0.0, max: 1.0 };
        let window = Side { counts: &[0, 0, 0, 2], mean: 2000.5, min: 1000.0, max: 3001.0 };
        let distance = binned_distance(reference, window, &[0.0, 1.0, 1.0f64.next_up()]).unwrap();
        assert_eq!(distance, BinnedDistance { value: 2000.0, bound: 0.0 });
    }

    #[test]
    fn the_bound_covers_every_placement_inside_a_shared_bin() {
        // One bin from 0 to 4, same means: {0, 4} against {2, 2} is 2 apart, {0, 4} against {0, 4} is 0.
        let reference = Side { counts: &[2], mean: 2.0, min: 0.0, max: 4.0 };
        let window = Side { counts: &[2], mean: 2.0, min: 0.0, max: 4.0 };
        let distance = binned_distance(reference, window, &[]).unwrap();
        assert!(distance.value - distance.bound <= 0.0 && distance.value + distance.bound >= 2.0, "{distance:?}");
    }
}
