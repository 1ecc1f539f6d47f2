//! Mann-Whitney U: does one side tend to larger values?

use statrs::function::erf::erfc;

use super::cells::Cells;
use super::metric::MetricValue;

/// Two-sided p-value of U by the normal approximation with tie and continuity correction; `tie_term` is the sum of
/// t³ - t over ties of t values of both sides.
pub fn p_value(u: f64, n_reference: u64, n: u64, tie_term: f64) -> f64 {
    let (n_reference, n) = (n_reference as f64, n as f64);
    let rows = n_reference + n;
    let larger = u.max(n_reference * n - u);
    let variance = n_reference * n / 12.0 * ((rows + 1.0) - tie_term / (rows * (rows - 1.0)));
    let z = (larger - n_reference * n / 2.0 - 0.5) / variance.sqrt();
    erfc(z / std::f64::consts::SQRT_2).clamp(0.0, 1.0)
}

/// What a tie of so many values adds to the tie term.
pub fn tie(values: f64) -> f64 {
    values * values * values - values
}

/// U of the reference (pairs in which its value is the larger one, ties half) and its p-value, of two profiles. Each
/// pair inside a bin counts as a tie, which is half of what it can be.
pub fn binned(cells: &Cells) -> (MetricValue, MetricValue) {
    let (mut u, mut hidden, mut ties, mut hidden_ties) = (0.0, 0.0, 0.0, 0.0);
    for cell in cells.filled() {
        let ((_, window_below), (reference, window)) = (cell.below(), cell.counts());
        u += reference * (window_below + window / 2.0);
        if cell.single {
            ties += tie(reference + window);
        } else {
            hidden += reference * window / 2.0;
            hidden_ties += tie(reference + window);
        }
    }
    let pairs = cells.n_reference as f64 * cells.n as f64;
    let of = |u: f64, ties: f64| p_value(u, cells.n_reference, cells.n, ties);
    // p falls with the distance from the middle; how it moves with the ties depends on the side of the correction.
    let away = (u - pairs / 2.0).abs();
    let (nearest, furthest) = (pairs / 2.0 + (away - hidden).max(0.0), pairs / 2.0 + away + hidden);
    let corners =
        [of(nearest, ties), of(nearest, ties + hidden_ties), of(furthest, ties), of(furthest, ties + hidden_ties)];
    let (least, most) = corners.into_iter().fold((1.0f64, 0.0f64), |(least, most), p| {
        // All values may be one: then there is no variance, and no answer but 1.
        if p.is_nan() { (least, 1.0) } else { (least.min(p), most.max(p)) }
    });
    let value = of(u, ties);
    (MetricValue::within(u, u - hidden, u + hidden), MetricValue::within(value, least, most))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::cells::Cells;
    use crate::stats::layout::NumericLayout;
    use crate::stats::numeric_profile::NumericProfile;
    use crate::stats::rows::ecdf::merge;
    use crate::stats::rows::mann_whitney::mann_whitney;

    #[test]
    fn the_rows_lie_within_the_range_of_the_bins() {
        let mut reference: Vec<f64> = (0..3_000).map(|i| (f64::from(i) * 0.61).sin()).collect();
        let mut window: Vec<f64> = (0..700).map(|i| (f64::from(i) * 0.37).sin() + 0.02).collect();
        reference.sort_by(f64::total_cmp);
        window.sort_by(f64::total_cmp);
        let layout = NumericLayout::of_sorted(&reference);
        let profile_of = |values: &[f64]| {
            let mut profile = NumericProfile::new(&layout);
            values.iter().for_each(|value| profile.add(*value, &layout));
            profile
        };
        let cells = Cells::new(&layout, &profile_of(&reference), &profile_of(&window)).unwrap();
        let (u, p) = binned(&cells);
        let (exact_u, exact_p) = mann_whitney(&merge(&reference, &window));
        for (found, exact) in [(u, exact_u), (p, exact_p)] {
            let (value, bound) = (found.value.unwrap(), found.bound.unwrap());
            assert!((value - exact).abs() <= bound + 1e-9, "{exact} outside {found:?}");
        }
    }
}
