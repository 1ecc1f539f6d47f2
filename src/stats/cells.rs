//! Two profiles of one layout, bin by bin: what statistics of distribution functions can be sure of.

use super::layout::NumericLayout;
use super::numeric_profile::NumericProfile;

/// One bin of both sides. Its values lie in [from, to], at places unknown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    /// Lower end: the bin's edge, or the least value of both sides.
    pub from: f64,
    /// Upper end: the next bin's edge, which no value of this one reaches, or the greatest value of both sides.
    pub to: f64,
    pub reference: u64,
    pub window: u64,
    pub reference_below: u64,
    pub window_below: u64,
    /// Room for one value only, `from`: such a bin hides nothing.
    pub single: bool,
}

impl Cell {
    /// Values below: reference, window.
    pub fn below(&self) -> (f64, f64) {
        (self.reference_below as f64, self.window_below as f64)
    }

    /// Values inside: reference, window.
    pub fn counts(&self) -> (f64, f64) {
        (self.reference as f64, self.window as f64)
    }

    pub fn width(&self) -> f64 {
        self.to - self.from
    }

    /// For tests of what a bin can hide, wherever it is.
    #[cfg(test)]
    pub fn of_counts(below: (f64, f64), (reference, window): (u64, u64)) -> Self {
        let (reference_below, window_below) = (below.0 as u64, below.1 as u64);
        Self { from: 0.0, to: 1.0, reference, window, reference_below, window_below, single: false }
    }
}

/// The bins from the least to the greatest value of both sides, in order; together they cover all between.
#[derive(Debug, Clone, PartialEq)]
pub struct Cells {
    pub n_reference: u64,
    pub n: u64,
    cells: Vec<Cell>,
}

impl Cells {
    /// `None` where a side is empty.
    pub fn new(layout: &NumericLayout, reference: &NumericProfile, window: &NumericProfile) -> Option<Self> {
        let lowest = reference.min()?.min(window.min()?);
        let highest = reference.max()?.max(window.max()?);
        let edges = layout.edges();
        let mut cells = Vec::new();
        let (mut reference_below, mut window_below) = (0, 0);
        for (bin, (in_reference, in_window)) in reference.counts().into_iter().zip(window.counts()).enumerate() {
            let from = bin.checked_sub(1).map_or(lowest, |below| edges[below].max(lowest));
            let next = edges.get(bin).copied().filter(|edge| *edge <= highest);
            let to = next.unwrap_or(highest);
            if to > from || in_reference + in_window > 0 {
                let greatest = next.map_or(highest, f64::next_down);
                cells.push(Cell {
                    from,
                    to,
                    reference: in_reference,
                    window: in_window,
                    reference_below,
                    window_below,
                    single: greatest <= from,
                });
            }
            reference_below += in_reference;
            window_below += in_window;
        }
        Some(Self { n_reference: reference_below, n: window_below, cells })
    }

    pub fn all(&self) -> &[Cell] {
        &self.cells
    }

    /// Those that hold values.
    pub fn filled(&self) -> impl Iterator<Item = &Cell> {
        self.cells.iter().filter(|cell| cell.reference + cell.window > 0)
    }

    /// Distribution functions of reference and window below a cell and at its end.
    pub fn shares(&self, cell: &Cell) -> ((f64, f64), (f64, f64)) {
        let (n_reference, n) = (self.n_reference as f64, self.n as f64);
        let ((x, y), (a, b)) = (cell.below(), cell.counts());
        ((x / n_reference, y / n), ((x + a) / n_reference, (y + b) / n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_cover_the_range_of_both_sides_and_know_single_values() {
        let layout = NumericLayout::of_sorted(&[0.0, 1.0, 1.0, 2.0]);
        let profile_of = |values: &[f64]| {
            let mut profile = NumericProfile::new(&layout);
            values.iter().for_each(|value| profile.add(*value, &layout));
            profile
        };
        let (reference, window) = (profile_of(&[0.0, 1.0, 1.0, 2.0]), profile_of(&[1.0, 7.0]));
        let cells = Cells::new(&layout, &reference, &window).unwrap();
        let (first, last) = (cells.all().first().unwrap(), cells.all().last().unwrap());
        assert_eq!((first.from, last.to, cells.n_reference, cells.n), (0.0, 7.0, 4, 2));
        let gaps = cells.all().windows(2).filter(|pair| pair[0].to != pair[1].from).count();
        assert_eq!(gaps, 0);
        let of_one = cells.filled().find(|cell| cell.from == 1.0).unwrap();
        assert!(of_one.single && of_one.reference == 2 && of_one.window == 1, "{of_one:?}");
        assert!(!last.single, "7 shares its bin with what lies below: {last:?}");
        assert!(Cells::new(&layout, &reference, &profile_of(&[])).is_none());
    }
}
