//! Values without drift, of five kinds, and with a known change.

use super::REFERENCE_HOURS;

/// SplitMix64 (Steele, Lea and Flood, 2014): fast and seeded; the figures do not hang on its quality.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    #[inline]
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Normal,
    /// Symmetric, with tails as of a log-normal law of sigma 1.5.
    HeavyTailed,
    /// Half of the features have a dozen values, the others 69% zeros.
    Tied,
    /// A level that follows the hour of the day: half a standard deviation up and down.
    Seasonal,
    /// A level that wanders from hour to hour: standard deviation 0.5, correlation 0.7 between neighbouring hours.
    Autocorrelated,
}

pub const KINDS: [Kind; 5] = [Kind::Normal, Kind::HeavyTailed, Kind::Tied, Kind::Seasonal, Kind::Autocorrelated];

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Normal => "normal",
            Kind::HeavyTailed => "heavy-tailed",
            Kind::Tied => "heavily tied",
            Kind::Seasonal => "seasonal",
            Kind::Autocorrelated => "autocorrelated",
        }
    }
}

/// What happens to a feature from some hour on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    None,
    /// In standard deviations.
    Shift(f64),
    /// One row in so many is shifted.
    OfOneIn(f64, f64),
    /// Of the standard deviation.
    Spread(f64),
    /// One category gains these points of share, from all others in proportion.
    Category(f64),
    /// More values are missing.
    Missing(f64),
}

/// A value as the stream gives it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    Missing,
    Number(f64),
    Category(u32),
}

pub const CATEGORIES: usize = 20;
/// Log2 of the size of the table of normal quantiles.
const TABLE_BITS: u32 = 16;

pub struct Stream {
    pub kind: Kind,
    pub features: usize,
    /// Normal quantiles at evenly spaced probabilities.
    normal: Vec<f64>,
    /// Upper ends of the categories on the normal scale: shares as 1 / (k + 1).
    category_ends: Vec<f64>,
    /// Level of each feature in each hour.
    levels: Vec<Vec<f64>>,
}

impl Stream {
    pub fn new(kind: Kind, features: usize, hours: i64, seed: u64) -> Self {
        let size = 1usize << TABLE_BITS;
        let normal: Vec<f64> = (0..size).map(|i| quantile((i as f64 + 0.5) / size as f64)).collect();
        let total: f64 = (1..=CATEGORIES).map(|k| 1.0 / k as f64).sum();
        let mut below = 0.0;
        let category_ends = (1..CATEGORIES).map(|k| {
            below += 1.0 / k as f64 / total;
            quantile(below)
        });
        let category_ends = category_ends.collect();
        let mut random = Random::new(seed);
        let mut stream = Self { kind, features, normal, category_ends, levels: Vec::new() };
        stream.levels = (0..features).map(|feature| stream.levels_of(feature, hours, &mut random)).collect();
        stream
    }

    fn levels_of(&self, feature: usize, hours: i64, random: &mut Random) -> Vec<f64> {
        let mut wandering = 0.5 * self.deviate(random);
        (0..REFERENCE_HOURS + hours)
            .map(|hour| match self.kind {
                Kind::Seasonal => 0.5 * ((hour + feature as i64) as f64 * std::f64::consts::TAU / 24.0).sin(),
                Kind::Autocorrelated => {
                    wandering = 0.7 * wandering + (1.0f64 - 0.49).sqrt() * 0.5 * self.deviate(random);
                    wandering
                }
                Kind::Normal | Kind::HeavyTailed | Kind::Tied => 0.0,
            })
            .collect()
    }

    pub fn is_categorical(feature: usize) -> bool {
        feature % 5 == 4
    }

    pub fn name(feature: usize) -> String {
        format!("{}_{feature:03}", if Self::is_categorical(feature) { "cat" } else { "num" })
    }

    #[inline]
    fn deviate(&self, random: &mut Random) -> f64 {
        self.normal[(random.bits() >> (64 - TABLE_BITS)) as usize]
    }

    /// One value; `hour` counts from the start of the reference.
    #[inline]
    pub fn value(&self, feature: usize, hour: i64, change: Change, random: &mut Random) -> Value {
        let bits = random.bits();
        // One in 128 is missing in every fifth feature.
        if feature.is_multiple_of(5) && bits & 0x7F == 0 {
            return Value::Missing;
        }
        let chance = (bits & 0xFFFF_FFFF) as f64 / f64::from(u32::MAX);
        let standard = self.normal[(bits >> (64 - TABLE_BITS)) as usize];
        let level = self.levels[feature][hour as usize];
        let z = match change {
            Change::Shift(by) => standard + level + by,
            Change::OfOneIn(rows, by) if chance * rows < 1.0 => standard + level + by,
            Change::Spread(by) => standard * by + level,
            Change::Missing(more) if chance < more => return Value::Missing,
            Change::Category(points) if chance < points => return Value::Category(2),
            _ => standard + level,
        };
        if Self::is_categorical(feature) {
            return Value::Category(self.category_ends.partition_point(|end| *end <= z) as u32);
        }
        Value::Number(match self.kind {
            Kind::Normal | Kind::Seasonal | Kind::Autocorrelated => z,
            Kind::HeavyTailed => ((1.5 * z.abs()).exp() - 1.0).copysign(z),
            Kind::Tied if feature.is_multiple_of(2) => (2.0 * z).round(),
            Kind::Tied => {
                if z < 0.5 {
                    0.0
                } else {
                    (10.0 * z).round() / 10.0
                }
            }
        })
    }
}

fn quantile(share: f64) -> f64 {
    driftline::stats::null::normal::quantile(share)
}
