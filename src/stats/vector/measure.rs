//! One vector, measured under a layout: the numbers that profiles add up.

use super::arithmetic::{mix, nearest_integer, sine_cosine_of_turns};
use super::layout::{FEATURES, FREQUENCIES, LANES, VectorLayout};

/// Width of a row in the sample: vectors up to this length stand there themselves, longer ones by their scores along
/// the principal axes and their reconstruction error.
pub const SAMPLE_WIDTH: usize = 25;
/// Steps of a sampled entry in one standard deviation; it is clipped at 127 steps, 8 standard deviations.
pub const SAMPLE_STEPS: f64 = 16.0;

/// Room for one measured vector, used again for the next.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Standardised entries, padded with zeros.
    entries: Vec<f32>,
    features: Vec<f64>,
    scores: Vec<f64>,
    direction: Vec<f64>,
    error: f64,
    sampled: [i8; SAMPLE_WIDTH],
    hash: u64,
}

impl Measured {
    pub fn new(layout: &VectorLayout) -> Self {
        Self {
            entries: vec![0.0; layout.stride()],
            features: vec![0.0; FEATURES],
            scores: vec![0.0; layout.components()],
            direction: vec![0.0; layout.dimension()],
            error: 0.0,
            sampled: [0; SAMPLE_WIDTH],
            hash: 0,
        }
    }

    /// Measures `row`; false, and nothing to be had, where it has another length or an entry that is not finite.
    #[inline]
    pub fn take(&mut self, row: &[f64], layout: &VectorLayout) -> bool {
        if row.len() != layout.dimension() || !row.iter().all(|value| value.is_finite()) {
            return false;
        }
        let mut hash = 0;
        for (entry, value) in row.iter().enumerate() {
            self.entries[entry] = layout.standardised(*value, entry) as f32;
            hash = mix(hash ^ (value + 0.0).to_bits());
        }
        self.hash = hash;
        for (pair, frequency) in self.features.chunks_exact_mut(2).zip(layout.frequencies()) {
            let (sine, cosine) = sine_cosine_of_turns(f64::from(dot(&self.entries, frequency)));
            pair[0] = cosine * ROOT;
            pair[1] = sine * ROOT;
        }
        let mut explained = 0.0;
        for (score, axis) in self.scores.iter_mut().zip(layout.axes()) {
            *score = f64::from(dot(&self.entries, axis));
            explained += *score * *score;
        }
        let square = f64::from(dot(&self.entries, &self.entries));
        self.error = (square - explained).max(0.0).sqrt();
        self.point(row, layout);
        self.sample(layout);
        true
    }

    /// The direction of an embedding is its own; that of joint features is taken from their means, since their units
    /// and zeros are arbitrary.
    fn point(&mut self, row: &[f64], layout: &VectorLayout) {
        if layout.is_joint() {
            let entries = self.direction.iter_mut().zip(&self.entries);
            entries.for_each(|(into, entry)| *into = f64::from(*entry));
        } else {
            // Scaled by the largest entry first, so that no square leaves the doubles.
            let largest = row.iter().fold(0.0f64, |most, value| most.max(value.abs()));
            let unit = if largest > 0.0 { largest } else { 1.0 };
            self.direction.iter_mut().zip(row).for_each(|(into, value)| *into = value / unit);
        }
        let length = self.direction.iter().map(|value| value * value).sum::<f64>().sqrt();
        let factor = if length > 0.0 { 1.0 / length } else { 0.0 };
        self.direction.iter_mut().for_each(|value| *value *= factor);
    }

    fn sample(&mut self, layout: &VectorLayout) {
        self.sampled = [0; SAMPLE_WIDTH];
        if layout.dimension() <= SAMPLE_WIDTH {
            for (into, entry) in self.sampled.iter_mut().zip(&self.entries[..layout.dimension()]) {
                *into = steps(f64::from(*entry));
            }
            return;
        }
        let parts = layout.parts();
        self.sampled[0] = steps((self.error - parts.error[0]) / parts.error[1]);
        for (into, (score, variance)) in self.sampled[1..].iter_mut().zip(self.scores.iter().zip(&parts.variances)) {
            *into = steps(if *variance > 0.0 { score / variance.sqrt() } else { 0.0 });
        }
    }

    /// Standardised entries.
    pub fn entries(&self) -> &[f32] {
        &self.entries[..self.direction.len()]
    }

    /// Random Fourier features (Rahimi and Recht 2007), a cosine and a sine for each frequency; their squares sum
    /// to 1.
    pub fn features(&self) -> &[f64] {
        &self.features
    }

    /// Scores along the principal axes.
    pub fn scores(&self) -> &[f64] {
        &self.scores
    }

    /// The vector divided by its length; zero for a vector of zeros.
    pub fn direction(&self) -> &[f64] {
        &self.direction
    }

    /// Distance between the standardised vector and its projection on the principal axes.
    pub fn error(&self) -> f64 {
        self.error
    }

    /// The row as the sample keeps it, in steps of 1/16 standard deviation.
    pub fn sampled(&self) -> &[i8; SAMPLE_WIDTH] {
        &self.sampled
    }

    /// Hash of the vector's bits, both zeros alike.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

/// 1 / sqrt(128): the squares of all features sum to 1.
const ROOT: f64 = 0.088_388_347_648_318_44;
const _: () = assert!(FREQUENCIES == 128);

fn steps(deviations: f64) -> i8 {
    nearest_integer((deviations * SAMPLE_STEPS).clamp(-127.0, 127.0)) as i8
}

/// Dot product in sixteen lanes, added up in one fixed order: the compiler may use vector registers for it, and the bits
/// are the same with and without them. Lengths are multiples of the lanes.
#[inline]
pub(super) fn dot(left: &[f32], right: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    for (a, b) in left.chunks_exact(LANES).zip(right.chunks_exact(LANES)) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}
