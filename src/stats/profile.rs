//! A profile: what a pane keeps of a feature. Mergeable by addition, in any order, to the bit.

use std::sync::Arc;

use hashbrown::HashMap;

use super::calibration::Calibration;
use super::categorical_profile::CategoricalProfile;
use super::layout::{CategoricalLayout, Layout, NumericLayout};
use super::numeric_profile::NumericProfile;
use super::varint::Reader;
use super::vector::profile::VectorProfile;

/// Version of the encoding, its first byte.
const ENCODING: u8 = 1;
const NUMERIC: u8 = 0;
const CATEGORICAL: u8 = 1;
const VECTOR: u8 = 2;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Profile {
    /// Boxed: its exact sums are large, and categorical profiles should not pay for them.
    Numeric(Box<NumericProfile>),
    Categorical(CategoricalProfile),
    Vector(Box<VectorProfile>),
}

/// Both mean that state and reference do not belong together; the caller gives up the pane, never the process.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    #[error("profiles of different layouts do not merge: {left} with {right}")]
    LayoutsDiffer { left: String, right: String },
    #[error("{length} bytes are not an encoded profile of this {layout} layout: {reason}")]
    Malformed { length: usize, layout: &'static str, reason: &'static str },
}

/// A feature of a reference: how it is cut, and what the reference looks like under that cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureReference {
    pub name: String,
    pub layout: Layout,
    pub profile: Profile,
    /// How much the reference's own windows differ beyond chance.
    pub calibration: Calibration,
}

impl FeatureReference {
    /// The same feature, cut the same way, with other rows; windows differ by as much as they did before.
    pub fn with_profile(&self, profile: Profile) -> Self {
        let calibration = self.calibration.clone();
        Self { name: self.name.clone(), layout: self.layout.clone(), profile, calibration }
    }

    /// From a numeric column; NaN is missing like `None`. `range` is where the model file says that values belong.
    pub fn of_numbers(name: &str, values: &[Option<f64>], range: Option<(f64, f64)>) -> Self {
        let mut sorted: Vec<f64> = values.iter().copied().flatten().filter(|value| !value.is_nan()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let layout = NumericLayout::with_range(&sorted, range);
        let mut profile = NumericProfile::new(&layout);
        profile.add_nulls((values.len() - sorted.len()) as u64);
        sorted.iter().for_each(|value| profile.add(*value, &layout));
        Self {
            name: name.to_string(),
            layout: Layout::Numeric(Arc::new(layout)),
            profile: Profile::Numeric(Box::new(profile)),
            calibration: Calibration::default(),
        }
    }

    /// From a categorical column.
    pub fn of_categories<Category: AsRef<str>>(name: &str, values: &[Option<Category>]) -> Self {
        let mut counts: HashMap<&str, u64> = HashMap::new();
        for category in values.iter().flatten() {
            *counts.entry(category.as_ref()).or_default() += 1;
        }
        let counts = counts.into_iter().map(|(category, rows)| (category.to_string(), rows));
        let layout = CategoricalLayout::of_counts(counts.collect());
        let mut profile = CategoricalProfile::new(&layout);
        for value in values {
            match value {
                Some(category) => profile.add(category.as_ref(), &layout),
                None => profile.add_nulls(1),
            }
        }
        Self {
            name: name.to_string(),
            layout: Layout::Categorical(Arc::new(layout)),
            profile: Profile::Categorical(profile),
            calibration: Calibration::default(),
        }
    }
}

impl Profile {
    /// A profile without rows.
    pub fn new(layout: &Layout) -> Self {
        match layout {
            Layout::Numeric(layout) => Profile::Numeric(Box::new(NumericProfile::new(layout))),
            Layout::Categorical(layout) => Profile::Categorical(CategoricalProfile::new(layout)),
            Layout::Vector(layout) => Profile::Vector(Box::new(VectorProfile::new(layout))),
        }
    }

    /// Adds the rows of `other`. The layouts must be one and the same; what can be seen of that is checked.
    pub fn merge(&mut self, other: &Profile) -> Result<(), ProfileError> {
        match (&mut *self, other) {
            (Profile::Numeric(left), Profile::Numeric(right)) if left.bins() == right.bins() => {
                left.merge(right);
            }
            (Profile::Categorical(left), Profile::Categorical(right)) if left.categories() == right.categories() => {
                left.merge(right);
            }
            (Profile::Vector(left), Profile::Vector(right)) if left.same_shape(right) => left.merge(right),
            (left, right) => {
                return Err(ProfileError::LayoutsDiffer { left: left.shape(), right: right.shape() });
            }
        }
        Ok(())
    }

    fn shape(&self) -> String {
        match self {
            Profile::Numeric(profile) => format!("{} bins", profile.bins()),
            Profile::Categorical(profile) => format!("{} categories", profile.categories()),
            Profile::Vector(profile) => format!("vectors of {}", profile.dimension()),
        }
    }

    /// Non-missing values (of a numeric feature: finite ones; of a vector: whole ones).
    pub fn n(&self) -> u64 {
        match self {
            Profile::Numeric(profile) => profile.n(),
            Profile::Categorical(profile) => profile.n(),
            Profile::Vector(profile) => profile.n(),
        }
    }

    /// Missing values; of a vector also those that lack an entry.
    pub fn missing(&self) -> u64 {
        match self {
            Profile::Numeric(profile) => profile.missing(),
            Profile::Categorical(profile) => profile.missing(),
            Profile::Vector(profile) => profile.nulls().saturating_add(profile.incomplete()),
        }
    }

    /// All rows: values, missing ones, infinite ones.
    pub fn rows(&self) -> u64 {
        let infinite = match self {
            Profile::Numeric(profile) => profile.infinite(),
            Profile::Categorical(_) | Profile::Vector(_) => 0,
        };
        self.n().saturating_add(self.missing()).saturating_add(infinite)
    }

    /// Memory held, in bytes, without what the allocator adds.
    pub fn allocated_bytes(&self) -> usize {
        let elsewhere = match self {
            Profile::Numeric(profile) => size_of::<NumericProfile>() + profile.allocated_bytes(),
            Profile::Categorical(profile) => profile.allocated_bytes(),
            Profile::Vector(profile) => profile.allocated_bytes(),
        };
        size_of::<Self>() + elsewhere
    }

    /// Version, kind, then sparse counts as varints. Canonical: equal profiles have equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        self.encode_into(&mut out);
        out
    }

    pub fn encode_into(&self, out: &mut Vec<u8>) {
        out.push(ENCODING);
        match self {
            Profile::Numeric(profile) => {
                out.push(NUMERIC);
                profile.encode(out);
            }
            Profile::Categorical(profile) => {
                out.push(CATEGORICAL);
                profile.encode(out);
            }
            Profile::Vector(profile) => {
                out.push(VECTOR);
                profile.encode(out);
            }
        }
    }

    /// Reads what [`Profile::encode`] wrote under `layout`. Any other bytes are an error; what is allocated is
    /// bounded by the layout and the length of the bytes.
    pub fn decode(bytes: &[u8], layout: &Layout) -> Result<Self, ProfileError> {
        let malformed = |reason| ProfileError::Malformed { length: bytes.len(), layout: layout.kind_name(), reason };
        let mut reader = Reader::new(bytes);
        if reader.byte() != Some(ENCODING) {
            return Err(malformed("unknown version"));
        }
        let kind = reader.byte();
        let profile = match (kind, layout) {
            (Some(NUMERIC), Layout::Numeric(layout)) => {
                NumericProfile::decode(&mut reader, layout).map(|profile| Profile::Numeric(Box::new(profile)))
            }
            (Some(CATEGORICAL), Layout::Categorical(layout)) => {
                CategoricalProfile::decode(&mut reader, layout).map(Profile::Categorical)
            }
            (Some(VECTOR), Layout::Vector(layout)) => {
                VectorProfile::decode(&mut reader, layout).map(|profile| Profile::Vector(Box::new(profile)))
            }
            _ => return Err(malformed("another kind of feature")),
        };
        let profile = profile.ok_or_else(|| malformed("truncated, out of range or of another layout"))?;
        if reader.remaining() > 0 { Err(malformed("bytes after the end")) } else { Ok(profile) }
    }
}
