//! From rows and versions to measurements.

use std::collections::BTreeMap;

use datafusion::arrow::array::RecordBatch;

use super::feed::Feed;
use super::measurements::{Compared, Data, FeatureData, Features, Measurements, Side, Slice};
use super::paired::{self, Row};
use super::rows::{Rows, features_only};
use super::scoring::{Scored, ScoringError, score};
use super::version::Version;
use crate::config::model::Model;
use crate::reference::performance::{JudgedRows, judged_rows, why_not};
use crate::reference::window::profiles;
use crate::reference::{Reference, ReferenceError, Source};
use crate::stats::evaluate::evaluate_selected;
use crate::stats::metric::FeatureStats;
use crate::stats::selection::Selection;

/// What is judged, and by what.
pub struct Question<'a> {
    pub model: &'a Model,
    pub candidate: &'a Version,
    pub against: Option<&'a Version>,
    /// How `against` was asked for: `production`, `none`, a version.
    pub against_asked: &'a str,
    pub batch: RecordBatch,
    /// Of the model file's reference: feature or outcome to column.
    pub columns: BTreeMap<String, String>,
    /// Rows from when all was well.
    pub reference: Option<&'a [RecordBatch]>,
}

/// Rows that cannot be judged by at all: a person has to change them, the model file, or the version.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    #[error("{0}")]
    Rows(#[from] ReferenceError),
    #[error("the reference: {0}")]
    Reference(ReferenceError),
    #[error("version {version}: {reason}")]
    Version { version: String, reason: String },
    /// Nothing says what is right.
    #[error("{0}")]
    NoLabels(String),
}

/// Measures everything. What does not fit the model file is told in the measurements, so that it is refused with the rest.
///
/// # Errors
/// Production does not fit, the reference cannot be read, or there are no labels to judge by.
pub fn measure(question: &Question) -> Result<Measurements, MeasureError> {
    let model = question.model;
    let mut measured = Measurements {
        model: model.model.clone(),
        candidate: side(question.candidate),
        against: question.against.map(side),
        against_asked: question.against_asked.into(),
        data: Data { rows: question.batch.num_rows() as u64, ..Data::default() },
        features: Features {
            transform: transform_of(question.candidate),
            against_transform: question.against.and_then(transform_of),
            ..Features::default()
        },
        metrics: BTreeMap::new(),
        slices: Vec::new(),
    };
    let rows = match Rows::read(model, question.batch.clone(), question.columns.clone()) {
        Ok(rows) => rows,
        Err(error) => {
            measured.data.schema_error = Some(error.to_string());
            return Ok(measured);
        }
    };
    if let Some(reference) = question.reference {
        let (reference_rows, features) = features_data(model, &rows, reference)?;
        measured.data.reference_rows = Some(reference_rows);
        measured.data.features = features;
    }
    let scored = match score_version(model, question.candidate, &rows) {
        Ok((names, scored)) => {
            measured.features.candidate = names;
            measured.features.parity_rows = scored.parity.rows;
            measured.features.feature_differences = scored.parity.features;
            measured.features.score_differences = scored.parity.scores;
            measured.candidate.latency = Some(scored.latency);
            scored
        }
        Err(mismatches) => {
            measured.features.mismatches = mismatches;
            return Ok(measured);
        }
    };
    let candidate = judged(model, &rows, question.candidate, &scored)?;
    let against = match question.against {
        None => None,
        Some(version) => {
            let failed = |reasons: Vec<String>| MeasureError::Version {
                version: version.name.clone(),
                reason: reasons.join("; "),
            };
            let (_, scored) = score_version(model, version, &rows).map_err(failed)?;
            if let Some(side) = &mut measured.against {
                side.latency = Some(scored.latency);
            }
            Some(judged(model, &rows, version, &scored)?)
        }
    };
    measured.data.labelled = candidate.labels.iter().flatten().count() as u64;
    measured.data.incomplete = incomplete(&candidate);
    let all: Vec<usize> = (0..rows.len()).collect();
    measured.metrics = compare(&candidate, against.as_ref(), &all);
    for segment in &candidate.segments {
        let labelled =
            segment.rows.iter().filter(|row| candidate.labels.get(**row).is_some_and(Option::is_some)).count();
        measured.slices.push(Slice {
            name: format!("{}={}", segment.column, segment.value),
            labelled: labelled as u64,
            metrics: compare(&candidate, against.as_ref(), &segment.rows),
        });
    }
    Ok(measured)
}

fn side(version: &Version) -> Side {
    Side { version: version.name.clone(), bytes: version.bytes, latency: None }
}

fn transform_of(version: &Version) -> Option<String> {
    version.transform.as_ref().map(|transform| transform.id().to_string())
}

/// Features that the version takes, and what it says of the rows.
fn score_version(model: &Model, version: &Version, rows: &Rows) -> Result<(Vec<String>, Scored), Vec<String>> {
    let feed = Feed::of(version, model, rows)?;
    let scored = score(version, &feed, rows).map_err(|ScoringError(reason)| vec![reason])?;
    Ok((feed.features().to_vec(), scored))
}

fn judged(model: &Model, rows: &Rows, version: &Version, scored: &Scored) -> Result<JudgedRows, MeasureError> {
    let failed = |reason| MeasureError::Version { version: version.name.clone(), reason };
    let (batch, columns) = rows.with_scores(model, &scored.scores).map_err(failed)?;
    let batches = [batch];
    let why = || {
        let without = "the model file has no `performance`: nothing says what a good score is".to_string();
        MeasureError::NoLabels(why_not(model, &columns, &batches).unwrap_or(without))
    };
    judged_rows(model, &columns, &batches)?.ok_or_else(why)
}

/// Labelled rows that are in no metric.
fn incomplete(judged: &JudgedRows) -> u64 {
    let rows = judged.predictions.iter().zip(&judged.labels);
    let labelled = rows.filter_map(|(prediction, label)| Some((prediction, label.as_ref()?)));
    labelled.filter(|(prediction, label)| !judged.layout.counts(prediction, label)).count() as u64
}

fn compare(candidate: &JudgedRows, against: Option<&JudgedRows>, rows: &[usize]) -> BTreeMap<String, Compared> {
    let of = |judged: &'_ JudgedRows| -> Vec<usize> {
        rows.iter().copied().filter(|row| *row < judged.predictions.len()).collect()
    };
    let chosen = of(candidate);
    let ours: Vec<Row> =
        chosen.iter().map(|row| (&candidate.predictions[*row], candidate.labels[*row].as_ref())).collect();
    let theirs = against.map(|judged| -> Vec<Row> {
        chosen.iter().map(|row| (&judged.predictions[*row], judged.labels[*row].as_ref())).collect()
    });
    paired::compare(&candidate.layout, &ours, theirs.as_deref())
}

/// Every feature against the reference: number of its rows, and what changed.
fn features_data(
    model: &Model,
    rows: &Rows,
    reference: &[RecordBatch],
) -> Result<(u64, Vec<FeatureData>), MeasureError> {
    let bare = features_only(model);
    let built =
        Reference::build(&bare, "training", reference, &feature_columns(&bare, &rows.named), Source::default(), 0)
            .map_err(MeasureError::Reference)?;
    let windows = profiles(&bare, &built, &rows.named, std::slice::from_ref(&rows.batch))?;
    let selection = Selection::default().with(["out_of_range_rate"]);
    let mut found = Vec::new();
    for (name, feature) in &built.features {
        let Some(window) = windows.get(name) else { continue };
        let stats = evaluate_selected(feature, window, &selection);
        let of_reference = feature.profile.missing() as f64 / feature.profile.rows().max(1) as f64;
        found.push(feature_data(name, &stats, window.rows(), of_reference));
    }
    Ok((built.rows, found))
}

fn feature_data(name: &str, stats: &FeatureStats, rows: u64, reference_missing: f64) -> FeatureData {
    let value = |metric: &str| stats.metrics.get(metric).and_then(|metric| metric.value);
    // Vectors and joint signals have a test of their own in place of the index.
    let p_value =
        ["psi", "drift"].iter().find_map(|metric| stats.metrics.get(*metric).and_then(|metric| metric.p_value));
    FeatureData {
        name: name.to_string(),
        values: stats.n,
        psi: value("psi"),
        p_value,
        missing: stats.missing as f64 / rows.max(1) as f64,
        reference_missing,
        out_of_range: value("out_of_range_rate"),
        unseen: value("unseen_rate"),
    }
}

/// Those of features alone: `Reference::build` refuses what is none of its signals.
fn feature_columns(model: &Model, columns: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    columns
        .iter()
        .filter(|(name, _)| model.features.contains_key(*name))
        .map(|(name, column)| (name.clone(), column.clone()))
        .collect()
}
