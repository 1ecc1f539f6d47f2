//! Rows to a reference.

use std::collections::BTreeMap;

use datafusion::arrow::array::{ArrayRef, RecordBatch};

use super::calibrate;
use super::column::{self, ColumnProblem};
use super::importance;
use super::performance;
use super::segments;
use super::vectors::VectorRows;
use super::{FeatureReference, Reference, Source};
use crate::config::model::{Kind, Model, Signal};

/// Reference data that does not fit the model; a person has to change one of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    #[error("the reference data has no rows")]
    Empty,
    #[error(
        "the reference data has no column `{column}` for `{signal}`{}; it has: {}",
        nearest.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default(),
        available.join(", ")
    )]
    MissingColumn { signal: String, column: String, nearest: Option<String>, available: Vec<String> },
    #[error("column `{column}` for `{signal}` holds {found}, wanted {wanted}")]
    ColumnType { signal: String, column: String, found: String, wanted: &'static str },
    /// `row` counts from 1, over all batches.
    #[error("column `{column}` for `{signal}` holds an infinite value in row {row}; a distribution has none")]
    Infinite { signal: String, column: String, row: u64 },
    #[error(
        "the reference data has no column `{column}`, which the model file names as their `timestamp`; it has: {}",
        available.join(", ")
    )]
    MissingTimestamp { column: String, available: Vec<String> },
    #[error("the `timestamp` of the reference: {reason}")]
    Timestamp { reason: String },
    /// `row` counts from 1, over all batches.
    #[error("column `{column}` for `{signal}` holds {found} numbers in row {row}, wanted {wanted}")]
    VectorLength { signal: String, column: String, row: u64, found: usize, wanted: usize },
    #[error("`columns` names `{signal}`, which is no feature of model `{model}`")]
    UnknownSignal { signal: String, model: String },
}

impl Reference {
    /// Builds the reference `name` of `model` from rows. A signal is read from the column that `columns` names for
    /// it, else from the one with its own name, else from the one that its path in an event ends with. Columns that
    /// no signal asks for are ignored. `created_ms` is the current time, epoch milliseconds.
    pub fn build(
        model: &Model,
        name: &str,
        batches: &[RecordBatch],
        columns: &BTreeMap<String, String>,
        source: Source,
        created_ms: i64,
    ) -> Result<Reference, ReferenceError> {
        let rows: u64 = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        if rows == 0 {
            return Err(ReferenceError::Empty);
        }
        let signals = model.signals();
        let known = |name: &str| {
            let of_performance = model.performance.as_ref().is_some_and(|performance| performance.has_column(name));
            of_performance || signals.iter().any(|signal| signal.name == name)
        };
        if let Some(unknown) = columns.keys().find(|name| !known(name)) {
            return Err(ReferenceError::UnknownSignal { signal: unknown.clone(), model: model.model.clone() });
        }
        let mut features = BTreeMap::new();
        for signal in &model.watched_signals() {
            let column = || column_of(signal, columns, batches);
            let feature = match signal.kind {
                Kind::Numeric => numeric_feature(signal, &column()?, batches)?,
                Kind::Categorical => categorical_feature(signal, &column()?, batches)?,
                Kind::Vector => VectorRows::read(model, signal, columns, batches)?.feature(signal),
            };
            features.insert(signal.name.clone(), feature);
        }
        let timestamp = model.references.get(name).and_then(|source| source.timestamp.as_deref());
        calibrate::calibrate(model, &mut features, columns, timestamp, batches)?;
        let segments = segments::build(model, &features, columns, batches)?;
        let mut reference = Reference {
            id: String::new(),
            model: model.model.clone(),
            name: name.to_string(),
            created_ms,
            rows,
            source,
            importance: importance::learn(model, &features, columns, batches)?,
            performance: performance::build::build(model, columns, batches)?,
            features,
            segments,
        };
        reference.id = reference.content_id();
        Ok(reference)
    }
}

pub fn column_of(
    signal: &Signal,
    columns: &BTreeMap<String, String>,
    batches: &[RecordBatch],
) -> Result<String, ReferenceError> {
    // The schema of the first batch is that of all: readers see to it.
    let available: Vec<String> = batches
        .first()
        .map(|batch| batch.schema().fields().iter().map(|field| field.name().clone()).collect())
        .unwrap_or_default();
    let has = |name: &str| available.iter().any(|column| column == name);
    let named = columns.get(&signal.name);
    if let Some(column) = named.filter(|column| has(column)) {
        return Ok(column.clone());
    }
    if named.is_none() {
        if has(&signal.name) {
            return Ok(signal.name.clone());
        }
        let last = last_segment(&signal.path);
        if has(&last) {
            return Ok(last);
        }
    }
    let column = named.unwrap_or(&signal.name).clone();
    let nearest = nearest(&column, &available);
    Err(ReferenceError::MissingColumn { signal: signal.name.clone(), column, nearest, available })
}

/// What follows the last dot without a backslash before it, unescaped.
pub(super) fn last_segment(path: &str) -> String {
    let cut = path
        .char_indices()
        .rev()
        .find(|(at, character)| *character == '.' && !path[..*at].ends_with('\\'))
        .map_or(0, |(at, _)| at + 1);
    path[cut..].replace("\\.", ".")
}

/// The name with the fewest changed letters, if it is near enough to be a slip.
fn nearest(name: &str, candidates: &[String]) -> Option<String> {
    candidates
        .iter()
        .map(|candidate| (edit_distance(&name.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= name.chars().count().div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate.clone())
}

/// Levenshtein distance; the crate for it is no direct dependency, and this is all of it.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut previous: Vec<usize> = (0..=right.len()).collect();
    for (row, a) in left.chars().enumerate() {
        let mut current = vec![row + 1];
        for (at, b) in right.iter().enumerate() {
            let replaced = previous[at] + usize::from(a != *b);
            current.push(replaced.min(previous[at + 1] + 1).min(current[at] + 1));
        }
        previous = current;
    }
    previous.last().copied().unwrap_or(0)
}

/// Reads a column batch by batch; the error names the row over all batches.
pub(super) fn read_column<T>(
    signal: &Signal,
    column: &str,
    batches: &[RecordBatch],
    read: impl Fn(&ArrayRef) -> Result<Vec<T>, ColumnProblem>,
) -> Result<Vec<T>, ReferenceError> {
    let mut values = Vec::new();
    for batch in batches {
        let Some(array) = batch.column_by_name(column) else {
            let available = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
            let (signal, column) = (signal.name.clone(), column.to_string());
            return Err(ReferenceError::MissingColumn { signal, column, nearest: None, available });
        };
        let before = values.len();
        values.extend(read(array).map_err(|problem| {
            let (signal, column) = (signal.name.clone(), column.to_string());
            match problem {
                ColumnProblem::Type { found, wanted } => ReferenceError::ColumnType { signal, column, found, wanted },
                ColumnProblem::Infinite { row } => {
                    ReferenceError::Infinite { signal, column, row: (before + row) as u64 + 1 }
                }
                ColumnProblem::Length { row, found, wanted } => {
                    let row = (before + row) as u64 + 1;
                    ReferenceError::VectorLength { signal, column, row, found, wanted }
                }
            }
        })?);
    }
    Ok(values)
}

fn numeric_feature(signal: &Signal, column: &str, batches: &[RecordBatch]) -> Result<FeatureReference, ReferenceError> {
    let values = read_column(signal, column, batches, column::numbers)?;
    Ok(FeatureReference::of_numbers(&signal.name, &values, signal.range))
}

fn categorical_feature(
    signal: &Signal,
    column: &str,
    batches: &[RecordBatch],
) -> Result<FeatureReference, ReferenceError> {
    let values = read_column(signal, column, batches, column::categories)?;
    Ok(FeatureReference::of_categories(&signal.name, &values))
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::stats::layout::Layout;

    use datafusion::arrow::array::{BooleanArray, Float64Array, Int32Array, StringArray};

    pub fn model() -> Model {
        serde_json::from_value(serde_json::json!({
            "version": 1, "model": "fraud", "topics": ["t"],
            "features": {"amount": "numeric", "country": "categorical", "vip": "categorical"},
            "score": {"path": "output.probability", "type": "numeric"}
        }))
        .unwrap()
    }

    pub fn batch(amounts: Vec<Option<f64>>) -> RecordBatch {
        let rows = amounts.len();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("amount", Arc::new(Float64Array::from(amounts))),
            ("country", Arc::new(StringArray::from_iter((0..rows).map(|i| Some(["de", "fr"][i % 2]))))),
            ("vip", Arc::new(BooleanArray::from_iter((0..rows).map(|i| Some(i % 3 == 0))))),
            ("probability", Arc::new(Int32Array::from_iter((0..rows).map(|i| Some(i as i32))))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    pub fn build(batches: &[RecordBatch]) -> Result<Reference, ReferenceError> {
        let source = Source { file: "train.parquet".into(), sha256: "00".into(), ..Source::default() };
        Reference::build(&model(), "training", batches, &BTreeMap::new(), source, 1_000)
    }

    #[test]
    fn every_signal_has_a_layout_and_a_profile() {
        let reference = build(&[batch(vec![Some(1.0), None, Some(f64::NAN)]), batch(vec![Some(4.0)])]).unwrap();
        assert_eq!(reference.rows, 4);
        let amount = &reference.features["amount"].profile;
        assert_eq!((amount.n(), amount.missing()), (2, 2));
        let Layout::Categorical(vip) = &reference.features["vip"].layout else { panic!("vip is categorical") };
        assert_eq!(vip.categories(), ["False", "True"]);
        assert_eq!(reference.features["prediction.score"].profile.n(), 4);
        assert_eq!(reference.warnings().len(), 4, "{:?}", reference.warnings());
    }

    #[test]
    fn batches_do_not_change_the_content() {
        let whole = build(&[batch(vec![Some(1.0), Some(2.5), None, Some(3.0)])]).unwrap();
        let rows = batch(vec![Some(1.0), Some(2.5), None, Some(3.0)]);
        let cut = build(&[rows.slice(0, 1), rows.slice(1, 3)]).unwrap();
        assert_eq!(whole.id, cut.id);
        let other = build(&[batch(vec![Some(1.0), Some(2.5), None, Some(3.1)])]).unwrap();
        assert_ne!(whole.id, other.id);
    }

    #[test]
    fn a_missing_column_is_named_with_the_nearest_one() {
        let mut columns = BTreeMap::new();
        columns.insert("amount".to_string(), "Amout".to_string());
        let rows = [batch(vec![Some(1.0)])];
        let error = Reference::build(&model(), "training", &rows, &columns, Source::default(), 0).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the reference data has no column `Amout` for `amount`; did you mean `amount`?; \
             it has: amount, country, vip, probability"
        );
    }

    #[test]
    fn infinite_values_and_wrong_types_are_refused_by_name() {
        let error = build(&[batch(vec![Some(1.0)]), batch(vec![Some(2.0), Some(f64::INFINITY)])]).unwrap_err();
        let expected = ReferenceError::Infinite { signal: "amount".into(), column: "amount".into(), row: 3 };
        assert_eq!(error, expected);
        let mut columns = BTreeMap::new();
        columns.insert("amount".to_string(), "country".to_string());
        let rows = [batch(vec![Some(1.0)])];
        let error = Reference::build(&model(), "training", &rows, &columns, Source::default(), 0).unwrap_err();
        assert!(matches!(error, ReferenceError::ColumnType { .. }), "{error}");
        assert_eq!(build(&[batch(vec![])]).unwrap_err(), ReferenceError::Empty);
    }

    #[test]
    fn the_last_segment_of_a_path_keeps_escaped_dots() {
        assert_eq!(last_segment("output.probability"), "probability");
        assert_eq!(last_segment(r"features.card\.type"), "card.type");
        assert_eq!(last_segment("score"), "score");
    }
}
