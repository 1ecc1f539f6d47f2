//! How a reference looks at vectors: what is learned from its rows once, and shared by every profile.

use std::hash::{Hash, Hasher};

use super::arithmetic::{Random, mix};
use super::eigen::{Symmetric, orthonormalise};
use super::law::SquaredDistanceLaw;
use super::measure::Measured;
use crate::config::model::MOST_DIMENSIONS;

/// Random frequencies; each gives two features, a cosine and a sine.
pub const FREQUENCIES: usize = 128;
/// Random features.
pub const FEATURES: usize = 2 * FREQUENCIES;
/// Values further from the reference's mean than this many of its standard deviations count as this far.
pub const MOST_DEVIATIONS: f64 = 32.0;
/// The principal components kept are the fewest with this share of the variance (NannyML's default), ...
const KEPT_VARIANCE: f64 = 0.65;
/// ... but no more than this.
pub const MOST_COMPONENTS: usize = 64;
/// Seed of the frequencies. Stored with every layout, so that it can change without touching older references.
const SEED: u64 = 0x6472_6966_746c_696e;
/// Rows from which the bandwidth is taken: 125 000 distances.
const BANDWIDTH_ROWS: usize = 500;
/// Rows from which the axes and the laws under no drift are taken.
const LAW_ROWS: usize = 2_000;
/// Entries of a row vector are padded with zeros to a multiple of this.
pub(super) const LANES: usize = 16;

/// What a vector layout is made of; everything else follows from it.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorParts {
    /// Names of the entries: the features of a joint signal. Empty: an embedding, whose entries have none.
    pub names: Vec<String>,
    /// Mean of each entry.
    pub centre: Vec<f64>,
    /// Standard deviation of each entry; 1 where it is constant.
    pub scale: Vec<f64>,
    /// Seed of the random frequencies.
    pub seed: u64,
    /// Bandwidth sigma of the kernel exp(-d^2 / (2 sigma^2)), in standardised entries.
    pub bandwidth: f64,
    /// Principal axes of the standardised entries, largest first, each of unit length.
    pub components: Vec<Vec<f32>>,
    /// Variance along each axis.
    pub variances: Vec<f64>,
    /// Mean and standard deviation of the reconstruction error.
    pub error: [f64; 2],
    /// Law of the squared distance between means of random features.
    pub features_law: SquaredDistanceLaw,
    /// Law of the squared distance between means of directions.
    pub directions_law: SquaredDistanceLaw,
}

/// Layout of vectors of one dimension. The entries are standardised by the reference's means and standard deviations
/// first: an entry counts by how it varies, not by its unit.
#[derive(Debug, Clone)]
pub struct VectorLayout {
    parts: VectorParts,
    /// Reciprocal of `scale`.
    per_unit: Vec<f64>,
    /// Frequencies in turns, one row of `stride` entries each.
    frequencies: Vec<f32>,
    /// The components, one row of `stride` entries each.
    axes: Vec<f32>,
    stride: usize,
}

impl VectorLayout {
    /// Layout of the reference's rows, `names.len()` (or `dimension`) finite numbers each. Equal rows in equal order
    /// give equal layouts.
    pub fn of_rows(rows: &[&[f64]], dimension: usize, names: Vec<String>) -> Self {
        let (centre, scale) = centre_and_scale(rows, dimension);
        let mut parts = VectorParts {
            names,
            centre,
            scale,
            seed: SEED,
            bandwidth: 1.0,
            components: Vec::new(),
            variances: Vec::new(),
            error: [0.0, 1.0],
            features_law: SquaredDistanceLaw { traces: [0.0; 3] },
            directions_law: SquaredDistanceLaw { traces: [0.0; 3] },
        };
        let places = drawn(rows.len());
        let chosen: Vec<&[f64]> = places.iter().take(LAW_ROWS).map(|place| rows[*place]).collect();
        let standardised: Vec<Vec<f64>> = chosen.iter().map(|row| parts.standardise(row)).collect();
        parts.bandwidth = bandwidth(&standardised[..standardised.len().min(BANDWIDTH_ROWS)]);
        let covariance = Symmetric::covariance(&standardised[..fitted(rows.len())], dimension);
        let eigen = covariance.leading(MOST_COMPONENTS.min(dimension));
        let kept = kept_components(&eigen.values, covariance.trace());
        parts.components =
            eigen.vectors[..kept].iter().map(|axis| axis.iter().map(|entry| *entry as f32).collect()).collect();
        parts.variances = eigen.values[..kept].iter().map(|value| value.max(0.0)).collect();
        let mut layout = Self::assemble(parts);
        layout.learn_laws(&chosen);
        layout
    }

    /// What needs the random features and the components to be in place.
    fn learn_laws(&mut self, rows: &[&[f64]]) {
        let mut measured = Measured::new(self);
        let (mut features, mut directions, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            if measured.take(row, self) {
                features.push(measured.features().to_vec());
                directions.push(measured.direction().to_vec());
                errors.push(measured.error());
            }
        }
        let errors = &errors[errors.len() / 2..];
        self.parts.features_law = SquaredDistanceLaw::of_rows(&features, FEATURES);
        self.parts.directions_law = SquaredDistanceLaw::of_rows(&directions, self.dimension());
        let n = errors.len().max(1) as f64;
        let mean = errors.iter().sum::<f64>() / n;
        let variance = errors.iter().map(|error| (error - mean).powi(2)).sum::<f64>() / n;
        self.parts.error = [mean, if variance > 0.0 { variance.sqrt() } else { 1.0 }];
    }

    /// Layout read from a file; `None` unless every part has the size and range that [`VectorLayout::of_rows`] gives
    /// it.
    pub fn from_parts(parts: VectorParts) -> Option<Self> {
        let dimension = parts.centre.len();
        let named = parts.names.is_empty() || parts.names.len() == dimension;
        let sized = (1..=MOST_DIMENSIONS).contains(&dimension)
            && parts.scale.len() == dimension
            && parts.components.len() == parts.variances.len()
            && parts.components.len() <= MOST_COMPONENTS.min(dimension)
            && parts.components.iter().all(|axis| axis.len() == dimension);
        let positive = |value: &f64| value.is_finite() && *value > 0.0;
        let not_negative = |value: &f64| value.is_finite() && *value >= 0.0;
        let in_range = parts.centre.iter().all(|value| value.is_finite())
            && parts.scale.iter().all(positive)
            && positive(&parts.bandwidth)
            && parts.components.iter().flatten().all(|entry| entry.is_finite() && entry.abs() <= 1.01)
            && parts.variances.iter().chain(&parts.error[..1]).all(not_negative)
            && positive(&parts.error[1])
            && parts.features_law.traces.iter().chain(&parts.directions_law.traces).all(not_negative);
        (named && sized && in_range).then(|| Self::assemble(parts))
    }

    fn assemble(parts: VectorParts) -> Self {
        let dimension = parts.centre.len();
        let stride = dimension.next_multiple_of(LANES);
        let mut frequencies = Vec::with_capacity(FREQUENCIES * stride);
        for frequency in random_frequencies(parts.seed, dimension) {
            let turns = 1.0 / (std::f64::consts::TAU * parts.bandwidth);
            frequencies.extend(frequency.iter().map(|entry| (entry * turns) as f32));
            frequencies.resize(frequencies.len().next_multiple_of(LANES), 0.0);
        }
        let mut axes = Vec::with_capacity(parts.components.len() * stride);
        for axis in &parts.components {
            axes.extend_from_slice(axis);
            axes.resize(axes.len().next_multiple_of(LANES), 0.0);
        }
        let per_unit = parts.scale.iter().map(|scale| 1.0 / scale).collect();
        Self { parts, per_unit, frequencies, axes, stride }
    }

    pub fn parts(&self) -> &VectorParts {
        &self.parts
    }

    pub fn dimension(&self) -> usize {
        self.parts.centre.len()
    }

    /// Principal axes kept.
    pub fn components(&self) -> usize {
        self.parts.components.len()
    }

    /// A joint signal: its entries are features with names and units of their own.
    pub fn is_joint(&self) -> bool {
        !self.parts.names.is_empty()
    }

    /// Name of an entry for people: the feature's, or `[17]`.
    pub fn entry_name(&self, entry: usize) -> String {
        self.parts.names.get(entry).cloned().unwrap_or_else(|| format!("[{entry}]"))
    }

    /// Padded length of a standardised row.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// Standardised entry of a finite value.
    #[inline]
    pub(super) fn standardised(&self, value: f64, entry: usize) -> f64 {
        ((value - self.parts.centre[entry]) * self.per_unit[entry]).clamp(-MOST_DEVIATIONS, MOST_DEVIATIONS)
    }

    pub(super) fn frequencies(&self) -> impl Iterator<Item = &[f32]> {
        self.frequencies.chunks_exact(self.stride)
    }

    pub(super) fn axes(&self) -> impl Iterator<Item = &[f32]> {
        self.axes.chunks_exact(self.stride)
    }
}

impl VectorParts {
    fn standardise(&self, row: &[f64]) -> Vec<f64> {
        let of = |(value, (centre, scale)): (&f64, (&f64, &f64))| {
            ((value - centre) / scale).clamp(-MOST_DEVIATIONS, MOST_DEVIATIONS)
        };
        row.iter().zip(self.centre.iter().zip(&self.scale)).map(of).collect()
    }
}

fn centre_and_scale(rows: &[&[f64]], dimension: usize) -> (Vec<f64>, Vec<f64>) {
    let n = rows.len().max(1) as f64;
    let mut centre = vec![0.0; dimension];
    for row in rows {
        // Divided first: the sum of large values would leave the doubles.
        centre.iter_mut().zip(*row).for_each(|(mean, value)| *mean += value / n);
    }
    let mut scale = vec![0.0; dimension];
    for row in rows {
        let squares = scale.iter_mut().zip(row.iter().zip(&centre));
        squares.for_each(|(sum, (value, mean))| *sum += (value - mean) * ((value - mean) / n));
    }
    for (entry, variance) in scale.iter_mut().enumerate() {
        let deviation = variance.sqrt();
        // What rounding leaves of a constant is no spread.
        let least = 1e-12 * centre[entry].abs();
        *variance =
            if deviation > least && deviation.is_finite() && (1.0 / deviation).is_finite() { deviation } else { 1.0 };
    }
    (centre, scale)
}

/// Places of rows in an order drawn by their hash: no period of the data can fall in step with it.
fn drawn(rows: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..rows).collect();
    places.sort_by_key(|place| (mix(*place as u64 + 1), *place));
    places
}

/// How many of the drawn rows the principal axes are fitted to: at most half, since they fit those rows better than
/// any others, and only the rest can say what error and scores are usual.
fn fitted(rows: usize) -> usize {
    (rows / 2).min(LAW_ROWS)
}

/// For each of the rows handed to [`VectorLayout::of_rows`], whether the principal axes were fitted to it.
pub fn fitted_rows(rows: usize) -> Vec<bool> {
    let mut is_fitted = vec![false; rows];
    drawn(rows).into_iter().take(fitted(rows)).for_each(|place| is_fitted[place] = true);
    is_fitted
}

/// The median rule: sigma^2 is half the median squared distance between rows (Gretton et al. 2012, as alibi-detect
/// has it). 1 where rows do not differ.
fn bandwidth(rows: &[Vec<f64>]) -> f64 {
    let mut squares = Vec::with_capacity(rows.len() * rows.len() / 2);
    for (at, left) in rows.iter().enumerate() {
        for right in &rows[at + 1..] {
            squares.push(left.iter().zip(right).map(|(a, b)| (a - b) * (a - b)).sum::<f64>());
        }
    }
    squares.sort_unstable_by(f64::total_cmp);
    // Discrete rows may coincide more often than not: then the median among those that differ.
    let differing = &squares[squares.partition_point(|square| *square <= 0.0)..];
    let candidates =
        if squares.get(squares.len() / 2).is_some_and(|median| *median > 0.0) { &squares } else { differing };
    candidates.get(candidates.len() / 2).map_or(1.0, |median| (0.5 * median).sqrt())
}

fn kept_components(variances: &[f64], total: f64) -> usize {
    let mut sum = 0.0;
    let enough = variances.iter().position(|variance| {
        sum += variance;
        sum >= KEPT_VARIANCE * total
    });
    enough.map_or(variances.len(), |at| at + 1)
}

/// Normal directions, orthogonal within each block of as many as there are dimensions: the mean over them stays the
/// kernel, its variance shrinks (Yu et al. 2016, Orthogonal random features).
fn random_frequencies(seed: u64, dimension: usize) -> Vec<Vec<f64>> {
    let mut random = Random::new(seed);
    let mut frequencies: Vec<Vec<f64>> =
        (0..FREQUENCIES).map(|_| (0..dimension).map(|_| random.normal()).collect()).collect();
    let lengths: Vec<f64> = (0..FREQUENCIES)
        .map(|_| (0..dimension).map(|_| random.normal()).map(|entry| entry * entry).sum::<f64>().sqrt())
        .collect();
    for (block, lengths) in frequencies.chunks_mut(dimension).zip(lengths.chunks(dimension)) {
        orthonormalise(block);
        for (frequency, length) in block.iter_mut().zip(lengths) {
            frequency.iter_mut().for_each(|entry| *entry *= length);
        }
    }
    frequencies
}

/// What makes the layout; the matrices follow from it.
impl PartialEq for VectorLayout {
    fn eq(&self, other: &Self) -> bool {
        self.parts == other.parts
    }
}

impl Eq for VectorLayout {}

impl Hash for VectorLayout {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts.names.hash(state);
        self.parts.seed.hash(state);
        self.parts.bandwidth.to_bits().hash(state);
        self.parts.centre.iter().for_each(|value| value.to_bits().hash(state));
    }
}

/// The kernel that random features stand for, for tests and documents: exp(-d^2 / (2 sigma^2)) of standardised rows.
#[cfg(test)]
pub(super) fn exact_kernel(left: &[f64], right: &[f64], layout: &VectorLayout) -> f64 {
    let (left, right) = (layout.parts.standardise(left), layout.parts.standardise(right));
    let square: f64 = left.iter().zip(&right).map(|(a, b)| (a - b) * (a - b)).sum();
    (-square / (2.0 * layout.parts.bandwidth.powi(2))).exp()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Standard normal rows mixed so that neighbours correlate.
    pub fn correlated(n: usize, dimension: usize, correlation: f64, seed: u64) -> Vec<Vec<f64>> {
        let mut random = Random::new(seed);
        let row = |random: &mut Random| {
            let mut row: Vec<f64> = (0..dimension).map(|_| random.normal()).collect();
            for at in (1..dimension).step_by(2) {
                row[at] = correlation * row[at - 1] + (1.0 - correlation * correlation).sqrt() * row[at];
            }
            row
        };
        (0..n).map(|_| row(&mut random)).collect()
    }

    pub fn layout_of(rows: &[Vec<f64>]) -> VectorLayout {
        let slices: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
        VectorLayout::of_rows(&slices, rows.first().map_or(1, Vec::len), Vec::new())
    }

    #[test]
    fn random_features_multiply_to_the_kernel() {
        for dimension in [3, 24] {
            let rows = correlated(60, dimension, 0.5, 9);
            let layout = layout_of(&rows);
            let (mut left, mut right) = (Measured::new(&layout), Measured::new(&layout));
            let mut squares = 0.0;
            let mut pairs = 0.0;
            for (at, a) in rows.iter().enumerate() {
                for b in &rows[at + 1..] {
                    assert!(left.take(a, &layout) && right.take(b, &layout));
                    let product: f64 = left.features().iter().zip(right.features()).map(|(x, y)| x * y).sum();
                    squares += (product - exact_kernel(a, b, &layout)).powi(2);
                    pairs += 1.0;
                }
            }
            let error = (squares / pairs).sqrt();
            // Independent frequencies would give up to 1 / sqrt(2 * 128) = 0.0625.
            assert!(error < 0.0625, "root mean square error {error} of the kernel in {dimension} dimensions");
        }
    }

    #[test]
    fn a_layout_is_the_same_whoever_builds_it_and_reads_back() {
        let rows = correlated(300, 5, 0.5, 10);
        let layout = layout_of(&rows);
        assert_eq!(layout, layout_of(&rows));
        assert_eq!(VectorLayout::from_parts(layout.parts().clone()), Some(layout.clone()));
        let mut broken = layout.parts().clone();
        broken.scale[2] = 0.0;
        assert_eq!(VectorLayout::from_parts(broken), None);
        let mut short = layout.parts().clone();
        short.components[0].pop();
        assert_eq!(VectorLayout::from_parts(short), None);
    }

    #[test]
    fn components_hold_the_wanted_share_of_the_variance() {
        let layout = layout_of(&correlated(2_000, 6, 0.8, 11));
        // Three pairs with correlation 0.8: eigenvalues 1.8 three times and 0.2 three times; 65% of 6 is 3.9.
        assert_eq!(layout.components(), 3);
        assert!(
            layout.parts().variances.iter().all(|value| (1.6..2.0).contains(value)),
            "{:?}",
            layout.parts().variances
        );
    }

    #[test]
    fn constant_and_huge_entries_do_not_spoil_a_layout() {
        let rows: Vec<Vec<f64>> = (0..50).map(|at| vec![3.3, 1e300 * f64::from(at), f64::from(at % 2)]).collect();
        let layout = layout_of(&rows);
        assert!(VectorLayout::from_parts(layout.parts().clone()).is_some(), "{:?}", layout.parts());
        assert_eq!(layout.parts().scale[0], 1.0);
        let empty = VectorLayout::of_rows(&[], 3, Vec::new());
        assert!(VectorLayout::from_parts(empty.parts().clone()).is_some(), "{:?}", empty.parts());
    }
}
