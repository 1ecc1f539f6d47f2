//! The reference of each segment: what the features looked like among its own rows. A segment differs from the
//! whole without any drift, so its windows are compared with this, not with the whole.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::arrow::array::RecordBatch;

use crate::config::model::{Kind, Model};
use crate::config::segment::{self, SegmentColumns};
use crate::stats::layout::Layout;
use crate::stats::profile::{FeatureReference, Profile};

use super::build::{ReferenceError, column_of, read_column};
use super::column;
use super::vectors::VectorRows;

/// Segment value of rows without one.
pub const MISSING_SEGMENT: &str = "(missing)";
/// Segment value of everything beyond `max_segments`, and of values that the reference never saw.
pub const OTHER_SEGMENT: &str = "_other";

/// Segment column and value; of two columns together as `config::segment::join` writes them.
pub type SegmentKey = (String, String);

/// By segment, then by feature; counted into the layouts of the whole.
pub type SegmentReferences = BTreeMap<SegmentKey, BTreeMap<String, FeatureReference>>;

/// Rows split by one column, or by two together.
pub(super) struct Split {
    /// As in the segment's key.
    pub(super) name: String,
    columns: Vec<String>,
    /// Values that occur or are kept, each once.
    pub(super) values: Vec<String>,
    /// Of each row the index of its value.
    pub(super) places: Vec<usize>,
}

/// Counts every feature but the segment columns themselves, segment by segment.
pub(super) fn build(
    model: &Model,
    features: &BTreeMap<String, FeatureReference>,
    columns: &BTreeMap<String, String>,
    batches: &[RecordBatch],
) -> Result<SegmentReferences, ReferenceError> {
    let splits = splits(model, columns, batches)?;
    let mut segments = SegmentReferences::new();
    for split in &splits {
        for value in &split.values {
            segments.insert((split.name.clone(), value.clone()), BTreeMap::new());
        }
    }
    for signal in &model.watched_signals() {
        let others: Vec<&Split> = splits.iter().filter(|split| !split.columns.contains(&signal.name)).collect();
        let Some(feature) = features.get(&signal.name).filter(|_| !others.is_empty()) else { continue };
        let column = || column_of(signal, columns, batches);
        match (signal.kind, &feature.layout) {
            (Kind::Vector, Layout::Vector(layout)) => {
                let rows = VectorRows::read(model, signal, columns, batches)?;
                for split in others {
                    let mut profiles = split.empty(feature);
                    rows.count(layout, |row, add| {
                        if let Some(Profile::Vector(profile)) = profiles.get_mut(split.places[row]) {
                            add(profile);
                        }
                    });
                    split.insert(feature, profiles, &mut segments);
                }
            }
            (Kind::Numeric, Layout::Numeric(layout)) => {
                let values = read_column(signal, &column()?, batches, column::numbers)?;
                let count = |profile: &mut Profile, value: &Option<f64>| match (profile, value) {
                    (Profile::Numeric(profile), Some(value)) => profile.add(*value, layout),
                    (Profile::Numeric(profile), None) => profile.add_nulls(1),
                    _ => {}
                };
                others.iter().for_each(|split| split.count(feature, &values, count, &mut segments));
            }
            (Kind::Categorical, Layout::Categorical(layout)) => {
                let values = read_column(signal, &column()?, batches, column::categories)?;
                let count = |profile: &mut Profile, value: &Option<String>| match (profile, value) {
                    (Profile::Categorical(profile), Some(value)) => profile.add(value, layout),
                    (Profile::Categorical(profile), None) => profile.add_nulls(1),
                    _ => {}
                };
                others.iter().for_each(|split| split.count(feature, &values, count, &mut segments));
            }
            _ => {}
        }
    }
    Ok(segments)
}

/// Every split of the rows that the model asks for.
pub(super) fn splits(
    model: &Model,
    columns: &BTreeMap<String, String>,
    batches: &[RecordBatch],
) -> Result<Vec<Split>, ReferenceError> {
    let signals = model.signals();
    let mut splits = Vec::new();
    for segment in &model.segments {
        let mut values = Vec::new();
        for name in segment.columns() {
            let Some(signal) = signals.iter().find(|signal| signal.name == name) else { continue };
            values.push(read_column(signal, &column_of(signal, columns, batches)?, batches, column::categories)?);
        }
        splits.push(split(segment, &values, model.max_segments as usize));
    }
    Ok(splits)
}

/// Kept apart are the `most` largest values (pairs of values) of the reference, so that every process keeps the same.
fn split(segment: &SegmentColumns, columns: &[Vec<Option<String>>], most: usize) -> Split {
    let rows = columns.first().map_or(0, Vec::len);
    let of_row = |row: usize| -> Option<String> {
        let value = |column: &[Option<String>]| column.get(row).cloned().flatten();
        match columns {
            [first, second] => Some(pair_value(value(first).as_deref(), value(second).as_deref())),
            [column] => value(column),
            _ => None,
        }
    };
    let mut sizes: BTreeMap<String, u64> = BTreeMap::new();
    for value in (0..rows).filter_map(of_row) {
        *sizes.entry(value).or_default() += 1;
    }
    let mut by_size: Vec<(u64, String)> = sizes.into_iter().map(|(value, size)| (size, value)).collect();
    by_size.sort_by(|left, right| right.0.cmp(&left.0).then_with(|| left.1.cmp(&right.1)));
    let mut values: Vec<String> = by_size.into_iter().take(most).map(|(_, value)| value).collect();
    let kept: BTreeSet<String> = values.iter().cloned().collect();
    let mut index: BTreeMap<String, usize> =
        values.iter().enumerate().map(|(index, value)| (value.clone(), index)).collect();
    let mut place = |value: &str| match index.get(value) {
        Some(place) => *place,
        None => {
            index.insert(value.to_string(), values.len());
            values.push(value.to_string());
            values.len() - 1
        }
    };
    let places = (0..rows).map(|row| match of_row(row) {
        None => place(MISSING_SEGMENT),
        Some(value) if kept.contains(&value) => place(&value),
        Some(_) => place(OTHER_SEGMENT),
    });
    let places = places.collect();
    let columns = segment.columns().into_iter().map(str::to_string).collect();
    Split { name: segment.name(), columns, values, places }
}

/// Value of a segment of two columns, in the order of their names.
pub fn pair_value(first: Option<&str>, second: Option<&str>) -> String {
    segment::join(first.unwrap_or(MISSING_SEGMENT), second.unwrap_or(MISSING_SEGMENT))
}

impl Split {
    /// Counts one feature's `values`, row by row, in the profile of each row's segment.
    fn count<T>(
        &self,
        feature: &FeatureReference,
        values: &[T],
        count: impl Fn(&mut Profile, &T),
        segments: &mut SegmentReferences,
    ) {
        let mut profiles = self.empty(feature);
        for (place, value) in self.places.iter().zip(values) {
            count(&mut profiles[*place], value);
        }
        self.insert(feature, profiles, segments);
    }

    /// A profile of each value, without rows.
    fn empty(&self, feature: &FeatureReference) -> Vec<Profile> {
        vec![Profile::new(&feature.layout); self.values.len()]
    }

    fn insert(&self, feature: &FeatureReference, profiles: Vec<Profile>, segments: &mut SegmentReferences) {
        for (value, profile) in self.values.iter().zip(profiles) {
            if let Some(features) = segments.get_mut(&(self.name.clone(), value.clone())) {
                features.insert(feature.name.clone(), feature.with_profile(profile));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Float64Array, StringArray};

    use super::*;
    use crate::reference::{Reference, Source};

    #[test]
    fn a_segment_is_described_by_its_own_rows() {
        let yaml = "version: 1\nmodel: m\ntopics: [t]\nfeatures: {x: numeric, place: categorical}\nsegments: [place]\nmax_segments: 2\nreferences: {training: {path: t.csv}}\n";
        let model = crate::config::parse_model_str("model.yaml", yaml).unwrap().value;
        let places = [Some("a"), Some("a"), Some("a"), Some("b"), Some("b"), Some("c"), None];
        let numbers = [1.0, 2.0, 3.0, 10.0, 20.0, 7.0, 8.0];
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("x", Arc::new(Float64Array::from(numbers.to_vec()))),
            ("place", Arc::new(StringArray::from(places.to_vec()))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let reference = Reference::build(&model, "training", &[batch], &BTreeMap::new(), Source::default(), 0).unwrap();
        let described: Vec<(&str, u64, Option<f64>)> = reference
            .segments
            .iter()
            .map(|((_, value), features)| {
                let Profile::Numeric(profile) = &features["x"].profile else { panic!("x is numeric") };
                assert!(!features.contains_key("place"), "the segment column is constant in its segments");
                (value.as_str(), profile.n(), profile.mean())
            })
            .collect();
        let expected =
            [("(missing)", 1, Some(8.0)), ("_other", 1, Some(7.0)), ("a", 3, Some(2.0)), ("b", 2, Some(15.0))];
        assert_eq!(described, expected);
        assert_eq!(Reference::from_json(&reference.to_json()).unwrap(), reference);
    }
}
