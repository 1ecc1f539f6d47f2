//! From a reference's rows to its performance.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;

use super::{Expectation, JudgedBy, PerformanceReference, signals};
use crate::config::model::{Kind, LABEL_COLUMN, Model, PREDICTION_SIGNAL, SCORE_SIGNAL, Signal, class_score_column};
use crate::config::performance::{Performance, Task};
use crate::reference::build::{ReferenceError, column_of, last_segment, read_column};
use crate::reference::column;
use crate::reference::segments;
use crate::stats::performance::confidence_based::multiclass::chances;
use crate::stats::performance::isotonic::Isotonic;
use crate::stats::performance::profile::{Label, PerformanceLayout, PerformanceProfile, Prediction};

/// Why a model with `performance` gets none from these rows, as a sentence; `None`: it gets one, or asks for none.
pub fn why_not(model: &Model, columns: &BTreeMap<String, String>, batches: &[RecordBatch]) -> Option<String> {
    let performance = model.performance.as_ref()?;
    let of_label = "name the column with `label_column` under `performance`, or map `performance.label`";
    for signal in judging_signals(performance) {
        if column_of(&signal, columns, batches).is_ok() {
            continue;
        }
        let column = columns.get(&signal.name).cloned().unwrap_or_else(|| last_segment(&signal.path));
        let (what, how) = match signal.name.as_str() {
            LABEL_COLUMN => ("the label".to_string(), of_label.to_string()),
            name => (format!("`{name}`"), format!("map `{name}`")),
        };
        return Some(format!(
            "the reference data has no column `{column}` for {what}: its performance, and estimates while labels are not \
             there, will not be available; {how} under the reference's `columns`"
        ));
    }
    None
}

/// The label and the scores of the classes, as they stand in the reference's columns.
fn judging_signals(performance: &Performance) -> Vec<Signal> {
    let in_event = performance.label.as_ref().map(|label| label.path.clone());
    let on_topic = performance.labels.as_ref().map(|labels| labels.fields.label.clone());
    let named = performance.label_column.as_ref().map(|column| column.replace('.', "\\."));
    let path = named.or(in_event).or(on_topic).unwrap_or_else(|| "label".into());
    let mut signals = vec![signal(LABEL_COLUMN.to_string(), path)];
    for (class, path) in &performance.class_scores {
        signals.push(signal(class_score_column(class), path.clone()));
    }
    signals
}

fn signal(name: String, path: String) -> Signal {
    Signal {
        name,
        kind: Kind::Numeric,
        path,
        required: false,
        keeps_invalid: false,
        range: None,
        dimension: 0,
        members: Vec::new(),
    }
}

/// `None` where the model has no `performance`, or a column of it is missing ([`why_not`]).
pub(in crate::reference) fn build(
    model: &Model,
    columns: &BTreeMap<String, String>,
    batches: &[RecordBatch],
) -> Result<Option<PerformanceReference>, ReferenceError> {
    let (Some(performance), Some(judged_by)) = (&model.performance, JudgedBy::of(model)) else { return Ok(None) };
    if why_not(model, columns, batches).is_some() {
        return Ok(None);
    }
    let reader = Reader { model, columns, batches, judging: judging_signals(performance) };
    let classes = reader.classes(performance.task)?;
    let Some(layout) = PerformanceLayout::of(model, &classes) else { return Ok(None) };
    let labels = reader.labels(&layout)?;
    let mut predictions = reader.predictions(&layout, labels.len())?;
    let expectation = expectation(&reader, &layout, &mut predictions, &labels)?;
    let mut profile = PerformanceProfile::new(&layout);
    for (prediction, label) in predictions.iter().zip(&labels) {
        if let Some(label) = label {
            profile.add_labelled(&layout, prediction, label);
        }
    }
    let mut of_segments = BTreeMap::new();
    for split in segments::splits(model, columns, batches)? {
        let mut profiles = vec![PerformanceProfile::new(&layout); split.values.len()];
        for ((place, prediction), label) in split.places.iter().zip(&predictions).zip(&labels) {
            if let (Some(label), Some(profile)) = (label, profiles.get_mut(*place)) {
                profile.add_labelled(&layout, prediction, label);
            }
        }
        for (value, profile) in split.values.iter().zip(profiles) {
            of_segments.insert((split.name.clone(), value.clone()), profile);
        }
    }
    Ok(Some(PerformanceReference { judged_by, classes, profile, segments: of_segments, expectation }))
}

/// Rows with what was predicted and what came true, row by row.
#[derive(Debug, Clone)]
pub struct JudgedRows {
    pub layout: Arc<PerformanceLayout>,
    pub predictions: Vec<Prediction>,
    /// `None`: not known.
    pub labels: Vec<Option<Label>>,
    pub segments: Vec<JudgedSegment>,
}

/// The rows of one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JudgedSegment {
    /// Column and value, as in results.
    pub column: String,
    pub value: String,
    /// Their numbers, from 0.
    pub rows: Vec<usize>,
}

/// The rows of a file as a reference would judge them; `None` where the model has no `performance`, or a column of it is
/// missing ([`why_not`]).
///
/// # Errors
/// A column that is needed is missing, or holds another type.
pub fn judged_rows(
    model: &Model,
    columns: &BTreeMap<String, String>,
    batches: &[RecordBatch],
) -> Result<Option<JudgedRows>, ReferenceError> {
    let Some(performance) = &model.performance else { return Ok(None) };
    if why_not(model, columns, batches).is_some() {
        return Ok(None);
    }
    let reader = Reader { model, columns, batches, judging: judging_signals(performance) };
    let classes = reader.classes(performance.task)?;
    let Some(layout) = PerformanceLayout::of(model, &classes) else { return Ok(None) };
    let labels = reader.labels(&layout)?;
    let predictions = reader.predictions(&layout, labels.len())?;
    let mut of_segments = Vec::new();
    for split in segments::splits(model, columns, batches)? {
        let mut rows = vec![Vec::new(); split.values.len()];
        for (row, place) in split.places.iter().enumerate() {
            if let Some(rows) = rows.get_mut(*place) {
                rows.push(row);
            }
        }
        for (value, rows) in split.values.iter().zip(rows) {
            of_segments.push(JudgedSegment { column: split.name.clone(), value: value.clone(), rows });
        }
    }
    Ok(Some(JudgedRows { layout, predictions, labels, segments: of_segments }))
}

struct Reader<'a> {
    model: &'a Model,
    columns: &'a BTreeMap<String, String>,
    batches: &'a [RecordBatch],
    /// The label first.
    judging: Vec<Signal>,
}

impl Reader<'_> {
    fn numbers(&self, signal: &Signal) -> Result<Vec<f64>, ReferenceError> {
        let column = column_of(signal, self.columns, self.batches)?;
        let values = read_column(signal, &column, self.batches, column::numbers)?;
        Ok(values.into_iter().map(|value| value.unwrap_or(f64::NAN)).collect())
    }

    fn texts(&self, signal: &Signal) -> Result<Vec<Option<String>>, ReferenceError> {
        let column = column_of(signal, self.columns, self.batches)?;
        read_column(signal, &column, self.batches, column::categories)
    }

    /// The different labels of a classifier, as text, sorted.
    fn classes(&self, task: Task) -> Result<Vec<String>, ReferenceError> {
        let different: BTreeSet<String> = match task {
            Task::Binary | Task::Multiclass => self.texts(&self.judging[0])?.into_iter().flatten().collect(),
            Task::Regression | Task::Ranking => BTreeSet::new(),
        };
        Ok(different.into_iter().collect())
    }

    fn labels(&self, layout: &PerformanceLayout) -> Result<Vec<Option<Label>>, ReferenceError> {
        let signal = &self.judging[0];
        Ok(match layout.task() {
            Task::Binary | Task::Multiclass => {
                let class = |text: String| Label::Class(layout.class_of(&text));
                self.texts(signal)?.into_iter().map(|text| text.map(class)).collect()
            }
            Task::Regression => {
                let number = |value: f64| (!value.is_nan()).then_some(Label::Number(value));
                self.numbers(signal)?.into_iter().map(number).collect()
            }
            Task::Ranking => {
                let column = column_of(signal, self.columns, self.batches)?;
                let lists = read_column(signal, &column, self.batches, column::lists)?;
                let relevance = |items: Vec<f64>| Label::Relevance(items.into_iter().map(|item| item as f32).collect());
                lists.into_iter().map(|items| items.map(relevance)).collect()
            }
        })
    }

    fn predictions(&self, layout: &PerformanceLayout, rows: usize) -> Result<Vec<Prediction>, ReferenceError> {
        let mut predictions = vec![Prediction::default(); rows];
        let task = layout.task();
        for signal in self.model.signals() {
            match (signal.name.as_str(), task) {
                (PREDICTION_SIGNAL, Task::Binary | Task::Multiclass) => {
                    for (prediction, text) in predictions.iter_mut().zip(self.texts(&signal)?) {
                        prediction.class = text.map(|text| layout.class_of(&text));
                    }
                }
                (PREDICTION_SIGNAL, Task::Regression) => {
                    for (prediction, value) in predictions.iter_mut().zip(self.numbers(&signal)?) {
                        prediction.value = value;
                    }
                }
                (SCORE_SIGNAL, Task::Binary) if layout.has_score() => {
                    for (prediction, score) in predictions.iter_mut().zip(self.numbers(&signal)?) {
                        prediction.score = score;
                    }
                }
                _ => {}
            }
        }
        if task == Task::Multiclass && layout.has_class_scores() {
            // In the order of the layout's classes, which is theirs.
            for signal in &self.judging[1..] {
                for (prediction, score) in predictions.iter_mut().zip(self.numbers(signal)?) {
                    prediction.class_scores.push(score);
                }
            }
        }
        for carried in layout.carried() {
            let signals = self.model.signals();
            let Some(signal) = signals.iter().find(|signal| signal.name == *carried) else { continue };
            for (prediction, value) in predictions.iter_mut().zip(self.numbers(signal)?) {
                prediction.carried.push(value);
            }
        }
        Ok(predictions)
    }
}

/// Fits what can be expected without labels, and gives the predictions what it says of them.
fn expectation(
    reader: &Reader,
    layout: &PerformanceLayout,
    predictions: &mut [Prediction],
    labels: &[Option<Label>],
) -> Result<Expectation, ReferenceError> {
    Ok(match layout.task() {
        Task::Binary if layout.has_score() => {
            let known = labelled_classes(layout, predictions, labels);
            let rows: (Vec<f64>, Vec<bool>) = known.iter().map(|(row, class)| (row.score, *class == 1)).unzip();
            curve(&rows.0, &rows.1).map_or(Expectation::None, Expectation::Binary)
        }
        Task::Multiclass if layout.has_class_scores() => {
            let known = labelled_classes(layout, predictions, labels);
            let of_class = |class: usize| {
                let rows: (Vec<f64>, Vec<bool>) =
                    known.iter().map(|(row, label)| (row.class_scores[class], *label as usize == class)).unzip();
                curve(&rows.0, &rows.1)
            };
            let curves: Option<Vec<Isotonic>> = (0..layout.classes().len()).map(of_class).collect();
            let Some(curves) = curves else { return Ok(Expectation::None) };
            for prediction in predictions {
                prediction.chances = chances(&curves, &prediction.class_scores).unwrap_or_default();
            }
            Expectation::Multiclass(curves)
        }
        Task::Regression => {
            let error = |(prediction, label): (&Prediction, &Option<Label>)| match label {
                Some(Label::Number(label)) => prediction.value - label,
                _ => f64::NAN,
            };
            let errors: Vec<f64> = predictions.iter().zip(labels).map(error).collect();
            let learned = signals::learn(reader.model, reader.columns, reader.batches, &errors)?;
            learned.map_or(Expectation::None, |losses| Expectation::Regression(Box::new(losses)))
        }
        Task::Binary | Task::Multiclass | Task::Ranking => Expectation::None,
    })
}

/// Complete rows with their class.
fn labelled_classes<'a>(
    layout: &PerformanceLayout,
    predictions: &'a [Prediction],
    labels: &[Option<Label>],
) -> Vec<(&'a Prediction, u32)> {
    let complete = predictions.iter().zip(labels).filter(|(prediction, _)| layout.is_complete(prediction));
    let with_class = complete.filter_map(|(prediction, label)| match label {
        Some(Label::Class(class)) => Some((prediction, *class)),
        _ => None,
    });
    with_class.collect()
}

/// `None` where all rows are of one kind: nothing can be told apart then.
fn curve(scores: &[f64], positive: &[bool]) -> Option<Isotonic> {
    let both = positive.contains(&true) && positive.contains(&false);
    if both { Isotonic::fit(scores, positive) } else { None }
}
