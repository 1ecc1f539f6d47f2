//! How well the model did, window by window, and how well it should have done by its scores alone.

use std::collections::{BTreeMap, BTreeSet};

use super::windows::Cut;
use super::{Performance, ReportError, Task};
use crate::reference::table::{ColumnKind, TableError, TableFile};
use crate::stats::performance::binary::{BinaryRows, binary_performance};
use crate::stats::performance::confidence_based::estimate_performance;
use crate::stats::performance::isotonic::Isotonic;
use crate::stats::performance::multiclass::{MulticlassRows, multiclass_performance};
use crate::stats::performance::regression::regression_performance;
use crate::stats::rows::numeric::Metrics;

/// Under this name performance stands among the features of a window.
pub const PERFORMANCE_FEATURE: &str = "_performance";

#[derive(Debug)]
pub struct PerformanceReport {
    pub task: Task,
    /// One per window.
    pub windows: Vec<Metrics>,
    /// Of the reference's own rows; empty where it lacks a column.
    pub reference: Metrics,
}

/// The metrics that stand for the whole in the text format.
pub fn headline(task: Task) -> [&'static str; 3] {
    match task {
        Task::Binary => ["accuracy", "f1", "roc_auc"],
        Task::Regression => ["mae", "rmse", "r2"],
        Task::Multiclass => ["accuracy", "f1_macro", "log_loss"],
    }
}

/// The report and a note on what could not be given.
pub fn compute(
    columns: &Performance,
    reference: &TableFile,
    current: &TableFile,
    cut: &Cut,
) -> Result<(PerformanceReport, Option<String>), ReportError> {
    let on_current = |source| ReportError::Column { side: "current", path: current.path.clone(), source };
    let rows = Outcomes::read(columns, current).map_err(|error| error.on(on_current))?;
    let (reference_rows, note) = match Outcomes::read(columns, reference) {
        Ok(rows) => (Some(rows), None),
        Err(OutcomesError::Table(TableError::NoSuchColumn { name, .. })) => {
            let note = format!("`{name}` is not in the reference: its performance and estimates are not given");
            (None, Some(note))
        }
        Err(error) => {
            let on_reference = |source| ReportError::Column { side: "reference", path: reference.path.clone(), source };
            return Err(error.on(on_reference));
        }
    };
    let all_rows: Vec<u32> = (0..reference.rows as u32).collect();
    let calibration = reference_rows.as_ref().and_then(|rows| rows.calibration(&all_rows));
    let positions: Vec<u32> = (0..current.rows as u32).collect();
    let windows = cut.split(positions);
    let windows = windows.iter().map(|window| {
        let mut metrics = rows.metrics(window);
        metrics.extend(calibration.iter().flat_map(|calibration| rows.estimate(calibration, window)));
        metrics
    });
    let windows = windows.collect();
    let reference = reference_rows.map(|rows| rows.metrics(&all_rows)).unwrap_or_default();
    Ok((PerformanceReport { task: columns.task, windows, reference }, note))
}

enum OutcomesError {
    Table(TableError),
    Usage(String),
}

impl From<TableError> for OutcomesError {
    fn from(error: TableError) -> Self {
        Self::Table(error)
    }
}

impl OutcomesError {
    fn on(self, side: impl FnOnce(TableError) -> ReportError) -> ReportError {
        match self {
            Self::Table(error) => side(error),
            Self::Usage(message) => ReportError::Usage(message),
        }
    }
}

/// Labels and outputs of one file, row by row; what is missing is `None` or NaN.
enum Outcomes {
    Binary { labels: Vec<Option<bool>>, predictions: Option<Vec<Option<bool>>>, scores: Option<Vec<f64>> },
    Regression { labels: Vec<f64>, predictions: Vec<f64> },
    Multiclass(Multiclass),
}

struct Multiclass {
    labels: Vec<Option<String>>,
    predictions: Option<Vec<Option<String>>>,
    scores: BTreeMap<String, Vec<f64>>,
}

impl Outcomes {
    fn read(columns: &Performance, file: &TableFile) -> Result<Self, OutcomesError> {
        let numeric = |name: &str| file.columns(&[name])?.numeric(name);
        let classes = |name: &str| file.columns(&[name])?.categories(name);
        match (columns.task, &columns.prediction) {
            (Task::Regression, Some(prediction)) => {
                Ok(Self::Regression { labels: numeric(&columns.label)?, predictions: numeric(prediction)? })
            }
            (Task::Regression, None) => {
                Err(OutcomesError::Usage("--task regression: name the model's output with --prediction".into()))
            }
            (Task::Binary, prediction) => {
                let is_positive = |name: &str| positives(file, name, &columns.positive);
                Ok(Self::Binary {
                    labels: is_positive(&columns.label)?,
                    predictions: prediction.as_deref().map(is_positive).transpose()?,
                    scores: columns.scores.values().next().map(|name| numeric(name)).transpose()?,
                })
            }
            (Task::Multiclass, prediction) => {
                let mut scores = BTreeMap::new();
                for (class, name) in &columns.scores {
                    scores.insert(class.clone(), numeric(name)?);
                }
                let predictions = prediction.as_deref().map(classes).transpose()?;
                Ok(Self::Multiclass(Multiclass { labels: classes(&columns.label)?, predictions, scores }))
            }
        }
    }

    /// Rows with nothing missing count.
    fn metrics(&self, rows: &[u32]) -> Metrics {
        match self {
            Self::Binary { labels, predictions, scores } => {
                let mut complete = BinaryRows::default();
                for row in rows.iter().map(|row| *row as usize) {
                    let predicted = predictions.as_ref().map(|predictions| predictions[row]);
                    let score = scores.as_ref().map(|scores| scores[row]);
                    let Some(label) = labels[row] else { continue };
                    if predicted == Some(None) || score.is_some_and(f64::is_nan) {
                        continue;
                    }
                    complete.positive.push(label);
                    complete.predicted.extend(predicted.flatten());
                    complete.scores.extend(score);
                }
                binary_performance(&complete)
            }
            Self::Regression { labels, predictions } => {
                let pairs = rows.iter().map(|row| (labels[*row as usize], predictions[*row as usize]));
                let complete = pairs.filter(|(label, prediction)| !label.is_nan() && !prediction.is_nan());
                let (labels, predictions): (Vec<f64>, Vec<f64>) = complete.unzip();
                regression_performance(&labels, &predictions)
            }
            Self::Multiclass(columns) => multiclass_performance(&columns.rows(rows)),
        }
    }

    /// For a binary model with scores: what a score was worth in these rows.
    fn calibration(&self, rows: &[u32]) -> Option<Isotonic> {
        let Self::Binary { labels, predictions: Some(_), scores: Some(scores) } = self else { return None };
        let known = rows.iter().filter_map(|row| {
            let (label, score) = (labels[*row as usize]?, scores[*row as usize]);
            (!score.is_nan()).then_some((score, label))
        });
        let (scores, labels): (Vec<f64>, Vec<bool>) = known.unzip();
        Isotonic::fit(&scores, &labels)
    }

    /// Rows with prediction and score count, whether their label is known or not.
    fn estimate(&self, calibration: &Isotonic, rows: &[u32]) -> Metrics {
        let Self::Binary { predictions: Some(predictions), scores: Some(scores), .. } = self else { return Vec::new() };
        let given = rows.iter().filter_map(|row| {
            let (predicted, score) = (predictions[*row as usize]?, scores[*row as usize]);
            (!score.is_nan()).then_some((score, predicted))
        });
        let (scores, predicted): (Vec<f64>, Vec<bool>) = given.unzip();
        estimate_performance(calibration, &scores, &predicted)
    }
}

impl Multiclass {
    /// Classes are those that have a score, or else those among the labels.
    fn rows(&self, rows: &[u32]) -> MulticlassRows {
        let complete: Vec<usize> = (rows.iter().map(|row| *row as usize))
            .filter(|row| self.labels[*row].is_some())
            .filter(|row| self.predictions.as_ref().is_none_or(|predictions| predictions[*row].is_some()))
            .filter(|row| self.scores.values().all(|scores| !scores[*row].is_nan()))
            .collect();
        let labels = || complete.iter().filter_map(|row| self.labels[*row].as_deref());
        let classes: BTreeSet<&str> = match self.scores.is_empty() {
            true => labels().collect(),
            false => self.scores.keys().map(String::as_str).collect(),
        };
        let positions: BTreeMap<&str, usize> = classes.iter().copied().enumerate().map(|(i, name)| (name, i)).collect();
        let position = |name: &str| positions.get(name).copied().unwrap_or(classes.len());
        let predictions = self.predictions.iter().flat_map(|predictions| {
            complete.iter().filter_map(|row| predictions[*row].as_deref()).map(position).collect::<Vec<_>>()
        });
        MulticlassRows {
            classes: classes.len(),
            labels: labels().map(position).collect(),
            predictions: predictions.collect(),
            scores: self.scores.values().map(|scores| complete.iter().map(|row| scores[*row]).collect()).collect(),
        }
    }
}

/// Whether each row's value is the positive label: as numbers where the column has numbers, else as text.
fn positives(file: &TableFile, name: &str, positive: &str) -> Result<Vec<Option<bool>>, OutcomesError> {
    let table = file.columns(&[name])?;
    if file.kind(name)? == ColumnKind::Numeric {
        let positive: f64 = positive.parse().map_err(|_| {
            OutcomesError::Usage(format!("--positive {positive}: `{name}` holds numbers; name the positive one"))
        })?;
        let is_positive = |value: f64| (!value.is_nan()).then_some(value == positive);
        return Ok(table.numeric(name)?.into_iter().map(is_positive).collect());
    }
    let categories = table.categories(name)?;
    let text = boolean_text(&categories, positive);
    Ok(categories.into_iter().map(|value| value.map(|value| value == text)).collect())
}

/// `1` and `true` mean `True` in a column of truth values.
fn boolean_text<'a>(categories: &[Option<String>], positive: &'a str) -> &'a str {
    let boolean = categories.iter().flatten().all(|value| value == "True" || value == "False");
    match positive {
        "1" | "true" if boolean => "True",
        "0" | "false" if boolean => "False",
        other => other,
    }
}
