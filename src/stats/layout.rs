//! How a reference cuts a feature into bins or categories: fixed when the reference is built, shared by every profile
//! that is compared with it.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use hashbrown::HashMap;

use super::edges;
use super::span::Span;
use super::vector::layout::VectorLayout;

/// Layout of a feature's profiles. Cheap to clone. Profiles of different layouts never merge.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Layout {
    Numeric(Arc<NumericLayout>),
    Categorical(Arc<CategoricalLayout>),
    Vector(Arc<VectorLayout>),
}

impl Layout {
    pub fn kind_name(&self) -> &'static str {
        match self {
            Layout::Numeric(_) => "numeric",
            Layout::Categorical(_) => "categorical",
            Layout::Vector(_) => "vector",
        }
    }
}

/// Most categories with a counter of their own; a feature with more is an identifier rather than a category.
pub const MOST_CATEGORIES: usize = 5_000;
/// Cells of the table that leads a value to its bin.
const CELLS: usize = 4_096;

/// Bins of a numeric feature: `edges.len() + 1` of them, bin of v = number of edges <= v.
#[derive(Debug, Clone)]
pub struct NumericLayout {
    edges: Vec<f64>,
    percentiles: Vec<f64>,
    centre: f64,
    range: Option<ValueRange>,
    span: Option<Span>,
    search: EdgeSearch,
}

/// Where the values of a feature belong; both ends are inside.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValueRange {
    pub min: f64,
    pub max: f64,
    /// Given in the model file; else the least and the greatest value of the reference.
    pub configured: bool,
}

impl ValueRange {
    /// Edges that tell what lies inside from what lies outside.
    fn edges(self) -> impl Iterator<Item = f64> {
        [self.min, self.max.next_up()].into_iter().filter(|edge| edge.is_finite())
    }
}

impl NumericLayout {
    /// Layout of a reference's finite values, ascending.
    pub fn of_sorted(sorted: &[f64]) -> Self {
        Self::with_range(sorted, None)
    }

    /// The same, with edges at the ends of the range that the model file gives, so that what leaves it is counted
    /// exactly; without one the range is that of the values.
    pub fn with_range(sorted: &[f64], configured: Option<(f64, f64)>) -> Self {
        let span = Span::of_sorted(sorted);
        let (mut edges, percentiles) = edges::edges_and_percentiles(sorted, span.as_ref());
        let centre = percentiles.get(edges::PERCENTILES as usize / 2 - 1).copied().unwrap_or(0.0);
        let of_values = sorted.first().zip(sorted.last()).map(|(min, max)| (*min, *max));
        let range = configured.or(of_values).map(|(min, max)| ValueRange {
            min: edges::positive_zero(min),
            max: edges::positive_zero(max),
            configured: configured.is_some(),
        });
        edges.extend(range.into_iter().flat_map(ValueRange::edges));
        edges.sort_unstable_by(f64::total_cmp);
        edges.dedup();
        Self { range, ..Self::assemble(edges, percentiles, centre, span) }
    }

    /// Layout read from a file; `None` unless edges are finite and ascending, percentiles are 99 (or none), and those
    /// and what follows from them and from the span are among the edges.
    pub fn from_parts(edges: Vec<f64>, percentiles: Vec<f64>, centre: f64, span: Option<Span>) -> Option<Self> {
        let ascending = edges.windows(2).all(|pair| pair[0] < pair[1]);
        let tidy = edges.iter().all(|edge| edge.is_finite() && edge.to_bits() != (-0.0f64).to_bits());
        let complete = percentiles.len() == edges::PERCENTILES as usize - 1 || percentiles.is_empty();
        let has = |value: &f64| edges.binary_search_by(|edge| edge.total_cmp(value)).is_ok();
        let known = span.is_some() != percentiles.is_empty() && span.is_none_or(|span| span.is_tidy());
        let small = edges.len() < usize::from(u16::MAX);
        if !(ascending && tidy && complete && known && small && centre.is_finite()) {
            return None;
        }
        let derived = edges::derived_edges(&percentiles, span.as_ref());
        (percentiles.iter().all(has) && derived.iter().all(has))
            .then(|| Self::assemble(edges, percentiles, centre, span))
    }

    fn assemble(edges: Vec<f64>, percentiles: Vec<f64>, centre: f64, span: Option<Span>) -> Self {
        let search = EdgeSearch::new(&edges, percentiles.first().copied(), percentiles.last().copied());
        Self { edges, percentiles, centre, range: None, span, search }
    }

    pub fn edges(&self) -> &[f64] {
        &self.edges
    }

    /// Percentiles 1 to 99 of the reference; empty for an empty one.
    pub fn percentiles(&self) -> &[f64] {
        &self.percentiles
    }

    /// Ends and numbers of the reference's values; `None` of an empty one.
    pub fn span(&self) -> Option<&Span> {
        self.span.as_ref()
    }

    /// The reference's median: squares are summed around it, so that a large mean does not drown the variance.
    pub fn centre(&self) -> f64 {
        self.centre
    }

    /// Where values belong; `None` for a reference without values, unless the model file says.
    pub fn range(&self) -> Option<ValueRange> {
        self.range
    }

    /// A layout read from a file with its range; `None` unless the layout has edges at its ends.
    pub fn and_range(self, range: ValueRange) -> Option<Self> {
        let ordered = range.min.is_finite() && range.max.is_finite() && range.min <= range.max;
        let has = |edge: f64| self.edges.binary_search_by(|known| known.total_cmp(&edge)).is_ok();
        (ordered && range.edges().all(has)).then_some(Self { range: Some(range), ..self })
    }

    /// Values in bins outside of the range, of counts per bin.
    pub fn count_outside_range(&self, counts: &[u64]) -> u64 {
        let Some(range) = self.range else { return 0 };
        let (first, last) = (self.bin(range.min), self.bin(range.max));
        let outside = counts.iter().enumerate().filter(|(bin, _)| *bin < first || *bin > last);
        outside.fold(0, |total, (_, count)| total.saturating_add(*count))
    }

    pub fn bins(&self) -> usize {
        self.edges.len() + 1
    }

    /// Bin of a finite value.
    #[inline]
    pub fn bin(&self, value: f64) -> usize {
        self.search.count_at_most(value)
    }

    /// For each bin, whether it has room for one double only: such a bin hides nothing.
    pub fn atoms(&self) -> Vec<bool> {
        let mut atoms = vec![false; self.bins()];
        for (index, pair) in self.edges.windows(2).enumerate() {
            atoms[index + 1] = pair[0].next_up() == pair[1];
        }
        atoms
    }
}

/// What makes the layout; the search table follows from it.
impl PartialEq for NumericLayout {
    fn eq(&self, other: &Self) -> bool {
        let same_bits = |a: &[f64], b: &[f64]| a.iter().map(|v| v.to_bits()).eq(b.iter().map(|v| v.to_bits()));
        same_bits(&self.edges, &other.edges)
            && same_bits(&self.percentiles, &other.percentiles)
            && self.centre.to_bits() == other.centre.to_bits()
            && self.range == other.range
            && self.span == other.span
    }
}

impl Eq for NumericLayout {}

impl Hash for NumericLayout {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.edges.iter().for_each(|edge| edge.to_bits().hash(state));
        self.centre.to_bits().hash(state);
    }
}

/// Counts the edges at or below a value: a table of equal-width cells over the bulk of the reference leads to the
/// edges of the value's cell, a binary search with a fixed number of steps (no branch to mispredict) does the rest.
/// Measured, 1100 edges, ns a value: uniform 3.2, log-normal (sigma 1.5) 4.7; a plain binary search
/// over all edges takes 8.8 to 9.5.
///
/// It is exact because the cell of a value never decreases as the value grows (subtraction, multiplication and
/// truncation are monotone in floating point too): edges in earlier cells are below the value, edges in later ones
/// above it.
#[derive(Debug, Clone)]
struct EdgeSearch {
    /// The edges, then NaN, which no value reaches, for steps that lead beyond the end.
    padded: Vec<f64>,
    edges: usize,
    /// Number of edges in the cells before this one.
    starts: Box<[u16; CELLS]>,
    origin: f64,
    cells_per_unit: f64,
    /// A power of two; steps of this and all smaller ones cover the fullest inner cell.
    first_step: usize,
}

impl EdgeSearch {
    fn new(edges: &[f64], low: Option<f64>, high: Option<f64>) -> Self {
        let (low, high) = (low.unwrap_or(0.0), high.unwrap_or(0.0));
        // The first and the last cell take what lies outside the bulk.
        let cell_width = (high - low) / (CELLS - 3) as f64;
        let cells_per_unit = 1.0 / cell_width;
        // No bulk to speak of (a constant, or a range beyond the doubles): everything is outside.
        let useful = cell_width > 0.0 && cell_width.is_finite() && cells_per_unit.is_finite();
        let mut search = Self {
            padded: edges.to_vec(),
            edges: edges.len(),
            starts: Box::new([0; CELLS]),
            origin: low - cell_width,
            cells_per_unit: if useful { cells_per_unit } else { 0.0 },
            first_step: 0,
        };
        let mut in_cell = vec![0u16; CELLS];
        for edge in edges {
            in_cell[search.cell(*edge)] += 1;
        }
        let mut before = 0;
        for (start, edges) in search.starts.iter_mut().zip(&in_cell) {
            *start = before;
            before += edges;
        }
        let fullest = in_cell[1..CELLS - 1].iter().copied().max().unwrap_or(0);
        search.first_step = usize::from(fullest + 1).next_power_of_two() / 2;
        search.padded.extend(std::iter::repeat_n(f64::NAN, 2 * search.first_step));
        search
    }

    #[inline]
    fn cell(&self, value: f64) -> usize {
        // `as` saturates: below the origin 0, above the last cell is cut off.
        (((value - self.origin) * self.cells_per_unit) as usize).min(CELLS - 1)
    }

    #[inline]
    fn count_at_most(&self, value: f64) -> usize {
        let cell = self.cell(value);
        if cell == 0 || cell == CELLS - 1 {
            return self.count_outside(value);
        }
        let mut count = usize::from(self.starts[cell]);
        let mut step = self.first_step;
        while step > 0 {
            let below = self.padded[count + step - 1] <= value;
            count += std::hint::select_unpredictable(below, step, 0);
            step /= 2;
        }
        count
    }

    /// Outside the bulk: rare, so kept out of the loop's way.
    #[cold]
    fn count_outside(&self, value: f64) -> usize {
        self.padded[..self.edges].partition_point(|edge| *edge <= value)
    }
}

/// Categories of a categorical feature, sorted; at most [`MOST_CATEGORIES`].
#[derive(Debug, Clone)]
pub struct CategoricalLayout {
    categories: Vec<String>,
    truncated: bool,
    index: HashMap<String, u32>,
}

impl CategoricalLayout {
    /// Layout of a reference's categories with their counts: the most frequent [`MOST_CATEGORIES`], ties by name.
    pub fn of_counts(mut counts: Vec<(String, u64)>) -> Self {
        counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let truncated = counts.len() > MOST_CATEGORIES;
        counts.truncate(MOST_CATEGORIES);
        let mut categories: Vec<String> = counts.into_iter().map(|(category, _)| category).collect();
        categories.sort_unstable();
        Self::assemble(categories, truncated)
    }

    /// Layout read from a file; `None` unless categories are ascending without duplicates.
    pub fn from_parts(categories: Vec<String>, truncated: bool) -> Option<Self> {
        let ascending = categories.windows(2).all(|pair| pair[0] < pair[1]);
        (ascending && categories.len() <= MOST_CATEGORIES).then(|| Self::assemble(categories, truncated))
    }

    fn assemble(categories: Vec<String>, truncated: bool) -> Self {
        let index = (0u32..).zip(&categories).map(|(position, category)| (category.clone(), position)).collect();
        Self { categories, truncated, index }
    }

    pub fn categories(&self) -> &[String] {
        &self.categories
    }

    /// True: the reference has more categories than these. What is not listed may then be old or new, so both sides
    /// count it together and unseen categories are not known.
    pub fn truncated(&self) -> bool {
        self.truncated
    }

    #[inline]
    pub fn position(&self, category: &str) -> Option<usize> {
        self.index.get(category).map(|position| *position as usize)
    }
}

impl PartialEq for CategoricalLayout {
    fn eq(&self, other: &Self) -> bool {
        self.categories == other.categories && self.truncated == other.truncated
    }
}

impl Eq for CategoricalLayout {}

impl Hash for CategoricalLayout {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.categories.hash(state);
        self.truncated.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup_equals_partition_point(reference: &mut [f64], probes: &[f64]) {
        reference.sort_by(f64::total_cmp);
        let layout = NumericLayout::of_sorted(reference);
        let edges = layout.edges().to_vec();
        let near = edges.iter().flat_map(|edge| [edge.next_down(), *edge, edge.next_up()]);
        for value in near.chain(probes.iter().copied()).filter(|value| value.is_finite()) {
            let expected = edges.partition_point(|edge| *edge <= value);
            assert_eq!(layout.bin(value), expected, "value {value:e}");
        }
    }

    #[test]
    fn the_table_answers_as_a_binary_search_does() {
        let probes = [0.0, -0.0, 1e308, -1e308, f64::MAX, f64::MIN, 5e-324, -5e-324, 0.5, 1e-9, 12.0];
        let n = 5_000;
        let uniform = |i: i32| f64::from(i) / f64::from(n);
        lookup_equals_partition_point(&mut (0..n).map(uniform).collect::<Vec<_>>(), &probes);
        lookup_equals_partition_point(
            &mut (0..n).map(|i| (uniform(i) * 20.0 - 10.0).exp()).collect::<Vec<_>>(),
            &probes,
        );
        lookup_equals_partition_point(
            &mut (0..n).map(|i| (uniform(i) - 0.5).powi(9) * 1e300).collect::<Vec<_>>(),
            &probes,
        );
        lookup_equals_partition_point(&mut (0..n).map(|i| f64::from(i % 7)).collect::<Vec<_>>(), &probes);
        lookup_equals_partition_point(&mut [f64::MAX, f64::MIN, 0.0], &probes);
        lookup_equals_partition_point(&mut [3.0; 20], &probes);
        lookup_equals_partition_point(&mut [], &probes);
        lookup_equals_partition_point(&mut (0..n).map(|i| f64::from(i) * 5e-324).collect::<Vec<_>>(), &probes);
    }

    #[test]
    fn forged_layouts_are_refused() {
        assert!(NumericLayout::from_parts(vec![2.0, 1.0], vec![], 0.0, None).is_none());
        assert!(NumericLayout::from_parts(vec![1.0, f64::NAN], vec![], 0.0, None).is_none());
        let layout = NumericLayout::of_sorted(&[1.0, 2.0, 3.0]);
        let span = layout.span().copied();
        let of = |edges: &[f64], percentiles: &[f64], span| {
            NumericLayout::from_parts(edges.to_vec(), percentiles.to_vec(), 0.0, span)
        };
        assert!(of(&[1.0], &[5.0; 99], span).is_none());
        assert!(of(layout.edges(), layout.percentiles(), None).is_none());
        let wider = span.map(|span| Span { max: 4.0, ..span });
        assert!(of(layout.edges(), layout.percentiles(), wider).is_none());
        assert!(CategoricalLayout::from_parts(vec!["b".into(), "a".into()], false).is_none());
        let again =
            NumericLayout::from_parts(layout.edges.clone(), layout.percentiles.clone(), layout.centre, span).unwrap();
        let range = ValueRange { min: 1.0, max: 3.0, configured: false };
        assert_eq!(again.clone().and_range(range).as_ref(), Some(&layout));
        for (min, max) in [(1.2345, 3.0), (1.0, 2.3456), (3.0, 1.0), (f64::NAN, 3.0), (1.0, f64::INFINITY)] {
            assert_eq!(again.clone().and_range(ValueRange { min, max, configured: true }), None, "[{min}, {max}]");
        }
    }

    #[test]
    fn the_most_frequent_categories_are_kept() {
        let counts = (0..6_000).map(|i| (format!("c{i:04}"), if i >= 1_000 { 2 } else { 1 })).collect();
        let layout = CategoricalLayout::of_counts(counts);
        assert!(layout.truncated());
        assert_eq!(layout.categories().len(), MOST_CATEGORIES);
        assert_eq!(layout.position("c5999"), Some(MOST_CATEGORIES - 1));
        assert_eq!(layout.position("c0000"), None);
    }
}
