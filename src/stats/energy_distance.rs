//! Energy distance (Szekely and Rizzo, 2004) of two profiles: root of twice the area of the squared difference of the
//! distribution functions.

use super::cells::Cells;
use super::metric::MetricValue;

/// In the root of the feature's unit. Inside a bin both functions rise at places unknown: their difference lies
/// between what is left where one has risen before the other, and all of it.
pub fn binned(cells: &Cells) -> MetricValue {
    let (mut least, mut even, mut most) = (0.0, 0.0, 0.0);
    for cell in cells.all() {
        let ((f, g), (f_end, g_end)) = cells.shares(cell);
        let (before, after) = (f - g, f_end - g_end);
        if cell.single {
            let area = cell.width() * after * after;
            (least, even, most) = (least + area, even + area, most + area);
            continue;
        }
        let (low, high) = (f - g_end, f_end - g);
        let nearest = low.max(-high).max(0.0);
        let furthest = high.max(-low);
        least += cell.width() * nearest * nearest;
        even += cell.width() * (before * before + before * after + after * after) / 3.0;
        most += cell.width() * furthest * furthest;
    }
    let root = |area: f64| (2.0 * area).sqrt();
    MetricValue::within(root(even), root(least), root(most))
}
