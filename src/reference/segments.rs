//! The reference of each segment: what the features looked like among its own rows. A segment differs from the
//! whole without any drift, so its windows are compared with this, not with the whole.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::arrow::array::RecordBatch;

use crate::config::model::{Kind, Model, Signal};
use crate::stats::layout::Layout;
use crate::stats::profile::{FeatureReference, Profile};

use super::build::{ReferenceError, column_of, read_column};
use super::column;
use super::vectors::VectorRows;

/// Segment value of rows without one.
pub const MISSING_SEGMENT: &str = "(missing)";
/// Segment value of everything beyond `max_segments`, and of values that the reference never saw.
pub const OTHER_SEGMENT: &str = "_other";

/// Segment column and value.
pub type SegmentKey = (String, String);

/// By segment, then by feature; counted into the layouts of the whole.
pub type SegmentReferences = BTreeMap<SegmentKey, BTreeMap<String, FeatureReference>>;

/// Values of a segment column that are kept apart: the largest of the reference, so that every process keeps the same.
fn kept(feature: &FeatureReference, most: usize) -> BTreeSet<String> {
    let (Layout::Categorical(layout), Profile::Categorical(profile)) = (&feature.layout, &feature.profile) else {
        return BTreeSet::new();
    };
    let mut by_size: Vec<(u64, &String)> = profile.counts().iter().copied().zip(layout.categories()).collect();
    by_size.sort_by(|left, right| right.0.cmp(&left.0).then_with(|| left.1.cmp(right.1)));
    by_size.into_iter().take(most).map(|(_, category)| category.clone()).collect()
}

/// Counts every feature but the segment column itself, segment by segment.
pub(super) fn build(
    model: &Model,
    features: &BTreeMap<String, FeatureReference>,
    columns: &BTreeMap<String, String>,
    batches: &[RecordBatch],
) -> Result<SegmentReferences, ReferenceError> {
    let (signals, watched) = (model.signals(), model.watched_signals());
    let mut segments = SegmentReferences::new();
    for segment in signals.iter().filter(|signal| model.segments.contains(&signal.name)) {
        let Some(feature) = features.get(&segment.name) else { continue };
        let kept = kept(feature, model.max_segments as usize);
        let values = read_column(segment, &column_of(segment, columns, batches)?, batches, column::categories)?;
        let value_of = |value: &Option<String>| match value {
            None => MISSING_SEGMENT.to_string(),
            Some(value) if kept.contains(value) => value.clone(),
            Some(_) => OTHER_SEGMENT.to_string(),
        };
        let keys: Vec<SegmentKey> = values.iter().map(|value| (segment.name.clone(), value_of(value))).collect();
        for key in kept.iter().map(|value| (segment.name.clone(), value.clone())).chain(keys.iter().cloned()) {
            segments.entry(key).or_insert_with(|| empty(features, &segment.name));
        }
        for signal in watched.iter().filter(|signal| signal.name != segment.name) {
            let column = || column_of(signal, columns, batches);
            match signal.kind {
                Kind::Vector => count_vectors(&mut segments, &keys, model, signal, columns, batches)?,
                Kind::Numeric => {
                    let values = read_column(signal, &column()?, batches, column::numbers)?;
                    for (key, value) in keys.iter().zip(values) {
                        count(&mut segments, key, &signal.name, |profile, layout| match (profile, layout, value) {
                            (Profile::Numeric(profile), Layout::Numeric(layout), Some(value)) => {
                                profile.add(value, layout)
                            }
                            (Profile::Numeric(profile), _, None) => profile.add_nulls(1),
                            _ => {}
                        });
                    }
                }
                Kind::Categorical => {
                    let values = read_column(signal, &column()?, batches, column::categories)?;
                    for (key, value) in keys.iter().zip(&values) {
                        count(&mut segments, key, &signal.name, |profile, layout| match (profile, layout, value) {
                            (Profile::Categorical(profile), Layout::Categorical(layout), Some(value)) => {
                                profile.add(value, layout);
                            }
                            (Profile::Categorical(profile), _, None) => profile.add_nulls(1),
                            _ => {}
                        });
                    }
                }
            }
        }
    }
    Ok(segments)
}

fn count_vectors(
    segments: &mut SegmentReferences,
    keys: &[SegmentKey],
    model: &Model,
    signal: &Signal,
    columns: &BTreeMap<String, String>,
    batches: &[RecordBatch],
) -> Result<(), ReferenceError> {
    let rows = VectorRows::read(model, signal, columns, batches)?;
    // Every segment counts into the layout of the whole.
    let layouts = segments.values().filter_map(|features| features.get(&signal.name));
    let layout = layouts.map(|feature| feature.layout.clone()).next();
    let Some(Layout::Vector(layout)) = layout else { return Ok(()) };
    rows.count(&layout, |row, add| {
        count(segments, &keys[row], &signal.name, |profile, _| {
            if let Profile::Vector(profile) = profile {
                add(profile);
            }
        });
    });
    Ok(())
}

fn empty(features: &BTreeMap<String, FeatureReference>, segment: &str) -> BTreeMap<String, FeatureReference> {
    let others = features.values().filter(|feature| feature.name != segment);
    let empty = |feature: &FeatureReference| FeatureReference {
        name: feature.name.clone(),
        layout: feature.layout.clone(),
        profile: Profile::new(&feature.layout),
        calibration: feature.calibration.clone(),
    };
    others.map(|feature| (feature.name.clone(), empty(feature))).collect()
}

fn count(segments: &mut SegmentReferences, key: &SegmentKey, feature: &str, add: impl FnOnce(&mut Profile, &Layout)) {
    if let Some(feature) = segments.get_mut(key).and_then(|features| features.get_mut(feature)) {
        add(&mut feature.profile, &feature.layout);
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
