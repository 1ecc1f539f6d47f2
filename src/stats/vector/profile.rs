//! What a pane keeps of a vector: sums of whole numbers, and a bounded sample.
//!
//! Every summand is rounded to a multiple of a power of two before it is added, so that sums are integers and merge in
//! any order to the bit. The roundings are far below what chance does to a mean: half of 2^-32 to a random feature,
//! 2^-30 to a direction, 2^-24 standard deviations to an entry, 2^-20 to a reconstruction error, 2^-10 to a squared
//! score.

use super::arithmetic::{mix, nearest_integer};
use super::layout::{FEATURES, MOST_DEVIATIONS, VectorLayout};
use super::measure::{Measured, SAMPLE_WIDTH};
use super::sample::{Sample, SampledRow};
use crate::stats::varint::{self, Reader};

/// Steps in one, for each kind of sum.
const FEATURE_STEPS: f64 = 4_294_967_296.0;
const DIRECTION_STEPS: f64 = 1_073_741_824.0;
const ENTRY_STEPS: f64 = 16_777_216.0;
const ERROR_STEPS: f64 = 1_048_576.0;
const SQUARE_STEPS: f64 = 1_024.0;
/// Up to this many rows no sum can leave 64 bits.
pub const MOST_ROWS: u64 = 1 << 31;
/// No feature is larger than 1 / sqrt(128) of a step's unit, in steps.
const MOST_FEATURE: u64 = 379_625_063;
/// The largest reconstruction error, in steps: 32 standard deviations in each of 2048 entries.
const MOST_ERROR: u64 = 1_520 << 20;

/// Profile of a vector signal under a [`VectorLayout`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VectorProfile {
    n: u64,
    /// Of these, rows of the reference to which the principal axes were fitted: what they say of the axes is not
    /// counted.
    fitted: u64,
    /// Rows without a vector.
    nulls: u64,
    /// Rows with a vector of which an entry is missing, or is no finite number.
    incomplete: u64,
    features: Box<[i64]>,
    directions: Box<[i64]>,
    entries: Box<[i64]>,
    /// Squared scores by principal axis.
    squares: Box<[u64]>,
    /// Sums of the reconstruction error, its square and its cube, in steps and their powers.
    errors: [u128; 3],
    sample: Sample,
}

impl VectorProfile {
    pub fn new(layout: &VectorLayout) -> Self {
        Self {
            n: 0,
            fitted: 0,
            nulls: 0,
            incomplete: 0,
            features: vec![0; FEATURES].into(),
            directions: vec![0; layout.dimension()].into(),
            entries: vec![0; layout.dimension()].into(),
            squares: vec![0; layout.components()].into(),
            errors: [0; 3],
            sample: Sample::default(),
        }
    }

    /// Adds a row; `identity` tells events with the same vector apart (a hash of time and id, a row number), and
    /// decides with the vector who is sampled. A row of another length or with an entry that is not finite counts as
    /// incomplete.
    pub fn add(&mut self, row: &[f64], identity: u64, layout: &VectorLayout, room: &mut Measured) {
        if self.add_apart_from_axes(row, layout, room) {
            for (sum, score) in self.squares.iter_mut().zip(room.scores()) {
                *sum = sum.wrapping_add(steps_of(score * score, SQUARE_STEPS) as u64);
            }
            let error = (steps_of(room.error(), ERROR_STEPS) as u64).min(MOST_ERROR);
            let powers = [u128::from(error), u128::from(error).pow(2), u128::from(error).pow(3)];
            self.errors.iter_mut().zip(powers).for_each(|(sum, power)| *sum = sum.wrapping_add(power));
            self.sample.add(mix(identity ^ room.hash()), room.sampled());
        }
    }

    /// Adds a row of the reference to which the layout's principal axes were fitted.
    pub fn add_fitted(&mut self, row: &[f64], layout: &VectorLayout, room: &mut Measured) {
        self.fitted += u64::from(self.add_apart_from_axes(row, layout, room));
    }

    /// False where the row is incomplete.
    fn add_apart_from_axes(&mut self, row: &[f64], layout: &VectorLayout, room: &mut Measured) -> bool {
        if !room.take(row, layout) {
            self.incomplete += 1;
            return false;
        }
        self.n += 1;
        for (sum, value) in self.features.iter_mut().zip(room.features()) {
            *sum = sum.wrapping_add(steps_of(*value, FEATURE_STEPS));
        }
        for (sum, value) in self.directions.iter_mut().zip(room.direction()) {
            *sum = sum.wrapping_add(steps_of(*value, DIRECTION_STEPS));
        }
        for (sum, value) in self.entries.iter_mut().zip(room.entries()) {
            *sum = sum.wrapping_add(steps_of(f64::from(*value), ENTRY_STEPS));
        }
        true
    }

    /// Adds rows without a vector.
    pub fn add_nulls(&mut self, rows: u64) {
        self.nulls += rows;
    }

    /// Adds rows of which an entry is missing.
    pub fn add_incomplete(&mut self, rows: u64) {
        self.incomplete += rows;
    }

    /// Adds the rows of a profile of the same layout.
    pub fn merge(&mut self, other: &VectorProfile) {
        self.n = self.n.saturating_add(other.n);
        self.fitted = self.fitted.saturating_add(other.fitted);
        self.nulls = self.nulls.saturating_add(other.nulls);
        self.incomplete = self.incomplete.saturating_add(other.incomplete);
        let signed = [
            (&mut self.features, &other.features),
            (&mut self.directions, &other.directions),
            (&mut self.entries, &other.entries),
        ];
        for (sums, more) in signed {
            sums.iter_mut().zip(more.iter()).for_each(|(sum, more)| *sum = sum.wrapping_add(*more));
        }
        self.squares.iter_mut().zip(&other.squares).for_each(|(sum, more)| *sum = sum.wrapping_add(*more));
        self.errors.iter_mut().zip(other.errors).for_each(|(sum, more)| *sum = sum.wrapping_add(more));
        self.sample.merge(&other.sample);
    }

    /// Whether `other` can be of the same layout.
    pub fn same_shape(&self, other: &VectorProfile) -> bool {
        self.entries.len() == other.entries.len() && self.squares.len() == other.squares.len()
    }

    pub fn dimension(&self) -> usize {
        self.entries.len()
    }

    /// Rows with a whole vector.
    pub fn n(&self) -> u64 {
        self.n
    }

    /// Rows with a whole vector to which the principal axes were not fitted.
    pub fn judged(&self) -> u64 {
        self.n.saturating_sub(self.fitted)
    }

    /// Rows without a vector.
    pub fn nulls(&self) -> u64 {
        self.nulls
    }

    /// Rows with a vector of which an entry is missing or not finite.
    pub fn incomplete(&self) -> u64 {
        self.incomplete
    }

    /// Mean of each random feature; empty sums give zeros.
    pub fn mean_features(&self) -> Vec<f64> {
        self.means(&self.features, FEATURE_STEPS)
    }

    /// Mean of the vectors' directions.
    pub fn mean_direction(&self) -> Vec<f64> {
        self.means(&self.directions, DIRECTION_STEPS)
    }

    /// Mean of each entry, in the reference's standard deviations from its mean.
    pub fn mean_entries(&self) -> Vec<f64> {
        self.means(&self.entries, ENTRY_STEPS)
    }

    fn means(&self, sums: &[i64], steps: f64) -> Vec<f64> {
        let n = self.n.max(1) as f64;
        sums.iter().map(|sum| *sum as f64 / steps / n).collect()
    }

    /// Mean squared score along each principal axis, over the judged rows.
    pub fn mean_squares(&self) -> Vec<f64> {
        let n = self.judged().max(1) as f64;
        self.squares.iter().map(|sum| *sum as f64 / SQUARE_STEPS / n).collect()
    }

    /// Mean of the first three powers of the reconstruction error, over the judged rows.
    pub fn error_moments(&self) -> [f64; 3] {
        let n = self.judged().max(1) as f64;
        let mut steps = 1.0;
        self.errors.map(|sum| {
            steps *= ERROR_STEPS;
            sum as f64 / steps / n
        })
    }

    /// The sampled ones of the judged rows.
    pub fn sample(&self) -> Vec<SampledRow> {
        self.sample.rows()
    }

    /// Heap memory, bytes.
    pub fn allocated_bytes(&self) -> usize {
        let sums = self.features.len() + self.directions.len() + self.entries.len() + self.squares.len();
        size_of::<Self>() + sums * size_of::<i64>() + self.sample.allocated_bytes()
    }

    /// Counts, sums as zigzag varints, the sample.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for count in [self.n, self.fitted, self.nulls, self.incomplete] {
            varint::write(count, out);
        }
        for sum in self.features.iter().chain(&self.directions).chain(&self.entries) {
            varint::write(zigzag(*sum), out);
        }
        self.squares.iter().for_each(|sum| varint::write(*sum, out));
        for sum in self.errors {
            varint::write(sum as u64, out);
            varint::write((sum >> 64) as u64, out);
        }
        self.sample.encode(self.entries.len().min(SAMPLE_WIDTH), out);
    }

    /// `None` for bytes that [`VectorProfile::encode`] does not emit under this layout; among them sums that so many
    /// rows cannot have.
    pub fn decode(reader: &mut Reader<'_>, layout: &VectorLayout) -> Option<Self> {
        let mut profile = Self::new(layout);
        profile.n = reader.varint_up_to(MOST_ROWS)?;
        profile.fitted = reader.varint_up_to(profile.n)?;
        profile.nulls = reader.varint()?;
        profile.incomplete = reader.varint()?;
        let (n, judged) = (profile.n, profile.judged());
        let most_entry = MOST_DEVIATIONS as u64 * ENTRY_STEPS as u64;
        let signed = [
            (&mut profile.features, MOST_FEATURE),
            (&mut profile.directions, DIRECTION_STEPS as u64),
            (&mut profile.entries, most_entry),
        ];
        for (sums, most) in signed {
            for sum in sums.iter_mut() {
                *sum = unzigzag(reader.varint()?);
                if sum.unsigned_abs() > n.saturating_mul(most + 1) {
                    return None;
                }
            }
        }
        for sum in &mut profile.squares {
            *sum = reader.varint()?;
            if judged == 0 && *sum > 0 {
                return None;
            }
        }
        for (power, sum) in (1..).zip(&mut profile.errors) {
            let (low, high) = (reader.varint()?, reader.varint()?);
            *sum = u128::from(low) | u128::from(high) << 64;
            if *sum > u128::from(judged).checked_mul(u128::from(MOST_ERROR).pow(power))? {
                return None;
            }
        }
        profile.sample = Sample::decode(reader, layout.dimension().min(SAMPLE_WIDTH), judged)?;
        Some(profile)
    }
}

/// The nearest whole number of steps.
fn steps_of(value: f64, steps: f64) -> i64 {
    nearest_integer(value * steps)
}

/// Small magnitudes to small numbers, whatever their sign.
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::super::layout::tests::{correlated, layout_of};
    use super::*;

    fn profile_of(rows: &[Vec<f64>], layout: &VectorLayout) -> VectorProfile {
        let mut room = Measured::new(layout);
        let mut profile = VectorProfile::new(layout);
        for (at, row) in rows.iter().enumerate() {
            profile.add(row, at as u64, layout, &mut room);
        }
        profile
    }

    #[test]
    fn means_are_those_of_the_rows() {
        let rows = correlated(2_000, 4, 0.6, 21);
        let layout = layout_of(&rows);
        let profile = profile_of(&rows, &layout);
        for (entry, mean) in profile.mean_entries().iter().enumerate() {
            assert!(mean.abs() < 1e-6, "entry {entry}: {mean} standard deviations from its own mean");
        }
        let mut room = Measured::new(&layout);
        let mut error = 0.0;
        for row in &rows {
            assert!(room.take(row, &layout));
            error += room.error() / rows.len() as f64;
        }
        assert!((profile.error_moments()[0] - error).abs() < 1e-6, "{:?} for {error}", profile.error_moments());
        let squares = profile.mean_squares();
        for (square, variance) in squares.iter().zip(&layout.parts().variances) {
            assert!((square / variance - 1.0).abs() < 0.15, "{square} for {variance}");
        }
        assert_eq!(profile.sample().len(), 500);
    }

    #[test]
    fn rows_that_are_no_vectors_are_counted_apart() {
        let rows = correlated(50, 3, 0.0, 22);
        let layout = layout_of(&rows);
        let mut profile = profile_of(&rows, &layout);
        let mut room = Measured::new(&layout);
        profile.add(&[1.0, 2.0], 0, &layout, &mut room);
        profile.add(&[1.0, f64::NAN, 0.0], 0, &layout, &mut room);
        profile.add(&[1.0, f64::INFINITY, 0.0], 0, &layout, &mut room);
        profile.add_nulls(2);
        assert_eq!((profile.n(), profile.incomplete(), profile.nulls()), (50, 3, 2));
    }

    #[test]
    fn equal_vectors_are_sampled_in_the_proportion_in_which_they_come() {
        let rows: Vec<Vec<f64>> = (0..20_000).map(|at| vec![f64::from(u8::from(at % 10 == 0)), 1.0]).collect();
        let layout = layout_of(&rows);
        let sample = profile_of(&rows, &layout).sample();
        let high = sample.iter().filter(|row| row.row[0] > 0).count();
        assert!((30..80).contains(&high), "{high} of 500 for one in ten");
    }
}
