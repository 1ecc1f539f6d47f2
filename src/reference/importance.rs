//! How much the model's output depends on each feature, learned from the reference's rows.
//!
//! It is the uncertainty coefficient (Theil 1970): the mutual information of the feature's bins and the output's bins,
//! over the entropy of the output's bins. 0: knowing the feature tells nothing about the output; 1: it tells all.
//! Bins are the deciles of numbers (values of few distinct ones) or the categories, and a bin for missing values. What
//! chance adds to the information of finitely many rows is taken off (Miller 1955): (r - 1)(c - 1) / 2n for r and c
//! bins in use among n rows.
//!
//! It is an association, one feature at a time: it does not see what two features tell only together, and a feature
//! that merely goes along with another counts as much as that one. Where the importance in the model itself is known,
//! give it in the model file; that is what alerts then use.

use std::collections::BTreeMap;

use datafusion::arrow::array::RecordBatch;

use super::Reference;
use super::build::{ReferenceError, column_of, read_column};
use super::column;
use crate::config::model::{Kind, Model, PREDICTION_SIGNAL, SCORE_SIGNAL, Signal};
use crate::stats::edges::quantile_edges;
use crate::stats::layout::Layout;
use crate::stats::profile::FeatureReference;

/// Bins of a number: fewer would miss what lies at the ends, more would be filled by chance.
const BINS: usize = 10;
/// Categories with a bin of their own, the largest; a feature with more tells of single rows.
const MOST_CATEGORIES: usize = 50;

impl Reference {
    /// The importance of a feature: the model file's, which then holds for all features; else what was learned.
    pub fn importance_of(&self, model: &Model, feature: &str) -> Option<f64> {
        let known = if model.importance.is_empty() { &self.importance } else { &model.importance };
        known.get(feature).copied()
    }
}

/// By feature; empty where the model has neither score nor prediction, or the output is constant.
pub(super) fn learn(
    model: &Model,
    features: &BTreeMap<String, FeatureReference>,
    columns: &BTreeMap<String, String>,
    batches: &[RecordBatch],
) -> Result<BTreeMap<String, f64>, ReferenceError> {
    let signals = model.signals();
    let output = [SCORE_SIGNAL, PREDICTION_SIGNAL]
        .into_iter()
        .find_map(|name| signals.iter().find(|signal| signal.name == name));
    let bins_of = |signal: &Signal| match features.get(&signal.name) {
        Some(feature) => bins(signal, feature, columns, batches).map(Some),
        None => Ok(None),
    };
    let mut importance = BTreeMap::new();
    let Some(of_output) = output.map(bins_of).transpose()?.flatten() else { return Ok(importance) };
    // A vector has no bins of its own to be told apart by.
    let is_input = |signal: &&Signal| signal.kind != Kind::Vector && model.features.contains_key(&signal.name);
    for signal in signals.iter().filter(is_input) {
        if let Some(of_feature) = bins_of(signal)?
            && let Some(coefficient) = uncertainty_coefficient(&of_feature, &of_output)
        {
            importance.insert(signal.name.clone(), coefficient);
        }
    }
    Ok(importance)
}

/// The bin of every row.
fn bins(
    signal: &Signal,
    feature: &FeatureReference,
    columns: &BTreeMap<String, String>,
    batches: &[RecordBatch],
) -> Result<Vec<u32>, ReferenceError> {
    let column = column_of(signal, columns, batches)?;
    Ok(match (signal.kind, &feature.layout) {
        (Kind::Numeric, Layout::Numeric(layout)) => {
            let edges = quantile_edges(layout.percentiles(), BINS);
            let missing = edges.len() as u32 + 1;
            let bin = |value: f64| edges.partition_point(|edge| *edge <= value) as u32;
            let values = read_column(signal, &column, batches, column::numbers)?;
            values.into_iter().map(|value| value.filter(|value| !value.is_nan()).map_or(missing, bin)).collect()
        }
        _ => {
            let values = read_column(signal, &column, batches, column::categories)?;
            let mut sizes: BTreeMap<&str, u64> = BTreeMap::new();
            for value in values.iter().flatten() {
                *sizes.entry(value).or_default() += 1;
            }
            let mut by_size: Vec<(u64, &str)> = sizes.into_iter().map(|(value, size)| (size, value)).collect();
            by_size.sort_by(|left, right| right.0.cmp(&left.0).then_with(|| left.1.cmp(right.1)));
            by_size.truncate(MOST_CATEGORIES);
            let places: BTreeMap<&str, u32> = (0..).zip(&by_size).map(|(place, (_, value))| (*value, place)).collect();
            let (other, missing) = (by_size.len() as u32, by_size.len() as u32 + 1);
            let bin = |value: &String| places.get(value.as_str()).copied().unwrap_or(other);
            values.iter().map(|value| value.as_ref().map_or(missing, bin)).collect()
        }
    })
}

/// `None` where the output has one bin: nothing is there to be told.
fn uncertainty_coefficient(feature: &[u32], output: &[u32]) -> Option<f64> {
    let n = feature.len().min(output.len()) as f64;
    let mut joint: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    let (mut of_feature, mut of_output) = (BTreeMap::new(), BTreeMap::new());
    for (feature, output) in feature.iter().zip(output) {
        *joint.entry((*feature, *output)).or_default() += 1;
        *of_feature.entry(*feature).or_insert(0u64) += 1;
        *of_output.entry(*output).or_insert(0u64) += 1;
    }
    if of_output.len() < 2 {
        return None;
    }
    let entropy: f64 = of_output.values().map(|count| *count as f64 / n).map(|share| -share * share.ln()).sum();
    let information: f64 = joint
        .iter()
        .filter_map(|((feature, output), count)| {
            let (count, rows, columns) =
                (*count as f64, *of_feature.get(feature)? as f64, *of_output.get(output)? as f64);
            Some(count / n * (count * n / (rows * columns)).ln())
        })
        .sum();
    let by_chance = (of_feature.len() - 1) as f64 * (of_output.len() - 1) as f64 / (2.0 * n);
    Some(((information - by_chance) / entropy).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Float64Array, ListArray, StringArray};
    use datafusion::arrow::datatypes::Float64Type;

    use super::*;
    use crate::reference::Source;

    fn reference(model: &str) -> Reference {
        let model = crate::config::parse_model_str("model.yaml", model).unwrap().value;
        let rows = 4_000;
        // A cheap scramble: no two of these have anything to do with each other.
        let noise = |seed: u64, row: u64| {
            (row.wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(seed as u32 * 7 + 1)
                .wrapping_mul(0xbf58_476d_1ce4_e5b9)
                >> 11) as f64
                / 2f64.powi(53)
        };
        let column = |value: &dyn Fn(u64) -> Option<f64>| -> ArrayRef {
            Arc::new((0..rows).map(value).collect::<Float64Array>())
        };
        let x = |row| noise(1, row);
        let city = |row: u64| ["a", "b", "c", "d"][(x(row) * 4.0) as usize];
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("all", column(&|row| Some(x(row)))),
            ("some", column(&|row| Some(x(row) + noise(2, row)))),
            ("none", column(&|row| (noise(3, row) > 0.1).then(|| noise(4, row)))),
            ("city", Arc::new((0..rows).map(|row| Some(city(row))).collect::<StringArray>())),
            ("score", column(&|row| Some(x(row) * 2.0 + 1.0))),
            ("embedding", {
                let lists = (0..rows).map(|row| Some([Some(x(row)), Some(noise(5, row))]));
                Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(lists))
            }),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        Reference::build(&model, "training", &[batch], &BTreeMap::new(), Source::default(), 0).unwrap()
    }

    const MODEL: &str = "version: 1\nmodel: m\ntopics: [t]\nreferences: {training: {path: t.csv}}\n\
                         features: {all: numeric, some: numeric, none: numeric, city: categorical}\n";

    #[test]
    fn what_tells_of_the_output_is_important_and_noise_is_not() {
        let learned = reference(&format!("{MODEL}score: {{path: score, type: numeric}}\n")).importance;
        let told = |name: &str| learned[name];
        assert!((told("all") - 1.0).abs() < 0.03, "{learned:?}");
        assert!((0.1..0.6).contains(&told("some")), "{learned:?}");
        assert!(told("none") < 0.01, "{learned:?}");
        // Of ten equal parts, four equal ones tell ln 4 less what the parts that are cut in two leave open.
        assert!((0.5..0.65).contains(&told("city")), "{learned:?}");
        assert_eq!(learned.len(), 4, "the output is not told by itself: {learned:?}");
    }

    #[test]
    fn a_vector_beside_a_score_has_a_reference_and_no_importance() {
        let with_vector = MODEL.replace("all: numeric", "all: numeric, embedding: {type: vector, dimension: 2}");
        let reference = reference(&format!("{with_vector}score: {{path: score, type: numeric}}\n"));
        assert!(reference.features.contains_key("embedding"));
        let learned: Vec<&String> = reference.importance.keys().collect();
        assert_eq!(learned, ["all", "city", "none", "some"]);
    }

    #[test]
    fn without_an_output_nothing_is_learned_and_the_file_is_as_before() {
        let reference = reference(MODEL);
        assert!(reference.importance.is_empty());
        assert!(!String::from_utf8(reference.to_json()).unwrap().contains("importance"));
    }

    #[test]
    fn importance_is_part_of_the_stored_reference() {
        let built = reference(&format!("{MODEL}score: {{path: score, type: numeric}}\n"));
        assert_eq!(Reference::from_json(&built.to_json()).unwrap(), built);
    }
}
